//! Where a server's reply ends.
//!
//! The data plane never parses rows. It copies bytes and asks a [`ReplyTracker`] one question: *is
//! this reply finished?* The tracker looks at the first bytes of the packets that can end a reply
//! and skips all others by length.
//!
//! ```text
//!        ┌───────────── SERVER_MORE_RESULTS_EXISTS ─────────────┐
//!        ▼                                                      │
//! ──▶ First ──── OK ────────────────────────────────────────────┼──▶ Done
//!      │ │ └──── ERR ─────────────────────────────────────────────▶ Done
//!      │ └────── 0xFB (LOCAL INFILE) ──▶ the client's turn, then First
//!      └──────── n ──▶ Columns ──▶ Rows ──── EOF | OK ──────────┘
//!                                    └────── ERR ─────────────────▶ Done
//! ```
//!
//! Other commands enter elsewhere: a status has no rows, `COM_STMT_FETCH` begins with rows, and the
//! definitions after `COM_STMT_PREPARE_OK` are counted.

use crate::command::ReplyKind;
use crate::frame::{Head, MAX_PAYLOAD, PacketWalker};
use crate::lenenc::{Cursor, Truncated};
use crate::prepared::PREPARE_OK_LEN;
use crate::status::{CURSOR_EXISTS, MORE_RESULTS, PS_OUT_PARAMS};

/// How a reply ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReplyEnd {
    /// The server's status flags after the command (see [`status`](crate::status)); none when the
    /// reply ended with an ERR packet, which has no flags.
    pub status: Option<u16>,
    /// The error number, when the reply ended with an ERR packet.
    pub error: Option<u16>,
    /// An OK packet of the reply carried an insert id.
    pub insert_id: bool,
}

/// What [`ReplyTracker::feed`] learned from the bytes it was shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The reply goes on.
    More,
    /// The server waits for the client to send a file (`LOAD DATA LOCAL INFILE`).
    ClientTurn,
    /// The reply is finished.
    Done(ReplyEnd),
}

/// The server sent something that no reply to this command can contain.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplyError {
    /// A packet without payload, where one with a marker byte is due.
    #[error("empty packet in a reply")]
    Empty,
    /// A packet that ends inside a field.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// A packet that starts with a byte that nothing starts with here.
    #[error("a reply cannot start with byte {0:#04x}")]
    Marker(u8),
}

#[derive(Clone, Copy, Debug)]
enum State {
    First,
    Columns {
        left: u64,
    },
    ColumnsEnd,
    Rows,
    Status,
    Text,
    PrepareOk,
    /// Packets after `COM_STMT_PREPARE_OK` whose content says nothing.
    Definitions {
        left: u64,
    },
}

/// The error number of a progress report, which ends nothing.
const PROGRESS_REPORT: u16 = 0xffff;

/// Follows the reply to one command.
#[derive(Debug)]
pub struct ReplyTracker {
    /// `CLIENT_DEPRECATE_EOF` was agreed on: no EOF after the columns, and an OK packet in its
    /// place after the rows.
    deprecate_eof: bool,
    state: State,
    insert_id: bool,
    /// The rows under way are OUT parameters.
    out_parameters: bool,
    started: bool,
    /// A cursor was asked for.
    cursor: bool,
    walker: PacketWalker,
}

impl ReplyTracker {
    /// Starts before the first byte of the reply.
    #[must_use]
    pub fn new(kind: ReplyKind, deprecate_eof: bool) -> Self {
        let state = match kind {
            ReplyKind::Results | ReplyKind::Cursor => State::First,
            ReplyKind::Prepared => State::PrepareOk,
            ReplyKind::Rows => State::Rows,
            ReplyKind::Text => State::Text,
            ReplyKind::Status | ReplyKind::Nothing | ReplyKind::Login | ReplyKind::Refused => {
                State::Status
            }
        };
        let walker = PacketWalker::default();
        let (insert_id, out_parameters, started) = (false, false, false);
        let cursor = kind == ReplyKind::Cursor;
        Self { deprecate_eof, state, insert_id, out_parameters, started, cursor, walker }
    }

    /// Takes note of `bytes`, which the server sent.
    ///
    /// Returns how many of them belong to the reply, all of them while [`Progress::More`]. The
    /// bytes can be cut anywhere: the answer does not depend on how the network split them.
    ///
    /// # Errors
    ///
    /// [`ReplyError`] when the bytes cannot be a reply. Where the reply ends is then unknowable, so
    /// the connection cannot be used again.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Progress), ReplyError> {
        let mut rest = bytes;
        while let Some(head) = self.walker.next_packet(&mut rest) {
            self.started = true;
            match self.packet(&head)? {
                Progress::More => {}
                turn => return Ok((bytes.len() - rest.len(), turn)),
            }
        }
        Ok((bytes.len(), Progress::More))
    }

    /// Whether the last byte fed was the last of a packet: an ERR packet can follow.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.walker.is_at_boundary()
    }

    /// Whether no packet of the reply went by yet.
    #[must_use]
    pub fn is_at_start(&self) -> bool {
        !self.started && self.walker.is_at_boundary()
    }

    /// The sequence id that a packet after the last one fed has.
    #[must_use]
    pub fn next_sequence(&self) -> u8 {
        self.walker.sequence().wrapping_add(1)
    }

    fn packet(&mut self, head: &Head) -> Result<Progress, ReplyError> {
        let mut body = Cursor::new(head.bytes());
        if body.is_empty() {
            return self.empty();
        }
        let marker = body.u8("a reply")?;
        match (self.state, marker) {
            // Neither definitions nor text can be errors.
            (State::Columns { left: 0 | 1 }, _) => {
                self.state = if self.deprecate_eof { State::Rows } else { State::ColumnsEnd };
            }
            (State::Columns { left }, _) => self.state = State::Columns { left: left - 1 },
            (State::Definitions { left: 0 | 1 }, _) => return Ok(self.done(None)),
            (State::Definitions { left }, _) => {
                self.state = State::Definitions { left: left - 1 };
            }
            (_, 0xff) => return self.err(body),
            (State::Text, _) => return Ok(self.done(None)),
            (State::First | State::Status, 0x00) => return self.ok(body),
            (State::Status, 0xfe) if self.deprecate_eof && head.first_frame_len() >= 7 => {
                return self.ok(body);
            }
            (State::Status, 0xfe) => return self.eof(body),
            (State::Status, other) => return Err(ReplyError::Marker(other)),
            (State::First, 0xfb) => return Ok(Progress::ClientTurn),
            (State::First, _) => {
                let left = Cursor::new(head.bytes()).lenenc("the column count")?;
                self.state = State::Columns { left };
            }
            (State::PrepareOk, _) if head.first_frame_len() < PREPARE_OK_LEN => {
                return self.ok(body);
            }
            (State::PrepareOk, _) => return self.prepare_ok(body),
            (State::ColumnsEnd, _) => return self.columns_end(body),
            // A row can start with 0xFE too, as the length of a value of 16 MiB or more: only the
            // packet's length tells (P: page_protocol_basic_eof_packet).
            (State::Rows, 0xfe) if self.deprecate_eof && head.first_frame_len() < MAX_PAYLOAD => {
                return self.ok(body);
            }
            (State::Rows, 0xfe) if !self.deprecate_eof && head.first_frame_len() < 9 => {
                return self.eof(body);
            }
            (State::Rows, _) => {}
        }
        Ok(Progress::More)
    }

    /// A row without columns' values is no packet a server sends; text may be empty.
    fn empty(&self) -> Result<Progress, ReplyError> {
        match self.state {
            State::Text => Ok(self.done(None)),
            _ => Err(ReplyError::Empty),
        }
    }

    fn done(&self, status: Option<u16>) -> Progress {
        Progress::Done(ReplyEnd { status, error: None, insert_id: self.insert_id })
    }

    /// A status is alone, whatever its flags say: MariaDB leaves the flag for more results set after
    /// several statements of which one failed.
    fn end_of_result(&mut self, status: u16) -> Progress {
        if status & MORE_RESULTS == 0 || matches!(self.state, State::Status) {
            return self.done(Some(status));
        }
        self.state = State::First;
        Progress::More
    }

    /// ERR: error number, then text.
    fn err(&self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        let code = body.u16("the error number")?;
        // MariaDB reports progress in the guise of an error, to clients that ask for it
        // (<https://mariadb.com/kb/en/err_packet/>).
        if code == PROGRESS_REPORT {
            return Ok(Progress::More);
        }
        let insert_id = self.insert_id;
        Ok(Progress::Done(ReplyEnd { status: None, error: Some(code), insert_id }))
    }

    /// OK: affected rows, last insert id, status, warnings.
    fn ok(&mut self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        body.lenenc("the affected rows of OK")?;
        self.insert_id |= body.lenenc("the insert id of OK")? != 0;
        let status = body.u16("the status of OK")?;
        Ok(self.end_of_result(status))
    }

    /// EOF: warnings, status. MySQL takes back in the EOF after OUT parameters what the one before
    /// them said, that another result follows, and sends it all the same (seen on MySQL 9.7).
    fn eof(&mut self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        body.u16("the warnings of EOF")?;
        let status = body.u16("the status of EOF")?;
        let follows = if std::mem::take(&mut self.out_parameters) { MORE_RESULTS } else { 0 };
        Ok(self.end_of_result(status | follows))
    }

    /// The EOF after the columns. Where a cursor was opened nothing follows: rows are fetched.
    /// Only where one was asked for: MariaDB sets the flag too for rows that a statement sends while
    /// a cursor of a stored program or a `FOR` loop is open (seen on MariaDB 10.11).
    fn columns_end(&mut self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        body.u16("the warnings of EOF")?;
        let status = body.u16("the status of EOF")?;
        if self.cursor && status & CURSOR_EXISTS != 0 && status & MORE_RESULTS == 0 {
            return Ok(self.done(Some(status)));
        }
        self.out_parameters = status & PS_OUT_PARAMS != 0;
        self.state = State::Rows;
        Ok(Progress::More)
    }

    /// `COM_STMT_PREPARE_OK`: statement id, columns, parameters (P: page_protocol_com_stmt_prepare).
    fn prepare_ok(&mut self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        body.u32("the statement id")?;
        let columns = u64::from(body.u16("the number of columns")?);
        let parameters = u64::from(body.u16("the number of parameters")?);
        let eof = |definitions: u64| u64::from(definitions > 0 && !self.deprecate_eof);
        let left = columns + eof(columns) + parameters + eof(parameters);
        if left == 0 {
            return Ok(self.done(None));
        }
        self.state = State::Definitions { left };
        Ok(Progress::More)
    }
}

#[cfg(test)]
#[expect(clippy::type_complexity, reason = "tables of cases")]
mod tests {
    use super::*;

    /// Frames `payloads` one after another.
    fn frames(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (sequence, payload) in (1..).zip(payloads) {
            let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
            out.extend([len[0], len[1], len[2], sequence]);
            out.extend(*payload);
        }
        out
    }

    const OK: &[u8] = &[0x00, 0, 0, 0x02, 0, 0, 0];
    const OK_MORE: &[u8] = &[0x00, 0, 0, 0x0a, 0, 0, 0];
    const OK_AFTER_ROWS: &[u8] = &[0xfe, 0, 0, 0x22, 0, 0, 0];
    const EOF: &[u8] = &[0xfe, 0, 0, 0x22, 0];
    const EOF_MORE: &[u8] = &[0xfe, 0, 0, 0x0a, 0];
    const EOF_OUT: &[u8] = &[0xfe, 0, 0, 0x2a, 0x10];
    const COLUMN: &[u8] = b"\x03def (the rest is skipped)";
    const READ_ONLY: &[u8] = b"\xff\x0a\x05#HY000--read-only";

    fn done(status: u16, error: Option<u16>) -> Progress {
        let status = error.is_none().then_some(status);
        Progress::Done(ReplyEnd { status, error, insert_id: false })
    }

    fn results(deprecate_eof: bool) -> ReplyTracker {
        ReplyTracker::new(ReplyKind::Results, deprecate_eof)
    }

    #[test]
    fn replies_end_where_they_should() {
        // what it is, DEPRECATE_EOF agreed, the packets, how it ends
        let table: &[(&str, bool, &[&[u8]], Progress)] = &[
            ("write", true, &[OK], done(0x02, None)),
            ("error", true, &[READ_ONLY], done(0, Some(1290))),
            ("rows", true, &[b"\x01", COLUMN, b"\x011", OK_AFTER_ROWS], done(0x22, None)),
            ("no rows", true, &[b"\x01", COLUMN, OK_AFTER_ROWS], done(0x22, None)),
            ("old rows", false, &[b"\x01", COLUMN, EOF, b"\x011", EOF], done(0x22, None)),
            ("killed", true, &[b"\x01", COLUMN, b"\x011", b"\xff\x25\x05"], done(0, Some(1317))),
            ("progress", true, &[b"\xff\xff\xff\x01\x01", OK], done(0x02, None)),
            ("two results", true, &[OK_MORE, OK], done(0x02, None)),
            ("old two", false, &[b"\x01", COLUMN, EOF, EOF_MORE, OK], done(0x02, None)),
            ("out", false, &[b"\x01", COLUMN, EOF_OUT, b"\0\0\x05", EOF, OK], done(0x02, None)),
            ("infile", true, &[b"\xfb/tmp/x"], Progress::ClientTurn),
            ("cut short", true, &[b"\x01", COLUMN, b"\x011"], Progress::More),
        ];
        for (what, deprecate_eof, packets, end) in table {
            let bytes = frames(packets);
            let fed = results(*deprecate_eof).feed(&bytes);
            assert_eq!(fed, Ok((bytes.len(), *end)), "{what}");
        }
    }

    #[test]
    fn the_network_may_cut_anywhere() {
        let bytes = frames(&[b"\x02", COLUMN, COLUMN, b"\x011\x012", OK_AFTER_ROWS]);
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let mut reply = results(true);
            assert_eq!(reply.feed(first), Ok((cut, Progress::More)), "cut at {cut}");
            assert_eq!(reply.feed(second), Ok((second.len(), done(0x22, None))), "cut at {cut}");
        }
    }

    #[test]
    fn a_huge_row_is_not_an_end() {
        let mut row = vec![0xfe; MAX_PAYLOAD];
        row[1..9].copy_from_slice(&(1u64 << 24).to_le_bytes());
        let bytes = frames(&[b"\x01", COLUMN, &row, b"tail of the row", OK_AFTER_ROWS]);
        let fed = results(true).feed(&bytes);
        assert_eq!(fed, Ok((bytes.len(), done(0x22, None))));
    }

    #[test]
    fn bytes_after_the_reply_are_not_counted() {
        let bytes = frames(&[OK, b"unasked for"]);
        assert_eq!(results(true).feed(&bytes), Ok((11, done(0x02, None))));
    }

    #[test]
    fn replies_to_other_commands() {
        const PREPARE_OK: &[u8] = &[0x00, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        const PREPARE_BARE: &[u8] = &[0x00, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        const CURSOR: &[u8] = &[0xfe, 0, 0, 0x42, 0];
        const CURSOR_MORE: &[u8] = &[0xfe, 0, 0, 0x4a, 0];
        let none = Progress::Done(ReplyEnd::default());
        let (status, prepared) = (ReplyKind::Status, ReplyKind::Prepared);
        let (results, rows, text) = (ReplyKind::Results, ReplyKind::Rows, ReplyKind::Text);
        let cursor = ReplyKind::Cursor;
        #[rustfmt::skip]
        let table: &[(&str, ReplyKind, bool, &[&[u8]], Progress)] = &[
            ("ping",         status,   true,  &[OK], done(0x02, None)),
            ("stale flag",   status,   true,  &[OK_MORE], done(0x0a, None)),
            ("set option",   status,   false, &[EOF], done(0x22, None)),
            ("set option 2", status,   true,  &[OK_AFTER_ROWS], done(0x22, None)),
            ("eof anyway",   status,   true,  &[EOF], done(0x22, None)),
            ("prepare",      prepared, true,  &[PREPARE_OK, COLUMN, COLUMN, COLUMN], none),
            ("prepare old",  prepared, false, &[PREPARE_OK, COLUMN, COLUMN, EOF, COLUMN, EOF], none),
            ("prepare DO",   prepared, false, &[PREPARE_BARE], none),
            ("prepare none", prepared, true,  &[OK], done(0x02, None)),
            ("prepare err",  prepared, true,  &[READ_ONLY], done(0, Some(1290))),
            ("fetch",        rows,     true,  &[b"\0\0\x01", OK_AFTER_ROWS], done(0x22, None)),
            ("fetch old",    rows,     false, &[b"\0\0\x01", EOF], done(0x22, None)),
            ("cursor old",   cursor,   false, &[b"\x01", COLUMN, CURSOR], done(0x42, None)),
            ("no cursor",    cursor,   false, &[b"\x01", COLUMN, EOF, b"\x011", EOF], done(0x22, None)),
            ("its own",      results,  false, &[b"\x01", COLUMN, CURSOR, b"\x011", CURSOR], done(0x42, None)),
            ("of a CALL",    cursor,   false, &[b"\x01", COLUMN, CURSOR_MORE, b"\x011", CURSOR_MORE, OK], done(0x02, None)),
            ("statistics",   text,     true,  &[b"Uptime: 1"], none),
            ("status err",   status,   true,  &[READ_ONLY], done(0, Some(1290))),
        ];
        for (what, kind, deprecate_eof, packets, end) in table {
            let bytes = frames(packets);
            let fed = ReplyTracker::new(*kind, *deprecate_eof).feed(&bytes);
            assert_eq!(fed, Ok((bytes.len(), *end)), "{what}");
        }
    }

    #[test]
    fn an_insert_id_is_noticed() {
        let fed = results(true).feed(&frames(&[&[0x00, 1, 7, 0x02, 0, 0, 0]]));
        let end = ReplyEnd { status: Some(2), error: None, insert_id: true };
        assert_eq!(fed, Ok((11, Progress::Done(end))));
    }

    #[test]
    fn an_error_can_follow_at_a_boundary() {
        let bytes = frames(&[b"\x01", COLUMN, b"\x011"]);
        let mut reply = results(true);
        reply.feed(&bytes).unwrap();
        assert!(reply.is_at_boundary());
        assert_eq!(reply.next_sequence(), 4);
        let mut reply = results(true);
        reply.feed(&bytes[..bytes.len() - 1]).unwrap();
        assert!(!reply.is_at_boundary());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            deprecate_eof in proptest::prelude::any::<bool>(),
        ) {
            for kind in [ReplyKind::Results, ReplyKind::Prepared, ReplyKind::Rows, ReplyKind::Text] {
                let _verdict = ReplyTracker::new(kind, deprecate_eof).feed(&bytes);
            }
        }
    }
}
