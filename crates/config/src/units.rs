//! Durations and sizes, as they are written: `1h30m`, `250ms`, `64MiB`, `16384`.

use std::time::Duration;

/// The units of durations and their milliseconds, largest first.
const TIME: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of sizes and their bytes; a size is written with the first one that divides it.
const SIZE: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Reads numbers with units, each unit at most once and larger ones first; or a bare `0`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = TIME;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (count, after) = number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let (found, smaller) = units.get(at..)?.split_first()?;
        total = total.checked_add(count.checked_mul(found.1)?)?;
        (rest, units) = (after, smaller);
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Writes what [`duration`] reads. Durations of the configuration have no parts below 1 ms.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, millis) in TIME {
        if rest >= *millis {
            text += &format!("{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    text
}

/// Reads a number of bytes with an optional unit.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (count, unit) = number(text)?;
    if unit.is_empty() {
        return Some(count);
    }
    let (_, bytes) = SIZE.iter().find(|(name, _)| *name == unit)?;
    count.checked_mul(*bytes)
}

/// Writes what [`size`] reads.
pub(crate) fn show_size(bytes: u64) -> String {
    match SIZE.iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Splits off the digits a text begins with.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("3s", Some(3_000)),
            ("250ms", Some(250)),
            ("8h", Some(28_800_000)),
            ("2m", Some(120_000)),
            ("1h30m", Some(5_400_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("90m", Some(5_400_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("3", None),
            ("s", None),
            ("3 s", None),
            ("-3s", None),
            ("1.5s", None),
            ("3S", None),
            ("1d", None),
            ("1m1h", None),
            ("1s1s", None),
            ("1h5", None),
            ("٣s", None),
            ("18446744073709551616s", None),
            ("18446744073709551615h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("64MiB", Some(64 << 20)),
            ("1GiB", Some(1 << 30)),
            ("16384", Some(16_384)),
            ("1MB", Some(1_000_000)),
            ("2KB", Some(2_000)),
            ("0", Some(0)),
            ("", None),
            ("MiB", None),
            ("64M", None),
            ("64mib", None),
            ("64 MiB", None),
            ("1.5GiB", None),
            ("-1", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(millis in 0..u64::MAX, bytes: u64) {
            let time = Duration::from_millis(millis);
            proptest::prop_assert_eq!(duration(&show_duration(time)), Some(time));
            proptest::prop_assert_eq!(size(&show_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _read = duration(&text);
            let _: Option<u64> = size(&text);
        }
    }

    #[test]
    fn the_shortest_unit_is_chosen() {
        for (millis, expected) in
            [(0, "0s"), (3_000, "3s"), (250, "250ms"), (5_400_000, "1h30m"), (60_001, "1m1ms")]
        {
            assert_eq!(show_duration(Duration::from_millis(millis)), expected);
        }
        for (bytes, expected) in
            [(0, "0"), (64 << 20, "64MiB"), (1_000_000, "1MB"), (16_384, "16KiB"), (7, "7")]
        {
            assert_eq!(show_size(bytes), expected);
        }
    }
}
