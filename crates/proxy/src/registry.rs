//! Which sessions there are and which connections to servers they hold: whom a `KILL` means.
//!
//! Clients know two ids: failsoft's, from the greeting, and those of the servers, from
//! `CONNECTION_ID()` and `SHOW PROCESSLIST`. Both lead here. And what each session does, for operators.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use policy::session::Pins;
use policy::topology::ServerId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A connection to a server, as `KILL` names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Connection {
    pub(crate) server: ServerId,
    /// The server's id of the connection.
    pub(crate) id: u32,
}

/// How a session is ended from outside, and what is seen of it there.
#[derive(Clone, Debug)]
pub(crate) struct Leash {
    /// Cancelled when the session is to end.
    pub(crate) end: CancellationToken,
    sentence: Arc<Sentence>,
}

/// Those that are killing what the session runs.
#[derive(Debug)]
struct Sentence {
    facts: Facts,
    /// How many killers wait for their server's word.
    killers: AtomicU32,
    /// How many orders to kill a statement of the session were carried out.
    carried_out: AtomicU32,
    settled: Notify,
}

impl Leash {
    pub(crate) fn new(end: CancellationToken, facts: Facts) -> Self {
        let (killers, carried_out) = (AtomicU32::new(0), AtomicU32::new(0));
        let settled = Notify::new();
        Self { end, sentence: Arc::new(Sentence { facts, killers, carried_out, settled }) }
    }

    /// What the session shows of itself.
    pub(crate) fn facts(&self) -> &Facts {
        &self.sentence.facts
    }

    /// Whether somebody is killing what the session runs.
    pub(crate) fn is_condemned(&self) -> bool {
        self.sentence.killers.load(Ordering::Acquire) > 0
    }

    /// Whether what the session runs is being killed, or the session was: it must not be run again
    /// elsewhere.
    pub(crate) fn is_killed(&self) -> bool {
        self.is_condemned() || self.end.is_cancelled()
    }

    /// Somebody is about to; [`Leash::settle`] has to follow.
    fn condemn(&self) {
        self.sentence.killers.fetch_add(1, Ordering::AcqRel);
    }

    /// One of them knows. Where the session itself was meant, its end was asked for before.
    fn settle(&self) {
        self.sentence.killers.fetch_sub(1, Ordering::AcqRel);
        self.sentence.settled.notify_waiters();
    }

    /// What the session runs was killed, if it ran anything.
    pub(crate) fn carry_out(&self) {
        self.sentence.carried_out.fetch_add(1, Ordering::AcqRel);
    }

    /// How many orders to kill a statement were carried out so far.
    pub(crate) fn carried_out(&self) -> u32 {
        self.sentence.carried_out.load(Ordering::Acquire)
    }

    /// Waits until more of them were than that.
    pub(crate) async fn carried_out_since(&self, before: u32) {
        loop {
            let settled = self.sentence.settled.notified();
            if self.carried_out() != before {
                return;
            }
            settled.await;
        }
    }

    /// Waits until nobody is: what the server says to the killer and to the killed comes in any
    /// order.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.sentence.settled.notified();
            if !self.is_condemned() {
                return;
            }
            settled.await;
        }
    }
}

/// What a session shows of itself. Only its own core writes here, and seldom does anybody read.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The host that the client comes from.
    host: String,
    /// When it logged in.
    since: Instant,
    /// How many milliseconds later the last command came, or ended.
    changed_ms: AtomicU64,
    /// Commands so far.
    commands: AtomicU64,
    /// Its pins, and what else is the case.
    doing: AtomicU32,
    schema: Mutex<Vec<u8>>,
}

/// A command runs.
const RUNNING: u32 = 1 << 16;
/// A transaction is open, or may be.
const IN_TRANSACTION: u32 = 1 << 17;

impl Facts {
    pub(crate) fn new(host: String, schema: &[u8], since: Instant) -> Self {
        Self {
            host,
            since,
            changed_ms: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            doing: AtomicU32::new(0),
            schema: Mutex::new(schema.to_vec()),
        }
    }

    /// The host that the client comes from.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Shows what the session does since `at`.
    pub(crate) fn show(&self, at: Instant, runs: bool, in_transaction: bool, pins: Pins) {
        let since = at - self.since;
        let ms = since.as_secs() * 1000 + u64::from(since.subsec_millis());
        self.changed_ms.store(ms, Ordering::Relaxed);
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let flags = flag(runs, RUNNING) | flag(in_transaction, IN_TRANSACTION);
        self.doing.store(u32::from(pins.bits()) | flags, Ordering::Relaxed);
        if runs {
            // Nobody else writes.
            let commands = self.commands.load(Ordering::Relaxed);
            self.commands.store(commands + 1, Ordering::Relaxed);
        }
    }

    /// Shows its current schema.
    pub(crate) fn show_schema(&self, schema: &[u8]) {
        let mut shown = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != schema {
            *shown = schema.to_vec();
        }
    }
}

/// A client's session, as an operator sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionInfo {
    /// failsoft's id of it.
    pub id: u32,
    /// The account.
    pub user: String,
    /// The host that the client comes from.
    pub host: String,
    /// The current schema; empty for none.
    pub schema: String,
    /// The server whose connection it holds.
    pub server: Option<ServerId>,
    /// That server's id of the connection.
    pub connection: Option<u32>,
    /// A command runs.
    pub runs: bool,
    /// A transaction is open, or may be.
    pub in_transaction: bool,
    /// What keeps it from leaving its server.
    pub pins: Pins,
    /// Since its command came, or its last one ended.
    pub since_change: Duration,
    /// Since it logged in.
    pub age: Duration,
    /// Commands so far.
    pub commands: u64,
}

/// A session, as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// failsoft's id of it.
    pub(crate) session: u32,
    /// The name of its account.
    pub(crate) account: Arc<str>,
    /// The connection that it holds.
    pub(crate) connection: Option<Connection>,
    pub(crate) leash: Leash,
}

impl Entry {
    fn info(&self, now: Instant) -> SessionInfo {
        let facts = self.leash.facts();
        let doing = facts.doing.load(Ordering::Relaxed);
        let changed = Duration::from_millis(facts.changed_ms.load(Ordering::Relaxed));
        let age = now.saturating_duration_since(facts.since);
        let schema = facts.schema.lock().unwrap_or_else(PoisonError::into_inner);
        SessionInfo {
            id: self.session,
            user: self.account.to_string(),
            host: facts.host.clone(),
            schema: String::from_utf8_lossy(&schema).into_owned(),
            server: self.connection.map(|connection| connection.server),
            connection: self.connection.map(|connection| connection.id),
            runs: doing & RUNNING != 0,
            in_transaction: doing & IN_TRANSACTION != 0,
            pins: Pins::from_bits(doing),
            since_change: age.saturating_sub(changed),
            age,
            commands: facts.commands.load(Ordering::Relaxed),
        }
    }
}

/// A session that is about to be killed: until this is dropped it waits for its killer's server, and
/// its connection becomes nobody else's.
#[derive(Debug)]
pub(crate) struct Claim(pub(crate) Entry);

impl Claim {
    fn new(entry: Entry) -> Self {
        entry.leash.condemn();
        Self(entry)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.leash.settle();
    }
}

/// All sessions that were let in.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<u32, Entry>>);

impl Registry {
    fn entries(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a session, or of its new account.
    pub(crate) fn enter(&self, session: u32, account: &str, leash: &Leash) {
        let account = Arc::from(account);
        let mut entries = self.entries();
        let connection = entries.get(&session).and_then(|entry| entry.connection);
        let entry = Entry { session, account, connection, leash: leash.clone() };
        entries.insert(session, entry);
    }

    /// What every session does, in no order.
    pub(crate) fn infos(&self, now: Instant) -> Vec<SessionInfo> {
        // Sessions come and go meanwhile: the lock is held for no longer than it takes to see who is there.
        let entries: Vec<Entry> = self.entries().values().cloned().collect();
        entries.iter().map(|entry| entry.info(now)).collect()
    }

    /// Takes note that a session is over.
    pub(crate) fn leave(&self, session: u32) {
        self.entries().remove(&session);
    }

    /// Takes note that a session holds a connection from now on.
    pub(crate) fn hold(&self, session: u32, connection: Connection) {
        if let Some(entry) = self.entries().get_mut(&session) {
            entry.connection = Some(connection);
        }
    }

    /// Takes note that a session let go of a connection. It may hold another by now.
    pub(crate) fn release(&self, session: u32, connection: Connection) {
        if let Some(entry) = self.entries().get_mut(&session)
            && entry.connection == Some(connection)
        {
            entry.connection = None;
        }
    }

    /// Whether somebody is killing what this session runs.
    pub(crate) fn is_condemned(&self, session: u32) -> bool {
        self.entries().get(&session).is_some_and(|entry| entry.leash.is_condemned())
    }

    /// Whether there is a session with this id of failsoft's.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.entries().contains_key(&id)
    }

    /// The session with this id of failsoft's.
    pub(crate) fn claim(&self, id: u32) -> Option<Claim> {
        self.entries().get(&id).cloned().map(Claim::new)
    }

    /// The session that holds this connection. It is claimed before it can let go of it.
    pub(crate) fn claim_holder(&self, connection: Connection) -> Option<Claim> {
        let holds = |entry: &&Entry| entry.connection == Some(connection);
        let entries = self.entries();
        entries.values().find(holds).cloned().map(Claim::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leash() -> Leash {
        let facts = Facts::new("10.0.0.7".to_owned(), b"shop", crate::clock::now());
        Leash::new(CancellationToken::new(), facts)
    }

    #[test]
    fn what_a_session_does_is_seen() {
        let (registry, leash) = (Registry::default(), leash());
        let facts = leash.facts();
        registry.enter(7, "app", &leash);
        let connection = Connection { server: ServerId(2), id: 44 };
        registry.hold(7, connection);
        let pins = Pins::TEMPORARY_TABLE.with(Pins::DOUBT);
        facts.show(facts.since + Duration::from_secs(3), true, true, pins);
        facts.show_schema(b"other");
        let [info] = &registry.infos(facts.since + Duration::from_secs(10))[..] else { panic!() };
        let expected = SessionInfo {
            id: 7,
            user: "app".to_owned(),
            host: "10.0.0.7".to_owned(),
            schema: "other".to_owned(),
            server: Some(ServerId(2)),
            connection: Some(44),
            runs: true,
            in_transaction: true,
            pins,
            since_change: Duration::from_secs(7),
            age: Duration::from_secs(10),
            commands: 1,
        };
        assert_eq!(*info, expected);
        facts.show(facts.since, false, false, Pins::NONE);
        let [info] = &registry.infos(facts.since)[..] else { panic!() };
        assert!(!info.runs && !info.in_transaction && info.pins.is_empty());
    }

    #[test]
    fn sessions_are_found_by_either_id() {
        let registry = Registry::default();
        let [old, other, new] = [(0, 7), (1, 7), (1, 8)]
            .map(|(server, id)| Connection { server: ServerId(server), id });
        registry.enter(1, "app", &leash());
        registry.enter(2, "other", &leash());
        let holder = |connection| registry.claim_holder(connection).map(|claim| claim.0.session);
        assert_eq!(holder(old), None);
        registry.hold(1, old);
        registry.hold(2, other);
        assert_eq!((holder(old), holder(other)), (Some(1), Some(2)));
        // The old connection is closed after the session took another.
        registry.hold(1, new);
        registry.release(1, old);
        assert_eq!((holder(old), holder(new)), (None, Some(1)));
        let connection = || registry.claim(1).and_then(|claim| claim.0.connection);
        assert_eq!(connection(), Some(new));
        // A new account keeps what is held.
        registry.enter(1, "root", &leash());
        assert_eq!(connection(), Some(new));
        let claim = registry.claim(1).unwrap();
        assert_eq!(&*claim.0.account, "root");
        assert!(claim.0.leash.is_condemned());
        drop(claim);
        assert!(registry.claim(1).is_some_and(|claim| claim.0.leash.is_condemned()));
        registry.release(1, new);
        registry.leave(2);
        assert!(registry.claim_holder(other).is_none() && !registry.has(2));
    }
}
