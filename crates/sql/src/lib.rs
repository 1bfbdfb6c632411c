//! Tells reads from writes.
//!
//! [`classify`] cuts a packet into tokens ([`lexer`]), finds each statement's verb in
//! [`tables::VERBS`] ([`statement`]), and looks through the rest for what makes it more than its
//! verb says ([`scan`]): words of [`tables::MARKERS`], calls of [`functions::FUNCTIONS`]. What is in
//! no table counts as a write. So a mistake costs a trip to the master, and never a write on a
//! replica. [`packet`] puts the statements of a packet together, and the readings of a packet whose
//! executable comments may or may not be executed.
//!
//! Two things cannot be seen in a text: what a stored function does, and what a prepared statement
//! of the text protocol runs. The first are reads with [`Effects::UNKNOWN_FUNCTION`], which a server
//! must guard with a read-only transaction; the second are writes. And a view may call a stored
//! function without a trace of it in the text: only the read-only transaction stops that.
//!
//! [`touched`] says which schemas a packet touches, for those who keep them on several servers.
//!
//! The cases are listed in `tests/statements.tsv` and `tests/schemas.tsv`, and the servers are asked by the end-to-end test
//! `oracle`.

mod bytes;
mod cursor;
mod digest;
mod effects;
mod extract;
mod functions;
mod index;
mod lexer;
mod packet;
mod scan;
mod set;
mod statement;
mod tables;
mod token;
mod touched;

pub use digest::digest;
pub use effects::Effects;
pub use extract::{
    Assignment, KillTarget, ValueKind, assignments, kill_target, mentions_insert_id,
    mentions_user_variable, use_target,
};
pub use statement::{START_READ_ONLY, UNKNOWN_STATEMENT};
pub use touched::{Touched, touched};

/// How the session's settings change the way its statements are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// `sql_mode` has ANSI_QUOTES: `"a"` is a name, not a literal.
    pub ansi_quotes: bool,
    /// `sql_mode` has NO_BACKSLASH_ESCAPES: a backslash in a literal is just that.
    pub no_backslash_escapes: bool,
    /// The client's character set is one in which the second byte of a character may look like
    /// ASCII: gbk, gb18030, big5, sjis, cp932.
    pub unsafe_charset: bool,
}

/// What a statement asks of the server that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only reads: any server whose data is fresh enough will do, and it may be sent again (unless
    /// it has [`Effects::UNKNOWN_FUNCTION`]).
    Read,
    /// Changes the session, not the data: the session's server, and fine in read-only mode.
    Session,
    /// Opens a transaction.
    Begin,
    /// Commits one.
    Commit,
    /// Rolls one back.
    Rollback,
    /// A read that depends on what its session did on its own server before, or that leaves
    /// something there.
    OwnRead,
    /// A read that takes locks or numbers of a sequence: the master only.
    LockingRead,
    /// The master only. Also everything that is not known.
    Write,
}

impl Kind {
    /// All kinds, the least severe first. In a packet of several statements the most severe wins.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Session,
        Self::Begin,
        Self::Commit,
        Self::Rollback,
        Self::OwnRead,
        Self::LockingRead,
        Self::Write,
    ];

    /// The name as in `EXPLAIN ROUTE` and the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Session => "session",
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::OwnRead => "own read",
            Self::LockingRead => "locking read",
            Self::Write => "write",
        }
    }

    /// Its place among the kinds; a higher one wins.
    const fn severity(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Session => 1,
            Self::Begin => 2,
            Self::Commit => 3,
            Self::Rollback => 4,
            Self::OwnRead => 5,
            Self::LockingRead => 6,
            Self::Write => 7,
        }
    }
}

/// A kind, and what gave it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// What the statement asks of its server.
    pub kind: Kind,
    /// The words that decided, for logs and `EXPLAIN ROUTE`, such as `FOR UPDATE`.
    pub because: &'static str,
}

impl Class {
    /// The more severe of two classes; `self` if they are equal.
    fn or_worse(self, other: Self) -> Self {
        if other.kind.severity() > self.kind.severity() { other } else { self }
    }
}

/// What is known of a packet's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it asks of its server.
    pub class: Class,
    /// What it does to its session.
    pub effects: Effects,
}

impl Statement {
    const fn new(kind: Kind, because: &'static str, effects: Effects) -> Self {
        Self { class: Class { kind, because }, effects }
    }

    /// Both statements together.
    fn and(self, other: Self) -> Self {
        let class = self.class.or_worse(other.class);
        Self { class, effects: self.effects | other.effects }
    }
}

/// Classifies the text of one `COM_QUERY` or `COM_STMT_PREPARE`, without allocating.
///
/// The text may be any bytes. A packet of several statements is classified whole: the most severe
/// kind wins, and the effects are those of all.
///
/// ```
/// use sql::{Dialect, Effects, Kind, classify};
///
/// let statement = classify(b"SELECT id FROM job LIMIT 1 FOR UPDATE", Dialect::default());
/// assert_eq!(statement.class.kind, Kind::LockingRead);
/// assert_eq!(statement.class.because, "FOR UPDATE");
///
/// let statement = classify(b"SET NAMES utf8mb4", Dialect::default());
/// assert_eq!(statement.class.kind, Kind::Session);
/// assert!(statement.effects.contains(Effects::SET));
/// ```
#[must_use]
pub fn classify(sql: &[u8], dialect: Dialect) -> Statement {
    packet::classify(sql, dialect)
}
