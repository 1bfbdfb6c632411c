//! Frames and packets.
//!
//! A *frame* is what the protocol sends: a 4-byte header and at most [`MAX_PAYLOAD`] bytes. A
//! *packet* is one frame, or several when the payload is longer (P: page_protocol_basic_packets).

/// Bytes of a frame header: a 3-byte little-endian payload length, then the sequence id.
pub const HEADER_LEN: usize = 4;

/// The longest payload of one frame, in bytes (2²⁴ − 1). A frame this long is always followed by
/// another frame of the same packet, if need be an empty one.
pub const MAX_PAYLOAD: usize = 0xff_ffff;

/// How many bytes of a packet are kept for inspection.
///
/// Enough for the longest prefix anyone reads: the marker, two 9-byte length-encoded integers and
/// the two 2-byte fields of an OK packet.
pub const PEEK: usize = 1 + 9 + 9 + 2 + 2;

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Bytes of payload that follow.
    pub payload_len: usize,
    /// The sequence id.
    pub sequence: u8,
}

impl Header {
    /// The header at the front of `bytes`, once there are four of them.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, sequence] = bytes.first_chunk()?;
        Some(Self { payload_len: payload_len([a, b, c, sequence]), sequence })
    }
}

/// How many bytes at the front of `bytes` make up one whole packet with all of its frames; none
/// while it is not all there.
///
/// Also yields the sequence id of the packet's last frame: the reply goes on from it.
#[must_use]
pub fn whole_packet(bytes: &[u8]) -> Option<(usize, u8)> {
    let mut end = 0;
    loop {
        let header = Header::peek(bytes.get(end..)?)?;
        end += HEADER_LEN + header.payload_len;
        if end > bytes.len() {
            return None;
        }
        if header.payload_len < MAX_PAYLOAD {
            return Some((end, header.sequence));
        }
    }
}

/// The payload of a whole packet of several frames, without the headers between them.
#[must_use]
pub fn join_frames(mut packet: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(packet.len());
    while let Some(header) = Header::peek(packet) {
        let end = HEADER_LEN + header.payload_len;
        payload.extend(packet.get(HEADER_LEN..end).unwrap_or_default());
        packet = packet.get(end..).unwrap_or_default();
    }
    payload
}

/// Appends `payload` as a packet whose first frame has this sequence id; returns the last one's.
pub fn put_packet(out: &mut Vec<u8>, mut sequence: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        out.extend(now.len().to_le_bytes().iter().take(3));
        out.push(sequence);
        out.extend(now);
        if now.len() < MAX_PAYLOAD {
            return sequence;
        }
        rest = later;
        sequence = sequence.wrapping_add(1);
    }
}

/// The first bytes of a packet, once all of its frames went by.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; PEEK],
    kept: usize,
    first_frame_len: usize,
}

impl Head {
    /// The kept bytes: the packet's first [`PEEK`] bytes, or all of it when shorter.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.kept).unwrap_or(&self.bytes)
    }

    /// Payload length of the packet's first frame, in bytes.
    #[must_use]
    pub fn first_frame_len(&self) -> usize {
        self.first_frame_len
    }
}

/// Walks a byte stream packet by packet, holding [`PEEK`] bytes and never a payload.
#[derive(Debug, Default)]
pub struct PacketWalker {
    header: [u8; HEADER_LEN],
    header_have: usize,
    payload_left: usize,
    /// Set while the frames after the first one of a long packet go by.
    continued: bool,
    head: Option<Head>,
}

impl PacketWalker {
    /// Consumes bytes from the front of `input` up to the end of a packet.
    ///
    /// Returns the packet's head, or `None` once `input` is used up in the middle of a packet.
    pub fn next_packet(&mut self, input: &mut &[u8]) -> Option<Head> {
        if self.is_at_boundary()
            && let Some(head) = self.whole_packet(input)
        {
            return Some(head);
        }
        loop {
            if self.header_have < HEADER_LEN && !self.take_header(input) {
                return None;
            }
            self.take_payload(input);
            if self.payload_left > 0 {
                return None;
            }
            self.header_have = 0;
            self.continued = payload_len(self.header) == MAX_PAYLOAD;
            if !self.continued {
                return self.head.take();
            }
        }
    }

    /// Whether the last byte consumed was the last of a packet.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.header_have == 0 && !self.continued
    }

    /// The sequence id of the latest frame whose header went by.
    #[must_use]
    pub fn sequence(&self) -> u8 {
        let [.., sequence] = self.header;
        sequence
    }

    /// The same for a packet of one frame that is there as a whole, as most are.
    fn whole_packet(&mut self, input: &mut &[u8]) -> Option<Head> {
        let (header, rest) = input.split_first_chunk()?;
        let first_frame_len = payload_len(*header);
        let (payload, rest) = rest.split_at_checked(first_frame_len)?;
        if first_frame_len == MAX_PAYLOAD {
            return None;
        }
        let mut bytes = [0; PEEK];
        let kept = first_frame_len.min(PEEK);
        match payload.first_chunk() {
            Some(first) => bytes = *first,
            None => bytes.get_mut(..kept)?.copy_from_slice(payload),
        }
        (self.header, *input) = (*header, rest);
        Some(Head { bytes, kept, first_frame_len })
    }

    fn take_header(&mut self, input: &mut &[u8]) -> bool {
        let bytes = take(input, HEADER_LEN - self.header_have);
        for (slot, byte) in self.header.iter_mut().skip(self.header_have).zip(bytes) {
            *slot = *byte;
        }
        self.header_have += bytes.len();
        if self.header_have < HEADER_LEN {
            return false;
        }
        self.payload_left = payload_len(self.header);
        if !self.continued {
            let first_frame_len = self.payload_left;
            self.head = Some(Head { bytes: [0; PEEK], kept: 0, first_frame_len });
        }
        true
    }

    fn take_payload(&mut self, input: &mut &[u8]) {
        let bytes = take(input, self.payload_left);
        self.payload_left -= bytes.len();
        let Some(head) = self.head.as_mut().filter(|_| !self.continued) else { return };
        for (slot, byte) in head.bytes.iter_mut().skip(head.kept).zip(bytes) {
            *slot = *byte;
            head.kept += 1;
        }
    }
}

/// Raises the numbers of frames that go by in pieces.
#[derive(Debug)]
pub struct Renumbering {
    by: u8,
    header: [u8; HEADER_LEN],
    header_have: usize,
    payload_left: usize,
}

impl Renumbering {
    /// Starts before a frame; each number is raised by this.
    #[must_use]
    pub fn new(by: u8) -> Self {
        Self { by, header: [0; HEADER_LEN], header_have: 0, payload_left: 0 }
    }

    /// Renumbers the frames in the next piece.
    pub fn apply(&mut self, mut piece: &mut [u8]) {
        if self.by == 0 {
            return;
        }
        while !piece.is_empty() {
            let skipped = self.payload_left.min(piece.len());
            self.payload_left -= skipped;
            let Some((byte, rest)) = piece.get_mut(skipped..).and_then(<[u8]>::split_first_mut)
            else {
                return;
            };
            if let Some(slot) = self.header.get_mut(self.header_have) {
                *slot = *byte;
            }
            self.header_have += 1;
            if self.header_have == HEADER_LEN {
                *byte = byte.wrapping_add(self.by);
                self.header_have = 0;
                self.payload_left = payload_len(self.header);
            }
            piece = rest;
        }
    }
}

fn payload_len([a, b, c, _sequence]: [u8; HEADER_LEN]) -> usize {
    usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16
}

fn take<'a>(input: &mut &'a [u8], limit: usize) -> &'a [u8] {
    let (now, later) = input.split_at(limit.min(input.len()));
    *input = later;
    now
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_renumbered_wherever_the_network_cuts() {
        let framed = |first: u8| {
            let mut bytes = Vec::new();
            for (number, len) in [(0, 3), (1, 0), (2, 300), (3, 0)] {
                put_packet(&mut bytes, first.wrapping_add(number), &vec![7; len]);
            }
            bytes
        };
        for piece in 1..20 {
            let mut bytes = framed(253);
            let mut numbers = Renumbering::new(4);
            bytes.chunks_mut(piece).for_each(|piece| numbers.apply(piece));
            assert!(bytes == framed(1), "in pieces of {piece}");
        }
    }

    #[test]
    fn packets_around_the_longest_frame() {
        for len in [0, 1, MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD] {
            let payload = vec![7; len];
            let mut bytes = Vec::new();
            let last = put_packet(&mut bytes, 254, &payload);
            assert_eq!(usize::from(last.wrapping_sub(254)), len / MAX_PAYLOAD, "{len}");
            assert_eq!(whole_packet(&bytes), Some((bytes.len(), last)), "{len}");
            assert_eq!(whole_packet(&bytes[..bytes.len() - 1]), None, "{len}");
            assert!(join_frames(&bytes) == payload, "{len}");
        }
    }

    proptest! {
        #[test]
        fn the_walker_finds_packets_wherever_the_network_cuts(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            for payload in &payloads {
                put_packet(&mut bytes, 0, payload);
            }
            let (first, second) = bytes.split_at(cut.index(bytes.len()));
            let mut walker = PacketWalker::default();
            let mut seen = Vec::new();
            for mut part in [first, second] {
                while let Some(head) = walker.next_packet(&mut part) {
                    seen.push((head.first_frame_len(), head.bytes().to_vec()));
                }
                prop_assert!(part.is_empty());
            }
            let expected: Vec<_> = payloads
                .iter()
                .map(|payload| (payload.len(), payload[..payload.len().min(PEEK)].to_vec()))
                .collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(walker.is_at_boundary());
        }
    }
}
