//! Letting a client in (P: page_protocol_connection_phase).
//!
//! `opensrv-mysql` does not tell which plugin a client's answer is for, and has no exchange for
//! `caching_sha2_password`, which is all that MySQL 9's clients have. So the login is done here.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::auth::{FAST_AUTH_OK, NONCE_LEN, Nonce, Plugin, switch_request};
use wire::capabilities::Capabilities;
use wire::error::ClientError;
use wire::frame::{HEADER_LEN, Header, put_packet};
use wire::greeting::Greeting;
use wire::login::Login;
use wire::status::{AUTOCOMMIT, put_ok};

use super::one_frame::MAX_FRAME;
use crate::actions::{NO_TOKEN, Token, printable};
use crate::web::Console;

/// A client that was let in.
#[derive(Debug)]
pub(super) struct Operator {
    /// Who it is, in words.
    pub(super) by: String,
    /// The token that it showed to know, if it did.
    token: Option<Token>,
    /// The seat of one who may only look.
    _seat: Option<OwnedSemaphorePermit>,
    /// What was agreed on.
    pub(super) capabilities: Capabilities,
    /// The name that it gave.
    pub(super) user: String,
}

impl Operator {
    /// Whether it knows the token, which may be another by now.
    pub(super) fn may_order(&self, console: &Console) -> bool {
        self.token.is_some() && *console.token.borrow() == self.token
    }
}

/// What is offered: all that `opensrv-mysql` does, and no more.
pub(super) fn offered() -> Capabilities {
    Capabilities::MYSQL
        .or(Capabilities::PROTOCOL_41)
        .or(Capabilities::SECURE_CONNECTION)
        .or(Capabilities::PLUGIN_AUTH)
        .or(Capabilities::PLUGIN_AUTH_LENENC)
        .or(Capabilities::CONNECT_WITH_DB)
        .or(Capabilities::DEPRECATE_EOF)
}

/// Greets a client and lets it in; none where it was told why not.
///
/// # Errors
/// It left, or what it sent is no login.
pub(super) async fn login(
    stream: &mut TcpStream,
    console: &Console,
    (peer, id): (SocketAddr, u32),
    seats: &Arc<Semaphore>,
) -> io::Result<Option<Operator>> {
    let mut nonce = fresh_nonce()?;
    let greeting = Greeting {
        version: version(console),
        connection_id: id,
        nonce,
        capabilities: offered(),
        // utf8mb4_general_ci
        collation: 45,
        status: AUTOCOMMIT,
        // Every client has it but MySQL 9's, which then names its own.
        plugin: Plugin::NativePassword.name().to_owned(),
    };
    let mut bytes = Vec::new();
    greeting.encode(&mut bytes);
    stream.write_all(&bytes).await?;
    let (mut sequence, payload) = read_packet(stream).await?;
    let login = Login::parse(&payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let capabilities = login.opening.capabilities.and(offered());
    if !capabilities.contains(Capabilities::PROTOCOL_41) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a client from before MySQL 4.1"));
    }
    // A client that names none is one from before there were several.
    let native = login.plugin.is_empty().then_some(Plugin::NativePassword);
    let named = Plugin::by_name(&login.plugin).or(native);
    let known = named.filter(|it| matches!(it, Plugin::NativePassword | Plugin::CachingSha2));
    let plugin = known.unwrap_or(Plugin::NativePassword);
    let mut answer = login.answer;
    if known.is_none() || (answer.is_empty() && plugin != Plugin::NativePassword) {
        nonce = fresh_nonce()?;
        send(stream, &mut sequence, &switch_request(plugin, &nonce.0)).await?;
        (sequence, answer) = read_packet(stream).await?;
    }
    let user = printable(&login.user);
    let is_empty = matches!(*answer, [] | [0]);
    let configured = console.token.borrow().clone();
    let why = if configured.is_some() { "the password is not the token" } else { NO_TOKEN };
    let fits = |token: &Token| plugin.verify(token.expose().as_bytes(), &nonce.0, &answer);
    let token = configured.filter(|token| !is_empty && fits(token));
    if !is_empty && token.is_none() {
        console.note_refused("a login to admin.mysql", &format!("'{user}' at {peer}"), why);
        let text = format!(
            "Access denied for user '{user}': {why}; without a password one may look and give no orders"
        );
        refuse(stream, sequence, &ClientError::new(1045, b"28000", text)).await?;
        return Ok(None);
    }
    let seat = Arc::clone(seats).try_acquire_owned().ok();
    if token.is_none() && seat.is_none() {
        refuse(stream, sequence, &full()).await?;
        return Ok(None);
    }
    if plugin == Plugin::CachingSha2 && !is_empty {
        send(stream, &mut sequence, FAST_AUTH_OK).await?;
    }
    let mut bytes = Vec::new();
    put_ok(&mut bytes, sequence.wrapping_add(1), AUTOCOMMIT);
    stream.write_all(&bytes).await?;
    let by = format!("'{user}' at {peer} by admin.mysql");
    // Who may give orders takes no seat away from those who only look.
    let seat = seat.filter(|_| token.is_none());
    Ok(Some(Operator { by, token, _seat: seat, capabilities, user }))
}

/// What a client is told that finds no seat.
pub(super) fn full() -> ClientError {
    ClientError::new(1040, b"08004", "Too many connections to failsoft's admin console")
}

/// What the server is called: clients look for a number in front.
pub(super) fn version(console: &Console) -> String {
    format!("8.4.0-failsoft-{}", console.version)
}

fn fresh_nonce() -> io::Result<Nonce> {
    let mut bytes = [0; NONCE_LEN];
    // The kernel's; there is no key to be had of it.
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Nonce::from_random(bytes))
}

async fn read_packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a login that is too long");
    let header = Header::peek(&header).ok_or_else(too_long)?;
    if header.payload_len > MAX_FRAME {
        return Err(too_long());
    }
    let mut payload = vec![0; header.payload_len];
    stream.read_exact(&mut payload).await?;
    Ok((header.sequence, payload))
}

async fn send(stream: &mut TcpStream, sequence: &mut u8, payload: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::new();
    *sequence = sequence.wrapping_add(1);
    put_packet(&mut bytes, *sequence, payload);
    stream.write_all(&bytes).await
}

async fn refuse(stream: &mut TcpStream, sequence: u8, error: &ClientError) -> io::Result<()> {
    let mut bytes = Vec::new();
    error.encode(sequence.wrapping_add(1), &mut bytes);
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}
