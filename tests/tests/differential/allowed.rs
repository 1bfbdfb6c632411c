//! What may differ, and why. All else must be equal to the byte.

use testkit::Frame;

use crate::raw::com;
use crate::run::{End, Reply};
use crate::script::Step;

/// A difference that is as it should be.
#[derive(Debug)]
pub struct Allowed {
    /// What it is, for those who count.
    pub name: &'static str,
    /// Why.
    reason: &'static str,
    /// Only where a connection to the server was lost before.
    pub after_loss: bool,
    /// Takes what differs out of a step's reply.
    pub forget: fn(&Step, &mut Reply),
}

/// All differences that are allowed where the reply does not tell of a loss.
pub const ALLOWED: &[Allowed] = &[
    Allowed {
        name: "schema names",
        reason: "the sessions work in schemas of their own, with names of the same length",
        after_loss: false,
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_schema),
    },
    Allowed {
        name: "statement ids",
        reason: "the errors for a statement that is not known (1243) or has no cursor (1421) name the \
                 server's id of it",
        after_loss: false,
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_id),
    },
    Allowed {
        name: "unknown tables",
        reason: "MySQL 9.7 has two errors, 1109 and 1146, for a table that information_schema lacks, \
                 and uses either, on direct connections too",
        after_loss: false,
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_unknown_table),
    },
    Allowed {
        name: "rows of parameters",
        reason: "in the error for a value that does not fit a routine's parameter MariaDB's number of \
                 a row is what happens to be there",
        after_loss: false,
        forget: |step, reply| {
            let may_call = matches!(step, Step::Execute { .. } | Step::Burst(_));
            reply.frames.iter_mut().for_each(|frame| forget_row_number(frame, may_call));
        },
    },
    Allowed {
        name: "statistics",
        reason: "COM_STATISTICS counts what the server does, for others too",
        after_loss: false,
        forget: |step, reply| {
            if matches!(step, Step::Command { code: com::STATISTICS, .. }) {
                let texts = reply.frames.iter_mut().filter(|frame| !frame.is_err());
                texts.for_each(|frame| frame.payload.truncate(8));
            }
        },
    },
    Allowed {
        name: "warnings of a ping",
        reason: "a ping, an option and COM_INIT_DB tell how many warnings the last statement left, on \
                 the connection that there is now",
        after_loss: true,
        forget: |step, reply| {
            if matches!(
                step,
                Step::Command { code: com::PING | com::INIT_DB, .. }
                    | Step::Option(_)
                    | Step::Burst(_)
                    | Step::Cut { .. }
            ) {
                reply.frames.iter_mut().for_each(forget_warnings);
            }
        },
    },
    Allowed {
        name: "logins",
        reason: "failsoft checks a login itself, with as many packets as that takes, and asks no \
                 server what it would say of it; nor has a server an error to show for one that \
                 failsoft refuses",
        after_loss: false,
        forget: |step, reply| {
            if let Step::ChangeUser { wrong, .. } = step {
                forget_login(reply, *wrong);
            }
        },
    },
    Allowed {
        name: "malformed commands",
        reason: "what is no command ends the session with an error of failsoft's own",
        after_loss: false,
        forget: |step, reply| {
            if matches!(step, Step::Malformed(_)) && (ends(reply) || is_error(reply)) {
                *reply = Reply::default();
            }
        },
    },
    Allowed {
        name: "flags of no use",
        reason: "a statement that was prepared without a schema is prepared again in the one that there \
                 is now. MariaDB changes schemas for the one and not for the other, and says that it \
                 did in an EOF packet, which cannot say what changed",
        after_loss: true,
        forget: |step, reply| {
            if matches!(step, Step::Execute { .. } | Step::Burst(_)) {
                reply.frames.iter_mut().for_each(forget_change);
            }
        },
    },
    Allowed {
        name: "fetches of nothing",
        reason: "a fetch from a statement that was not executed is an error, and another one where \
                 the statement cannot be prepared again as the session is now",
        after_loss: true,
        forget: |step, reply| {
            let error = reply.frames.first().and_then(Frame::error);
            let is_of_nothing =
                error.is_some_and(|(code, ..)| matches!(code, 1054 | 1146 | 1421 | 1792));
            if matches!(step, Step::Fetch { .. }) && is_of_nothing {
                reply.frames.clear();
            }
        },
    },
    Allowed {
        name: "flags of what was told",
        reason: "a client that has its transactions tracked without having agreed on it is told by \
                 MariaDB in every EOF packet that something changed. failsoft agreed on it, so its \
                 server has told of that, and says so no more",
        after_loss: false,
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_change),
    },
    Allowed {
        name: "old news of a schema",
        reason: "MySQL changes schemas to run a statement that was prepared in another. Where that \
                 fails it tells of the schema that it came back to with its next OK, and a connection \
                 that is new by then has nothing to tell",
        after_loss: true,
        forget: |step, reply| {
            if !chooses_schema(step) {
                reply.frames.iter_mut().for_each(forget_schema_news);
            }
        },
    },
    Allowed {
        name: "definitions given again",
        reason: "MariaDB leaves out the definitions that it sent before, unless it prepared the \
                 statement again for itself, as where others changed a routine; and a client whose \
                 statement failsoft prepared again is given those of the new connection",
        after_loss: false,
        forget: |step, reply| {
            if matches!(step, Step::Execute { .. } | Step::Burst(_)) {
                leave_out_definitions(reply);
            }
        },
    },
    Allowed {
        name: "variables of a connection",
        reason: "variables that say which connection it is, or what its last statement left",
        after_loss: false,
        forget: |step, reply| {
            if matches!(step, Step::Variables) {
                reply.frames.iter_mut().for_each(forget_value);
            }
        },
    },
];

/// Session variables that belong to a connection.
const OWN_VARIABLES: &[&str] = &[
    "error_count",
    "gtid_binlog_pos",
    "gtid_current_pos",
    "identity",
    "in_transaction",
    "insert_id",
    "last_gtid",
    "last_insert_id",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "statement_id",
    "timestamp",
    "warning_count",
];

/// The list of what may differ, for those who read a report.
pub fn allowances() -> String {
    ALLOWED.iter().map(|allowed| format!("  - {}: {}\n", allowed.name, allowed.reason)).collect()
}

/// What schemas of proxied sessions begin with.
pub const PROXIED: &str = "app_p";
/// What schemas of direct sessions begin with.
pub const DIRECT: &str = "app_d";

fn forget_schema(frame: &mut Frame) {
    let (old, new) = (PROXIED.as_bytes(), DIRECT.as_bytes());
    let mut at = 0;
    while let Some(found) = find(&frame.payload[at..], old) {
        frame.payload[at + found..][..new.len()].copy_from_slice(new);
        at += found + new.len();
    }
}

/// Leaves out the number in the names of direct sessions' schemas.
pub fn forget_number(frame: &mut Frame) {
    let mut at = 0;
    while let Some(found) = find(&frame.payload[at..], DIRECT.as_bytes()) {
        at += found + DIRECT.len();
        let number = frame.payload[at..].iter_mut().take_while(|byte| byte.is_ascii_digit());
        number.for_each(|digit| *digit = b'0');
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The number in brackets, in the error itself and in a row that tells of it, as text or in binary, where
/// the message's length is before it. The message may be in any language.
fn forget_id(frame: &mut Frame) {
    const CODES: &[&[u8]] = &[b"\x041243", b"\x041421", b"\xdb\x04\0\0", b"\x8d\x05\0\0"];
    let payload = &mut frame.payload;
    if !payload.starts_with(b"\xff\xdb\x04") && !payload.starts_with(b"\xff\x8d\x05") {
        let code = CODES.iter().find_map(|code| Some(find(payload, code)? + code.len()));
        let Some(length) = code.and_then(|at| payload.get_mut(at)) else { return };
        *length = 0;
    }
    if let Some(open) = find(payload, b"(") {
        let digits = payload[open + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        payload.drain(open + 1..=open + digits);
    }
}

/// In the error itself, or in a row that tells of it.
fn forget_unknown_table(frame: &mut Frame) {
    let payload = &frame.payload;
    let is_error = frame.error().is_some_and(|(code, ..)| matches!(code, 1109 | 1146));
    let in_row = [b"\x041109", b"\x041146"].iter().find_map(|code| find(payload, *code));
    if (is_error || in_row.is_some()) && find(payload, b"information_schema").is_some() {
        frame.payload.truncate(in_row.unwrap_or(1));
    }
}

/// The number at the end of an error, or of a row that tells of one.
fn forget_row_number(frame: &mut Frame, may_call: bool) {
    let payload = &mut frame.payload;
    let digits = payload.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let at = payload.len() - digits;
    let is_last = payload[..at].ends_with(b" at row ") && digits > 0;
    let of_routine = if may_call { &b" for column '"[..] } else { b" for column ``.``." };
    let is_of_parameter =
        [of_routine, b" for column ``.``."].iter().any(|of| find(payload, of).is_some());
    if is_last && is_of_parameter {
        payload.truncate(at);
    }
}

fn forget_warnings(frame: &mut Frame) {
    match frame.payload.as_mut_slice() {
        [0xfe, warnings @ .., _, _] if warnings.len() == 2 => warnings.fill(0),
        [0x00 | 0xfe, 0, 0, _, _, low, high, ..] => (*low, *high) = (0, 0),
        _ => {}
    }
}

fn forget_login(reply: &mut Reply, wrong: bool) {
    if wrong && ends(reply) {
        reply.frames.clear();
    } else if let Some(frame) = reply.frames.first_mut() {
        frame.sequence = 0;
        if frame.is_ok() {
            frame.payload.truncate(1);
        }
    }
}

fn ends(reply: &Reply) -> bool {
    reply.end == End::Closed
}

fn is_error(reply: &Reply) -> bool {
    reply.frames.last().is_some_and(Frame::is_err)
}

/// The flag in an EOF packet that something changed.
fn forget_change(frame: &mut Frame) {
    const SESSION_STATE_CHANGED: u8 = 1 << 6;
    if let [0xfe, _, _, _, high] = frame.payload.as_mut_slice() {
        *high &= !SESSION_STATE_CHANGED;
    }
}

/// Results without the definitions that their column counts say are there.
fn leave_out_definitions(Reply { frames, parts, .. }: &mut Reply) {
    const FOLLOW: u8 = 1;
    let mut at = 0;
    let mut left_out = 0_u8;
    while let Some(frame) = frames.get_mut(at) {
        // Each reply is numbered from 1.
        left_out = if frame.sequence == 1 { 0 } else { left_out };
        frame.sequence = frame.sequence.wrapping_sub(left_out);
        at += 1;
        let &[columns, FOLLOW] = frame.payload.as_slice() else { continue };
        let end = at + usize::from(columns);
        let are_there = frames.get(at..end).is_some_and(|definitions| {
            definitions.iter().all(|frame| frame.payload.starts_with(b"\x03def"))
        });
        if are_there {
            frames.drain(at..end);
            let behind = parts.iter_mut().filter(|start| **start >= end);
            behind.for_each(|start| *start -= usize::from(columns));
            frames[at - 1].payload[1] = 0;
            left_out = left_out.wrapping_add(columns);
        }
    }
}

/// Whether a step may change the schema.
fn chooses_schema(step: &Step) -> bool {
    match step {
        Step::Query { sql, .. } => sql.to_ascii_lowercase().contains("use"),
        Step::Command { code, .. } => *code == com::INIT_DB,
        Step::Burst(steps) => steps.iter().any(chooses_schema),
        Step::ChangeUser { .. } => true,
        _ => false,
    }
}

/// Takes what an OK tells of the schema out of what it tells of the session.
fn forget_schema_news(frame: &mut Frame) {
    const SCHEMA: u8 = 1;
    const SESSION_STATE_CHANGED: u8 = 1 << 6;
    let &[0 | 0xfe, ..0xfb, ..0xfb, _, high, _, _, text, ..] = frame.payload.as_slice() else {
        return;
    };
    let length_at = 8 + usize::from(text);
    let Some((&changed, news)) = frame.payload.get(length_at..).and_then(<[u8]>::split_first)
    else {
        return;
    };
    if high & SESSION_STATE_CHANGED == 0 || changed >= 0xfb || usize::from(changed) != news.len() {
        return;
    }
    let (mut kept, mut rest) = (Vec::<u8>::new(), news);
    while let [kind, length, ..] = *rest {
        let (entry, others) = rest.split_at((2 + usize::from(length)).min(rest.len()));
        if kind != SCHEMA {
            kept.extend(entry);
        }
        rest = others;
    }
    if kept.is_empty() {
        frame.payload[4] &= !SESSION_STATE_CHANGED;
        frame.payload.truncate(if text == 0 { 7 } else { length_at });
        return;
    }
    frame.payload.truncate(length_at);
    frame.payload.push(u8::try_from(kept.len()).expect("less than there was"));
    frame.payload.extend(kept);
}

/// Leaves only the name of a variable whose value is its connection's.
fn forget_value(frame: &mut Frame) {
    let Some((&length, rest)) = frame.payload.split_first() else { return };
    let name = rest.get(..length.into()).unwrap_or_default();
    if OWN_VARIABLES.iter().any(|own| own.as_bytes() == name) {
        frame.payload.truncate(usize::from(length) + 1);
    }
}
