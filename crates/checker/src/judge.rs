//! Compares what clients were told with what is in the tables.

use std::collections::HashMap;
use std::fmt;

use crate::unit::{Row, Unit};

/// How often each row is there.
pub type Seen = HashMap<Row, u64>;

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrong {
    /// In which way.
    pub how: How,
    /// The unit it was, as an index of the units judged; none for rows that belong to no unit.
    pub unit: Option<usize>,
    /// The rows concerned.
    pub rows: Vec<Row>,
}

/// The ways to break the promise.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum How {
    /// It was acknowledged and is not there.
    Lost,
    /// It is there more than once.
    Repeated,
    /// It was refused or rolled back and is there.
    Appeared,
    /// A part of what happens whole or not at all is there.
    Torn,
    /// A later step is there without an earlier one.
    Disordered,
    /// A row that nobody sent.
    Stranger,
    /// A session's counter is not the number of its counted steps.
    Miscounted,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost: acknowledged, and not there",
            Self::Repeated => "repeated: there more than once",
            Self::Appeared => "wrong verdict: refused or rolled back, and there",
            Self::Torn => "torn: a part of a step is there",
            Self::Disordered => "disordered: a step without the one before it",
            Self::Stranger => "stranger: a row that nobody sent",
            Self::Miscounted => "miscounted: the counter is not the number of counted steps",
        })
    }
}

/// What is wrong with these units, given the rows that are there.
#[must_use]
pub fn judge(units: &[Unit], seen: &Seen) -> Vec<Wrong> {
    let wrong = |(index, unit)| {
        let found = judge_unit(unit, seen).into_iter();
        found.map(move |(how, rows)| Wrong { how, unit: Some(index), rows })
    };
    units.iter().enumerate().flat_map(wrong).collect()
}

/// The rows that belong to none of these units, which are all there were.
#[must_use]
pub fn strangers(units: &[Unit], seen: &Seen) -> Vec<Wrong> {
    let mut rest = seen.clone();
    for row in units.iter().flat_map(|unit| unit.steps.iter().flatten().chain(&unit.never)) {
        rest.remove(row);
    }
    let row = |row| Wrong { how: How::Stranger, unit: None, rows: vec![row] };
    rest.into_keys().map(row).collect()
}

/// The sessions whose counters are wrong, given all units and the counters by session.
#[must_use]
pub fn miscounted(units: &[Unit], seen: &Seen, counters: &HashMap<u64, u64>) -> Vec<Wrong> {
    let mut expected: HashMap<u64, u64> = counters.keys().map(|&session| (session, 0)).collect();
    for unit in units.iter().filter(|unit| unit.counted) {
        let there = unit.steps.iter().filter(|rows| is_there(rows, seen)).count();
        *expected.entry(unit.session).or_default() += u64::try_from(there).unwrap_or(u64::MAX);
    }
    let differs = |(session, count): (u64, u64)| {
        (counters.get(&session) != Some(&count)).then(|| Wrong {
            how: How::Miscounted,
            unit: None,
            rows: vec![session],
        })
    };
    expected.into_iter().filter_map(differs).collect()
}

fn is_there(rows: &[Row], seen: &Seen) -> bool {
    rows.first().is_some_and(|row| seen.contains_key(row))
}

fn judge_unit(unit: &Unit, seen: &Seen) -> Vec<(How, Vec<Row>)> {
    let mut wrong = Vec::new();
    let mut add = |how, rows: Vec<Row>| {
        if !rows.is_empty() {
            wrong.push((how, rows));
        }
    };
    let there = |row: &&Row| seen.contains_key(*row);
    let rows = |steps: &[Vec<Row>]| steps.concat();
    add(How::Repeated, {
        let all = unit.steps.iter().flatten().chain(&unit.never);
        all.filter(|row| seen.get(row).is_some_and(|&times| times > 1)).copied().collect()
    });
    add(How::Appeared, unit.never.iter().filter(there).copied().collect());
    let counts: Vec<usize> =
        unit.steps.iter().map(|step| step.iter().filter(there).count()).collect();
    let torn =
        unit.steps.iter().zip(&counts).filter(|(step, count)| **count > 0 && **count < step.len());
    add(How::Torn, torn.flat_map(|(step, _)| step.clone()).collect());
    let happened = counts.iter().take_while(|&&count| count > 0).count();
    let (done, rest) = unit.steps.split_at(happened);
    add(How::Disordered, rest.iter().flatten().filter(there).copied().collect());
    add(How::Lost, rows(rest.get(..unit.told.least.saturating_sub(happened)).unwrap_or_default()));
    add(How::Appeared, rows(done.get(unit.told.most..).unwrap_or_default()));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Told, Verdict};

    /// Steps as `1 2|3`; the rows that are there as `1 1 2`.
    fn unit(steps: &str, least: usize, most: usize) -> Unit {
        Unit {
            session: 1,
            number: 1,
            form: "test",
            steps: steps.split('|').map(rows).collect(),
            never: Vec::new(),
            counted: true,
            told: Told { least, most },
            verdict: Verdict::Ok,
            lines: Vec::new(),
        }
    }

    fn rows(text: &str) -> Vec<Row> {
        text.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    fn seen(text: &str) -> Seen {
        let mut seen = Seen::new();
        for row in rows(text) {
            *seen.entry(row).or_default() += 1;
        }
        seen
    }

    /// The tests that would catch us: what each table has to be called.
    #[test]
    fn tables_and_what_is_wrong_with_them() {
        use How::{Appeared, Disordered, Lost, Repeated, Torn};
        let table: &[(&str, usize, usize, &str, &[How])] = &[
            // Acknowledged.
            ("1", 1, 1, "1", &[]),
            ("1", 1, 1, "", &[Lost]),
            ("1", 1, 1, "1 1", &[Repeated]),
            ("1 2", 1, 1, "1 2", &[]),
            ("1 2", 1, 1, "1", &[Torn]),
            ("1 2", 1, 1, "2 2 1", &[Repeated]),
            ("1 2", 1, 1, "", &[Lost]),
            // Refused, or rolled back.
            ("1", 0, 0, "", &[]),
            ("1", 0, 0, "1", &[Appeared]),
            ("1 2", 0, 0, "2", &[Torn, Appeared]),
            // Unknown.
            ("1", 0, 1, "", &[]),
            ("1", 0, 1, "1", &[]),
            ("1", 0, 1, "1 1", &[Repeated]),
            ("1 2", 0, 1, "1 2", &[]),
            ("1 2", 0, 1, "2", &[Torn]),
            // Several statements in a packet.
            ("1|2|3", 3, 3, "1 2 3", &[]),
            ("1|2|3", 3, 3, "1 2", &[Lost]),
            ("1|2|3", 1, 3, "1", &[]),
            ("1|2|3", 1, 3, "", &[Lost]),
            ("1|2|3", 0, 3, "1 3", &[Disordered]),
            ("1|2|3", 1, 1, "1 2", &[Appeared]),
            ("1|2|3", 1, 1, "1", &[]),
            ("1|2|3", 0, 3, "2", &[Disordered]),
            ("1|2 3|4", 0, 3, "1 2", &[Torn]),
        ];
        let mut failed = Vec::new();
        for (steps, least, most, there, expected) in table {
            let found = judge(&[unit(steps, *least, *most)], &seen(there));
            let hows: Vec<How> = found.iter().map(|wrong| wrong.how).collect();
            if hows != *expected {
                failed.push(format!("{steps} {least}..={most}, there {there:?}: {hows:?}"));
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    fn what_a_client_took_back_is_never_there() {
        let taken_back = Unit { never: vec![9], ..unit("1", 1, 1) };
        assert_eq!(judge(std::slice::from_ref(&taken_back), &seen("1")), []);
        let wrong = Wrong { how: How::Appeared, unit: Some(0), rows: vec![9] };
        assert_eq!(judge(&[taken_back], &seen("1 9")), [wrong]);
    }

    #[test]
    fn rows_of_nobody() {
        let wrong = strangers(&[unit("1", 0, 1)], &seen("1 7"));
        assert_eq!(wrong, [Wrong { how: How::Stranger, unit: None, rows: vec![7] }]);
        assert_eq!(strangers(&[unit("1|7", 0, 1)], &seen("1 7")), []);
    }

    #[test]
    fn counters_are_the_number_of_steps_there() {
        let units = [unit("1 2", 1, 1), unit("3", 0, 1), unit("4", 0, 0)];
        let counters = |count| HashMap::from([(1, count)]);
        assert_eq!(miscounted(&units, &seen("1 2 3"), &counters(2)), []);
        assert_eq!(miscounted(&units, &seen("1 2"), &counters(1)), []);
        for count in [1, 3] {
            let wrong = miscounted(&units, &seen("1 2 3"), &counters(count));
            assert_eq!(wrong, [Wrong { how: How::Miscounted, unit: None, rows: vec![1] }]);
        }
        // A session without a counter has lost it.
        assert_eq!(miscounted(&units, &seen("1 2"), &HashMap::new()).len(), 1);
    }
}
