//! With healthy servers: what a program says through failsoft is what it says on a direct
//! connection.

use std::collections::BTreeSet;
use std::sync::Arc;

use failsoft_tests::Stack;
use testkit::{Failsoft, Flavor, Pair};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::list::{Driver, Sort};
use crate::page::Cells;
use crate::program::{Program, Said};
use crate::schema;

/// Programs that run at a time.
const AT_A_TIME: usize = 2;

/// What the steps of applications have to say, where that does not depend on the driver.
const EXPECTED: &[(&str, &str)] = &[
    ("connect", "ok"),
    ("20 MB", "20971520 same"),
    ("utf8mb4", "ä€😀 3 C3A4E282ACF09F9880"),
    ("transaction", "1 0"),
    ("last id", "3 3"),
    ("temporary table", "2"),
    ("variables", "12345 x"),
    ("LOAD DATA", "3"),
];

/// What has to be a part of it in each driver's words.
const CONTAINED: &[(&str, &str)] = &[
    ("wrong password", "Access denied for user 'app'@'127.0.0.1'"),
    ("1062, 1146", "Duplicate entry 'committed' for key"),
];

/// The columns of applications.
pub(crate) const STEPS: &[&str] = &[
    "connect",
    "wrong password",
    "types, text",
    "types, prepared",
    "parameters",
    "20 MB",
    "utf8mb4",
    "transaction",
    "last id",
    "CALL",
    "temporary table",
    "variables",
    "1062, 1146",
    "LOAD DATA",
];

/// What makes writes of 20 MB quick; nobody kills these servers.
const QUICK: &[&str] =
    &["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF"];

/// The servers, and failsoft in front of them.
pub(crate) async fn stack(flavor: Flavor) -> Stack {
    let log = match flavor {
        Flavor::MariaDb => "--innodb-log-file-size=96M",
        Flavor::MySql => "--innodb-redo-log-capacity=96M",
    };
    let pair = Pair::start_with(flavor, &[QUICK, &[log]].concat()).await.unwrap();
    let databases = [("master", pair.master.port()), ("replica", pair.replica.port())];
    let failsoft = Failsoft::config(&databases).start().await;
    let mut stack = Stack::with_table(failsoft, pair).await;
    // It would write each of the 20 MB once more, and is not asked anything.
    stack.pair.replica.kill().unwrap();
    stack
}

/// Runs each program directly and through failsoft. The cells of each, and all that is wrong.
pub(crate) async fn run(stack: &Arc<Stack>, drivers: &[Driver]) -> (Cells, Vec<String>) {
    let permits = Arc::new(Semaphore::new(AT_A_TIME));
    let mut tasks = JoinSet::new();
    for driver in drivers.iter().copied() {
        let (stack, permits) = (Arc::clone(stack), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            let direct = said(&stack, driver, stack.pair.master.port()).await;
            let through = said(&stack, driver, stack.failsoft.port()).await;
            (driver, direct, through)
        });
    }
    let (mut cells, mut wrong) = (Cells::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (driver, direct, through) = done.unwrap();
        let steps: Vec<_> = match driver.sort {
            Sort::Client => STEPS.to_vec(),
            Sort::Dump => vec!["wrong password", "dump"],
        };
        wrong.extend(unexpected(&driver, &direct, &through, &steps));
        let logs_in = logs_in(&direct);
        let row = steps.iter().map(|step| cell(direct.get(*step), through.get(*step), logs_in));
        cells.insert(driver.name, row.collect());
    }
    (cells, wrong)
}

async fn said(stack: &Stack, driver: Driver, port: u16) -> Said {
    let load_file = schema::make(stack, &driver.schema()).await;
    let mut program = Program::start(driver, "plain", port, load_file.path().to_str().unwrap());
    program.read().await;
    program.said
}

/// Whether the driver can log in directly. Most steps end with the login where it cannot.
fn logs_in(direct: &Said) -> bool {
    !["connect", "dump"].iter().filter_map(|step| direct.get(*step)).any(|said| has_failed(said))
}

/// How a step went, in the page's signs.
fn cell(direct: Option<&String>, through: Option<&String>, logs_in: bool) -> String {
    let text = match (direct, through) {
        (None, None) => "–",
        (Some(direct), Some(through)) if direct == through && has_failed(direct) => "fails",
        (Some(direct), Some(through)) if direct == through => "=",
        (_, Some(through)) if !logs_in && !has_failed(through) => "+",
        (Some(direct), Some(through)) if has_failed(direct) && !has_failed(through) => "+",
        _ => "≠",
    };
    text.to_owned()
}

/// Whether the driver could not do it.
fn has_failed(said: &str) -> bool {
    said.starts_with("failed")
}

/// Everything that is not as it has to be. What fails on a direct connection may work through
/// failsoft; where the login fails, that is all.
fn unexpected(driver: &Driver, direct: &Said, through: &Said, steps: &[&str]) -> Vec<String> {
    let said: BTreeSet<_> = direct.keys().chain(through.keys()).map(String::as_str).collect();
    let logs_in = logs_in(direct);
    let mut wrong = Vec::new();
    for step in said {
        let [direct, through] = [direct, through].map(|said| said.get(step).map(String::as_str));
        let works_only_through = (!logs_in || direct.is_some_and(has_failed))
            && through.is_some_and(|said| !has_failed(said));
        let is_expected = |said: &str| {
            has_failed(said)
                || EXPECTED.iter().all(|(name, value)| *name != step || *value == said)
                    && CONTAINED.iter().all(|(name, part)| *name != step || said.contains(part))
        };
        if !steps.contains(&step)
            || (direct != through && !works_only_through)
            || !through.is_some_and(is_expected)
        {
            wrong.push(format!(
                "{}, {step}:\n  directly: {direct:?}\n  through:  {through:?}",
                driver.name
            ));
        }
    }
    wrong
}
