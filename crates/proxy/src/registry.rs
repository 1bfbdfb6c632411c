//! Which sessions there are and which connections to servers they hold: whom a `KILL` means.
//!
//! Clients know two ids: failsoft's, from the greeting, and those of the servers, from
//! `CONNECTION_ID()` and `SHOW PROCESSLIST`. Both lead here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A connection to a server, as `KILL` names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Connection {
    /// The server, an index into the view's servers.
    pub(crate) server: usize,
    /// The server's id of the connection.
    pub(crate) id: u32,
}

/// How a session is ended from outside.
#[derive(Clone, Debug)]
pub(crate) struct Leash {
    /// Cancelled when the session is to end.
    pub(crate) end: CancellationToken,
    sentence: Arc<Sentence>,
}

/// Those that are killing what the session runs.
#[derive(Debug, Default)]
struct Sentence {
    /// How many killers wait for their server's word.
    killers: AtomicU32,
    settled: Notify,
}

impl Leash {
    pub(crate) fn new(end: CancellationToken) -> Self {
        Self { end, sentence: Arc::default() }
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
    pub(crate) fn condemn(&self) {
        self.sentence.killers.fetch_add(1, Ordering::AcqRel);
    }

    /// One of them knows. Where the session itself was meant, its end was asked for before.
    pub(crate) fn settle(&self) {
        self.sentence.killers.fetch_sub(1, Ordering::AcqRel);
        self.sentence.settled.notify_waiters();
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

/// A session, as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// failsoft's id of it.
    pub(crate) session: u32,
    /// The name of its account.
    pub(crate) account: String,
    /// The connection that it holds.
    pub(crate) connection: Option<Connection>,
    pub(crate) leash: Leash,
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
        let account = account.to_owned();
        let mut entries = self.entries();
        let connection = entries.get(&session).and_then(|entry| entry.connection);
        let entry = Entry { session, account, connection, leash: leash.clone() };
        entries.insert(session, entry);
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

    /// Takes note that a connection is closed. The session may hold another by now.
    pub(crate) fn release(&self, session: u32, connection: Connection) {
        if let Some(entry) = self.entries().get_mut(&session)
            && entry.connection == Some(connection)
        {
            entry.connection = None;
        }
    }

    /// The session with this id of failsoft's.
    pub(crate) fn session(&self, id: u32) -> Option<Entry> {
        self.entries().get(&id).cloned()
    }

    /// The session that holds this connection.
    pub(crate) fn holder(&self, connection: Connection) -> Option<Entry> {
        let holds = |entry: &&Entry| entry.connection == Some(connection);
        self.entries().values().find(holds).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leash() -> Leash {
        Leash::new(CancellationToken::new())
    }

    #[test]
    fn sessions_are_found_by_either_id() {
        let registry = Registry::default();
        let [old, other, new] =
            [(0, 7), (1, 7), (1, 8)].map(|(server, id)| Connection { server, id });
        registry.enter(1, "app", &leash());
        registry.enter(2, "other", &leash());
        let holder = |connection| registry.holder(connection).map(|entry| entry.session);
        assert_eq!(holder(old), None);
        registry.hold(1, old);
        registry.hold(2, other);
        assert_eq!((holder(old), holder(other)), (Some(1), Some(2)));
        // The old connection is closed after the session took another.
        registry.hold(1, new);
        registry.release(1, old);
        assert_eq!((holder(old), holder(new)), (None, Some(1)));
        let entry = registry.session(1);
        assert_eq!(entry.and_then(|entry| entry.connection), Some(new));
        // A new account keeps what is held.
        registry.enter(1, "root", &leash());
        let entry = registry.session(1);
        assert_eq!(entry.as_ref().and_then(|entry| entry.connection), Some(new));
        assert_eq!(entry.map(|entry| entry.account).as_deref(), Some("root"));
        registry.release(1, new);
        registry.leave(2);
        assert!(registry.holder(other).is_none() && registry.session(2).is_none());
    }
}
