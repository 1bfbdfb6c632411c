//! A packet: its statements, and its readings.
//!
//! A server executes the content of `/*!50000 … */` or not, depending on what it is and on its
//! version, and which server the packet goes to is decided here. So a packet with such comments is
//! read once for every combination of executing and skipping them, and the most severe verdict wins.
//! A packet with more of them than [`MOST_COMMENTS`] is a write.

use crate::cursor::Cursor;
use crate::{Dialect, Effects, Kind, Statement, statement};

/// How many executable comments are tried in all combinations. A line of a dump has one or two.
const MOST_COMMENTS: u32 = 4;

/// Classifies a packet in all its readings.
pub(crate) fn classify(sql: &[u8], dialect: Dialect) -> Statement {
    let (executed, mut comments) = read(sql, dialect, u32::MAX);
    if comments == 0 {
        return executed;
    }
    let mut worst = executed;
    let mut reading = 0;
    // A reading may meet comments that another one takes for quoted text.
    while reading < 1 << comments.min(MOST_COMMENTS) {
        let (statement, met) = read(sql, dialect, reading);
        worst = worst.and(statement);
        comments = comments.max(met);
        reading += 1;
    }
    if comments > MOST_COMMENTS {
        worst = worst.and(Statement::new(Kind::Write, "executable comments", Effects::NONE));
    }
    worst
}

/// Classifies one reading. Also returns how many executable comments there are.
fn read(sql: &[u8], dialect: Dialect, counted: u32) -> (Statement, u32) {
    let mut cursor = Cursor::new(sql, dialect, counted);
    let mut packet: Option<Statement> = None;
    loop {
        while cursor.accept_mark(b';') {}
        if cursor.is_at_last_end() {
            break;
        }
        let statement = statement::classify(&mut cursor);
        packet = Some(match packet {
            None => statement,
            Some(packet) => {
                let whole = packet.and(statement);
                Statement { effects: whole.effects | Effects::SEVERAL, ..whole }
            }
        });
    }
    // A server answers an empty packet with an error.
    let empty = Statement::new(Kind::Read, "no statement", Effects::NONE);
    let mut packet = packet.unwrap_or(empty);
    if cursor.is_ambiguous() {
        packet = packet.and(Statement::new(Kind::Write, "ambiguous text", Effects::NONE));
    }
    (packet, cursor.comments())
}
