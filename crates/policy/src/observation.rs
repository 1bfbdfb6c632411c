//! What one check of a server saw.

use std::time::Duration;

/// What a check that got through saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observation {
    /// Who the server is: `server_uuid` (MySQL), or server id, host name and port (MariaDB). Two
    /// servers behind one address, one after the other, differ in it.
    pub identity: String,
    /// The version, as the server says it: `10.11.6-MariaDB-log`.
    pub version: String,
    /// `read_only` or `super_read_only` is on.
    pub read_only: bool,
    /// Replication, as far as the account may see it.
    pub replication: Replication,
    /// The executed GTIDs, as the server writes them; empty when it keeps none.
    pub gtids: String,
    /// From the start of the check to its end.
    pub latency: Duration,
    /// What the check could not see and how to mend it, for the console.
    pub messages: Vec<String>,
}

/// What is known of a server's replication.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Replication {
    /// The account may not look.
    Hidden,
    /// It follows nobody.
    None,
    /// It follows another server.
    From(Source),
}

impl Replication {
    /// The server that is followed, where one is known.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::From(source) => Some(source),
            Self::Hidden | Self::None => None,
        }
    }
}

/// The replication of a server that follows another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// `host:port` that it follows.
    pub address: String,
    /// The receiver (IO thread) is connected.
    pub receiving: bool,
    /// The applier (SQL thread) runs.
    pub applying: bool,
    /// `Seconds_Behind_Master`; none when the server says NULL.
    pub behind_s: Option<u64>,
    /// A configured delay (`SQL_Delay`), seconds.
    pub delay_s: u64,
    /// The last error of either thread; empty when there is none.
    pub last_error: String,
}

/// Why a check failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckFailure {
    /// What went wrong, for people: `Connection refused`.
    pub text: String,
    /// The server answered and did not accept the login (1045 and kin).
    pub is_login: bool,
}
