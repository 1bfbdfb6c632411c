//! Reaching a server and logging in.

use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use bytes::BytesMut;
use policy::topology::ServerId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{ServerName, SubjectPublicKeyInfoDer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wire::auth::{
    ASK_PUBLIC_KEY, ASK_PUBLIC_KEY_SHA256, FAST_AUTH_OK, FULL_AUTH, NONCE_LEN, Nonce, Plugin,
    mask_password,
};
use wire::capabilities::Capabilities;
use wire::compress::Method;
use wire::error::ServerError;
use wire::frame::{HEADER_LEN, put_packet};
use wire::greeting::Greeting;
use wire::lenenc::Cursor;
use wire::login::{ChangeUser, Login, Opening, put_attribute};
use zeroize::Zeroizing;

use super::gate::Entry;
use super::verdict::{Verdict, verdict};
use super::{Backend, ConnectError};
use crate::clock::now;
use crate::compressed::{Compressed, Peer};
use crate::login::MOST_ATTRIBUTES;
use crate::proxied::{self, Ends};
use crate::settings::{Account, ServerTlsMode};
use crate::stream::{Stream, read_login_packet};
use crate::worker::{Slot, Way, Worker};

/// What a connection to a server is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The server.
    pub(crate) server: ServerId,
    /// The epoch whose writes it is for, if it is for writes.
    pub(crate) epoch: Option<u64>,
    /// The client's account.
    pub(crate) account: &'a Account,
    /// What the client agreed on, of [`Capabilities::CARRIED`].
    pub(crate) capabilities: Capabilities,
    /// The client's collation.
    pub(crate) collation: u16,
    /// The schema; empty for none.
    pub(crate) schema: &'a [u8],
    /// The client logged in anew on its connection.
    pub(crate) user_was_changed: bool,
    /// The client's connection attributes, as on the wire.
    pub(crate) attributes: &'a [u8],
    /// The ends of the client's connection, for servers that want to know.
    pub(crate) ends: Option<Ends>,
}

/// Opens a connection, sharing what is known of the server's being reachable with other sessions.
///
/// # Errors
///
/// [`ConnectError`], shared with those who waited for this attempt.
pub(crate) async fn open(worker: &Worker, wanted: Wanted<'_>) -> Result<Backend, Rc<ConnectError>> {
    let Some(way) = worker.way(wanted.server, wanted.epoch) else {
        return Err(Rc::new(ConnectError::Gone));
    };
    let gate = &way.gate;
    let attempt = loop {
        match gate.enter(now()) {
            Entry::Try(attempt) => break attempt,
            Entry::Fail(error) => return Err(error),
            // The sender is only ever dropped.
            Entry::Wait(mut ended) => while ended.changed().await.is_ok() {},
        }
    };
    let timeout = way.setup.settings.connect_timeout;
    let Ok((_turn, waited)) = tokio::time::timeout(timeout * 2, gate.turn()).await else {
        return Err(Rc::new(ConnectError::Busy(timeout * 2)));
    };
    if waited && let Entry::Fail(error) = gate.enter(now()) {
        return Err(error);
    }
    let limit = way.setup.settings.limits.server_connections;
    let admit = || worker.shared.admit_backend(wanted.server, &way.open, limit);
    let slot = match admit() {
        None if worker.pool.make_room(wanted.server) => admit(),
        slot => slot,
    };
    let Some(slot) = slot else { return Err(Rc::new(ConnectError::Full(limit))) };
    let opened = tokio::time::timeout(timeout, connect(worker, &way, wanted, slot)).await;
    match opened.unwrap_or(Err(ConnectError::TimedOut(timeout))) {
        Ok(backend) => {
            gate.reached(attempt);
            note_login(worker, &way, wanted, true);
            Ok(backend)
        }
        // The server answers: what it has against this login is this session's affair.
        Err(error @ (ConnectError::Server(_) | ConnectError::Account(_))) => {
            gate.reached(attempt);
            if matches!(&error, ConnectError::Server(e) if verdict(e.code) == Verdict::Account) {
                note_login(worker, &way, wanted, false);
            }
            Err(Rc::new(error))
        }
        Err(error) => {
            let error = Rc::new(error);
            gate.failed(attempt, Rc::clone(&error), now());
            Err(error)
        }
    }
}

/// What a server says of an account that is not listed counts for its next login; what it says of an
/// account that it has for all says nothing of the client's.
fn note_login(worker: &Worker, way: &Way, wanted: Wanted<'_>, let_in: bool) {
    if way.terms.server.account.is_some() {
        return;
    }
    let listed = worker.account(wanted.account.name.as_bytes()).is_some();
    match &worker.setup().passthrough {
        Some(passthrough) if !listed && let_in => {
            passthrough.remember(wanted.account, wanted.ends, now());
        }
        Some(passthrough) if !listed => passthrough.forget(wanted.account, wanted.ends),
        _ => {}
    }
}

async fn connect(
    worker: &Worker,
    way: &Way,
    wanted: Wanted<'_>,
    slot: Slot,
) -> Result<Backend, ConnectError> {
    let settings = &way.terms.server;
    let tcp = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
    tcp.set_nodelay(true)?;
    watch_for_silence(&tcp)?;
    let mut stream = Stream::Tcp(tcp);
    if settings.proxy_protocol {
        stream.write_all(&proxied::header(wanted.ends)).await?;
    }
    let (_, payload) = read_login_packet(&mut stream).await?;
    let greeting = parse_greeting(&payload)?;
    let account = settings.account.as_ref().unwrap_or(wanted.account);
    let mut login = first_answer(&greeting, account, wanted)?;
    let compress = settings.compress && greeting.capabilities.contains(Capabilities::COMPRESS);
    if compress {
        let flags = &mut login.opening.capabilities;
        *flags = flags.or(Capabilities::COMPRESS);
    }
    let (mut stream, sequence) = start_tls(way, &greeting, &mut login, stream).await?;
    let agreed = login.opening.capabilities.and(Capabilities::CARRIED);
    let mut bytes = Vec::new();
    login.encode(sequence, &mut bytes);
    stream.write_all(&bytes).await?;
    let verified = stream.is_tls() && way.terms.tls.mode == ServerTlsMode::Verify;
    let plugin = Plugin::by_name(&login.plugin);
    let mut status = finish_login(&mut stream, greeting.nonce, account, plugin, verified).await?;
    if compress {
        let over = Compressed::new(stream, Method::Zlib, Peer::Server);
        stream = Stream::Compressed(Box::new(over));
    }
    if wanted.user_was_changed || wanted.collation > u8::MAX.into() {
        let nonce = greeting.nonce;
        change_user(&mut stream, login, wanted.collation).await?;
        status = finish_login(&mut stream, nonce, account, None, verified).await?;
    }
    Ok(Backend {
        stream,
        buffer: BytesMut::new(),
        server: wanted.server,
        name: way.name_for(wanted.epoch.is_some()),
        epoch: wanted.epoch,
        id: greeting.connection_id,
        status,
        agreed,
        prepared: Default::default(),
        in_schema: false,
        generation: way.setup.settings.generation,
        terms: Rc::clone(&way.terms),
        made: now(),
        resets_to_login: resets_to_login(&greeting.version),
        is_marked: false,
        may_have_insert_id: false,
        condition: None,
        turn: None,
        tether: way.tether(),
        counted: (slot, worker.metrics.connection(&way.name)),
    })
}

/// Whether a server of this version goes back to the login's character set with a reset: MySQL never
/// does, and MariaDB since 10.2.22 and 10.3.13 (MDEV-18281).
fn resets_to_login(version: &str) -> bool {
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let since = Some((10, 4));
    version.contains("MariaDB") && numbers.next().zip(numbers.next()) >= since
}

/// Lets the kernel notice a server that is gone without a word: what is sent and not acknowledged
/// ends the connection in the end, and so does silence that is not broken when asked. The health
/// checks are quicker; this is for what they do not see, as one connection that a firewall forgot.
fn watch_for_silence(tcp: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

/// How long what was sent may go without an acknowledgement. The kernel counts a full window as
/// well, so it has to be longer than a busy server may leave its socket unread.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// How long an idle connection is silent before the other end is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

fn parse_greeting(payload: &[u8]) -> Result<Greeting, ConnectError> {
    if payload.first() == Some(&0xff) {
        let error = ServerError::parse(payload).map_err(|e| protocol(&e))?;
        return Err(ConnectError::Server(error));
    }
    Greeting::parse(payload).map_err(|error| protocol(&error))
}

fn protocol(error: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::Protocol(format!("it does not speak the MySQL protocol: {error}"))
}

/// The login that answers a greeting, still without TLS.
fn first_answer(
    greeting: &Greeting,
    account: &Account,
    wanted: Wanted<'_>,
) -> Result<Login, ConnectError> {
    let offered = greeting.capabilities;
    let missing = wanted.capabilities.without(offered).without(Capabilities::SPARED);
    if missing != Capabilities::NONE {
        let names: Vec<&str> = missing.names().collect();
        return Err(ConnectError::Protocol(format!(
            "it lacks {}, which was agreed on with the client",
            names.join(", ")
        )));
    }
    let mut flags = wanted.capabilities.or(Capabilities::LOGIN).and(offered);
    // For our own sake, whatever the client agreed on; but not where replies are, or may be, written
    // anew.
    let lacks = wanted.capabilities.without(offered);
    let may_lack = wanted.capabilities.and(Capabilities::MARIADB_CACHE_METADATA);
    if !lacks.or(may_lack).intersects(Capabilities::BRIDGED) {
        flags = flags.or(Capabilities::SESSION_TRACK.and(offered));
    }
    if offered.contains(Capabilities::MYSQL) {
        flags = flags.or(Capabilities::MYSQL);
    }
    if wanted.schema.is_empty() {
        flags = flags.without(Capabilities::CONNECT_WITH_DB);
    }
    // An unknown plugin's request for another is answered when it comes.
    let scrambles =
        |plugin: &Plugin| matches!(plugin, Plugin::NativePassword | Plugin::CachingSha2);
    let plugin = Plugin::by_name(&greeting.plugin).filter(scrambles);
    let plugin = plugin.unwrap_or(Plugin::NativePassword);
    let [collation, _] = wanted.collation.to_le_bytes();
    Ok(Login {
        opening: Opening { capabilities: flags, max_packet: 1 << 30, collation },
        user: account.name.as_bytes().to_vec(),
        answer: plugin.answer(account.password.as_bytes(), &greeting.nonce.0),
        schema: wanted.schema.to_vec(),
        plugin: plugin.name().to_owned(),
        attributes: attributes(wanted.attributes),
        zstd_level: None,
    })
}

/// The client's attributes and one of ours, where there is room for it.
fn attributes(of_client: &[u8]) -> Vec<u8> {
    let mut attributes = of_client.to_vec();
    put_attribute(&mut attributes, "_proxy", "failsoft");
    if attributes.len() > MOST_ATTRIBUTES {
        attributes.truncate(of_client.len());
    }
    attributes
}

/// Sends a login again as `COM_CHANGE_USER`, which has room for a collation of 16 bits. No plugin
/// has this name, so that the server asks for the right one with a nonce of its own.
///
/// A client's own change of user is repeated in this way, since a server's connection is not the same
/// after it: MariaDB forgets `IGNORE_SPACE`, MySQL checks foreign keys of other statements (seen on
/// MariaDB 10.11 and MySQL 9.7).
async fn change_user(
    stream: &mut Stream,
    login: Login,
    collation: u16,
) -> Result<(), ConnectError> {
    let attributes = login.opening.capabilities.contains(Capabilities::CONNECT_ATTRS);
    let change = ChangeUser {
        user: login.user,
        answer: Vec::new(),
        schema: login.schema,
        collation: Some(collation),
        plugin: "failsoft".to_owned(),
        attributes: attributes.then_some(login.attributes),
    };
    let mut bytes = Vec::new();
    change.encode(&mut bytes);
    stream.write_all(&bytes).await?;
    Ok(())
}

/// Logs in again over a connection, by a change of user to the same one; yields the status flags.
///
/// # Errors
///
/// [`ConnectError`]; the connection is of no use any more.
pub(crate) async fn log_in_again(
    backend: &mut Backend,
    account: &Account,
    collation: u16,
    schema: &[u8],
    of_client: &[u8],
) -> Result<u16, ConnectError> {
    let capabilities = backend.agreed.or(Capabilities::LOGIN);
    let opening = Opening { capabilities, max_packet: 0, collation: 0 };
    let login = Login {
        opening,
        user: account.name.as_bytes().to_vec(),
        answer: Vec::new(),
        schema: schema.to_vec(),
        plugin: String::new(),
        attributes: attributes(of_client),
        zstd_level: None,
    };
    let verified = backend.stream.is_tls() && backend.terms.tls.mode == ServerTlsMode::Verify;
    change_user(&mut backend.stream, login, collation).await?;
    // The server sends one of its own.
    let nonce = Nonce([0; NONCE_LEN]);
    finish_login(&mut backend.stream, nonce, account, None, verified).await
}

/// Turns TLS on where it is configured and offered; yields the stream to go on with and the sequence
/// id of the login.
async fn start_tls(
    way: &Way,
    greeting: &Greeting,
    login: &mut Login,
    stream: Stream,
) -> Result<(Stream, u8), ConnectError> {
    let offered = greeting.capabilities.contains(Capabilities::SSL);
    let (connector, mut tcp) = match (&way.setup.tls.connector, stream) {
        (Some(connector), Stream::Tcp(tcp)) if offered => (connector, tcp),
        (_, plain) if !way.setup.tls.servers_must => return Ok((plain, 1)),
        _ => {
            return Err(ConnectError::Protocol(
                "it does not offer TLS, which tls.servers demands".to_owned(),
            ));
        }
    };
    login.opening.capabilities = login.opening.capabilities.or(Capabilities::SSL);
    let mut bytes = Vec::new();
    login.opening.encode_tls_request(1, &mut bytes);
    tcp.write_all(&bytes).await?;
    let host = &way.terms.server.host;
    let name = ServerName::try_from(host.clone())
        .map_err(|error| ConnectError::Protocol(format!("host {host}: {error}")))?;
    let tls = connector.connect(name, tcp).await?;
    Ok((Stream::TlsClient(Box::new(tls)), 2))
}

/// Goes on with the login until the server lets us in; yields its status flags.
async fn finish_login(
    stream: &mut Stream,
    nonce: Nonce,
    account: &Account,
    mut plugin: Option<Plugin>,
    verified: bool,
) -> Result<u16, ConnectError> {
    let password = account.password.as_bytes();
    let mut nonce = nonce.0.to_vec();
    // Each round needs a packet of the server's; no exchange has more than a few.
    for _ in 0..8 {
        let (sequence, payload) = read_login_packet(stream).await?;
        let answer = match (payload.first(), plugin) {
            (Some(0x00), _) => return ok_status(&payload),
            (Some(0xff), _) => {
                let error = ServerError::parse(&payload).map_err(|e| protocol(&e))?;
                return Err(ConnectError::Server(error));
            }
            (Some(0xfe), _) => {
                let (asked, fresh) = parse_switch(&payload)?;
                if asked == Plugin::ClearPassword && !verified {
                    return Err(ConnectError::Account(
                        "it asks for the password in clear, which tls.servers: verify allows only"
                            .to_owned(),
                    ));
                }
                nonce = fresh.unwrap_or(nonce);
                plugin = Some(asked);
                // An empty password is its NUL, which nobody has to hide.
                let hides = asked == Plugin::Sha256 && !stream.is_private() && !password.is_empty();
                if hides { ASK_PUBLIC_KEY_SHA256.to_vec() } else { asked.answer(password, &nonce) }
            }
            (Some(0x01), Some(Plugin::CachingSha2)) if payload == FAST_AUTH_OK => continue,
            (Some(0x01), Some(Plugin::CachingSha2)) if payload == FULL_AUTH => {
                if stream.is_private() {
                    [password, b"\0"].concat()
                } else {
                    ASK_PUBLIC_KEY.to_vec()
                }
            }
            (Some(0x01), Some(Plugin::CachingSha2 | Plugin::Sha256)) => {
                let key = payload.get(1..).unwrap_or_default();
                encrypt_password(password, &nonce, key)?
            }
            _ => return Err(protocol(&"an unexpected packet in the login")),
        };
        // It may be the password itself.
        let answer = Zeroizing::new(answer);
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER_LEN + answer.len()));
        put_packet(&mut bytes, sequence.wrapping_add(1), &answer);
        stream.write_all(&bytes).await?;
    }
    Err(protocol(&"the login has no end"))
}

fn ok_status(payload: &[u8]) -> Result<u16, ConnectError> {
    let mut cursor = Cursor::new(payload);
    let status = (|| {
        cursor.u8("the marker")?;
        cursor.lenenc("OK")?;
        cursor.lenenc("OK")?;
        cursor.u16("OK")
    })();
    status.map_err(|error| protocol(&error))
}

/// An auth switch request: the plugin's name and a fresh nonce.
fn parse_switch(payload: &[u8]) -> Result<(Plugin, Option<Vec<u8>>), ConnectError> {
    let mut cursor = Cursor::new(payload.get(1..).unwrap_or_default());
    let name = String::from_utf8_lossy(cursor.until_nul()).into_owned();
    let plugin = Plugin::by_name(&name).ok_or_else(|| {
        ConnectError::Account(format!("it asks for authentication plugin {name}, unknown here"))
    })?;
    Ok((plugin, plugin.nonce_in(cursor.rest()).map(<[u8]>::to_vec)))
}

/// The password under the server's public key, a PEM text.
fn encrypt_password(password: &[u8], nonce: &[u8], pem: &[u8]) -> Result<Vec<u8>, ConnectError> {
    let bad = || protocol(&"its public key cannot be used");
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| bad())?;
    let key = PublicEncryptingKey::from_der(der.as_ref()).map_err(|_| bad())?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| bad())?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    let masked = Zeroizing::new(mask_password(password, nonce));
    let too_long =
        || ConnectError::Account("the password is too long for its public key".to_owned());
    let written = key
        .encrypt(&OAEP_SHA1_MGF1SHA1, &masked, &mut encrypted, None)
        .map_err(|_| too_long())?
        .to_vec();
    Ok(written)
}

#[cfg(test)]
mod tests;
