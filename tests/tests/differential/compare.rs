//! Compares what a script heard on a direct connection with what it heard through failsoft.

use testkit::Frame;

use crate::allowed::ALLOWED;
use crate::raw::{com, show};
use crate::run::{End, Reply};
use crate::script::{Script, Step};

/// An answer that tells of a lost server. After one a session has nothing to compare any more.
#[derive(Clone, Copy, Debug)]
struct Honest {
    /// What it is, for those who count.
    name: &'static str,
    code: u16,
    /// What it says.
    words: &'static str,
    /// When it may be heard.
    after: Loss,
}

/// How a server was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// With something that no other server can be given. Not allowed where there is nothing such.
    OfState,
    /// With what failsoft asked for by itself after an error.
    OfAnswer,
    /// In the middle of an exchange.
    InFlight,
}

/// All such answers.
const HONEST: &[Honest] = &[
    honest("state lost", 1053, "what is known of its transaction", Loss::OfAnswer),
    honest("state lost", 1053, "Session state lost: ", Loss::OfState),
    honest("transaction lost", 1213, "Transaction was rolled back: ", Loss::OfState),
    honest(
        "long data lost",
        1210,
        "the data sent for a parameter reached no server",
        Loss::OfState,
    ),
    honest("outcome unknown", 1180, "Outcome unknown: ", Loss::InFlight),
    honest("interrupted", 1317, "Result interrupted: ", Loss::InFlight),
    honest("no server", 1053, "No server of partition", Loss::InFlight),
    honest("no master", 1290, "could not be reached", Loss::InFlight),
];

const fn honest(name: &'static str, code: u16, words: &'static str, after: Loss) -> Honest {
    Honest { name, code, words, after }
}

/// How two runs of a script compare.
#[derive(Clone, Debug)]
pub enum Verdict {
    Equal,
    /// The proxied session was told that it lost something with its server, with these words.
    Told(&'static str),
    Different(Difference),
}

/// The first difference of two runs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The step, where it is one that differs.
    pub at: Option<usize>,
    pub what: String,
}

impl Verdict {
    /// A difference that is not one step's.
    pub const fn different(what: String) -> Self {
        Self::Different(Difference { at: None, what })
    }

    const fn different_at(at: usize, what: String) -> Self {
        Self::Different(Difference { at: Some(at), what })
    }
}

/// The verdict on a script, and which differences there were that may be.
#[derive(Debug)]
pub struct Comparison {
    pub verdict: Verdict,
    pub explained: Vec<&'static str>,
}

/// Compares the replies of a script on a direct connection and through failsoft.
pub fn compare(script: &Script, direct: &[Reply], through: &[Reply]) -> Comparison {
    let mut explained = Vec::new();
    let verdict = verdict(script, direct, through, &mut explained);
    Comparison { verdict, explained }
}

fn verdict(
    script: &Script,
    direct: &[Reply],
    through: &[Reply],
    explained: &mut Vec<&'static str>,
) -> Verdict {
    if let Some(verdict) = compare_logins(&direct[0], &through[0]) {
        return verdict;
    }
    if let Some(reply) = direct.last().filter(|reply| reply.end == End::Silent) {
        let (at, shown) = (direct.len() - 2, shown(reply, reply.frames.len().saturating_sub(1)));
        let text = format!("step {at}: the server itself does not answer any more after {shown}");
        return Verdict::different(text);
    }
    let (mut is_cut, mut is_asking, mut is_armed) = (script.is_shared, false, false);
    for (at, step) in script.steps.iter().enumerate() {
        is_cut |= step.cuts();
        is_asking |= step.cuts() && !matches!(step, Step::Cut { after_ping: true });
        is_armed |= matches!(step, Step::CutAfter { .. });
        let (expected, seen) = match (direct.get(at + 1), through.get(at + 1)) {
            (Some(expected), Some(seen)) if expected == seen => continue,
            (Some(expected), Some(seen)) => clean(step, [expected, seen], is_cut, explained),
            (None, None) => break,
            (expected, _) => {
                let who = if expected.is_none() { "direct" } else { "proxied" };
                let text = format!("step {at}: the {who} session is over already");
                return Verdict::different_at(at, text);
            }
        };
        if expected == seen {
            continue;
        }
        if is_hung_up_on(script, at, &seen) {
            return Verdict::Told("hung up on, with a schema in doubt");
        }
        let first = first_difference(&expected, &seen);
        if is_cut && is_broken(&expected, first) {
            return Verdict::Told("whole again, a statement that the client had broken");
        }
        let may = |loss| match loss {
            Loss::OfState => is_cut && (!script.is_carried || is_armed || script.is_shared),
            Loss::OfAnswer => is_asking,
            Loss::InFlight => is_armed,
        };
        return match told(script, step, &expected, &seen, first) {
            Some((name, loss)) if may(loss) => Verdict::Told(name),
            _ => {
                let (direct, through) = (shown(&expected, first), shown(&seen, first));
                let text = format!(
                    "step {at}, packet {first}\n    direct   {direct}\n    failsoft {through}"
                );
                Verdict::different_at(at, text)
            }
        };
    }
    Verdict::Equal
}

/// MariaDB keeps the schema where it refuses a change of user. failsoft hangs up instead, as MySQL does,
/// where some packet before failed and may have chosen one.
fn is_hung_up_on(script: &Script, at: usize, seen: &Reply) -> bool {
    let is_refused = matches!(script.steps.get(at), Some(Step::ChangeUser { wrong: true, .. }));
    let may_have_chosen = |step: &Step| format!("{step:?}").to_ascii_lowercase().contains("use ");
    is_refused && seen.end == End::Closed && script.steps[..at].iter().any(may_have_chosen)
}

/// MariaDB refuses a statement that was given data for a parameter that it does not have, until it is
/// reset. Prepared again it is as good as new.
fn is_broken(expected: &Reply, first: usize) -> bool {
    let error = expected.frames.get(first).and_then(Frame::error);
    error.is_some_and(|(code, _, text)| code == 1210 && text.contains("send_long_data"))
}

fn first_difference(expected: &Reply, seen: &Reply) -> usize {
    let first = expected.frames.iter().zip(&seen.frames).position(|(a, b)| a != b);
    first.unwrap_or_else(|| expected.frames.len().min(seen.frames.len()))
}

/// What of a loss the first packet that differs tells of.
fn told(
    script: &Script,
    step: &Step,
    expected: &Reply,
    seen: &Reply,
    first: usize,
) -> Option<(&'static str, Loss)> {
    let step = match step {
        Step::Burst(steps) => {
            let part = expected.parts.iter().rposition(|&start| start <= first);
            part.and_then(|part| steps.get(part)).unwrap_or(step)
        }
        _ => step,
    };
    let Some(frame) = seen.frames.get(first) else {
        // In the middle of a packet nothing else can be done.
        return (seen.end == End::Closed).then_some(("closed", Loss::InFlight));
    };
    if expected.frames.get(first).is_some_and(|expected| is_aside(script, step, expected, frame)) {
        return Some(("transaction lost", Loss::OfState));
    }
    let (code, _, text) = frame.error()?;
    let mut all = HONEST.iter().filter(|honest| honest.code == code);
    all.find(|honest| text.contains(honest.words)).map(|honest| (honest.name, honest.after))
}

/// A login is failsoft's own affair up to whether it is let in. The servers' OK may tell of session
/// state, which a login that asks no server cannot.
fn compare_logins(direct: &Reply, through: &Reply) -> Option<Verdict> {
    let is_in = |reply: &Reply| reply.frames.last().is_some_and(Frame::is_ok);
    (is_in(direct) != is_in(through)).then(|| {
        let (direct, through) = (shown(direct, 0), shown(through, 0));
        Verdict::different(format!("login\n    direct   {direct}\n    failsoft {through}"))
    })
}

fn shown(reply: &Reply, at: usize) -> String {
    let all = reply.frames.len();
    let packet = reply.frames.get(at).map_or_else(|| "nothing".to_owned(), show);
    format!("{packet} (of {all} packets, {:?})", reply.end)
}

/// A session whose transaction is lost is not told at a ping, a SET or when a statement is reset, but
/// at what follows: those have nothing to do with the transaction. There is only none in the status
/// any more.
fn is_aside(script: &Script, step: &Step, expected: &Frame, seen: &Frame) -> bool {
    const IN_TRANSACTION: u8 = 1;
    const READ_ONLY: u8 = 1 << 5;
    let is_asked = match step {
        Step::Command { code, .. } => *code == com::PING,
        Step::Option(_) | Step::Cut { .. } | Step::Reset { .. } => true,
        Step::Query { sql, .. } => is_set(sql),
        Step::Execute { slot, .. } => script.prepared_in(*slot).any(is_set),
        _ => false,
    };
    let mut without = expected.payload.clone();
    if let [0 | 0xfe, 0, 0, low, high, ..] = without.as_mut_slice() {
        *low &= !IN_TRANSACTION;
        *high &= !READ_ONLY;
    }
    is_asked && without == seen.payload
}

fn is_set(sql: &str) -> bool {
    sql.starts_with("SET ") && !sql.contains(';')
}

/// Both replies without what may differ; adds the kinds of what did.
fn clean(
    step: &Step,
    replies: [&Reply; 2],
    is_cut: bool,
    explained: &mut Vec<&'static str>,
) -> (Reply, Reply) {
    let [mut expected, mut seen] = replies.map(Reply::clone);
    let mut left = differing(&expected, &seen);
    for allowed in ALLOWED.iter().filter(|allowed| is_cut || !allowed.after_loss) {
        (allowed.forget)(step, &mut expected);
        (allowed.forget)(step, &mut seen);
        let now = differing(&expected, &seen);
        if now < left {
            explained.push(allowed.name);
            left = now;
        }
    }
    (expected, seen)
}

/// How many packets differ, and the end where that does.
fn differing(expected: &Reply, seen: &Reply) -> usize {
    let differ = expected.frames.iter().zip(&seen.frames).filter(|(a, b)| a != b).count();
    let more = expected.frames.len().abs_diff(seen.frames.len());
    differ + more + usize::from(expected.end != seen.end)
}
