//! Accounts that are listed nowhere: `login: passthrough`.
//!
//! The client is made to send its password, over TLS or under failsoft's key, and whether it is the
//! right one is for a server to say, by letting failsoft in with it. That is then remembered for a
//! while, in memory alone, for two reasons: the session needs the password for every server that it
//! goes to, and the account's next login needs no server, not even one that answers.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use policy::view::View;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use wire::auth::{ASK_PUBLIC_KEY, FULL_AUTH, Plugin, mask_password};
use wire::capabilities::Capabilities;
use wire::error::ClientError;

use crate::authenticate::Answer;
use crate::backend::ConnectError;
use crate::backend::connect::{self, Wanted};
use crate::backend::verdict::{Verdict as About, verdict};
use crate::clock::now;
use crate::login::LoginError;
use crate::proxied::{self, Ends};
use crate::refusal;
use crate::settings::Account;
use crate::stream::{Stream, read_login_packet};
use crate::tls::TlsError;
use crate::worker::Worker;

/// What there is for logins of accounts that are not listed; shared by all cores.
pub(crate) struct Passthrough {
    key: LoginKey,
    /// How long after a server let an account in failsoft does so without asking.
    lifetime: Duration,
    /// Servers see clients' own hosts, and may judge them by it.
    by_host: bool,
    known: Mutex<HashMap<Who, Known>>,
}

/// A user, and the host where that matters.
type Who = (String, String);

struct Known {
    password: String,
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
    /// # Errors
    ///
    /// No key could be made.
    pub(crate) fn new(lifetime: Duration, by_host: bool) -> Result<Self, TlsError> {
        Ok(Self { key: LoginKey::make()?, lifetime, by_host, known: Mutex::default() })
    }

    fn who(&self, name: &str, ends: Option<Ends>) -> Who {
        let host = if self.by_host { proxied::host(ends) } else { String::new() };
        (name.to_owned(), host)
    }

    /// The account as it was remembered.
    fn find(&self, name: &str, ends: Option<Ends>, now: Instant) -> Option<Account> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&self.who(name, ends)).filter(|known| self.is_fresh(known, now))?;
        Some(Account { name: name.to_owned(), password: known.password.clone() })
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

/// The key that clients without TLS hide their passwords with. It is made at the start and kept
/// nowhere else, so what was recorded cannot be read later.
struct LoginKey {
    /// The packet with the public key.
    told: Vec<u8>,
    private: OaepPrivateDecryptingKey,
}

impl LoginKey {
    fn make() -> Result<Self, TlsError> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let told = [b"\x01", pair.public_key_pem().as_bytes()].concat();
        let unusable = rcgen::Error::CouldNotParseKeyPair;
        let private = PrivateDecryptingKey::from_pkcs8(&pair.serialize_der())
            .map_err(|_| unusable.clone())?;
        let private = OaepPrivateDecryptingKey::new(private).map_err(|_| unusable)?;
        Ok(Self { told, private })
    }

    fn decrypt(&self, hidden: &[u8]) -> Option<Vec<u8>> {
        let mut clear = vec![0; self.private.min_output_size()];
        let clear = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, hidden, &mut clear, None).ok()?;
        Some(clear.to_vec())
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
    let Some(password) = password(passthrough, stream, answer).await? else {
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

/// The password itself, which the client is asked for where it has only shown that it knows it
/// (P: page_caching_sha2_authentication_exchanges). None where what it sends is none.
async fn password(
    passthrough: &Passthrough,
    stream: &mut Stream,
    answer: &mut Answer,
) -> Result<Option<String>, LoginError> {
    if answer.is_empty() {
        return Ok(Some(String::new()));
    }
    let mut clear = std::mem::take(&mut answer.bytes);
    if answer.plugin == Some(Plugin::CachingSha2) {
        answer.tell(stream, FULL_AUTH).await?;
        (answer.sequence, clear) = read_login_packet(stream).await?;
        if clear == ASK_PUBLIC_KEY {
            answer.tell(stream, &passthrough.key.told).await?;
            let (sequence, hidden) = read_login_packet(stream).await?;
            answer.sequence = sequence;
            let masked = passthrough.key.decrypt(&hidden).unwrap_or_default();
            // The mask is undone as it was done; the NUL that it adds is cut off again.
            clear = mask_password(&masked, &answer.nonce.0);
            clear.truncate(masked.len());
        } else if !stream.is_private() {
            return Ok(None);
        }
    }
    let ended = clear.split_last().filter(|(last, _)| **last == 0);
    Ok(ended.and_then(|(_, password)| String::from_utf8(password.to_vec()).ok()))
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
    let servers = &worker.settings.servers;
    // One that logs everybody in by an account of its own says nothing of this one.
    let own = |server: &usize| servers.get(*server).is_some_and(|server| server.account.is_some());
    for server in judges(&view).into_iter().filter(|server| !own(server)) {
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
fn judges(view: &View) -> Vec<usize> {
    let mut servers = Vec::new();
    let masters = view.partitions.iter().filter_map(|partition| partition.master);
    let readers = view.partitions.iter().flat_map(|partition| &partition.readers);
    for server in masters.chain(readers.map(|reader| reader.server)) {
        let enabled = view.servers.get(server).is_some_and(|server| server.enabled);
        if enabled && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, password: &str) -> Account {
        Account { name: name.to_owned(), password: password.to_owned() }
    }

    fn ends(source: &str) -> Option<Ends> {
        let source = source.parse().unwrap();
        Some(Ends { source, destination: source })
    }

    #[test]
    fn accounts_are_remembered_for_a_while() {
        let memory = Passthrough::new(Duration::from_secs(60), false).unwrap();
        let start = now();
        let here = ends("192.0.2.1:1");
        let found = |at| memory.find("app", here, at).map(|account| account.password);
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
        let memory = Passthrough::new(Duration::from_secs(60), true).unwrap();
        memory.remember(&account("app", "x"), ends("192.0.2.1:1"), now());
        assert!(memory.find("app", ends("192.0.2.1:2"), now()).is_some());
        assert!(memory.find("app", ends("192.0.2.2:1"), now()).is_none());
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let memory = Passthrough::new(Duration::from_secs(60), false).unwrap();
        let start = now();
        for nth in 0..MOST_KNOWN + 10 {
            memory.remember(&account(&nth.to_string(), "x"), None, start);
        }
        assert_eq!(memory.known.lock().unwrap().len(), MOST_KNOWN);
        let later = start + Duration::from_secs(61);
        memory.remember(&account("late", "x"), None, later);
        assert_eq!(memory.known.lock().unwrap().len(), 1, "the old ones made room");
    }

    #[test]
    fn rubbish_under_the_key_is_no_password() {
        let key = LoginKey::make().unwrap();
        assert_eq!(key.decrypt(b""), None);
        assert_eq!(key.decrypt(&[7; 256]), None);
    }
}
