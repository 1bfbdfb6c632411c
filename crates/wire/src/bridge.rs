//! Makes the replies of a server what a client agreed on, where the server lacks it.
//!
//! A client is offered what all servers offer. Yet a server can turn up that offers less: it was
//! down when the client logged in and came back older than the others. What a client that agreed on
//! DEPRECATE_EOF then must not see are EOF packets: the one behind columns is left out, and the one
//! at the end of a result, or in place of a status, becomes an OK packet (P:
//! page_protocol_basic_eof_packet; both seen on MariaDB 10.11 and MySQL 9.7, of which each does it
//! either way). The packets behind one that is left out are numbered anew. A client that agreed on
//! optional or cached metadata looks for a byte behind each column count; a server that lacks it
//! sends all definitions, which is what the byte then says.
//!
//! Definitions that a server leaves out since it sent them before, though not to this client, are put
//! in ([`Definitions`]).
//!
//! Rows go by in pieces, as they come; only packets that are short are waited for.

use std::rc::Rc;

use crate::capabilities::Capabilities;
use crate::definitions::Definitions;
use crate::frame::{HEADER_LEN, Header, MAX_PAYLOAD, put_packet};
use crate::prepared::PREPARE_OK_LEN;
use crate::reply::{Eof, Progress, ReplyEnd, ReplyError, ReplyTracker};
use crate::status::{MORE_RESULTS, PS_OUT_PARAMS};

/// Follows the reply to one command and writes it anew.
#[derive(Debug)]
pub struct Bridge {
    tracker: ReplyTracker,
    /// What the client agreed on, and the server did not.
    lacks: Capabilities,
    /// The definitions that the server knows, and the client does not.
    definitions: Option<Rc<Definitions>>,
    /// Packets left out so far, less those put in.
    left_out: u8,
    /// Bytes of the present frame that are still to come.
    frame_left: usize,
    /// The next frame belongs to the packet of the last one.
    continued: bool,
}

/// The longest payload of a packet that is read whole before it goes on: longer than all that are
/// rewritten.
const SHORT: usize = 32;

/// The longest payload of an EOF packet.
const LONGEST_EOF: usize = 8;

/// What is behind a column count whose definitions follow.
const FOLLOW: u8 = 1;

/// What is behind one whose definitions do not.
const LEFT_OUT: u8 = 0;

/// What takes the place of a packet.
enum Instead {
    /// It goes on, under a number of its own.
    Same,
    /// It goes on with a byte more, which says that definitions follow.
    Longer,
    /// It says that definitions follow, and they do.
    Defined(Rc<Definitions>),
    /// Nothing.
    Nothing,
    /// An OK packet with EOF's marker that has this status and these warnings.
    Ok([u8; 2], [u8; 2]),
}

impl Bridge {
    /// Starts before the first byte of the reply that the tracker, of what was agreed on with the
    /// server, is for; `lacks` is what was agreed on with the client only. `definitions` are those
    /// that the server takes for known.
    #[must_use]
    pub fn new(
        tracker: ReplyTracker,
        lacks: Capabilities,
        definitions: Option<Rc<Definitions>>,
    ) -> Self {
        let tracker = tracker.without_changes();
        Self { tracker, lacks, definitions, left_out: 0, frame_left: 0, continued: false }
    }

    /// Whether a result set was begun.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        self.tracker.has_rows()
    }

    /// Whether there are definitions yet that the server knows and the client does not.
    #[must_use]
    pub fn has_definitions(&self) -> bool {
        self.definitions.is_some()
    }

    /// Appends to `out` what the client is to get for `bytes`, which the server sent.
    ///
    /// Returns how many of them are dealt with; the others have to be shown again, with more behind
    /// them.
    ///
    /// # Errors
    ///
    /// [`ReplyError`] as from [`ReplyTracker::feed`].
    pub fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Progress), ReplyError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((taken, progress)) = self.step(rest, out)? else { break };
            rest = rest.get(taken..).unwrap_or_default();
            if progress != Progress::More {
                return Ok((bytes.len() - rest.len(), progress));
            }
        }
        Ok((bytes.len() - rest.len(), Progress::More))
    }

    /// The sequence id that a packet after the last one has; none within a packet.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u8> {
        let next = self.tracker.next_sequence().wrapping_sub(self.left_out);
        self.tracker.is_at_boundary().then_some(next)
    }

    /// By how much the server's numbers of packets are ahead of the client's.
    #[must_use]
    pub fn ahead(&self) -> u8 {
        self.left_out
    }

    /// Deals with a frame, or a part of one; none when there is not enough of it.
    fn step(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Progress)>, ReplyError> {
        if self.frame_left > 0 {
            let bytes = bytes.get(..self.frame_left).unwrap_or(bytes);
            self.frame_left -= bytes.len();
            out.extend(bytes);
            let (taken, progress) = self.tracker.feed(bytes)?;
            return Ok(Some((taken, progress)));
        }
        let Some(header) = Header::peek(bytes) else { return Ok(None) };
        if self.continued || header.payload_len > SHORT {
            let (header_bytes, _) = bytes.split_at(HEADER_LEN.min(bytes.len()));
            self.frame_left = header.payload_len;
            self.continued = header.payload_len == MAX_PAYLOAD;
            out.extend(header_bytes.iter().take(HEADER_LEN - 1));
            out.push(self.number(header));
            let (taken, progress) = self.tracker.feed(header_bytes)?;
            return Ok(Some((taken, progress)));
        }
        let Some(packet) = bytes.get(..HEADER_LEN + header.payload_len) else { return Ok(None) };
        self.packet(header, packet, out).map(|progress| Some((packet.len(), progress)))
    }

    /// A whole packet that is short.
    fn packet(
        &mut self,
        header: Header,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, ReplyError> {
        let payload = packet.get(HEADER_LEN..).unwrap_or_default();
        let (begins, prepares) =
            (self.tracker.is_before_result(), self.tracker.is_before_prepared());
        let eof = match self.lacks.contains(Capabilities::DEPRECATE_EOF) {
            true => self.tracker.eof(),
            false => Eof::Nothing,
        };
        let (_, progress) = self.tracker.feed(packet)?;
        let instead = if begins && self.tracker.is_in_result() {
            self.column_count(payload)?
        } else if prepares && payload.len() == PREPARE_OK_LEN && payload.starts_with(&[0]) {
            match self.lacks.contains(Capabilities::OPTIONAL_RESULTSET_METADATA) {
                true => Instead::Longer,
                false => Instead::Same,
            }
        } else {
            end(eof, payload, progress)
        };
        let sequence = self.number(header);
        match instead {
            Instead::Same => drop(put_packet(out, sequence, payload)),
            Instead::Longer => drop(put_packet(out, sequence, &[payload, &[FOLLOW]].concat())),
            Instead::Defined(definitions) => {
                let count = payload.strip_suffix(&[LEFT_OUT]).unwrap_or(payload);
                put_packet(out, sequence, &[count, &[FOLLOW]].concat());
                let put_in = definitions.put(out, sequence.wrapping_add(1));
                self.left_out = self.left_out.wrapping_sub(put_in);
            }
            Instead::Nothing => self.left_out = self.left_out.wrapping_add(1),
            Instead::Ok([c, d], [a, b]) => {
                put_packet(out, sequence, &[0xfe, 0, 0, c, d, a, b]);
            }
        }
        Ok(progress)
    }

    /// What takes the place of a column count. Whether the server sends the definitions or leaves
    /// them out, the client has them after that.
    fn column_count(&mut self, payload: &[u8]) -> Result<Instead, ReplyError> {
        if self.lacks.intersects(Capabilities::METADATA_BYTE) {
            return Ok(Instead::Longer);
        }
        match self.definitions.take() {
            Some(known) if payload.last() == Some(&LEFT_OUT) => match known.fit(payload) {
                true => Ok(Instead::Defined(known)),
                false => Err(ReplyError::Columns),
            },
            _ => Ok(Instead::Same),
        }
    }

    /// The client's number of a frame.
    fn number(&self, header: Header) -> u8 {
        header.sequence.wrapping_sub(self.left_out)
    }
}

/// What takes the place of a packet that may be an EOF, for a client that agreed on DEPRECATE_EOF.
fn end(eof: Eof, payload: &[u8], progress: Progress) -> Instead {
    match (eof, payload) {
        (Eof::Divides, [0xfe, ..]) if payload.len() <= LONGEST_EOF && !has_status(progress) => {
            Instead::Nothing
        }
        (Eof::Divides | Eof::Ends { .. }, &[0xfe, a, b, c, d, ..])
            if payload.len() <= LONGEST_EOF =>
        {
            let of_out_parameters = matches!(eof, Eof::Ends { of_out_parameters: true });
            Instead::Ok(status([c, d], of_out_parameters), [a, b])
        }
        _ => Instead::Same,
    }
}

/// Whether the reply ended with status flags: the EOF behind the columns of a cursor does that.
fn has_status(progress: Progress) -> bool {
    matches!(progress, Progress::Done(ReplyEnd { status: Some(_), .. }))
}

/// The status that an EOF packet has as an OK packet. MySQL takes back in the EOF behind OUT
/// parameters that they are such, and that another result follows; in the OK it does not.
fn status(status: [u8; 2], of_out_parameters: bool) -> [u8; 2] {
    let flags = if of_out_parameters { MORE_RESULTS | PS_OUT_PARAMS } else { 0 };
    (u16::from_le_bytes(status) | flags).to_le_bytes()
}

#[cfg(test)]
#[expect(clippy::type_complexity, reason = "tables of cases")]
mod tests {
    use super::*;
    use crate::command::ReplyKind;
    use crate::frame::whole_packet;

    const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
    const EOF: &[u8] = &[0xfe, 3, 0, 2, 0];
    const EOF_MORE: &[u8] = &[0xfe, 0, 0, 0x0a, 0];
    const EOF_OUT: &[u8] = &[0xfe, 0, 0, 0x0a, 0x10];
    const CURSOR: &[u8] = &[0xfe, 0, 0, 0x42, 0];
    const END: &[u8] = &[0xfe, 0, 0, 2, 0, 3, 0];
    const END_MORE: &[u8] = &[0xfe, 0, 0, 0x0a, 0, 0, 0];
    const END_OUT: &[u8] = &[0xfe, 0, 0, 0x0a, 0x10, 3, 0];
    const END_CURSOR: &[u8] = &[0xfe, 0, 0, 0x42, 0, 0, 0];
    const COLUMN: &[u8] = b"\x03def (a definition is longer than what is waited for)";
    const ERROR: &[u8] = b"\xff\x1e\x04#42S22Unknown column";
    const PREPARED: &[u8] = &[0, 9, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0];

    fn frames(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sequence = 1_u8;
        for payload in payloads {
            sequence = put_packet(&mut out, sequence, payload).wrapping_add(1);
        }
        out
    }

    fn bridge(kind: ReplyKind) -> Bridge {
        let tracker = ReplyTracker::new(kind, Capabilities::NONE);
        Bridge::new(tracker, Capabilities::DEPRECATE_EOF, None)
    }

    /// What comes out where the bytes come in pieces of this length.
    fn bridged(kind: ReplyKind, bytes: &[u8], piece: usize) -> (Vec<u8>, Progress) {
        in_pieces(&mut bridge(kind), bytes, piece)
    }

    fn in_pieces(bridge: &mut Bridge, bytes: &[u8], piece: usize) -> (Vec<u8>, Progress) {
        let mut out = Vec::new();
        let (mut start, mut end) = (0, 0);
        loop {
            end = bytes.len().min(end + piece);
            let (used, progress) = bridge.feed(&bytes[start..end], &mut out).unwrap();
            start += used;
            if progress != Progress::More || end == bytes.len() {
                assert_eq!(start, end, "all is dealt with");
                return (out, progress);
            }
        }
    }

    #[test]
    fn what_a_server_says_becomes_what_the_client_expects() {
        use ReplyKind::{Cursor, Prepared, Results, Rows, Status, Text};
        #[rustfmt::skip]
        let table: &[(&str, ReplyKind, &[&[u8]], &[&[u8]])] = &[
            ("write",     Results,  &[OK], &[OK]),
            ("error",     Results,  &[ERROR], &[ERROR]),
            ("rows",      Results,  &[b"\x01", COLUMN, EOF, b"\x011", EOF], &[b"\x01", COLUMN, b"\x011", END]),
            ("two",       Results,  &[b"\x01", COLUMN, EOF, EOF_MORE, b"\x01", COLUMN, EOF, b"\x012", EOF],
                                    &[b"\x01", COLUMN, END_MORE, b"\x01", COLUMN, b"\x012", END]),
            ("then err",  Results,  &[b"\x01", COLUMN, EOF, EOF_MORE, ERROR], &[b"\x01", COLUMN, END_MORE, ERROR]),
            ("broken",    Results,  &[b"\x01", COLUMN, EOF, b"\x011", ERROR], &[b"\x01", COLUMN, b"\x011", ERROR]),
            ("out",       Results,  &[b"\x01", COLUMN, EOF_OUT, b"\0\0\x05", EOF, OK],
                                    &[b"\x01", COLUMN, b"\0\0\x05", END_OUT, OK]),
            ("cursor",    Cursor,   &[b"\x01", COLUMN, CURSOR], &[b"\x01", COLUMN, END_CURSOR]),
            ("no cursor", Cursor,   &[b"\x01", COLUMN, EOF, b"\x011", EOF], &[b"\x01", COLUMN, b"\x011", END]),
            ("fetch",     Rows,     &[b"\0\0\x01", EOF], &[b"\0\0\x01", END]),
            ("prepare",   Prepared, &[PREPARED, COLUMN, EOF, COLUMN, COLUMN, EOF], &[PREPARED, COLUMN, COLUMN, COLUMN]),
            ("option",    Status,   &[EOF], &[END]),
            ("text",      Text,     &[b"\xfe12345"], &[b"\xfe12345"]),
        ];
        for (what, kind, from, to) in table {
            let bytes = frames(from);
            let expected =
                (frames(to), ReplyTracker::new(*kind, Capabilities::NONE).feed(&bytes).unwrap().1);
            for piece in 1..=bytes.len() {
                assert_eq!(bridged(*kind, &bytes, piece), expected, "{what} in pieces of {piece}");
            }
        }
    }

    const NEW: Capabilities = Capabilities::DEPRECATE_EOF;
    const OPTIONAL: Capabilities = Capabilities::OPTIONAL_RESULTSET_METADATA;
    const CACHED: Capabilities = Capabilities::MARIADB_CACHE_METADATA;

    #[test]
    fn all_definitions_follow_where_a_server_cannot_leave_them_out() {
        use ReplyKind::{Prepared, Results, Rows};
        const PREPARED_LONG: &[u8] = &[0, 9, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 1];
        const INSERT: &[u8] = &[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        const INSERT_LONG: &[u8] = &[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        // What it is, the reply, what both agreed on, what the client only, what comes, what goes.
        #[rustfmt::skip]
        let table: &[(&str, ReplyKind, Capabilities, Capabilities, &[&[u8]], &[&[u8]])] = &[
            ("rows",    Results,  NEW, OPTIONAL, &[b"\x01", COLUMN, b"\x011", END_MORE, b"\x01", COLUMN, END],
                                                 &[b"\x01\x01", COLUMN, b"\x011", END_MORE, b"\x01\x01", COLUMN, END]),
            ("cached",  Results,  NEW, CACHED,   &[b"\x01", COLUMN, b"\x011", END], &[b"\x01\x01", COLUMN, b"\x011", END]),
            ("old",     Results,  Capabilities::NONE, CACHED, &[b"\x01", COLUMN, EOF, b"\x011", EOF],
                                                              &[b"\x01\x01", COLUMN, EOF, b"\x011", EOF]),
            ("both",    Results,  Capabilities::NONE, OPTIONAL.or(NEW), &[b"\x01", COLUMN, EOF, b"\x011", EOF],
                                                                        &[b"\x01\x01", COLUMN, b"\x011", END]),
            ("write",   Results,  NEW, OPTIONAL, &[OK], &[OK]),
            ("error",   Results,  NEW, OPTIONAL, &[ERROR], &[ERROR]),
            ("fetch",   Rows,     NEW, OPTIONAL, &[b"\0\0\x01", END], &[b"\0\0\x01", END]),
            ("prepare", Prepared, NEW, OPTIONAL, &[PREPARED, COLUMN, COLUMN, COLUMN], &[PREPARED_LONG, COLUMN, COLUMN, COLUMN]),
            ("old one", Prepared, Capabilities::NONE, OPTIONAL.or(NEW), &[PREPARED, COLUMN, EOF, COLUMN, COLUMN, EOF],
                                                                        &[PREPARED_LONG, COLUMN, COLUMN, COLUMN]),
            ("insert",  Prepared, NEW, OPTIONAL, &[INSERT], &[INSERT_LONG]),
            ("MariaDB", Prepared, NEW, CACHED,   &[INSERT], &[INSERT]),
            ("refused", Prepared, NEW, OPTIONAL, &[ERROR], &[ERROR]),
        ];
        for (what, kind, both, lacks, from, to) in table {
            let bytes = frames(from);
            let (_, end) = ReplyTracker::new(*kind, *both).feed(&bytes).unwrap();
            for piece in 1..=bytes.len() {
                let mut bridge = Bridge::new(ReplyTracker::new(*kind, *both), *lacks, None);
                let seen = in_pieces(&mut bridge, &bytes, piece);
                assert_eq!(seen, (frames(to), end), "{what} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn definitions_that_the_client_lacks_are_put_in() {
        const OTHER: &[u8] = b"\x03def (another definition that is not waited for)";
        let known = |agreed: Capabilities| {
            let eof: &[&[u8]] = if agreed.contains(NEW) { &[] } else { &[EOF] };
            let reply: Vec<&[u8]> = [&[PREPARED, OTHER], eof, &[COLUMN, OTHER], eof].concat();
            Definitions::of_preparation(&frames(&reply), agreed).map(Rc::new)
        };
        // What it is, what both agreed on, what comes, what goes, whether they are still to be given.
        #[rustfmt::skip]
        let table: &[(&str, Capabilities, &[&[u8]], &[&[u8]], bool)] = &[
            ("left out",  NEW, &[b"\x02\0", b"\x011", END], &[b"\x02\x01", COLUMN, OTHER, b"\x011", END], false),
            ("no rows",   NEW, &[b"\x02\0", END], &[b"\x02\x01", COLUMN, OTHER, END], false),
            ("changed",   NEW, &[b"\x01\x01", OTHER, b"\x011", END], &[b"\x01\x01", OTHER, b"\x011", END], false),
            ("refused",   NEW, &[ERROR], &[ERROR], true),
            ("in rows",   NEW, &[b"\x02\0", ERROR], &[b"\x02\x01", COLUMN, OTHER, ERROR], false),
            ("with EOF",  Capabilities::NONE, &[b"\x02\0", EOF, b"\x011", EOF],
                                              &[b"\x02\x01", COLUMN, OTHER, EOF, b"\x011", EOF], false),
        ];
        for (what, both, from, to, left) in table {
            let both = both.or(CACHED);
            let bytes = frames(from);
            let (_, end) = ReplyTracker::new(ReplyKind::Results, both).feed(&bytes).unwrap();
            for piece in 1..=bytes.len() {
                let tracker = ReplyTracker::new(ReplyKind::Results, both);
                let mut bridge = Bridge::new(tracker, Capabilities::NONE, known(both));
                let seen = in_pieces(&mut bridge, &bytes, piece);
                assert_eq!(seen, (frames(to), end), "{what} in pieces of {piece}");
                assert_eq!(bridge.has_definitions(), *left, "{what}");
            }
        }
        // Definitions of so many columns were never sent.
        let tracker = ReplyTracker::new(ReplyKind::Results, NEW.or(CACHED));
        let mut bridge = Bridge::new(tracker, Capabilities::NONE, known(NEW));
        let fed = bridge.feed(&frames(&[b"\x03\0", END]), &mut Vec::new());
        assert_eq!(fed, Err(ReplyError::Columns));
    }

    #[test]
    fn a_row_of_several_frames_is_numbered_anew() {
        let row = vec![b'x'; MAX_PAYLOAD];
        let bytes = frames(&[b"\x01", COLUMN, EOF, &row, EOF]);
        let (out, _) = bridged(ReplyKind::Results, &bytes, 100_000);
        assert!(out == frames(&[b"\x01", COLUMN, &row, END]));
    }

    #[test]
    fn an_error_of_our_own_can_follow_between_packets() {
        let mut bridge = bridge(ReplyKind::Results);
        let bytes = frames(&[b"\x01", COLUMN, EOF, COLUMN]);
        let mut out = Vec::new();
        assert_eq!(bridge.feed(&bytes, &mut out).map(|fed| fed.0), Ok(bytes.len()));
        let (first, _) = whole_packet(&out).unwrap();
        assert_eq!((bridge.next_sequence(), bridge.ahead(), first), (Some(4), 1, 5));
        let _half = bridge.feed(&frames(&[COLUMN])[..9], &mut out).unwrap();
        assert_eq!(bridge.next_sequence(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            piece in 1_usize..50,
            lacks in proptest::sample::select(&[NEW, OPTIONAL, CACHED, Capabilities::NONE]),
        ) {
            let known = frames(&[PREPARED, COLUMN, COLUMN, COLUMN]);
            for kind in [ReplyKind::Results, ReplyKind::Cursor, ReplyKind::Prepared, ReplyKind::Rows] {
                let both = if lacks == Capabilities::NONE { CACHED } else { Capabilities::NONE };
                let tracker = ReplyTracker::new(kind, both);
                let known = Definitions::of_preparation(&known, NEW).map(Rc::new);
                let (mut bridge, mut out) = (Bridge::new(tracker, lacks, known), Vec::new());
                let (mut start, mut end) = (0, 0);
                while end < bytes.len() {
                    end = bytes.len().min(end + piece);
                    match bridge.feed(&bytes[start..end], &mut out) {
                        Ok((used, Progress::More)) => start += used,
                        _ => break,
                    }
                }
            }
        }
    }
}
