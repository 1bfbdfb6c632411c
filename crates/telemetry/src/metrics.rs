//! The registry.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::mode::Reason;
use policy::topology::ServerName;
use policy::view::View;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::ledger::Ledger;
use crate::panics::Panics;
use crate::statements::Statements;
use crate::table::{CHECK_BUCKETS, METRICS, RELOAD_RESULTS, STATEMENT_BUCKETS};
use crate::worker::WorkerMetrics;

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    pub(crate) shared: Shared,
    ledger: Ledger,
    panics: Panics,
    statements: Statements,
    /// What the latest view had: the series of what is gone are removed.
    known: Mutex<Known>,
    server_up: IntGaugeVec,
    server_healthy: IntGaugeVec,
    server_check: HistogramVec,
    partition_mode: IntGaugeVec,
    replication_delay: IntGaugeVec,
    configuration_valid: IntGauge,
    reloads: IntCounterVec,
}

/// Names that there are series for.
#[derive(Debug, Default, Eq, PartialEq)]
struct Known {
    servers: Vec<ServerName>,
    partitions: Vec<Arc<str>>,
}

/// What workers count into.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) statements: IntCounterVec,
    pub(crate) statement_seconds: HistogramVec,
    pub(crate) refused: IntCounterVec,
    pub(crate) retried: IntCounter,
    pub(crate) unknown: IntCounter,
    pub(crate) aborted: IntCounter,
    pub(crate) logins: IntCounterVec,
    pub(crate) bytes: IntCounterVec,
    pub(crate) sessions: IntGaugeVec,
    pub(crate) pinned: IntGaugeVec,
    pub(crate) held: IntGauge,
    pub(crate) waiting: IntGauge,
    pub(crate) wait_seconds: Histogram,
    pub(crate) connections: IntGaugeVec,
    /// What all series of statements, and of refusals, come to.
    pub(crate) sums: Arc<Sums>,
}

/// Sums that are asked for more often than it is cheap to add up their series.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) statements: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// Sums for people, read at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Clients that are logging in.
    pub sessions_login: u64,
    /// Clients that are logged in.
    pub sessions_open: u64,
    /// Writes that wait.
    pub held: u64,
    /// Open connections to each server.
    pub connections: HashMap<ServerName, u64>,
    /// Those of them that no session holds.
    pub idle: HashMap<ServerName, u64>,
    /// Statements answered since the start.
    pub statements: u64,
    /// Statements refused since the start.
    pub refused: u64,
    /// Reads sent once more since the start.
    pub retried: u64,
    /// Writes of unknown outcome since the start.
    pub unknown: u64,
    /// Transactions lost since the start.
    pub aborted: u64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers the metrics. Those of servers and partitions follow the views.
    ///
    /// # Errors
    /// The table is not what this function expects.
    pub fn new() -> Result<Self, prometheus::Error> {
        let maker = Maker { registry: Registry::new() };
        let build = maker.gauges("failsoft_build_info")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            shared: Shared::new(&maker)?,
            ledger: Ledger::default(),
            statements: Statements::default(),
            panics: Panics::new(maker.counter("failsoft_panics_total")?),
            known: Mutex::default(),
            server_up: maker.gauges("failsoft_server_up")?,
            server_healthy: maker.gauges("failsoft_server_healthy")?,
            server_check: maker.histograms("failsoft_server_check_seconds", CHECK_BUCKETS)?,
            partition_mode: maker.gauges("failsoft_partition_mode")?,
            replication_delay: maker.gauges("failsoft_server_replication_delay_seconds")?,
            configuration_valid: maker.gauge("failsoft_configuration_valid")?,
            reloads: maker.counters("failsoft_reloads_total")?,
            registry: maker.registry,
        };
        metrics.registry.register(Box::new(ProcessCollector::for_self()))?;
        metrics.configuration_valid.set(1);
        for result in RELOAD_RESULTS {
            metrics.reloads.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// Counts that the configuration was read again, and was good or not.
    pub fn reloaded(&self, valid: bool) {
        let [applied, invalid] = RELOAD_RESULTS;
        self.reloads.with_label_values(&[if valid { applied } else { invalid }]).inc();
        self.configuration_valid.set(valid.into());
    }

    /// Counters for one core, resolved and empty.
    #[must_use]
    pub fn worker(&self) -> WorkerMetrics {
        WorkerMetrics::new(&self.shared, self.ledger.clone(), self.statements.clone())
    }

    /// What clients ask.
    #[must_use]
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// What is known of panics.
    #[must_use]
    pub fn panics(&self) -> &Panics {
        &self.panics
    }

    /// The writes of unknown outcome.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Sets the gauges of servers and partitions to what this view says.
    pub fn observe(&self, view: &View) {
        self.follow(view);
        for partition in &view.partitions {
            self.set_mode(&partition.name, partition.mode.reason());
        }
        for server in &view.servers {
            let label = &[server.name.as_str()];
            let healthy = i64::from(server.health.is_healthy());
            self.server_healthy.with_label_values(label).set(healthy);
            let seen = server.seen.as_deref().filter(|_| server.failure.is_none());
            match server.enabled {
                true => self.server_up.with_label_values(label).set(i64::from(seen.is_some())),
                // Nobody asks it.
                false => drop(self.server_up.remove_label_values(label)),
            }
            let behind_s = seen.and_then(|seen| seen.replication.source()?.behind_s);
            match behind_s {
                Some(behind_s) => {
                    let value = i64::try_from(behind_s).unwrap_or(i64::MAX);
                    self.replication_delay.with_label_values(label).set(value);
                }
                // There may be no series to remove; that is the wanted state as well.
                None => drop(self.replication_delay.remove_label_values(label)),
            }
        }
    }

    /// Makes the series of what the view has, and removes those of what it no longer has. Counters
    /// stay: a rate must not jump when a partition comes back.
    fn follow(&self, view: &View) {
        let now = Known {
            servers: view.servers.iter().map(|server| server.name.clone()).collect(),
            partitions: view.partitions.iter().map(|p| Arc::clone(&p.name)).collect(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return;
        }
        for name in now.servers.iter().filter(|name| !known.servers.contains(name)) {
            let label = &[name.as_str()];
            self.server_check.with_label_values(label);
            for labels in connection_labels(name) {
                self.shared.connections.with_label_values(&labels);
            }
        }
        for name in known.servers.iter().filter(|name| !now.servers.contains(name)) {
            let label = &[name.as_str()];
            // What is not there need not be removed.
            drop(self.server_up.remove_label_values(label));
            drop(self.server_healthy.remove_label_values(label));
            drop(self.server_check.remove_label_values(label));
            drop(self.replication_delay.remove_label_values(label));
            for labels in connection_labels(name) {
                drop(self.shared.connections.remove_label_values(&labels));
            }
        }
        for name in known.partitions.iter().filter(|name| !now.partitions.contains(name)) {
            for reason in Reason::ALL {
                drop(self.partition_mode.remove_label_values(&[&**name, reason.as_str()]));
            }
        }
        *known = now;
    }

    fn set_mode(&self, partition: &str, reason: Option<Reason>) {
        for each in Reason::ALL {
            let gauge = self.partition_mode.with_label_values(&[partition, each.as_str()]);
            gauge.set(i64::from(Some(each) == reason));
        }
    }

    /// Enters how long a check of a server took, whatever its outcome.
    pub fn check(&self, server: &ServerName, took: Duration) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is gone by now must not get a new series.
        if known.servers.contains(server) {
            let histogram = self.server_check.with_label_values(&[server.as_str()]);
            histogram.observe(took.as_secs_f64());
        }
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Fails only for a family without a name or series, and the registry yields none.
        drop(TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text));
        text
    }

    /// Sums for people.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let shared = &self.shared;
        let state = |name| gauge_value(&shared.sessions.with_label_values(&[name]));
        let count = |labels: [&str; 2]| gauge_value(&shared.connections.with_label_values(&labels));
        let open =
            |name: &ServerName| (name.clone(), connection_labels(name).map(count).iter().sum());
        let idle = |name: &ServerName| {
            let [_, labels] = connection_labels(name);
            (name.clone(), count(labels))
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Totals {
            sessions_login: state("login"),
            sessions_open: state("open"),
            held: gauge_value(&self.shared.held),
            connections: known.servers.iter().map(open).collect(),
            idle: known.servers.iter().map(idle).collect(),
            statements: shared.sums.statements.load(Ordering::Relaxed),
            refused: shared.sums.refused.load(Ordering::Relaxed),
            retried: shared.retried.get(),
            unknown: shared.unknown.get(),
            aborted: shared.aborted.get(),
        }
    }
}

/// The labels of a server's connections: of those that sessions hold, and of those that are kept for
/// sessions to come.
pub(crate) fn connection_labels(server: &ServerName) -> [[&str; 2]; 2] {
    ["open", "idle"].map(|state| [server.as_str(), state])
}

fn gauge_value(gauge: &IntGauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}

impl Shared {
    fn new(maker: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            statements: maker.counters("failsoft_statements_total")?,
            statement_seconds: maker.histograms("failsoft_statement_seconds", STATEMENT_BUCKETS)?,
            refused: maker.counters("failsoft_statements_refused_total")?,
            retried: maker.counter("failsoft_statements_retried_total")?,
            unknown: maker.counter("failsoft_writes_unknown_total")?,
            aborted: maker.counter("failsoft_transactions_aborted_total")?,
            logins: maker.counters("failsoft_logins_total")?,
            bytes: maker.counters("failsoft_client_bytes_total")?,
            sessions: maker.gauges("failsoft_sessions")?,
            pinned: maker.gauges("failsoft_sessions_pinned")?,
            held: maker.gauge("failsoft_writes_held")?,
            waiting: maker.gauge("failsoft_statements_waiting")?,
            wait_seconds: maker.histogram("failsoft_connection_wait_seconds", STATEMENT_BUCKETS)?,
            connections: maker.gauges("failsoft_server_connections")?,
            sums: Arc::default(),
        })
    }
}

/// Makes metrics from rows of the table, and registers them.
struct Maker {
    registry: Registry,
}

impl Maker {
    fn gauges(&self, name: &str) -> Result<IntGaugeVec, prometheus::Error> {
        let (help, labels) = row(name)?;
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str) -> Result<IntGauge, prometheus::Error> {
        let (help, _) = row(name)?;
        self.register(IntGauge::new(name, help)?)
    }

    fn counters(&self, name: &str) -> Result<IntCounterVec, prometheus::Error> {
        let (help, labels) = row(name)?;
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str) -> Result<IntCounter, prometheus::Error> {
        let (help, _) = row(name)?;
        self.register(IntCounter::new(name, help)?)
    }

    fn histogram(&self, name: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let (help, _) = row(name)?;
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options)?)
    }

    fn histograms(&self, name: &str, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
        let (help, labels) = row(name)?;
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, labels)?)
    }

    fn register<T: Collector + Clone + 'static>(&self, metric: T) -> Result<T, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// The help and labels of a metric.
fn row(name: &str) -> Result<(&'static str, &'static [&'static str]), prometheus::Error> {
    METRICS
        .iter()
        .find(|(row, ..)| *row == name)
        .map(|(_, help, labels)| (*help, *labels))
        .ok_or_else(|| prometheus::Error::Msg(format!("{name} is not in the table of metrics")))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;
    use std::time::SystemTime;

    use policy::cluster::{Cluster, Event};
    use policy::health::HealthParams;
    use policy::observation::{CheckFailure, Observation, Replication, Source};
    use policy::topology::{Role, ServerSpec, Topology};

    use super::*;

    fn topology() -> Topology {
        let spec = |name, role| ServerSpec {
            name: ServerName::new(name),
            role,
            partition: 0,
            enabled: true,
            weight: 1,
        };
        Topology {
            servers: vec![spec("db1:3306", Role::Master), spec("db2:3306", Role::Replica)],
            partitions: vec!["default".into()],
            read_only: false,
            master_may_replicate: false,
            health: HealthParams { threshold: NonZeroU8::MIN },
        }
    }

    fn metrics() -> Metrics {
        Metrics::new().unwrap()
    }

    fn observation(replication: Replication) -> Observation {
        Observation {
            identity: "a".into(),
            version: "1".into(),
            read_only: false,
            replication,
            gtids: String::new(),
            latency: Duration::ZERO,
            messages: Vec::new(),
        }
    }

    fn source(behind_s: Option<u64>) -> Replication {
        Replication::From(Source {
            address: "db1:3306".into(),
            receiving: true,
            applying: true,
            behind_s,
            delay_s: 0,
            last_error: String::new(),
        })
    }

    #[test]
    fn every_row_of_the_table_is_rendered_with_its_labels_and_nothing_else_is() {
        let metrics = metrics();
        let mut cluster = Cluster::new(topology(), SystemTime::UNIX_EPOCH);
        for (server, replication) in [(0, Replication::None), (1, source(Some(3)))] {
            let event = Event::Checked { server, result: Ok(observation(replication)) };
            cluster.apply(event, SystemTime::UNIX_EPOCH);
        }
        let view = cluster.view();
        metrics.observe(&view);
        let worker = metrics.worker();
        worker.follow(&view);
        worker.statement(
            &view.partitions[0].name,
            sql::Kind::Read,
            crate::Target::Master,
            Duration::from_millis(1),
        );
        worker.flush();
        let text = metrics.render();
        for (name, help, labels) in METRICS {
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}");
            for label in *labels {
                let shown = text
                    .lines()
                    .any(|line| line.starts_with(name) && line.contains(&format!("{label}=\"")));
                assert!(shown, "{name}{{{label}}}");
            }
        }
        let families = text.lines().filter(|line| line.starts_with("# TYPE failsoft_")).count();
        assert_eq!(families, METRICS.len());
        assert!(text.contains("process_"));
    }

    #[test]
    fn the_table_is_sorted_and_its_names_are_unique() {
        assert!(METRICS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_disabled_server_is_neither_up_nor_down() {
        let metrics = metrics();
        let mut cluster = Cluster::new(topology(), SystemTime::UNIX_EPOCH);
        let up = |enabled: bool, cluster: &mut Cluster| {
            cluster.apply(Event::SetEnabled { server: 0, enabled }, SystemTime::UNIX_EPOCH);
            metrics.observe(&cluster.view());
            metrics.render().contains("failsoft_server_up{server=\"db1:3306\"}")
        };
        assert_eq!([true, false, true].map(|on| up(on, &mut cluster)), [true, false, true]);
    }

    #[test]
    fn gauges_follow_the_view() {
        let metrics = metrics();
        let mut cluster = Cluster::new(topology(), SystemTime::UNIX_EPOCH);
        let refused = CheckFailure { text: "Connection refused".into(), is_login: false };
        // result of the master's check, of the replica's, what the text then has, what it has not
        let mode = |reason| {
            format!("failsoft_partition_mode{{partition=\"default\",reason=\"{reason}\"}}")
        };
        let delay = "failsoft_server_replication_delay_seconds{server=\"db2:3306\"}".to_owned();
        let up = "failsoft_server_up{server=\"db1:3306\"}".to_owned();
        let none = observation(Replication::None);
        #[rustfmt::skip]
        let table = [
            (Ok(none.clone()), Ok(observation(source(Some(7)))),
                vec![(mode("severed"), Some(0)), (up.clone(), Some(1)), (delay.clone(), Some(7))]),
            (Err(refused), Ok(observation(source(None))),
                vec![(mode("severed"), Some(1)), (up.clone(), Some(0)), (delay.clone(), None)]),
            (Ok(none), Ok(observation(source(Some(0)))),
                vec![(mode("severed"), Some(0)), (up, Some(1)), (delay, Some(0))]),
        ];
        for (master, replica, expected) in table {
            for (server, result) in [master, replica].into_iter().enumerate() {
                cluster.apply(Event::Checked { server, result }, SystemTime::UNIX_EPOCH);
            }
            metrics.observe(&cluster.view());
            let text = metrics.render();
            for (series, value) in expected {
                let line = text.lines().find(|line| line.starts_with(&format!("{series} ")));
                let shown = line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap());
                assert_eq!(shown, value, "{series}");
            }
        }
    }
}
