//! The cluster as the data plane and the console see it.
//!
//! A [`View`] is immutable: a new one is made on every change and sessions look at the latest for
//! each statement. What is shown anywhere (error texts, API, metrics, console) comes from here, so
//! that it agrees.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::health::{Health, State};
use crate::mode::{Mode, Reason};
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

    /// Whether what is known of it is of now: a disabled server is not checked, nor is one that was only just
    /// enabled.
    fn is_watched(&self) -> bool {
        self.enabled && self.health.state() != State::Unchecked
    }

    /// Whether its last check got through, and was not long ago.
    fn is_checked(&self) -> bool {
        self.is_watched() && self.failure.is_none()
    }

    /// The replication column of the console, in Phabricator's words.
    #[must_use]
    pub fn replication_words(&self) -> String {
        use crate::observation::Replication::{From, Hidden, None as Nobody};
        let Some(seen) = self.seen.as_deref().filter(|_| self.is_checked()) else {
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
            _ if !self.is_watched() => "Not Checked".to_owned(),
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
            let failure = partition.master.and_then(|at| self.servers.get(at)?.failure.as_ref());
            let doubt = failure.map_or_else(String::new, |failure| {
                format!(" (its last check failed: {})", failure.text)
            });
            return format!("Read-write: statements go to master {master}{doubt}.");
        };
        let seen_at = self.lost_master(partition).and_then(|master| master.seen_at);
        let readers: Vec<String> =
            self.reading(partition).iter().map(|server| reader_words(server, seen_at)).collect();
        let reads = if readers.is_empty() {
            "No server is left to serve reads.".to_owned()
        } else {
            format!("Reads are served by {}.", readers.join(", "))
        };
        let since = crate::utc::time_of_day(partition.since);
        format!("Read-only since {since} ({reason}): {}. {reads}", partition.detail)
    }

    /// What each partition is, after its name.
    pub fn partition_lines(&self) -> impl Iterator<Item = String> {
        self.partitions.iter().map(|it| format!("{}: {}", it.name, self.partition_words(it)))
    }

    /// What an operator can do about a read-only mode, in a sentence or two.
    #[must_use]
    pub fn advice(&self, partition: &Partition) -> Option<&'static str> {
        Some(match partition.mode.reason()? {
            Reason::Config => {
                "It ends with failsoft read-only off, unless read_only is set in the configuration."
            }
            Reason::Paused => "Writes wait; failsoft resume lets them go on.",
            Reason::Masterless => {
                "Name a master in the configuration, and reload. If a replica is to be it, \
                 docs/promoting.md has the steps."
            }
            Reason::Unreachable => {
                "The next write tries the master again; nothing has to be done yet."
            }
            Reason::Severed => {
                "Bring the master back: writes go on by themselves then. If it will not come back, \
                 docs/promoting.md has the steps by which a replica becomes the master."
            }
            Reason::Misconfigured => {
                "The messages of the servers say what is wrong: the master replicates or is \
                 read_only, or there are two. docs/promoting.md says how roles change."
            }
        })
    }

    /// The servers that serve reads when the master does not, best first, as far as anybody expects them to
    /// answer.
    #[must_use]
    pub fn reading(&self, partition: &Partition) -> Vec<&Server> {
        let is_lost = |at: usize| {
            partition.mode.reason() == Some(Reason::Unreachable) && partition.master == Some(at)
        };
        let all = partition.readers.iter().filter_map(|reader| {
            self.servers.get(reader.server).map(|server| (reader.server, server))
        });
        let (well, others): (Vec<_>, Vec<_>) =
            all.partition(|(at, server)| server.failure.is_none() && !is_lost(*at));
        let chosen = if well.is_empty() { others } else { well };
        chosen.into_iter().map(|(_, server)| server).collect()
    }

    /// The master that does not serve the partition, be it disabled. Of one that answers, replicas are as old
    /// as they say.
    fn lost_master(&self, partition: &Partition) -> Option<&Server> {
        let of_here = |server: &&Server| {
            let known = self.partitions.get(server.partition);
            server.role == Role::Master && known.is_some_and(|known| known.name == partition.name)
        };
        let master = match partition.master {
            Some(at) => self.servers.get(at),
            None => self.servers.iter().filter(of_here).max_by_key(|server| server.seen_at),
        };
        master.filter(|master| master.failure.is_some() || !master.is_usable())
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
        0 => format!("{name} (data of {of_then}, when the master was last seen)"),
        older => {
            format!("{name} (data of {of_then}, {older} s before the master was last seen)")
        }
    }
}
