//! With a master that is lost: what a program says of each statement, and that no driver repeats a
//! write by itself.
//!
//! ```text
//! answer   every program writes; the writes are executed, and the answers are lost on the way
//! kill     every program writes; the master is killed while the writes sleep, and stays away
//! dead     the programs that dump begin now
//! back     the master is back
//! ```

use failsoft_tests::{PATIENCE, Stack, write_until_ok};
use mysql_async::prelude::Queryable;
use tempfile::NamedTempFile;
use testkit::{Failsoft, FaultProxy, Flavor, Pair, execute, query_one, wait_until};

use crate::list::{Driver, Sort};
use crate::page::Cells;
use crate::program::{Program, Said};
use crate::schema;

/// The steps of applications, and how what is said of them has to begin: one of these.
pub(crate) const STEPS: &[(&str, &[&str])] = &[
    ("read", &["one kept"]),
    ("prepared read", &["one"]),
    ("write", &["1290"]),
    ("transaction", &["1213"]),
    ("COMMIT", &["1213"]),
    ("ROLLBACK", &["ok"]),
    ("write in flight", UNKNOWN),
    ("answer lost", UNKNOWN),
    ("write again", &["ok ; ok"]),
];

/// 1213 where the driver sends a write within a transaction, which is undone with its server.
const UNKNOWN: &[&str] = &["1180", "1213"];

/// The write whose answer is lost, as servers list it.
const ANSWERED: &str = "INSERT INTO fault VALUES (''answered'')%";
/// The write that sleeps.
const ASLEEP: &str = "INSERT INTO fault SELECT IF(SLEEP%";

/// Checks that do not give up while nothing comes through the link, and are quick to see the master
/// when it is back.
const PATIENT: &str = "health: {interval: 250ms, threshold: 20, timeout: 1900ms}";

/// Runs all programs at once through one loss of the master. The cells of each, and what is wrong.
pub(crate) async fn run(flavor: Flavor, drivers: &[Driver]) -> (Cells, Vec<String>) {
    let (mut stack, link) = stack(flavor).await;
    let (mut programs, _files) = start(&stack, drivers).await;
    lose_the_answers(&stack, &link, &mut programs).await;
    let writers = release(&mut programs, "kill").await;
    running(&stack, ASLEEP, writers).await;
    stack.pair.master.kill().unwrap();
    read(&mut programs, "kill").await;
    release(&mut programs, "dead").await;
    read(&mut programs, "dead").await;
    stack.pair.master.start_again().await.unwrap();
    write_until_ok(&mut stack.session().await, "INSERT INTO t VALUES (2, 'back')").await;
    release(&mut programs, "back").await;
    read(&mut programs, "back").await;
    let (mut cells, mut wrong) = (Cells::new(), Vec::new());
    for Program { driver, said, .. } in programs {
        wrong.extend(unexpected(&driver, &said));
        if driver.sort == Sort::Client {
            wrong.extend(repeated(&stack, &driver, &said).await);
        }
        cells.insert(driver.name, row(&driver, &said));
    }
    (cells, wrong)
}

/// A pair with failsoft in front, and a link between failsoft and the master.
async fn stack(flavor: Flavor) -> (Stack, FaultProxy) {
    let pair = Pair::start(flavor).await.unwrap();
    let link = FaultProxy::start(pair.master.port()).await;
    let databases = [("master", link.port()), ("replica", pair.replica.port())];
    let failsoft = Failsoft::config(&databases).with(PATIENT).start().await;
    (Stack::with_table(failsoft, pair).await, link)
}

/// Starts all programs, each up to where it waits first.
async fn start(stack: &Stack, drivers: &[Driver]) -> (Vec<Program>, Vec<NamedTempFile>) {
    let (mut programs, mut files) = (Vec::new(), Vec::new());
    for driver in drivers {
        let file = schema::make(stack, &driver.schema()).await;
        let path = file.path().to_str().unwrap().to_owned();
        programs.push(Program::start(*driver, "fault", stack.failsoft.port(), &path));
        files.push(file);
    }
    // Dumps are read from the replica later.
    stack.pair.wait_synced().await.unwrap();
    for program in &mut programs {
        program.read().await;
    }
    (programs, files)
}

/// Lets go on what waits at a step; how many programs that are.
async fn release(programs: &mut [Program], step: &str) -> i32 {
    let mut released = 0;
    for program in programs.iter_mut().filter(|program| program.waits_at(step)) {
        program.release().await;
        released += 1;
    }
    released
}

/// Reads what those say that were let go on at a step.
async fn read(programs: &mut [Program], step: &str) {
    for program in programs.iter_mut().filter(|program| program.waits_at(step)) {
        program.read().await;
    }
}

/// Each program writes. The writes wait for a lock, are executed when nothing comes through to the
/// clients, and then the connections are cut.
async fn lose_the_answers(stack: &Stack, link: &FaultProxy, programs: &mut [Program]) {
    let mut root = stack.root(stack.pair.master.port()).await;
    let clients = programs.iter().filter(|program| program.driver.sort == Sort::Client);
    let tables: Vec<_> =
        clients.map(|program| format!("{}.fault WRITE", program.driver.schema())).collect();
    execute(&mut root, &format!("LOCK TABLES {}", tables.join(", "))).await;
    let writers = release(programs, "answer").await;
    running(stack, ANSWERED, writers).await;
    link.freeze();
    execute(&mut root, "UNLOCK TABLES").await;
    running(stack, ANSWERED, 0).await;
    link.reset_all();
    wait_until(PATIENCE, "every loss is noticed", || async {
        let unknown = stack.metric("failsoft_writes_unknown_total").await;
        let aborted = stack.metric("failsoft_transactions_aborted_total").await;
        unknown + aborted >= f64::from(writers)
    })
    .await;
    link.thaw();
    read(programs, "answer").await;
}

/// Waits until so many statements like this run on the master.
async fn running(stack: &Stack, like: &str, count: i32) {
    let root = tokio::sync::Mutex::new(stack.root(stack.pair.master.port()).await);
    let ask =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{like}'");
    wait_until(PATIENCE, &format!("{count} times {like}"), || async {
        query_one::<i32>(&mut *root.lock().await, &ask).await == count
    })
    .await;
}

/// Everything that a program did not say as it has to.
fn unexpected(driver: &Driver, said: &Said) -> Vec<String> {
    let expected = |step: &str| match driver.sort {
        Sort::Dump => (step == "dump").then(|| vec!["the same"]),
        Sort::Client => {
            STEPS.iter().find(|(name, _)| *name == step).map(|(_, expected)| expected.to_vec())
        }
    };
    let is_wrong = |(step, value): &(&String, &String)| {
        !expected(step).is_some_and(|begins| begins.iter().any(|begin| value.starts_with(begin)))
    };
    let wrong = said.iter().filter(is_wrong);
    wrong.map(|(step, value)| format!("{}, master lost, {step}: {value}", driver.name)).collect()
}

/// The rows that are not there once, or are there although they should not be.
async fn repeated(stack: &Stack, driver: &Driver, said: &Said) -> Option<String> {
    let mut direct = stack.direct(stack.pair.master.port()).await;
    let count = format!("SELECT what, COUNT(*) FROM {}.fault GROUP BY what", driver.schema());
    let mut rows: Vec<(String, i64)> = direct.query(count).await.unwrap();
    rows.sort();
    let begins = |step: &str, text: &str| said.get(step).is_some_and(|s| s.starts_with(text));
    let there =
        [("again", true), ("again, torn", true), ("answered", begins("answer lost", "1180"))];
    let there = there.into_iter().filter(|(_, is_there)| *is_there);
    let expected: Vec<_> = there.map(|(what, _)| (what.to_owned(), 1)).collect();
    (rows != expected).then(|| format!("{}: rows {rows:?}, expected {expected:?}", driver.name))
}

fn row(driver: &Driver, said: &Said) -> Vec<String> {
    let cell = |step: &str| said.get(step).map_or("–", String::as_str).to_owned();
    match driver.sort {
        Sort::Client => STEPS.iter().map(|(step, _)| cell(step)).collect(),
        Sort::Dump => vec![cell("dump")],
    }
}
