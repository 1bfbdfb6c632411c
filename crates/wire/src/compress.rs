//! The compressed protocol: packets in frames of their own, which are compressed or not
//! (P: page_protocol_basic_compression; <https://mariadb.com/kb/en/0-packet/>).
//!
//! ```text
//! 3 bytes  length of the frame's payload
//! 1 byte   sequence id, counted apart from that of the packets
//! 3 bytes  length of the payload before it was compressed; 0 where it is not
//! n bytes  payload: packets or parts of them
//! ```

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// How frames are compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// zlib.
    Zlib,
    /// Zstandard, at this level (1 to 22).
    Zstd(i32),
}

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// Bytes after the header.
    pub payload_len: usize,
    /// The sequence id.
    pub sequence: u8,
    /// Bytes that the payload stands for; 0 where it stands for itself.
    pub plain_len: usize,
}

/// A frame that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompressError {
    /// What it holds is not what its header says.
    #[error("a compressed frame holds other than the {0} bytes it announces")]
    Length(usize),
    /// It is not compressed as agreed.
    #[error("a frame is not compressed as agreed")]
    Corrupt,
}

/// Bytes of a [`FrameHeader`] on the wire.
pub const FRAME_HEADER_LEN: usize = 7;

/// The most that goes into one frame, before compression. Frames may hold 16 MiB; smaller ones need
/// less memory and lose little.
pub const LARGEST_FRAME: usize = 256 * 1024;

/// What is shorter is not compressed, as it would only grow; MySQL's own bound.
const NOT_WORTH_IT: usize = 50;

impl FrameHeader {
    /// Reads a header, if all of it is there.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, sequence, d, e, f] = *bytes.first_chunk()?;
        let length =
            |low, mid, high| usize::from(low) | usize::from(mid) << 8 | usize::from(high) << 16;
        Some(Self { payload_len: length(a, b, c), sequence, plain_len: length(d, e, f) })
    }

    fn encode(self) -> [u8; FRAME_HEADER_LEN] {
        let bytes = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let ([a, b, c, _], [d, e, f, _]) = (bytes(self.payload_len), bytes(self.plain_len));
        [a, b, c, self.sequence, d, e, f]
    }
}

/// Appends a frame to `out` that holds `plain`, of [`LARGEST_FRAME`] bytes at most.
pub fn put_frame(method: Method, sequence: u8, plain: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; FRAME_HEADER_LEN]);
    let small = plain.len() >= NOT_WORTH_IT && pack(method, plain, out).is_ok();
    let packed = out.len() - start - FRAME_HEADER_LEN;
    let mut header = FrameHeader { payload_len: packed, sequence, plain_len: plain.len() };
    if !small || packed >= plain.len() {
        out.truncate(start + FRAME_HEADER_LEN);
        out.extend(plain);
        header = FrameHeader { payload_len: plain.len(), sequence, plain_len: 0 };
    }
    if let Some(bytes) = out.get_mut(start..start + FRAME_HEADER_LEN) {
        bytes.copy_from_slice(&header.encode());
    }
}

fn pack(method: Method, plain: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    match method {
        Method::Zlib => {
            let mut encoder = ZlibEncoder::new(out, Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
        Method::Zstd(level) => out.extend(zstd::bulk::compress(plain, level)?),
    }
    Ok(())
}

/// Appends to `out` what a frame's payload stands for. However large the payload pretends to be, no
/// more is made than its header says.
///
/// # Errors
///
/// [`CompressError`] when it is not what the header says; `out` is then of no use.
pub fn unpack_frame(
    method: Method,
    header: FrameHeader,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressError> {
    if header.plain_len == 0 {
        out.extend(payload);
        return Ok(());
    }
    let before = out.len();
    // One byte more than announced shows that there is more.
    let limit = u64::try_from(header.plain_len).unwrap_or(u64::MAX).saturating_add(1);
    let unpacked = match method {
        Method::Zlib => ZlibDecoder::new(payload).take(limit).read_to_end(out),
        Method::Zstd(_) => unzstd(payload, limit, out),
    };
    unpacked.map_err(|_| CompressError::Corrupt)?;
    match out.len() - before {
        made if made == header.plain_len => Ok(()),
        _ => Err(CompressError::Length(header.plain_len)),
    }
}

/// Finds the sequence ids of the packets in a stream that comes in pieces of any size.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceIds {
    /// What was seen of the present packet's length, and how many bytes of it.
    length: usize,
    seen: u32,
    /// Bytes of its payload that are still to come.
    left: usize,
}

impl SequenceIds {
    /// Whether the last byte seen was the last of a packet.
    #[must_use]
    pub const fn is_at_boundary(&self) -> bool {
        self.left == 0 && self.seen == 0
    }

    /// Where the next sequence id is in `bytes`, of which those before `from` were dealt with, and the
    /// length of the payload after it; none when the rest has none, and `bytes` go on in the next
    /// piece.
    pub fn next_in(&mut self, bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        let mut at = from;
        loop {
            let skipped = self.left.min(bytes.len().saturating_sub(at));
            self.left -= skipped;
            at += skipped;
            let byte = *bytes.get(at)?;
            if self.seen == 3 {
                *self = Self { length: 0, seen: 0, left: self.length };
                return Some((at, self.left));
            }
            self.length |= usize::from(byte) << (8 * self.seen);
            self.seen += 1;
            at += 1;
        }
    }
}

/// No frame is longer than 16 MiB, so none needs to look further back.
const ZSTD_WINDOW_LOG: u32 = 24;

fn unzstd(payload: &[u8], limit: u64, out: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut decoder = zstd::Decoder::new(payload)?.single_frame();
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    decoder.take(limit).read_to_end(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METHODS: [Method; 3] = [Method::Zlib, Method::Zstd(3), Method::Zstd(22)];

    fn unpack(method: Method, frame: &[u8]) -> Result<Vec<u8>, CompressError> {
        let header = FrameHeader::peek(frame).unwrap();
        let payload = &frame[FRAME_HEADER_LEN..];
        assert_eq!(payload.len(), header.payload_len);
        let mut out = Vec::new();
        unpack_frame(method, header, payload, &mut out).map(|()| out)
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        for method in METHODS {
            for (plain, shrinks) in
                [(vec![7; 49], false), (vec![7; 5000], true), ((0..=255).collect(), false)]
            {
                let mut frame = Vec::new();
                put_frame(method, 9, &plain, &mut frame);
                let header = FrameHeader::peek(&frame).unwrap();
                assert_eq!((header.sequence, header.plain_len != 0), (9, shrinks), "{method:?}");
                assert_eq!(unpack(method, &frame).unwrap(), plain);
            }
        }
    }

    #[test]
    fn frames_that_lie_are_refused() {
        for method in METHODS {
            let mut frame = Vec::new();
            put_frame(method, 0, &[7; 100_000], &mut frame);
            for (announced, expected) in [
                (99_999, CompressError::Length(99_999)),
                (100_001, CompressError::Length(100_001)),
                (1, CompressError::Length(1)),
            ] {
                let mut header = FrameHeader::peek(&frame).unwrap();
                header.plain_len = announced;
                let lie = [&header.encode(), &frame[FRAME_HEADER_LEN..]].concat();
                assert_eq!(unpack(method, &lie), Err(expected), "{method:?}");
            }
            let last = frame.len() - 1;
            frame[last / 2..].fill(0xaa);
            assert!(unpack(method, &frame).is_err(), "{method:?}");
        }
    }

    proptest! {
        #[test]
        fn sequence_ids_are_found_in_any_pieces(
            lengths in proptest::collection::vec(0_usize..300, 0..20),
            piece in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for length in &lengths {
                let [low, high, ..] = length.to_le_bytes();
                bytes.extend([low, high, 0, 0xee]);
                bytes.extend(vec![7; *length]);
            }
            let mut ids = SequenceIds::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(piece) {
                let mut at = 0;
                while let Some((id, length)) = ids.next_in(piece, at) {
                    prop_assert_eq!(length, lengths[found.len()]);
                    found.push(piece[id]);
                    at = id + 1;
                }
            }
            prop_assert_eq!(found, vec![0xee; lengths.len()]);
        }

        #[test]
        fn what_goes_in_comes_out(plain in proptest::collection::vec(0_u8..4, 0..3000), at in 0_usize..3) {
            let mut frame = Vec::new();
            put_frame(METHODS[at], 1, &plain, &mut frame);
            prop_assert_eq!(unpack(METHODS[at], &frame), Ok(plain));
        }

        #[test]
        fn rubbish_is_an_error(payload in proptest::collection::vec(any::<u8>(), 0..300), plain_len in 1_usize..2000, at in 0_usize..3) {
            let header = FrameHeader { payload_len: payload.len(), sequence: 0, plain_len };
            let mut out = Vec::new();
            if unpack_frame(METHODS[at], header, &payload, &mut out).is_ok() {
                prop_assert_eq!(out.len(), plain_len);
            }
            prop_assert!(out.len() <= plain_len + 1);
        }
    }
}
