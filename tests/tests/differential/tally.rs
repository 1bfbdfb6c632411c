//! What came of a run, and how far it is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::run::Reply;
use crate::script::{Script, Step};

/// How often a long run says how far it is.
const EVERY: Duration = Duration::from_secs(30);

/// The most sessions of a hundred that may be compared in part only.
const MOST_IN_PART: u64 = 2;
/// So few are no sign of anything in a short run.
const FEW: u64 = 2;

/// What a difference turned out to be.
#[derive(Debug)]
pub enum Finding {
    /// It did not come again.
    Once(String),
    /// Two direct sessions differ in so many steps, and without them there is no difference.
    Varies(usize),
    /// Two direct sessions differ too much to say.
    Excused(String),
    /// A difference, with its report.
    Failure(String),
}

/// What came of it.
#[derive(Debug)]
pub struct Tally {
    /// What is run, for the lines that are printed.
    what: String,
    /// How many sessions are to be run.
    planned: u64,
    started: Instant,
    said: Instant,
    sessions: u64,
    statements: usize,
    packets: usize,
    errors: usize,
    cuts: usize,
    /// Sessions that were told of a loss, which ended their comparison, by what they were told.
    told: BTreeMap<&'static str, u64>,
    /// Steps that differed as they may, by kind.
    explained: BTreeMap<&'static str, u64>,
    /// Sessions that differed once and not again.
    once: u64,
    /// Sessions that are equal but for steps in which two direct ones differ, and those steps.
    varying: u64,
    left_out: usize,
    /// Sessions of which nothing can be said, as two direct ones differ too much.
    excused: u64,
    pub failures: Vec<String>,
}

impl Tally {
    pub fn new(what: String, planned: u64) -> Self {
        let (started, said) = (Instant::now(), Instant::now());
        Self {
            what,
            planned,
            started,
            said,
            sessions: 0,
            statements: 0,
            packets: 0,
            errors: 0,
            cuts: 0,
            told: BTreeMap::new(),
            explained: BTreeMap::new(),
            once: 0,
            varying: 0,
            left_out: 0,
            excused: 0,
            failures: Vec::new(),
        }
    }

    /// Counts a session, by what the direct connection answered.
    pub fn count(&mut self, script: &Script, replies: &[Reply], explained: &[&'static str]) {
        let frames = || replies.iter().flat_map(|reply| &reply.frames);
        let sent = script.steps.iter().take(replies.len() - 1);
        self.sessions += 1;
        self.statements += sent.clone().map(Step::statements).sum::<usize>();
        self.packets += frames().count();
        self.errors += frames().filter(|frame| frame.is_err()).count();
        self.cuts += sent.filter(|step| step.cuts()).count();
        for kind in explained {
            *self.explained.entry(*kind).or_default() += 1;
        }
        if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            println!("{self}");
        }
    }

    /// Counts a session that was told of a loss.
    pub fn told(&mut self, name: &'static str) {
        *self.told.entry(name).or_default() += 1;
    }

    /// Counts what a difference turned out to be.
    pub fn found(&mut self, seed: u64, finding: Finding) {
        match finding {
            Finding::Once(what) => {
                self.once += 1;
                println!("{}: seed {seed} differed once, and not again: {what}", self.what);
            }
            Finding::Varies(steps) => {
                self.varying += 1;
                self.left_out += steps;
                println!("{}: seed {seed} is equal without {steps} steps that vary", self.what);
            }
            Finding::Excused(what) => {
                self.excused += 1;
                println!("{}: seed {seed} differs in two direct sessions, too: {what}", self.what);
            }
            Finding::Failure(report) => self.failures.push(report),
        }
    }

    /// Whether so many sessions were compared in part only that the rest says little.
    pub const fn says_little(&self) -> bool {
        let in_part = self.once + self.varying + self.excused;
        in_part > FEW && in_part * 100 > self.sessions * MOST_IN_PART
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, planned, seconds) =
            (self.sessions, self.planned, self.started.elapsed().as_secs());
        writeln!(
            f,
            "{}: {done} of {planned} sessions in {seconds} s, {} statements, {} packets compared \
             ({} errors), {} losses of the server",
            self.what, self.statements, self.packets, self.errors, self.cuts
        )?;
        let told: u64 = self.told.values().sum();
        writeln!(f, "  {told} sessions were told of a loss: {:?}", self.told)?;
        writeln!(f, "  steps that differed as they may: {:?}", self.explained)?;
        write!(
            f,
            "  {} sessions differed once and not again; {} are equal without {} steps in which two \
             direct ones differ, {} excused for such; {} differences",
            self.once,
            self.varying,
            self.left_out,
            self.excused,
            self.failures.len()
        )
    }
}
