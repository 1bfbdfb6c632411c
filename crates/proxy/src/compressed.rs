//! A connection whose packets go in compressed frames, as bytes that look like any other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::compress::{
    FRAME_HEADER_LEN, FrameHeader, LARGEST_FRAME, Method, SequenceIds, put_frame, unpack_frame,
};
use wire::frame::{Header, MAX_PAYLOAD};

use crate::backend::poll_read_into;
use crate::stream::Stream;

/// Bytes read at a time.
const CHUNK: usize = 16 * 1024;

/// Buffers larger than this are given back when they are empty.
const KEEP: usize = 64 * 1024;

/// A stream in compressed frames.
#[derive(Debug)]
pub(crate) struct Compressed {
    inner: Stream,
    method: Method,
    /// What was read and is not a whole frame yet.
    packed: BytesMut,
    /// What the frames read so far stand for, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    /// Frames on their way out, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// The sequence id of the next frame out: frames are counted through a command and its reply.
    sequence: u8,
    numbering: Numbering,
    /// Something was read since the last write.
    was_read: bool,
}

/// The numbers of the packets within the frames. Who compresses numbers them by the frames and does
/// not look at them; but they go on to somebody who does.
#[derive(Debug)]
struct Numbering {
    peer: Peer,
    next: u8,
    sent: SequenceIds,
    received: SequenceIds,
    /// The packet that was received last goes on in the next.
    goes_on: bool,
    /// What is received is a file, up to an empty packet: there a number of 0 begins nothing.
    in_file: bool,
}

impl Numbering {
    /// Whether what is sent next begins a packet.
    fn is_between_packets(&self) -> bool {
        self.sent.is_at_boundary()
    }

    /// Takes note of packets on their way to the peer.
    fn note(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some((id, _)) = self.sent.next_in(bytes, at) {
            self.next = bytes.get(id).map_or(0, |id| id.wrapping_add(1));
            at = id + 1;
        }
    }

    /// Numbers the peer's packets. A client's command begins with 0 whatever was before.
    fn apply(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some((id, length)) = self.received.next_in(bytes, at) {
            at = id + 1;
            let goes_on = std::mem::replace(&mut self.goes_on, length == MAX_PAYLOAD);
            let Some(number) = bytes.get_mut(id) else { return };
            if *number == 0 && self.peer == Peer::Client && !goes_on && !self.in_file {
                self.next = 0;
            }
            self.in_file &= length > 0 || goes_on;
            *number = self.next;
            self.next = self.next.wrapping_add(1);
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// A client, whose commands begin to count frames.
    Client,
    /// A server, to which our commands do.
    Server,
}

impl Compressed {
    pub(crate) fn new(inner: Stream, method: Method, peer: Peer) -> Self {
        Self {
            inner,
            method,
            numbering: Numbering {
                peer,
                next: 0,
                sent: SequenceIds::default(),
                received: SequenceIds::default(),
                goes_on: false,
                in_file: false,
            },
            was_read: false,
            packed: BytesMut::new(),
            plain: Vec::new(),
            taken: 0,
            out: Vec::new(),
            written: 0,
            sequence: 0,
        }
    }

    /// Takes note that the peer was asked for a file, and sends that next.
    pub(crate) fn expect_file(&mut self) {
        self.numbering.in_file = true;
    }

    /// The stream that the frames go over.
    pub(crate) fn inner(&self) -> &Stream {
        &self.inner
    }

    /// Unpacks the frame at the front of what was read; whether there was a whole one.
    fn unpack(&mut self) -> io::Result<bool> {
        let Some(header) = FrameHeader::peek(&self.packed) else { return Ok(false) };
        let end = FRAME_HEADER_LEN + header.payload_len;
        let Some(payload) = self.packed.get(FRAME_HEADER_LEN..end) else { return Ok(false) };
        let before = self.plain.len();
        unpack_frame(self.method, header, payload, &mut self.plain)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.numbering.apply(self.plain.get_mut(before..).unwrap_or_default());
        self.packed.advance(end);
        self.sequence = header.sequence.wrapping_add(1);
        self.was_read = true;
        Ok(true)
    }

    /// Reads frames ahead without looking into them; ready with the number of bytes, 0 at the end.
    /// Pending where there is no room for more.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.packed.len() >= CHUNK {
            return Poll::Pending;
        }
        self.packed.reserve(CHUNK);
        poll_read_into(&mut self.inner, &mut self.packed, cx)
    }

    /// Whether more was read ahead than a frame with this packet.
    pub(crate) fn has_more_than(&self, packet: &[u8]) -> bool {
        let mut frame = Vec::new();
        put_frame(self.method, 0, packet, &mut frame);
        let plain = self.plain.get(self.taken..).unwrap_or_default();
        !plain.is_empty() || !(self.packed.is_empty() || *self.packed == *frame)
    }

    /// Fills `plain`, if it is empty; it stays empty at the end of the stream.
    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken == self.plain.len() {
            self.plain.clear();
            self.taken = 0;
            self.plain.shrink_to(KEEP);
            if self.unpack()? {
                continue;
            }
            if self.packed.is_empty() && self.packed.capacity() > KEEP {
                self.packed = BytesMut::new();
            }
            self.packed.reserve(CHUNK);
            if ready!(poll_read_into(&mut self.inner, &mut self.packed, cx))? == 0 {
                return Poll::Ready(match self.packed.is_empty() {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.out.clear();
        self.written = 0;
        self.out.shrink_to(KEEP);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Compressed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_plain(cx))?;
        let plain = self.plain.get(self.taken..).unwrap_or_default();
        let count = plain.len().min(buf.remaining());
        buf.put_slice(plain.get(..count).unwrap_or_default());
        self.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Compressed {
    /// Takes a frame's worth once the one before is out.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(cx))?;
        let plain = buf.get(..LARGEST_FRAME).unwrap_or(buf);
        let this = &mut *self;
        // A packet to a server that is numbered 0 is a command, if it is not the next of a file.
        let was_read = std::mem::take(&mut this.was_read);
        if this.numbering.peer == Peer::Server
            && this.numbering.is_between_packets()
            && Header::peek(plain).is_some_and(|header| header.sequence == 0)
            && (was_read || this.numbering.next != 0)
        {
            this.sequence = 0;
        }
        this.numbering.note(plain);
        put_frame(this.method, this.sequence, plain, &mut this.out);
        this.sequence = this.sequence.wrapping_add(1);
        // What does not go out now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(plain.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
