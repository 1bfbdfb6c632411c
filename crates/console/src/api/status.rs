//! What `/api/v1/status` answers.

use std::time::SystemTime;

use control::Entry;
use policy::health::{Outcome, State};
use policy::observation::Observation;
use policy::utc::rfc3339;
use policy::view::{self, View};
use serde::{Deserialize, Serialize};
use telemetry::{Totals, UnknownOutcome};
use utoipa::ToSchema;

use super::orders::Difference;

/// Everything that one failsoft sees.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// The host that this failsoft runs on: another failsoft may see something else.
    pub host: String,
    /// The version of failsoft.
    pub version: String,
    /// When it started.
    pub started: String,
    /// Since then, seconds.
    pub uptime_s: u64,
    /// Whether failsoft takes new sessions: not while it starts, nor when it is about to end.
    pub ready: bool,
    /// What is in force, and whether it is what is on disk.
    pub configuration: Configuration,
    /// What each partition can do.
    pub partitions: Vec<Partition>,
    /// What each server is, in the order of the configuration.
    pub servers: Vec<Server>,
    /// How many clients there are.
    pub sessions: Sessions,
    /// What they have asked for.
    pub statements: Statements,
    /// The latest writes of unknown outcome, the latest first; all that are kept are at
    /// `/api/v1/unknown-outcomes`.
    pub unknown_outcomes: Vec<UnknownOutcome>,
    /// What happened lately, the latest first.
    pub events: Vec<Event>,
}

/// What is in force, and whether it is what is on disk.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Configuration {
    /// The file.
    pub file: String,
    /// When it was read the last time that it was found good.
    pub read_at: String,
    /// Since when the file on disk is not good: what was read before is in force.
    pub invalid_since: Option<String>,
    /// What is wrong with it, one line for each mistake.
    pub problems: Vec<String>,
    /// What is different in the file, and needs a restart.
    pub needs_restart: Vec<Difference>,
}

impl Configuration {
    /// What is wrong, in a sentence.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let since = self.invalid_since.as_ref()?;
        let (file, read_at) = (&self.file, &self.read_at);
        Some(format!(
            "the configuration on disk ({file}) is invalid since {since}; running with the one of \
             {read_at}"
        ))
    }
}

/// What a partition can do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// `read-write` or `read-only`.
    pub mode: String,
    /// Why it is read-only: `config`, `paused`, `masterless`, `unreachable`, `severed` or
    /// `misconfigured`.
    pub reason: Option<String>,
    /// Since when.
    pub since: String,
    /// The cause of a read-only mode in words.
    pub detail: String,
    /// All of it in a sentence or two.
    pub words: String,
    /// What an operator can do about a read-only mode.
    pub advice: Option<String>,
    /// The master, lost or not.
    pub master: Option<String>,
    /// The servers that take reads when the master does not, best first; of those that are lost only where
    /// there is no other.
    pub readers: Vec<String>,
}

/// What a server is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Server {
    /// `host:port`.
    pub name: String,
    /// `master` or `replica`, as configured.
    pub role: String,
    /// Its partition.
    pub partition: String,
    /// Whether it may take traffic, as far as configuration and operators go.
    pub enabled: bool,
    /// Whether it may take traffic, as far as its checks go.
    pub healthy: bool,
    /// `unchecked`, `healthy` or `unhealthy`.
    pub health: String,
    /// The latest checks, oldest first; true is an answer.
    pub history: Vec<bool>,
    /// Failed checks in a row.
    pub failed_in_a_row: u32,
    /// The connection, in words.
    pub connection: String,
    /// How long the last check that got through took, microseconds.
    pub latency_us: Option<u64>,
    /// Replication, in words.
    pub replication: String,
    /// The server that it follows.
    pub source: Option<String>,
    /// How far it is behind, seconds.
    pub behind_s: Option<u64>,
    /// When its data were its master's, as far as it said; that stays while it cannot say.
    pub data_of: Option<String>,
    /// The version, as it says itself.
    pub version: Option<String>,
    /// Whether it refuses writes.
    pub read_only: Option<bool>,
    /// What tells it from every other server.
    pub identity: Option<String>,
    /// The GTIDs that it has executed.
    pub gtids: Option<String>,
    /// When the last check got through.
    pub seen_at: Option<String>,
    /// Why the last check failed; none when it did not.
    pub last_error: Option<String>,
    /// Open connections of failsoft to it, health checks aside.
    pub connections: u64,
    /// What is wrong, and what to do about it.
    pub messages: Vec<String>,
}

impl Server {
    /// How many of the latest checks were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.history.iter().filter(|answered| **answered).count()
    }
}

/// How many clients there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Sessions {
    /// Clients that are logging in.
    pub login: u64,
    /// Clients that are logged in.
    pub open: u64,
    /// Clients whose write waits for the master.
    pub held: u64,
}

/// What happened to statements since the start.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Statements {
    /// Answered.
    pub answered: u64,
    /// Refused by failsoft.
    pub refused: u64,
    /// Reads sent once more, because their server was lost.
    pub retried: u64,
    /// Transactions lost with their server.
    pub transactions_aborted: u64,
    /// Writes sent of which no answer came.
    pub writes_unknown: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// One more than that of the event before; 1 for the first since the start.
    pub number: u64,
    /// Whose doing it was: `cluster` or, of an order that was carried out or refused, `operator`.
    pub origin: String,
    /// When.
    pub at: String,
    /// `info` or `warn`.
    pub severity: String,
    /// What.
    pub text: String,
}

/// What the status is made of, beside the view.
pub(crate) struct Facts<'a> {
    pub(crate) host: &'a str,
    pub(crate) version: &'a str,
    pub(crate) started: SystemTime,
    pub(crate) now: SystemTime,
    pub(crate) ready: bool,
    pub(crate) configuration: Configuration,
    pub(crate) totals: Totals,
    pub(crate) outcomes: &'a [UnknownOutcome],
    pub(crate) events: &'a [Entry],
}

/// How many unknown outcomes the status has.
pub(crate) const OUTCOMES: usize = 20;

impl Status {
    pub(crate) fn new(view: &View, facts: &Facts<'_>) -> Self {
        let Facts { totals, .. } = facts;
        Self {
            host: facts.host.to_owned(),
            version: facts.version.to_owned(),
            started: rfc3339(facts.started),
            uptime_s: facts.now.duration_since(facts.started).unwrap_or_default().as_secs(),
            ready: facts.ready,
            configuration: facts.configuration.clone(),
            partitions: view.partitions.iter().map(|each| partition(view, each)).collect(),
            servers: view
                .servers
                .iter()
                .map(|each| {
                    let connections = totals.connections.get(&each.name).copied();
                    server(view, each, connections.unwrap_or(0))
                })
                .collect(),
            sessions: Sessions {
                login: totals.sessions_login,
                open: totals.sessions_open,
                held: totals.held,
            },
            statements: Statements {
                answered: totals.statements,
                refused: totals.refused,
                retried: totals.retried,
                transactions_aborted: totals.aborted,
                writes_unknown: totals.unknown,
            },
            unknown_outcomes: facts.outcomes.to_vec(),
            events: facts.events.iter().rev().map(event).collect(),
        }
    }

    /// A server's role, with its partition where there are several.
    #[must_use]
    pub fn role_of(&self, server: &Server) -> String {
        match self.partitions.len() {
            0 | 1 => server.role.clone(),
            _ => format!("{} of {}", server.role, server.partition),
        }
    }

    /// Whether every partition takes writes.
    #[must_use]
    pub fn is_read_write(&self) -> bool {
        self.partitions.iter().all(|partition| partition.reason.is_none())
    }
}

fn partition(view: &View, partition: &view::Partition) -> Partition {
    let name = |server: usize| view.servers.get(server).map(|server| server.name.to_string());
    Partition {
        name: partition.name.to_string(),
        mode: partition.mode.to_string(),
        reason: partition.mode.reason().map(|reason| reason.to_string()),
        since: rfc3339(partition.since),
        detail: partition.detail.to_string(),
        words: view.partition_words(partition),
        advice: view.advice(partition).map(str::to_owned),
        master: partition.master.and_then(name),
        readers: view.reading(partition).iter().map(|server| server.name.to_string()).collect(),
    }
}

fn server(view: &View, server: &view::Server, connections: u64) -> Server {
    let seen = server.seen.as_deref();
    let source = seen.and_then(|seen| seen.replication.source());
    let of_seen = |what: fn(&Observation) -> String| seen.map(what);
    Server {
        name: server.name.to_string(),
        role: server.role.to_string(),
        partition: view
            .partitions
            .get(server.partition)
            .map(|p| p.name.to_string())
            .unwrap_or_default(),
        enabled: server.enabled,
        healthy: server.health.is_healthy(),
        health: match server.health.state() {
            State::Unchecked => "unchecked",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
        }
        .to_owned(),
        history: server.health.history().map(|outcome| outcome == Outcome::Answered).collect(),
        failed_in_a_row: server.health.failed_in_a_row(),
        connection: server.connection_words(),
        latency_us: seen.map(|seen| u64::try_from(seen.latency.as_micros()).unwrap_or(u64::MAX)),
        replication: server.replication_words(),
        source: source.map(|source| source.address.clone()),
        behind_s: source.and_then(|source| source.behind_s),
        data_of: server.data_of.map(rfc3339),
        version: of_seen(|seen| seen.version.clone()),
        read_only: seen.map(|seen| seen.read_only),
        identity: of_seen(|seen| seen.identity.clone()),
        gtids: of_seen(|seen| seen.gtids.clone()),
        seen_at: server.seen_at.map(rfc3339),
        last_error: server.failure.as_ref().map(|failure| failure.text.clone()),
        connections,
        messages: server.messages.clone(),
    }
}

/// Milliseconds in words: `420 ms`, `3.1 s`, and from a minute on as [`duration_words`].
#[must_use]
pub fn millis_words(ms: u64) -> String {
    match ms {
        ms if ms < 1000 => format!("{ms} ms"),
        ms if ms < 60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms => duration_words(ms / 1000),
    }
}

/// An event, as the API tells it.
pub(crate) fn event(entry: &Entry) -> Event {
    Event {
        number: entry.number,
        origin: entry.origin.as_str().to_owned(),
        at: rfc3339(entry.at),
        severity: entry.severity.as_str().to_owned(),
        text: entry.text.clone(),
    }
}

/// `2 d 3 h`, `3 h 12 min`, `12 min` or `40 s`.
#[must_use]
pub fn duration_words(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU8;
    use std::time::{Duration, UNIX_EPOCH};

    use control::{Origin, Severity};
    use policy::cluster::{Cluster, Event as Happening};
    use policy::health::HealthParams;
    use policy::observation::{CheckFailure, Replication, Source};
    use policy::topology::{Role, ServerName, ServerSpec, Topology};

    use super::*;

    /// A master that is lost and a replica that is not; the error text has markup in it.
    pub(crate) fn lost_master() -> View {
        let spec = |name, role| ServerSpec {
            name: ServerName::new(name),
            role,
            partition: 0,
            enabled: true,
            weight: 1,
        };
        let topology = Topology {
            servers: vec![spec("db1:3306", Role::Master), spec("db2:3306", Role::Replica)],
            partitions: vec!["default".into()],
            read_only: false,
            master_may_replicate: false,
            health: HealthParams { threshold: NonZeroU8::MIN },
        };
        let mut cluster = Cluster::new(topology, UNIX_EPOCH);
        let source = Source {
            address: "db1:3306".into(),
            receiving: false,
            applying: true,
            behind_s: None,
            delay_s: 0,
            last_error: String::new(),
        };
        let seen = Observation {
            identity: "b".into(),
            version: "10.11.6-MariaDB".into(),
            read_only: true,
            replication: Replication::From(source),
            gtids: "0-1-7".into(),
            latency: Duration::from_micros(420),
            messages: Vec::new(),
        };
        let failure = CheckFailure { text: "<b>refused & gone</b>".into(), is_login: false };
        let at = UNIX_EPOCH + Duration::from_secs(3600);
        cluster.apply(Happening::Checked { server: 0, result: Err(failure) }, at);
        cluster.apply(Happening::Checked { server: 1, result: Ok(seen) }, at);
        cluster.view()
    }

    pub(crate) fn status() -> Status {
        let events =
            [("first", Severity::Info), ("second", Severity::Warn)].map(|(text, severity)| Entry {
                number: 1,
                origin: Origin::Cluster,
                at: UNIX_EPOCH,
                severity,
                text: text.into(),
            });
        let outcome = UnknownOutcome {
            at: rfc3339(UNIX_EPOCH),
            reference: "8f3a1c".into(),
            client: "10.0.0.7".into(),
            user: "app".into(),
            schema: "shop".into(),
            digest: "INSERT INTO `a<b>` VALUES (?)".into(),
            server: "master db1:3306".into(),
            connection: 47,
            cause: "reset".into(),
            gtids: "0-1-7".into(),
        };
        let connections = [(ServerName::new("db1:3306"), 2)].into();
        let facts = Facts {
            host: "app001",
            version: "1.2.3",
            started: UNIX_EPOCH,
            now: UNIX_EPOCH + Duration::from_secs(3725),
            ready: true,
            configuration: Configuration::default(),
            totals: Totals { sessions_open: 3, connections, ..Totals::default() },
            outcomes: &[outcome],
            events: &events,
        };
        Status::new(&lost_master(), &facts)
    }

    #[test]
    fn the_status_says_what_the_view_says() {
        let status = status();
        let [partition] = &status.partitions[..] else { panic!("{:?}", status.partitions) };
        assert_eq!(
            (partition.mode.as_str(), partition.reason.as_deref()),
            ("read-only", Some("severed"))
        );
        assert_eq!(partition.readers, ["db2:3306"]);
        assert!(partition.words.contains("db2:3306") && !status.is_read_write());
        let [master, replica] = &status.servers[..] else { panic!("{:?}", status.servers) };
        assert_eq!((master.connections, replica.connections), (2, 0));
        assert_eq!(
            (master.connection.as_str(), master.history.as_slice()),
            ("Failed", &[false][..])
        );
        assert_eq!((replica.connection.as_str(), replica.latency_us), ("420 µs", Some(420)));
        assert_eq!((replica.source.as_deref(), replica.behind_s), (Some("db1:3306"), None));
        let events: Vec<_> = status.events.iter().map(|event| event.text.as_str()).collect();
        assert_eq!((events, status.uptime_s), (vec!["second", "first"], 3725));
    }

    #[test]
    fn roles_name_the_partition_where_there_are_several() {
        let mut status = status();
        assert_eq!(status.role_of(&status.servers[0]), "master");
        status.partitions.push(status.partitions[0].clone());
        assert_eq!(status.role_of(&status.servers[1]), "replica of default");
    }

    #[test]
    fn the_status_survives_json() {
        let status = status();
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn durations_in_words() {
        let table = [(59, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (190_000, "2 d 4 h")];
        for (seconds, words) in table {
            assert_eq!(duration_words(seconds), words);
        }
    }
}
