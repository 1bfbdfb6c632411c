//! What the sessions and whoever makes the faults share: the clock, the weather, the books.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::unit::{Unit, Verdict};

/// Shared by all tasks of a run.
#[derive(Debug)]
pub struct Field {
    start: Instant,
    /// The same moment, in seconds of the day, UTC.
    second: u64,
    /// The sessions are to end.
    stop: AtomicBool,
    /// Sessions pause longer than servers bear.
    idle: AtomicBool,
    /// Packets are cut in the middle, after which only closing is honest.
    cutting: AtomicBool,
    /// Odd while failsoft is down or going down.
    generation: AtomicU64,
    /// The server id of the master in the lower half, and how often that changed in the upper.
    master: AtomicU64,
    books: Mutex<Books>,
}

/// What was counted and recorded.
#[derive(Debug, Default)]
pub struct Books {
    /// Units that are finished, in the order of their ends.
    pub units: Vec<Unit>,
    /// Promises that were broken in an answer, with what shows it; the first ones only.
    pub broken: Vec<String>,
    /// How many there were in all.
    pub broken_count: u64,
    /// Units by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Units by form, with how many of them were acknowledged.
    pub forms: BTreeMap<&'static str, (u64, u64)>,
    /// Errors heard, by number and who made them, with the first of each.
    pub errors: BTreeMap<String, (u64, String)>,
    /// The fault of the moment.
    pub weather: &'static str,
    /// Reads answered, by server id.
    pub reads: BTreeMap<u64, u64>,
    /// Reads that ended with an error, by the error.
    pub read_errors: BTreeMap<String, u64>,
    /// Connections that clients had to make anew.
    pub logins: u64,
    /// The longest time that a statement took, with the statement.
    pub slowest: (Duration, String),
    /// Reads answered so far, by session.
    pub read_by: BTreeMap<u64, u64>,
    /// Units acknowledged so far, by session.
    pub wrote_by: BTreeMap<u64, u64>,
}

/// How many broken promises are kept in words.
const KEPT: usize = 50;

impl Default for Field {
    fn default() -> Self {
        Self::new()
    }
}

impl Field {
    /// The start of a run, with the server of id 1 as master.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the run's clock is read here")]
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: Instant::now(),
            second: since.as_secs() % 86_400,
            stop: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            cutting: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            master: AtomicU64::new(1),
            books: Mutex::default(),
        }
    }

    /// The time since the start of the run.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the run's clock is read here")]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A moment of the run as a second of the day, UTC.
    #[must_use]
    pub const fn seconds(&self, moment: Duration) -> u64 {
        (self.second + moment.as_secs()) % 86_400
    }

    /// A moment of the run as a time of the day, UTC.
    #[must_use]
    pub fn clock(&self, moment: Duration) -> String {
        let second = self.seconds(moment);
        format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
    }

    /// Tells the sessions to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether the sessions are to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Makes sessions pause longer than servers bear, or no longer.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::SeqCst);
    }

    /// Whether sessions pause longer than servers bear.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst)
    }

    /// Packets are going to be cut in the middle, or no longer.
    pub fn set_cutting(&self, cutting: bool) {
        self.cutting.store(cutting, Ordering::SeqCst);
    }

    /// Whether packets are cut in the middle.
    #[must_use]
    pub fn is_cutting(&self) -> bool {
        self.cutting.load(Ordering::SeqCst)
    }

    /// failsoft is going to be down, or is up again.
    pub fn turn(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Which life of failsoft it is; odd while it is down or going down.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Another server becomes the master.
    pub fn set_master(&self, id: u64) {
        let swaps = self.master.load(Ordering::SeqCst) >> 32;
        self.master.store((swaps + 1) << 32 | id, Ordering::SeqCst);
    }

    /// The master's server id in the lower half, changed in the upper with each change.
    #[must_use]
    pub fn master(&self) -> u64 {
        self.master.load(Ordering::SeqCst)
    }

    /// The books.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a broken promise.
    pub fn broken(&self, what: impl FnOnce() -> String) {
        let now = self.now();
        let mut books = self.books();
        books.broken_count += 1;
        if books.broken.len() < KEPT {
            let (what, weather) = (what(), books.weather);
            books.broken.push(format!("{:.3}, {weather}: {what}", now.as_secs_f64()));
        }
    }
}

impl Books {
    /// Enters a finished unit.
    pub fn enter(&mut self, unit: Unit) {
        *self.verdicts.entry(unit.verdict).or_default() += 1;
        let (all, ok) = self.forms.entry(unit.form).or_default();
        *all += 1;
        if unit.verdict == Verdict::Ok {
            *ok += 1;
            *self.wrote_by.entry(unit.session).or_default() += 1;
        }
        self.units.push(unit);
    }

    /// Enters how long a statement took.
    pub fn took(&mut self, time: Duration, statement: &str) {
        if time > self.slowest.0 {
            self.slowest = (time, statement.chars().take(100).collect());
        }
    }
}
