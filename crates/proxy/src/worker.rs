//! What the sessions of one core share, and only they.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::Discriminant;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::topology::{Role, ServerId, ServerName};
use policy::view::{Server, View};
use telemetry::{Occasional, WorkerMetrics};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Report;
use crate::backend::gate::Gate;
use crate::backend::insert_ids::InsertIds;
use crate::backend::pool::Pool;
use crate::backend::tether::{Fence, Tether};
use crate::backend::turns::Turns;
use crate::budget::Budget;
use crate::buffers::Buffers;
use crate::password::LoginKey;
use crate::registry::{Connection, Leash, Registry};
use crate::settings::{Account, Limits, PoolSettings, ServerSettings, ServerTls, Sharing};
use crate::setup::Setup;

/// What all cores share; touched when sessions and backends come and go, not by statements.
#[derive(Debug)]
pub(crate) struct Shared {
    sessions: AtomicUsize,
    sessions_of_user: Mutex<HashMap<String, usize>>,
    /// How many connections there are to each server.
    backends: Mutex<HashMap<ServerId, Arc<AtomicUsize>>>,
    next_id: AtomicU32,
    pub(crate) registry: Registry,
    pub(crate) login_key: LoginKey,
    /// Clients that were not let in, for the log.
    pub(crate) turned_away: Occasional,
    /// Clients that were too many, for the log: those hide nobody else, and nobody else hides them.
    pub(crate) too_many: Occasional,
    /// Connections that could not be taken, for the log.
    pub(crate) not_taken: Occasional,
    pub(crate) budget: Arc<Budget>,
}

/// From one client that was not let in, and is in the log, to the next.
const TURNED_AWAY_PAUSE: Duration = Duration::from_secs(10);

/// Session ids have this bit, and none above it. A server's own ids start at 1, so a `KILL` that names
/// a session does not hit somebody else's connection before a server has had a billion; and clients
/// that take an id for a signed number see none below 0 (MariaDB Connector/J 2.7 sends it so in its
/// `KILL`).
const ID_BIT: u32 = 1 << 30;

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            sessions: AtomicUsize::new(0),
            sessions_of_user: Mutex::default(),
            backends: Mutex::default(),
            next_id: AtomicU32::new(1),
            registry: Registry::default(),
            login_key: LoginKey::default(),
            turned_away: Occasional::new(TURNED_AWAY_PAUSE),
            too_many: Occasional::new(TURNED_AWAY_PAUSE),
            not_taken: Occasional::new(TURNED_AWAY_PAUSE),
            budget: Arc::default(),
        }
    }

    /// An id for a new session: the next that no other has.
    fn session_id(&self) -> u32 {
        loop {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed) & (ID_BIT - 1) | ID_BIT;
            if !self.registry.has(id) {
                return id;
            }
        }
    }

    /// Counts a client connection; none when there are `limit` already.
    pub(crate) fn admit(self: &Arc<Self>, limit: usize) -> Option<Admission> {
        let admission = Admission { shared: Arc::clone(self), id: self.session_id(), user: None };
        let before = self.sessions.fetch_add(1, Ordering::Relaxed);
        (before < limit).then_some(admission)
    }

    /// Counts a connection to a server; none when there are `limit` already (0 is no limit).
    pub(crate) fn admit_backend(
        self: &Arc<Self>,
        server: ServerId,
        open: &Arc<AtomicUsize>,
        limit: usize,
    ) -> Option<Slot> {
        let before = open.fetch_add(1, Ordering::Relaxed);
        let open = Arc::clone(open);
        let slot = Slot { shared: Arc::clone(self), server, open, held: None };
        (limit == 0 || before < limit).then_some(slot)
    }

    /// Where connections to a server are counted.
    fn backends_of(&self, server: ServerId) -> Arc<AtomicUsize> {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(backends.entry(server).or_default())
    }

    /// Lets go of the counts of servers that the configuration no longer has. Those who hold one
    /// keep it.
    fn forget_all_but(&self, view: &View) {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.retain(|server, _| view.server(*server).is_some());
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
    server: ServerId,
    open: Arc<AtomicUsize>,
    /// The session that holds it, and the server's id of it.
    held: Option<(u32, u32)>,
}

impl Slot {
    /// Lets others find the connection, with this id of the server's, as the session's.
    pub(crate) fn held_by(&mut self, session: u32, id: u32) {
        self.held = Some((session, id));
        self.shared.registry.hold(session, Connection { server: self.server, id });
    }

    /// The connection is no session's any more.
    pub(crate) fn let_go(&mut self) {
        if let Some((session, id)) = self.held.take() {
            self.shared.registry.release(session, Connection { server: self.server, id });
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.let_go();
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// On what terms connections to a server are made.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Terms {
    pub(crate) server: ServerSettings,
    pub(crate) tls: ServerTls,
}

/// What the sessions of one core share about a server.
struct Served {
    id: ServerId,
    terms: Rc<Terms>,
    incarnation: u64,
    enabled: bool,
    /// The epoch in which it is the master.
    epoch: Option<u64>,
    gate: Rc<Gate>,
    turns: Rc<Turns>,
    open: Arc<AtomicUsize>,
    /// Falls when the server is given up at once.
    outer: Fence,
    /// Falls when connections for reads are to leave it.
    reads: Fence,
    /// Falls when connections for writes are.
    writes: Fence,
}

impl Served {
    fn new(server: &Server, terms: Rc<Terms>, open: Arc<AtomicUsize>) -> Self {
        let Server { id, incarnation, enabled, .. } = *server;
        let outer = Fence::default();
        let (reads, writes) = (outer.inner(), outer.inner());
        let (epoch, gate, turns) = (None, Rc::default(), Rc::default());
        Self { id, terms, incarnation, enabled, epoch, gate, turns, open, outer, reads, writes }
    }

    /// Brings down the fences of what this view of the server gives up. Yields the outer one of
    /// connections that are to leave it.
    fn take(&mut self, server: &Server, epoch: Option<u64>) -> Option<Left> {
        if self.incarnation != server.incarnation {
            self.incarnation = server.incarnation;
            self.outer.fall(match server.health.is_healthy() {
                true => "another server answers at its address",
                false => "it failed its health checks",
            });
            self.outer = Fence::default();
            (self.reads, self.writes) = (self.outer.inner(), self.outer.inner());
        }
        let is_left = self.enabled && !server.enabled;
        self.enabled = server.enabled;
        if self.epoch != epoch {
            self.epoch = epoch;
            self.writes.fall(NO_MASTER);
            self.writes = self.outer.inner();
        }
        if server.failure.is_none() {
            self.gate.forget();
        }
        is_left.then(|| self.leave(DISABLED))
    }

    /// Has all connections leave the server as soon as nothing runs on them. Nobody checks it from
    /// now on, so what goes on for too long has to be ended otherwise.
    fn leave(&mut self, cause: &'static str) -> Left {
        self.reads.fall(cause);
        self.writes.fall(cause);
        let fence = std::mem::take(&mut self.outer);
        (self.reads, self.writes) = (self.outer.inner(), self.outer.inner());
        Left { fence, cause }
    }
}

/// Connections that are to leave their server.
struct Left {
    fence: Fence,
    cause: &'static str,
}

impl Left {
    /// Ends what still runs on them when the time is up that transactions have at the end of failsoft
    /// itself.
    fn end_after(self, time: Duration) {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            self.fence.fall(self.cause);
        });
    }
}

/// Why a connection for writes is left when the master is another.
pub(crate) const NO_MASTER: &str = "it is no longer the master it was";

/// Why a server is left that is not to be used.
pub(crate) const DISABLED: &str = "it was disabled";

/// Why a server is left that is none of ours any more.
pub(crate) const REMOVED: &str = "it was removed from the configuration";

/// How a connection to a server is made.
pub(crate) struct Way {
    pub(crate) name: ServerName,
    role: Role,
    pub(crate) terms: Rc<Terms>,
    pub(crate) setup: Rc<Setup>,
    pub(crate) gate: Rc<Gate>,
    pub(crate) open: Arc<AtomicUsize>,
    outer: Fence,
    inner: Fence,
}

impl Way {
    /// What ties a connection made now to the server's being used.
    pub(crate) fn tether(&self) -> Tether {
        Tether::new(self.outer.clone(), self.inner.clone())
    }

    /// What the server is called on a connection that is for writes, or is not.
    pub(crate) fn name_for(&self, writes: bool) -> String {
        let role = if writes { Role::Master } else { self.role };
        format!("{role} {}", self.name)
    }
}

/// One core's share of the data plane.
pub(crate) struct Worker {
    pub(crate) metrics: WorkerMetrics,
    pub(crate) shared: Arc<Shared>,
    /// Cancelled when sessions are to end as soon as they are idle.
    pub(crate) drain: CancellationToken,
    /// Cancelled when they are to end at once.
    pub(crate) halt: CancellationToken,
    reports: UnboundedSender<Report>,
    /// The newest configuration; it is in force with the first view of it.
    setups: watch::Receiver<Arc<Setup>>,
    setup: RefCell<Rc<Setup>>,
    view: RefCell<Rc<View>>,
    changed: Notify,
    /// Connections that are in no session's hand.
    pub(crate) pool: Pool,
    /// What sessions left behind on connections that others have taken.
    pub(crate) insert_ids: InsertIds,
    /// Buffers that no session uses.
    pub(crate) buffers: Buffers,
    /// Clients that were not let in and have not hung up yet.
    pub(crate) lingering: Cell<usize>,
    servers: RefCell<Vec<Served>>,
    /// The reports that were made since the last view: a storm of sessions reports once.
    reported: RefCell<Vec<(Discriminant<Report>, ServerId)>>,
}

impl Worker {
    pub(crate) fn new(
        setups: watch::Receiver<Arc<Setup>>,
        metrics: WorkerMetrics,
        shared: Arc<Shared>,
        reports: UnboundedSender<Report>,
    ) -> Self {
        let setup = Setup::clone(&setups.borrow());
        Self {
            metrics,
            shared,
            drain: CancellationToken::new(),
            halt: CancellationToken::new(),
            reports,
            setups,
            setup: RefCell::new(Rc::new(setup)),
            view: RefCell::default(),
            changed: Notify::new(),
            pool: Pool::default(),
            insert_ids: InsertIds::default(),
            buffers: Buffers::default(),
            lingering: Cell::new(0),
            servers: RefCell::default(),
            reported: RefCell::default(),
        }
    }

    /// The latest view.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// The configuration in force.
    pub(crate) fn setup(&self) -> Rc<Setup> {
        Rc::clone(&self.setup.borrow())
    }

    /// Which configuration is in force.
    pub(crate) fn generation(&self) -> u64 {
        self.setup.borrow().settings.generation
    }

    /// The limits in force.
    pub(crate) fn limits(&self) -> Limits {
        self.setup.borrow().settings.limits
    }

    /// From when on a statement is slow, and how many a second are looked at.
    pub(crate) fn looks(&self) -> (Option<Duration>, u32) {
        let setup = self.setup.borrow();
        (setup.settings.slow_statement, setup.settings.digests_per_second)
    }

    /// How long one attempt to reach a server may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.setup.borrow().settings.connect_timeout
    }

    /// Takes in a new view, with the configuration that it is of, and ends what goes on with servers
    /// that it gives up.
    pub(crate) fn set_view(&self, view: &View) {
        let in_force = self.setup.borrow().settings.generation;
        if view.generation != in_force {
            let newest = Arc::clone(&self.setups.borrow());
            // A configuration is known here before there is a view of it. With one that is newer
            // than the view, the view of that is on its way.
            if newest.settings.generation != view.generation {
                return;
            }
            *self.setup.borrow_mut() = Rc::new(Setup::clone(&newest));
        }
        let is_other = view.generation != in_force || self.view.borrow().servers.is_empty();
        if is_other {
            self.metrics.follow(view);
            self.shared.forget_all_but(view);
        }
        let setup = self.setup();
        let terms = |at: usize| {
            let server = setup.settings.servers.get(at)?.clone();
            Some(Rc::new(Terms { server, tls: setup.settings.tls_servers.clone() }))
        };
        let mut left = Vec::new();
        let mut before = std::mem::take(&mut *self.servers.borrow_mut());
        let servers = view.servers.iter().enumerate().filter_map(|(at, server)| {
            let known = before.iter().position(|served| served.id == server.id);
            let mut served = match known {
                Some(at) => before.swap_remove(at),
                None => Served::new(server, terms(at)?, self.shared.backends_of(server.id)),
            };
            if is_other && let Some(terms) = terms(at).filter(|terms| *terms != served.terms) {
                served.terms = terms;
            }
            let partition = view.partitions.get(server.partition);
            let epoch = partition.filter(|it| it.master == Some(at)).map(|it| it.epoch);
            left.extend(served.take(server, epoch));
            Some(served)
        });
        let servers = servers.collect();
        *self.servers.borrow_mut() = servers;
        left.extend(before.iter_mut().map(|removed| removed.leave(REMOVED)));
        for left in left {
            left.end_after(setup.settings.drain_timeout);
        }
        self.reported.borrow_mut().clear();
        *self.view.borrow_mut() = Rc::new(view.clone());
        self.pool.tend(self);
        self.changed.notify_waiters();
    }

    /// How connections are kept; none where they are not.
    pub(crate) fn pool_settings(&self) -> Option<PoolSettings> {
        self.setup.borrow().settings.pool
    }

    /// How connections are shared between sessions; none where they are not.
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        self.pool_settings()?.shared
    }

    /// Whose turn it is at a server's connections; none when the configuration no longer has it.
    pub(crate) fn turns(&self, server: ServerId) -> Option<Rc<Turns>> {
        let servers = self.servers.borrow();
        let served = servers.iter().find(|served| served.id == server)?;
        Some(Rc::clone(&served.turns))
    }

    /// Ends with the next view, as of this call.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// How a connection to a server is made; none when the configuration no longer has it.
    pub(crate) fn way(&self, server: ServerId, epoch: Option<u64>) -> Option<Way> {
        let view = self.view();
        let setup = self.setup();
        let at = view.position(server)?;
        let known = view.servers.get(at)?;
        let servers = self.servers.borrow();
        let served = servers.get(at)?;
        let inner = match epoch {
            None => served.reads.clone(),
            Some(_) if epoch == served.epoch => served.writes.clone(),
            Some(_) => {
                let past = served.outer.inner();
                past.fall(NO_MASTER);
                past
            }
        };
        Some(Way {
            name: known.name.clone(),
            role: known.role,
            terms: Rc::clone(&served.terms),
            setup,
            gate: Rc::clone(&served.gate),
            open: Arc::clone(&served.open),
            outer: served.outer.clone(),
            inner,
        })
    }

    /// Whether all sessions log in to the server with one account, which is not their own.
    pub(crate) fn has_own_account(&self, server: ServerId) -> bool {
        self.terms(server).is_some_and(|terms| terms.server.account.is_some())
    }

    /// On what terms connections to a server are made.
    pub(crate) fn terms(&self, server: ServerId) -> Option<Rc<Terms>> {
        let servers = self.servers.borrow();
        let served = servers.iter().find(|served| served.id == server)?;
        Some(Rc::clone(&served.terms))
    }

    /// The account of this name, if it is listed.
    pub(crate) fn account(&self, name: &[u8]) -> Option<Account> {
        let setup = self.setup.borrow();
        let accounts = &setup.settings.accounts;
        accounts.iter().find(|account| account.name.as_bytes() == name).cloned()
    }

    /// Tells the control plane, once for each view and server.
    pub(crate) fn report(&self, report: Report) {
        let kind = (std::mem::discriminant(&report), report.server());
        let mut reported = self.reported.borrow_mut();
        if reported.contains(&kind) {
            return;
        }
        reported.push(kind);
        // It is gone only when the process ends.
        let _told = self.reports.send(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_no_servers_ids_nor_negative_nor_taken() {
        let shared = Arc::new(Shared::new());
        let mut first = shared.admit(10).unwrap();
        assert_eq!(first.id, ID_BIT + 1);
        let facts = crate::registry::Facts::new(String::new(), b"", crate::clock::now());
        assert!(first.belongs_to("app", 0, &Leash::new(CancellationToken::new(), facts)));
        // After a billion others the numbers come round.
        shared.next_id.store(u32::MAX, Ordering::Relaxed);
        let later: Vec<u32> = (0..3).map(|_| shared.admit(10).unwrap().id).collect();
        assert_eq!(later, [i32::MAX.cast_unsigned(), ID_BIT, ID_BIT + 2]);
    }
}
