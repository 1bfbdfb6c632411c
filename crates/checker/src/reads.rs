//! Reads, and what a sane answer to each of them is.
//!
//! Each read carries a number of its own, so that an answer to somebody else, or to an earlier
//! statement, is seen at once.

use std::collections::BTreeMap;

use fastrand::Rng;
use mysql_async::{Row as Answer, Value};

use crate::promise::{Meaning, Outcome};
use crate::script::{ROWS_EACH, Statement, Way};
use crate::trial::{Asked, Role};
use crate::unit::{Row, Told, Unit};

/// How many facts there are; a read of all of them is some hundred packets.
pub const FACTS: u64 = 800;
/// How many of a session's latest units its reads are held against.
const REMEMBERED: usize = 30;

/// A text that belongs to a fact.
#[must_use]
pub fn fact(id: u64) -> String {
    format!("{id}-{}", "x".repeat(usize::try_from(id % 70).unwrap_or_default()))
}

/// The statement that fills the table of facts.
#[must_use]
pub fn insert_facts() -> String {
    let rows: Vec<_> = (1..=FACTS).map(|id| format!("({id}, '{}')", fact(id))).collect();
    format!("INSERT INTO facts VALUES {}", rows.join(", "))
}

/// A read that is going to be sent.
#[derive(Clone, Debug)]
pub struct Read {
    /// The statement; its answer's first column is `number`, its second the server's id.
    pub statement: Statement,
    number: u64,
    expected: Expected,
}

/// What the rest of the answer has to be.
#[derive(Clone, Debug)]
enum Expected {
    /// What the session set when it began: its number and a variable.
    Mark { session: u64 },
    /// These facts, in their order.
    Facts { first: u64, last: u64 },
    /// The session's own latest rows.
    Own { from: Row },
    /// Nothing more.
    Nothing,
}

/// What a session knows of its own latest writes.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    units: std::collections::VecDeque<(Vec<Vec<Row>>, Vec<Row>, Told)>,
}

/// The value of `lock_wait_timeout` that a session sets.
#[must_use]
pub const fn mark(session: u64) -> u64 {
    10_000 + session
}

impl Memory {
    /// Remembers a unit that is finished.
    pub fn note(&mut self, unit: &Unit) {
        self.units.push_back((unit.steps.clone(), unit.never.clone(), unit.told));
        if self.units.len() > REMEMBERED {
            self.units.pop_front();
        }
    }

    /// The first row that is remembered.
    fn first(&self) -> Option<Row> {
        self.units
            .iter()
            .flat_map(|(steps, never, _)| steps.iter().flatten().chain(never))
            .min()
            .copied()
    }

    /// What is wrong with the session's rows as a server shows them; `fresh` where it is the master.
    fn check(&self, rows: &[Row], fresh: bool) -> Result<(), String> {
        let mut seen: BTreeMap<Row, u64> = BTreeMap::new();
        for row in rows {
            *seen.entry(*row).or_default() += 1;
        }
        if let Some((row, times)) = seen.iter().find(|(_, times)| **times > 1) {
            return Err(format!("row {row} is there {times} times"));
        }
        for (steps, never, told) in &self.units {
            let (least, most) = (told.least.min(steps.len()), told.most.min(steps.len()));
            let (acked, _) = steps.split_at(least);
            let (_, refused) = steps.split_at(most);
            let refused = refused.iter().flatten().chain(never);
            if let Some(row) = refused.into_iter().find(|row| seen.contains_key(row)) {
                return Err(format!("row {row} was refused or rolled back, and is read"));
            }
            let lost = acked.iter().flatten().find(|row| !seen.contains_key(row));
            if let Some(row) = lost.filter(|_| fresh) {
                return Err(format!("row {row} was acknowledged, and the master does not show it"));
            }
        }
        Ok(())
    }
}

/// Draws a read for a session.
pub fn draw(rng: &mut Rng, session: u64, memory: &Memory) -> Read {
    let number = rng.u64(1..1 << 40);
    let head = format!("SELECT {number}, @@server_id");
    let (text, way, expected) = match rng.u8(0..10) {
        0 | 1 => {
            let text = format!("{head}, @me, @@session.lock_wait_timeout");
            (text, Way::Text, Expected::Mark { session })
        }
        2 => {
            let (first, last) = (1, FACTS);
            let text = format!("{head}, id, v FROM facts ORDER BY id");
            (text, Way::Text, Expected::Facts { first, last })
        }
        3 | 4 => {
            let first = rng.u64(1..=FACTS);
            let last = rng.u64(first..=FACTS.min(first + 20));
            let text =
                "SELECT ?, @@server_id, id, v FROM facts WHERE id BETWEEN ? AND ? ORDER BY id";
            let parameters: Vec<Value> = vec![number.into(), first.into(), last.into()];
            (text.to_owned(), Way::Binary(parameters), Expected::Facts { first, last })
        }
        5 => (format!("{head}, SLEEP(0.2)"), Way::Text, Expected::Nothing),
        _ => {
            let from = memory.first().unwrap_or(session * ROWS_EACH);
            let end = (session + 1) * ROWS_EACH;
            // The first row of the answer is there though the session has none of its own.
            let text = format!(
                "{head}, 0 UNION ALL {head}, id FROM writes WHERE session = {session} AND \
                 id >= {from} AND id < {end}"
            );
            (text, Way::Text, Expected::Own { from })
        }
    };
    let asked = Asked { role: Role::Read, marks: vec![0], commits_first: false };
    let statement = Statement { text, way, asked, answers: None, changes: None };
    Read { statement, number, expected }
}

impl Read {
    /// Whether its answer is long enough to be cut off anywhere.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        matches!(self.expected, Expected::Facts { .. } | Expected::Own { .. })
    }

    /// The server that answered; checks all rows that came. `whole` says that no error ended them;
    /// `master` is the id of the server that was the master all the time, if one was.
    ///
    /// # Errors
    /// The answer is not one to this statement.
    pub fn check(
        &self,
        rows: &[Answer],
        whole: bool,
        master: Option<u64>,
        memory: &Memory,
    ) -> Result<Option<u64>, String> {
        let mut server = None;
        for row in rows {
            if number(row, 0) != Some(self.number) {
                return Err(format!("an answer to something else: {row:?}"));
            }
            let from = number(row, 1);
            if from.is_none() || server.is_some() && server != from {
                return Err(format!("rows of two servers: {row:?}"));
            }
            server = from;
        }
        if whole && rows.is_empty() {
            return Err("no rows".to_owned());
        }
        self.check_values(rows, whole, server.is_some() && server == master, memory)?;
        Ok(server)
    }

    fn check_values(
        &self,
        rows: &[Answer],
        whole: bool,
        fresh: bool,
        memory: &Memory,
    ) -> Result<(), String> {
        match self.expected {
            Expected::Nothing => Ok(()),
            Expected::Mark { session } => {
                let is = |row: &Answer| {
                    number(row, 2) == Some(session) && number(row, 3) == Some(mark(session))
                };
                let wrong = rows.iter().find(|row| !is(row));
                wrong.map_or(Ok(()), |row| Err(format!("state of another session: {row:?}")))
            }
            Expected::Facts { first, last } => {
                for (id, row) in (first..=last).zip(rows) {
                    if number(row, 2) != Some(id) || text(row, 3) != fact(id) {
                        return Err(format!("fact {id} is {row:?}"));
                    }
                }
                let all = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
                let right = if whole { rows.len() == all } else { rows.len() <= all };
                if right { Ok(()) } else { Err(format!("{} of {all} facts", rows.len())) }
            }
            Expected::Own { from } => {
                let ids: Option<Vec<Row>> = rows.iter().map(|row| number(row, 2)).collect();
                let mut ids = ids.ok_or("a row without a number")?;
                ids.retain(|&id| id != 0);
                if ids.iter().any(|&id| id < from || id / ROWS_EACH != from / ROWS_EACH) {
                    return Err(format!("rows of another session: {ids:?}"));
                }
                memory.check(&ids, fresh && whole)
            }
        }
    }
}

/// Whether a read outside a transaction may end like this.
///
/// # Errors
/// It may not.
pub fn may_end(outcome: &Outcome) -> Result<(), String> {
    let meaning = outcome.promise().map(|promise| (promise.meaning, promise.ours, promise.code));
    match (outcome, meaning) {
        (Outcome::Ok, _) => Ok(()),
        (_, Some((Meaning::Interrupted | Meaning::Over, ..))) => Ok(()),
        // No server of the partition.
        (_, Some((Meaning::Refused, true, 1053))) => Ok(()),
        // KILL, and an orderly end of the server.
        (_, Some((Meaning::Killed, ..) | (Meaning::Failed, false, 1158))) => Ok(()),
        (Outcome::Closed, _) => Ok(()),
        _ => Err(format!("a read ended with {}", outcome.words())),
    }
}

/// A column as a number, in either protocol.
fn number(row: &Answer, column: usize) -> Option<u64> {
    match row.as_ref(column)? {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::UInt(value) => Some(*value),
        _ => None,
    }
}

/// A column as a text.
pub(crate) fn text(row: &Answer, column: usize) -> String {
    match row.as_ref(column) {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(value) => value.as_sql(true).trim_matches('\'').to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(steps: &[&[Row]], least: usize, most: usize) -> Memory {
        let steps = steps.iter().map(|rows| rows.to_vec()).collect();
        Memory { units: [(steps, vec![99], Told { least, most })].into() }
    }

    #[test]
    fn a_session_is_shown_what_it_wrote() {
        let one = memory(&[&[1, 2], &[3]], 1, 1);
        assert_eq!(one.check(&[1, 2], true), Ok(()));
        assert_eq!(one.check(&[], false), Ok(()), "a replica may be behind");
        assert!(one.check(&[1], true).unwrap_err().contains("acknowledged"));
        assert!(one.check(&[1, 2, 3], true).unwrap_err().contains("refused"));
        assert!(one.check(&[1, 2, 99], false).unwrap_err().contains("rolled back"));
        assert!(one.check(&[1, 2, 2], false).unwrap_err().contains("2 times"));
        let unknown = memory(&[&[1]], 0, 1);
        assert_eq!(unknown.check(&[], true), Ok(()));
        assert_eq!(unknown.check(&[1], true), Ok(()));
    }

    #[test]
    fn how_reads_may_end() {
        let error = |code, state: &str, text: &str| Outcome::Error {
            code,
            state: state.to_owned(),
            text: text.to_owned(),
        };
        assert!(may_end(&error(1317, "70100", "Result interrupted: x")).is_ok());
        assert!(may_end(&error(1053, "08S01", "No server of partition default answers")).is_ok());
        assert!(may_end(&error(1290, "HY000", "(failsoft: read-only)")).is_err());
        assert!(may_end(&error(1180, "08007", "Outcome unknown: SELECT")).is_err());
        assert!(may_end(&error(1213, "40001", "Transaction was rolled back: x")).is_err());
        assert!(may_end(&Outcome::Late).is_err());
        assert!(may_end(&Outcome::Malformed(String::new())).is_err());
    }
}
