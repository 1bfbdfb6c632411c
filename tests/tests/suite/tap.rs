//! A relay that overhears what is asked of a server: the statements, as they are on the wire.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sql::{Dialect, Effects};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bytes of a packet's header.
const HEADER: usize = 4;
/// Where in a login the number of its collation is.
const COLLATION: usize = 8;
/// `CLIENT_COMPRESS`: what follows the login cannot be read here.
const COMPRESS: u8 = 0x20;
/// `COM_QUERY` and `COM_STMT_PREPARE`.
const WITH_TEXT: [u8; 2] = [0x03, 0x16];
/// The character sets with characters whose second byte can look like ASCII, and their collations.
pub(crate) const UNSAFE: &[(&str, &[u8])] =
    &[("big5", &[1, 84]), ("sjis", &[13, 88]), ("cp932", &[95, 96]), ("gbk", &[28, 87])];

/// A statement, and the character set that its session last said it has; empty where it is not
/// known.
pub(crate) type Statement = (String, Vec<u8>);

/// All that was overheard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<BTreeSet<Statement>>>);

impl Heard {
    /// What there is so far.
    pub(crate) fn take(&self) -> BTreeSet<Statement> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A running tap. Dropping it ends its connections.
#[derive(Debug)]
pub(crate) struct Tap {
    port: u16,
    task: JoinHandle<()>,
}

impl Tap {
    /// Starts one before the server on this port.
    pub(crate) async fn start(server: u16, heard: &Heard) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = heard.clone();
        let task = tokio::spawn(async move {
            let mut relays = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                relays.spawn(relay(client, server, heard.clone()));
            }
        });
        Self { port, task }
    }

    /// Its port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, server: u16, heard: Heard) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    // Whichever side ends first, the other has to see it.
    tokio::select! {
        () = overhear(from_client, to_server, heard) => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

async fn overhear(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, heard: Heard) {
    let mut listener = Listener { heard, charset: None, buffer: Vec::new(), is_deaf: false };
    let mut chunk = vec![0; 64 << 10];
    while let Ok(count @ 1..) = client.read(&mut chunk).await {
        let bytes = chunk.get(..count).unwrap_or_default();
        listener.hear(bytes);
        if server.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// What listens to one connection.
struct Listener {
    heard: Heard,
    /// None before the login.
    charset: Option<String>,
    buffer: Vec<u8>,
    is_deaf: bool,
}

impl Listener {
    fn hear(&mut self, bytes: &[u8]) {
        if self.is_deaf {
            return;
        }
        self.buffer.extend(bytes);
        while let Some(&[a, b, c, sequence]) = self.buffer.first_chunk() {
            let end = HEADER + usize::from(a) + (usize::from(b) << 8) + (usize::from(c) << 16);
            if self.buffer.len() < end {
                return;
            }
            let rest = self.buffer.split_off(end);
            let packet = std::mem::replace(&mut self.buffer, rest);
            self.packet(sequence, packet.get(HEADER..).unwrap_or_default());
        }
    }

    fn packet(&mut self, sequence: u8, payload: &[u8]) {
        match (&self.charset, payload.split_first()) {
            (None, Some((flags, _))) => {
                self.is_deaf = flags & COMPRESS != 0;
                let number = payload.get(COLLATION).copied().unwrap_or_default();
                let is_this = |(_, numbers): &&(&str, &[u8])| numbers.contains(&number);
                let found = UNSAFE.iter().find(is_this);
                self.charset = Some(found.map_or("utf8mb4", |(name, _)| name).to_owned());
            }
            (Some(charset), Some((code, sql))) if sequence == 0 && WITH_TEXT.contains(code) => {
                let statement = (charset.clone(), sql.to_vec());
                self.heard.0.lock().unwrap().insert(statement);
                self.note_charset(sql);
            }
            _ => {}
        }
    }

    /// As failsoft does for its sessions, but for whether the server liked it.
    fn note_charset(&mut self, sql: &[u8]) {
        let dialect = Dialect::default();
        if !sql::classify(sql, dialect).effects.contains(Effects::SET) {
            return;
        }
        for assignment in sql::assignments(sql, dialect) {
            let names = ["names", "character set", "charset", "character_set_client"];
            if names.contains(&assignment.name.as_str()) {
                self.charset = Some(assignment.value.unwrap_or_default().to_lowercase());
            }
        }
    }
}
