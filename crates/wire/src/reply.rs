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

use crate::capabilities::Capabilities;
use crate::command::ReplyKind;
use crate::frame::{HEADER_LEN, Head, Header, MAX_PAYLOAD, PacketWalker};
use crate::lenenc::{Cursor, Truncated};
use crate::prepared::is_prepare_ok;
use crate::status::{CURSOR_EXISTS, MORE_RESULTS, PS_OUT_PARAMS};
use crate::track::{Changes, Report};

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
    /// The server warned of something in the last of the reply's results.
    pub warned: bool,
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
    /// As many definitions were left out as nobody was given before.
    #[error("definitions that were never sent are left out")]
    Columns,
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

/// What an EOF packet stands for, by where it comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Eof {
    /// There is no EOF packet here.
    Nothing,
    /// It divides definitions from what follows them.
    Divides,
    /// It ends rows, or is a status.
    Ends {
        /// The rows are OUT parameters.
        of_out_parameters: bool,
    },
}

/// The error number of a progress report, which ends nothing.
const PROGRESS_REPORT: u16 = 0xffff;

/// Follows the reply to one command.
#[derive(Debug)]
pub struct ReplyTracker {
    agreed: Capabilities,
    state: State,
    insert_id: bool,
    warned: bool,
    /// The rows under way are OUT parameters.
    out_parameters: bool,
    started: bool,
    /// A cursor was asked for.
    cursor: bool,
    /// A result set was begun.
    rows: bool,
    changes: Option<Box<Changes>>,
    walker: PacketWalker,
}

/// What comes next in a reply, as far as changes in the session are concerned.
enum Coming<'a> {
    /// A packet of no interest, or a part of one.
    Other,
    /// An OK packet that is not all there.
    PartOfOk,
    /// An OK packet, with this payload.
    Ok(&'a [u8]),
}

impl ReplyTracker {
    /// Starts before the first byte of the reply, on a connection for which `agreed` was agreed on.
    #[must_use]
    pub fn new(kind: ReplyKind, agreed: Capabilities) -> Self {
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
        Self {
            agreed,
            state,
            insert_id,
            warned: false,
            out_parameters,
            started,
            cursor,
            rows: false,
            changes: None,
            walker,
        }
    }

    /// Whether a result set was begun.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        self.rows
    }

    /// The same for bytes that come in pieces of which none can be left for later.
    pub(crate) fn without_changes(self) -> Self {
        Self { agreed: self.agreed.without(Capabilities::SESSION_TRACK), ..self }
    }

    /// What the OK packets that were fed said of changes in the session.
    pub fn take_changes(&mut self) -> Option<Box<Changes>> {
        self.changes.take()
    }

    /// Takes note of `bytes`, which the server sent.
    ///
    /// Returns how many of them were used, which belong to the reply. While [`Progress::More`] those
    /// that are left are the beginning of an OK packet, and have to be shown again with more behind
    /// them. The bytes can be cut anywhere: how the reply ends does not depend on how the network
    /// split them.
    ///
    /// # Errors
    ///
    /// [`ReplyError`] when the bytes cannot be a reply. Where the reply ends is then unknowable, so
    /// the connection cannot be used again.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Progress), ReplyError> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let (more, progress, telling) = self.feed_to_changes(rest)?;
            used += more;
            if telling.is_none() || progress != Progress::More {
                return Ok((used, progress));
            }
        }
    }

    /// The same up to an OK packet that tells of changes; yields the length of that, too.
    pub(crate) fn feed_to_changes(
        &mut self,
        bytes: &[u8],
    ) -> Result<(usize, Progress, Option<usize>), ReplyError> {
        let mut rest = bytes;
        loop {
            let before = rest.len();
            let coming = if self.tracks() { self.coming(rest) } else { Coming::Other };
            let tells = match coming {
                Coming::Other => false,
                Coming::PartOfOk => return Ok((bytes.len() - before, Progress::More, None)),
                Coming::Ok(payload) => self.note_changes(payload),
            };
            let Some(head) = self.walker.next_packet(&mut rest) else { break };
            self.started = true;
            let telling = tells.then_some(before - rest.len());
            let progress = self.packet(&head)?;
            if progress != Progress::More || tells {
                return Ok((bytes.len() - rest.len(), progress, telling));
            }
        }
        Ok((bytes.len(), Progress::More, None))
    }

    /// What is at the front of `rest`. A packet's first byte says enough of it, by where it comes.
    fn coming<'b>(&self, rest: &'b [u8]) -> Coming<'b> {
        if rest.is_empty() || !self.walker.is_at_boundary() {
            return Coming::Other;
        }
        match self.state {
            State::First | State::Status | State::PrepareOk => {}
            State::Rows if rest.get(HEADER_LEN).is_none_or(|marker| *marker == 0xfe) => {}
            _ => return Coming::Other,
        }
        let len = Header::peek(rest).map(|header| header.payload_len);
        let (Some(len), Some(&marker)) = (len, rest.get(HEADER_LEN)) else {
            return if len == Some(0) { Coming::Other } else { Coming::PartOfOk };
        };
        let is_ok = match (self.state, marker) {
            (State::First | State::Status, 0x00) => true,
            (State::Rows | State::Status, 0xfe) => self.deprecates_eof(),
            (State::PrepareOk, 0x00) => !is_prepare_ok(len),
            _ => false,
        };
        match rest.get(HEADER_LEN..HEADER_LEN + len) {
            // One that long is a row, or a part of one.
            _ if !is_ok || len >= MAX_PAYLOAD => Coming::Other,
            Some(payload) => Coming::Ok(payload),
            None => Coming::PartOfOk,
        }
    }

    /// Takes note of what an OK packet tells of; yields whether it tells of anything.
    fn note_changes(&mut self, payload: &[u8]) -> bool {
        let Ok(Some(report)) = Report::read(payload) else { return false };
        match (&mut self.changes, report.changes()) {
            (Some(changes), Some(later)) => changes.add(later),
            (none, Some(first)) => *none = Some(Box::new(first)),
            (_, None) => {}
        }
        true
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

    /// `CLIENT_DEPRECATE_EOF` was agreed on: no EOF after the columns, and an OK packet in its place
    /// after the rows.
    fn deprecates_eof(&self) -> bool {
        self.agreed.contains(Capabilities::DEPRECATE_EOF)
    }

    /// `CLIENT_SESSION_TRACK` was agreed on: OK packets tell what changed in the session.
    fn tracks(&self) -> bool {
        self.agreed.contains(Capabilities::SESSION_TRACK)
    }

    /// What an EOF packet would be here.
    pub(crate) fn eof(&self) -> Eof {
        match self.state {
            State::ColumnsEnd | State::Definitions { .. } => Eof::Divides,
            State::Rows | State::Status => Eof::Ends { of_out_parameters: self.out_parameters },
            State::First | State::Columns { .. } | State::Text | State::PrepareOk => Eof::Nothing,
        }
    }

    /// Whether the next packet begins a result, or is all of it.
    pub(crate) fn is_before_result(&self) -> bool {
        matches!(self.state, State::First)
    }

    /// Whether the last packet before this was a column count, if one was to be expected.
    pub(crate) fn is_in_result(&self) -> bool {
        matches!(self.state, State::Columns { .. } | State::ColumnsEnd | State::Rows)
    }

    /// Whether the next packet is `COM_STMT_PREPARE_OK`, if the statement is prepared at all.
    pub(crate) fn is_before_prepared(&self) -> bool {
        matches!(self.state, State::PrepareOk)
    }

    fn packet(&mut self, head: &Head) -> Result<Progress, ReplyError> {
        let mut body = Cursor::new(head.bytes());
        if body.is_empty() {
            return self.empty();
        }
        let marker = body.u8("a reply")?;
        match (self.state, marker) {
            // Neither definitions nor text can be errors.
            (State::Columns { left: 0 | 1 }, _) => self.state = self.behind_columns(),
            (State::Columns { left }, _) => self.state = State::Columns { left: left - 1 },
            (State::Definitions { left: 0 | 1 }, _) => return Ok(self.done(None)),
            (State::Definitions { left }, _) => {
                self.state = State::Definitions { left: left - 1 };
            }
            (_, 0xff) => return self.err(body),
            (State::Text, _) => return Ok(self.done(None)),
            (State::First | State::Status, 0x00) => return self.ok(body),
            (State::Status, 0xfe) if self.deprecates_eof() && head.first_frame_len() >= 7 => {
                return self.ok(body);
            }
            (State::Status, 0xfe) => return self.ends_with_eof(body),
            (State::Status, other) => return Err(ReplyError::Marker(other)),
            (State::First, 0xfb) => return Ok(Progress::ClientTurn),
            (State::First, _) => {
                self.rows = true;
                self.state = self.columns(Cursor::new(head.bytes()))?;
            }
            (State::PrepareOk, _) if !is_prepare_ok(head.first_frame_len()) => {
                return self.ok(body);
            }
            (State::PrepareOk, _) => return self.prepare_ok(body),
            (State::ColumnsEnd, _) => return self.columns_end(body),
            // A row can start with 0xFE too, as the length of a value of 16 MiB or more: only the
            // packet's length tells (P: page_protocol_basic_eof_packet).
            (State::Rows, 0xfe)
                if self.deprecates_eof() && head.first_frame_len() < MAX_PAYLOAD =>
            {
                return self.ok(body);
            }
            (State::Rows, 0xfe) if !self.deprecates_eof() && head.first_frame_len() < 9 => {
                return self.ends_with_eof(body);
            }
            (State::Rows, _) => {}
        }
        Ok(Progress::More)
    }

    /// The column count, and with MySQL's optional metadata and MariaDB's cached one whether the
    /// definitions follow. What comes behind them comes in either case (seen on MariaDB 10.11 and
    /// MySQL 9.7).
    fn columns(&self, mut body: Cursor<'_>) -> Result<State, Truncated> {
        let left = body.lenenc("the column count")?;
        let follow = !self.agreed.intersects(Capabilities::METADATA_BYTE)
            || body.u8("whether definitions follow")? != 0;
        Ok(if follow { State::Columns { left } } else { self.behind_columns() })
    }

    fn behind_columns(&self) -> State {
        if self.deprecates_eof() { State::Rows } else { State::ColumnsEnd }
    }

    /// A row without columns' values is no packet a server sends; text may be empty.
    fn empty(&self) -> Result<Progress, ReplyError> {
        match self.state {
            State::Text => Ok(self.done(None)),
            _ => Err(ReplyError::Empty),
        }
    }

    fn done(&self, status: Option<u16>) -> Progress {
        let (insert_id, warned) = (self.insert_id, self.warned);
        Progress::Done(ReplyEnd { status, error: None, insert_id, warned })
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
        let (insert_id, warned) = (self.insert_id, false);
        Ok(Progress::Done(ReplyEnd { status: None, error: Some(code), insert_id, warned }))
    }

    /// OK: affected rows, last insert id, status, warnings.
    fn ok(&mut self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        body.lenenc("the affected rows of OK")?;
        self.insert_id |= body.lenenc("the insert id of OK")? != 0;
        let status = body.u16("the status of OK")?;
        self.warned = body.u16("the warnings of OK").is_ok_and(|count| count > 0);
        Ok(self.end_of_result(status))
    }

    /// EOF: warnings, status. MySQL takes back in the EOF after OUT parameters what the one before
    /// them said, that another result follows, and sends it all the same (seen on MySQL 9.7).
    fn ends_with_eof(&mut self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        self.warned = body.u16("the warnings of EOF")? > 0;
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

    /// `COM_STMT_PREPARE_OK`: statement id, columns, parameters, a byte that is 0, warnings, and from
    /// MySQL with optional metadata whether definitions follow (P: page_protocol_com_stmt_prepare).
    /// Where they do not, the EOFs behind them come all the same (seen on MySQL 9.7).
    fn prepare_ok(&mut self, mut body: Cursor<'_>) -> Result<Progress, ReplyError> {
        body.u32("the statement id")?;
        let columns = u64::from(body.u16("the number of columns")?);
        let parameters = u64::from(body.u16("the number of parameters")?);
        body.bytes(3, "the warnings of a preparation")?;
        let optional = self.agreed.contains(Capabilities::OPTIONAL_RESULTSET_METADATA);
        let follow = !optional || body.u8("whether definitions follow")? != 0;
        let packets = |definitions: u64| {
            let eof = u64::from(definitions > 0 && !self.deprecates_eof());
            eof + if follow { definitions } else { 0 }
        };
        let left = packets(columns) + packets(parameters);
        if left == 0 {
            return Ok(self.done(None));
        }
        self.state = State::Definitions { left };
        Ok(Progress::More)
    }
}

#[cfg(test)]
mod tests;
