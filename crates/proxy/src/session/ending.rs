//! What becomes of the connection that a session holds when it ends.

use policy::session::Pins;
use sql::{Effects, Kind, Statement};
use wire::command;

use super::Session;
use crate::backend::cleaning::give_back;
use crate::backend::connect::Wanted;
use crate::backend::pool::MadeFor;

/// What ends with its transaction, or its connection's being reset. A session that is tied by other
/// things may have left more behind.
const RESETTABLE: Pins = Pins::TEMPORARY_TABLE
    .with(Pins::TABLE_LOCKS)
    .with(Pins::USER_LOCK)
    .with(Pins::USER_VARIABLE)
    .with(Pins::HANDLER)
    .with(Pins::TEXT_PREPARE)
    .with(Pins::CURSOR)
    .with(Pins::LONG_DATA)
    .with(Pins::NEXT_TRANSACTION);

/// The classes of statements that may do to a connection what no reset takes back.
const LASTING: &[&str] =
    &["SET RESOURCE GROUP", "SET of something unknown", sql::UNKNOWN_STATEMENT];

/// Whether a text that sets something may take a role, which MariaDB's reset leaves.
pub(super) fn marks(text: &[u8]) -> bool {
    text.windows(4).any(|window| window.eq_ignore_ascii_case(b"role"))
}

/// Whether a statement may do to its connection what no reset takes back.
pub(super) fn is_lasting(statement: Statement) -> bool {
    // Of several statements the class is that of one.
    statement.effects.intersects(Effects::UNKNOWN_FUNCTION.union(Effects::SEVERAL))
        || LASTING.contains(&statement.class.because)
}

impl Session {
    /// Takes note of what a statement may have done to the connection in hand.
    pub(super) fn note_mark(&mut self, statement: Statement) {
        let sets = statement.effects.intersects(super::note::SETTINGS);
        let sets_role = || match self.payload() {
            [command::QUERY, text @ ..] => marks(text),
            _ => true,
        };
        let is_marked = is_lasting(statement) || sets && sets_role();
        let wrote = statement.class.kind == Kind::Write;
        if let Some(backend) = &mut self.backend {
            backend.is_marked |= is_marked;
            backend.may_have_insert_id |= wrote || self.memory.has_insert_id();
        }
    }

    /// Closes the connection in hand, or keeps it for other sessions. Nothing is in flight on it.
    pub(super) fn part_with_backend(&mut self) {
        let is_plain = self.gone.is_none()
            && self.pins.without(RESETTABLE).is_empty()
            && !self.carried.schema_is_doubtful
            && self.carried.multi_statements.is_none();
        let Some(mut backend) = self.backend.take() else { return };
        let account = self.account();
        let schema = &self.carried.schema;
        let wanted = self.wanted(backend.server, backend.epoch, &account);
        let wanted = Wanted { schema, ..wanted };
        let made_for = MadeFor::of(&wanted, &backend).filter(|_| is_plain && backend.in_schema);
        // From here on nobody finds the connection as this session's; whoever has found it so before
        // may be about to kill what runs on it.
        backend.let_go();
        match made_for {
            Some(made_for) if !self.client.leash.is_killed() => {
                give_back(&self.worker, backend, made_for);
            }
            _ => backend.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_reset_takes_back() {
        let table = [
            ("SELECT 1", false),
            ("INSERT INTO t VALUES (1)", false),
            ("CREATE TEMPORARY TABLE t (a INT)", false),
            ("SET @a = 1", false),
            ("SELECT my_function()", true),
            ("CALL p()", true),
            ("EXECUTE s", true),
            ("SET RESOURCE GROUP g", true),
            ("INSERT INTO t VALUES (1); SET RESOURCE GROUP g", true),
            ("FROBNICATE", true),
        ];
        for (text, expected) in table {
            let statement = sql::classify(text.as_bytes(), sql::Dialect::default());
            assert_eq!(is_lasting(statement), expected, "{text}");
        }
        assert!(marks(b"SET ROLE admin") && marks(b"set  Role none") && !marks(b"SET NAMES utf8"));
    }
}
