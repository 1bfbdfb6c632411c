//! The wire by hand: replies read to their end without failsoft's own reader, and logins that no
//! driver would send.
#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(unreachable_pub, reason = "a module of test programs")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::time::Duration;

use mysql_common::scramble::{scramble_native, scramble_sha256};
use testkit::{APP, Frame, Login, RawClient, capability};
use tokio::time::timeout;

/// How long one packet may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Settings under which nothing is given up for being slow, as it may be on a busy machine.
pub const CALM: &str = "connect_timeout: 30s\nhealth: {interval: 1s, threshold: 10, timeout: 8s}\n";
/// The longest payload of one frame.
pub const LONGEST: usize = 0xff_ffff;

/// Capabilities that [`capability`] has no name for.
pub const INTERACTIVE: u32 = 1 << 10;
pub const CONNECT_ATTRS: u32 = 1 << 20;
pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
pub const QUERY_ATTRIBUTES: u32 = 1 << 27;
/// MariaDB's extended capability of bulk execution, of the upper half.
pub const STMT_BULK: u32 = 1 << 2;

/// Commands.
pub mod com {
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const STATISTICS: u8 = 0x09;
    pub const PROCESS_KILL: u8 = 0x0c;
    pub const PING: u8 = 0x0e;
    pub const CHANGE_USER: u8 = 0x11;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_RESET: u8 = 0x1a;
    pub const SET_OPTION: u8 = 0x1b;
    pub const STMT_FETCH: u8 = 0x1c;
    pub const RESET_CONNECTION: u8 = 0x1f;
    pub const STMT_BULK_EXECUTE: u8 = 0xfa;
}

/// What comes back for a command.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// OK, an error, or rows; perhaps several.
    Results,
    /// The answer to a preparation.
    Prepared,
    /// Rows without columns before them.
    Rows,
    /// One packet.
    One,
}

/// The application's login to `app`, with more capabilities than usual, and MariaDB's extended ones.
pub fn app_login(more: u32, extended: u32) -> Login {
    let mut login = Login::new(APP.user, APP.pass);
    login.schema = Some("app".to_owned());
    login.capabilities |= more;
    login.extended = extended;
    login
}

/// A connection that reads replies to their end.
#[derive(Debug)]
pub struct Wire {
    pub client: RawClient,
    deprecate_eof: bool,
    /// A byte behind a column count says whether definitions follow.
    metadata_byte: bool,
}

impl Wire {
    /// Logs in as the application, to `app`, with more capabilities than usual.
    pub async fn login(port: u16, more: u32) -> Self {
        Self::login_as(port, &app_login(more, 0)).await
    }

    /// Logs in with just this.
    pub async fn login_as(port: u16, login: &Login) -> Self {
        let client = RawClient::logged_in(port, login).await;
        let cached = login.extended & capability::CACHE_METADATA != 0;
        let wire = Self::new(client, login.capabilities);
        Self { metadata_byte: wire.metadata_byte || cached, ..wire }
    }

    /// A connection that is logged in.
    pub fn new(client: RawClient, capabilities: u32) -> Self {
        let has = |flag: u32| capabilities & flag != 0;
        let deprecate_eof = has(capability::DEPRECATE_EOF);
        Self { client, deprecate_eof, metadata_byte: has(capability::OPTIONAL_METADATA) }
    }

    /// Sends a query and reads its reply.
    pub async fn query(&mut self, sql: impl AsRef<[u8]>) -> Vec<Frame> {
        self.ask(com::QUERY, sql.as_ref(), Kind::Results).await
    }

    /// The first value of the reply's first row, as text.
    pub async fn value(&mut self, sql: &str) -> String {
        let frames = self.query(sql).await;
        let row = frames.get(if self.deprecate_eof { 2 } else { 3 });
        let row = row.unwrap_or_else(|| panic!("`{sql}` has no row: {:?}", frames[0].error()));
        let (length, rest) = row.payload.split_first().expect("a value");
        String::from_utf8_lossy(&rest[..usize::from(*length)]).into_owned()
    }

    /// Sends a command and reads its reply.
    pub async fn ask(&mut self, code: u8, rest: &[u8], kind: Kind) -> Vec<Frame> {
        self.client.command(code, rest).await.expect("a connection to write to");
        self.reply(kind).await
    }

    /// Prepares a statement; its id and the reply.
    pub async fn prepare(&mut self, sql: &str) -> (u32, Vec<Frame>) {
        let frames = self.ask(com::STMT_PREPARE, sql.as_bytes(), Kind::Prepared).await;
        let id = frames[0].payload.get(1..5).filter(|_| !frames[0].is_err()).map_or(
            // One that no server gives out.
            0x7fff_ffff,
            |id| u32::from_le_bytes(id.try_into().expect("four bytes")),
        );
        (id, frames)
    }

    /// Reads a whole reply.
    pub async fn reply(&mut self, kind: Kind) -> Vec<Frame> {
        let mut frames = Vec::new();
        match kind {
            Kind::Results => while self.result(&mut frames).await {},
            Kind::Prepared => self.prepared(&mut frames).await,
            Kind::Rows => drop(self.rows(&mut frames).await),
            Kind::One => drop(self.packet(&mut frames).await),
        }
        frames
    }

    /// Reads one result; whether another follows.
    async fn result(&mut self, frames: &mut Vec<Frame>) -> bool {
        let first = self.packet(frames).await;
        match first.payload[0] {
            0x00 => ok_status(&first.payload) & 8 != 0,
            0xff | 0xfb => false,
            columns => {
                assert!(columns < 251, "a test with more than 250 columns");
                let left_out = self.metadata_byte && first.payload[1] == 0;
                for _ in 0..if left_out { 0 } else { columns } {
                    self.packet(frames).await;
                }
                let mut is_out_parameters = false;
                if !self.deprecate_eof {
                    let eof = self.packet(frames).await;
                    // A cursor was opened, and no other result follows.
                    if eof.payload[3] & 0x48 == 0x40 {
                        return false;
                    }
                    // MySQL forgets to say after them that an OK follows.
                    is_out_parameters = eof.payload[4] & 0x10 != 0;
                }
                self.rows(frames).await & 8 != 0 || is_out_parameters
            }
        }
    }

    /// Reads rows to their end; the status.
    async fn rows(&mut self, frames: &mut Vec<Frame>) -> u16 {
        let longest_end = if self.deprecate_eof { LONGEST } else { 9 };
        loop {
            let packet = self.packet(frames).await;
            match packet.payload[0] {
                0xff => return 0,
                0xfe if packet.payload.len() < longest_end && self.deprecate_eof => {
                    return ok_status(&packet.payload);
                }
                0xfe if packet.payload.len() < longest_end => {
                    return u16::from_le_bytes([packet.payload[3], packet.payload[4]]);
                }
                _ => {}
            }
        }
    }

    async fn prepared(&mut self, frames: &mut Vec<Frame>) {
        let first = self.packet(frames).await;
        if first.is_err() || first.payload.len() < 12 {
            return;
        }
        let number = |at: usize| u16::from_le_bytes([first.payload[at], first.payload[at + 1]]);
        for definitions in [number(7), number(5)] {
            let eof = u16::from(definitions > 0 && !self.deprecate_eof);
            let definitions = if first.payload.get(12) == Some(&0) { 0 } else { definitions };
            for _ in 0..definitions + eof {
                self.packet(frames).await;
            }
        }
    }

    /// Reads one packet, of however many frames; yields its first.
    async fn packet(&mut self, frames: &mut Vec<Frame>) -> Frame {
        let at = frames.len();
        loop {
            let read = timeout(PATIENCE, self.client.read()).await;
            let read = read.unwrap_or_else(|_| panic!("no packet after {}", tail(frames)));
            let frame = read.unwrap_or_else(|error| panic!("{error} after {}", tail(frames)));
            let is_last = frame.payload.len() < LONGEST;
            frames.push(frame);
            if is_last {
                return frames[at].clone();
            }
        }
    }

    /// Whether the other side closed, without another byte.
    pub async fn is_closed(&mut self) -> bool {
        timeout(PATIENCE, self.client.read()).await.expect("an end").is_err()
    }
}

fn tail(frames: &[Frame]) -> String {
    let shown: Vec<String> = frames.iter().rev().take(3).rev().map(show).collect();
    format!("{} packets, the last: {}", frames.len(), shown.join(" | "))
}

/// A packet's beginning, readable.
pub fn show(frame: &Frame) -> String {
    let beginning = &frame.payload[..frame.payload.len().min(160)];
    format!("#{} {} bytes {}", frame.sequence, frame.payload.len(), beginning.escape_ascii())
}

/// The status flags of an OK packet.
fn ok_status(payload: &[u8]) -> u16 {
    let width = |first: u8| match first {
        0xfc => 3,
        0xfd => 4,
        0xfe => 9,
        _ => 1,
    };
    let rows = 1 + width(payload[1]);
    let at = rows + width(payload[rows]);
    u16::from_le_bytes([payload[at], payload[at + 1]])
}

/// A length, as the protocol encodes it.
pub fn lenenc(length: usize) -> Vec<u8> {
    let bytes = u64::try_from(length).expect("a length").to_le_bytes();
    match length {
        0..251 => vec![bytes[0]],
        251..0x1_0000 => [&[0xfc], &bytes[..2]].concat(),
        0x1_0000..0x100_0000 => [&[0xfd], &bytes[..3]].concat(),
        _ => [&[0xfe], &bytes[..]].concat(),
    }
}

/// Bytes with their length before them.
pub fn lenenc_bytes(bytes: &[u8]) -> Vec<u8> {
    [&lenenc(bytes.len()), bytes].concat()
}

/// The payload of an execution up to its parameters, without the command's byte.
pub fn execution(id: u32, flags: u8) -> Vec<u8> {
    [&id.to_le_bytes()[..], &[flags, 1, 0, 0, 0]].concat()
}

/// A login by hand, for [`RawClient::send`] after the greeting.
#[derive(Clone, Debug)]
pub struct Handmade {
    pub capabilities: u32,
    /// MariaDB's extended capabilities.
    pub extended: u32,
    pub user: String,
    pub answer: Vec<u8>,
    pub schema: Option<String>,
    pub plugin: Option<String>,
    pub attributes: Option<Vec<u8>>,
}

impl Handmade {
    /// The application's login, answered by mysql_native_password.
    pub fn native(client: &RawClient) -> Self {
        Self {
            capabilities: capability::USUAL,
            extended: 0,
            user: APP.user.to_owned(),
            answer: native(APP.pass, &client.greeting.nonce),
            schema: None,
            plugin: Some("mysql_native_password".to_owned()),
            attributes: None,
        }
    }

    /// The payload.
    pub fn payload(&self) -> Vec<u8> {
        let mut flags = self.capabilities;
        for (set, bit) in [
            (self.schema.is_some(), capability::CONNECT_WITH_DB),
            (self.plugin.is_some(), capability::PLUGIN_AUTH),
            (self.attributes.is_some(), CONNECT_ATTRS),
        ] {
            flags = if set { flags | bit } else { flags & !bit };
        }
        let mut payload = flags.to_le_bytes().to_vec();
        payload.extend(0x0100_0000_u32.to_le_bytes());
        payload.push(45);
        payload.extend([0; 19]);
        payload.extend(self.extended.to_le_bytes());
        payload.extend(self.user.as_bytes());
        payload.push(0);
        payload.extend(lenenc_bytes(&self.answer));
        for text in [&self.schema, &self.plugin].into_iter().flatten() {
            payload.extend(text.as_bytes());
            payload.push(0);
        }
        if let Some(attributes) = &self.attributes {
            payload.extend(lenenc_bytes(attributes));
        }
        payload
    }
}

/// The answer of mysql_native_password.
pub fn native(pass: &str, nonce: &[u8]) -> Vec<u8> {
    scramble_native(nonce, pass.as_bytes()).map(Vec::from).unwrap_or_default()
}

/// The answer of caching_sha2_password.
pub fn sha2(pass: &str, nonce: &[u8]) -> Vec<u8> {
    scramble_sha256(nonce, pass.as_bytes()).map(Vec::from).unwrap_or_default()
}
