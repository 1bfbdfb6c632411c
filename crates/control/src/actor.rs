//! The task that owns the cluster.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::cluster::{Cluster, Event, Report};
use policy::topology::{ServerId, Topology};
use policy::view::{Server, View};
use telemetry::Metrics;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::{Events, Origin, Severity};
use crate::handle::{Control, Handle, Order, OrderError, Ordered, Reload};
use crate::outcomes::tell_outcomes;
use crate::settings::Settings;
use crate::watcher::{Checked, Manner, Means, Watched, watcher};

/// Orders that may wait for the actor.
const ORDERS: usize = 16;

/// Results of checks that may wait for it. A watcher that finds no room waits with its next check.
const RESULTS: usize = 64;

/// Starts the control plane on the current runtime. Servers and topology are in the same order.
#[must_use]
pub fn start(topology: Topology, settings: Settings, metrics: Arc<Metrics>) -> Control {
    let cluster = Cluster::new(topology, SystemTime::now());
    let view = Arc::new(cluster.view());
    let (publish, views) = watch::channel(view);
    let (set_ready, ready) = watch::channel(false);
    let (reports, reported) = mpsc::unbounded_channel();
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (results, checked) = mpsc::channel(RESULTS);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let events = Events::default();
    let means =
        Means { views: views.clone(), results, metrics: Arc::clone(&metrics), stop: stop.clone() };
    let mut actor = Actor {
        cluster,
        unchecked: BTreeSet::new(),
        watched: HashMap::new(),
        watchers: 0,
        means,
        tasks: tasks.clone(),
        publish,
        set_ready,
        metrics,
        events: events.clone(),
    };
    let enabled = |server: &&Server| server.enabled;
    let view = actor.publish();
    actor.unchecked = view.servers.iter().filter(enabled).map(|server| server.id).collect();
    actor.settle_ready();
    actor.watch(settings);
    let ledger = actor.metrics.ledger().clone();
    tasks.spawn(actor.run(Inbox { checked, reported, ordered }, stop.clone()));
    let telling = tell_outcomes(ledger, events.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(telling));
    // More may be started all the same.
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
    /// Servers of the first configuration of which no check has ended yet.
    unchecked: BTreeSet<ServerId>,
    watched: HashMap<ServerId, Watched>,
    /// How many watchers there were.
    watchers: u64,
    means: Means,
    tasks: TaskTracker,
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
                Some(checked) = inbox.checked.recv() => self.take_check(checked),
                Some(report) = inbox.reported.recv() => self.take_report(report),
                Some(Ordered { order, by, reply }) = inbox.ordered.recv() => {
                    // Whoever gave the order may have gone; it is carried out all the same.
                    drop(reply.send(self.carry_out(order, &by)));
                }
                else => return,
            }
        }
    }

    fn take_check(&mut self, Checked { server, watcher, result }: Checked) {
        let is_current = self.watched.get(&server).is_some_and(|it| it.watcher == watcher);
        if let Some(at) = self.cluster.position(server).filter(|_| is_current) {
            self.apply(Event::Checked { server: at, result });
        }
        self.unchecked.remove(&server);
        self.settle_ready();
    }

    fn settle_ready(&self) {
        if self.unchecked.is_empty() {
            self.set_ready.send_if_modified(|ready| !std::mem::replace(ready, true));
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
        for change in self.cluster.apply(event, SystemTime::now()) {
            let severity = Severity::of(&change);
            self.events.enter(severity, Origin::Cluster, &change.to_string());
        }
        self.publish();
    }

    fn publish(&self) -> Arc<View> {
        let view = Arc::new(self.cluster.view());
        self.metrics.observe(&view);
        self.publish.send_replace(Arc::clone(&view));
        view
    }

    fn carry_out(&mut self, order: Order, by: &str) -> Result<(), OrderError> {
        let (event, done) = match order {
            Order::SetReadOnly { partition, on } => self.read_only(partition, on)?,
            Order::SetPaused { partition, hold } => self.pause(partition, hold)?,
            Order::SetEnabled { server, enabled } => self.enable(server, enabled)?,
            Order::Reload(reload) => {
                self.reload(*reload);
                return Ok(());
            }
        };
        let text = format!("{by} {done}");
        self.events.enter(Severity::Info, Origin::Operator, &text);
        self.apply(event);
        Ok(())
    }

    fn read_only(&self, name: Option<String>, on: bool) -> Result<(Event, String), OrderError> {
        let partition = self.partition(name.as_deref())?;
        if self.cluster.topology().read_only && !on {
            return Err(OrderError::InConfiguration("read_only is set"));
        }
        let switched = if on { "on" } else { "off" };
        let of = of_partition(name);
        let text = format!("switched read-only mode{of} {switched}");
        Ok((Event::SetReadOnly { partition, on }, text))
    }

    fn pause(
        &self,
        name: Option<String>,
        hold: Option<Duration>,
    ) -> Result<(Event, String), OrderError> {
        let partition = self.partition(name.as_deref())?;
        let of = of_partition(name);
        let text = match hold {
            Some(hold) => format!("holds writes{of} back, each for {hold:?} at most"),
            None => format!("lets writes{of} go on"),
        };
        Ok((Event::SetPaused { partition, hold }, text))
    }

    /// Where a partition of this name is; none for no name.
    fn partition(&self, name: Option<&str>) -> Result<Option<usize>, OrderError> {
        let Some(name) = name else { return Ok(None) };
        let partitions = &self.cluster.topology().partitions;
        let at = partitions.iter().position(|known| **known == *name);
        at.map(Some).ok_or_else(|| OrderError::UnknownPartition {
            partition: name.to_owned(),
            known: partitions.join(", "),
        })
    }

    fn enable(&self, server: String, enabled: bool) -> Result<(Event, String), OrderError> {
        let servers = &self.cluster.topology().servers;
        let Some((at, spec)) = self.cluster.topology().server_called(&server) else {
            let known: Vec<_> = servers.iter().map(|spec| spec.name.as_str()).collect();
            return Err(OrderError::UnknownServer { known: known.join(", "), server });
        };
        if enabled && !spec.enabled {
            return Err(OrderError::InConfiguration("the server is disabled"));
        }
        let done = if enabled { "enabled" } else { "disabled" };
        let text = format!("{done} server {}", spec.name);
        Ok((Event::SetEnabled { server: at, enabled }, text))
    }

    fn reload(&mut self, reload: Reload) {
        let Reload { topology, settings, generation, origin, events, checked } = reload;
        for text in events {
            self.events.enter(Severity::Info, origin, &text);
        }
        self.apply(Event::Reload { topology: Box::new(topology), generation, checked });
        self.watch(settings);
        // A server that went with the old configuration will not be checked.
        let cluster = &self.cluster;
        self.unchecked.retain(|server| cluster.position(*server).is_some());
        self.settle_ready();
    }

    /// Watches the servers of the present configuration, which these settings are of. A watcher that
    /// would do the same goes on.
    fn watch(&mut self, settings: Settings) {
        let mut before = std::mem::take(&mut self.watched);
        let (interval, timeout) = (settings.interval, settings.timeout);
        let view = self.cluster.view();
        for (server, target) in view.servers.iter().zip(settings.servers) {
            let manner = Manner { target, interval, timeout };
            let same = before.remove(&server.id).filter(|watched| watched.manner == manner);
            if let Some(watched) = same {
                self.watched.insert(server.id, watched);
                continue;
            }
            self.watchers += 1;
            let named = (server.id, server.name.clone());
            let (task, watched) = watcher(&self.means, named, self.watchers, manner);
            self.tasks.spawn(task);
            self.watched.insert(server.id, watched);
        }
    }

    fn nudge(&self, server: ServerId) {
        if let Some(watched) = self.watched.get(&server) {
            watched.nudge.notify_one();
        }
    }
}

/// What an order is about, for its line in the log.
fn of_partition(name: Option<String>) -> String {
    name.map_or_else(String::new, |name| format!(" of partition {name}"))
}
