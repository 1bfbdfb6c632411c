//! What must be equal, and what may differ and why.

use testkit::Frame;

use crate::raw::{com, show};
use crate::run::{End, Reply};
use crate::script::{Script, Step};

/// A difference that is as it should be.
struct Allowed {
    /// Why.
    reason: &'static str,
    /// Takes what differs out of a step's reply.
    forget: fn(&Step, &mut Reply),
}

/// All differences that are allowed wherever nothing was lost.
const ALLOWED: &[Allowed] = &[
    Allowed {
        reason: "the sessions work in schemas of their own, with names of the same length",
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_schema),
    },
    Allowed {
        reason: "the errors for a statement that is not known (1243) or has no cursor (1421) name the \
                 server's id of it",
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_id),
    },
    Allowed {
        reason: "MySQL 9.7 has two errors, 1109 and 1146, for a table that information_schema lacks, \
                 and uses either, on direct connections too",
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_unknown_table),
    },
    Allowed {
        reason: "COM_STATISTICS counts what the server does, for others too",
        forget: |step, reply| {
            if matches!(step, Step::Command { code: com::STATISTICS, .. }) {
                let texts = reply.frames.iter_mut().filter(|frame| !frame.is_err());
                texts.for_each(|frame| frame.payload.truncate(8));
            }
        },
    },
    Allowed {
        reason: "a ping and an option tell how many warnings the last statement left, on the \
                 connection that there is now",
        forget: |step, reply| {
            if matches!(
                step,
                Step::Command { code: com::PING, .. } | Step::Option(_) | Step::Burst(_)
            ) {
                reply.frames.iter_mut().for_each(forget_warnings);
            }
        },
    },
    Allowed {
        reason: "failsoft checks a login itself, with as many packets as that takes, and asks no \
                 server what it would say of it",
        forget: |step, reply| {
            if let Step::ChangeUser { wrong, .. } = step {
                forget_login(reply, *wrong);
            }
        },
    },
    Allowed {
        reason: "what is no command ends the session with an error of failsoft's own",
        forget: |step, reply| {
            if matches!(step, Step::Malformed(_)) && (ends(reply) || is_error(reply)) {
                *reply = Reply::default();
            }
        },
    },
    Allowed {
        reason: "after an error that may have ended a transaction failsoft asks for the status, and \
                 what the server tells it there of the session's state, the client does not hear",
        forget: |_, reply| reply.frames.iter_mut().for_each(forget_tracked),
    },
    Allowed {
        reason: "variables that say which connection it is, or what its last statement left",
        forget: |step, reply| {
            if matches!(step, Step::Variables) {
                reply.frames.iter_mut().for_each(forget_value);
            }
        },
    },
];

/// Session variables that belong to a connection. Those of the schema are among them for a session
/// that was reset after it chose one: servers then have their own defaults there until the next USE.
const OWN_VARIABLES: &[&str] = &[
    "character_set_database",
    "collation_database",
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

/// Errors that tell of a lost server, by number and by what they say. After one of them a session
/// has nothing to compare any more.
const HONEST: &[(u16, &str)] = &[
    (1053, "Session state lost: "),
    (1213, "Transaction was rolled back: "),
    (1210, "the data sent for a parameter reached no server"),
];

/// How two runs of a script compare.
#[derive(Clone, Debug)]
pub enum Verdict {
    Equal,
    /// The proxied session was told that it lost something with its server.
    Told(u16),
    Different(String),
}

/// Compares the replies of a script on a direct connection and through failsoft.
pub fn compare(script: &Script, direct: &[Reply], through: &[Reply]) -> Verdict {
    if let Some(verdict) = compare_logins(&direct[0], &through[0]) {
        return verdict;
    }
    if direct.iter().any(|reply| reply.end == End::Silent) {
        return Verdict::Different("the server itself does not answer".to_owned());
    }
    let mut is_cut = false;
    for (at, step) in script.steps.iter().enumerate() {
        is_cut |= matches!(step, Step::Cut);
        let (expected, seen) = match (direct.get(at + 1), through.get(at + 1)) {
            (Some(expected), Some(seen)) => (clean(step, expected), clean(step, seen)),
            (None, None) => break,
            (expected, _) => {
                let who = if expected.is_none() { "direct" } else { "proxied" };
                return Verdict::Different(format!("step {at}: the {who} session is over already"));
            }
        };
        if expected == seen {
            continue;
        }
        let first = expected.frames.iter().zip(&seen.frames).position(|(a, b)| a != b);
        let first = first.unwrap_or_else(|| expected.frames.len().min(seen.frames.len()));
        let frames = expected.frames.get(first).zip(seen.frames.get(first));
        let is_aside = frames.is_some_and(|(expected, seen)| is_aside(step, expected, seen));
        let told = if is_aside { Some(1213) } else { seen.frames.get(first).and_then(honest) };
        let told = told.filter(|_| is_cut);
        if let Some(code) = told.filter(|_| !script.is_carried) {
            return Verdict::Told(code);
        }
        let text = format!(
            "step {at}, packet {first}\n    direct   {}\n    failsoft {}",
            shown(&expected, first),
            shown(&seen, first)
        );
        return Verdict::Different(text);
    }
    Verdict::Equal
}

/// A login is failsoft's own affair up to whether it is let in. The servers' OK may tell of session
/// state, which a login that asks no server cannot.
fn compare_logins(direct: &Reply, through: &Reply) -> Option<Verdict> {
    let is_in = |reply: &Reply| reply.frames.last().is_some_and(Frame::is_ok);
    (is_in(direct) != is_in(through)).then(|| {
        let (direct, through) = (shown(direct, 0), shown(through, 0));
        Verdict::Different(format!("login\n    direct   {direct}\n    failsoft {through}"))
    })
}

fn shown(reply: &Reply, at: usize) -> String {
    let all = reply.frames.len();
    let packet = reply.frames.get(at).map_or_else(|| "nothing".to_owned(), show);
    format!("{packet} (of {all} packets, {:?})", reply.end)
}

fn honest(frame: &Frame) -> Option<u16> {
    let (code, _, text) = frame.error()?;
    HONEST.iter().any(|(number, words)| *number == code && text.contains(words)).then_some(code)
}

/// A session whose transaction is lost is not told at a ping or a SET, but at what follows. There is
/// only no transaction in the status any more.
fn is_aside(step: &Step, expected: &Frame, seen: &Frame) -> bool {
    const IN_TRANSACTION: u8 = 1;
    let is_asked = match step {
        Step::Command { code, .. } => *code == com::PING,
        Step::Option(_) => true,
        Step::Query { sql, .. } => sql.starts_with("SET ") && !sql.contains(';'),
        _ => false,
    };
    let mut without = expected.payload.clone();
    if let [0 | 0xfe, 0, 0, status, ..] = without.as_mut_slice() {
        *status &= !IN_TRANSACTION;
    }
    is_asked && without == seen.payload
}

/// A reply without what may differ.
fn clean(step: &Step, reply: &Reply) -> Reply {
    let mut reply = reply.clone();
    for allowed in ALLOWED {
        (allowed.forget)(step, &mut reply);
    }
    reply
}

/// The list of what may differ, for those who read a report.
pub fn allowances() -> String {
    ALLOWED.iter().map(|allowed| format!("  - {}\n", allowed.reason)).collect()
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

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The number in brackets, in the error itself and in a row that tells of it, where the text's length
/// is before it.
fn forget_id(frame: &mut Frame) {
    let payload = &mut frame.payload;
    let in_row = [b"\x041243", b"\x041421"].iter().find_map(|code| find(payload, *code));
    if !payload.starts_with(b"\xff\xdb\x04") && !payload.starts_with(b"\xff\x8d\x05") {
        let Some(length) = in_row.and_then(|at| payload.get_mut(at + 5)) else { return };
        *length = 0;
    }
    if let Some(open) = find(payload, b"(") {
        let digits = payload[open + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        payload.drain(open + 1..=open + digits);
    }
}

fn forget_unknown_table(frame: &mut Frame) {
    let is_either = frame.error().is_some_and(|(code, _, text)| {
        matches!(code, 1109 | 1146) && text.contains("information_schema")
    });
    if is_either {
        frame.payload.truncate(1);
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
    if wrong && (ends(reply) || is_error(reply)) {
        *reply = Reply { frames: Vec::new(), end: End::Closed };
    } else if let Some(frame) = reply.frames.last_mut() {
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

/// Leaves only the name of a variable whose value is its connection's.
fn forget_value(frame: &mut Frame) {
    let Some((&length, rest)) = frame.payload.split_first() else { return };
    let name = rest.get(..length.into()).unwrap_or_default();
    if OWN_VARIABLES.iter().any(|own| own.as_bytes() == name) {
        frame.payload.truncate(usize::from(length) + 1);
    }
}

/// The status bit that says that an OK packet tells of changes in the session.
const SESSION_STATE_CHANGED: u16 = 1 << 14;
/// The kinds of such changes that an error may leave for the next reply: the schema, and a
/// transaction's characteristics and state.
const OF_TRANSACTIONS: [u8; 3] = [1, 4, 5];

/// Takes what an OK packet tells of transactions out of it
/// (P: page_protocol_basic_ok_packet).
fn forget_tracked(frame: &mut Frame) {
    if let Some(payload) = without_transactions(&frame.payload) {
        frame.payload = payload;
    }
}

/// An OK packet without that; none where it does not tell of any changes.
fn without_transactions(payload: &[u8]) -> Option<Vec<u8>> {
    let (_, at) = lenenc(payload, 1)?;
    let (_, status_at) = lenenc(payload, at)?;
    let status = u16::from_le_bytes(payload.get(status_at..status_at + 2)?.try_into().ok()?);
    let (info, at) = lenenc(payload, status_at + 4)?;
    let (length, tracked) = lenenc(payload, at + info)?;
    let is_ok = matches!(payload.first(), Some(0x00 | 0xfe)) && tracked + length == payload.len();
    if !is_ok || status & SESSION_STATE_CHANGED == 0 {
        return None;
    }
    let mut kept: Vec<u8> = Vec::new();
    let mut from = tracked;
    while from < payload.len() {
        let (length, start) = lenenc(payload, from + 1)?;
        if !OF_TRANSACTIONS.contains(&payload[from]) {
            kept.extend(payload.get(from..start + length)?);
        }
        from = start + length;
    }
    let mut rest = payload[..at + info].to_vec();
    if kept.is_empty() {
        // Where nothing changed there is not even a length of what did.
        let status = (status & !SESSION_STATE_CHANGED).to_le_bytes();
        rest[status_at..status_at + 2].copy_from_slice(&status);
        rest.truncate(if info == 0 { at - 1 } else { at + info });
        return Some(rest);
    }
    rest.push(u8::try_from(kept.len()).unwrap_or(u8::MAX));
    Some([rest, kept].concat())
}

/// A number of up to 250, or of two bytes, and where what follows it begins.
fn lenenc(payload: &[u8], at: usize) -> Option<(usize, usize)> {
    match *payload.get(at)? {
        0xfc => {
            let bytes = payload.get(at + 1..at + 3)?.try_into().ok()?;
            Some((u16::from_le_bytes(bytes).into(), at + 3))
        }
        number @ 0..=250 => Some((number.into(), at + 1)),
        _ => None,
    }
}
