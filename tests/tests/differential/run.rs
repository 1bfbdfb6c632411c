//! Runs a script on one connection and keeps all that comes back.

use std::io;
use std::time::{Duration, Instant};

use testkit::{APP, Cut, Direction, FaultProxy, Frame, RawClient, capability, wait_until};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::raw::{CONNECT_ATTRS, Handmade, Kind, native, sha2};
use crate::script::{Choice, Context, Prepared, SLOTS, Script, Step, packet};

/// How long one packet may take on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long connections may take to close, before those that are open are taken for new ones.
const AGAIN: Duration = Duration::from_secs(5);
/// Another result follows.
const MORE_RESULTS: u16 = 1 << 3;
/// The result has the values of OUT parameters.
const OUT_PARAMETERS: u16 = 1 << 12;
/// A cursor holds the rows.
const CURSOR_EXISTS: u16 = 1 << 6;

/// Where a script is run.
#[derive(Debug)]
pub struct Side<'a> {
    pub port: u16,
    pub schema: String,
    /// What is cut at [`Step::Cut`].
    pub link: Option<&'a FaultProxy>,
    /// What either side offers of capabilities.
    pub offered: u32,
}

/// What came back for a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub frames: Vec<Frame>,
    /// Where the replies to the steps of a burst begin.
    pub parts: Vec<usize>,
    pub end: End,
}

/// How a reply ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Whole,
    /// The connection was closed.
    Closed,
    /// Nothing came for too long.
    Silent,
}

struct Session {
    client: RawClient,
    deprecate_eof: bool,
    /// A byte behind a column count says whether definitions follow.
    metadata_byte: bool,
    reply: Reply,
}

/// Runs a script: the reply to the login, and one for each step up to the session's end.
pub async fn run(script: &Script, side: &Side<'_>) -> Vec<Reply> {
    let client = RawClient::connect(side.port).await.expect("a greeting");
    let attributes = if script.login.with_attributes { CONNECT_ATTRS } else { 0 };
    let capabilities = script.login.capabilities & side.offered | attributes;
    let deprecate_eof = capabilities & capability::DEPRECATE_EOF != 0;
    let metadata_byte = capabilities & capability::OPTIONAL_METADATA != 0
        || script.login.extended & capability::CACHE_METADATA != 0;
    let mut session = Session { client, deprecate_eof, metadata_byte, reply: Reply::default() };
    let mut context = Context {
        schema: &side.schema,
        prepared: [const { None }; SLOTS],
        capabilities,
        keeps_values: script.keeps_values,
    };
    session.login(&script.login, &context).await;
    let mut replies = vec![std::mem::take(&mut session.reply)];
    for step in &script.steps {
        if replies.last().is_some_and(|reply| reply.end != End::Whole) {
            break;
        }
        match step {
            Step::Cut { after_ping } => {
                if *after_ping {
                    session.take(&Step::PING, &mut context).await;
                }
                cut(side.link).await;
            }
            Step::CutAfter { to_server, bytes } => {
                let direction = if *to_server { Direction::ToServer } else { Direction::ToClient };
                if let Some(link) = side.link {
                    link.cut_after(direction, *bytes, Cut::Reset);
                }
            }
            _ => session.take(step, &mut context).await,
        }
        replies.push(std::mem::take(&mut session.reply));
    }
    for direction in [Direction::ToServer, Direction::ToClient] {
        if let Some(link) = side.link {
            link.cut_after(direction, usize::MAX, Cut::Reset);
        }
    }
    replies
}

/// Resets the connections to the server, and waits until both ends have been told. What was on its way
/// may have made failsoft connect again, after a while without another reset.
async fn cut(link: Option<&FaultProxy>) {
    let Some(link) = link else { return };
    let mut last: Option<Instant> = None;
    wait_until(PATIENCE, "no connection", || {
        if last.is_none_or(|last| last.elapsed() > AGAIN) {
            link.reset_all();
            last = Some(Instant::now());
        }
        async { link.is_idle() }
    })
    .await;
}

impl Session {
    async fn login(&mut self, choice: &Choice, context: &Context<'_>) {
        let login = Handmade {
            capabilities: context.capabilities,
            extended: choice.extended,
            answer: self.answer(None),
            schema: choice.with_schema.then(|| context.schema.to_owned()),
            plugin: Some(self.client.greeting.plugin.clone()),
            attributes: choice.with_attributes.then(|| b"\x05_name\x06script".to_vec()),
            ..Handmade::native(&self.client)
        };
        let mut payload = login.payload();
        payload[8] = choice.collation;
        if self.client.send(&payload).await.is_err() {
            self.reply.end = End::Closed;
            return;
        }
        self.authenticate(false).await;
    }

    /// The answer to the greeting's nonce, or to that of a request to switch.
    fn answer(&self, switch: Option<&[u8]>) -> Vec<u8> {
        let greeting = &self.client.greeting;
        let (plugin, nonce) = match switch {
            Some(switch) => {
                let end = switch.iter().position(|&byte| byte == 0).expect("a method's name");
                let nonce = &switch[end + 1..];
                (&switch[..end], nonce.strip_suffix(&[0]).unwrap_or(nonce))
            }
            None => (greeting.plugin.as_bytes(), &*greeting.nonce),
        };
        match plugin {
            b"caching_sha2_password" => sha2(APP.pass, nonce),
            _ => native(APP.pass, nonce),
        }
    }

    /// Reads on until the login is over; keeps its last packet.
    async fn authenticate(&mut self, wrong: bool) {
        while let Some(frame) = self.packet().await {
            match frame.payload.as_slice() {
                [0xfe, switch @ ..] => {
                    let mut answer = self.answer(Some(switch));
                    if wrong {
                        answer.reverse();
                    }
                    self.reply.frames.clear();
                    if self.client.send(&answer).await.is_err() {
                        self.reply.end = End::Closed;
                    }
                }
                [1, 3] => self.reply.frames.clear(),
                // The password itself is asked for: the answer was wrong, and so would this be.
                [1, 4] => self.reply.end = End::Closed,
                _ => return,
            }
        }
    }

    async fn take(&mut self, step: &Step, context: &mut Context<'_>) {
        let sent = match step {
            Step::Burst(steps) => {
                let bytes: Vec<u8> =
                    steps.iter().flat_map(|step| packet(&step.payload(context))).collect();
                self.client.stream.write_all(&bytes).await
            }
            Step::ChangeUser { with_schema, wrong } => {
                return self.change_user(*with_schema, *wrong, context).await;
            }
            _ => self.client.stream.write_all(&packet(&step.payload(context))).await,
        };
        // Written to a connection that is closed: what it said before is still to be read.
        drop::<io::Result<()>>(sent);
        match step {
            Step::Burst(steps) => {
                for step in steps {
                    self.reply.parts.push(self.reply.frames.len());
                    self.read(step, context).await;
                }
            }
            _ => self.read(step, context).await,
        }
    }

    /// Reads a step's reply.
    async fn read(&mut self, step: &Step, context: &mut Context<'_>) {
        let from = self.reply.frames.len();
        match step.reply() {
            Some(Kind::Results) => self.results(step).await,
            Some(Kind::Prepared) => self.prepared().await,
            Some(Kind::Rows) => drop(self.rows().await),
            Some(Kind::One) => drop(self.packet().await),
            None => {}
        }
        if let Step::Prepare { slot, .. } = step {
            let first = self.reply.frames.get_mut(from);
            let prepared = first.filter(|frame| is_prepared(frame));
            context.prepared[*slot] = prepared.map(|frame| {
                let id = frame.payload[1..5].try_into().expect("four bytes");
                // Ids are a server's own affair.
                frame.payload[1..5].fill(0);
                let parameters = u16::from_le_bytes([frame.payload[7], frame.payload[8]]);
                Prepared { id: u32::from_le_bytes(id), parameters: parameters.into(), last: None }
            });
        }
    }

    /// `COM_CHANGE_USER` (P: page_protocol_com_change_user).
    async fn change_user(&mut self, with_schema: bool, wrong: bool, context: &mut Context<'_>) {
        let mut answer = self.answer(None);
        if wrong {
            answer.reverse();
        }
        let length = u8::try_from(answer.len()).expect("a short answer");
        let schema = if with_schema { context.schema } else { "" };
        let plugin = self.client.greeting.plugin.as_bytes();
        let mut payload = [&[0x11], APP.user.as_bytes(), &[0, length], &answer].concat();
        payload.extend([schema.as_bytes(), &[0, 45, 0], plugin, &[0]].concat());
        if context.has(CONNECT_ATTRS) {
            payload.push(0);
        }
        drop::<io::Result<()>>(self.client.stream.write_all(&packet(&payload)).await);
        self.authenticate(wrong).await;
        // MySQL closes after a login that it refuses, MariaDB goes on as the user that it was.
        if wrong && !self.client.greeting.version.contains("MariaDB") {
            self.reply.end = End::Closed;
        } else if wrong {
            // What failsoft refuses itself is not among the server's warnings, which go with the next
            // statement that reads a table.
            let sql = "SELECT 1 FROM information_schema.engines WHERE FALSE".to_owned();
            let nothing = Step::Query { sql, attributes: Vec::new() };
            drop(self.client.stream.write_all(&packet(&nothing.payload(context))).await);
            self.results(&nothing).await;
        }
    }

    async fn results(&mut self, step: &Step) {
        while self.result(step).await {}
    }

    /// Reads one result; whether another follows.
    async fn result(&mut self, step: &Step) -> bool {
        let Some(first) = self.packet().await else { return false };
        match first.payload.first() {
            Some(0x00) => ok_status(&first.payload) & MORE_RESULTS != 0,
            Some(0xfb) => self.send_file(step).await,
            Some(1..=250) if self.metadata_byte && first.payload.get(1) == Some(&0) => {
                self.rows_with(0).await
            }
            Some(&columns @ 1..=250) => self.rows_with(columns).await,
            _ => false,
        }
    }

    /// Reads rows behind so many definitions; whether another result follows.
    async fn rows_with(&mut self, definitions: u8) -> bool {
        for _ in 0..definitions {
            if self.is_cut_short().await {
                return false;
            }
        }
        let mut is_out_parameters = false;
        if !self.deprecate_eof {
            let Some(eof) = self.packet().await.filter(|packet| !packet.is_err()) else {
                return false;
            };
            let status = eof_status(&eof.payload);
            if status & CURSOR_EXISTS != 0 {
                return false;
            }
            // MySQL forgets to say after them that an OK follows.
            is_out_parameters = status & OUT_PARAMETERS != 0;
        }
        self.rows().await.is_some_and(|status| status & MORE_RESULTS != 0 || is_out_parameters)
    }

    /// Gives the server the file that it asks for; another reply follows.
    async fn send_file(&mut self, step: &Step) -> bool {
        let pieces = if let Step::Load { pieces, .. } = step { &**pieces } else { &[] };
        for piece in pieces.iter().map(String::as_str).chain([""]) {
            drop::<io::Result<()>>(self.client.send(piece.as_bytes()).await);
        }
        true
    }

    /// Reads rows to their end; the status flags, if they ended well.
    async fn rows(&mut self) -> Option<u16> {
        let longest_end = if self.deprecate_eof { 0xff_ffff } else { 9 };
        loop {
            let packet = self.packet().await?;
            match packet.payload.first() {
                Some(0xff) => return None,
                Some(0xfe) if packet.payload.len() < longest_end => {
                    let status = if self.deprecate_eof { ok_status } else { eof_status };
                    return Some(status(&packet.payload));
                }
                _ => {}
            }
        }
    }

    async fn prepared(&mut self) {
        let Some(first) = self.packet().await.filter(is_prepared) else { return };
        let number = |at: usize| u16::from_le_bytes([first.payload[at], first.payload[at + 1]]);
        for definitions in [number(7), number(5)] {
            let eof = u16::from(definitions > 0 && !self.deprecate_eof);
            let definitions = if first.payload.get(12) == Some(&0) { 0 } else { definitions };
            for _ in 0..definitions + eof {
                if self.is_cut_short().await {
                    return;
                }
            }
        }
    }

    /// Reads a packet that has to be there, unless the reply ends with an error.
    async fn is_cut_short(&mut self) -> bool {
        self.packet().await.is_none_or(|packet| packet.is_err())
    }

    /// Reads one packet; none once the connection is at its end.
    async fn packet(&mut self) -> Option<Frame> {
        if self.reply.end != End::Whole {
            return None;
        }
        match timeout(PATIENCE, self.client.read()).await {
            Ok(Ok(frame)) => {
                self.reply.frames.push(frame.clone());
                return Some(frame);
            }
            Ok(Err(_)) => self.reply.end = End::Closed,
            Err(_) => self.reply.end = End::Silent,
        }
        None
    }
}

/// MySQL answers some of what it cannot prepare with an ordinary OK packet.
fn is_prepared(frame: &Frame) -> bool {
    frame.is_ok() && matches!(frame.payload.len(), 12 | 13)
}

fn eof_status(payload: &[u8]) -> u16 {
    match *payload {
        [0xfe, _, _, low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

/// The status flags of an OK packet, which follow two numbers.
fn ok_status(payload: &[u8]) -> u16 {
    let width = |at: usize| match payload.get(at) {
        Some(0xfc) => 3,
        Some(0xfd) => 4,
        Some(0xfe) => 9,
        _ => 1,
    };
    let rows = 1 + width(1);
    let at = rows + width(rows);
    match payload.get(at..at + 2) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}
