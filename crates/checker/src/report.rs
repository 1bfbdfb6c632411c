//! What a run found, for people.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::faults::Kind;
use crate::run::Findings;
use crate::stand::{Plan, Stand};
use crate::unit::Verdict;

/// What a run found.
#[derive(Debug)]
pub struct Report {
    text: String,
    wrong: Vec<String>,
    kinds: usize,
}

impl Report {
    /// Sums up a run.
    pub(crate) fn new(plan: &Plan, stand: &Stand, findings: Findings) -> Self {
        let mut text = String::new();
        write(&mut text, plan, stand, &findings).expect("a string takes everything");
        Self { text, kinds: findings.faults.len(), wrong: findings.wrong }
    }

    /// What is wrong; nothing, if failsoft keeps its promise.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// How many kinds of faults there were.
    #[must_use]
    pub const fn kinds(&self) -> usize {
        self.kinds
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for wrong in self.wrong.iter().take(10) {
            writeln!(f, "WRONG: {wrong}")?;
        }
        if self.wrong.len() > 10 {
            writeln!(f, "and {} more", self.wrong.len() - 10)?;
        }
        Ok(())
    }
}

/// A line of progress.
pub(crate) fn progress(stand: &Stand, made: usize, findings: &Findings) -> String {
    let books = stand.field.books();
    let count = |verdict| books.verdicts.get(&verdict).copied().unwrap_or(0);
    let reads: u64 = books.reads.values().sum();
    let errors: u64 = books.read_errors.values().sum();
    format!(
        "{} {:>4} s: {made} faults, {} units: {} ok, {} unknown; {reads} reads, {errors} of them \
         with an error; {} wrong; {} MiB",
        stand.servers[0].flavor(),
        stand.field.now().as_secs(),
        books.verdicts.values().sum::<u64>(),
        count(Verdict::Ok),
        count(Verdict::Unknown),
        findings.wrong.len() as u64 + books.broken_count,
        findings.memory >> 10,
    )
}

fn write(text: &mut String, plan: &Plan, stand: &Stand, findings: &Findings) -> fmt::Result {
    let books = stand.field.books();
    let server = stand.servers[0].program();
    writeln!(text, "\n{} {}, seed {}", plan.flavor, server.version(), plan.seed)?;
    let network = if stand.network.is_some() { "a network of its own" } else { "loopback only" };
    writeln!(
        text,
        "{} sessions for {} s on {network}; {} connections made; at most {} MiB of memory",
        plan.clients,
        stand.field.now().as_secs(),
        books.logins,
        findings.memory >> 10
    )?;
    let all: u64 = findings.faults.values().sum();
    writeln!(text, "\n| fault | times |\n| --- | ---: |")?;
    for kind in Kind::all(true) {
        if let Some(times) = findings.faults.get(&kind) {
            writeln!(text, "| {} | {times} |", kind.name())?;
        }
    }
    writeln!(text, "| all {} kinds | {all} |", findings.faults.len())?;
    let units: u64 = books.verdicts.values().sum();
    writeln!(text, "\n| what the client was told | units | share |\n| --- | ---: | ---: |")?;
    for verdict in Verdict::ALL {
        let count = books.verdicts.get(&verdict).copied().unwrap_or(0);
        writeln!(text, "| {} | {count} | {} |", verdict.name(), share(count, units))?;
    }
    writeln!(text, "| all | {units} | |")?;
    writeln!(text, "\n| unit | run | ok |\n| --- | ---: | ---: |")?;
    for (form, (run, ok)) in &books.forms {
        writeln!(text, "| {form} | {run} | {ok} |")?;
    }
    writeln!(text, "\n| error | times |\n| --- | ---: |")?;
    for (error, (times, _)) in &books.errors {
        writeln!(text, "| {error} | {times} |")?;
    }
    writeln!(text, "\nthe first of each:")?;
    for (_, first) in books.errors.values() {
        writeln!(text, "- {first}")?;
    }
    writeln!(text, "\n| reads | times |\n| --- | ---: |")?;
    for (server, times) in &books.reads {
        writeln!(text, "| answered by server {server} | {times} |")?;
    }
    for (error, times) in &books.read_errors {
        writeln!(text, "| ended with {error} | {times} |")?;
    }
    let (time, statement) = &books.slowest;
    writeln!(text, "\nslowest statement: {}, {statement}", seconds(*time))?;
    writeln!(text, "wrong: {}", findings.wrong.len())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share(part: u64, all: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / all.max(1) as f64)
}
