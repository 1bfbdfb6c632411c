//! A whole run: sessions, faults, audits, and the end.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::audit;
use crate::course::{Course, Next};
use crate::faults::{self, Kind};
use crate::liar::{Liar, Lie};
use crate::network::Network;
use crate::report::Report;
use crate::session::{self, Habits};
use crate::stand::{PATIENCE, Plan, Stand};

/// How much more memory a life of failsoft may use than at its beginning, in KiB.
const GROWTH: u64 = 48 << 10;
/// How many files failsoft may have open when nobody is there.
const FILES: usize = 80;

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// After so many faults.
    pub faults: usize,
    /// After so much time, whatever comes first.
    pub time: Duration,
    /// Laps of faults on one route.
    pub laps: usize,
    /// The most faults of a lap.
    pub most: usize,
    /// Whether a line is printed each minute, with an audit.
    pub progress: bool,
}

/// What a run found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// How often each kind was made.
    pub faults: BTreeMap<Kind, u64>,
    /// What was wrong, in words.
    pub wrong: Vec<String>,
    /// The most memory failsoft used, in KiB.
    pub memory: u64,
    /// Memory at the beginning of this life of failsoft, and which life that is.
    life: (u64, u64),
    /// The last audit.
    audited: Duration,
    /// How many broken promises were shown.
    shown: usize,
}

/// Runs to its end and reports.
///
/// # Panics
/// The stand cannot be built.
pub async fn run(plan: &Plan, until: Until, network: Option<Network>) -> Report {
    let mut stand = Stand::start(plan, network).await;
    let sessions = start_sessions(plan, &stand, stand.failsoft.port());
    let mut findings = Findings::default();
    make_faults(&mut stand, plan, until, &mut findings).await;
    finish(&stand, sessions, &mut findings).await;
    Report::new(plan, &stand, findings)
}

/// Runs without faults, but with somebody between the sessions and failsoft who lies; ends after so
/// many lies.
///
/// # Panics
/// The stand cannot be built, or nobody can be lied to.
pub async fn run_with_a_liar(plan: &Plan, lie: Lie, lies: u64) -> Report {
    let stand = Stand::start(plan, None).await;
    let liar = Liar::start(stand.failsoft.port(), lie).await;
    let sessions = start_sessions(plan, &stand, liar.port());
    testkit::wait_until(PATIENCE, "enough lies", || async { liar.told() >= lies }).await;
    let mut findings = Findings::default();
    finish(&stand, sessions, &mut findings).await;
    Report::new(plan, &stand, findings)
}

/// Starts the sessions on a port.
fn start_sessions(plan: &Plan, stand: &Stand, port: u16) -> Vec<JoinHandle<()>> {
    let habits = Habits { port, seed: plan.seed, think: plan.think };
    let start = |number| {
        let field = Arc::clone(&stand.field);
        tokio::spawn(session::run(field, number, habits))
    };
    (1..=plan.clients).map(start).collect()
}

async fn make_faults(stand: &mut Stand, plan: &Plan, until: Until, findings: &mut Findings) {
    let mut rng = Rng::with_seed(plan.seed);
    let network = stand.network.is_some();
    let mut kinds = Kind::all(network);
    kinds.retain(|kind| plan.only.as_ref().is_none_or(|words| kind.name().contains(words)));
    let mut course = Course::new(&kinds, network, until.laps, until.most, rng.u64(..));
    let mut made = 0;
    let enough = interrupted();
    while made < until.faults
        && stand.field.now() < until.time
        && findings.wrong.is_empty()
        && !enough.is_finished()
    {
        let began = stand.field.now();
        let (kind, done) = match course.advance() {
            Next::Chapter(route) => {
                stand.field.books().weather = Kind::FailsoftKilled.name();
                (Kind::FailsoftKilled, faults::change_route(stand, route).await)
            }
            Next::Fault(kind) => {
                stand.field.books().weather = kind.name();
                (kind, faults::make(stand, kind, &mut rng, plan.clients).await)
            }
        };
        made += 1;
        *findings.faults.entry(kind).or_default() += 1;
        let well = match done {
            Ok(()) => recovered(stand, plan).await,
            Err(why) => Err(why),
        };
        if let Err(why) = well {
            findings.wrong.push(format!("{}, at {}: {why}", kind.name(), stand.field.clock(began)));
        }
        look_at_memory(stand, findings);
        if until.progress {
            progress(stand, made, findings).await;
        }
        sleep(Duration::from_millis(rng.u64(0..800))).await;
    }
}

/// Ends when somebody has had enough (Ctrl-C): the run then ends early, with its report.
fn interrupted() -> JoinHandle<()> {
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// failsoft finds everything well, and each session writes again, without any help.
async fn recovered(stand: &Stand, plan: &Plan) -> Result<(), String> {
    stand.wait_well().await?;
    stand.wait_active(plan.clients, true).await
}

/// A life of failsoft does not use more and more memory.
fn look_at_memory(stand: &Stand, findings: &mut Findings) {
    let status = format!("/proc/{}/status", stand.failsoft.pid());
    let status = fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let used = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    findings.memory = findings.memory.max(used);
    let generation = stand.field.generation();
    if findings.life.0 != generation || findings.life.1 == 0 {
        findings.life = (generation, used);
    } else if used > findings.life.1 + GROWTH {
        let before = findings.life.1;
        findings.wrong.push(format!("failsoft's memory grew from {before} to {used} KiB"));
    }
}

/// Each minute: a line, and the tables against the books.
async fn progress(stand: &Stand, made: usize, findings: &mut Findings) {
    let now = stand.field.now();
    if now - findings.audited < Duration::from_secs(60) {
        return;
    }
    findings.audited = now;
    match audit::so_far(stand).await {
        Ok(wrong) => findings.wrong.extend(wrong),
        Err(why) => findings.wrong.push(why),
    }
    let line = crate::report::progress(stand, made, findings);
    say(&line);
    let books = stand.field.books();
    for broken in books.broken.iter().skip(findings.shown) {
        say(&format!("WRONG: {broken}"));
    }
    findings.shown = books.broken.len();
}

#[allow(clippy::print_stdout, reason = "somebody watches")]
fn say(line: &str) {
    println!("{line}");
}

/// Reads may end with an error when their server is lost, a few times in each session; but there is
/// always a server that answers.
fn read_errors(stand: &Stand, findings: &Findings) -> Vec<String> {
    let books = stand.field.books();
    let reads: u64 = books.reads.values().sum();
    let errors: u64 = books.read_errors.values().sum();
    let nobody = books.read_errors.iter().filter(|(error, _)| error.contains("No server"));
    let nobody: u64 = nobody.map(|(_, times)| times).sum();
    let faults: u64 = findings.faults.values().sum();
    let sessions = u64::try_from(books.read_by.len()).unwrap_or(u64::MAX);
    let mut wrong = Vec::new();
    if errors > 2 * sessions * faults {
        wrong
            .push(format!("{errors} reads with errors in {faults} faults and {sessions} sessions"));
    }
    // On a machine that is busy with other things checks may fail for want of time.
    if nobody > 3 + reads / 2_000 {
        wrong.push(format!("{nobody} of {reads} reads found no server"));
    }
    wrong
}

/// Ends the sessions, and compares everything.
async fn finish(stand: &Stand, sessions: Vec<JoinHandle<()>>, findings: &mut Findings) {
    stand.field.stop();
    for session in sessions {
        match timeout(PATIENCE * 2, session).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => findings.wrong.push(format!("a session broke: {error}")),
            Err(_) => findings.wrong.push("a session does not end".to_owned()),
        }
    }
    let mut all = read_errors(stand, findings);
    match audit::at_the_end(stand).await {
        Ok(wrong) => all.extend(wrong),
        Err(why) => all.push(why),
    }
    if let Err(why) = audit::is_quiet(stand).await {
        all.push(why);
    }
    let files = fs::read_dir(format!("/proc/{}/fd", stand.failsoft.pid()));
    let files = files.map_or(0, Iterator::count);
    if files > FILES {
        all.push(format!("failsoft still has {files} files open"));
    }
    findings.wrong.extend(all);
    let books = stand.field.books();
    if books.broken_count > 0 {
        findings.wrong.push(format!(
            "{} answers that were never promised:\n{}",
            books.broken_count,
            books.broken.join("\n")
        ));
    }
}
