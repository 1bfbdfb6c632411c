//! Connections to servers that are in no session's hand.
//!
//! ```text
//! a session ends ──▶ give_back ──▶ clean ─┐                  ┌─▶ as it is
//!                                         ├──▶ Pool ──▶ take ┼─▶ after a cleaning
//! a session has nothing on it ──▶ park ───┘                  └─▶ its own again
//! ```
//!
//! With `pool.mode: session` a connection comes here when its session has ended, and is cleaned before
//! anybody can take it (see [`cleaning`](super::cleaning)).
//!
//! With `transaction` a session *parks* its connection whenever nothing of it is tied there. It finds it
//! as it was, unless another session has taken it. That one gets it as it is where both are to servers
//! what the other is, and cleaned where they are not. So a session alone pays nothing for sharing, and
//! many that have set the same things pay next to nothing.
//!
//! Each core has a pool of its own, so taking and giving need no lock.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use policy::topology::ServerId;
use wire::capabilities::Capabilities;

use super::Backend;
use super::connect::Wanted;
use crate::clock::now;
use crate::session::state::{Carried, State};
use crate::settings::{Account, PoolSettings, ServerSettings};
use crate::worker::Worker;

/// The connections of one core that are in no session's hand.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// The servers of those that are being cleaned.
    cleaning: RefCell<Vec<ServerId>>,
    /// The servers whose `init_connect` is known to be empty, and until when that is believed.
    plain: RefCell<Vec<(ServerId, Instant)>>,
}

/// A connection that waits for a session.
struct Idle {
    backend: Backend,
    condition: Rc<Condition>,
    since: Instant,
    /// Nothing was done over it since it was made or cleaned.
    is_clean: bool,
    /// The session that parked it, and finds it as it was as long as it is here.
    owner: Option<u32>,
}

/// What a connection is to whoever takes it.
pub(crate) struct Condition {
    /// The session that it is so for, and which of the session's states it is.
    session: u32,
    version: u64,
    made_for: MadeFor,
    state: State,
}

/// What a connection and the session that takes it have to have in common.
pub(crate) struct MadeFor {
    pub(super) account: Account,
    pub(super) capabilities: Capabilities,
    pub(super) collation: u16,
    pub(super) schema: Vec<u8>,
    /// The client's address, for servers that are told it.
    client: Option<IpAddr>,
    pub(super) attributes: Vec<u8>,
}

/// The session that looks for a connection.
pub(crate) struct Seeker<'a> {
    pub(crate) carried: &'a Carried,
    /// The schema that it is in on this server.
    pub(crate) schema: &'a [u8],
    /// Its statement asks for what statements before it left, which must not be another's.
    pub(crate) asks: bool,
}

/// A connection that was found.
pub(crate) struct Found {
    pub(crate) backend: Backend,
    pub(crate) fit: Fit,
    /// The session that may want to know the last insert id that it had there.
    pub(crate) owner: Option<u32>,
}

/// How well a connection fits.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fit {
    /// It has to be cleaned first.
    Uncleaned,
    /// It is as after a login.
    Clean,
    /// It has what the session has set.
    Same,
}

/// What became of a connection that a session had parked.
pub(crate) enum Own {
    /// It is here, as it was.
    Kept(Backend),
    /// It is lost, or the session wants another server, or has become another.
    Given(Option<Backend>),
    /// Another session took it.
    Taken,
}

/// How long it is believed that a server has no `init_connect`, which runs with a login and with
/// nothing else.
const BELIEVED: Duration = Duration::from_secs(10);

impl Condition {
    /// What a connection that was made for such sessions is to this one.
    pub(crate) fn of(session: u32, made_for: MadeFor, carried: &Carried) -> Self {
        Self { session, version: carried.version(), made_for, state: carried.state() }
    }

    /// Whether it is still that of this session.
    pub(crate) fn is_of(&self, session: u32, carried: &Carried) -> bool {
        self.session == session && self.version == carried.version()
    }
}

impl MadeFor {
    /// None where such a connection is never kept.
    pub(crate) fn of(wanted: &Wanted<'_>, backend: &Backend) -> Option<Self> {
        // A server is not the same to a session that changed its user; and a reset does not lead back
        // to a collation that only a change of user can ask for, nor to what only a login says.
        let by_login = Capabilities::IGNORE_SPACE.or(Capabilities::INTERACTIVE);
        let is_lasting =
            wanted.collation > u8::MAX.into() || wanted.capabilities.intersects(by_login);
        if wanted.user_was_changed || is_lasting {
            return None;
        }
        let settings = &backend.terms.server;
        Some(Self {
            account: account(wanted, settings).clone(),
            capabilities: wanted.capabilities,
            collation: wanted.collation,
            schema: wanted.schema.to_vec(),
            client: address(wanted, settings),
            attributes: wanted.attributes.to_vec(),
        })
    }

    /// Whether it is good for this, but for the schema. The attributes are those of the client that it
    /// was made for.
    fn is_for(&self, wanted: &Wanted<'_>, backend: &Backend) -> bool {
        let settings = &backend.terms.server;
        self.collation == wanted.collation
            && self.capabilities == wanted.capabilities
            && self.client == address(wanted, settings)
            && self.account == *account(wanted, settings)
    }
}

/// The account that the server knows the session by.
fn account<'a>(wanted: &Wanted<'a>, settings: &'a ServerSettings) -> &'a Account {
    settings.account.as_ref().unwrap_or(wanted.account)
}

/// The client's address, where the server is told it.
fn address(wanted: &Wanted<'_>, settings: &ServerSettings) -> Option<IpAddr> {
    wanted.ends.filter(|_| settings.proxy_protocol).map(|ends| ends.source.ip())
}

impl Pool {
    /// A connection that the session may have, the best there is; none where there is none. Which of
    /// several: where sessions share them the one that nobody has wanted for longest, else the one that
    /// was used last, so that the others grow old.
    pub(crate) fn take(
        &self,
        worker: &Worker,
        wanted: &Wanted<'_>,
        seeker: &Seeker<'_>,
    ) -> Option<Found> {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() || wanted.user_was_changed {
            return None;
        }
        let (settings, now) = (worker.pool_settings()?, now());
        loop {
            let fits = idle.iter().enumerate().filter_map(|(at, each)| {
                let order = if settings.shared.is_some() { usize::MAX - at } else { at };
                Some((each.fit(wanted, seeker)?, order, at))
            });
            let (fit, _, at) = fits.max()?;
            let mut found = idle.remove(at);
            if found.is_good(worker, now) {
                let is_condemned = found.owner.is_some_and(|owner| {
                    found.backend.let_go();
                    worker.shared.registry.is_condemned(owner)
                });
                // Whoever kills what its owner runs may hit the next.
                if !is_condemned {
                    let Idle { mut backend, owner, .. } = found;
                    backend.generation = worker.generation();
                    backend.wake();
                    return Some(Found { backend, fit, owner });
                }
            }
            found.backend.close();
        }
    }

    /// The connection that this session parked, if it is to this server, for writes of this epoch or for
    /// reads, and the session is what it was.
    pub(crate) fn take_own(
        &self,
        worker: &Worker,
        session: u32,
        (server, epoch): (ServerId, Option<u64>),
        carried: &Carried,
    ) -> Own {
        let mut idle = self.idle.borrow_mut();
        let Some(at) = idle.iter().rposition(|each| each.owner == Some(session)) else {
            return Own::Taken;
        };
        let Some(found) = idle.get_mut(at) else { return Own::Taken };
        let is_it = found.backend.server == server
            && found.backend.epoch == epoch
            && found.condition.is_of(session, carried);
        if !is_it {
            found.abandon();
            return Own::Given(None);
        }
        let mut own = idle.remove(at);
        let is_good = own.is_good(worker, now());
        let mut backend = own.backend;
        if !is_good {
            return Own::Given(Some(backend));
        }
        backend.generation = worker.generation();
        backend.wake();
        Own::Kept(backend)
    }

    /// Takes in a connection that its session may want again, and others before it.
    pub(crate) fn park(&self, mut backend: Backend, condition: Rc<Condition>) {
        backend.rest();
        let owner = Some(condition.session);
        let parked = Idle { backend, condition, since: now(), is_clean: false, owner };
        self.idle.borrow_mut().push(parked);
    }

    /// Takes in a connection that was cleaned.
    pub(super) fn keep_clean(&self, mut backend: Backend, made_for: MadeFor) {
        backend.rest();
        let state = State::default();
        let condition = Rc::new(Condition { session: 0, version: 0, made_for, state });
        let kept = Idle { backend, condition, since: now(), is_clean: true, owner: None };
        self.idle.borrow_mut().push(kept);
    }

    /// The session wants the connection that it parked no more, if it has one.
    pub(crate) fn disown(&self, session: u32) {
        let mut idle = self.idle.borrow_mut();
        let own = idle.iter_mut().find(|each| each.owner == Some(session));
        if let Some(own) = own {
            own.abandon();
        }
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    /// Closes what is too old, or of no use any more.
    pub(crate) fn tend(&self, worker: &Worker) {
        if self.is_empty() {
            return;
        }
        let now = now();
        let is_over = |each: &mut Idle| !each.is_good(worker, now);
        let over: Vec<_> = self.idle.borrow_mut().extract_if(.., is_over).collect();
        over.into_iter().for_each(|each| each.backend.close());
    }

    /// Closes everything.
    pub(crate) fn clear(&self) {
        self.idle.take().into_iter().for_each(|each| each.backend.close());
    }

    /// Closes the connection to this server that waited longest; false where there is none.
    pub(crate) fn make_room(&self, server: ServerId) -> bool {
        self.take_oldest(server).map(|(backend, _)| backend.close()).is_some()
    }

    /// Takes the connection to this server out that waited longest, with the session that parked it.
    pub(crate) fn take_oldest(&self, server: ServerId) -> Option<(Backend, Option<u32>)> {
        let mut idle = self.idle.borrow_mut();
        let oldest = idle.iter().position(|each| each.backend.server == server)?;
        let Idle { mut backend, owner, .. } = idle.remove(oldest);
        backend.let_go();
        Some((backend, owner))
    }

    /// How many connections to this server are here.
    pub(crate) fn count(&self, server: ServerId) -> usize {
        let idle = self.idle.borrow();
        let kept = idle.iter().filter(|each| each.backend.server == server).count();
        let cleaning = self.cleaning.borrow();
        kept + cleaning.iter().filter(|known| **known == server).count()
    }

    pub(super) fn has_room(&self, server: ServerId, settings: PoolSettings) -> bool {
        let most = settings.shared.map_or(settings.idle, |shared| shared.size);
        self.count(server) < most
    }

    pub(super) fn begin_cleaning(&self, server: ServerId) {
        self.cleaning.borrow_mut().push(server);
    }

    pub(super) fn end_cleaning(&self, server: ServerId) {
        let mut cleaning = self.cleaning.borrow_mut();
        if let Some(at) = cleaning.iter().position(|known| *known == server) {
            cleaning.swap_remove(at);
        }
    }

    pub(super) fn is_plain(&self, server: ServerId, now: Instant) -> bool {
        let mut plain = self.plain.borrow_mut();
        plain.retain(|(_, until)| *until > now);
        plain.iter().any(|(known, _)| *known == server)
    }

    pub(super) fn note_plain(&self, server: ServerId, now: Instant) {
        self.plain.borrow_mut().push((server, now + BELIEVED));
    }
}

impl Idle {
    /// How well it fits; none where it does not, or cannot be made to.
    fn fit(&self, wanted: &Wanted<'_>, seeker: &Seeker<'_>) -> Option<Fit> {
        let backend = &self.backend;
        let fits = backend.server == wanted.server
            && backend.epoch == wanted.epoch
            && self.condition.made_for.is_for(wanted, backend);
        if !fits {
            return None;
        }
        let schema = &self.condition.made_for.schema;
        if self.is_clean {
            return (schema == wanted.schema).then_some(Fit::Clean);
        }
        let is_same = !seeker.asks
            && !backend.is_marked
            && backend.prepared.is_empty()
            && schema == seeker.schema
            && seeker.carried.is_in(&self.condition.state);
        if is_same {
            return Some(Fit::Same);
        }
        // There is no way back to no schema but a login.
        let can_be_cleaned =
            !backend.is_marked && (!backend.resets_to_login || !wanted.schema.is_empty());
        (can_be_cleaned || (schema.is_empty() && !backend.is_marked)).then_some(Fit::Uncleaned)
    }

    fn abandon(&mut self) {
        self.owner = None;
        self.backend.let_go();
    }

    /// Whether it may be used, by the configuration in force.
    fn is_good(&mut self, worker: &Worker, now: Instant) -> bool {
        let terms = worker.terms(self.backend.server);
        terms.is_some_and(|terms| terms == self.backend.terms)
            && worker.pool_settings().is_some_and(|settings| !self.is_old(settings, now))
            && !self.is_lost()
    }

    /// What its owner may come back for, to ask for its last insert id, may grow old.
    fn is_old(&self, settings: PoolSettings, now: Instant) -> bool {
        let is_missed = self.owner.is_some() && self.backend.may_have_insert_id;
        !is_missed && self.is_of_age(settings, now)
    }

    fn is_of_age(&self, settings: PoolSettings, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= settings.idle_time
            || now.saturating_duration_since(self.backend.made) >= settings.lifetime
    }

    fn is_lost(&mut self) -> bool {
        self.backend.poll_lost(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}
