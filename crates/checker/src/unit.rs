//! A unit: the writes of which a client is told one thing.
//!
//! A unit has *steps*, done in their order, each of which happens whole or not at all: the rows of
//! a transaction are one step, three statements in one packet are three. What the client was told
//! is a range: how many of the steps have certainly happened, and how many can have.

use std::time::Duration;

/// The number of a row, unique over the run.
pub type Row = u64;

/// What a client was told of a unit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// So many of the first steps were acknowledged.
    pub least: usize,
    /// No more than so many of the first steps can have happened.
    pub most: usize,
}

/// What a unit counts as in the report.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// All of it was acknowledged.
    Ok,
    /// Refused before anything of it was executed: 1290, 1792, 1053.
    NotExecuted,
    /// Rolled back, by the client itself or with 1213.
    RolledBack,
    /// A server executed it and answered with an error of its own.
    Failed,
    /// 1180: nobody knows.
    Unknown,
    /// The client's connection ended, and with it the transaction.
    ClosedBefore,
    /// The client's connection ended with the write in flight: nobody knows.
    ClosedDuring,
}

/// One statement of a unit: what was sent and what was heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// When it was sent, since the start of the run.
    pub sent: Duration,
    /// When it was answered.
    pub answered: Duration,
    /// The statement.
    pub text: String,
    /// How it ended.
    pub heard: String,
}

/// The writes of which a client is told one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unit {
    /// The session's number, from 1.
    pub session: u64,
    /// The unit's number in its session, from 1.
    pub number: u64,
    /// What kind of writes it is.
    pub form: &'static str,
    /// The rows of each step, in the order of the steps.
    pub steps: Vec<Vec<Row>>,
    /// Rows that the client took back itself, whatever became of the rest.
    pub never: Vec<Row>,
    /// Its steps also add 1 each to the session's counter.
    pub counted: bool,
    /// What the client was told.
    pub told: Told,
    /// The same in a word.
    pub verdict: Verdict,
    /// What was said.
    pub lines: Vec<Line>,
}

impl Verdict {
    /// Every verdict, in the order of the report.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::NotExecuted,
        Self::RolledBack,
        Self::Failed,
        Self::Unknown,
        Self::ClosedBefore,
        Self::ClosedDuring,
    ];

    /// The verdict in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotExecuted => "not executed",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed on the server",
            Self::Unknown => "unknown (1180)",
            Self::ClosedBefore => "closed before the end",
            Self::ClosedDuring => "closed in flight",
        }
    }
}
