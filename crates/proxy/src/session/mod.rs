//! One client, from its login to its end.
//!
//! The session's task owns everything of it: the client's stream, the connection to a server that it
//! holds (or none), and the facts below. It waits in two places: here for the next command, and in
//! [`relay`](crate::relay) for a reply.
//!
//! * [`state`] is what can be given to another server.
//! * `text` finds and classifies the text of a statement.
//! * `statement` brings one command to a server and its reply back.
//! * `partition` says to which servers a command may go at all.
//! * `unavailable` says why a server cannot be used.
//! * `lost` says what becomes of it when the server is lost on the way.
//! * `kill` ends what this or another session runs.
//! * `memory` is what a server knows of a session that no other can be given.
//! * `note` remembers what a statement did to the session, `file` passes `LOAD DATA LOCAL` on.
//! * `commands` has what is particular to each command.

mod commands;
mod file;
mod kill;
mod lost;
mod memory;
mod note;
mod partition;
mod prepared;
pub(crate) mod state;
mod statement;
mod text;
mod unavailable;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use policy::session::Pins;
use tokio::io::AsyncWriteExt;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use wire::error::ClientError;
use wire::frame::{HEADER_LEN, Header, whole_packet};
use wire::status::{
    ANSI_QUOTES, AUTOCOMMIT, IN_READ_ONLY_TRANSACTION, IN_TRANSACTION, NO_BACKSLASH_ESCAPES, put_ok,
};

use crate::backend::{Backend, Loss, poll_read_into};
use crate::clock::now;
use crate::login::Client;
use crate::refusal;
use crate::worker::Worker;
use lost::Gone;
use memory::Memory;
use state::Carried;

/// One client's session.
pub(crate) struct Session {
    worker: Rc<Worker>,
    client: Client,
    /// What the client sent and was not dealt with; the present command is at its front.
    input: BytesMut,
    /// Bytes of the present command, 0 once it was taken off `input`.
    command_len: usize,
    /// The sequence id of the command's last frame; replies of our own go on from it.
    sequence: u8,
    backend: Option<Backend>,
    carried: Carried,
    /// The status flags that the server sent last.
    status: u16,
    pins: Pins,
    /// What was lost with a server and has not been told, or is not over.
    gone: Option<Gone>,
    /// What its server remembers of it besides.
    memory: Memory,
    /// When the last command came, or ended.
    active: Instant,
    /// When the first byte of the last reply came.
    answered: Option<Instant>,
    idle: Pin<Box<Sleep>>,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Done when the session is to end: failsoft ends, or somebody killed it.
    halt: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Whether the session goes on after a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flow {
    /// It waits for the next.
    On,
    /// It ends.
    End,
}

/// What an idle session was woken by.
enum Event {
    /// The client sent something.
    Input,
    /// The client left.
    Left,
    /// The server is lost.
    Lost(Loss),
    /// Idle sessions are to end.
    Drain,
    /// The session is to end.
    Halt,
    /// It was silent for too long.
    Silent,
}

/// The status flags that are still true in a reply of our own.
const LASTING: u16 =
    IN_TRANSACTION | AUTOCOMMIT | NO_BACKSLASH_ESCAPES | IN_READ_ONLY_TRANSACTION | ANSI_QUOTES;

/// How long a client may take to see the end of its connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes read from a client at a time.
const CHUNK: usize = 16 * 1024;

/// A buffer larger than this is given back after the command it was for.
const KEEP: usize = 256 * 1024;

impl Session {
    pub(crate) fn new(worker: Rc<Worker>, client: Client) -> Self {
        let carried = Carried::new(client.capabilities, client.collation, client.schema.clone());
        let idle = Box::pin(tokio::time::sleep(worker.settings.limits.idle_timeout));
        let drain = Box::pin(worker.drain.clone().cancelled_owned());
        let halt = Box::pin(client.leash.end.clone().cancelled_owned());
        Self {
            worker,
            client,
            input: BytesMut::new(),
            command_len: 0,
            sequence: 0,
            backend: None,
            carried,
            status: AUTOCOMMIT,
            pins: Pins::NONE,
            gone: None,
            memory: Memory::default(),
            active: now(),
            answered: None,
            idle,
            drain,
            halt,
        }
    }

    /// Serves the client until it leaves or has to.
    pub(crate) async fn run(mut self) {
        while let Some(len) = self.next_command().await {
            self.command_len = len;
            self.active = now();
            let flow = self.command().await;
            self.active = now();
            let was_large = self.command_len.max(self.input.capacity()) > KEEP;
            self.input.advance(self.command_len.min(self.input.len()));
            self.command_len = 0;
            if self.input.is_empty() && was_large {
                self.input = BytesMut::new();
            }
            if flow == Flow::End {
                break;
            }
        }
        self.set_pins(Pins::NONE);
        if let Some(backend) = self.backend.take() {
            backend.close();
        }
        // The client may be gone already.
        let _ended = tokio::time::timeout(FAREWELL, self.client.stream.shutdown()).await;
    }

    /// Waits until a whole command is there; none when the session is to end.
    async fn next_command(&mut self) -> Option<usize> {
        let limit = self.worker.settings.limits.packet;
        loop {
            if let Some((len, sequence)) = whole_packet(&self.input) {
                self.sequence = sequence;
                return Some(len);
            }
            let announced = Header::peek(&self.input).map_or(0, |header| header.payload_len);
            if announced.max(self.input.len().saturating_sub(HEADER_LEN)) > limit {
                self.sequence = Header::peek(&self.input).map_or(0, |header| header.sequence);
                self.tell(&refusal::packet_too_large(limit)).await;
                return None;
            }
            match self.wait().await {
                Event::Input => {}
                Event::Lost(loss) => self.lose(&loss),
                Event::Drain if self.in_transaction() || !self.input.is_empty() => {}
                Event::Left | Event::Drain | Event::Halt | Event::Silent => return None,
            }
        }
    }

    async fn wait(&mut self) -> Event {
        let room = Header::peek(&self.input).map_or(CHUNK, |header| {
            (header.payload_len + HEADER_LEN).saturating_sub(self.input.len()).max(CHUNK)
        });
        self.input.reserve(room.min(1 << 20));
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The server's end is looked at before the client's: a statement that came with the news that
    /// the server is gone must not be sent to it.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(backend) = &mut self.backend
            && let Poll::Ready(loss) = backend.poll_lost(cx)
        {
            return Poll::Ready(Event::Lost(loss));
        }
        if let Poll::Ready(read) = poll_read_into(&mut self.client.stream, &mut self.input, cx) {
            return Poll::Ready(match read {
                Ok(0) | Err(_) => Event::Left,
                Ok(_) => Event::Input,
            });
        }
        if self.halt.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Halt);
        }
        // Once told to drain, a session in a transaction must not be told again for ever.
        let idle = !self.in_transaction() && self.input.is_empty();
        if idle && self.drain.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Drain);
        }
        self.poll_silence(cx)
    }

    /// The timer is not set again for every command: when it fires it is set to what is left.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while self.idle.as_mut().poll(cx).is_ready() {
            let deadline = self.active + self.worker.settings.limits.idle_timeout;
            if deadline <= now() {
                return Poll::Ready(Event::Silent);
            }
            self.idle.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }

    /// Keeps those of the server's status flags that say something beyond their own reply.
    fn set_status(&mut self, status: u16) {
        self.status = status & LASTING;
    }

    fn in_transaction(&self) -> bool {
        self.status & IN_TRANSACTION != 0
    }

    /// Whether the session cannot leave the server that it is on.
    fn is_tied(&self) -> bool {
        self.in_transaction() || !self.pins.is_empty()
    }

    fn set_pins(&mut self, pins: Pins) {
        if pins != self.pins {
            self.worker.metrics.pinned(self.pins, pins);
            self.pins = pins;
        }
    }

    /// The command's payload, up to the end of its first frame.
    fn payload(&self) -> &[u8] {
        let end = Header::peek(&self.input).map_or(0, |header| HEADER_LEN + header.payload_len);
        self.input.get(HEADER_LEN..end.min(self.command_len)).unwrap_or_default()
    }

    /// Answers with an error of our own.
    async fn tell(&mut self, error: &ClientError) -> Flow {
        self.tell_as(self.sequence.wrapping_add(1), error).await
    }

    /// Answers with an error of our own that has this sequence id.
    async fn tell_as(&mut self, sequence: u8, error: &ClientError) -> Flow {
        let mut bytes = Vec::new();
        error.encode(sequence, &mut bytes);
        self.answer(&bytes).await
    }

    /// Answers with an OK of our own.
    async fn tell_ok(&mut self) -> Flow {
        let mut bytes = Vec::new();
        put_ok(&mut bytes, self.sequence.wrapping_add(1), self.status);
        self.answer(&bytes).await
    }

    async fn answer(&mut self, bytes: &[u8]) -> Flow {
        let stream = &mut self.client.stream;
        if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
            return Flow::End;
        }
        self.worker.metrics.bytes(self.command_len, bytes.len());
        Flow::On
    }
}
