//! Transparency by difference: the same random session is run on a connection to the server and
//! through failsoft, and all that comes back must be the same to the byte.
//!
//! `FAILSOFT_SESSIONS` says how many sessions of each kind are run, `FAILSOFT_SEED` which: session
//! `n` has the seed `FAILSOFT_SEED + n`, so a failure is repeated with its seed and one session.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests print their figures, and panic"
)]
#![allow(unreachable_pub, reason = "modules of a test program")]

mod compare;
mod generate;
#[path = "../raw/mod.rs"]
mod raw;
mod run;
mod script;
mod shrink;
mod statements;
mod worker;

use std::env;
use std::sync::Arc;

use generate::Mode;
use testkit::{Flavor, Options, Server, flavors};
use worker::{Tally, Worker};

/// Sessions of each kind where nothing else is asked for.
const SESSIONS: u64 = 80;
/// Sessions at a time.
const AT_A_TIME: u64 = 4;
/// Nothing has to be durable here, nor replicated. Plans, on which some flags of replies depend, must
/// not change with statistics that are made in the background.
const QUICK: &[&str] =
    &["--skip-log-bin", "--innodb-flush-method=nosync", "--innodb-stats-auto-recalc=OFF"];
/// The same, of MariaDB's.
const QUICK_MARIADB: &str = "--debug-no-sync";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "servers' own answers vary now and then; make differential runs it"]
async fn sessions_through_failsoft_cannot_be_told_from_direct_ones() {
    for flavor in flavors() {
        compare_all(flavor, Mode::Still).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "still finds state that is not carried; make differential runs it"]
async fn a_session_that_loses_its_server_keeps_its_state_or_is_told() {
    for flavor in flavors() {
        compare_all(flavor, Mode::Moving).await;
    }
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

async fn compare_all(flavor: Flavor, mode: Mode) {
    let (seed, sessions) = (setting("FAILSOFT_SEED", 1), setting("FAILSOFT_SESSIONS", SESSIONS));
    println!("{flavor}, {mode:?}: {sessions} sessions, FAILSOFT_SEED={seed}");
    let own = (flavor == Flavor::MariaDb).then_some(QUICK_MARIADB);
    let extra = QUICK.iter().copied().chain(own).map(str::to_owned).collect();
    let options = Options { extra, ..Options::default() };
    let server = Arc::new(Server::start(flavor, options).await.unwrap());
    let at_a_time = AT_A_TIME.min(sessions);
    let tasks: Vec<_> = (0..at_a_time)
        .map(|first| {
            let server = Arc::clone(&server);
            let seeds =
                (seed + first..seed + sessions).step_by(usize::try_from(at_a_time).unwrap());
            tokio::spawn(async move { Worker::start(server, mode, first).await.work(seeds).await })
        })
        .collect();
    let mut all = Tally::default();
    for task in tasks {
        all.add(task.await.unwrap());
    }
    println!("{flavor}, {mode:?}: {all}");
    let reports = all.failures.join("\n");
    let allowances = compare::allowances();
    assert!(all.failures.is_empty(), "\n{reports}\nWhat may differ:\n{allowances}");
}
