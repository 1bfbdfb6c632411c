//! Letting a client in (P: page_protocol_connection_phase).
//!
//! failsoft knows the passwords of listed accounts, so it needs no server for these, and a burst of
//! logins opens no connection to one. The client gets the greeting that a server would give it: the
//! version and the capabilities of the servers, as far as all of them have them.

use std::io;

use policy::view::View;
use telemetry::log::one_line;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::auth::Nonce;
use wire::capabilities::Capabilities;
use wire::compress::Method;
use wire::error::ClientError;
use wire::frame::HEADER_LEN;
use wire::greeting::Greeting;
use wire::lenenc::Cursor;
use wire::login::{Login, OPENING_LEN, Opening};
use wire::status::{AUTOCOMMIT, put_ok};

use crate::authenticate::{Claim, authenticate, fresh_nonce, preferred};
use crate::clock::now;
use crate::compressed::{Compressed, Peer};
use crate::proxied::Ends;
use crate::registry::{Facts, Leash};
use crate::settings::Account;
use crate::stream::{Stream, read_login_packet, read_rest_of_login};
use crate::tls::about_certificate;
use crate::worker::{Admission, Worker};
use crate::{proxied, refusal};

/// A client that was let in.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// What was agreed on, of [`Capabilities::CARRIED`].
    pub(crate) capabilities: Capabilities,
    pub(crate) account: Account,
    pub(crate) collation: u16,
    pub(crate) schema: Vec<u8>,
    /// Connection attributes as on the wire.
    pub(crate) attributes: Vec<u8>,
    /// The greeting's, for `COM_CHANGE_USER`.
    pub(crate) nonce: Nonce,
    /// The ends of its connection, but for one over a Unix socket.
    pub(crate) ends: Option<Ends>,
    pub(crate) admission: Admission,
    /// By which others end the session, and see what it does.
    pub(crate) leash: Leash,
}

impl Client {
    /// The host it comes from.
    pub(crate) fn host(&self) -> &str {
        self.leash.facts().host()
    }
}

/// Why a client was not let in.
#[derive(Debug)]
pub(crate) enum LoginError {
    /// It left, or the network failed.
    Io,
    /// It is told this, as the packet with this sequence id.
    Refused(u8, ClientError),
}

impl From<io::Error> for LoginError {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Greets a client and lets it in, or tells it why not.
///
/// # Errors
///
/// What `logins_total` counts it as; the client was told already.
pub(crate) async fn login(
    worker: &Worker,
    mut stream: Stream,
    mut ends: Option<Ends>,
    admission: Admission,
) -> Result<Client, &'static str> {
    match exchange(worker, &mut stream, &mut ends, admission.id).await {
        Ok((login, account, nonce, sequence, compression)) => {
            let mut admission = admission;
            let limit = worker.limits().connections_per_user;
            let facts = Facts::new(proxied::host(ends), &login.schema, now());
            let leash = Leash::new(worker.halt.child_token(), facts);
            if !admission.belongs_to(&account.name, limit, &leash) {
                let what = format!("limits.connections_per_user is {limit}");
                let error = refusal::too_many_connections(&what);
                note_turned_away(worker, leash.facts().host(), &error);
                tell(&mut stream, sequence, &error).await;
                return Err("too_many");
            }
            let mut bytes = Vec::new();
            put_ok(&mut bytes, sequence, AUTOCOMMIT);
            stream.write_all(&bytes).await.map_err(|_| "error")?;
            stream.flush().await.map_err(|_| "error")?;
            if let Some(method) = compression {
                stream =
                    Stream::Compressed(Box::new(Compressed::new(stream, method, Peer::Client)));
            }
            Ok(Client {
                stream,
                capabilities: login.opening.capabilities,
                account,
                collation: login.opening.collation.into(),
                schema: login.schema,
                attributes: login.attributes,
                nonce,
                ends,
                admission,
                leash,
            })
        }
        Err(LoginError::Io) => Err("error"),
        Err(LoginError::Refused(sequence, error)) => {
            note_turned_away(worker, &proxied::host(ends), &error);
            tell(&mut stream, sequence, &error).await;
            Err(if error.code == 1045 { "denied" } else { "error" })
        }
    }
}

/// Logs that a client was not let in. Not each of many: whoever can connect could fill the disk.
pub(crate) fn note_turned_away(worker: &Worker, host: &str, error: &ClientError) {
    let ClientError { code, message, .. } = error;
    let text = format!("client {host} was not let in: {code} {message}");
    let told = if *code == 1040 { &worker.shared.too_many } else { &worker.shared.turned_away };
    if let Some(text) = told.text(&text, now()) {
        tracing::info!("{}", one_line(&text));
    }
}

/// Sends an error to a client that is about to be hung up on.
pub(crate) async fn tell(stream: &mut Stream, sequence: u8, error: &ClientError) {
    let mut bytes = Vec::new();
    error.encode(sequence, &mut bytes);
    // It may be gone already, and is not waited for.
    let _told = stream.write_all(&bytes).await;
    let _ended = stream.shutdown().await;
}

async fn exchange(
    worker: &Worker,
    stream: &mut Stream,
    ends: &mut Option<Ends>,
    id: u32,
) -> Result<(Login, Account, Nonce, u8, Option<Method>), LoginError> {
    let nonce = fresh_nonce();
    let offered = offered(&worker.view());
    let greeting = greeting(worker, offered, nonce, (id, stream));
    let mut bytes = Vec::new();
    greeting.encode(&mut bytes);
    stream.write_all(&bytes).await?;
    let beginning = pass_header(worker, stream, ends).await?;
    let (mut sequence, mut payload) = read_rest_of_login(stream, beginning).await?;
    if let Some(acceptor) = tls_wanted(worker, &payload) {
        encrypt(stream, &acceptor, *ends).await?;
        (sequence, payload) = read_login_packet(stream).await?;
    }
    let refuse = |error| LoginError::Refused(sequence.wrapping_add(1), error);
    let mut login =
        Login::parse(&payload).map_err(|e| refuse(refusal::bad_handshake(&e.to_string())))?;
    let wanted = login.opening.capabilities;
    if !wanted.contains(Capabilities::PROTOCOL_41) {
        return Err(refuse(refusal::bad_handshake("a client of the protocol before 4.1")));
    }
    if login.attributes.len() > MOST_ATTRIBUTES {
        return Err(refuse(refusal::bad_handshake("more than 64 KiB of connection attributes")));
    }
    if worker.setup().tls.clients_must && !stream.is_private() {
        return Err(refuse(refusal::tls_required()));
    }
    login.opening.capabilities = wanted.and(offered);
    let compression = compression(wanted, login.zstd_level);
    let claim = Claim {
        user: &login.user,
        plugin: &login.plugin,
        answer: login.answer.clone(),
        nonce,
        sequence,
        switches: wanted.contains(Capabilities::PLUGIN_AUTH),
    };
    let (account, nonce, sequence) = authenticate(worker, stream, *ends, claim).await?;
    Ok((login, account, nonce, sequence, compression))
}

/// How the client wants to compress. Of two ways zlib comes first, as with servers.
fn compression(wanted: Capabilities, zstd_level: Option<u8>) -> Option<Method> {
    if wanted.contains(Capabilities::COMPRESS) {
        return Some(Method::Zlib);
    }
    zstd_level.map(|level| Method::Zstd(i32::from(level).clamp(1, 22)))
}

/// Takes a PROXY header, if there is one, and yields how the login after it begins.
async fn pass_header(
    worker: &Worker,
    stream: &mut Stream,
    ends: &mut Option<Ends>,
) -> Result<[u8; HEADER_LEN], LoginError> {
    let mut beginning = [0; HEADER_LEN];
    stream.read_exact(&mut beginning).await?;
    if !proxied::is_header(beginning) {
        return Ok(beginning);
    }
    let refuse = |what: &str| LoginError::Refused(1, refusal::bad_handshake(what));
    let setup = worker.setup();
    let networks = &setup.settings.proxies;
    let listed = ends.is_some_and(|ends| proxied::is_listed(networks, ends.source.ip()));
    // Taken even where it is not believed: what is left unread turns the end of the connection into
    // a reset, which can overtake the error.
    match proxied::receive(stream, beginning).await {
        Ok(told) if listed => *ends = told.or(*ends),
        Ok(_) => {
            let what = "a PROXY header from an address that proxy_protocol.from does not list";
            return Err(refuse(what));
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(refuse(&error.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    stream.read_exact(&mut beginning).await?;
    Ok(beginning)
}

/// Bytes of connection attributes that servers take
/// (P: page_protocol_connection_phase_packets_protocol_handshake_response).
pub(crate) const MOST_ATTRIBUTES: usize = 65_535;

/// The acceptor, when the packet asks for TLS and there is TLS to be had.
fn tls_wanted(worker: &Worker, payload: &[u8]) -> Option<tokio_rustls::TlsAcceptor> {
    let opening = Opening::parse(&mut Cursor::new(payload)).ok()?;
    let asks = payload.len() == OPENING_LEN && opening.capabilities.contains(Capabilities::SSL);
    worker.setup().tls.acceptor.clone().filter(|_| asks)
}

async fn encrypt(
    stream: &mut Stream,
    acceptor: &tokio_rustls::TlsAcceptor,
    ends: Option<Ends>,
) -> Result<(), LoginError> {
    // The stream is moved through the handshake; nothing is sent to the one left in its place.
    let (unused, _) = tokio::net::UnixStream::pair()?;
    match std::mem::replace(stream, Stream::Unix(unused)) {
        Stream::Tcp(tcp) => {
            let accepted = acceptor.accept(tcp).await.inspect_err(|error| {
                if let Some(error) = about_certificate(error) {
                    tracing::warn!("client {} was not let in: {error}", proxied::host(ends));
                }
            });
            *stream = Stream::TlsServer(Box::new(accepted?));
            Ok(())
        }
        other => {
            *stream = other;
            Err(LoginError::Refused(2, refusal::bad_handshake("TLS over a Unix socket")))
        }
    }
}

fn greeting(
    worker: &Worker,
    offered: Capabilities,
    nonce: Nonce,
    (id, stream): (u32, &Stream),
) -> Greeting {
    let view = worker.view();
    let version = version(&view);
    let mariadb = version.contains("MariaDB");
    let mut capabilities = offered.or(Capabilities::LOGIN).or(Capabilities::COMPRESSION);
    // Nobody reads along over a Unix socket, and there is no TLS.
    if worker.setup().tls.acceptor.is_some() && !matches!(stream, Stream::Unix(_)) {
        capabilities = capabilities.or(Capabilities::SSL);
    }
    if !mariadb {
        capabilities = capabilities.or(Capabilities::MYSQL);
    }
    Greeting {
        version: greeted(version),
        connection_id: id,
        nonce,
        capabilities,
        // utf8mb4_0900_ai_ci and utf8mb4_general_ci, the servers' own defaults.
        collation: if mariadb { 45 } else { 255 },
        status: AUTOCOMMIT,
        plugin: preferred(&view).name().to_owned(),
    }
}

/// A version as its server's greeting tells it: MariaDB 10 puts 5.5.5 before it, for replicas and
/// clients that take what comes first for MySQL's version. 11.0 and later do not.
/// (MariaDB documentation, "Connection": initial handshake packet; seen on MariaDB 10.11)
fn greeted(version: &str) -> String {
    let prefix =
        if version.starts_with("10.") && version.contains("MariaDB") { "5.5.5-" } else { "" };
    format!("{prefix}{version}")
}

/// Whether clients are told that they talk to MariaDB.
pub(crate) fn is_mariadb(view: &View) -> bool {
    version(view).contains("MariaDB")
}

/// What is said to clients before any server was seen.
const UNSEEN_VERSION: &str = "8.0.0-failsoft";

/// The version of the first server that was seen; masters come first in the configuration.
fn version(view: &View) -> &str {
    let seen = view.servers.iter().filter_map(|server| server.seen.as_ref());
    seen.map(|seen| seen.version.as_str()).next().unwrap_or(UNSEEN_VERSION)
}

/// What all servers that were seen have: a session may have to go to any of them.
fn offered(view: &View) -> Capabilities {
    let seen = view.servers.iter().filter(|server| server.enabled);
    let versions = seen.filter_map(|server| server.seen.as_ref());
    versions
        .map(|seen| Capabilities::of_version(&seen.version))
        .reduce(Capabilities::and)
        .unwrap_or(Capabilities::BASE)
}
