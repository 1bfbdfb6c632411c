//! Who a client is: the exchange in which it shows that it knows a password
//! (P: page_protocol_connection_phase).
//!
//! Of listed accounts failsoft knows the password, so no client has to send it that can show that it
//! knows it. Of others it learns it where `login: passthrough` says so, see [`passthrough`].

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use policy::view::View;
use tokio::io::AsyncWriteExt;
use wire::auth::{FAST_AUTH_OK, NONCE_LEN, Nonce, Plugin, switch_request};
use wire::ed25519;
use wire::frame::put_packet;

use crate::login::{LoginError, is_mariadb};
use crate::proxied::{self, Ends};
use crate::settings::Account;
use crate::stream::{Stream, read_login_packet};
use crate::worker::Worker;
use crate::{passthrough, password, refusal};

/// Bytes of a scramble by caching_sha2.
const SCRAMBLE_LEN: usize = 32;

/// What a client says of itself.
pub(crate) struct Claim<'a> {
    pub(crate) user: &'a [u8],
    /// The plugin the answer is for; empty when it does not say.
    pub(crate) plugin: &'a str,
    pub(crate) answer: Vec<u8>,
    pub(crate) nonce: Nonce,
    /// The sequence id of the packet it came in.
    pub(crate) sequence: u8,
    /// The client can be asked for another plugin.
    pub(crate) switches: bool,
}

/// A client's answer to a nonce.
pub(crate) struct Answer {
    /// The plugin it is for; none that can be used here where there is none.
    pub(crate) plugin: Option<Plugin>,
    pub(crate) bytes: Vec<u8>,
    /// The nonce that clients go on using for plugins with the shorter one.
    pub(crate) nonce: Nonce,
    /// What was to be answered.
    challenge: Vec<u8>,
    /// The sequence id of the last packet.
    pub(crate) sequence: u8,
    /// The client has not answered yet: it lacks the greeting's plugin, names its own, and waits to
    /// be asked for it (seen with MySQL 9.7's, which has no mysql_native_password).
    pub(crate) waits: bool,
}

impl Answer {
    fn first(claim: &Claim<'_>, preferred: Plugin, stream: &Stream) -> Self {
        let usable = |plugin: &Plugin| !plugin.shows_password() || stream.is_tls();
        let plugin = match claim.plugin {
            "" => Some(Plugin::NativePassword),
            named => Plugin::by_name(named).filter(usable),
        };
        Self {
            plugin,
            bytes: claim.answer.clone(),
            nonce: claim.nonce,
            challenge: claim.nonce.0.to_vec(),
            sequence: claim.sequence,
            waits: claim.answer.is_empty() && plugin != Some(preferred),
        }
    }

    /// Asks the client for another answer, by a fresh nonce. Clients take that once in a login.
    ///
    /// # Errors
    ///
    /// The client left.
    pub(crate) async fn ask(
        &mut self,
        stream: &mut Stream,
        plugin: Plugin,
    ) -> Result<(), LoginError> {
        if plugin == Plugin::Ed25519 {
            self.challenge = random::<{ ed25519::NONCE_LEN }>().to_vec();
        } else {
            self.nonce = fresh_nonce();
            self.challenge = self.nonce.0.to_vec();
        }
        self.tell(stream, &switch_request(plugin, &self.challenge)).await?;
        (self.sequence, self.bytes) = read_login_packet(stream).await?;
        self.plugin = Some(plugin);
        self.waits = false;
        Ok(())
    }

    /// Sends the next packet of the exchange.
    pub(crate) async fn tell(
        &mut self,
        stream: &mut Stream,
        payload: &[u8],
    ) -> Result<(), LoginError> {
        let mut bytes = Vec::new();
        self.sequence = self.sequence.wrapping_add(1);
        put_packet(&mut bytes, self.sequence, payload);
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        Ok(())
    }

    /// Whether it is that of an empty password: nothing, or the NUL at its end, as MySQL's clients
    /// send it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(*self.bytes, [] | [0])
    }

    /// Whether it shows that the client knows the password.
    pub(crate) fn fits(&self, password: &str) -> bool {
        self.plugin.is_some_and(|p| p.verify(password.as_bytes(), &self.challenge, &self.bytes))
    }

    /// Whether it is a scramble after which a client can be asked for the password itself. What is no
    /// scramble at all is refused at once (seen on MySQL 9.7).
    fn is_scramble(&self) -> bool {
        self.plugin == Some(Plugin::CachingSha2) && self.bytes.len() == SCRAMBLE_LEN
    }

    /// Says that it did, where the plugin has a word for that.
    pub(crate) async fn approve(&mut self, stream: &mut Stream) -> Result<(), LoginError> {
        if self.plugin == Some(Plugin::CachingSha2) && !self.is_empty() {
            self.tell(stream, FAST_AUTH_OK).await?;
        }
        Ok(())
    }

    /// The refusal of it.
    pub(crate) fn denied(&self, name: &str, ends: Option<Ends>) -> LoginError {
        let error = refusal::access_denied(name, &proxied::host(ends), !self.is_empty());
        LoginError::Refused(self.sequence.wrapping_add(1), error)
    }
}

/// Checks a claim; yields the account, the nonce that the client goes on with, and the sequence id
/// of the OK packet to be sent.
///
/// An account that does not exist goes the same way in the same time as a wrong password.
pub(crate) async fn authenticate(
    worker: &Worker,
    stream: &mut Stream,
    ends: Option<Ends>,
    claim: Claim<'_>,
) -> Result<(Account, Nonce, u8), LoginError> {
    let preferred = preferred(&worker.view());
    let mut answer = Answer::first(&claim, preferred, stream);
    let name = String::from_utf8_lossy(claim.user);
    let listed = worker.account(claim.user);
    let passthrough = worker.setup().passthrough.clone();
    let account = match (&listed, &passthrough) {
        (None, Some(passthrough)) => {
            let client = passthrough::Client { name: &name, ends, switches: claim.switches };
            passthrough::log_in(worker, passthrough, stream, client, &mut answer).await?
        }
        _ => {
            // The nonce that client_ed25519 signs is longer than the greeting's.
            let signs = answer.plugin == Some(Plugin::Ed25519);
            if claim.switches && (answer.plugin.is_none() || answer.waits || signs) {
                let asked = answer.plugin.unwrap_or(preferred);
                answer.ask(stream, asked).await?;
            }
            let password = listed.as_ref().map(|account| account.password.as_str());
            let password = password.unwrap_or("an account that does not exist");
            // An account that does not exist fails where a wrong password does.
            let fits = answer.fits(password) & listed.is_some();
            if fits {
                answer.approve(stream).await?;
            } else if !answer.is_scramble() || !knows(worker, stream, &mut answer, password).await?
            {
                return Err(answer.denied(&name, ends));
            }
            listed.ok_or_else(|| answer.denied(&name, ends))?
        }
    };
    Ok((account, answer.nonce, answer.sequence.wrapping_add(1)))
}

/// Whether a client whose scramble does not fit sends the right password when it is asked for it. A
/// server does that too, since its cache may be what is wrong, and there are clients whose scrambles
/// never fit: sqlx before 0.9 mixes the nonce in at the wrong place.
async fn knows(
    worker: &Worker,
    stream: &mut Stream,
    answer: &mut Answer,
    password: &str,
) -> Result<bool, LoginError> {
    let given = password::ask(&worker.shared.login_key, stream, answer).await?;
    let Some(given) = given else { return Ok(false) };
    // Scrambles are of one length, so that the time says nothing of the password's.
    let (plugin, nonce) = (Plugin::CachingSha2, &answer.nonce.0);
    Ok(plugin.verify(password.as_bytes(), nonce, &plugin.answer(given.as_bytes(), nonce)))
}

/// The plugin of the greeting, which is the servers' own: clients are sure to have it.
pub(crate) fn preferred(view: &View) -> Plugin {
    if is_mariadb(view) { Plugin::NativePassword } else { Plugin::CachingSha2 }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It only fails where the system has no randomness at all, where TLS could not start either;
    // a nonce of zeros then lets nobody in that does not know the password.
    let _filled = SystemRandom::new().fill(&mut bytes);
    bytes
}

/// A nonce for one login.
pub(crate) fn fresh_nonce() -> Nonce {
    Nonce::from_random(random::<NONCE_LEN>())
}
