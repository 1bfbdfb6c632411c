//! Copies a server's reply to the client.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use wire::command;
use wire::reply::{Progress, ReplyEnd, ReplyTracker};

use crate::backend::{Backend, Loss, poll_read_into};
use crate::clock::now;
use crate::stream::Stream;

/// Why a reply broke off.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// The server is lost, or broke the protocol.
    Server(Loss),
    /// The client is lost.
    Client,
    /// The client left while the server was at work on its command.
    ClientLeft,
}

impl From<Loss> for RelayError {
    fn from(loss: Loss) -> Self {
        Self::Server(loss)
    }
}

/// What ended a relay without an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// The reply is complete; the next command is the client's.
    Reply(ReplyEnd),
    /// The server wants a file from the client before the reply goes on.
    File,
}

/// How far a reply has come.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Finds its end.
    pub(crate) tracker: ReplyTracker,
    /// Bytes of it that went to the client.
    pub(crate) sent: usize,
    /// When its first byte came.
    pub(crate) first_byte: Option<Instant>,
    /// The server refused because it is read-only.
    pub(crate) read_only: bool,
    /// The client sent a file in the middle of it.
    pub(crate) after_file: bool,
    /// What the server sent is not the protocol, so where its packets end is not known.
    pub(crate) broken: bool,
    /// Whether the client is still there.
    pub(crate) presence: Presence,
}

/// Whether the client is still there while the server works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    /// It matters: without the client nobody wants what the server does.
    Needed,
    /// What the server does is worth something without the client.
    Optional,
    /// It has left, and the server, which was told in the same way, goes on as it likes.
    Over,
}

/// What the client sent while its command is served.
#[derive(Debug)]
pub(crate) struct Ahead<'a> {
    /// The command, and what came after it.
    pub(crate) input: &'a mut BytesMut,
    /// Bytes of the command.
    pub(crate) command_len: usize,
}

/// A farewell of the client's, as a packet.
const QUIT: &[u8] = &[1, 0, 0, 0, command::QUIT];

impl Ahead<'_> {
    fn has_room(&self) -> bool {
        self.input.len() < self.input.capacity()
    }

    /// Reads what there is room for. What is compressed stays so: the numbers of its frames would
    /// disturb those of the reply.
    fn poll_fill(&mut self, client: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match client {
            Stream::Compressed(over) => over.poll_fill(cx),
            plain => poll_read_into(plain, self.input, cx),
        }
    }

    /// Whether there are commands to be served yet.
    fn has_commands(&self, client: &Stream) -> bool {
        let rest = self.input.get(self.command_len..).unwrap_or_default();
        let packed = match client {
            Stream::Compressed(over) => over.has_more_than(QUIT),
            _ => false,
        };
        packed || !(rest.is_empty() || rest == QUIT)
    }
}

/// `ER_OPTION_PREVENTS_STATEMENT`.
const OPTION_PREVENTS: u16 = 1290;

/// Copies bytes from the server to the client until it is the client's turn, starting with those
/// that are in the buffer already.
///
/// What arrived in one read goes out in one write. The next read waits for that write, so a slow
/// client slows its server down and no reply is ever held in memory. Commands that the client sends
/// meanwhile are read ahead, as far as there is room: only who reads sees the end of a connection.
///
/// # Errors
///
/// [`RelayError`]; the server's connection is then of no use any more.
pub(crate) async fn relay(
    backend: &mut Backend,
    client: &mut Stream,
    mut ahead: Ahead<'_>,
    reply: &mut Reply,
) -> Result<Turn, RelayError> {
    loop {
        if backend.buffer.is_empty() {
            read_watching(backend, client, &mut ahead, &mut reply.presence).await?;
        }
        if reply.first_byte.is_none() {
            reply.first_byte = Some(now());
        }
        let (ours, progress) = match reply.tracker.feed(&backend.buffer) {
            Ok(fed) => fed,
            Err(error) => {
                reply.broken = true;
                return Err(Loss(error.to_string()).into());
            }
        };
        let turn = match progress {
            Progress::More => None,
            Progress::ClientTurn => Some(Turn::File),
            Progress::Done(end) => Some(Turn::Reply(end)),
        };
        let bytes = backend.buffer.get(..ours).unwrap_or_default();
        if let Some(Turn::Reply(ReplyEnd { error: Some(OPTION_PREVENTS), .. })) = turn {
            reply.read_only = mentions_read_only(bytes);
        }
        client.write_all(bytes).await.map_err(|_| RelayError::Client)?;
        reply.sent += ours;
        // What follows a whole reply is a farewell, and is seen before the next command is sent.
        backend.buffer.advance(ours);
        if let Some(turn) = turn {
            client.flush().await.map_err(|_| RelayError::Client)?;
            return Ok(turn);
        }
    }
}

/// Reads from the server while watching whether the client is there.
async fn read_watching(
    backend: &mut Backend,
    client: &mut Stream,
    ahead: &mut Ahead<'_>,
    presence: &mut Presence,
) -> Result<(), RelayError> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(read) = backend.poll_read(cx) {
            return Poll::Ready(match read {
                // Its last word was for nobody.
                Err(_) if *presence == Presence::Over => Err(RelayError::Client),
                read => read.map_err(RelayError::from),
            });
        }
        while *presence != Presence::Over && ahead.has_room() {
            if let Ok(1..) = ready!(ahead.poll_fill(client, cx)) {
                continue;
            }
            // What it sent ahead of its leaving is still to be done, as a server would do it.
            match std::mem::replace(presence, Presence::Over) {
                _ if ahead.has_commands(client) => {}
                Presence::Needed => return Poll::Ready(Err(RelayError::ClientLeft)),
                Presence::Optional | Presence::Over => backend.end_sending(),
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether the error at the end of `bytes` is about read_only: the same number stands for other
/// options as well (`--secure-file-priv`, `--skip-grant-tables`).
fn mentions_read_only(bytes: &[u8]) -> bool {
    const TAIL: usize = 300;
    let tail = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
    tail.windows(9).any(|window| window == b"read-only" || window == b"read_only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_1290_are_about_read_only() {
        let table = [
            ("running with the --read-only option so it cannot", true),
            ("running with the --super-read-only option so", true),
            ("running with the --secure-file-priv option so it cannot", false),
        ];
        for (text, expected) in table {
            assert_eq!(mentions_read_only(text.as_bytes()), expected, "{text}");
        }
    }
}
