//! What a server remembers of a session besides its state, and what becomes of it when the session
//! changes servers: the last insert id, what the last statement found and warned of, and the user
//! variables that procedures and functions set out of sight.

use sql::{Effects, Kind, Statement};
use wire::command;
use wire::reply::ReplyEnd;

use super::statement::Request;
use super::{Flow, Session};
use crate::login::is_mariadb;
use crate::refusal;
use crate::relay::Reply;

/// What is known of a server's memory of the session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The server knows an insert id of the session's.
    has_insert_id: bool,
    /// The session ran code there that may have set user variables.
    ran_code: bool,
    insert_id: Option<Lost>,
    /// How many rows the last statement changed.
    changed: Option<Lost>,
    /// How many rows the last SELECT found.
    found: Option<Lost>,
    /// What was warned of last.
    warnings: Option<Lost>,
    variables: Option<Lost>,
    /// The last values of sequences.
    sequences: Option<Lost>,
    /// The GTID of the last write.
    gtid: Option<Lost>,
    /// The last insert id, which no connection knows at present; 0 for none.
    owed_insert_id: u64,
    /// The session asked for what only this connection has, and may ask again.
    keeps: bool,
    /// It has asked for what a statement leaves to the next, and may ask again.
    asks: bool,
    /// It may ask for that of the last statement.
    may_ask: bool,
}

/// What a session asks for that its statements do not replace, by what classifies the statement.
const KEEPING: &[&str] = &[
    "CURRVAL",
    "LASTVAL",
    "NEXT VALUE FOR",
    "NEXTVAL",
    "PREVIOUS VALUE FOR",
    "SETVAL",
    "SHOW PROFILE",
    "SHOW PROFILES",
];

/// What asks for what the statement before left.
const ASKING: &[&str] = &[
    "FOUND_ROWS",
    "GET",
    "ROW_COUNT",
    "SHOW ERRORS",
    "SHOW WARNINGS",
    "error_count",
    "warning_count",
];

/// The server that something was lost with, and why.
#[derive(Clone, Debug)]
struct Lost {
    server: String,
    cause: String,
}

impl Memory {
    /// Takes note of a statement that a server answered.
    pub(super) fn note(&mut self, statement: Statement, end: &ReplyEnd) {
        if end.insert_id {
            self.has_insert_id = true;
            self.insert_id = None;
        }
        self.ran_code |= statement.effects.contains(Effects::UNKNOWN_FUNCTION);
        let (effects, because) = (statement.effects, statement.class.because);
        if KEEPING.contains(&because) {
            self.keeps = true;
            self.sequences = None;
        }
        self.keeps |= effects.contains(Effects::CONNECTION_ID);
        self.asks |= ASKING.contains(&because);
        self.may_ask = self.asks || end.warned || effects.contains(Effects::CALC_FOUND_ROWS);
        if statement.class.kind == Kind::Write {
            self.gtid = None;
        }
    }

    /// A write that answers with rows (`INSERT … RETURNING`) does not tell of its insert id.
    pub(super) fn note_rows(&mut self, statement: Statement, reply: &Reply) {
        if statement.class.kind == Kind::Write && reply.has_rows() {
            self.has_insert_id = true;
            self.insert_id = None;
        }
    }

    /// Takes note that the server is left behind.
    pub(super) fn lose(&mut self, server: &str, cause: &str) {
        let lost = || Some(Lost { server: server.to_owned(), cause: cause.to_owned() });
        if std::mem::take(&mut self.has_insert_id) {
            self.insert_id = lost();
        }
        if std::mem::take(&mut self.ran_code) {
            self.variables = lost();
        }
        self.changed = lost();
        self.found = lost();
        self.warnings = lost();
    }

    /// Takes note that another session has the connection, whose last insert id was asked for before
    /// if it is given here.
    pub(super) fn move_on(&mut self, server: &str, insert_id: Option<u64>) {
        // The server is well.
        let server = &format!("its connection to {server}");
        let cause = "it was lent to another session, or was idle for too long";
        self.lose(server, cause);
        if let Some(id) = insert_id {
            (self.insert_id, self.owed_insert_id) = (None, id);
        }
        let lost = || Some(Lost { server: server.to_owned(), cause: cause.to_owned() });
        (self.sequences, self.gtid) = (lost(), lost());
    }

    /// The last insert id that a connection has to be given.
    pub(super) const fn owed_insert_id(&self) -> u64 {
        self.owed_insert_id
    }

    /// It was given that.
    pub(super) fn pay_insert_id(&mut self) {
        self.has_insert_id |= std::mem::take(&mut self.owed_insert_id) != 0;
    }

    pub(super) const fn has_insert_id(&self) -> bool {
        self.has_insert_id
    }

    /// Whether no other connection will do, as long as the session lives.
    pub(super) const fn keeps(&self) -> bool {
        self.keeps || self.ran_code
    }

    /// Whether the session is likely to ask next for what its last statement left.
    pub(super) const fn may_ask(&self) -> bool {
        self.may_ask
    }

    /// Whether leaving the server would lose more than what the last statement left.
    pub(super) fn holds(&self) -> bool {
        self.has_insert_id || self.ran_code
    }

    fn is_whole(&self) -> bool {
        self.insert_id.is_none()
            && self.variables.is_none()
            && self.sequences.is_none()
            && self.gtid.is_none()
            && self.knows_previous()
    }

    /// Whether nothing is lost of what statements left behind for the next.
    const fn knows_previous(&self) -> bool {
        self.changed.is_none() && self.found.is_none() && self.warnings.is_none()
    }
}

impl Session {
    /// A statement that asks for what its server remembered of the session, which is lost: a wrong
    /// value would be written somewhere.
    pub(super) async fn answer_for_memory(&mut self, request: &Request) -> Option<Flow> {
        if self.memory.is_whole() {
            return None;
        }
        let (lost, state) = self.lost_of(request)?;
        self.worker.metrics.refused("state_lost");
        self.tell(&refusal::state_lost(&lost.server, &lost.cause, state)).await;
        Some(Flow::End)
    }

    /// Takes note of what the present command, which was answered, leaves behind: what it replaces is no
    /// loss any more. Few commands replace all. Most leave the warnings of a statement alone, and in
    /// MariaDB so does a statement without tables (seen on MySQL 9.7 and MariaDB 10.11).
    pub(super) fn note_previous(&mut self, statement: Statement, end: &ReplyEnd) {
        let kind = statement.class.kind;
        let may_give_id = kind == Kind::OwnRead && !self.memory.has_insert_id;
        if self.memory.knows_previous() && !may_give_id {
            return;
        }
        let text = match self.payload().first() {
            Some(&command::QUERY) => self.payload(),
            Some(&(command::STMT_EXECUTE | command::STMT_BULK_EXECUTE)) => {
                self.named_statement().map_or_else(Default::default, |(_, known)| &*known.sql)
            }
            _ => return,
        };
        // The reply to a SELECT does not tell of the id.
        if may_give_id && end.error.is_none() && gives_insert_id(text) {
            self.memory.has_insert_id = true;
            self.memory.insert_id = None;
            return self.note_previous(statement, end);
        }
        let reads = matches!(kind, Kind::Read | Kind::OwnRead | Kind::LockingRead);
        let has_tables = kind == Kind::Write || (reads && mentions(text, b"from"));
        let anew = end.error.is_some() || has_tables || !is_mariadb(&self.worker.view());
        self.memory.changed = None;
        if reads && end.error.is_none() {
            self.memory.found = None;
        }
        if anew {
            self.memory.warnings = None;
        }
    }

    fn lost_of(&self, request: &Request) -> Option<(Lost, &'static str)> {
        let text = match request.prepared.and_then(|id| self.carried.prepared.get(&id)) {
            Some(prepared) => &prepared.sql,
            None if request.code == command::QUERY => self.payload(),
            None => return None,
        };
        let asks_for = |words: &[&[u8]]| words.iter().any(|word| mentions(text, word));
        if let Some(lost) = &self.memory.insert_id
            && asks_for(&[b"insert_id", b"identity"])
            && sql::mentions_insert_id(text, self.dialect())
        {
            return Some((lost.clone(), "its LAST_INSERT_ID()"));
        }
        if request.statement.class.kind == Kind::OwnRead {
            let previous: [(_, &[&[u8]]); 5] = [
                (&self.memory.found, &[b"found_rows"]),
                (&self.memory.changed, &[b"row_count"]),
                (&self.memory.warnings, &[b"warning", b"error", b"diagnostics"]),
                (&self.memory.sequences, &[b"lastval", b"previous", b"currval"]),
                (&self.memory.gtid, &[b"last_gtid"]),
            ];
            let lost = previous
                .into_iter()
                .find_map(|(lost, words)| lost.as_ref().filter(|_| asks_for(words)));
            if let Some(lost) = lost {
                return Some((lost.clone(), "what its last statement left"));
            }
        }
        if let Some(lost) = &self.memory.variables
            && request.statement.class.kind != Kind::Session
            && text.contains(&b'@')
            && sql::mentions_user_variable(text, self.dialect())
        {
            return Some((lost.clone(), "the user variables that its procedures may have set"));
        }
        None
    }
}

/// Whether a text has these letters, which are small ones, in it.
fn mentions(text: &[u8], letters: &[u8]) -> bool {
    text.windows(letters.len()).any(|window| window.eq_ignore_ascii_case(letters))
}

/// Whether a text calls `LAST_INSERT_ID(…)` with a value, which is then the last insert id.
fn gives_insert_id(text: &[u8]) -> bool {
    const NAME: &[u8] = b"last_insert_id";
    let calls = |(at, window): (usize, &[u8])| {
        window.eq_ignore_ascii_case(NAME).then(|| {
            let arguments = text.get(at + NAME.len()..).unwrap_or_default().trim_ascii_start();
            arguments
                .strip_prefix(b"(")
                .is_some_and(|rest| !rest.trim_ascii_start().starts_with(b")"))
        })
    };
    text.windows(NAME.len()).enumerate().filter_map(calls).any(|gives| gives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_by_a_value() {
        for (text, expected) in [
            ("SELECT LAST_INSERT_ID(1)", true),
            ("SELECT last_insert_id ( ? ), 1", true),
            ("SELECT LAST_INSERT_ID(), LAST_INSERT_ID(7)", true),
            ("SELECT LAST_INSERT_ID( )", false),
            ("SELECT @@last_insert_id", false),
            ("SELECT 1", false),
        ] {
            assert_eq!(gives_insert_id(text.as_bytes()), expected, "{text}");
        }
    }
}
