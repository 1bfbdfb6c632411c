//! The state of the cluster, and how checks, the configuration and operators change it.
//!
//! [`Cluster`] is a state machine: [`Event`]s go in, [`Change`]s worth a log line come out, and
//! [`Cluster::view`] is the snapshot for everyone else. What a partition can do is computed anew
//! from the servers' states after every event, by [`decide`], first match wins:
//!
//! | condition | mode |
//! | --- | --- |
//! | asked for, by configuration or operator | read-only, `config` |
//! | an operator holds writes back | read-only, `paused`: writes wait, transactions that are open go on |
//! | no enabled master | read-only, `masterless` |
//! | the master replicates, has read_only on, or a second enabled master is writable | read-only, `misconfigured` |
//! | the master is unhealthy | read-only, `severed` |
//! | a session could not reach it, and nobody has since | read-only, `unreachable`: every statement tries it all the same |
//! | otherwise | read-write |

mod orders;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::orders::Asked;
use crate::health::{Health, HealthParams, Outcome, State};
use crate::mode::{Mode, Reason};
use crate::observation::{CheckFailure, Observation, Replication, Source};
use crate::topology::{Role, ServerId, ServerName, ServerSpec, Topology};
use crate::utc::time_of_day;
use crate::view::{Partition, Reader, SLOW_S, Server, View};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A check of a server ended.
    Checked {
        /// The server, an index into [`Topology::servers`].
        server: usize,
        /// What it saw, or why it failed.
        result: Result<Observation, CheckFailure>,
    },
    /// A session told what it met.
    Reported(Report),
    /// An operator switches read-only mode on, or undoes that.
    SetReadOnly {
        /// The partition, an index into [`Topology::partitions`]; all where there is none.
        partition: Option<usize>,
        /// Whether it is on.
        on: bool,
    },
    /// An operator has writes wait, or undoes that.
    SetPaused {
        /// The partition, an index into [`Topology::partitions`]; all where there is none.
        partition: Option<usize>,
        /// How long a write may wait; none when writes wait no longer.
        hold: Option<Duration>,
    },
    /// An operator takes a server out, or undoes that.
    SetEnabled {
        /// The server.
        server: usize,
        /// Whether it may take traffic, as far as operators go.
        enabled: bool,
    },
    /// The configuration was read again.
    Reload {
        /// What it says now.
        topology: Box<Topology>,
        /// The number of this configuration, see [`View::generation`].
        generation: u64,
        /// What servers were found to be just now; their indices are those of the new topology. Of
        /// a server that is known a failure does not count: however often the configuration is read,
        /// it is for the regular checks to say that a server is lost.
        checked: Vec<(usize, Result<Observation, CheckFailure>)>,
    },
}

/// What sessions tell of the servers that they meet between the checks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Report {
    /// The presumed master refused a write because it is read-only (its own 1290).
    RefusedWrite {
        /// The server.
        server: ServerId,
    },
    /// The master could not be reached for a statement.
    Unreachable {
        /// The server.
        server: ServerId,
        /// Why not.
        cause: String,
    },
    /// It could be reached again.
    Reached {
        /// The server.
        server: ServerId,
    },
}

impl Report {
    /// The server it is about.
    #[must_use]
    pub fn server(&self) -> ServerId {
        match self {
            Self::RefusedWrite { server }
            | Self::Unreachable { server, .. }
            | Self::Reached { server } => *server,
        }
    }
}

/// A change worth a log line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A server may get traffic, or may no longer.
    Health {
        /// The server.
        server: ServerName,
        /// Whether it may get traffic.
        healthy: bool,
        /// The last failure, when it may not.
        cause: String,
    },
    /// Another server answers at a configured address.
    Identity {
        /// The server.
        server: ServerName,
        /// Who it was.
        was: String,
        /// Who it is.
        is: String,
    },
    /// A partition changed its mode.
    Mode {
        /// The partition.
        partition: Arc<str>,
        /// The new mode.
        mode: Mode,
        /// Its cause.
        detail: Arc<str>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Health { server, healthy: true, .. } => write!(f, "server {server} is healthy"),
            Self::Health { server, cause, .. } => {
                write!(f, "server {server} is unhealthy: {cause}")
            }
            Self::Identity { server, was, is } => {
                write!(f, "another server answers at {server}: it was {was}, it is {is}")
            }
            Self::Mode { partition, mode: Mode::ReadWrite, .. } => {
                write!(f, "partition {partition} is read-write")
            }
            Self::Mode { partition, mode: Mode::ReadOnly(reason), detail } => {
                write!(f, "partition {partition} is read-only: {reason}, {detail}")
            }
        }
    }
}

/// What is remembered of one server.
#[derive(Clone, Debug)]
struct ServerState {
    id: ServerId,
    /// The configuration and the operators let it take traffic.
    enabled: bool,
    /// An operator took it out.
    held_out: bool,
    health: Health,
    incarnation: u64,
    seen: Option<Arc<Observation>>,
    seen_at: Option<SystemTime>,
    failure: Option<Arc<CheckFailure>>,
    /// The delay when replication last ran, seconds: what ranks replicas once the master is dead
    /// and the servers themselves no longer know.
    last_behind_s: Option<u64>,
    /// When its data were the master's, as far as it said.
    data_of: Option<SystemTime>,
    /// Why a session could not reach the server since the last check that got through.
    unreachable: Option<String>,
}

impl ServerState {
    /// A server that nothing is known of.
    fn new(id: ServerId) -> Self {
        Self {
            id,
            enabled: false,
            held_out: false,
            health: Health::default(),
            incarnation: 0,
            seen: None,
            seen_at: None,
            failure: None,
            last_behind_s: None,
            data_of: None,
            unreachable: None,
        }
    }

    /// Lets it take traffic, or not. What its checks said grows old while there are none.
    fn set_enabled(&mut self, enabled: bool) {
        if self.enabled && !enabled {
            self.health = Health::default();
            self.failure = None;
            self.unreachable = None;
        }
        self.enabled = enabled;
    }
}

/// What is remembered of one partition.
#[derive(Clone, Debug)]
struct PartitionState {
    asked: Asked,
    mode: Mode,
    /// The mode that was told last; none before anything is known of the partition.
    told: Option<Mode>,
    since: SystemTime,
    detail: Arc<str>,
    epoch: u64,
    /// Who the master was: its place, identity, and whether it could be written to by rights.
    mastery: Mastery,
}

/// What must stay the same for connections to a master to stay good for writes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Mastery {
    server: Option<ServerId>,
    incarnation: u64,
    replicates: bool,
}

/// The cluster: the configuration and all that is known of its servers.
#[derive(Clone, Debug)]
pub struct Cluster {
    topology: Topology,
    servers: Vec<ServerState>,
    partitions: Vec<PartitionState>,
    /// What operators asked of all partitions, those to come included.
    asked: Asked,
    generation: u64,
    /// The next server that was never seen before.
    next_server: u32,
    /// The latest epoch of any partition.
    last_epoch: u64,
}

impl PartitionState {
    /// A partition that nothing is known of.
    fn new(asked: Asked, now: SystemTime) -> Self {
        Self {
            asked,
            mode: Mode::ReadOnly(Reason::Severed),
            told: None,
            since: now,
            detail: "no check has ended yet".into(),
            epoch: 0,
            mastery: Mastery::default(),
        }
    }
}

impl Cluster {
    /// A cluster of which only the configuration is known.
    #[must_use]
    pub fn new(topology: Topology, now: SystemTime) -> Self {
        // Taken over from a configuration without servers.
        let mut cluster = Self {
            topology: Topology {
                servers: Vec::new(),
                partitions: Vec::new(),
                read_only: topology.read_only,
                master_may_replicate: topology.master_may_replicate,
                health: topology.health,
            },
            servers: Vec::new(),
            partitions: Vec::new(),
            asked: Asked::default(),
            generation: 0,
            next_server: 0,
            last_epoch: 0,
        };
        cluster.take_over(topology, now);
        cluster.settle(now, None);
        cluster
    }

    /// Takes in what happened at `now`; tells what changed by it.
    pub fn apply(&mut self, event: Event, now: SystemTime) -> Vec<Change> {
        let mut changes = Vec::new();
        match event {
            Event::Checked { server, result } => self.checked(server, result, now, &mut changes),
            Event::Reported(report) => self.reported(report),
            Event::SetReadOnly { partition, on } => {
                self.ask(partition, |asked| asked.read_only = on);
            }
            Event::SetPaused { partition, hold } => self.ask(partition, |asked| asked.hold = hold),
            Event::SetEnabled { server, enabled } => self.set_enabled(server, enabled),
            Event::Reload { topology, generation, checked } => {
                self.generation = generation;
                self.take_over(*topology, now);
                for (server, result) in checked {
                    self.looked_at(server, result, now, &mut changes);
                }
            }
        }
        self.settle(now, Some(&mut changes));
        changes
    }

    /// A check for the sake of another configuration: it tells what there is to be known, and is
    /// none of those that a healthy server has to fail in a row.
    fn looked_at(
        &mut self,
        server: usize,
        result: Result<Observation, CheckFailure>,
        now: SystemTime,
        changes: &mut Vec<Change>,
    ) {
        let Some(state) = self.servers.get(server) else { return };
        match (state.health.state(), result) {
            (State::Unchecked, result) => self.checked(server, result, now, changes),
            (_, Ok(seen)) if state.enabled => self.seen(server, seen, now, changes),
            _ => {}
        }
    }

    fn checked(
        &mut self,
        server: usize,
        result: Result<Observation, CheckFailure>,
        now: SystemTime,
        changes: &mut Vec<Change>,
    ) {
        let params: HealthParams = self.topology.health;
        let Some(state) = self.servers.get_mut(server) else { return };
        // A check that was under way when the server was disabled: nobody looks after it now.
        if !state.enabled {
            return;
        }
        let was = state.health.state();
        let outcome = if result.is_ok() { Outcome::Answered } else { Outcome::Failed };
        state.health = state.health.after(outcome, now, params);
        let (is, healthy) = (state.health.state(), state.health.is_healthy());
        match result {
            Ok(seen) => self.seen(server, seen, now, changes),
            Err(failure) => state.failure = Some(Arc::new(failure)),
        }
        let (Some(state), Some(spec)) =
            (self.servers.get_mut(server), self.topology.servers.get(server))
        else {
            return;
        };
        if is != was {
            if !healthy {
                state.incarnation += 1;
            }
            let cause = state.failure.as_ref().map_or_else(String::new, |f| f.text.clone());
            changes.push(Change::Health { server: spec.name.clone(), healthy, cause });
        }
    }

    /// A check got through.
    fn seen(
        &mut self,
        server: usize,
        seen: Observation,
        now: SystemTime,
        changes: &mut Vec<Change>,
    ) {
        let (Some(state), Some(spec)) =
            (self.servers.get_mut(server), self.topology.servers.get(server))
        else {
            return;
        };
        if let Some(before) = &state.seen
            && before.identity != seen.identity
        {
            state.incarnation += 1;
            (state.last_behind_s, state.data_of) = (None, None);
            changes.push(Change::Identity {
                server: spec.name.clone(),
                was: before.identity.clone(),
                is: seen.identity.clone(),
            });
        }
        if let Replication::From(Source { behind_s: Some(behind_s), .. }) = seen.replication {
            state.last_behind_s = Some(behind_s);
            state.data_of = now.checked_sub(Duration::from_secs(behind_s));
        }
        state.seen = Some(Arc::new(seen));
        state.seen_at = Some(now);
        state.failure = None;
        state.unreachable = None;
    }

    /// The next check will tell whether it is still so.
    fn reported(&mut self, report: Report) {
        let id = report.server();
        let Some(state) = self.servers.iter_mut().find(|state| state.id == id) else { return };
        match report {
            Report::RefusedWrite { .. } => {
                if let Some(seen) = &state.seen {
                    let seen = Observation { read_only: true, ..(**seen).clone() };
                    state.seen = Some(Arc::new(seen));
                }
            }
            Report::Unreachable { cause, .. } => state.unreachable = Some(cause),
            Report::Reached { .. } => state.unreachable = None,
        }
    }

    /// Computes the partitions anew.
    fn settle(&mut self, now: SystemTime, mut changes: Option<&mut Vec<Change>>) {
        for at in 0..self.partitions.len() {
            let master = self.master(at);
            let mastery = self.mastery(master);
            let (mode, detail) = self.decide(at, master);
            let checked = |server: &ServerState| server.health.state() != State::Unchecked;
            let known = master.and_then(|at| self.servers.get(at)).is_none_or(checked)
                || mode != Mode::ReadOnly(Reason::Severed);
            let (Some(state), Some(name)) =
                (self.partitions.get_mut(at), self.topology.partitions.get(at))
            else {
                continue;
            };
            if state.mastery != mastery {
                state.mastery = mastery;
                self.last_epoch += 1;
                state.epoch = self.last_epoch;
            }
            let detail: Arc<str> = detail.into();
            if state.mode != mode {
                state.since = now;
            }
            if let Some(changes) = changes.as_deref_mut().filter(|_| known)
                && state.told != Some(mode)
            {
                state.told = Some(mode);
                changes.push(Change::Mode {
                    partition: Arc::clone(name),
                    mode,
                    detail: Arc::clone(&detail),
                });
            }
            state.mode = mode;
            state.detail = detail;
        }
    }

    /// The first enabled master of a partition.
    fn master(&self, partition: usize) -> Option<usize> {
        self.masters(partition).next()
    }

    fn masters(&self, partition: usize) -> impl Iterator<Item = usize> {
        let servers = self.topology.servers.iter().zip(&self.servers).enumerate();
        servers
            .filter(move |(_, (spec, state))| {
                spec.partition == partition && spec.role == Role::Master && state.enabled
            })
            .map(|(at, _)| at)
    }

    fn mastery(&self, master: Option<usize>) -> Mastery {
        let state = master.and_then(|at| self.servers.get(at));
        Mastery {
            server: state.map(|state| state.id),
            incarnation: state.map_or(0, |state| state.incarnation),
            replicates: state.is_some_and(|state| self.replicates(state).is_some()),
        }
    }

    /// The source of a server that replicates, unless masters may.
    fn replicates<'a>(&self, state: &'a ServerState) -> Option<&'a Source> {
        match &state.seen.as_ref()?.replication {
            Replication::From(source) if !self.topology.master_may_replicate => Some(source),
            _ => None,
        }
    }

    /// What a partition can do, and the cause in words when that is not everything.
    fn decide(&self, partition: usize, master: Option<usize>) -> (Mode, String) {
        let read_only = |reason, detail| (Mode::ReadOnly(reason), detail);
        if self.topology.read_only {
            return read_only(Reason::Config, "read_only is set in the configuration".to_owned());
        }
        if self.is_asked_read_only(partition) {
            return read_only(Reason::Config, "switched on by an operator".to_owned());
        }
        if self.hold(partition).is_some() {
            return read_only(Reason::Paused, "an operator holds writes back".to_owned());
        }
        let Some(master) = master else {
            return read_only(Reason::Masterless, "no enabled master is configured".to_owned());
        };
        let (Some(spec), Some(state)) =
            (self.topology.servers.get(master), self.servers.get(master))
        else {
            return read_only(Reason::Masterless, "no enabled master is configured".to_owned());
        };
        let name = &spec.name;
        if let Some(cause) = self.misconfiguration(partition, master, state) {
            return read_only(Reason::Misconfigured, format!("master {name} {cause}"));
        }
        if !state.health.is_healthy() {
            return read_only(Reason::Severed, format!("master {name} {}", severance(state)));
        }
        if let Some(cause) = &state.unreachable {
            let detail = format!("master {name} could not be reached: {cause}");
            return read_only(Reason::Unreachable, detail);
        }
        (Mode::ReadWrite, String::new())
    }

    fn misconfiguration(
        &self,
        partition: usize,
        master: usize,
        state: &ServerState,
    ) -> Option<String> {
        if let Some(source) = self.replicates(state) {
            return Some(format!("replicates from {}", source.address));
        }
        if state.seen.as_ref().is_some_and(|seen| seen.read_only) {
            return Some("has read_only on".to_owned());
        }
        let second = self.masters(partition).find(|at| {
            *at != master
                && self.servers.get(*at).is_some_and(|other| {
                    other.health.is_healthy()
                        && other.seen.as_ref().is_some_and(|seen| !seen.read_only)
                })
        })?;
        let name = &self.topology.servers.get(second)?.name;
        Some(format!("is not the only one: {name} is enabled as a master and writable too"))
    }

    /// The servers that can take reads when the master does not, best first.
    fn readers(&self, partition: usize, master: Option<usize>) -> Vec<Reader> {
        let master_healthy = master
            .and_then(|at| self.servers.get(at))
            .is_some_and(|state| state.health.is_healthy());
        let mine = || {
            let servers = self.topology.servers.iter().zip(&self.servers).enumerate();
            servers.filter(move |(_, (spec, state))| spec.partition == partition && state.enabled)
        };
        // Reads go on as long as one server answers: where none is healthy, those that answered
        // their last check serve reads while they are being watched.
        let none_healthy = !mine().any(|(_, (_, state))| state.health.is_healthy());
        let mut readers: Vec<Reader> = mine()
            .filter(|(_, (_, state))| {
                let answers = state.failure.is_none() && state.seen.is_some();
                state.health.is_healthy() || (none_healthy && answers)
            })
            .map(|(server, (spec, state))| Reader {
                server,
                grade: match spec.role {
                    Role::Replica => grade(state, master_healthy),
                    Role::Master => MASTER_GRADE,
                },
                weight: spec.weight,
            })
            .collect();
        // Stable: the order of the configuration decides among equals.
        readers.sort_by_key(|reader| (reader.grade, std::cmp::Reverse(reader.weight)));
        readers
    }

    /// The snapshot for everyone else.
    #[must_use]
    pub fn view(&self) -> View {
        let servers = self
            .topology
            .servers
            .iter()
            .zip(&self.servers)
            .map(|(spec, state)| Server {
                id: state.id,
                name: spec.name.clone(),
                role: spec.role,
                partition: spec.partition,
                enabled: state.enabled,
                held_out: state.held_out,
                health: state.health,
                incarnation: state.incarnation,
                seen: state.seen.clone(),
                seen_at: state.seen_at,
                data_of: state.data_of,
                failure: state.failure.clone(),
                messages: self.messages(spec, state),
            })
            .collect();
        let partitions = self
            .partitions
            .iter()
            .zip(&self.topology.partitions)
            .enumerate()
            .map(|(at, (state, name))| {
                let master = self.master(at);
                Partition {
                    name: Arc::clone(name),
                    mode: state.mode,
                    since: state.since,
                    detail: Arc::clone(&state.detail),
                    master,
                    epoch: state.epoch,
                    hold: self.hold(at),
                    readers: self.readers(at, master),
                }
            })
            .collect();
        View { generation: self.generation, servers, partitions }
    }

    fn messages(&self, spec: &ServerSpec, state: &ServerState) -> Vec<String> {
        let mut messages = Vec::new();
        let role = spec.role;
        if !state.enabled {
            let by = if spec.enabled { " by an operator" } else { "" };
            messages.push(format!("disabled{by}: it gets no traffic"));
        }
        if let Some(failure) = &state.failure {
            messages.push(failure.text.clone());
        }
        if state.health.state() == State::Unhealthy {
            messages.push(
                "UNHEALTHY: this database has failed recent health checks; traffic will not be \
                 sent to it until it recovers"
                    .to_owned(),
            );
        }
        // What was seen of a disabled server is of long ago.
        let Some(seen) = state.seen.as_ref().filter(|_| state.enabled) else { return messages };
        messages.extend(seen.messages.iter().cloned());
        match (&seen.replication, role) {
            (Replication::From(source), Role::Master) if !self.topology.master_may_replicate => {
                messages.push(format!(
                    "this master replicates from {}; writes are refused until it does not \
                     (or set master_may_replicate: true)",
                    source.address
                ));
            }
            (Replication::None, Role::Replica) => {
                messages.push("this replica follows no server: its data does not move".to_owned());
            }
            (Replication::From(source), Role::Replica) => messages.extend(replica_message(source)),
            _ => {}
        }
        messages
    }
}

fn replica_message(source: &Source) -> Option<String> {
    if !source.last_error.is_empty() {
        return Some(format!("replication: {}", source.last_error));
    }
    match source.behind_s {
        Some(s) if s > SLOW_S => {
            Some(format!("{s} s behind: data written since then is at risk with the master"))
        }
        _ => None,
    }
}

/// Why a master is severed, in words.
fn severance(state: &ServerState) -> String {
    match (&state.failure, state.health.failing_since()) {
        (Some(failure), Some(since)) => {
            let count = state.health.failed_in_a_row();
            let checks = if count == 1 { "check" } else { "checks" };
            let since = time_of_day(since);
            format!("failed {count} {checks} since {since}, last error {}", failure.text)
        }
        (None, _) if state.health.state() == State::Unhealthy => {
            "answers again and is being watched before it is trusted".to_owned()
        }
        _ => "has not been checked yet".to_owned(),
    }
}

/// Replicas within this many seconds of each other are equally fresh.
const SAME_AGE: Duration = Duration::from_secs(5);

/// The master takes reads only when no replica is left.
const MASTER_GRADE: u64 = u64::MAX;

/// How good a healthy replica is for reads; lower is better. First whether it is a replica, runs,
/// is not delayed on purpose and is not slow; then its age, in steps of [`SAME_AGE`].
fn grade(state: &ServerState, master_healthy: bool) -> u64 {
    const STEP: u64 = 1 << 40;
    let Some(seen) = &state.seen else { return 5 * STEP };
    let source = match &seen.replication {
        Replication::Hidden => return 0,
        Replication::None => return 5 * STEP,
        Replication::From(source) => source,
    };
    // With the master dead no replica receives: that is normal and says nothing against it.
    let runs = source.applying && (source.receiving || !master_healthy);
    let behind_s = source.behind_s.or(state.last_behind_s).unwrap_or(0);
    let fault = match () {
        () if !runs => 4,
        () if source.delay_s > 0 => 3,
        () if behind_s > SLOW_S => 2,
        () => 0,
    };
    fault * STEP + (behind_s / SAME_AGE.as_secs()).min(STEP - 1)
}
