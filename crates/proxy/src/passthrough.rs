//! Accounts that are listed nowhere: `login: passthrough`.
//!
//! The client is made to send its password, over TLS or under failsoft's key, and whether it is the
//! right one is for a server to say, by letting failsoft in with it. That is then remembered for a
//! while, in memory alone, for two reasons: the session needs the password for every server that it
//! goes to, and the account's next login needs no server, not even one that answers.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::topology::ServerId;
use policy::view::View;
use wire::auth::Plugin;
use wire::capabilities::Capabilities;
use wire::error::ClientError;

use crate::authenticate::Answer;
use crate::backend::ConnectError;
use crate::backend::connect::{self, Wanted};
use crate::backend::verdict::{Verdict as About, verdict};
use crate::clock::now;
use crate::login::LoginError;
use crate::proxied::{self, Ends};
use crate::settings::{Account, Password};
use crate::stream::Stream;
use crate::worker::Worker;
use crate::{password, refusal};

/// What there is for logins of accounts that are not listed; shared by all cores.
pub(crate) struct Passthrough {
    /// How long after a server let an account in failsoft does so without asking.
    lifetime: Duration,
    /// Servers see clients' own hosts, and may judge them by it.
    by_host: bool,
    known: Arc<Mutex<HashMap<Who, Known>>>,
}

/// A user, and the host where that matters.
type Who = (String, String);

struct Known {
    password: Password,
    /// When a server said so.
    since: Instant,
}

/// How many accounts are remembered.
const MOST_KNOWN: usize = 10_000;

impl fmt::Debug for Passthrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passthrough").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Passthrough {
    pub(crate) fn new(lifetime: Duration, by_host: bool) -> Self {
        Self { lifetime, by_host, known: Arc::default() }
    }

    /// The same with other settings; what is remembered stays, where it means the same.
    pub(crate) fn with(&self, lifetime: Duration, by_host: bool) -> Self {
        let is_same = by_host == self.by_host;
        let known = if is_same { Arc::clone(&self.known) } else { Arc::default() };
        Self { lifetime, by_host, known }
    }

    fn who(&self, name: &str, ends: Option<Ends>) -> Who {
        let host = if self.by_host { proxied::host(ends) } else { String::new() };
        (name.to_owned(), host)
    }

    /// The account as it was remembered.
    fn find(&self, name: &str, ends: Option<Ends>, now: Instant) -> Option<Account> {
        self.find_of_host(name, &proxied::host(ends), now)
    }

    /// The account as it was remembered of a client at this host.
    pub(crate) fn find_of_host(&self, name: &str, host: &str, now: Instant) -> Option<Account> {
        let host = if self.by_host { host } else { "" };
        let who = (name.to_owned(), host.to_owned());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&who).filter(|known| self.is_fresh(known, now))?;
        Some(Account { name: who.0, password: known.password.clone() })
    }

    fn is_fresh(&self, known: &Known, now: Instant) -> bool {
        now.saturating_duration_since(known.since) < self.lifetime
    }

    /// A server let the account in.
    pub(crate) fn remember(&self, account: &Account, ends: Option<Ends>, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let who = self.who(&account.name, ends);
        if known.len() >= MOST_KNOWN && !known.contains_key(&who) {
            known.retain(|_, known| self.is_fresh(known, now));
            let some = known.keys().next().filter(|_| known.len() >= MOST_KNOWN).cloned();
            some.and_then(|some| known.remove(&some));
        }
        known.insert(who, Known { password: account.password.clone(), since: now });
    }

    /// A server did not let the account in.
    pub(crate) fn forget(&self, account: &Account, ends: Option<Ends>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let who = self.who(&account.name, ends);
        if known.get(&who).is_some_and(|known| known.password == account.password) {
            known.remove(&who);
        }
    }
}

/// Who wants in.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) name: &'a str,
    pub(crate) ends: Option<Ends>,
    /// It can be asked for another plugin.
    pub(crate) switches: bool,
}

/// Lets an account in that a server lets in, or did lately.
///
/// # Errors
///
/// The client left or is refused: by a server, or because there is none to ask.
pub(crate) async fn log_in(
    worker: &Worker,
    passthrough: &Passthrough,
    stream: &mut Stream,
    client: Client<'_>,
    answer: &mut Answer,
) -> Result<Account, LoginError> {
    let known = passthrough.find(client.name, client.ends, now());
    let fitting = |answer: &Answer| known.clone().filter(|known| answer.fits(&known.password));
    if let Some(known) = fitting(answer).filter(|_| !answer.waits) {
        answer.approve(stream).await?;
        return Ok(known);
    }
    // One question is all that clients take, so it is for the plugin that can go on to the password.
    let shows = |plugin: Plugin| plugin == Plugin::CachingSha2 || plugin.shows_password();
    let is_empty = answer.is_empty();
    if answer.waits || !(is_empty || answer.plugin.is_some_and(shows)) {
        if !client.switches {
            return Err(answer.denied(client.name, client.ends));
        }
        answer.ask(stream, Plugin::CachingSha2).await?;
        if let Some(known) = fitting(answer) {
            answer.approve(stream).await?;
            return Ok(known);
        }
    }
    let denied = |answer: &Answer, with_password| {
        let host = proxied::host(client.ends);
        refused(answer, refusal::access_denied(client.name, &host, with_password))
    };
    let Some(password) = obtain(worker, stream, answer).await? else {
        return Err(denied(answer, true));
    };
    let account = Account { name: client.name.to_owned(), password };
    match ask_servers(worker, &account, client.ends).await {
        Ok(()) => Ok(account),
        Err(Verdict::Denied) => Err(denied(answer, !account.password.is_empty())),
        Err(Verdict::Told(error)) => Err(refused(answer, error)),
    }
}

fn refused(answer: &Answer, error: ClientError) -> LoginError {
    LoginError::Refused(answer.sequence.wrapping_add(1), error)
}

/// The password itself, which the client is asked for where it has only shown that it knows it. None
/// where what it sends is none.
async fn obtain(
    worker: &Worker,
    stream: &mut Stream,
    answer: &mut Answer,
) -> Result<Option<Password>, LoginError> {
    match answer.plugin {
        _ if answer.is_empty() => Ok(Some(Password::default())),
        Some(Plugin::CachingSha2) => password::ask(&worker.shared.login_key, stream, answer).await,
        _ => Ok(password::in_clear(&answer.bytes)),
    }
}

/// Why an account is not let in.
enum Verdict {
    /// A server said that user and password do not fit.
    Denied,
    /// It is told this.
    Told(ClientError),
}

/// Asks the servers in turn until one says something: masters first, which hear of changes first.
async fn ask_servers(
    worker: &Worker,
    account: &Account,
    ends: Option<Ends>,
) -> Result<(), Verdict> {
    let view = worker.view();
    let mut causes = Vec::new();
    for server in judges(&view) {
        // One that logs everybody in by an account of its own says nothing of this one.
        if worker.has_own_account(server) {
            continue;
        }
        let wanted = Wanted {
            server,
            epoch: None,
            account,
            capabilities: Capabilities::NONE,
            collation: 45,
            schema: b"",
            user_was_changed: false,
            attributes: &[],
            ends,
        };
        let error: Rc<ConnectError> = match Box::pin(connect::open(worker, wanted)).await {
            Ok(backend) => {
                backend.close();
                return Ok(());
            }
            Err(error) => error,
        };
        match &*error {
            ConnectError::Server(said) if said.sql_state == *b"28000" => {
                return Err(Verdict::Denied);
            }
            ConnectError::Server(said) if verdict(said.code) == About::Account => {
                let told = ClientError::new(said.code, &said.sql_state, said.message.clone());
                return Err(Verdict::Told(told));
            }
            other => causes.push((server, other.to_string())),
        }
    }
    Err(Verdict::Told(refusal::cannot_verify(&view, &causes)))
}

/// The servers that may judge an account, in the order in which they are asked.
fn judges(view: &View) -> Vec<ServerId> {
    let mut servers = Vec::new();
    let masters = view.partitions.iter().filter_map(|partition| partition.master);
    let readers = view.partitions.iter().flat_map(|partition| &partition.readers);
    for at in masters.chain(readers.map(|reader| reader.server)) {
        let Some(server) = view.servers.get(at).filter(|server| server.enabled) else { continue };
        if !servers.contains(&server.id) {
            servers.push(server.id);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, password: &str) -> Account {
        Account { name: name.to_owned(), password: Password::new(password.to_owned()) }
    }

    fn ends(source: &str) -> Option<Ends> {
        let source = source.parse().unwrap();
        Some(Ends { source, destination: source })
    }

    #[test]
    fn accounts_are_remembered_for_a_while() {
        let memory = Passthrough::new(Duration::from_secs(60), false);
        let start = now();
        let here = ends("192.0.2.1:1");
        let found = |at| memory.find("app", here, at).map(|account| account.password.to_string());
        assert_eq!(found(start), None);
        memory.remember(&account("app", "old"), here, start);
        memory.remember(&account("app", "new"), None, start);
        assert_eq!(found(start + Duration::from_secs(59)).as_deref(), Some("new"));
        assert_eq!(found(start + Duration::from_secs(60)), None);
        // A login with another password says nothing about this one.
        memory.forget(&account("app", "old"), here);
        assert_eq!(found(start).as_deref(), Some("new"));
        memory.forget(&account("app", "new"), here);
        assert_eq!(found(start), None);
        assert!(!format!("{memory:?}").contains("new"));
    }

    #[test]
    fn hosts_are_told_apart_where_servers_see_them() {
        let memory = Passthrough::new(Duration::from_secs(60), true);
        memory.remember(&account("app", "x"), ends("192.0.2.1:1"), now());
        assert!(memory.find("app", ends("192.0.2.1:2"), now()).is_some());
        assert!(memory.find("app", ends("192.0.2.2:1"), now()).is_none());
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let memory = Passthrough::new(Duration::from_secs(60), false);
        let start = now();
        for nth in 0..MOST_KNOWN + 10 {
            memory.remember(&account(&nth.to_string(), "x"), None, start);
        }
        assert_eq!(memory.known.lock().unwrap().len(), MOST_KNOWN);
        let later = start + Duration::from_secs(61);
        memory.remember(&account("late", "x"), None, later);
        assert_eq!(memory.known.lock().unwrap().len(), 1, "the old ones made room");
    }
}
