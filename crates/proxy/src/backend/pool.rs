//! Connections to servers that are kept when their session has ended, for sessions to come.
//!
//! ```text
//! a session ends ──▶ give_back ──▶ clean ──▶ Pool ──▶ take ──▶ a session begins
//!                        └────────────┴─────────┴──▶ closed, where anything is not as it should be
//! ```
//!
//! A connection is cleaned when it is given back, while nobody waits for it. MariaDB cleans it by
//! `COM_RESET_CONNECTION`, which puts the login's character set back, and `COM_INIT_DB`, which puts the
//! schema's back. MySQL goes to the character set that it starts with then, so there it is
//! `COM_CHANGE_USER`, which is a login of its own (seen on MariaDB 10.11 and MySQL 9.7). What neither
//! takes back is not kept at all: see [`Backend::is_marked`].
//!
//! Each core has a pool of its own, so taking and giving need no lock.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use policy::topology::ServerId;
use wire::capabilities::Capabilities;

use super::connect::{Wanted, log_in_again};
use super::restore::{RestoreError, reset, setting_of_init_connect, within};
use super::{Backend, Loss};
use crate::clock::now;
use crate::settings::{Account, PoolSettings, ServerSettings};
use crate::worker::Worker;

/// The connections of one core that belong to no session.
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
    made_for: MadeFor,
    since: Instant,
}

/// What a connection and the session that takes it have to have in common.
pub(crate) struct MadeFor {
    account: Account,
    capabilities: Capabilities,
    collation: u16,
    schema: Vec<u8>,
    /// The client's address, for servers that are told it.
    client: Option<IpAddr>,
    attributes: Vec<u8>,
}

/// How long it is believed that a server has no `init_connect`, which runs with a login and with
/// nothing else.
const BELIEVED: Duration = Duration::from_secs(10);

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

    /// Whether it is good for this. The attributes are those of the client that it was made for.
    fn is_for(&self, wanted: &Wanted<'_>, backend: &Backend) -> bool {
        let settings = &backend.terms.server;
        self.collation == wanted.collation
            && self.schema == wanted.schema
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
    /// A connection that is as one made now would be; none where there is none.
    pub(crate) fn take(&self, worker: &Worker, wanted: &Wanted<'_>) -> Option<Backend> {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() || wanted.user_was_changed {
            return None;
        }
        let (terms, settings, now) = (worker.terms(wanted.server)?, worker.pool_settings()?, now());
        let fits = |each: &Idle| {
            each.backend.server == wanted.server
                && each.backend.epoch == wanted.epoch
                && each.made_for.is_for(wanted, &each.backend)
        };
        // The one that was used last first: those at the other end may grow old.
        while let Some(at) = idle.iter().rposition(fits) {
            let mut found = idle.remove(at);
            if found.backend.terms == terms && found.is_good(settings, now) {
                found.backend.generation = worker.generation();
                found.backend.wake();
                return Some(found.backend);
            }
            found.backend.close();
        }
        None
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
        let (settings, now) = (worker.pool_settings(), now());
        let is_over = |each: &mut Idle| {
            let terms = worker.terms(each.backend.server);
            terms.is_none_or(|terms| terms != each.backend.terms)
                || settings.is_none_or(|settings| !each.is_good(settings, now))
        };
        let over: Vec<_> = self.idle.borrow_mut().extract_if(.., is_over).collect();
        over.into_iter().for_each(|each| each.backend.close());
    }

    /// Closes everything.
    pub(crate) fn clear(&self) {
        self.idle.take().into_iter().for_each(|each| each.backend.close());
    }

    /// Closes the connection to this server that waited longest; false where there is none.
    pub(crate) fn make_room(&self, server: ServerId) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = idle.iter().position(|each| each.backend.server == server);
        oldest.map(|at| idle.remove(at).backend.close()).is_some()
    }

    fn has_room(&self, server: ServerId, settings: PoolSettings) -> bool {
        let idle = self.idle.borrow();
        let kept = idle.iter().filter(|each| each.backend.server == server).count();
        let cleaning = self.cleaning.borrow();
        kept + cleaning.iter().filter(|known| **known == server).count() < settings.idle
    }

    fn is_plain(&self, server: ServerId, now: Instant) -> bool {
        let mut plain = self.plain.borrow_mut();
        plain.retain(|(_, until)| *until > now);
        plain.iter().any(|(known, _)| *known == server)
    }
}

impl Idle {
    fn is_good(&mut self, settings: PoolSettings, now: Instant) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        now.saturating_duration_since(self.since) < settings.idle_time
            && now.saturating_duration_since(self.backend.made) < settings.lifetime
            && self.backend.poll_lost(&mut cx).is_pending()
    }
}

/// Keeps a connection on which nothing is in flight, or closes it.
pub(crate) fn give_back(worker: &Rc<Worker>, mut backend: Backend, made_for: MadeFor) {
    let room = |settings| worker.pool.has_room(backend.server, settings);
    let is_wanted = !backend.is_marked
        && backend.buffer.is_empty()
        && !worker.drain.is_cancelled()
        && worker.pool_settings().is_some_and(room);
    if !is_wanted {
        backend.close();
        return;
    }
    let cleaning = Cleaning::begin(worker, backend.server);
    tokio::task::spawn_local(async move {
        let worker = &cleaning.worker;
        let limit = worker.connect_timeout();
        match within(limit, clean(worker, &mut backend, &made_for)).await {
            Ok(()) if !worker.drain.is_cancelled() => {
                backend.rest();
                let since = now();
                worker.pool.idle.borrow_mut().push(Idle { backend, made_for, since });
            }
            Ok(()) => backend.close(),
            Err(error) => tracing::debug!("a connection is not kept: {error}"),
        }
    });
}

/// A connection to a server that is being cleaned: it counts as one that is kept.
struct Cleaning {
    worker: Rc<Worker>,
    server: ServerId,
}

impl Cleaning {
    fn begin(worker: &Rc<Worker>, server: ServerId) -> Self {
        worker.pool.cleaning.borrow_mut().push(server);
        Self { worker: Rc::clone(worker), server }
    }
}

impl Drop for Cleaning {
    fn drop(&mut self) {
        let mut cleaning = self.worker.pool.cleaning.borrow_mut();
        if let Some(at) = cleaning.iter().position(|server| *server == self.server) {
            cleaning.swap_remove(at);
        }
    }
}

/// Puts a connection back to what it was after its login.
async fn clean(
    worker: &Worker,
    backend: &mut Backend,
    made_for: &MadeFor,
) -> Result<(), RestoreError> {
    // Asked before, so that the answer is not the last thing that the connection knows of.
    if !worker.pool.is_plain(backend.server, now()) {
        if setting_of_init_connect(backend).await?.is_none_or(|text| !text.is_empty()) {
            return Err(Loss("the server has an init_connect".to_owned()).into());
        }
        worker.pool.plain.borrow_mut().push((backend.server, now() + BELIEVED));
    }
    let MadeFor { account, collation, schema, attributes, .. } = made_for;
    if backend.resets_to_login {
        reset(backend, schema).await?;
    } else {
        let again = log_in_again(backend, account, *collation, schema, attributes).await;
        backend.status = again.map_err(|error| Loss(error.to_string()))?;
    }
    backend.prepared.clear();
    Ok(())
}
