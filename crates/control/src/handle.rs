//! How others talk to the control plane.

use std::sync::Arc;

use policy::cluster::Report;
use policy::view::View;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::{Entry, Events};

/// What an operator wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Read-only mode for all partitions, on or off.
    SetReadOnly(bool),
    /// A server may take traffic, or may not.
    SetEnabled {
        /// Its name, `host:port`.
        server: String,
        /// Whether it may.
        enabled: bool,
    },
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
    /// failsoft is shutting down.
    #[error("failsoft is shutting down")]
    Stopped,
}

/// An order on its way to the actor.
pub(crate) type Ordered = (Order, oneshot::Sender<Result<(), OrderError>>);

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

    /// Carries out an order. The view that follows from it is published when this returns.
    ///
    /// # Errors
    /// There is no such server, or failsoft is shutting down.
    pub async fn order(&self, order: Order) -> Result<(), OrderError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send((order, reply)).await.map_err(|_| OrderError::Stopped)?;
        answer.await.unwrap_or(Err(OrderError::Stopped))
    }

    /// What happened lately, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Entry> {
        self.events.all()
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
