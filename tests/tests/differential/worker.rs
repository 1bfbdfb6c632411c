//! Runs scripts one after another, each on both sides at the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{APP, Failsoft, FaultProxy, Login, RawClient, Server, conn, execute};

use crate::compare::{DIRECT, PROXIED, Verdict, compare};
use crate::generate::{self, Mode};
use crate::raw::CALM;
use crate::run::{Reply, Side, run};
use crate::script::{Script, Step};
use crate::shrink::shrink;
use crate::statements::SETUP;

/// Failures after which a worker has seen enough.
const ENOUGH: usize = 3;
/// Attempts to see a failure again.
const REPEATS: usize = 3;
/// Checks go on seldom, so that a cut hits sessions only.
const SELDOM: &str = "health: {interval: 10m, threshold: 5, timeout: 10s}\nconnect_timeout: 30s\n";

/// One that runs scripts, with a failsoft and a way to the server of its own.
pub struct Worker {
    server: Arc<Server>,
    link: FaultProxy,
    failsoft: Failsoft,
    admin: Conn,
    mode: Mode,
    /// The number of the next schema.
    next: u64,
    /// What both sides offer of capabilities.
    offered: u32,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    sessions: u64,
    steps: usize,
    packets: usize,
    errors: usize,
    cuts: usize,
    /// Sessions that were told of a loss, which ended their comparison, by error.
    told: BTreeMap<u16, u64>,
    pub failures: Vec<String>,
}

impl Worker {
    pub async fn start(server: Arc<Server>, mode: Mode, number: u64) -> Self {
        let link = FaultProxy::start(server.port()).await;
        let port = if mode == Mode::Moving { link.port() } else { server.port() };
        let settings = if mode == Mode::Moving { SELDOM } else { CALM };
        let failsoft = Failsoft::config(&[("master", port)]).with(settings).start().await;
        let mut offered = u32::MAX;
        // The first login teaches caching_sha2_password the account's quick way.
        for port in [server.port(), failsoft.port()] {
            let client = RawClient::logged_in(port, &Login::new(APP.user, APP.pass)).await;
            offered &= client.greeting.capabilities;
        }
        // MariaDB does not say this one: it is what MySQL's own clients say.
        offered |= 1;
        let mut admin = conn(server.port(), APP.user, APP.pass, None).await.unwrap();
        // A session's connection that is not closed keeps its schema from being dropped.
        execute(&mut admin, "SET lock_wait_timeout = 60").await;
        Self { server, link, failsoft, admin, mode, next: number * 1_000_000, offered }
    }

    /// Runs the scripts of these seeds.
    pub async fn work(mut self, seeds: std::iter::StepBy<Range<u64>>) -> Tally {
        let mut tally = Tally::default();
        for seed in seeds {
            let script = generate::script(seed, self.server.flavor(), self.mode);
            let (verdict, direct) = self.attempt(&script).await;
            tally.count(&script, &direct);
            match verdict {
                Verdict::Equal => {}
                Verdict::Told(code) => *tally.told.entry(code).or_default() += 1,
                Verdict::Different(what) => {
                    let report = self.report(seed, script, what).await;
                    tally.failures.push(report);
                }
            }
            if tally.failures.len() >= ENOUGH {
                break;
            }
        }
        tally
    }

    /// Runs a script on both sides.
    async fn attempt(&mut self, script: &Script) -> (Verdict, Vec<Reply>) {
        self.next += 1;
        let schemas = [DIRECT, PROXIED].map(|prefix| format!("{prefix}{:07}", self.next));
        for schema in &schemas {
            let start = format!("CREATE DATABASE {schema}; USE {schema}; {}", SETUP.join("; "));
            execute(&mut self.admin, &start).await;
        }
        let [direct, through] = schemas.clone();
        let offered = self.offered;
        let direct = Side { port: self.server.port(), schema: direct, link: None, offered };
        let link = Some(&self.link);
        let through = Side { port: self.failsoft.port(), schema: through, link, offered };
        let (direct, through) = tokio::join!(run(script, &direct), run(script, &through));
        let mut verdict = compare(script, &direct, &through);
        for schema in &schemas {
            let dropped = self.admin.query_drop(format!("DROP DATABASE IF EXISTS {schema}")).await;
            if let Err(error) = dropped {
                let what = format!("{schema} is in use though its session is over: {error}");
                verdict = Verdict::Different(what);
            }
        }
        (verdict, direct)
    }

    /// Whether a script fails.
    pub async fn difference(&mut self, script: &Script) -> Option<String> {
        match self.attempt(script).await.0 {
            Verdict::Different(what) => Some(what),
            Verdict::Equal | Verdict::Told(_) => None,
        }
    }

    /// Tells of a failure, with the shortest script that shows it.
    async fn report(&mut self, seed: u64, script: Script, what: String) -> String {
        let (flavor, mode) = (self.server.flavor(), self.mode);
        let mut seen = 0;
        for _ in 0..REPEATS {
            seen += u32::from(self.difference(&script).await.is_some());
        }
        let whole = script.steps.len();
        let (script, what) =
            if seen == 0 { (script, what) } else { shrink(self, script, what).await };
        let login = script.login.names();
        let steps = script.steps.iter().enumerate();
        let steps: String = steps.map(|(at, step)| format!("  {at:2} {step:?}\n")).collect();
        let report = format!(
            "{flavor}, {mode:?}: FAILSOFT_SEED={seed} FAILSOFT_SESSIONS=1, seen again {seen} times \
             of {REPEATS}; {} of {whole} steps:\n  {login}\n{steps}  {what}\n",
            script.steps.len()
        );
        println!("{report}");
        report
    }
}

impl Tally {
    fn count(&mut self, script: &Script, replies: &[Reply]) {
        let frames = || replies.iter().flat_map(|reply| &reply.frames);
        self.sessions += 1;
        self.steps += replies.len() - 1;
        self.packets += frames().count();
        self.errors += frames().filter(|frame| frame.is_err()).count();
        self.cuts += script.steps.iter().filter(|step| matches!(step, Step::Cut)).count();
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.steps += other.steps;
        self.packets += other.packets;
        self.errors += other.errors;
        self.cuts += other.cuts;
        for (code, times) in other.told {
            *self.told.entry(code).or_default() += times;
        }
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, steps, packets, errors, cuts, told, failures } = self;
        let failures = failures.len();
        write!(
            f,
            "{sessions} sessions, {steps} steps, {packets} packets compared ({errors} errors), \
             {cuts} losses of the server (sessions told, by error: {told:?}), {failures} differences"
        )
    }
}
