//! A client of the MySQL protocol that sends and reads packets as it is told.
//!
//! Drivers hide what a proxy has to get right: sequence numbers, where a packet ends, what comes
//! after an error. This one hides nothing but the login.

use std::io;
use std::net::Ipv4Addr;

use mysql_common::crypto;
use mysql_common::scramble::{scramble_native, scramble_sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest payload of one frame.
const LONGEST: usize = 0xff_ffff;

/// Bits of the capabilities (P: group__group__cs__capabilities__flags).
pub mod capability {
    /// Counts found instead of changed rows.
    pub const FOUND_ROWS: u32 = 1 << 1;
    /// Schema in the login.
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    /// LOAD DATA LOCAL.
    pub const LOCAL_FILES: u32 = 1 << 7;
    /// The protocol of 4.1 and later.
    pub const PROTOCOL_41: u32 = 1 << 9;
    /// Status flags in OK packets.
    pub const TRANSACTIONS: u32 = 1 << 13;
    /// Logins by 4.1's and later methods.
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    /// Many statements in one query.
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    /// Many results of one query.
    pub const MULTI_RESULTS: u32 = 1 << 17;
    /// Many results of one prepared statement.
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    /// The login names its method.
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    /// OK packets tell what changed in the session.
    pub const SESSION_TRACK: u32 = 1 << 23;
    /// Rows end with an OK packet instead of EOF.
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    /// MySQL: definitions of columns may be left out.
    pub const OPTIONAL_METADATA: u32 = 1 << 25;
    /// MariaDB: definitions of columns are not sent twice. One of the extended capabilities.
    pub const CACHE_METADATA: u32 = 1 << 4;
    /// What [`super::Login`] asks for if not told otherwise.
    pub const USUAL: u32 = PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | PLUGIN_AUTH;
}

/// One packet as it came: its sequence number and its payload, frames of 16 MiB not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The sequence number.
    pub sequence: u8,
    /// The payload, up to 2^24 - 1 bytes.
    pub payload: Vec<u8>,
}

/// What to log in with.
#[derive(Clone, Debug)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Its password.
    pub pass: String,
    /// The schema; its capability is set as needed.
    pub schema: Option<String>,
    /// The capabilities, [`capability::USUAL`] unless changed.
    pub capabilities: u32,
    /// MariaDB's extended capabilities, none unless changed.
    pub extended: u32,
    /// The collation's number; 45 is `utf8mb4_general_ci`.
    pub collation: u8,
}

/// A connection.
#[derive(Debug)]
pub struct RawClient {
    /// The connection itself, for what is not a packet at all.
    pub stream: TcpStream,
    /// The number the next packet we send will have.
    pub sequence: u8,
    /// What the server said first.
    pub greeting: Greeting,
}

/// The parts of a server's greeting that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The server's version.
    pub version: String,
    /// The number of the connection.
    pub connection_id: u32,
    /// The server's capabilities, the upper half included.
    pub capabilities: u32,
    /// Twenty random bytes.
    pub nonce: Vec<u8>,
    /// The login method that the server proposes.
    pub plugin: String,
}

impl Login {
    /// A login with the usual capabilities and no schema.
    #[must_use]
    pub fn new(user: &str, pass: &str) -> Self {
        Self {
            user: user.to_owned(),
            pass: pass.to_owned(),
            schema: None,
            capabilities: capability::USUAL,
            extended: 0,
            collation: 45,
        }
    }

    /// The login packet's payload (P: page_protocol_connection_phase_packets_protocol_handshake_response).
    fn payload(&self, plugin: &str, nonce: &[u8]) -> Vec<u8> {
        let with_schema = if self.schema.is_some() { capability::CONNECT_WITH_DB } else { 0 };
        let mut payload = (self.capabilities | with_schema).to_le_bytes().to_vec();
        payload.extend(0x0100_0000_u32.to_le_bytes());
        payload.push(self.collation);
        payload.extend([0; 19]);
        payload.extend(self.extended.to_le_bytes());
        payload.extend(self.user.as_bytes());
        payload.push(0);
        let answer = scramble(plugin, &self.pass, nonce);
        payload.push(u8::try_from(answer.len()).expect("a scramble is short"));
        payload.extend(answer);
        if let Some(schema) = &self.schema {
            payload.extend(schema.as_bytes());
            payload.push(0);
        }
        payload.extend(plugin.as_bytes());
        payload.push(0);
        payload
    }

    /// The payload of a change of user after the command's byte (P: page_protocol_com_change_user).
    fn change(&self, plugin: &str, nonce: &[u8]) -> Vec<u8> {
        let answer = scramble(plugin, &self.pass, nonce);
        let length = u8::try_from(answer.len()).expect("a scramble is short");
        let schema = self.schema.as_deref().unwrap_or_default();
        let mut payload = [self.user.as_bytes(), &[0, length], &answer].concat();
        payload.extend([schema.as_bytes(), &[0, self.collation, 0], plugin.as_bytes()].concat());
        payload.push(0);
        payload
    }
}

impl Frame {
    /// Whether it is an error.
    #[must_use]
    pub fn is_err(&self) -> bool {
        self.payload.first() == Some(&0xff)
    }

    /// Whether it is the OK that ends a reply without rows.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.payload.first() == Some(&0)
    }

    /// The error's number, SQLSTATE and text.
    #[must_use]
    pub fn error(&self) -> Option<(u16, String, String)> {
        let rest = self.payload.strip_prefix(&[0xff])?;
        let (number, rest) = rest.split_first_chunk()?;
        let text = String::from_utf8_lossy(rest);
        let (state, text) = match text.strip_prefix('#') {
            Some(marked) => marked.split_at_checked(5)?,
            None => ("", &*text),
        };
        Some((u16::from_le_bytes(*number), state.to_owned(), text.to_owned()))
    }
}

impl RawClient {
    /// Connects to a loopback port and reads the greeting.
    ///
    /// # Errors
    /// Nobody is there, or what came is no greeting; the server's own error is the message then.
    pub async fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, sequence: 0, greeting: Greeting::default() };
        let frame = client.read().await?;
        client.greeting = greeting(&frame.payload)
            .ok_or_else(|| io::Error::other(format!("no greeting: {:?}", frame.error())))?;
        Ok(client)
    }

    /// Logs in; answers with the server's last packet, OK or an error.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn login(&mut self, login: &Login) -> io::Result<Frame> {
        self.send(&login.payload(&self.greeting.plugin, &self.greeting.nonce)).await?;
        self.authenticate(login).await
    }

    /// Logs in anew (`COM_CHANGE_USER`); answers with the server's last packet, OK or an error.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn change_user(&mut self, login: &Login) -> io::Result<Frame> {
        let change = login.change(&self.greeting.plugin, &self.greeting.nonce);
        self.command(0x11, &change).await?;
        self.authenticate(login).await
    }

    /// Answers the server's questions until the login is over.
    async fn authenticate(&mut self, login: &Login) -> io::Result<Frame> {
        let mut nonce = self.greeting.nonce.clone();
        loop {
            let frame = self.read().await?;
            match frame.payload.as_slice() {
                [0xfe, switch @ ..] => {
                    let (plugin, fresh) = auth_switch(switch);
                    nonce = fresh;
                    self.send(&scramble(&plugin, &login.pass, &nonce)).await?;
                }
                [1, 3] => {}
                [1, 4] => self.send(&[2]).await?,
                [1, key @ ..] => {
                    let secret = masked(&login.pass, &nonce);
                    self.send(&crypto::encrypt(&secret, key)).await?;
                }
                _ => return Ok(frame),
            }
        }
    }

    /// Connects and logs in.
    ///
    /// # Panics
    /// It does not work.
    pub async fn logged_in(port: u16, login: &Login) -> Self {
        let mut client = Self::connect(port).await.expect("a greeting");
        let answer = client.login(login).await.expect("an answer to the login");
        assert!(answer.is_ok(), "login refused: {:?}", answer.error());
        client
    }

    /// Sends a command: sequence 0, then the command's byte and what follows it.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn command(&mut self, command: u8, rest: &[u8]) -> io::Result<()> {
        self.sequence = 0;
        self.send(&[&[command], rest].concat()).await
    }

    /// Sends a payload, in as many frames as it takes, from the next sequence number on.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        let full = payload.len() / LONGEST;
        for chunk in payload.chunks(LONGEST) {
            self.frame(&mut bytes, chunk);
        }
        if payload.len() == full * LONGEST {
            self.frame(&mut bytes, &[]);
        }
        self.stream.write_all(&bytes).await
    }

    /// Appends a frame with the next sequence number.
    fn frame(&mut self, bytes: &mut Vec<u8>, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame is short").to_le_bytes();
        bytes.extend(&length[..3]);
        bytes.push(self.sequence);
        bytes.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// The connection ended, at a frame's border (`UnexpectedEof`) or within one.
    pub async fn read(&mut self) -> io::Result<Frame> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, sequence] = header;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        self.sequence = sequence.wrapping_add(1);
        Ok(Frame { sequence, payload })
    }

    /// Sends a query and reads its whole reply, all results of it, as frames.
    ///
    /// Without `DEPRECATE_EOF` only, and without LOCAL INFILE.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn query(&mut self, statement: &str) -> io::Result<Vec<Frame>> {
        self.command(3, statement.as_bytes()).await?;
        let mut frames = Vec::new();
        while self.result(&mut frames).await? {}
        Ok(frames)
    }

    /// Reads one result; answers whether another follows.
    async fn result(&mut self, frames: &mut Vec<Frame>) -> io::Result<bool> {
        let first = self.read().await?;
        let (is_ok, is_err) = (first.is_ok(), first.is_err());
        let more = is_ok && ok_status(&first.payload) & MORE_RESULTS != 0;
        frames.push(first);
        if is_ok || is_err {
            return Ok(more);
        }
        let mut ends = 0;
        loop {
            let frame = self.read().await?;
            let status = eof_status(&frame.payload);
            let is_err = frame.is_err();
            frames.push(frame);
            ends += u8::from(status.is_some());
            if is_err || ends == 2 {
                return Ok(status.is_some_and(|status| status & MORE_RESULTS != 0));
            }
        }
    }
}

/// The status bit that says that another result follows.
const MORE_RESULTS: u16 = 1 << 3;

/// The status flags of an EOF packet.
fn eof_status(payload: &[u8]) -> Option<u16> {
    match *payload {
        [0xfe, _, _, low, high] => Some(u16::from_le_bytes([low, high])),
        _ => None,
    }
}

/// The status flags of an OK packet, which follow two lengths-encoded numbers.
fn ok_status(payload: &[u8]) -> u16 {
    let width = |first: Option<&u8>| match first {
        Some(0xfc) => 3,
        Some(0xfd) => 4,
        Some(0xfe) => 9,
        _ => 1,
    };
    let rows = 1 + width(payload.get(1));
    let at = rows + width(payload.get(rows));
    match payload.get(at..at + 2) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

/// Reads a greeting (P: page_protocol_connection_phase_packets_protocol_handshake_v10).
fn greeting(payload: &[u8]) -> Option<Greeting> {
    let (version, rest) = until_nul(payload.strip_prefix(&[10])?)?;
    let (id, rest) = rest.split_first_chunk()?;
    let (nonce, rest) = rest.split_at_checked(8)?;
    let &[_, low, high, _, _, _, upper_low, upper_high, _, ..] = rest else { return None };
    let (second, rest) = rest.get(19..)?.split_at_checked(12)?;
    let (plugin, _) = until_nul(rest.strip_prefix(&[0])?)?;
    Some(Greeting {
        version,
        connection_id: u32::from_le_bytes(*id),
        capabilities: u32::from_le_bytes([low, high, upper_low, upper_high]),
        nonce: [nonce, second].concat(),
        plugin,
    })
}

fn until_nul(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 1..]))
}

/// Method and nonce of a request to log in otherwise.
fn auth_switch(payload: &[u8]) -> (String, Vec<u8>) {
    let (plugin, nonce) = until_nul(payload).expect("a switch names its method");
    (plugin, nonce.strip_suffix(&[0]).unwrap_or(nonce).to_vec())
}

/// The answer to a nonce.
fn scramble(plugin: &str, pass: &str, nonce: &[u8]) -> Vec<u8> {
    let answer = match plugin {
        "caching_sha2_password" => scramble_sha256(nonce, pass.as_bytes()).map(Vec::from),
        _ => scramble_native(nonce, pass.as_bytes()).map(Vec::from),
    };
    answer.unwrap_or_default()
}

/// The password, ended by NUL and masked by the nonce, as it goes under RSA.
fn masked(pass: &str, nonce: &[u8]) -> Vec<u8> {
    pass.bytes().chain([0]).zip(nonce.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_status_of_ok_packets() {
        let rows: &[(&[u8], u16)] = &[
            (&[0, 0, 0, 2, 0, 0, 0], 2),
            (&[0, 0xfc, 1, 1, 5, 10, 1, 0, 0], 0x010a),
            (&[0, 1, 0xfd, 1, 2, 3, 8, 0, 0, 0], 8),
            (&[0, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 0, 8, 0], 8),
            (&[0], 0),
        ];
        for (payload, status) in rows {
            assert_eq!(ok_status(payload), *status, "{payload:?}");
        }
    }

    #[test]
    fn reads_errors_with_and_without_sqlstate() {
        let error = |payload: &[u8]| Frame { sequence: 0, payload: payload.to_vec() }.error();
        let expected = (1290, "HY000".to_owned(), "no".to_owned());
        assert_eq!(error(b"\xff\x0a\x05#HY000no"), Some(expected));
        assert_eq!(error(b"\xff\x10\x04many"), Some((1040, String::new(), "many".to_owned())));
        assert_eq!(error(b"\x00\x00\x00"), None);
    }
}
