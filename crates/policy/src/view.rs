//! The cluster as the data plane and the console see it.
//!
//! A [`View`] is immutable: a new one is made on every change and sessions look at the latest for
//! each statement. What is shown anywhere (error texts, API, metrics, console) comes from here, so
//! that it agrees.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::health::Health;
use crate::mode::Mode;
use crate::observation::{CheckFailure, Observation};
use crate::topology::{Role, ServerId, ServerName};

/// An immutable snapshot of the cluster.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Which configuration it is of: 0 for the first, and more with each that is read again. Indices
    /// of servers and partitions mean nothing in a view of another one.
    pub generation: u64,
    /// The servers in the order of the configuration.
    pub servers: Vec<Server>,
    /// The partitions.
    pub partitions: Vec<Partition>,
}

/// One server in a [`View`].
#[derive(Clone, Debug)]
pub struct Server {
    /// The same in every view that has the server.
    pub id: ServerId,
    /// `host:port`.
    pub name: ServerName,
    /// What it is configured to be.
    pub role: Role,
    /// The partition it belongs to.
    pub partition: usize,
    /// Whether configuration and operators let it take traffic.
    pub enabled: bool,
    /// An operator took it out.
    pub held_out: bool,
    /// The outcome of its checks.
    pub health: Health,
    /// Grows each time that open connections to the server must be given up at once: it turned
    /// unhealthy, or is another server than before.
    pub incarnation: u64,
    /// What the last check that got through saw.
    pub seen: Option<Arc<Observation>>,
    /// When that was.
    pub seen_at: Option<SystemTime>,
    /// When its data were its master's, as far as it said; that stays while it cannot say.
    pub data_of: Option<SystemTime>,
    /// Why the last check failed; none when it did not.
    pub failure: Option<Arc<CheckFailure>>,
    /// What is wrong and what to do about it.
    pub messages: Vec<String>,
}

impl Server {
    /// Whether the server may get traffic.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.enabled && self.health.is_healthy()
    }

    /// The replication column of the console, in Phabricator's words.
    #[must_use]
    pub fn replication_words(&self) -> String {
        use crate::observation::Replication::{From, Hidden, None as Nobody};
        let Some(seen) = self.seen.as_deref().filter(|_| self.failure.is_none()) else {
            return "-".to_owned();
        };
        match (&seen.replication, self.role) {
            (Hidden, _) => "Unknown".to_owned(),
            (Nobody, Role::Replica) => "Not A Replica".to_owned(),
            (Nobody, Role::Master) => "-".to_owned(),
            (From(source), role) => match (source.behind_s, role) {
                (None, _) => "Not Replicating".to_owned(),
                (Some(_), Role::Master) => "Replicating Master".to_owned(),
                (Some(0), _) => "Up to Date".to_owned(),
                (Some(s), _) if s > SLOW_S => format!("Slow Replication, {s}s Behind"),
                (Some(s), _) => format!("{s}s Behind"),
            },
        }
    }

    /// The connection column of the console.
    #[must_use]
    pub fn connection_words(&self) -> String {
        match (&self.failure, &self.seen) {
            (Some(failure), _) if failure.is_login => "Invalid Credentials".to_owned(),
            (Some(_), _) => "Failed".to_owned(),
            (None, Some(seen)) => format!("{} µs", seen.latency.as_micros()),
            (None, None) => "Not Checked".to_owned(),
        }
    }
}

/// A replica further behind than this many seconds is slow; Phabricator's number.
pub const SLOW_S: u64 = 30;

/// One partition in a [`View`].
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its name.
    pub name: Arc<str>,
    /// What it can do.
    pub mode: Mode,
    /// Since when.
    pub since: SystemTime,
    /// The cause of a read-only mode in words, without the reason: `master db001:3306 failed 5
    /// checks since 12:03:44 UTC, last error …`. Empty in read-write mode.
    pub detail: Arc<str>,
    /// The server that is the master, an index into [`View::servers`]; also while it is lost.
    pub master: Option<usize>,
    /// Another with every change of who the master is, and never that of another partition. A
    /// connection of another epoch takes no write.
    pub epoch: u64,
    /// How long a write may wait while an operator holds writes back; none when nobody does.
    pub hold: Option<Duration>,
    /// The servers that can take reads when the master does not, best first.
    pub readers: Vec<Reader>,
}

/// A server that can take reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reader {
    /// An index into [`View::servers`].
    pub server: usize,
    /// Servers of the same grade are equally good; lower is better.
    pub grade: u64,
    /// Its share of the sessions among servers of the same grade.
    pub weight: u32,
}

impl View {
    /// Where a server is among [`View::servers`]; none when the configuration no longer has it.
    #[must_use]
    pub fn position(&self, id: ServerId) -> Option<usize> {
        self.servers.iter().position(|server| server.id == id)
    }

    /// A server, if the configuration still has it.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers.iter().find(|server| server.id == id)
    }

    /// What a partition is, in a sentence for people.
    #[must_use]
    pub fn partition_words(&self, partition: &Partition) -> String {
        let Some(reason) = partition.mode.reason() else {
            let master = self.name_of(partition.master);
            return format!("Read-write: statements go to master {master}.");
        };
        let master = partition.master.and_then(|at| self.servers.get(at));
        // Of a master that answers, replicas are as old as they say.
        let is_lost = |master: &&Server| master.failure.is_some() || !master.is_usable();
        let seen_at = master.filter(is_lost).and_then(|master| master.seen_at);
        let readers: Vec<String> = partition
            .readers
            .iter()
            .filter_map(|reader| self.servers.get(reader.server))
            .map(|server| reader_words(server, seen_at))
            .collect();
        let reads = if readers.is_empty() {
            "No server is left to serve reads.".to_owned()
        } else {
            format!("Reads are served by {}.", readers.join(", "))
        };
        let since = crate::utc::time_of_day(partition.since);
        format!("Read-only since {since} ({reason}): {}. {reads}", partition.detail)
    }

    fn name_of(&self, server: Option<usize>) -> &str {
        server.and_then(|at| self.servers.get(at)).map_or("(none)", |server| server.name.as_str())
    }
}

/// A server that serves reads, with the age of its data where it is known: how much older they are than
/// what was last seen on the master.
fn reader_words(server: &Server, master_seen_at: Option<SystemTime>) -> String {
    let name = &server.name;
    let Some((of, seen_at)) = server.data_of.zip(master_seen_at) else { return name.to_string() };
    // What it says of itself while it hears nothing is not known to be so.
    let of = of.min(seen_at);
    let of_then = crate::utc::time_of_day(of);
    match seen_at.duration_since(of).unwrap_or_default().as_secs() {
        0 => format!("{name} (data of {of_then}, as new as the last look at the master)"),
        older => {
            format!("{name} (data of {of_then}, {older} s older than the last look at the master)")
        }
    }
}
