//! What clients ask, by digest: how often, how long it took, who answered.
//!
//! Making a digest costs as much as relaying the statement, so each core makes only so many a second
//! and lets the others go by; the next that is looked at counts for them as well. Below that rate the
//! numbers are exact, above it they are estimates from a sample. Slow statements are all looked at.
//!
//! A core counts in a table of its own ([`Local`]) that reaches the shared one ([`Statements`]) by a
//! flush. Both are bounded: in a full one the digest that was seen least makes room.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sql::Kind;

use crate::occasional::Occasional;
use crate::sampler::Sampler;
use crate::worker::Target;

/// The digests that are kept.
pub const MOST_DIGESTS: usize = 1000;

/// The digests that one core keeps between two flushes.
const MOST_LOCAL: usize = 200;

/// The slow statements that are kept.
pub const MOST_SLOW: usize = 100;

/// From one slow statement that is logged to the next: where all are slow, the log is not what makes it worse.
const SLOW_PAUSE: Duration = Duration::from_millis(100);

/// Accounts that are kept of each digest.
const MOST_USERS: usize = 4;

/// How a statement came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// With a result.
    Done,
    /// With an error of the server's.
    Failed,
    /// With an error of failsoft's, before anything was sent.
    Refused,
}

/// One statement that was looked at.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The statement without its values.
    pub digest: String,
    /// What it asks.
    pub class: Kind,
    /// Who answered.
    pub target: Target,
    /// How it came out.
    pub ending: Ending,
    /// The account that asked.
    pub user: &'a str,
    /// From the statement to the end of its answer.
    pub took: Duration,
    /// How many statements it stands for, itself among them.
    pub weight: u64,
}

/// What is known of all statements of one digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Digest {
    /// A number for the text.
    pub id: u64,
    /// The statements without their values.
    pub text: String,
    /// What they ask.
    pub class: Kind,
    /// How many there were, refused ones included.
    pub count: u64,
    /// How many a server answered with an error.
    pub failed: u64,
    /// How many failsoft refused.
    pub refused: u64,
    /// How many the master answered.
    pub by_master: u64,
    /// How many a replica answered.
    pub by_replica: u64,
    /// How long they took together.
    pub total: Duration,
    /// How long the slowest took of those that were looked at.
    pub slowest: Duration,
    /// The accounts that asked, the first few.
    pub users: Vec<String>,
    /// When the last was seen.
    pub last: SystemTime,
}

impl Digest {
    fn new(id: u64, seen: &mut Seen<'_>, now: SystemTime) -> Self {
        Self {
            id,
            text: std::mem::take(&mut seen.digest),
            class: seen.class,
            count: 0,
            failed: 0,
            refused: 0,
            by_master: 0,
            by_replica: 0,
            total: Duration::ZERO,
            slowest: Duration::ZERO,
            users: Vec::new(),
            last: now,
        }
    }

    fn add(&mut self, seen: &Seen<'_>, now: SystemTime) {
        let Seen { weight, took, .. } = *seen;
        self.count += weight;
        match seen.ending {
            Ending::Done => {}
            Ending::Failed => self.failed += weight,
            Ending::Refused => self.refused += weight,
        }
        match seen.target {
            Target::Master => self.by_master += weight,
            Target::Replica => self.by_replica += weight,
            Target::Own => {}
        }
        self.total += took.saturating_mul(u32::try_from(weight).unwrap_or(u32::MAX));
        self.slowest = self.slowest.max(took);
        self.note_user(seen.user);
        self.last = now;
    }

    fn note_user(&mut self, user: &str) {
        if self.users.len() < MOST_USERS && !self.users.iter().any(|known| known == user) {
            self.users.push(user.to_owned());
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.failed += other.failed;
        self.refused += other.refused;
        self.by_master += other.by_master;
        self.by_replica += other.by_replica;
        self.total += other.total;
        self.slowest = self.slowest.max(other.slowest);
        other.users.iter().for_each(|user| self.note_user(user));
        self.last = self.last.max(other.last);
    }
}

/// A statement that took long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slow {
    /// When it ended.
    pub at: SystemTime,
    /// The statement without its values.
    pub digest: String,
    /// From the statement to the end of its answer.
    pub took: Duration,
    /// From the statement to the first byte of its answer.
    pub first_byte: Duration,
    /// The account that asked.
    pub user: String,
    /// Where the client is.
    pub client: String,
    /// Its current schema; empty for none.
    pub schema: String,
    /// The server that answered; empty where none did.
    pub server: String,
}

/// Digests by their number, with a limit.
#[derive(Debug)]
struct Table {
    digests: HashMap<u64, Digest>,
    most: usize,
}

impl Table {
    fn new(most: usize) -> Self {
        Self { digests: HashMap::new(), most }
    }

    /// Makes room for another digest.
    fn make_room(&mut self) {
        if self.digests.len() < self.most {
            return;
        }
        let least = self.digests.values().min_by_key(|digest| (digest.count, digest.last));
        if let Some(id) = least.map(|digest| digest.id) {
            self.digests.remove(&id);
        }
    }

    fn add(&mut self, id: u64, mut seen: Seen<'_>, now: SystemTime) {
        if !self.digests.contains_key(&id) {
            self.make_room();
        }
        let digest = self.digests.entry(id).or_insert_with(|| Digest::new(id, &mut seen, now));
        digest.add(&seen, now);
    }

    fn merge(&mut self, other: Digest) {
        if let Some(known) = self.digests.get_mut(&other.id) {
            known.merge(other);
            return;
        }
        self.make_room();
        self.digests.insert(other.id, other);
    }
}

/// What one core counts between two flushes.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) sampler: Sampler,
    table: Table,
    /// Since which reset the table counts.
    resets: u64,
    shared: Statements,
}

impl Local {
    pub(crate) fn new(shared: Statements) -> Self {
        Self { sampler: Sampler::default(), table: Table::new(MOST_LOCAL), resets: 0, shared }
    }

    /// Enters a statement that was looked at.
    pub(crate) fn enter(&mut self, seen: Seen<'_>) {
        let resets = self.shared.0.resets.load(Ordering::Relaxed);
        if resets != self.resets {
            self.table.digests.clear();
            self.resets = resets;
        }
        let id = self.shared.0.hasher.hash_one((&seen.digest, seen.class.name()));
        self.table.add(id, seen, SystemTime::now());
    }

    pub(crate) fn enter_slow(&self, slow: Slow, now: Instant) {
        self.shared.enter_slow(slow, now);
    }

    pub(crate) fn flush(&mut self) {
        if self.table.digests.is_empty() {
            return;
        }
        let mut kept = self.shared.kept();
        // What was counted before a reset is not counted any more.
        let is_old = self.shared.0.resets.load(Ordering::Relaxed) != self.resets;
        for (_, digest) in self.table.digests.drain().filter(|_| !is_old) {
            kept.digests.merge(digest);
        }
    }
}

/// What clients ask, of all cores together.
#[derive(Clone, Debug)]
pub struct Statements(Arc<All>);

#[derive(Debug)]
struct All {
    hasher: RandomState,
    /// How often it was begun anew.
    resets: AtomicU64,
    kept: Mutex<Kept>,
    logged: Occasional,
}

#[derive(Debug)]
struct Kept {
    digests: Table,
    since: SystemTime,
    slow: VecDeque<Slow>,
}

impl Default for Statements {
    fn default() -> Self {
        let (digests, slow) = (Table::new(MOST_DIGESTS), VecDeque::new());
        let kept = Mutex::new(Kept { digests, since: SystemTime::now(), slow });
        let (hasher, resets) = (RandomState::new(), AtomicU64::new(0));
        Self(Arc::new(All { hasher, resets, kept, logged: Occasional::new(SLOW_PAUSE) }))
    }
}

impl Statements {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every digest that is kept, in no order, and since when they are counted.
    #[must_use]
    pub fn digests(&self) -> (Vec<Digest>, SystemTime) {
        let kept = self.kept();
        (kept.digests.digests.values().cloned().collect(), kept.since)
    }

    /// The slow statements that are kept, the latest first.
    #[must_use]
    pub fn slow(&self) -> Vec<Slow> {
        self.kept().slow.iter().rev().cloned().collect()
    }

    /// Begins anew.
    pub fn reset(&self) {
        let mut kept = self.kept();
        self.0.resets.fetch_add(1, Ordering::Relaxed);
        kept.digests.digests.clear();
        kept.slow.clear();
        kept.since = SystemTime::now();
    }

    fn enter_slow(&self, slow: Slow, now: Instant) {
        if let Some(text) = self.0.logged.text(&slow.digest, now) {
            tracing::warn!(
                took_ms = slow.took.as_millis(),
                first_byte_ms = slow.first_byte.as_millis(),
                user = slow.user,
                client = slow.client,
                schema = slow.schema,
                server = slow.server,
                "slow statement: {text}"
            );
        }
        let mut kept = self.kept();
        if kept.slow.len() == MOST_SLOW {
            kept.slow.pop_front();
        }
        kept.slow.push_back(slow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(digest: &str, weight: u64, ending: Ending) -> Seen<'_> {
        Seen {
            digest: digest.to_owned(),
            class: Kind::Write,
            target: Target::Master,
            ending,
            user: "app",
            took: Duration::from_millis(10),
            weight,
        }
    }

    #[test]
    fn what_cores_count_comes_together() {
        let all = Statements::default();
        let (mut one, mut other) = (Local::new(all.clone()), Local::new(all.clone()));
        one.enter(seen("INSERT", 1, Ending::Done));
        one.enter(seen("INSERT", 3, Ending::Failed));
        other.enter(Seen { user: "job", ..seen("INSERT", 1, Ending::Refused) });
        other.enter(Seen { class: Kind::Read, ..seen("INSERT", 1, Ending::Done) });
        assert!(all.digests().0.is_empty(), "nothing before the flush");
        one.flush();
        other.flush();
        let (mut digests, _) = all.digests();
        digests.sort_by_key(|digest| digest.count);
        let [read, write] = &digests[..] else { panic!("{digests:?}") };
        assert_eq!((read.class, read.count), (Kind::Read, 1));
        assert_eq!((write.count, write.failed, write.refused, write.by_master), (5, 3, 1, 5));
        assert_eq!((write.total, write.slowest), (Duration::from_millis(50), read.slowest));
        assert_eq!(write.users, ["app", "job"]);
        one.enter(seen("INSERT", 1, Ending::Done));
        all.reset();
        one.flush();
        assert!(all.digests().0.is_empty(), "what was counted before is gone");
        one.enter(seen("INSERT", 1, Ending::Done));
        one.flush();
        assert_eq!(all.digests().0.len(), 1);
    }

    #[test]
    fn of_too_many_digests_those_that_were_seen_least_go() {
        let mut table = Table::new(3);
        for (id, weight) in [(1, 5), (2, 1), (3, 7), (4, 2), (5, 3)] {
            table.add(id, seen("x", weight, Ending::Done), SystemTime::UNIX_EPOCH);
        }
        let mut left: Vec<u64> = table.digests.into_keys().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 3, 5]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "there is no other way to an instant")]
    fn the_latest_slow_ones_are_kept() {
        let (all, now) = (Statements::default(), Instant::now());
        for number in 0..MOST_SLOW + 5 {
            let slow = Slow {
                at: SystemTime::UNIX_EPOCH,
                digest: number.to_string(),
                took: Duration::from_secs(2),
                first_byte: Duration::from_secs(1),
                user: String::new(),
                client: String::new(),
                schema: String::new(),
                server: String::new(),
            };
            all.enter_slow(slow, now);
        }
        let slow = all.slow();
        assert_eq!((slow.len(), slow[0].digest.as_str()), (MOST_SLOW, "104"));
    }
}
