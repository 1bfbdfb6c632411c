//! What a partition can do.

use std::fmt;

/// Why a partition is read-only.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// It was asked for, in the configuration or by an operator.
    Config,
    /// An operator holds writes back: they wait, and this one has waited for as long as it may.
    Paused,
    /// No enabled master is configured.
    Masterless,
    /// The master could not be reached for this statement.
    Unreachable,
    /// The master failed its health checks.
    Severed,
    /// The master replicates, is read_only, or there are two.
    Misconfigured,
}

impl Reason {
    /// Every reason; metrics have a series for each.
    pub const ALL: [Self; 6] = [
        Self::Config,
        Self::Paused,
        Self::Masterless,
        Self::Unreachable,
        Self::Severed,
        Self::Misconfigured,
    ];

    /// The word used everywhere: errors, API, metrics, logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Paused => "paused",
            Self::Masterless => "masterless",
            Self::Unreachable => "unreachable",
            Self::Severed => "severed",
            Self::Misconfigured => "misconfigured",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a partition can do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// Everything.
    ReadWrite,
    /// Reads; writes are refused for this reason.
    ReadOnly(Reason),
}

impl Mode {
    /// Whether writes are taken.
    #[must_use]
    pub fn is_read_write(self) -> bool {
        self == Self::ReadWrite
    }

    /// Whether statements are to try the master: `unreachable` lasts for the statements that find
    /// it so, and the next one tries again.
    #[must_use]
    pub fn tries_master(self) -> bool {
        matches!(self, Self::ReadWrite | Self::ReadOnly(Reason::Unreachable))
    }

    /// The reason of a read-only mode.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::ReadWrite => None,
            Self::ReadOnly(reason) => Some(reason),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_read_write() { "read-write" } else { "read-only" })
    }
}
