//! Wall-clock time in words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of day as `12:03:44 UTC`.
#[must_use]
pub fn time_of_day(at: SystemTime) -> String {
    let seconds = seconds_since_epoch(at) % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The date and time as `2026-01-31T12:03:44Z` (RFC 3339).
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let seconds = seconds_since_epoch(at);
    let (year, month, day) = civil(seconds / 86_400);
    let rest = seconds % 86_400;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn seconds_since_epoch(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in years that start in March, so that the leap day is a year's last, and in eras of 400
/// years, each of 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        let table = [
            (0, "1970-01-01T00:00:00Z", "00:00:00 UTC"),
            (951_782_400, "2000-02-29T00:00:00Z", "00:00:00 UTC"),
            (1_700_000_000, "2023-11-14T22:13:20Z", "22:13:20 UTC"),
            (4_107_542_399, "2100-02-28T23:59:59Z", "23:59:59 UTC"),
            (4_107_542_400, "2100-03-01T00:00:00Z", "00:00:00 UTC"),
        ];
        for (seconds, date, time) in table {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!((rfc3339(at).as_str(), time_of_day(at).as_str()), (date, time));
        }
    }
}
