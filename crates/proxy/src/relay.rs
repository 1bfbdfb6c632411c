//! Copies a server's reply to the client.

use std::borrow::Cow;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use wire::bridge::Bridge;
use wire::capabilities::Capabilities;
use wire::command::{self, ReplyKind};
use wire::definitions::Definitions;
use wire::frame::HEADER_LEN;
use wire::quiet::Part;
use wire::reply::{Progress, ReplyEnd, ReplyError, ReplyTracker};
use wire::track::Changes;

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
    way: Way,
    /// Bytes at the front of the backend's buffer that were looked at, and wait for more.
    seen: usize,
    /// Bytes of it that went to the client.
    pub(crate) sent: usize,
    /// When its first byte came.
    pub(crate) first_byte: Option<Instant>,
    /// The server refused because it is read-only.
    pub(crate) read_only: bool,
    /// The statement may load a file of the client's.
    pub(crate) may_want_file: bool,
    /// How much of it had gone to the client when that had sent its file.
    pub(crate) before_file: Option<usize>,
    /// What the server sent is not the protocol, so where its packets end is not known.
    pub(crate) broken: bool,
    /// Whether the client is still there.
    pub(crate) presence: Presence,
}

/// How a reply gets to the client.
#[derive(Debug)]
enum Way {
    /// As it is: the same was agreed on with both ends.
    Straight(ReplyTracker),
    /// Without what the server says of changes in the session, which the client does not expect.
    Quietly(ReplyTracker),
    /// Written anew: the server lacks something, or the client lacks what the server leaves out.
    Over(Box<Bridge>),
}

impl Reply {
    /// The reply to a command of this kind, between ends with which this was agreed on; the server
    /// takes these definitions for known to the client, who was not given them.
    pub(crate) fn new(
        kind: ReplyKind,
        server: Capabilities,
        client: Capabilities,
        presence: Presence,
        definitions: Option<Rc<Definitions>>,
    ) -> Self {
        let tracker = ReplyTracker::new(kind, server);
        let lacks = client.without(server);
        let way = if lacks.intersects(Capabilities::BRIDGED) || definitions.is_some() {
            Way::Over(Box::new(Bridge::new(tracker, lacks, definitions)))
        } else if server.without(client).contains(Capabilities::SESSION_TRACK) {
            Way::Quietly(tracker)
        } else {
            Way::Straight(tracker)
        };
        Self {
            way,
            seen: 0,
            sent: 0,
            first_byte: None,
            read_only: false,
            may_want_file: false,
            before_file: None,
            broken: false,
            presence,
        }
    }

    /// The sequence id that a packet after what went to the client has; none within a packet.
    pub(crate) fn next_sequence(&self) -> Option<u8> {
        match &self.way {
            Way::Straight(tracker) | Way::Quietly(tracker) => {
                tracker.is_at_boundary().then(|| tracker.next_sequence())
            }
            Way::Over(bridge) => bridge.next_sequence(),
        }
    }

    /// What the server said of changes in the session.
    pub(crate) fn take_changes(&mut self) -> Option<Box<Changes>> {
        match &mut self.way {
            Way::Straight(tracker) | Way::Quietly(tracker) => tracker.take_changes(),
            Way::Over(_) => None,
        }
    }

    /// Whether it has a result set.
    pub(crate) fn has_rows(&self) -> bool {
        match &self.way {
            Way::Straight(tracker) | Way::Quietly(tracker) => tracker.has_rows(),
            Way::Over(bridge) => bridge.has_rows(),
        }
    }

    /// By how much the server's numbers of packets are ahead of the client's.
    pub(crate) fn ahead(&self) -> u8 {
        match &self.way {
            Way::Straight(_) | Way::Quietly(_) => 0,
            Way::Over(bridge) => bridge.ahead(),
        }
    }

    /// Whether the client was given the definitions that the server takes for known to it, if there
    /// were any that it had not been given before.
    pub(crate) fn gave_definitions(&self) -> bool {
        matches!(&self.way, Way::Over(bridge) if !bridge.has_definitions())
    }

    /// What goes to the client of what the server sent.
    fn next<'b>(&mut self, buffer: &'b [u8]) -> Result<Piece<'b>, ReplyError> {
        let (bytes, used, progress) = match &mut self.way {
            Way::Straight(tracker) => {
                let (used, progress) = tracker.feed(buffer)?;
                (Cow::Borrowed(buffer.get(..used).unwrap_or_default()), used, progress)
            }
            Way::Quietly(tracker) => {
                let Part { bytes, used, progress } = tracker.feed_quietly(buffer)?;
                (bytes, used, progress)
            }
            Way::Over(bridge) => {
                let mut out = Vec::new();
                let (used, progress) = bridge.feed(buffer, &mut out)?;
                (Cow::Owned(out), used, progress)
            }
        };
        let turn = match progress {
            Progress::More => None,
            Progress::ClientTurn => Some(Turn::File),
            Progress::Done(end) => Some(Turn::Reply(end)),
        };
        self.seen = if turn.is_none() { buffer.len() - used } else { 0 };
        Ok(Piece { bytes, used, turn })
    }
}

/// A piece of a reply.
struct Piece<'b> {
    /// What goes to the client.
    bytes: Cow<'b, [u8]>,
    /// How many of the server's bytes that deals with.
    used: usize,
    /// Whose turn it is then.
    turn: Option<Turn>,
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
    pub(crate) fn has_room(&self) -> bool {
        self.input.len() < self.input.capacity()
    }

    /// Reads what there is room for. What is compressed stays so: the numbers of its frames would
    /// disturb those of the reply.
    pub(crate) fn poll_fill(
        &mut self,
        client: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match client {
            Stream::Compressed(over) => over.poll_fill(cx),
            plain => poll_read_into(plain, self.input, cx),
        }
    }

    /// Whether there are commands to be served yet.
    pub(crate) fn has_commands(&self, client: &Stream) -> bool {
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
        while backend.buffer.len() <= reply.seen || reply.sent == 0 && begins_short(&backend.buffer)
        {
            read_watching(backend, client, &mut ahead, &mut reply.presence).await?;
        }
        if reply.sent == 0 && is_farewell(&backend.buffer) {
            return Err(Loss(backend.farewell()).into());
        }
        if reply.first_byte.is_none() {
            reply.first_byte = Some(now());
        }
        let Piece { bytes, used, turn } = match reply.next(&backend.buffer) {
            Ok(piece) => piece,
            Err(error) => {
                reply.broken = true;
                return Err(Loss(error.to_string()).into());
            }
        };
        // A server that was broken into could ask any client for any file.
        if turn == Some(Turn::File) && !reply.may_want_file {
            let cause = "it asked for a file of the client's, which the statement does not load";
            return Err(Loss(cause.to_owned()).into());
        }
        if let Some(Turn::Reply(ReplyEnd { error: Some(OPTION_PREVENTS), .. })) = turn {
            reply.read_only = mentions_read_only(&bytes);
        }
        client.write_all(&bytes).await.map_err(|_| RelayError::Client)?;
        reply.sent += bytes.len();
        drop(bytes);
        // What follows a whole reply is a farewell, and is seen before the next command is sent.
        backend.buffer.advance(used);
        if let Some(turn) = turn {
            client.flush().await.map_err(|_| RelayError::Client)?;
            return Ok(turn);
        }
    }
}

/// Whether there is too little of a packet to see what it is.
fn begins_short(bytes: &[u8]) -> bool {
    bytes.len() < HEADER_LEN || bytes.len() == HEADER_LEN && !bytes.starts_with(&[0, 0, 0])
}

/// Whether the server says goodbye and has not seen the command: an error numbered 0, while replies
/// are numbered from 1. Seen on MySQL 9.7 of a statement whose first bytes were all that came.
fn is_farewell(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, 0, 0xff, ..])
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
    fn farewells_are_told_from_replies() {
        // Bytes, whether more are needed, whether it is a farewell.
        let table: &[(&[u8], bool, bool)] = &[
            (b"\x09\0\0", true, false),
            (b"\x09\0\0\0", true, false),
            (b"\x09\0\0\0\xff\x86\x04", false, true),
            (b"\x09\0\0\x01\xff\x86\x04", false, false),
            (b"\x07\0\0\x01\0", false, false),
            // A packet with nothing in it.
            (b"\0\0\0\x01", false, false),
        ];
        for (bytes, short, farewell) in table {
            assert_eq!((begins_short(bytes), is_farewell(bytes)), (*short, *farewell), "{bytes:?}");
        }
    }

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
