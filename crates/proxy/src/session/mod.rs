//! One client, from its login to its end.
//!
//! The session's task owns everything of it: the client's stream, the connection to a server that it
//! holds (or none), and the facts below. It waits in two places: here for the next command, and in
//! [`relay`](crate::relay) for a reply.
//!
//! * [`state`] is what can be given to another server, [`settings`] what of it was `SET`.
//! * `text` finds and classifies the text of a statement.
//! * `statement` brings one command to a server; `acquire` finds a connection to it, `exchange` sends it
//!   there, and brings its reply back.
//! * `partition` says to which servers a command may go at all.
//! * `unavailable` says why a server cannot be used.
//! * `lost` says what becomes of it when the server is lost on the way.
//! * `commit` sees to it that a COMMIT that failed does not succeed when it is sent again.
//! * `ending` keeps its connection for others, or closes it; `park` lends it out between transactions.
//! * `observe` shows others what it does and asked.
//! * `kill` ends what this or another session runs.
//! * `memory` is what a server knows of a session that no other can be given.
//! * `note` remembers what a statement did to the session, `tracked` what its server says that it did;
//!   `file` passes `LOAD DATA LOCAL` on.
//! * `commands` has what is particular to each command, `user` what a change of user that is refused
//!   leaves behind.

mod acquire;
mod commands;
mod commit;
mod ending;
mod exchange;
mod file;
mod hold;
mod kill;
mod lost;
mod memory;
mod note;
mod observe;
mod outcome;
mod park;
mod partition;
mod prepared;
pub(crate) mod settings;
pub(crate) mod state;
mod statement;
mod text;
mod tracked;
mod unavailable;
mod user;

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use policy::session::Pins;
use tokio::io::AsyncWriteExt;
use wire::command;
use wire::error::ClientError;
use wire::frame::{HEADER_LEN, Header, whole_packet};
use wire::status::{
    ANSI_QUOTES, AUTOCOMMIT, IN_READ_ONLY_TRANSACTION, IN_TRANSACTION, NO_BACKSLASH_ESCAPES, put_ok,
};
use wire::track::Changes;

use crate::alarm::{Alarm, Clock};
use crate::backend::{Backend, Loss, poll_read_into};
use crate::budget::Share;
use crate::buffers::CHUNK;
use crate::clock::now;
use crate::login::Client;
use crate::refusal;
use crate::worker::Worker;
use commit::FailedCommit;
pub(crate) use kill::end_session;
use lost::Gone;
use memory::Memory;
use observe::Told;
use park::Parked;
use state::Carried;

/// One client's session.
pub(crate) struct Session {
    worker: Rc<Worker>,
    client: Client,
    /// What the client sent and was not dealt with; the present command is at its front.
    input: BytesMut,
    /// Bytes of the present command, 0 once it was taken off `input`.
    command_len: usize,
    /// What `input` takes of the memory for long packets.
    share: Share,
    /// The sequence id of the command's last frame; replies of our own go on from it.
    sequence: u8,
    backend: Option<Backend>,
    /// The connection that it parked, while it has none in hand.
    parked: Option<Parked>,
    /// When a connection is parked that it holds on to for a moment.
    lingers_until: Option<Instant>,
    carried: Carried,
    /// The status flags that the server sent last.
    status: u16,
    pins: Pins,
    /// What was lost with a server and has not been told, or is not over.
    gone: Option<Gone>,
    failed_commit: FailedCommit,
    /// What its server remembers of it besides.
    memory: Memory,
    /// What its server said of changes, in the reply to the present command.
    reported: Option<Box<Changes>>,
    /// There was no command yet.
    is_fresh: bool,
    /// How often it was refused another user.
    refused_users: u8,
    /// When the last command came, or ended.
    active: Instant,
    /// How the present statement came out.
    told: Option<Told>,
    /// How much was set and prepared when others were shown the schema last.
    shown_events: u64,
    /// When the first byte of the last reply came.
    answered: Option<Instant>,
    idle: Clock,
    drain: Alarm,
    /// Goes off when the session is to end: failsoft ends, or somebody killed it.
    halt: Alarm,
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
    /// It held on to its connection for long enough.
    Park,
    /// It was silent for too long.
    Silent,
}

/// The status flags that are still true in a reply of our own.
const LASTING: u16 =
    IN_TRANSACTION | AUTOCOMMIT | NO_BACKSLASH_ESCAPES | IN_READ_ONLY_TRANSACTION | ANSI_QUOTES;

/// How long a client may take to see the end of its connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long it may take until a silent session sees that the limit of its silence is another.
const LIMIT_SEEN: Duration = Duration::from_secs(300);

/// How long after its login a session is spared, that has not asked for anything, when idle ones are
/// to end.
const FRESH: Duration = Duration::from_secs(2);

/// A buffer larger than this is given back after the command it was for.
const KEEP: usize = 256 * 1024;

impl Session {
    pub(crate) fn new(worker: Rc<Worker>, client: Client) -> Self {
        let carried = Carried::new(client.collation, client.schema.clone());
        let idle = worker.limits().idle_timeout.min(LIMIT_SEEN);
        let idle = Clock::new(tokio::time::sleep(idle));
        let drain = Alarm::new(&worker.drain);
        let halt = Alarm::new(&client.leash.end);
        let share = Share::of(&worker.shared.budget);
        Self {
            worker,
            client,
            input: BytesMut::new(),
            command_len: 0,
            share,
            sequence: 0,
            backend: None,
            parked: None,
            lingers_until: None,
            carried,
            status: AUTOCOMMIT,
            pins: Pins::NONE,
            gone: None,
            failed_commit: FailedCommit::default(),
            memory: Memory::default(),
            reported: None,
            is_fresh: true,
            refused_users: 0,
            active: now(),
            told: None,
            shown_events: 0,
            answered: None,
            idle,
            drain,
            halt,
        }
    }

    /// Serves the client until it leaves or has to.
    ///
    /// What is seldom needed is boxed where it is called: it would make every session's task larger.
    pub(crate) async fn run(&mut self) {
        // Whether nothing is in flight on the connection in hand.
        let mut is_quiet = true;
        while let Some(len) = self.next_command().await {
            self.command_len = len;
            (self.is_fresh, self.active) = (false, now());
            let (came, dialect) = (self.active, self.dialect());
            self.show(true);
            let flow = self.command().await;
            is_quiet = flow == Flow::On || self.payload() == [command::QUIT];
            self.active = now();
            self.show(false);
            self.look_at_statement(came, dialect);
            let was_large = self.command_len.max(self.input.capacity()) > KEEP;
            self.input.advance(self.command_len.min(self.input.len()));
            self.command_len = 0;
            if self.input.is_empty() && (was_large || self.share.is_held()) {
                self.input = BytesMut::new();
                self.share.give_back();
            }
            if flow == Flow::End {
                break;
            }
            self.park();
        }
        self.give_up_parked();
        if is_quiet {
            self.part_with_backend();
        } else if let Some(backend) = self.backend.take() {
            backend.close();
        }
        self.set_pins(Pins::NONE);
        // The client may be gone already.
        let _ended = tokio::time::timeout(FAREWELL, self.client.stream.shutdown()).await;
    }

    /// Waits until a whole command is there; none when the session is to end.
    async fn next_command(&mut self) -> Option<usize> {
        loop {
            let limit = self.worker.limits().packet;
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
            if !self.input.is_empty() {
                self.make_room();
            }
            let memory = self.worker.limits().memory;
            if self.input.capacity() > KEEP && !self.share.hold(self.input.capacity(), memory) {
                self.sequence = Header::peek(&self.input).map_or(0, |header| header.sequence);
                tracing::warn!(
                    user = self.client.account.name,
                    host = self.client.host(),
                    "limits.memory is used up: a client with a long packet is refused"
                );
                self.tell(&refusal::out_of_memory(memory)).await;
                return None;
            }
            match std::future::poll_fn(|cx| self.poll_event(cx)).await {
                Event::Input => {}
                Event::Lost(loss) => {
                    self.lose(&loss);
                    self.show(false);
                }
                Event::Park => self.park_now(),
                Event::Drain if self.may_be_in_transaction() || !self.input.is_empty() => {}
                Event::Left | Event::Drain | Event::Halt | Event::Silent => return None,
            }
        }
    }

    /// Room for what the client sends next.
    fn make_room(&mut self) {
        let room = Header::peek(&self.input).map_or(CHUNK, |header| {
            (header.payload_len + HEADER_LEN).saturating_sub(self.input.len()).max(CHUNK)
        });
        self.input.reserve(room.min(1 << 20));
    }

    /// The server's end is looked at before the client's: a statement that came with the news that
    /// the server is gone must not be sent to it.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(backend) = &mut self.backend
            && let Poll::Ready(loss) = backend.poll_lost(cx)
        {
            return Poll::Ready(Event::Lost(loss));
        }
        if let Poll::Ready(read) = self.poll_input(cx) {
            return Poll::Ready(match read {
                Ok(0) | Err(_) => Event::Left,
                Ok(_) => Event::Input,
            });
        }
        if self.halt.poll(cx).is_ready() {
            return Poll::Ready(Event::Halt);
        }
        if let Poll::Ready(silent) = self.poll_silence(cx) {
            return Poll::Ready(silent);
        }
        // Once told to drain, a session in a transaction must not be told again for ever.
        let idle = !self.may_be_in_transaction() && self.input.is_empty();
        if idle && self.drain.poll(cx).is_ready() {
            return self.poll_drain(cx);
        }
        Poll::Pending
    }

    /// An idle session has no buffer: it gets one once there is something to read.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            ready!(self.client.stream.poll_readable(cx));
            self.input = self.worker.buffers.take();
        }
        let read = poll_read_into(&mut self.client.stream, &mut self.input, cx);
        if read.is_pending() && self.input.is_empty() {
            self.worker.buffers.give_back(std::mem::take(&mut self.input));
        }
        read
    }

    /// A client that has only just come is given the time to say what it came for: pools look at the
    /// connections that they keep before they use them, and not at new ones.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let until = self.active + FRESH;
        while self.is_fresh && now() < until {
            if self.idle.is_set_to(until) {
                return Poll::Pending;
            }
            self.idle.reset(until);
            if let Poll::Ready(silent) = self.poll_silence(cx) {
                return Poll::Ready(silent);
            }
        }
        Poll::Ready(Event::Drain)
    }

    /// The timer is not set again for every command: when it fires it is set to what is left, or to
    /// less, as the limit may become shorter.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while self.idle.poll(cx).is_ready() {
            let (deadline, now) = (self.active + self.worker.limits().idle_timeout, now());
            if deadline <= now {
                return Poll::Ready(Event::Silent);
            }
            if self.lingers_until.take_if(|until| *until <= now).is_some() {
                return Poll::Ready(Event::Park);
            }
            let next = deadline.min(now + LIMIT_SEEN);
            self.idle.reset(self.lingers_until.map_or(next, |until| next.min(until)));
        }
        Poll::Pending
    }

    /// Keeps those of the server's status flags that say something beyond their own reply.
    fn set_status(&mut self, status: u16) {
        self.status = status & LASTING;
        self.set_pins(self.pins.without(Pins::DOUBT));
    }

    fn in_transaction(&self) -> bool {
        self.status & IN_TRANSACTION != 0
    }

    fn may_be_in_transaction(&self) -> bool {
        self.in_transaction() || self.is_in_doubt()
    }

    /// Whether the next statement begins a transaction, whatever it is.
    fn begins(&self) -> bool {
        self.status & AUTOCOMMIT == 0 && !self.may_be_in_transaction()
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
