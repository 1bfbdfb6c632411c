//! Reloads under load: nobody notices one that changes nothing for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use failsoft_tests::{PATIENCE, Stack, outcome, reload};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{APP, Config, Flavor, execute, flavors, wait_until};

use crate::config_of;

const SESSIONS: u64 = 60;
const RELOADS: usize = 20;

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    rounds: AtomicU64,
}

/// Writes numbered rows in every way that a session has, until told to stop; yields them.
async fn drive(mut session: Conn, number: u64, load: Arc<Load>) -> (Conn, Vec<u64>) {
    let mut rows = Vec::new();
    let insert = session.prep("INSERT INTO writes VALUES (?)").await.unwrap();
    while !load.stop.load(Ordering::Relaxed) {
        let id = number * 1_000_000 + u64::try_from(rows.len()).unwrap();
        let statements = [
            format!("INSERT INTO writes VALUES ({id})"),
            "BEGIN".to_owned(),
            format!("INSERT INTO writes VALUES ({})", id + 1),
            "SELECT COUNT(*) FROM t".to_owned(),
            format!("INSERT INTO writes VALUES ({})", id + 2),
            "COMMIT".to_owned(),
            "SET SESSION wait_timeout = 4711".to_owned(),
            "SELECT v FROM t WHERE id = 1".to_owned(),
        ];
        for statement in statements {
            let told = outcome(&mut session, &statement).await;
            assert_eq!(told, "ok", "session {number}: {statement}");
        }
        session.exec_drop(&insert, (id + 3,)).await.unwrap();
        rows.extend(id..id + 4);
        load.rounds.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (session, rows)
}

/// The file with something different in it that matters to none of the sessions.
fn harmless(stack: &Stack, nth: usize) -> Config {
    let config = config_of(stack);
    let (user, pass) = (APP.user, APP.pass);
    let master = stack.pair.master.port();
    match nth % 6 {
        0 => config.with("connect_timeout: 20s\nlimits: {connections: 500, idle_timeout: 1h}"),
        1 => config.with(&format!(
            "users: [{{name: {user}, pass: {pass}}}, {{name: other, pass: x}}]\nlog: {{level: warn}}"
        )),
        // The replica is taken out of the file, and is back with the next one.
        2 => config
            .with(&format!("databases:\n  - {{host: 127.0.0.1, port: {master}, role: master}}")),
        3 => config.with("health: {interval: 300ms, threshold: 9, timeout: 1s}"),
        4 => config.with(&format!(
            "databases:\n  - {{host: 127.0.0.1, port: {}, role: replica, weight: 3, disabled: true}}\n  \
             - {{host: 127.0.0.1, port: {master}, role: master}}",
            stack.pair.replica.port()
        )),
        _ => config.with("drain_timeout: 5s\nread_only: false"),
    }
}

async fn check(flavor: Flavor) {
    let yaml = "tls: {servers: off}";
    let stack = Stack::start_with(flavor, yaml).await;
    let mut session = stack.session().await;
    execute(&mut session, "CREATE TABLE writes (id BIGINT)").await;
    session.disconnect().await.unwrap();
    let load = Arc::new(Load::default());
    let mut drivers = Vec::new();
    for number in 0..SESSIONS {
        let session = stack.session().await;
        drivers.push(tokio::spawn(drive(session, number, Arc::clone(&load))));
    }
    for nth in 0..RELOADS {
        let seen = load.rounds.load(Ordering::Relaxed);
        wait_until(PATIENCE, "every session's turn", || async {
            load.rounds.load(Ordering::Relaxed) >= seen + SESSIONS
        })
        .await;
        let body = reload(&stack.failsoft, &harmless(&stack, nth).with(yaml)).await;
        assert!(body.contains("\"changes\":[{"), "{flavor}: reload {nth}: {body}");
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut expected = Vec::new();
    for driver in drivers {
        let (session, rows) = driver.await.unwrap();
        session.disconnect().await.unwrap();
        expected.extend(rows);
    }
    expected.sort_unstable();
    let mut direct = stack.direct(stack.pair.master.port()).await;
    let found: Vec<u64> = direct.query("SELECT id FROM writes ORDER BY id").await.unwrap();
    assert_eq!(found, expected, "{flavor}: every row that was written, once");
    println!("{flavor}: {RELOADS} reloads, {SESSIONS} sessions, {} rows", expected.len());
    let refused = stack.metric("failsoft_statements_refused_total{reason=\"severed\"}").await;
    assert!(refused < 1.0, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn harmless_reloads_are_not_noticed() {
    for flavor in flavors() {
        check(flavor).await;
    }
}
