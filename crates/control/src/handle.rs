//! How others talk to the control plane.

use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::cluster::Report;
use policy::observation::{CheckFailure, Observation};
use policy::topology::{Role, ServerSpec, Topology};
use policy::view::{Server, View};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::{Entry, Events, Origin, Severity};
use crate::probe::check_once;
use crate::settings::Settings;

/// What an operator wants.
#[derive(Clone, Debug)]
pub enum Order {
    /// Read-only mode, on or off.
    SetReadOnly {
        /// The partition's name; all partitions where there is none.
        partition: Option<String>,
        /// On or off.
        on: bool,
    },
    /// Writes wait, or wait no longer.
    SetPaused {
        /// The partition's name; all partitions where there is none.
        partition: Option<String>,
        /// How long each may wait at most; none when writes wait no longer.
        hold: Option<Duration>,
    },
    /// A server may take traffic, or may not.
    SetEnabled {
        /// Its name, `host:port`.
        server: String,
        /// Whether it may.
        enabled: bool,
    },
    /// Another configuration is in force from now on.
    Reload(Box<Reload>),
}

/// Another configuration.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The servers and partitions.
    pub topology: Topology,
    /// How they are watched, in the same order.
    pub settings: Settings,
    /// The number of the configuration, see [`View::generation`].
    pub generation: u64,
    /// Whether an operator wants it, or the file changed.
    pub origin: Origin,
    /// What is told of it, a line for each difference.
    pub events: Vec<String>,
    /// What [`Handle::look`] found.
    pub checked: Vec<(usize, Result<Observation, CheckFailure>)>,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// There is no such server.
    #[error("server {server} is not in the configuration, which has {known}")]
    UnknownServer {
        /// What was asked for.
        server: String,
        /// What there is.
        known: String,
    },
    /// There is no such partition.
    #[error("there is no partition {partition}, there is {known}")]
    UnknownPartition {
        /// What was asked for.
        partition: String,
        /// What there is.
        known: String,
    },
    /// The order is undone, and the configuration says the same.
    #[error(
        "{0} in the configuration, which an order does not overrule; change the file, and reload"
    )]
    InConfiguration(&'static str),
    /// failsoft is shutting down.
    #[error("failsoft is shutting down")]
    Stopped,
}

/// An order on its way to the actor.
pub(crate) struct Ordered {
    pub(crate) order: Order,
    /// Who gave it, in words.
    pub(crate) by: String,
    pub(crate) reply: oneshot::Sender<Result<(), OrderError>>,
}

/// Reads what the control plane knows, and gives it orders.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) orders: mpsc::Sender<Ordered>,
    pub(crate) events: Events,
}

impl Handle {
    /// The latest view, and notice of the next.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.clone()
    }

    /// The latest view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    /// Where the data plane reports what it saw.
    #[must_use]
    pub fn reports(&self) -> mpsc::UnboundedSender<Report> {
        self.reports.clone()
    }

    /// Whether every enabled server has been checked at least once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until every enabled server has been checked once: at most as long as one check may
    /// take. Returns at once when the control plane has stopped. May be cancelled.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        // An error means that the actor is gone; nobody has anything to wait for then.
        drop(ready.wait_for(|ready| *ready).await);
    }

    /// Carries out an order that this person or program gave. The view that follows from it is
    /// published when this returns.
    ///
    /// # Errors
    /// There is no such server or partition, the configuration says otherwise, or failsoft is
    /// shutting down.
    pub async fn order(&self, order: Order, by: &str) -> Result<(), OrderError> {
        let (reply, answer) = oneshot::channel();
        let ordered = Ordered { order, by: by.to_owned(), reply };
        self.orders.send(ordered).await.map_err(|_| OrderError::Stopped)?;
        answer.await.unwrap_or(Err(OrderError::Stopped))
    }

    /// Checks the servers of a configuration that is about to be in force, as far as it matters that
    /// what is known of them is new: those that are not known, and those that are, or were, masters.
    /// Takes at most as long as one check.
    pub async fn look(
        &self,
        topology: &Topology,
        settings: &Settings,
    ) -> Vec<(usize, Result<Observation, CheckFailure>)> {
        let view = self.view();
        let matters = |spec: &ServerSpec| {
            let known = view.servers.iter().find(|server| server.name == spec.name);
            let is_news = |server: &Server| {
                let is_master = [spec.role, server.role].contains(&Role::Master);
                !server.held_out && (!server.enabled || is_master)
            };
            spec.enabled && known.is_none_or(is_news)
        };
        let specs = topology.servers.iter().zip(&settings.servers).enumerate();
        let checks: Vec<_> = specs
            .filter(|(_, (spec, _))| matters(spec))
            .map(|(at, (_, target))| {
                (at, tokio::spawn(check_once(target.clone(), settings.timeout)))
            })
            .collect();
        let mut checked = Vec::new();
        for (at, check) in checks {
            // One that panicked says nothing; the checks to come will.
            checked.extend(check.await.ok().map(|result| (at, result)));
        }
        checked
    }

    /// Enters something that happened outside of the control plane.
    pub fn note(&self, severity: Severity, text: String) {
        self.events.enter(severity, Origin::Cluster, &text);
    }

    /// Enters what an operator ordered outside of the control plane, or was refused.
    pub fn note_order(&self, severity: Severity, text: String) {
        self.events.enter(severity, Origin::Operator, &text);
    }

    /// Enters that somebody was not let give orders; not each of many.
    #[expect(clippy::disallowed_methods, reason = "time comes in where requests do")]
    pub fn note_refusal(&self, text: String) {
        self.events.enter_refusal(&text, Instant::now());
    }

    /// What happened lately, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Entry> {
        self.events.all()
    }

    /// The number of the latest of them, and notice of the next.
    #[must_use]
    pub fn latest_event(&self) -> watch::Receiver<u64> {
        self.events.latest()
    }
}

/// The running control plane.
#[derive(Debug)]
pub struct Control {
    pub(crate) handle: Handle,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Control {
    /// A handle, to be cloned at will.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the checks and the actor, and waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
