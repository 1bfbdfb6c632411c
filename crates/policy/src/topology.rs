//! The configuration as policy sees it: servers, their roles and their partitions.

use std::fmt;
use std::sync::Arc;

use crate::health::HealthParams;

/// A server's name, `host:port`, as the configuration has it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// Names a server.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server of one process, across all configurations that it reads. A server that is taken out of
/// the file and put back is another one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerId(pub u32);

/// What a server is configured to be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Takes writes.
    Master,
    /// Follows a master and takes reads when that is lost.
    Replica,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Replica => "replica",
        })
    }
}

/// One configured server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerSpec {
    /// `host:port`.
    pub name: ServerName,
    /// What it is configured to be.
    pub role: Role,
    /// The partition it belongs to, an index into [`Topology::partitions`].
    pub partition: usize,
    /// Whether the configuration lets it take traffic.
    pub enabled: bool,
    /// How large a share of sessions it takes among equally fresh replicas.
    pub weight: u32,
}

/// All that policy needs of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// The servers, in the order of the configuration.
    pub servers: Vec<ServerSpec>,
    /// The names of the partitions, `default` among them.
    pub partitions: Vec<Arc<str>>,
    /// `read_only: true`.
    pub read_only: bool,
    /// `master_may_replicate: true`.
    pub master_may_replicate: bool,
    /// When a server's health flips.
    pub health: HealthParams,
}

impl Topology {
    /// The server that is called so, and where it is: `host:port`, or the host where only one server has it.
    #[must_use]
    pub fn server_called(&self, name: &str) -> Option<(usize, &ServerSpec)> {
        let servers = || self.servers.iter().enumerate();
        let host = |spec: &ServerSpec| {
            let host = spec.name.as_str().rsplit_once(':').map(|it| it.0);
            host.is_some_and(|host| host == name)
        };
        let exact = servers().find(|(_, spec)| spec.name.as_str() == name);
        exact.or_else(|| {
            let mut on_host = servers().filter(|(_, spec)| host(spec));
            on_host.next().filter(|_| on_host.next().is_none())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;

    #[test]
    fn a_server_goes_by_its_host_where_that_is_clear() {
        let server = |name: &&str| ServerSpec {
            name: ServerName::new(name),
            role: Role::Replica,
            partition: 0,
            enabled: true,
            weight: 1,
        };
        let topology = Topology {
            servers: ["db1:3306", "db2:3306", "db2:3307", "::1:3306"].iter().map(server).collect(),
            partitions: vec!["default".into()],
            read_only: false,
            master_may_replicate: false,
            health: HealthParams { threshold: NonZeroU8::MIN },
        };
        // what it is called, where it is
        let table = [
            ("db1:3306", Some(0)),
            ("db1", Some(0)),
            ("db2:3307", Some(2)),
            ("db2", None),
            ("::1", Some(3)),
            ("db", None),
            ("", None),
        ];
        for (name, at) in table {
            assert_eq!(topology.server_called(name).map(|it| it.0), at, "{name}");
        }
    }
}
