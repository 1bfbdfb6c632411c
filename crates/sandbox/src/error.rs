//! What can go wrong with a private server, told so that a reader can act on it.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use crate::Flavor;

/// No server of a flavour on this machine.
#[derive(Debug, thiserror::Error)]
#[error("no {flavor} server found: looked for {looked_for}; `scripts/setup.sh` installs one")]
pub struct NotFound {
    /// The flavour asked for.
    pub flavor: Flavor,
    /// Where it was looked for, in words.
    pub looked_for: String,
}

/// Why a private server could not be started, reached or set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no such server on this machine.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The file system or the operating system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was attempted, as in "copy the template".
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// No loopback port is free in the range that is used.
    #[error("no free loopback port between {low} and {high}")]
    NoPort {
        /// First port tried.
        low: u16,
        /// Last port tried.
        high: u16,
    },
    /// The server, or the program that initialises its data, ended by itself.
    #[error("{what} ended with {status}; the end of its log:\n{log}")]
    Exited {
        /// Which program.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server runs and does not accept logins.
    #[error(
        "{flavor} did not accept a login within {after:?} ({last}); the end of its log:\n{log}"
    )]
    NotReady {
        /// Which server.
        flavor: Flavor,
        /// How long it was waited for.
        after: Duration,
        /// The last refusal.
        last: String,
        /// The end of its log.
        log: String,
    },
    /// A statement of ours failed.
    #[error("`{statement}` failed: {source}")]
    Sql {
        /// The statement.
        statement: String,
        /// The server's answer.
        source: Box<mysql_async::Error>,
    },
    /// A replica did not reach its master's position in time.
    #[error("the replica did not reach {position} within {after:?}")]
    NotSynced {
        /// The master's position.
        position: String,
        /// How long it was waited for.
        after: Duration,
    },
}

impl SandboxError {
    /// For `map_err` on results of the file system.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// For `map_err` on results of a statement.
    pub(crate) fn sql(statement: &str) -> impl FnOnce(mysql_async::Error) -> Self {
        let statement = statement.to_owned();
        move |source| Self::Sql { statement, source: Box::new(source) }
    }
}
