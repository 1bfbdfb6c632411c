//! What the control plane needs to be told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How servers are watched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers, in the order of the topology.
    pub servers: Vec<ProbeTarget>,
    /// From the start of one check of a server to the start of its next.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
}

/// One server, and how to log in to it.
#[derive(Clone, Eq, PartialEq)]
pub struct ProbeTarget {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account that checks.
    pub user: String,
    /// Its password.
    pub pass: String,
    /// Encryption.
    pub tls: Tls,
}

impl fmt::Debug for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeTarget")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Encryption of connections to servers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tls {
    /// Whether it is used.
    pub mode: TlsMode,
    /// Who signs the servers' certificates; the well-known authorities when there is none.
    pub ca: Option<PathBuf>,
    /// The certificate we show, and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// A number that is another once there is something else in these files: checks read them once.
    pub content: u64,
}

/// Whether connections to servers are encrypted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsMode {
    /// They are not.
    Off,
    /// They are where the server offers it; its certificate is not verified.
    #[default]
    Preferred,
    /// They are; its certificate is not verified.
    Required,
    /// They are, and its certificate must be good for its name.
    Verify,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_print_does_not_show_the_password() {
        let target = ProbeTarget {
            host: "db1".into(),
            port: 3306,
            user: "failsoft".into(),
            pass: "do-not-show".into(),
            tls: Tls::default(),
        };
        let settings = Settings {
            servers: vec![target],
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(2),
        };
        let text = format!("{settings:?}");
        assert!(text.contains("db1") && !text.contains("do-not-show"), "{text}");
    }
}
