//! The task that owns the cluster, and the tasks that check the servers for it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::cluster::{Cluster, Event, Report};
use policy::observation::{CheckFailure, Observation};
use policy::topology::{ServerName, Topology};
use policy::view::View;
use telemetry::Metrics;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::{Entry, Events, Severity};
use crate::handle::{Control, Handle, Order, OrderError, Ordered};
use crate::probe::Probe;
use crate::settings::Settings;

/// Orders that may wait for the actor.
const ORDERS: usize = 16;

/// The end of one check.
struct Checked {
    server: usize,
    result: Result<Observation, CheckFailure>,
}

/// Starts the control plane on the current runtime. Servers and topology are in the same order.
#[must_use]
pub fn start(topology: Topology, settings: Settings, metrics: Arc<Metrics>) -> Control {
    let names: Vec<_> = topology.servers.iter().map(|spec| spec.name.clone()).collect();
    let unchecked = topology.servers.iter().enumerate().filter(|(_, spec)| spec.enabled);
    let unchecked: BTreeSet<usize> = unchecked.map(|(server, _)| server).collect();
    let cluster = Cluster::new(topology, SystemTime::now());
    let view = Arc::new(cluster.view());
    metrics.observe(&view);
    let (publish, views) = watch::channel(view);
    let (set_ready, ready) = watch::channel(unchecked.is_empty());
    let (reports, reported) = mpsc::unbounded_channel();
    let (orders, ordered) = mpsc::channel(ORDERS);
    // One place per server: each has at most one check under way.
    let (results, checked) = mpsc::channel(names.len().max(1));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let events = Events::default();
    let nudges: Vec<_> = names.iter().map(|_| Arc::new(Notify::new())).collect();
    for ((server, target), nudge) in settings.servers.into_iter().enumerate().zip(&nudges) {
        let watcher = Watcher {
            server,
            probe: Arc::new(Probe::new(target, settings.timeout)),
            interval: settings.interval,
            views: views.clone(),
            nudge: Arc::clone(nudge),
            results: results.clone(),
            metrics: Arc::clone(&metrics),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(watcher.run()));
    }
    let actor = Actor {
        cluster,
        names,
        unchecked,
        nudges,
        publish,
        set_ready,
        metrics,
        events: events.clone(),
    };
    tasks.spawn(actor.run(Inbox { checked, reported, ordered }, stop.clone()));
    tasks.close();
    Control { handle: Handle { views, ready, reports, orders, events }, stop, tasks }
}

/// What reaches the actor.
struct Inbox {
    checked: mpsc::Receiver<Checked>,
    reported: mpsc::UnboundedReceiver<Report>,
    ordered: mpsc::Receiver<Ordered>,
}

/// Owns the cluster. Nothing else changes it.
struct Actor {
    cluster: Cluster,
    names: Vec<ServerName>,
    /// Enabled servers of which no check has ended yet.
    unchecked: BTreeSet<usize>,
    nudges: Vec<Arc<Notify>>,
    publish: watch::Sender<Arc<View>>,
    set_ready: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    events: Events,
}

impl Actor {
    async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(Checked { server, result }) = inbox.checked.recv() => {
                    self.apply(Event::Checked { server, result });
                    self.unchecked.remove(&server);
                    if self.unchecked.is_empty() {
                        self.set_ready.send_if_modified(|ready| !std::mem::replace(ready, true));
                    }
                }
                Some(report) = inbox.reported.recv() => self.take_report(report),
                Some((order, reply)) = inbox.ordered.recv() => {
                    // Whoever gave the order may have gone; it is carried out all the same.
                    drop(reply.send(self.carry_out(order)));
                }
                else => return,
            }
        }
    }

    fn take_report(&mut self, report: Report) {
        let server = report.server();
        // A server that takes no writes is looked at now rather than after the interval.
        let look = !matches!(report, Report::Reached { .. });
        self.apply(Event::Reported(report));
        if look {
            self.nudge(server);
        }
    }

    /// Takes in an event, tells what changed by it, and publishes the view.
    fn apply(&mut self, event: Event) {
        let at = SystemTime::now();
        for change in self.cluster.apply(event, at) {
            let severity = Severity::of(&change);
            self.events.enter(Entry { at, severity, text: change.to_string() });
        }
        let view = Arc::new(self.cluster.view());
        self.metrics.observe(&view);
        self.publish.send_replace(view);
    }

    fn carry_out(&mut self, order: Order) -> Result<(), OrderError> {
        let (event, text) = match order {
            Order::SetReadOnly(on) => {
                let switched = if on { "on" } else { "off" };
                let text = format!("an operator switched read-only mode {switched}");
                (Event::SetReadOnly(on), text)
            }
            Order::SetEnabled { server, enabled } => {
                let at = self.find(&server)?;
                let done = if enabled { "enabled" } else { "disabled" };
                let event = Event::SetEnabled { server: at, enabled };
                (event, format!("an operator {done} server {server}"))
            }
        };
        self.events.enter(Entry { at: SystemTime::now(), severity: Severity::Info, text });
        self.apply(event);
        Ok(())
    }

    fn find(&self, server: &str) -> Result<usize, OrderError> {
        self.names.iter().position(|name| name.as_str() == server).ok_or_else(|| {
            let known: Vec<_> = self.names.iter().map(ServerName::as_str).collect();
            OrderError::UnknownServer { server: server.to_owned(), known: known.join(", ") }
        })
    }

    fn nudge(&self, server: usize) {
        if let Some(nudge) = self.nudges.get(server) {
            nudge.notify_one();
        }
    }
}

/// Checks one server again and again, one check at a time.
struct Watcher {
    server: usize,
    probe: Arc<Probe>,
    interval: Duration,
    views: watch::Receiver<Arc<View>>,
    nudge: Arc<Notify>,
    results: mpsc::Sender<Checked>,
    metrics: Arc<Metrics>,
}

impl Watcher {
    async fn run(mut self) {
        let mut jitter = Jitter::new();
        loop {
            let server = self.server;
            let enabled = |view: &Arc<View>| view.servers.get(server).is_some_and(|s| s.enabled);
            // A server that is disabled is left alone until it is enabled.
            if self.views.wait_for(enabled).await.is_err() {
                return;
            }
            let start = Instant::now();
            let result = self.check().await;
            self.metrics.check(server, start.elapsed());
            if self.results.send(Checked { server, result }).await.is_err() {
                return;
            }
            let next = start + jitter.apply(self.interval);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.nudge.notified() => {}
            }
        }
    }
}

impl Watcher {
    /// A task of its own: a server that makes the client library panic fails its check, and goes on
    /// being checked.
    async fn check(&self) -> Result<Observation, CheckFailure> {
        let probe = Arc::clone(&self.probe);
        tokio::spawn(async move { probe.check().await }).await.unwrap_or_else(|error| {
            tracing::error!("a health check did not end as it should: {error}");
            let text = "the server's answer broke the health check".to_owned();
            Err(CheckFailure { text, is_login: false })
        })
    }
}

/// Spreads the checks of many failsofts over time.
struct Jitter(u64);

impl Jitter {
    fn new() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    /// The interval, by at most a tenth longer or shorter.
    fn apply(&mut self, interval: Duration) -> Duration {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let per_mille = 900 + u32::try_from(self.0 % 201).unwrap_or(100);
        interval * per_mille / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth_and_varies() {
        let mut jitter = Jitter::new();
        let second = Duration::from_secs(1);
        let all: BTreeSet<_> = (0..200).map(|_| jitter.apply(second)).collect();
        assert!(all.len() > 20);
        assert!(all.iter().all(|each| (900..=1100).contains(&each.as_millis())));
    }
}
