//! Runs scripts one after another, each on both sides at the same time.

use std::env;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{APP, Failsoft, FaultProxy, Login, RawClient, Server, conn, execute, wait_until};
use tokio::task::JoinHandle;

use crate::allowed::{DIRECT, PROXIED, forget_number};
use crate::compare::{Comparison, Difference, Verdict, compare};
use crate::generate::{self, Mode};
use crate::raw::CALM;
use crate::run::{PATIENCE, Reply, Side, run};
use crate::script::{Script, Step};
use crate::shrink::shrink;
use crate::statements::setup;
use crate::tally::{Finding, Tally};

/// Failures after which enough was seen.
const ENOUGH: usize = 6;
/// Attempts to see a difference again, or between two direct sessions.
const REPEATS: usize = 6;
/// The same, for one that was not seen every time.
const MANY_REPEATS: usize = 30;
/// Steps of a script that may be left out because two direct sessions differ in them.
const MOST_LEFT_OUT: usize = 5;
/// Says how many sessions are run, where that is not left to the test.
const SESSIONS: &str = "FAILSOFT_SESSIONS";
/// A session that takes longer waited for something.
const SLOW: Duration = Duration::from_secs(30);
/// Checks go on seldom, so that a cut hits sessions only.
const SELDOM: &str = "health: {interval: 10m, threshold: 5, timeout: 10s}\nconnect_timeout: 30s\n";

/// One connection for all.
const SHARED: &str = "pool: {mode: transaction, size: 1, wait: 60s}\nthreads: 1\n";

/// One that runs scripts, with a failsoft and a way to the server of its own.
pub struct Worker {
    server: Arc<Server>,
    link: FaultProxy,
    failsoft: Failsoft,
    admin: Conn,
    mode: Mode,
    thief: Option<JoinHandle<()>>,
    /// The number of the next schema.
    next: u64,
    /// What both sides offer of capabilities.
    offered: u32,
}

/// A script that differed.
struct Seen {
    seed: u64,
    script: Script,
    what: String,
    /// What direct sessions heard.
    direct: Vec<Vec<Reply>>,
}

/// How direct sessions of a script differ from the first of them.
fn varying(script: &Script, direct: &[Vec<Reply>]) -> Vec<Difference> {
    let nameless = |replies: &Vec<Reply>| {
        let mut replies = replies.clone();
        replies.iter_mut().flat_map(|reply| &mut reply.frames).for_each(forget_number);
        replies
    };
    let Some((first, others)) = direct.split_first() else { return Vec::new() };
    let first = nameless(first);
    let compared = others.iter().map(|other| compare(script, &first, &nameless(other)).verdict);
    compared
        .filter_map(|verdict| match verdict {
            Verdict::Different(difference) => Some(difference),
            Verdict::Equal | Verdict::Told(_) => None,
        })
        .collect()
}

/// Takes the connection whenever it is free. A thief with an odd number is in a schema, and another one is
/// now like a session that has only come, and now not.
async fn take(mut session: Conn, number: u64) {
    if number % 2 == 1 {
        execute(&mut session, "USE information_schema").await;
    }
    for turn in 0_u64.. {
        let text = match turn % 5 {
            0 => format!("SET @thief = {turn}"),
            4 => "SELECT LAST_INSERT_ID(4711)".to_owned(),
            _ => format!("SELECT {turn}"),
        };
        execute(&mut session, &text).await;
        if turn % 7 == 0 {
            session.reset().await.expect("a reset");
        }
        tokio::time::sleep(Duration::from_micros(turn % 3 * 200)).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(thief) = &self.thief {
            thief.abort();
        }
    }
}

/// What stands opposite the direct session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Proxied,
    /// Another direct one.
    Direct,
}

impl Worker {
    pub async fn start(server: Arc<Server>, mode: Mode, number: u64) -> Self {
        let link = FaultProxy::start(server.port()).await;
        let port = if mode == Mode::Moving { link.port() } else { server.port() };
        let config = Failsoft::config(&[("master", port)]);
        let config = match mode {
            Mode::Still => config.with(CALM),
            Mode::Moving => config.with(SELDOM),
            Mode::Shared => config.with(CALM).with(SHARED),
        };
        let failsoft = config.start().await;
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
        let thief = match mode {
            Mode::Shared => Some(tokio::spawn(take(failsoft.conn(None).await.unwrap(), number))),
            Mode::Still | Mode::Moving => None,
        };
        let next = number * 1_000_000;
        Self { server, link, failsoft, admin, mode, thief, next, offered }
    }

    /// Runs the scripts of these seeds.
    pub async fn work(mut self, seeds: impl Iterator<Item = u64>, tally: Arc<Mutex<Tally>>) {
        let tally = || tally.lock().unwrap_or_else(PoisonError::into_inner);
        for seed in seeds {
            if tally().failures.len() >= ENOUGH {
                break;
            }
            let script = generate::script(seed, self.server.flavor(), self.mode);
            let start = Instant::now();
            let (Comparison { verdict, explained }, direct) =
                self.attempt(&script, Other::Proxied).await;
            tally().count(&script, &direct, &explained);
            if start.elapsed() > SLOW {
                println!("{}: seed {seed} took {:?}", self.server.flavor(), start.elapsed());
            }
            match verdict {
                Verdict::Equal => {}
                Verdict::Told(name) => tally().told(name),
                Verdict::Different(difference) => {
                    println!("{}: seed {seed} differs: {}", self.server.flavor(), difference.what);
                    let seen = Seen { seed, script, what: difference.what, direct: vec![direct] };
                    let finding = self.look_again(seen).await;
                    tally().found(seed, finding);
                }
            }
        }
    }

    /// Finds out what a difference is. Steps in which two direct sessions differ as well are left out,
    /// and the rest is compared again.
    async fn look_again(&mut self, mut seen: Seen) -> Finding {
        let mut script = seen.script;
        for left_out in 0..=MOST_LEFT_OUT {
            let (differences, again) = self.differences(&script, Other::Proxied, REPEATS).await;
            let Some(first) = differences.first() else {
                let what = seen.what;
                return if left_out == 0 { Finding::Once(what) } else { Finding::Varies(left_out) };
            };
            seen.direct.extend(again);
            let mut direct = varying(&script, &seen.direct);
            if direct.is_empty() {
                // What comes now and then only may be as seldom on direct connections.
                let attempts = if differences.len() < REPEATS { MANY_REPEATS } else { REPEATS };
                direct = self.differences(&script, Other::Direct, attempts).await.0;
            }
            match direct.iter().map(|difference| difference.at).min() {
                // A run of few sessions is for what was broken, which differs each time; what comes and
                // goes is for runs of many.
                None if differences.len() < REPEATS && env::var_os(SESSIONS).is_none() => {
                    return Finding::Once(first.what.clone());
                }
                None => {
                    let (times, what) = (differences.len(), first.what.clone());
                    return Finding::Failure(self.report(seen.seed, times, script, what).await);
                }
                Some(Some(at)) => drop(script.steps.remove(at)),
                Some(None) => break,
            }
            seen.direct.clear();
        }
        Finding::Excused(seen.what)
    }

    /// The differences of a script in so many attempts, and what the direct sessions heard in each.
    async fn differences(
        &mut self,
        script: &Script,
        other: Other,
        attempts: usize,
    ) -> (Vec<Difference>, Vec<Vec<Reply>>) {
        let (mut seen, mut all) = (Vec::new(), Vec::new());
        for _ in 0..attempts {
            let (comparison, direct) = self.attempt(script, other).await;
            if let Verdict::Different(difference) = comparison.verdict {
                seen.push(difference);
            }
            all.push(direct);
        }
        (seen, all)
    }

    /// Runs a script on both sides.
    async fn attempt(&mut self, script: &Script, other: Other) -> (Comparison, Vec<Reply>) {
        self.next += 1;
        let schemas = [DIRECT, PROXIED].map(|prefix| format!("{prefix}{:07}", self.next));
        for schema in &schemas {
            let start = format!("CREATE DATABASE {schema}; USE {schema}{}", setup(script));
            if let Err(error) = self.admin.query_drop(&start).await {
                panic!("{start}: {error}; the server says: {}", self.server.log_tail());
            }
        }
        let [direct, through] = schemas.clone();
        let (offered, port) = (self.offered, self.server.port());
        let direct = Side { port, schema: direct, link: None, offered };
        let through = match other {
            Other::Proxied => {
                let link = Some(&self.link);
                Side { port: self.failsoft.port(), schema: through, link, offered }
            }
            Other::Direct => Side { port, schema: through, link: None, offered },
        };
        let (direct, through) = tokio::join!(run(script, &direct), run(script, &through));
        let mut comparison = compare(script, &direct, &through);
        for schema in &schemas {
            let dropped = self.admin.query_drop(format!("DROP DATABASE IF EXISTS {schema}")).await;
            if let Err(error) = dropped {
                let what = format!("{schema} is in use though its session is over: {error}");
                comparison.verdict = Verdict::different(what);
            }
        }
        if script.steps.iter().any(Step::cuts) {
            self.settle().await;
        }
        (comparison, direct)
    }

    /// Waits until failsoft forgot that it could not reach the server, where a cut hit a login.
    async fn settle(&self) {
        wait_until(PATIENCE, "a server that is reached again", || async {
            let mut session = self.failsoft.conn(None).await.expect("a session");
            session.query_drop("DO 1").await.is_ok()
        })
        .await;
    }

    /// Whether a script fails.
    pub async fn difference(&mut self, script: &Script) -> Option<String> {
        match self.attempt(script, Other::Proxied).await.0.verdict {
            Verdict::Different(difference) => Some(difference.what),
            Verdict::Equal | Verdict::Told(_) => None,
        }
    }

    /// Tells of a failure, with the shortest script that shows it.
    async fn report(&mut self, seed: u64, seen: usize, script: Script, what: String) -> String {
        let (flavor, mode) = (self.server.flavor(), self.mode);
        let whole = script.steps.len();
        let (script, what) = shrink(self, script, what).await;
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
