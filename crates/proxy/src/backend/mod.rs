//! An open connection to a server.

pub(crate) mod cleaning;
pub(crate) mod connect;
pub(crate) mod gate;
pub(crate) mod insert_ids;
pub(crate) mod pool;
pub(crate) mod restore;
pub(crate) mod tether;
pub(crate) mod turns;
pub(crate) mod verdict;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use policy::topology::ServerId;
use telemetry::ConnectionGuard;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use wire::capabilities::Capabilities;
use wire::command;
use wire::definitions::Definitions;
use wire::error::ServerError;
use wire::frame::put_packet;

use crate::stream::Stream;
use crate::worker::{Slot, Terms};
use pool::Condition;
use tether::Tether;

/// Bytes read from a server at a time.
const CHUNK: usize = 16 * 1024;

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Its name has no address, it refused, or it hung up.
    #[error("{}", describe(.0))]
    Io(#[from] io::Error),
    /// It did not answer in time.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// So many sessions want to connect that this one did not get its turn.
    #[error("no turn to log in within {0:?}: too many sessions want to connect at once")]
    Busy(Duration),
    /// It answered with an error.
    #[error("{0}")]
    Server(ServerError),
    /// It and failsoft have no way in common to log this account in.
    #[error("{0}")]
    Account(String),
    /// What it said is not the protocol, or a part of it that failsoft does not speak.
    #[error("{0}")]
    Protocol(String),
    /// The configuration no longer has it.
    #[error("it was removed from the configuration")]
    Gone,
    /// All connections that may be shared are in use.
    #[error("no connection to it came free within {0:?}")]
    NoTurn(Duration),
    /// There are as many connections to it as are allowed.
    #[error("there are {0} connections to it already, the limit of limits.server_connections")]
    Full(usize),
}

/// An error of the network in words, without its number.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
        // Not in the words of the C library: a framework that finds them in an error takes it for
        // a lost connection and runs the statement again.
        io::ErrorKind::ConnectionReset => "the server reset the connection".to_owned(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        io::ErrorKind::BrokenPipe => "the server closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// Why a connection to a server ended.
#[derive(Clone, Debug)]
pub(crate) struct Loss(pub(crate) String);

/// A statement as it is prepared on a server.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The server's id of it.
    pub(crate) id: u32,
    /// The columns' definitions, where failsoft prepared it again: the server takes them for known to
    /// the client, until they were given to it.
    pub(crate) definitions: Option<Rc<Definitions>>,
    /// The server has seen the types of its parameters that are kept.
    pub(crate) has_types: bool,
}

/// An open connection to a server, logged in.
pub(crate) struct Backend {
    pub(crate) stream: Stream,
    /// What was read and not dealt with.
    pub(crate) buffer: BytesMut,
    /// The server.
    pub(crate) server: ServerId,
    /// What it is called, with the part that it had: `master db001:3306`.
    pub(crate) name: String,
    /// The server takes writes over it: it was opened to the master of this epoch.
    pub(crate) epoch: Option<u64>,
    /// The server's id of the connection.
    pub(crate) id: u32,
    /// The status flags after the login.
    pub(crate) status: u16,
    /// What was agreed on with the server, of [`Capabilities::CARRIED`]. It may lack some of
    /// [`Capabilities::SPARED`] that were agreed on with the client.
    pub(crate) agreed: Capabilities,
    /// The statements prepared here, by failsoft's ids of them.
    pub(crate) prepared: HashMap<u32, Known>,
    /// Its current schema is the session's. It has none, or another, where the session's belongs to
    /// another partition, or is not there.
    pub(crate) in_schema: bool,
    /// The configuration that it is known to fit in.
    pub(crate) generation: u64,
    /// The terms it was made on.
    pub(crate) terms: Rc<Terms>,
    /// When it was made.
    pub(crate) made: Instant,
    /// A reset leads the server back to what the login said.
    pub(crate) resets_to_login: bool,
    /// A session did something over it that a reset may not take back: it took a role, or ran code that
    /// cannot be seen.
    pub(crate) is_marked: bool,
    /// The server may know a last insert id of whoever wrote over it.
    pub(crate) may_have_insert_id: bool,
    /// What it was to its session when that last parked it.
    pub(crate) condition: Option<Rc<Condition>>,
    /// A turn at the server's connections, where they are shared.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
    tether: Tether,
    counted: (Slot, ConnectionGuard),
}

impl Backend {
    /// Whether writes may go over it in this epoch.
    pub(crate) fn takes_writes(&self, epoch: u64) -> bool {
        self.epoch == Some(epoch)
    }

    /// Appends a statement of our own as a packet (P: page_protocol_com_query).
    pub(crate) fn put_query(&self, sql: &[u8], out: &mut Vec<u8>) {
        // No attribute, in one set.
        let has_attributes = self.agreed.contains(Capabilities::QUERY_ATTRIBUTES);
        let attributes: &[u8] = if has_attributes { &[0, 1] } else { &[] };
        put_packet(out, 0, &[&[command::QUERY], attributes, sql].concat());
    }

    /// Lets others find the connection as this session's.
    pub(crate) fn held_by(&mut self, session: u32) {
        self.counted.0.held_by(session, self.id);
    }

    /// Nobody finds it as its session's from now on.
    pub(crate) fn let_go(&mut self) {
        self.counted.0.let_go();
    }

    /// It waits for a session.
    pub(crate) fn rest(&mut self) {
        self.turn = None;
        self.counted.1.rest();
    }

    /// It is a session's again.
    pub(crate) fn wake(&mut self) {
        self.counted.1.wake();
    }

    /// Reads what is there into the buffer; waits until something is.
    ///
    /// # Errors
    ///
    /// [`Loss`] when the server hung up or was given up.
    pub(crate) async fn read(&mut self) -> Result<(), Loss> {
        std::future::poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Reads what is there into the buffer.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        if let Poll::Ready(loss) = self.tether.poll_cut(cx) {
            return Poll::Ready(Err(loss));
        }
        self.buffer.reserve(CHUNK);
        let read = poll_read_into(&mut self.stream, &mut self.buffer, cx);
        Poll::Ready(match ready!(read) {
            Ok(0) => Err(Loss("the server closed the connection".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(Loss(describe(&error))),
        })
    }

    /// Reads until the buffer holds at least `len` bytes.
    ///
    /// # Errors
    ///
    /// [`Loss`] when the server hung up or was given up before.
    pub(crate) async fn read_at_least(&mut self, len: usize) -> Result<(), Loss> {
        while self.buffer.len() < len {
            self.read().await?;
        }
        Ok(())
    }

    /// Ready once the connection is lost, or its server is left. An idle server has nothing to say
    /// but a farewell, so anything it says means that it is about to hang up.
    pub(crate) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Loss> {
        if let Poll::Ready(loss) = self.tether.poll_left(cx) {
            return Poll::Ready(loss);
        }
        if !self.buffer.is_empty() {
            return Poll::Ready(Loss(self.farewell()));
        }
        Poll::Ready(match ready!(self.poll_read(cx)) {
            Err(loss) => loss,
            Ok(()) => Loss(self.farewell()),
        })
    }

    /// What an error that nobody asked for says.
    pub(crate) fn farewell(&self) -> String {
        let payload = self.buffer.get(wire::frame::HEADER_LEN..).unwrap_or_default();
        match ServerError::parse(payload) {
            Ok(error) if payload.first() == Some(&0xff) => format!("the server said {error}"),
            _ => "the server sent what nobody asked for".to_owned(),
        }
    }

    /// Sends `bytes`; `sent` counts those that may have left.
    ///
    /// # Errors
    ///
    /// [`Loss`] when the server hung up or was given up.
    pub(crate) async fn send(&mut self, mut bytes: &[u8], sent: &mut usize) -> Result<(), Loss> {
        let (stream, tether) = (&mut self.stream, &mut self.tether);
        let sending = async {
            while !bytes.is_empty() {
                let written = stream.write(bytes).await.map_err(|e| Loss(describe(&e)))?;
                if written == 0 {
                    return Err(Loss("the server closed the connection".to_owned()));
                }
                *sent += written;
                bytes = bytes.get(written..).unwrap_or_default();
            }
            stream.flush().await.map_err(|e| Loss(describe(&e)))
        };
        tokio::select! {
            biased;
            sent = sending => sent,
            loss = std::future::poll_fn(|cx| tether.poll_cut(cx)) => Err(loss),
        }
    }

    /// Tells the server that nothing more comes; what it still has to say can be read.
    pub(crate) fn end_sending(&self) {
        self.stream.end_sending();
    }

    /// Says goodbye and closes, without waiting: what does not go out at once is not worth it.
    pub(crate) fn close(mut self) {
        let mut bytes = Vec::new();
        put_packet(&mut bytes, 0, &[command::QUIT]);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let stream = Pin::new(&mut self.stream);
        let _quit = tokio::io::AsyncWrite::poll_write(stream, &mut cx, &bytes);
        let stream = Pin::new(&mut self.stream);
        let _end = tokio::io::AsyncWrite::poll_shutdown(stream, &mut cx);
    }
}

/// Reads once into the spare room of `buffer`; ready with the number of bytes, 0 at the end.
pub(crate) fn poll_read_into(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // `read_buf` holds no state between polls, so a future made for one poll loses nothing.
    let read = tokio::io::AsyncReadExt::read_buf(stream, buffer);
    let read = std::pin::pin!(read);
    read.poll(cx)
}
