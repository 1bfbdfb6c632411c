//! Scenario 5: two hundred sessions under constant load while the master is killed and started
//! twenty times. Nobody is cut off, every acknowledged write is there once, and every count of open
//! things is back to zero afterwards.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use failsoft_tests::{PATIENCE, Stack, is_error, outcome, write_until_ok};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{Flavor, execute, flavors, wait_until};

const SESSIONS: u64 = 200;
const CYCLES: usize = 20;

/// What became of a numbered write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Ok,
    NotExecuted,
    Unknown,
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    reads: AtomicU64,
}

/// Writes and reads in turn until told to stop; yields the verdict on each numbered write.
async fn drive(mut session: Conn, number: u64, load: Arc<Load>) -> (Conn, Vec<(u64, Verdict)>) {
    let mut verdicts = Vec::new();
    let mut n = 0;
    while !load.stop.load(Ordering::Relaxed) {
        n += 1;
        let id = number * 1_000_000 + n;
        let told = outcome(&mut session, &format!("INSERT INTO writes VALUES ({id})")).await;
        let verdict = match told.as_str() {
            "ok" => Verdict::Ok,
            told if is_error(told, 1290, "HY000") => Verdict::NotExecuted,
            told if is_error(told, 1180, "08007") => Verdict::Unknown,
            other => panic!("session {number}: write {n} ended with {other}"),
        };
        verdicts.push((id, verdict));
        let told = outcome(&mut session, "SELECT v FROM t WHERE id = 1").await;
        assert_eq!(told, "ok", "session {number}: the read after write {n}");
        load.reads.fetch_add(1, Ordering::Relaxed);
        // Two hundred sessions on two cores: the servers have to get a word in as well.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (session, verdicts)
}

async fn check(flavor: Flavor) {
    // Two hundred logins at once are enough work for two cores: TLS within one machine is left out.
    let yaml = "tls: {servers: off}";
    let mut stack = Stack::start_with(flavor, yaml).await;
    let mut session = stack.session().await;
    execute(&mut session, "CREATE TABLE writes (id BIGINT)").await;
    session.disconnect().await.unwrap();
    let load = Arc::new(Load::default());
    let mut drivers = Vec::new();
    for number in 0..SESSIONS {
        let session = stack.session().await;
        drivers.push(tokio::spawn(drive(session, number, Arc::clone(&load))));
    }
    for cycle in 0..CYCLES {
        stack.pair.master.kill().unwrap();
        let read = load.reads.load(Ordering::Relaxed);
        wait_until(PATIENCE, "reads without a master", || async {
            load.reads.load(Ordering::Relaxed) > read + SESSIONS
        })
        .await;
        // Mostly it is back before the checks have decided, sometimes after.
        if cycle % 5 == 0 {
            stack.wait_mode("read-only", "severed").await;
        }
        stack.pair.master.start_again().await.unwrap();
        let mut probe = stack.session().await;
        write_until_ok(&mut probe, "INSERT INTO writes VALUES (0)").await;
        probe.disconnect().await.unwrap();
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut verdicts = Vec::new();
    for driver in drivers {
        let (session, mine) = driver.await.unwrap();
        verdicts.extend(mine);
        session.disconnect().await.unwrap();
    }
    compare(flavor, &stack, &verdicts).await;
    counters_are_back(&stack).await;
}

async fn compare(flavor: Flavor, stack: &Stack, verdicts: &[(u64, Verdict)]) {
    let mut direct = stack.direct(stack.pair.master.port()).await;
    let ids: Vec<u64> = direct.query("SELECT id FROM writes WHERE id > 0").await.unwrap();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for id in ids {
        *seen.entry(id).or_default() += 1;
    }
    for (id, verdict) in verdicts {
        let times = seen.remove(id).unwrap_or(0);
        let right = match verdict {
            Verdict::Ok => times == 1,
            Verdict::NotExecuted => times == 0,
            Verdict::Unknown => times <= 1,
        };
        assert!(right, "{flavor}: write {id} was called {verdict:?} and is there {times} times");
    }
    assert!(seen.is_empty(), "{flavor}: writes nobody sent: {seen:?}");
    let count = |wanted| verdicts.iter().filter(|(_, verdict)| *verdict == wanted).count();
    println!(
        "{flavor}: {CYCLES} cycles, {SESSIONS} sessions: {} writes ok, {} refused, {} unknown",
        count(Verdict::Ok),
        count(Verdict::NotExecuted),
        count(Verdict::Unknown)
    );
}

/// Every gauge of open things is zero once the last client is gone.
async fn counters_are_back(stack: &Stack) {
    let gauges =
        ["failsoft_sessions{", "failsoft_sessions_pinned{", "failsoft_server_connections{"];
    wait_until(PATIENCE, "every gauge at zero", || async {
        let (_, metrics) = stack.failsoft.http_get("/metrics").await;
        metrics
            .lines()
            .filter(|line| gauges.iter().any(|gauge| line.starts_with(gauge)))
            .all(|line| line.ends_with(" 0"))
    })
    .await;
    // The servers see nobody either: only failsoft's checks and this look itself come and go.
    for server in [&stack.pair.master, &stack.pair.replica] {
        wait_until(PATIENCE, "no application connection", || async {
            let mut root = stack.root(server.port()).await;
            let users: Vec<String> = root
                .query("SELECT user FROM information_schema.processlist WHERE user = 'app'")
                .await
                .unwrap();
            users.is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sessions_survive_twenty_kills() {
    for flavor in flavors() {
        check(flavor).await;
    }
}
