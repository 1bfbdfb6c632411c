//! The words that tell: what the classifier knows of SQL, beside the functions.
//!
//! To teach it something, add a row here and a case to `tests/statements.tsv`.

use crate::functions::{self, Call};
use crate::index::Index;
use crate::{Effects, Kind};
use Kind::{LockingRead, OwnRead, Read, Session, Write};

/// How a statement is read on after its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// The first word says it all.
    Fixed(Kind, Effects),
    /// A query, which may turn out to be more than a read.
    Query,
    /// A query or a write after common table expressions.
    With,
    /// `ANALYZE TABLE`, or MariaDB's `ANALYZE` of a statement.
    Analyze,
    /// A transaction, or a block of statements.
    Begin,
    /// `CALL`: its arguments may be variables that it assigns.
    Call,
    /// `COMMIT`, perhaps `AND CHAIN`.
    Commit,
    /// Perhaps of a temporary table, or of a routine with statements inside.
    Create,
    /// Expressions whose values nobody sees.
    Do,
    /// Perhaps of a temporary table, a schema, a prepared statement.
    Drop,
    /// A statement prepared in text.
    Execute,
    /// Of a table, a connection or a statement.
    Explain,
    /// Perhaps with a lock.
    Flush,
    /// `HANDLER … OPEN`, `READ`, `CLOSE`.
    Handler,
    /// `LOAD DATA`, perhaps from the client's file.
    Load,
    /// `LOCK TABLES`, to read or to write.
    Lock,
    /// `RELEASE SAVEPOINT`.
    Release,
    /// `ROLLBACK`, perhaps to a savepoint, perhaps `AND CHAIN`.
    Rollback,
    /// Of session variables, global ones, or for one statement.
    Set,
    /// Mostly a read.
    Show,
    /// `START TRANSACTION`, or a replica's threads.
    Start,
}

const DDL: Verb = Verb::Fixed(Write, Effects::IMPLICIT_COMMIT);
const DML: Verb = Verb::Fixed(Write, Effects::NONE);

/// The first words of statements. In alphabetical order.
#[rustfmt::skip]
pub(crate) const VERBS: &[(&str, Verb)] = &[
    ("ALTER",      DDL),
    ("ANALYZE",    Verb::Analyze),
    ("BACKUP",     Verb::Fixed(Write, Effects::LOCK_TABLES.union(Effects::IMPLICIT_COMMIT))),
    ("BEGIN",      Verb::Begin),
    ("BINLOG",     DML),
    ("CACHE",      DDL),
    ("CALL",       Verb::Call),
    ("CHANGE",     DDL),
    ("CHECK",      DDL),
    ("CHECKSUM",   Verb::Fixed(Read, Effects::NONE)),
    ("CLONE",      DDL),
    ("COMMIT",     Verb::Commit),
    ("CREATE",     Verb::Create),
    ("DEALLOCATE", Verb::Fixed(Session, Effects::NONE)),
    ("DELETE",     DML),
    ("DESC",       Verb::Explain),
    ("DESCRIBE",   Verb::Explain),
    ("DO",         Verb::Do),
    ("DROP",       Verb::Drop),
    ("EXECUTE",    Verb::Execute),
    ("EXPLAIN",    Verb::Explain),
    ("FLUSH",      Verb::Flush),
    ("GET",        Verb::Fixed(OwnRead, Effects::USER_VARIABLE)),
    ("GRANT",      DDL),
    ("HANDLER",    Verb::Handler),
    ("HELP",       Verb::Fixed(Read, Effects::NONE)),
    ("IMPORT",     DDL),
    ("INSERT",     DML),
    ("INSTALL",    DDL),
    ("KILL",       Verb::Fixed(Write, Effects::KILL)),
    ("LOAD",       Verb::Load),
    ("LOCK",       Verb::Lock),
    ("OPTIMIZE",   DDL),
    ("PREPARE",    Verb::Fixed(Session, Effects::PREPARE)),
    ("PURGE",      DML),
    ("RELEASE",    Verb::Release),
    ("RENAME",     DDL),
    ("REPAIR",     DDL),
    ("REPLACE",    DML),
    ("RESET",      DDL),
    ("RESIGNAL",   Verb::Fixed(OwnRead, Effects::NONE)),
    ("RESTART",    DML),
    ("REVOKE",     DDL),
    ("ROLLBACK",   Verb::Rollback),
    ("SAVEPOINT",  Verb::Fixed(Session, Effects::NONE)),
    ("SELECT",     Verb::Query),
    ("SET",        Verb::Set),
    ("SHOW",       Verb::Show),
    ("SHUTDOWN",   DML),
    ("SIGNAL",     Verb::Fixed(OwnRead, Effects::NONE)),
    ("START",      Verb::Start),
    ("STOP",       DDL),
    ("TABLE",      Verb::Query),
    ("TRUNCATE",   DDL),
    ("UNINSTALL",  DDL),
    ("UNLOCK",     Verb::Fixed(Session, Effects::UNLOCK_TABLES.union(Effects::IMPLICIT_COMMIT))),
    ("UPDATE",     DML),
    ("USE",        Verb::Fixed(Session, Effects::USE)),
    ("VALUES",     Verb::Query),
    ("WITH",       Verb::With),
    ("XA",         Verb::Fixed(Write, Effects::XA)),
];

static VERB_INDEX: Index<256> = Index::new(VERBS);

/// What a statement's first word says.
pub(crate) fn verb(word: &[u8]) -> Option<&'static (&'static str, Verb)> {
    VERB_INDEX.row(VERBS, word)
}

/// What a word inside a statement can give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// A query begins.
    Query,
    /// The statement writes, unless `FOR` stands before `UPDATE`.
    Write,
    /// The statement writes, unless `(` follows.
    VerbOrFunction,
    /// A file on the server is written, or a variable is assigned.
    Into,
    /// A lock, after `FOR` or `IN`.
    Share,
    /// A sequence, after `NEXT` or `PREVIOUS`.
    Value,
    /// `sequence.NEXTVAL`, in Oracle's spelling.
    Sequence(Kind),
    /// The session may ask for the number of rows later.
    FoundRows,
    /// The time, without parentheses.
    Clock,
}

/// Words that tell wherever they stand. In alphabetical order.
#[rustfmt::skip]
pub(crate) const MARKERS: &[(&str, Marker)] = &[
    ("CURRENT_DATE",        Marker::Clock),
    ("CURRENT_TIME",        Marker::Clock),
    ("CURRENT_TIMESTAMP",   Marker::Clock),
    ("CURRVAL",             Marker::Sequence(OwnRead)),
    ("DELETE",              Marker::Write),
    ("INSERT",              Marker::VerbOrFunction),
    ("INTO",                Marker::Into),
    ("LOCALTIME",           Marker::Clock),
    ("LOCALTIMESTAMP",      Marker::Clock),
    ("NEXTVAL",             Marker::Sequence(LockingRead)),
    ("REPLACE",             Marker::VerbOrFunction),
    ("SELECT",              Marker::Query),
    ("SHARE",               Marker::Share),
    ("SQL_CALC_FOUND_ROWS", Marker::FoundRows),
    ("TABLE",               Marker::Query),
    ("UPDATE",              Marker::Write),
    ("UTC_DATE",            Marker::Clock),
    ("UTC_TIME",            Marker::Clock),
    ("UTC_TIMESTAMP",       Marker::Clock),
    ("VALUE",               Marker::Value),
    ("VALUES",              Marker::Query),
];

static MARKER_INDEX: Index<64> = Index::new(MARKERS);

/// Whether a word may be one of [`MARKERS`]: quick, and rarely wrong.
#[inline]
pub(crate) fn may_tell(word: &[u8]) -> bool {
    MARKER_INDEX.may_hold(word)
}

/// What a word inside a statement says.
pub(crate) fn marker(word: &[u8]) -> Option<&'static (&'static str, Marker)> {
    MARKER_INDEX.row(MARKERS, word)
}

/// Words that tell only in some statements.
const TELLING_WORDS: &[&str] =
    &["GLOBAL", "IMMEDIATE", "PERSIST", "PERSIST_ONLY", "TEMPORARY", "WRITE"];

/// Whether a word can make a statement more than its verb says.
pub(crate) fn matters(word: &[u8]) -> bool {
    marker(word).is_some()
        || TELLING_WORDS.iter().any(|telling| telling.as_bytes().eq_ignore_ascii_case(word))
        || matches!(functions::find(word), Some((_, Call::Own | Call::Lock(_))))
}

/// System variables that tell what the session did on its server before.
pub(crate) const OWN_VARIABLES: &[&str] = &[
    "error_count",
    "identity",
    "in_transaction",
    "insert_id",
    "last_gtid",
    "last_insert_id",
    "warning_count",
];

/// Session variables that a later statement uses up, or that mean something on one server only:
/// setting them again elsewhere would not give the same session.
pub(crate) const SPENT_VARIABLES: &[&str] = &[
    "gtid_next",
    "gtid_seq_no",
    "identity",
    "insert_id",
    "last_insert_id",
    "pseudo_slave_mode",
    "pseudo_replica_mode",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
];

/// Variables that `SET @@name` changes for the next transaction only, and `SET name` for good.
pub(crate) const TRANSACTION_VARIABLES: &[&str] =
    &["transaction_isolation", "transaction_read_only", "tx_isolation", "tx_read_only"];

/// Words that leave something behind wherever they stand in a block of statements, whose grammar is
/// not followed.
pub(crate) const BLOCK_WORDS: &[(&str, Effects)] = &[
    ("CALL", Effects::UNKNOWN_FUNCTION),
    ("COMMIT", Effects::COMMIT),
    ("EXECUTE", Effects::UNKNOWN_FUNCTION),
    ("HANDLER", Effects::HANDLER),
    ("LOCK", Effects::LOCK_TABLES),
    ("PREPARE", Effects::PREPARE),
    ("ROLLBACK", Effects::ROLLBACK),
    ("SET", Effects::SET_OPAQUE),
    ("TEMPORARY", Effects::TEMP_TABLE),
    ("XA", Effects::XA),
];

#[cfg(test)]
mod tests {
    use super::{MARKERS, VERBS, matters, verb};

    #[test]
    fn tables_are_sorted() {
        assert!(VERBS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(MARKERS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_row_is_found() {
        assert!(VERBS.iter().all(|row| verb(row.0.to_ascii_lowercase().as_bytes()) == Some(row)));
        assert!(MARKERS.iter().all(|row| matters(row.0.as_bytes())));
        assert!(matters(b"get_lock") && matters(b"last_insert_id") && matters(b"global"));
        assert!(!matters(b"") && !matters(b"name") && !matters(b"concat"));
    }
}
