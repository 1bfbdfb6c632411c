//! Which server runs a statement.
//!
//! [`route`] is the one place that answers this question. Its answer carries the reason, which ends
//! up in errors, metrics and `failsoft explain`.

use sql::Kind;

use crate::mode::{Mode, Reason};
use crate::view::{Partition, Reader};

/// The facts of a session and its statement that bear on routing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    /// The connection the session holds.
    pub held: Option<Held>,
    /// The session cannot leave the connection it holds: a transaction is open, or it is pinned.
    pub tied: bool,
    /// A transaction is open, or may be.
    pub in_transaction: bool,
    /// The next statement begins a transaction, whatever it is (`autocommit = 0`).
    pub begins: bool,
    /// A number of the session that spreads sessions over equally good replicas.
    pub spread: u64,
    /// Servers that failed this statement already.
    pub tried: Tried,
}

/// The connection that a session holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Its server, an index into [`View::servers`](crate::view::View::servers).
    pub server: usize,
    /// It was opened to the master for reads and writes.
    pub writes: bool,
}

/// A set of servers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tried(u128);

impl Tried {
    /// The most servers that can be told apart; the configuration allows no more.
    pub const CAPACITY: usize = 128;

    /// Adds a server.
    pub fn add(&mut self, server: usize) {
        if server < Self::CAPACITY {
            self.0 |= 1 << server;
        }
    }

    /// Whether a server is in the set.
    #[must_use]
    pub fn contains(self, server: usize) -> bool {
        server < Self::CAPACITY && self.0 >> server & 1 == 1
    }
}

/// Where a statement goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// To a server.
    Forward {
        /// An index into [`View::servers`](crate::view::View::servers).
        server: usize,
        /// What the connection must be good for.
        access: Access,
        /// What spoke for it.
        why: Why,
    },
    /// Nowhere.
    Refuse(Refusal),
}

/// What a connection is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Reads and writes: opened to the master in its present epoch.
    Write,
    /// Reads: the server itself is told to refuse writes.
    Read,
    /// Whatever the connection in hand is good for.
    Held,
}

/// Why a statement goes where it goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The partition is read-write: the master serves everything.
    Master,
    /// The session is tied to the server it is on.
    Tied,
    /// The partition is read-only, for this reason: a replica serves reads.
    ReadOnly(Reason),
}

/// Why a statement goes nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It may write, and the partition is read-only for this reason.
    ReadOnly(Reason),
    /// It may write, and the session is tied to a server that takes no writes.
    TiedToReplica,
    /// No server is left for it.
    NoServer,
}

impl Refusal {
    /// Whether it would not have come to this, had the servers that were tried been reached.
    #[must_use]
    pub fn is_for_want_of_servers(self) -> bool {
        matches!(self, Self::NoServer | Self::ReadOnly(Reason::Unreachable))
    }
}

/// Whether statements of this kind are refused in read-only mode, as long as their session is not tied.
#[must_use]
pub const fn is_refused_when_read_only(kind: Kind) -> bool {
    matches!(kind, Kind::Write | Kind::LockingRead)
}

/// Picks the server that runs a statement of this `kind`.
#[must_use]
pub fn route(kind: Kind, session: &Session, partition: &Partition) -> Decision {
    let mode = effective_mode(session, partition);
    let writes = is_refused_when_read_only(kind);
    if mode == Mode::ReadOnly(Reason::Paused)
        && let Some(decision) = while_paused(kind, session, partition)
    {
        return decision;
    }
    if let Some(held) = session.held.filter(|_| session.tied) {
        return match mode {
            Mode::ReadOnly(reason) if writes => Decision::Refuse(Refusal::ReadOnly(reason)),
            Mode::ReadWrite if writes && !held.writes => Decision::Refuse(Refusal::TiedToReplica),
            _ => Decision::Forward { server: held.server, access: Access::Held, why: Why::Tied },
        };
    }
    match (mode, partition.master) {
        (Mode::ReadWrite, Some(server)) => {
            Decision::Forward { server, access: Access::Write, why: Why::Master }
        }
        (Mode::ReadWrite, None) => Decision::Refuse(Refusal::NoServer),
        (Mode::ReadOnly(reason), _) if writes => Decision::Refuse(Refusal::ReadOnly(reason)),
        (Mode::ReadOnly(reason), _) => read(session, partition, reason),
    }
}

/// Who holds writes back waits for what has begun to end, and not to be broken off: a session goes on
/// over the connection that it has to the master, but begins nothing there. One that cannot leave its
/// replica waits for nothing.
fn while_paused(kind: Kind, session: &Session, partition: &Partition) -> Option<Decision> {
    let held = session.held?;
    let is_masters = held.writes && partition.master == Some(held.server);
    let begins = kind == Kind::Begin || (session.begins && kind != Kind::Session);
    let goes_on = match kind {
        Kind::Write | Kind::LockingRead => session.in_transaction,
        _ => session.in_transaction || !begins,
    };
    match kind {
        Kind::Write | Kind::LockingRead if session.tied && !held.writes => {
            Some(Decision::Refuse(Refusal::TiedToReplica))
        }
        _ if is_masters && goes_on => {
            Some(Decision::Forward { server: held.server, access: Access::Held, why: Why::Tied })
        }
        _ => None,
    }
}

/// The partition's mode as this statement finds it: a master that could not be reached for it makes
/// it read-only for this one statement.
fn effective_mode(session: &Session, partition: &Partition) -> Mode {
    match partition.master {
        Some(master) if partition.mode.tries_master() => {
            if session.tried.contains(master) {
                Mode::ReadOnly(Reason::Unreachable)
            } else {
                Mode::ReadWrite
            }
        }
        _ => partition.mode,
    }
}

fn read(session: &Session, partition: &Partition, reason: Reason) -> Decision {
    let left = || partition.readers.iter().filter(|reader| !session.tried.contains(reader.server));
    let Some(best) = left().next() else { return Decision::Refuse(Refusal::NoServer) };
    let forward =
        |server| Decision::Forward { server, access: Access::Read, why: Why::ReadOnly(reason) };
    // A session stays with its choice, so that it never sees time run backwards, for as long as
    // nothing is wrong with it that is not wrong with the best.
    let stays = session.held.filter(|held| {
        !held.writes
            && left().any(|r| r.server == held.server && fault(r.grade) <= fault(best.grade))
    });
    if let Some(held) = stays {
        return forward(held.server);
    }
    let peers = || left().filter(|reader| reader.grade == best.grade);
    forward(pick(peers, session.spread).unwrap_or(best.server))
}

/// What is wrong with a reader, without its age.
fn fault(grade: u64) -> u64 {
    grade >> 40
}

/// Picks by weight: `spread` modulo the sum of the weights falls into somebody's share.
fn pick<'a, I: Iterator<Item = &'a Reader>>(peers: impl Fn() -> I, spread: u64) -> Option<usize> {
    let total: u64 = peers().map(|reader| u64::from(reader.weight)).sum();
    let mut left = spread.checked_rem(total)?;
    for reader in peers() {
        let weight = u64::from(reader.weight);
        if left < weight {
            return Some(reader.server);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use Kind::{Begin, Commit, LockingRead, OwnRead, Read, Session as Set, Write};

    /// Server 0 is the master; `readers` are digits, best first, in one grade up to each `|`.
    fn partition(mode: Mode, readers: &str) -> Partition {
        let mut grade = 0;
        let mut list = Vec::new();
        for letter in readers.chars() {
            match letter.to_digit(10) {
                Some(digit) => list.push(Reader { server: digit as usize, grade, weight: 1 }),
                None => grade += 1 << 40,
            }
        }
        Partition {
            name: "default".into(),
            mode,
            since: UNIX_EPOCH,
            detail: "".into(),
            master: Some(0),
            epoch: 1,
            hold: None,
            readers: list,
        }
    }

    /// `m` holds the master, a digit holds that replica; a `!` after it: tied, `t`: by a transaction,
    /// `0`: autocommit is off.
    fn session(shape: &str, tried: &str, spread: u64) -> Session {
        let held = shape.chars().next().map(|c| match c.to_digit(10) {
            Some(digit) => Held { server: digit as usize, writes: false },
            None => Held { server: 0, writes: true },
        });
        let mut set = Tried::default();
        tried.chars().for_each(|c| set.add(c.to_digit(10).unwrap() as usize));
        let in_transaction = shape.ends_with('t');
        let tied = in_transaction || shape.ends_with('!');
        let begins = shape.len() > 1 && shape.ends_with('0');
        Session { held, tied, in_transaction, begins, spread, tried: set }
    }

    fn show(decision: Decision) -> String {
        match decision {
            Decision::Forward { server, access, why } => format!("{server} {access:?} {why:?}"),
            Decision::Refuse(refusal) => format!("{refusal:?}"),
        }
    }

    #[test]
    fn decisions() {
        let rw = Mode::ReadWrite;
        let ro = Mode::ReadOnly(Reason::Severed);
        let un = Mode::ReadOnly(Reason::Unreachable);
        let pa = Mode::ReadOnly(Reason::Paused);
        // mode, readers, held, tried, spread, kind, decision
        #[rustfmt::skip]
        let table = [
            (rw, "120", "",   "",    0, Read,        "0 Write Master"),
            (rw, "120", "",   "",    0, Write,       "0 Write Master"),
            (rw, "120", "1",  "",    0, Read,        "0 Write Master"),
            (rw, "120", "1!", "",    0, Read,        "1 Held Tied"),
            (rw, "120", "1!", "",    0, Write,       "TiedToReplica"),
            (rw, "120", "m!", "",    0, Write,       "0 Held Tied"),
            (rw, "12|0", "",  "0",   0, Read,        "1 Read ReadOnly(Unreachable)"),
            (rw, "12|0", "",  "0",   1, Read,        "2 Read ReadOnly(Unreachable)"),
            (rw, "12|0", "2", "0",   0, Read,        "2 Read ReadOnly(Unreachable)"),
            (rw, "12|0", "",  "01",  0, Read,        "2 Read ReadOnly(Unreachable)"),
            (rw, "12|0", "",  "012", 0, Read,        "NoServer"),
            (rw, "12|0", "",  "0",   0, Write,       "ReadOnly(Unreachable)"),
            (rw, "12|0", "",  "0",   0, LockingRead, "ReadOnly(Unreachable)"),
            (un, "12|0", "",  "",    0, Write,       "0 Write Master"),
            (un, "12|0", "",  "0",   0, Write,       "ReadOnly(Unreachable)"),
            (ro, "12",  "",   "",    0, Write,       "ReadOnly(Severed)"),
            (ro, "12",  "m!", "",    0, Write,       "ReadOnly(Severed)"),
            (ro, "12",  "m!", "",    0, Commit,      "0 Held Tied"),
            (ro, "12",  "mt", "",    0, Write,       "ReadOnly(Severed)"),
            (pa, "12",  "",   "",    0, Write,       "ReadOnly(Paused)"),
            (pa, "12",  "",   "",    0, Read,        "1 Read ReadOnly(Paused)"),
            (pa, "12",  "mt", "",    0, Write,       "0 Held Tied"),
            (pa, "12",  "mt", "",    0, Commit,      "0 Held Tied"),
            (pa, "12",  "m!", "",    0, Write,       "ReadOnly(Paused)"),
            (pa, "12",  "m",  "",    0, Write,       "ReadOnly(Paused)"),
            (pa, "12",  "m",  "",    0, Read,        "0 Held Tied"),
            (pa, "12",  "m",  "",    0, OwnRead,     "0 Held Tied"),
            (pa, "12",  "m",  "",    0, Begin,       "1 Read ReadOnly(Paused)"),
            (pa, "12",  "m0", "",    0, Read,        "1 Read ReadOnly(Paused)"),
            (pa, "12",  "m0", "",    0, Set,         "0 Held Tied"),
            (pa, "12",  "m!", "",    0, Read,        "0 Held Tied"),
            (pa, "12",  "1",  "",    0, Write,       "ReadOnly(Paused)"),
            (pa, "12",  "1t", "",    0, Write,       "TiedToReplica"),
            (pa, "12",  "1t", "",    0, Commit,      "1 Held Tied"),
            (ro, "12",  "",   "",    0, Begin,       "1 Read ReadOnly(Severed)"),
            (ro, "12",  "",   "",    0, Set,         "1 Read ReadOnly(Severed)"),
            (ro, "12",  "2",  "",    0, OwnRead,     "2 Read ReadOnly(Severed)"),
            (ro, "1|2", "2",  "",    0, Read,        "1 Read ReadOnly(Severed)"),
            (ro, "1|2", "2!", "",    0, Read,        "2 Held Tied"),
            (ro, "0",   "m",  "",    0, Read,        "0 Read ReadOnly(Severed)"),
            (ro, "",    "",   "",    0, Read,        "NoServer"),
        ];
        for (mode, readers, held, tried, spread, kind, expected) in table {
            let decision = route(kind, &session(held, tried, spread), &partition(mode, readers));
            assert_eq!(show(decision), expected, "{mode:?} {readers} {held} {tried} {kind:?}");
        }
    }

    #[test]
    fn weights_share_out_sessions() {
        let mut partition = partition(Mode::ReadOnly(Reason::Severed), "12");
        partition.readers[0].weight = 3;
        let mut counts = [0; 3];
        for spread in 0..400 {
            match route(Read, &session("", "", spread), &partition) {
                Decision::Forward { server, .. } => counts[server] += 1,
                Decision::Refuse(refusal) => panic!("{refusal:?}"),
            }
        }
        assert_eq!(counts, [0, 300, 100]);
    }
}
