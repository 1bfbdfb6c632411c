//! What one core counts with.

use std::cell::RefCell;
use std::sync::{Arc, atomic};
use std::time::{Duration, Instant};

use policy::mode::Reason;
use policy::session::Pins;
use policy::topology::ServerName;
use policy::view::View;
use prometheus::core::{AtomicU64, GenericLocalCounter};
use prometheus::local::LocalHistogram;
use prometheus::{HistogramTimer, IntGauge};
use sql::Kind;

use crate::ledger::{Ledger, UnknownOutcome};
use crate::metrics::{Shared, connection_labels};
use crate::statements::{Local, Seen, Slow, Statements};
use crate::table::{LOGIN_RESULTS, OTHER_REFUSALS};

type LocalCounter = GenericLocalCounter<AtomicU64>;

/// Who answered a statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// The master.
    Master,
    /// A replica, or the master in the part of one.
    Replica,
    /// failsoft itself.
    Own,
}

impl Target {
    /// Every target with its label.
    const ALL: [(Self, &str); 3] =
        [(Self::Master, "master"), (Self::Replica, "replica"), (Self::Own, "own")];

    const fn place(self) -> usize {
        match self {
            Self::Master => 0,
            Self::Replica => 1,
            Self::Own => 2,
        }
    }
}

/// What a session does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionState {
    /// The client is logging in.
    Login,
    /// The client is logged in.
    Open,
}

/// Counters of one core. They reach [`Metrics`](crate::Metrics) by [`WorkerMetrics::flush`] only.
pub struct WorkerMetrics {
    shared: Shared,
    /// For each partition, by class and target, see [`place`].
    statements: RefCell<Vec<(Arc<str>, Vec<LocalCounter>)>>,
    /// By class and target, see [`place`].
    seconds: Vec<LocalHistogram>,
    refused: Vec<(&'static str, LocalCounter)>,
    retried: LocalCounter,
    unknown: LocalCounter,
    ledger: Ledger,
    digests: RefCell<Local>,
    aborted: LocalCounter,
    logins: Vec<(&'static str, LocalCounter)>,
    from_client: LocalCounter,
    to_client: LocalCounter,
    login: IntGauge,
    open: IntGauge,
    held: IntGauge,
    pinned: Vec<(Pins, IntGauge)>,
}

impl std::fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerMetrics").finish_non_exhaustive()
    }
}

/// Where among all of them a class and target are.
fn place(class: Kind, target: Target) -> usize {
    class as usize * Target::ALL.len() + target.place()
}

/// Every class and target, in the order of [`place`].
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let targets =
        |class: &'static Kind| Target::ALL.iter().map(move |(_, target)| (class.name(), *target));
    Kind::ALL.iter().flat_map(targets)
}

impl WorkerMetrics {
    pub(crate) fn new(shared: &Shared, ledger: Ledger, statements: Statements) -> Self {
        let seconds =
            |(class, target)| shared.statement_seconds.with_label_values(&[class, target]).local();
        let words = Reason::ALL.map(Reason::as_str);
        let reasons = words.iter().chain(OTHER_REFUSALS);
        let bytes = |direction| shared.bytes.with_label_values(&[direction]).local();
        let sessions = |state| shared.sessions.with_label_values(&[state]);
        Self {
            shared: shared.clone(),
            statements: RefCell::default(),
            seconds: pairs().map(seconds).collect(),
            refused: reasons
                .map(|reason| (*reason, shared.refused.with_label_values(&[*reason]).local()))
                .collect(),
            retried: shared.retried.local(),
            unknown: shared.unknown.local(),
            ledger,
            digests: RefCell::new(Local::new(statements)),
            aborted: shared.aborted.local(),
            logins: LOGIN_RESULTS
                .iter()
                .map(|result| (*result, shared.logins.with_label_values(&[*result]).local()))
                .collect(),
            from_client: bytes("received"),
            to_client: bytes("sent"),
            login: sessions("login"),
            open: sessions("open"),
            held: shared.held.clone(),
            pinned: Pins::ALL
                .iter()
                .map(|(pin, name, _)| (*pin, shared.pinned.with_label_values(&[*name])))
                .collect(),
        }
    }

    /// Makes the counters of the view's partitions, and lets go of those of others.
    pub fn follow(&self, view: &View) {
        let mut statements = self.statements.borrow_mut();
        let names = || view.partitions.iter().map(|partition| &partition.name);
        if statements.iter().map(|(name, _)| name).eq(names()) {
            return;
        }
        add_up(statements.iter().flat_map(|(_, counters)| counters), &self.shared.sums.statements);
        let counters = |partition: &Arc<str>| {
            let counter = |(class, target)| {
                let labels = &[&**partition, class, target];
                self.shared.statements.with_label_values(labels).local()
            };
            (Arc::clone(partition), pairs().map(counter).collect())
        };
        *statements = names().map(counters).collect();
    }

    /// Counts a statement that a server of this partition answered; `first_byte` is the time to the
    /// answer's first byte.
    pub fn statement(
        &self,
        partition: &Arc<str>,
        class: Kind,
        target: Target,
        first_byte: Duration,
    ) {
        let place = place(class, target);
        let statements = self.statements.borrow();
        // Views of one configuration share the name.
        let is_it = |(name, _): &&(Arc<str>, _)| Arc::ptr_eq(name, partition) || name == partition;
        let counter = statements.iter().find(is_it).and_then(|(_, counters)| counters.get(place));
        if let (Some(counter), Some(seconds)) = (counter, self.seconds.get(place)) {
            counter.inc();
            seconds.observe(first_byte.as_secs_f64());
        }
    }

    /// Whether a statement that came at `now` is to be looked at for the list of statements, of which so
    /// many a second are; then how many it stands for.
    pub fn is_looked_at(&self, now: Instant, per_second: u32) -> Option<u64> {
        self.digests.borrow_mut().sampler.take(now, per_second)
    }

    /// Enters a statement in the list of statements.
    pub fn digest(&self, seen: Seen<'_>) {
        self.digests.borrow_mut().enter(seen);
    }

    /// Keeps a statement that took long, and logs it; of very many not each.
    pub fn slow(&self, slow: Slow, now: Instant) {
        self.digests.borrow().enter_slow(slow, now);
    }

    /// Counts a refused statement: a word of [`Reason`] or of
    /// [`OTHER_REFUSALS`](crate::table::OTHER_REFUSALS); others are not counted.
    pub fn refused(&self, reason: &'static str) {
        count(&self.refused, reason);
    }

    /// Counts a read sent once more.
    pub fn retried(&self) {
        self.retried.inc();
    }

    /// Counts a write of unknown outcome, and enters it in the ledger and the log.
    pub fn unknown(&self, outcome: UnknownOutcome) {
        self.unknown.inc();
        self.ledger.enter(outcome);
    }

    /// Counts a transaction lost before its COMMIT was sent.
    pub fn aborted(&self) {
        self.aborted.inc();
    }

    /// Counts a login: a word of [`LOGIN_RESULTS`](crate::table::LOGIN_RESULTS); others are not
    /// counted.
    pub fn login(&self, result: &'static str) {
        count(&self.logins, result);
    }

    /// Counts bytes exchanged with a client.
    pub fn bytes(&self, from_client: usize, to_client: usize) {
        self.from_client.inc_by(u64::try_from(from_client).unwrap_or(u64::MAX));
        self.to_client.inc_by(u64::try_from(to_client).unwrap_or(u64::MAX));
    }

    /// Counts a session, in [`SessionState::Login`], for as long as the guard lives.
    #[must_use = "the session is counted only while the guard lives"]
    pub fn session(&self) -> SessionGuard {
        self.login.inc();
        let (login, open) = (self.login.clone(), self.open.clone());
        SessionGuard { login, open, state: SessionState::Login }
    }

    /// Counts a connection to a server for as long as the guard lives.
    #[must_use = "the connection is counted only while the guard lives"]
    pub fn connection(&self, server: &ServerName) -> ConnectionGuard {
        let [open, idle] = connection_labels(server)
            .map(|labels| self.shared.connections.with_label_values(&labels));
        open.inc();
        ConnectionGuard { open, idle, rests: false }
    }

    /// Counts a write that waits for the master for as long as the guard lives.
    #[must_use = "the write is counted only while the guard lives"]
    pub fn held(&self) -> HeldGuard {
        self.held.inc();
        HeldGuard(self.held.clone())
    }

    /// Counts a statement that waits for a connection for as long as the guard lives, and how long that
    /// was.
    #[must_use = "the statement is counted only while the guard lives"]
    pub fn waiting(&self) -> WaitingGuard {
        let Shared { waiting, wait_seconds, .. } = &self.shared;
        waiting.inc();
        let timer = wait_seconds.start_timer();
        WaitingGuard { waiting: waiting.clone(), _timer: timer }
    }

    /// Enters that a session was pinned by `old` and is pinned by `new`; a session that ends enters
    /// [`Pins::NONE`].
    pub fn pinned(&self, old: Pins, new: Pins) {
        if old == new {
            return;
        }
        for (pin, gauge) in &self.pinned {
            match (old.contains(*pin), new.contains(*pin)) {
                (false, true) => gauge.inc(),
                (true, false) => gauge.dec(),
                _ => {}
            }
        }
    }

    /// Adds what was counted since the last call to the registry.
    pub fn flush(&self) {
        let sums = &self.shared.sums;
        let statements = self.statements.borrow();
        add_up(statements.iter().flat_map(|(_, counters)| counters), &sums.statements);
        add_up(self.refused.iter().map(|(_, counter)| counter), &sums.refused);
        self.seconds.iter().for_each(LocalHistogram::flush);
        self.logins.iter().for_each(|(_, counter)| counter.flush());
        let single =
            [&self.retried, &self.unknown, &self.aborted, &self.from_client, &self.to_client];
        single.into_iter().for_each(LocalCounter::flush);
        self.digests.borrow_mut().flush();
    }
}

/// Adds what these counted to the registry, and to the sum of all of them.
fn add_up<'a>(counters: impl Iterator<Item = &'a LocalCounter>, sum: &atomic::AtomicU64) {
    for counter in counters {
        sum.fetch_add(counter.get(), atomic::Ordering::Relaxed);
        counter.flush();
    }
}

/// The lists are short: comparing a few words costs less than hashing one.
fn count(counters: &[(&'static str, LocalCounter)], word: &str) {
    if let Some((_, counter)) = counters.iter().find(|(name, _)| *name == word) {
        counter.inc();
    }
}

/// A session that is being counted.
#[derive(Debug)]
pub struct SessionGuard {
    login: IntGauge,
    open: IntGauge,
    state: SessionState,
}

impl SessionGuard {
    /// The session is in another state now.
    pub fn set(&mut self, state: SessionState) {
        if self.state != state {
            self.gauge().dec();
            self.state = state;
            self.gauge().inc();
        }
    }

    fn gauge(&self) -> &IntGauge {
        match self.state {
            SessionState::Login => &self.login,
            SessionState::Open => &self.open,
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.gauge().dec();
    }
}

/// A write that waits and is being counted.
#[derive(Debug)]
pub struct HeldGuard(IntGauge);

impl Drop for HeldGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A statement that is counted as waiting for a connection.
#[derive(Debug)]
pub struct WaitingGuard {
    waiting: IntGauge,
    /// Observes how long it was when it is dropped.
    _timer: HistogramTimer,
}

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        self.waiting.dec();
    }
}

/// A connection that is being counted.
#[derive(Debug)]
pub struct ConnectionGuard {
    open: IntGauge,
    idle: IntGauge,
    rests: bool,
}

impl ConnectionGuard {
    /// It belongs to no session from now on.
    pub fn rest(&mut self) {
        self.enter(true);
    }

    /// It belongs to a session from now on.
    pub fn wake(&mut self) {
        self.enter(false);
    }

    fn enter(&mut self, rests: bool) {
        self.gauge().dec();
        self.rests = rests;
        self.gauge().inc();
    }

    fn gauge(&self) -> &IntGauge {
        if self.rests { &self.idle } else { &self.open }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.gauge().dec();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;
    use std::time::UNIX_EPOCH;

    use policy::cluster::Cluster;
    use policy::health::HealthParams;
    use policy::topology::{Role, ServerSpec, Topology};

    use super::*;
    use crate::Metrics;

    /// A view with one server, `db1:3306`, and these partitions.
    fn view(partitions: &[&str]) -> View {
        let name = ServerName::new("db1:3306");
        let spec = ServerSpec { name, role: Role::Master, partition: 0, enabled: true, weight: 1 };
        let topology = Topology {
            servers: vec![spec],
            partitions: partitions.iter().map(|name| (*name).into()).collect(),
            read_only: false,
            master_may_replicate: false,
            health: HealthParams { threshold: NonZeroU8::MIN },
        };
        Cluster::new(topology, UNIX_EPOCH).view()
    }

    fn metrics() -> Metrics {
        let metrics = Metrics::new().unwrap();
        metrics.observe(&view(&["default", "blog"]));
        metrics
    }

    fn outcome() -> UnknownOutcome {
        UnknownOutcome {
            at: "2026-11-22T10:00:00Z".to_owned(),
            reference: "8f3a1c".to_owned(),
            client: String::new(),
            user: String::new(),
            schema: String::new(),
            digest: String::new(),
            server: String::new(),
            connection: 1,
            cause: String::new(),
            gtids: String::new(),
        }
    }

    fn shows(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|shown| shown == line)
    }

    #[test]
    fn counts_reach_the_registry_by_flush_only() {
        let metrics = metrics();
        let worker = metrics.worker();
        worker.follow(&view(&["default", "blog"]));
        let [default, blog, gone] = ["default", "blog", "gone"].map(Arc::from);
        worker.statement(&default, Kind::Write, Target::Master, Duration::from_micros(150));
        worker.statement(&blog, Kind::Read, Target::Own, Duration::from_millis(3));
        worker.statement(&gone, Kind::Read, Target::Own, Duration::from_millis(3));
        worker.refused("severed");
        worker.refused("tied");
        worker.refused("no such reason");
        worker.login("ok");
        worker.bytes(10, 20);
        worker.retried();
        worker.unknown(outcome());
        worker.aborted();
        assert_eq!(metrics.totals().statements, 0);
        worker.flush();
        let totals = metrics.totals();
        assert_eq!((totals.statements, totals.refused), (2, 2));
        assert_eq!((totals.retried, totals.unknown, totals.aborted), (1, 1, 1));
        assert_eq!(metrics.ledger().all(), [outcome()]);
        let lines = [
            "failsoft_statements_total{class=\"write\",partition=\"default\",target=\"master\"} 1",
            "failsoft_statement_seconds_bucket{class=\"write\",target=\"master\",le=\"0.0001\"} 0",
            "failsoft_statement_seconds_bucket{class=\"write\",target=\"master\",le=\"0.0002\"} 1",
            "failsoft_statements_total{class=\"read\",partition=\"blog\",target=\"own\"} 1",
            "failsoft_statements_refused_total{reason=\"severed\"} 1",
            "failsoft_statements_refused_total{reason=\"config\"} 0",
            "failsoft_logins_total{result=\"ok\"} 1",
            "failsoft_client_bytes_total{direction=\"received\"} 10",
            "failsoft_client_bytes_total{direction=\"sent\"} 20",
        ];
        for line in lines {
            assert!(shows(&metrics, line), "{line}\n{}", metrics.render());
        }
    }

    #[test]
    fn every_class_and_target_is_where_its_place_says() {
        for (class_at, class) in Kind::ALL.into_iter().enumerate() {
            for (target_at, (target, _)) in Target::ALL.into_iter().enumerate() {
                assert_eq!(place(class, target), class_at * Target::ALL.len() + target_at);
            }
        }
    }

    #[test]
    fn gauges_are_right_on_every_way_out() {
        let metrics = metrics();
        let worker = metrics.worker();
        let mut session = worker.session();
        let second = worker.session();
        let name = ServerName::new("db1:3306");
        let connection = worker.connection(&name);
        let held = worker.held();
        assert_eq!(metrics.totals().held, 1);
        session.set(SessionState::Open);
        session.set(SessionState::Open);
        let totals = metrics.totals();
        assert_eq!((totals.sessions_login, totals.sessions_open), (1, 1));
        assert_eq!(totals.connections[&name], 1);
        drop((session, second, connection, held));
        let totals = metrics.totals();
        assert_eq!((totals.sessions_login, totals.sessions_open), (0, 0));
        assert_eq!((totals.connections[&name], totals.held), (0, 0));
    }

    #[test]
    fn series_follow_the_configuration() {
        let metrics = metrics();
        let worker = metrics.worker();
        worker.follow(&view(&["default", "blog"]));
        let blog = Arc::from("blog");
        worker.statement(&blog, Kind::Read, Target::Own, Duration::from_millis(3));
        metrics.observe(&view(&["default"]));
        worker.follow(&view(&["default"]));
        let text = metrics.render();
        assert!(!text.contains("failsoft_partition_mode{partition=\"blog\""), "{text}");
        let counted =
            "failsoft_statements_total{class=\"read\",partition=\"blog\",target=\"own\"} 1";
        assert!(shows(&metrics, counted), "what was counted is not lost\n{text}");
        let connection = worker.connection(&ServerName::new("db1:3306"));
        metrics.observe(&View::default());
        drop(connection);
        let text = metrics.render();
        assert!(!text.contains("db1:3306") && metrics.totals().connections.is_empty(), "{text}");
    }

    #[test]
    fn pins_are_counted_by_difference() {
        let metrics = metrics();
        let worker = metrics.worker();
        let both = Pins::USER_LOCK.with(Pins::HANDLER);
        worker.pinned(Pins::NONE, both);
        worker.pinned(both, Pins::HANDLER.with(Pins::CURSOR));
        for (cause, value) in [("user_lock", 0), ("handler", 1), ("cursor", 1), ("xa", 0)] {
            let line = format!("failsoft_sessions_pinned{{cause=\"{cause}\"}} {value}");
            assert!(shows(&metrics, &line), "{line}");
        }
    }
}
