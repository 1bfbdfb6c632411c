//! Transparency by difference: the same random session is run on a connection to the server and
//! through failsoft, and all that comes back must be the same to the byte.
//!
//! `FAILSOFT_SESSIONS` says how many sessions of each kind are run, the same few where nothing is said,
//! and `FAILSOFT_SEED` which: session
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

mod allowed;
mod compare;
mod generate;
#[path = "../raw/mod.rs"]
mod raw;
mod run;
mod script;
mod shrink;
mod statements;
mod tally;
mod worker;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs};

use generate::Mode;
use tally::Tally;
use testkit::{Flavor, Options, Server, flavors};
use worker::Worker;

/// Sessions of each kind where nothing else is asked for.
const SESSIONS: u64 = 80;
/// Sessions at a time.
const AT_A_TIME: u64 = 4;
/// Nothing has to be durable here, nor replicated. Plans, on which some flags of replies depend, must
/// not change with statistics that are made in the background.
const QUICK: &[&str] =
    &["--skip-log-bin", "--innodb-flush-method=nosync", "--innodb-stats-auto-recalc=OFF"];
/// The same, of MariaDB's.
const QUICK_MARIADB: &[&str] = &["--debug-no-sync"];
/// The same, of MySQL's: files cost it more than all that the sessions do.
const QUICK_MYSQL: &[&str] = &[
    "--innodb-file-per-table=OFF",
    "--innodb-doublewrite=OFF",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-redo-log-capacity=256M",
    // Which number a table gives out next depends on the connection where there are several.
    "--table-open-cache-instances=1",
];

#[tokio::test(flavor = "multi_thread")]
async fn sessions_through_failsoft_cannot_be_told_from_direct_ones() {
    for flavor in flavors() {
        compare_all(flavor, Mode::Still).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_shares_its_connection_finds_its_own() {
    for flavor in flavors() {
        compare_all(flavor, Mode::Shared).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_loses_its_server_keeps_its_state_or_is_told() {
    for flavor in flavors() {
        compare_all(flavor, Mode::Moving).await;
    }
}

/// The page for readers has every difference that is allowed, and no other.
#[test]
fn what_may_differ_is_documented() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/transparency.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let documented: BTreeSet<&str> =
        rows.map(|(name, _)| name).filter(|name| !matches!(*name, "what" | "---")).collect();
    let allowed: BTreeSet<&str> = allowed::ALLOWED.iter().map(|allowed| allowed.name).collect();
    assert_eq!(documented, allowed);
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
    let own = match flavor {
        Flavor::MariaDb => QUICK_MARIADB,
        Flavor::MySql => QUICK_MYSQL,
    };
    let extra = QUICK.iter().chain(own).map(|&option| option.to_owned()).collect();
    let options = Options { extra, ..Options::default() };
    let server = Arc::new(Server::start(flavor, options).await.unwrap());
    let at_a_time = AT_A_TIME.min(sessions);
    let tally = Arc::new(Mutex::new(Tally::new(format!("{flavor}, {mode:?}"), sessions)));
    let tasks: Vec<_> = (0..at_a_time)
        .map(|first| {
            let (server, tally) = (Arc::clone(&server), Arc::clone(&tally));
            let seeds =
                (seed + first..seed + sessions).step_by(usize::try_from(at_a_time).unwrap());
            tokio::spawn(async move {
                Worker::start(server, mode, first).await.work(seeds, tally).await;
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await);
    }
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{tally}");
    for outcome in outcomes {
        outcome.unwrap();
    }
    let (reports, allowances) = (tally.failures.join("\n"), allowed::allowances());
    assert!(tally.failures.is_empty(), "\n{reports}\nWhat may differ:\n{allowances}");
    assert!(!tally.says_little(), "too many sessions were compared in part only\n{tally}");
}
