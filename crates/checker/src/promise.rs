//! What failsoft promises to say, and what each of it means.
//!
//! The table is `docs/errors.md` for the situations that the checker makes, and the few errors of
//! servers' own that these situations bring about. Any other error fails the run.

/// How a statement ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// With OK, or all of its rows.
    Ok,
    /// With an error packet.
    Error {
        /// The number.
        code: u16,
        /// The SQLSTATE.
        state: String,
        /// The text.
        text: String,
    },
    /// The connection ended.
    Closed,
    /// What came is not what was asked for, or no packet at all.
    Malformed(String),
    /// Nothing came within the deadline.
    Late,
}

/// What an error says about the statement that it answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// Nothing of it was executed.
    Refused,
    /// Nothing of it was executed, the transaction before it is rolled back, and the connection
    /// ends.
    Over,
    /// It is rolled back with its transaction.
    RolledBack,
    /// Nobody knows.
    Unknown,
    /// It was a read, and its result is not whole.
    Interrupted,
    /// The server gave it up in the middle, and what it had done by itself is undone.
    Failed,
    /// The server was told to give it up. A statement that was just done hears the same.
    Killed,
}

/// An error that may be heard.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// The number.
    pub code: u16,
    /// The SQLSTATE.
    pub state: &'static str,
    /// What its text has in it.
    pub says: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// Whether failsoft makes it; if not, a server does.
    pub ours: bool,
    /// Whether the connection may end after it.
    pub may_close: bool,
}

const fn ours(code: u16, state: &'static str, says: &'static str, meaning: Meaning) -> Promise {
    Promise { code, state, says, meaning, ours: true, may_close: false }
}

const fn closing(code: u16, state: &'static str, says: &'static str, meaning: Meaning) -> Promise {
    Promise { code, state, says, meaning, ours: true, may_close: true }
}

const fn theirs(code: u16, state: &'static str, says: &'static str, meaning: Meaning) -> Promise {
    Promise { code, state, says, meaning, ours: false, may_close: false }
}

/// Every error that may be heard; the first that fits counts.
pub const PROMISES: &[Promise] = &[
    ours(1290, "HY000", "(failsoft: ", Meaning::Refused),
    ours(1213, "40001", "Transaction was rolled back: ", Meaning::RolledBack),
    closing(1180, "08007", "Outcome unknown: ", Meaning::Unknown),
    closing(1317, "70100", "Result interrupted: ", Meaning::Interrupted),
    closing(1053, "08S01", "Session state lost: ", Meaning::Over),
    closing(1053, "08S01", "This session cannot leave ", Meaning::Over),
    closing(1053, "08S01", "Server shutdown in progress (failsoft is stopping)", Meaning::Over),
    ours(1053, "08S01", "No server of partition ", Meaning::Refused),
    // The master is read_only; a replica's session is.
    theirs(1290, "HY000", "read-only", Meaning::Refused),
    theirs(1792, "25006", "READ ONLY transaction", Meaning::Refused),
    // Locks of a transaction that a server does not know to be over.
    theirs(1205, "HY000", "Lock wait timeout", Meaning::Failed),
    theirs(1213, "40001", "Deadlock found", Meaning::RolledBack),
    // A statement of which the end did not arrive: nothing of it was executed.
    theirs(1158, "08S01", "Got an error reading communication packets", Meaning::Failed),
    // KILL, and an orderly end of the server.
    theirs(1317, "70100", "Query execution was interrupted", Meaning::Killed),
    theirs(1927, "70100", "Connection was killed", Meaning::Killed),
    theirs(1053, "08S01", "Server shutdown in progress", Meaning::Killed),
];

/// The promise that an error belongs to; none if it was never made.
#[must_use]
pub fn promise(code: u16, state: &str, text: &str) -> Option<&'static Promise> {
    // Words that make an application or a framework send the statement again.
    let tempting = ["gone away", "lost connection"];
    let lower = text.to_lowercase();
    if tempting.iter().any(|words| lower.contains(words)) {
        return None;
    }
    PROMISES.iter().find(|promise| {
        promise.code == code && promise.state == state && text.contains(promise.says)
    })
}

impl Outcome {
    /// The promise that it is, if it is an error that was promised.
    #[must_use]
    pub fn promise(&self) -> Option<&'static Promise> {
        match self {
            Self::Error { code, state, text } => promise(*code, state, text),
            _ => None,
        }
    }

    /// The outcome for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::Error { code, state, text } => format!("{code}/{state}: {text}"),
            Self::Closed => "the connection ended".to_owned(),
            Self::Malformed(what) => format!("malformed: {what}"),
            Self::Late => "no answer within the deadline".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_error_it_is_and_what_it_means() {
        let read_only = "The MySQL server is running with the --read-only option so it cannot \
                         execute this statement";
        let refused = format!("{read_only} (failsoft: partition default is read-only: severed)");
        let rows = [
            (1290, "HY000", refused.as_str(), Some((true, Meaning::Refused))),
            (1290, "HY000", read_only, Some((false, Meaning::Refused))),
            (
                1213,
                "40001",
                "Deadlock found when trying to get lock",
                Some((false, Meaning::RolledBack)),
            ),
            (1053, "08S01", "Server shutdown in progress", Some((false, Meaning::Killed))),
            (1180, "08007", "Outcome unknown: COMMIT was sent", Some((true, Meaning::Unknown))),
            // Never promised.
            (1180, "HY000", "Outcome unknown: COMMIT was sent", None),
            (2006, "HY000", "MySQL server has gone away", None),
            (2013, "HY000", "Lost connection to MySQL server during query", None),
            (1053, "08S01", "Session state lost: Lost connection", None),
            (1045, "28000", "Access denied", None),
            (
                4031,
                "HY000",
                "The client was disconnected by the server because of inactivity",
                None,
            ),
            (1243, "HY000", "Unknown prepared statement handler", None),
        ];
        for (code, state, text, expected) in rows {
            let found = promise(code, state, text).map(|one| (one.ours, one.meaning));
            assert_eq!(found, expected, "{code} {text}");
        }
    }
}
