//! What the sessions of one core share, and only they.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use policy::route::Tried;
use policy::view::View;
use telemetry::WorkerMetrics;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::Report;
use crate::backend::gate::Gate;
use crate::passthrough::Passthrough;
use crate::registry::{Connection, Leash, Registry};
use crate::settings::{Account, Settings};
use crate::tls::Tls;

/// What all cores share; touched when sessions and backends come and go, not by statements.
#[derive(Debug)]
pub(crate) struct Shared {
    sessions: AtomicUsize,
    sessions_of_user: Mutex<HashMap<String, usize>>,
    backends: Vec<AtomicUsize>,
    next_id: AtomicU32,
    pub(crate) registry: Registry,
    /// For accounts that are not listed, where they may log in.
    pub(crate) passthrough: Option<Passthrough>,
}

/// Session ids start here. A server's own ids start at 1, so a `KILL` that names a session never
/// hits somebody else's connection by accident.
const FIRST_ID: u32 = 0x8000_0001;

impl Shared {
    pub(crate) fn new(servers: usize, passthrough: Option<Passthrough>) -> Self {
        Self {
            sessions: AtomicUsize::new(0),
            sessions_of_user: Mutex::default(),
            backends: (0..servers).map(|_| AtomicUsize::new(0)).collect(),
            next_id: AtomicU32::new(FIRST_ID),
            registry: Registry::default(),
            passthrough,
        }
    }

    /// An id for a new session.
    fn session_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed) | FIRST_ID & !1
    }

    /// Counts a client connection; none when there are `limit` already.
    pub(crate) fn admit(self: &Arc<Self>, limit: usize) -> Option<Admission> {
        let admission = Admission { shared: Arc::clone(self), id: self.session_id(), user: None };
        let before = self.sessions.fetch_add(1, Ordering::Relaxed);
        (before < limit).then_some(admission)
    }

    /// Counts a connection to a server; none when there are `limit` already (0 is no limit).
    pub(crate) fn admit_backend(self: &Arc<Self>, server: usize, limit: usize) -> Option<Slot> {
        let slot = Slot { shared: Arc::clone(self), server, held: None };
        let before = self.backends.get(server)?.fetch_add(1, Ordering::Relaxed);
        (limit == 0 || before < limit).then_some(slot)
    }
}

/// A client connection that was let in; counted until dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    shared: Arc<Shared>,
    /// failsoft's id of the session.
    pub(crate) id: u32,
    user: Option<String>,
}

impl Admission {
    /// Counts the connection for its account, and no longer for another, and lets others find it;
    /// false when the account has `limit` already (0 is no limit).
    pub(crate) fn belongs_to(&mut self, user: &str, limit: usize, leash: &Leash) -> bool {
        self.leave();
        let mut users = self.shared.sessions_of_user.lock().unwrap_or_else(PoisonError::into_inner);
        let count = users.entry(user.to_owned()).or_default();
        if limit > 0 && *count >= limit {
            return false;
        }
        *count += 1;
        drop(users);
        self.shared.registry.enter(self.id, user, leash);
        self.user = Some(user.to_owned());
        true
    }

    fn leave(&mut self) {
        let Some(user) = self.user.take() else { return };
        let mut users = self.shared.sessions_of_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = users.get_mut(&user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                users.remove(&user);
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.leave();
        self.shared.registry.leave(self.id);
        self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to a server; counted until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    server: usize,
    /// The session that holds it, and the server's id of it.
    held: Option<(u32, u32)>,
}

impl Slot {
    /// Lets others find the connection, with this id of the server's, as the session's.
    pub(crate) fn held_by(&mut self, session: u32, id: u32) {
        self.held = Some((session, id));
        self.shared.registry.hold(session, Connection { server: self.server, id });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((session, id)) = self.held {
            self.shared.registry.release(session, Connection { server: self.server, id });
        }
        if let Some(count) = self.shared.backends.get(self.server) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Ends what goes on with a server once that is given up.
#[derive(Debug)]
struct Fence {
    incarnation: u64,
    token: CancellationToken,
}

/// One core's share of the data plane.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) tls: Tls,
    pub(crate) shared: Arc<Shared>,
    /// Cancelled when sessions are to end as soon as they are idle.
    pub(crate) drain: CancellationToken,
    /// Cancelled when they are to end at once.
    pub(crate) halt: CancellationToken,
    gates: Vec<Gate>,
    reports: UnboundedSender<Report>,
    view: RefCell<Rc<View>>,
    fences: RefCell<Vec<Fence>>,
    /// The servers of which each kind of report was made since the last view: a storm of sessions
    /// reports once.
    reported: Cell<[Tried; 3]>,
}

impl Worker {
    pub(crate) fn new(
        settings: Arc<Settings>,
        metrics: WorkerMetrics,
        tls: Tls,
        shared: Arc<Shared>,
        reports: UnboundedSender<Report>,
    ) -> Self {
        let gates = settings.servers.iter().map(|_| Gate::default()).collect();
        Self {
            settings,
            metrics,
            tls,
            shared,
            drain: CancellationToken::new(),
            halt: CancellationToken::new(),
            gates,
            reports,
            view: RefCell::default(),
            fences: RefCell::default(),
            reported: Cell::default(),
        }
    }

    /// The latest view.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Takes in a new view, and ends what goes on with servers that it gives up.
    pub(crate) fn set_view(&self, view: &View) {
        let mut fences = self.fences.borrow_mut();
        for (at, server) in view.servers.iter().enumerate() {
            if let Some(gate) = self.gates.get(at).filter(|_| server.failure.is_none()) {
                gate.forget();
            }
            match fences.get_mut(at) {
                Some(fence) if fence.incarnation == server.incarnation => {}
                Some(fence) => {
                    fence.token.cancel();
                    *fence =
                        Fence { incarnation: server.incarnation, token: CancellationToken::new() };
                }
                None => fences.push(Fence {
                    incarnation: server.incarnation,
                    token: CancellationToken::new(),
                }),
            }
        }
        self.reported.take();
        *self.view.borrow_mut() = Rc::new(view.clone());
    }

    /// What is cancelled when a server is given up.
    pub(crate) fn fence(&self, server: usize) -> CancellationToken {
        self.fences.borrow().get(server).map_or_else(CancellationToken::new, |f| f.token.clone())
    }

    /// What sessions share of their attempts to reach a server.
    pub(crate) fn gate(&self, server: usize) -> Option<&Gate> {
        self.gates.get(server)
    }

    /// The account of this name.
    pub(crate) fn account(&self, name: &[u8]) -> Option<&Account> {
        self.settings.accounts.iter().find(|account| account.name.as_bytes() == name)
    }

    /// Tells the control plane, once for each view and server.
    pub(crate) fn report(&self, report: Report) {
        let mut reported = self.reported.get();
        let [refused, unreachable, reached] = &mut reported;
        let servers = match report {
            Report::RefusedWrite { .. } => refused,
            Report::Unreachable { .. } => unreachable,
            Report::Reached { .. } => reached,
        };
        if servers.contains(report.server()) {
            return;
        }
        servers.add(report.server());
        self.reported.set(reported);
        // It is gone only when the process ends.
        let _told = self.reports.send(report);
    }
}
