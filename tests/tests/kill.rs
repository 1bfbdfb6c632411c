//! Ending a statement or a session from another one, by either of its ids; and what becomes of a
//! statement whose client leaves.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use failsoft_tests::{PATIENCE, Stack, is_error, outcome};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use raw::{Kind, Wire, com};
use testkit::{APP, ROOT, conn, execute, flavors, query_one, wait_until};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

/// A statement that runs until it is ended.
const SLEEP: &str = "SELECT COUNT(*), SLEEP(1000) FROM t, t AS u";

/// The ids of the connections of a server that run something like this.
async fn running(stack: &Stack, port: u16, like: &str) -> Vec<u64> {
    let mut root = stack.root(port).await;
    let sql = format!(
        "SELECT id FROM information_schema.processlist WHERE info LIKE '{like}' \
         AND info NOT LIKE '%processlist%'"
    );
    let ids = root.query(sql).await.unwrap();
    root.disconnect().await.unwrap();
    ids
}

/// Runs a statement in a session of its own accord, and waits until the server is at it.
async fn start(stack: &Stack, port: u16, mut session: Conn) -> JoinHandle<(Conn, String)> {
    let task = tokio::spawn(async move {
        let end = outcome(&mut session, SLEEP).await;
        (session, end)
    });
    wait_until(PATIENCE, "a statement that sleeps", || async {
        !running(stack, port, "SELECT COUNT(*), SLEEP%").await.is_empty()
    })
    .await;
    task
}

/// A killed statement ends with an error or, as SLEEP may, with a result.
fn was_killed(told: &str) -> bool {
    told == "ok" || told.starts_with("1317/") || told.starts_with("1028/")
}

async fn server_id(session: &mut Conn) -> u32 {
    query_one(session, "SELECT CONNECTION_ID()").await
}

/// Kills what a session runs, and then a session, by an id.
async fn kill_both_ways(stack: &Stack, port: u16, by_greeting: bool) {
    let mut killer = stack.session().await;
    let mut victim = stack.session().await;
    let own = server_id(&mut victim).await;
    let id = if by_greeting { victim.id() } else { own };
    assert_ne!(victim.id(), own);
    let task = start(stack, port, victim).await;
    execute(&mut killer, &format!("KILL QUERY {id}")).await;
    let (mut victim, told) = task.await.unwrap();
    assert!(was_killed(&told), "{told}");
    assert_eq!(server_id(&mut victim).await, own, "the session goes on where it was");
    let task = start(stack, port, victim).await;
    execute(&mut killer, &format!("KILL {id}")).await;
    let (mut victim, told) = task.await.unwrap();
    assert!(told != "ok" || was_killed(&told), "{told}");
    assert_eq!(outcome(&mut victim, "SELECT 1").await, "closed");
    // The list may still have it for a moment; what is sent again would sleep on.
    wait_until(PATIENCE, "its end", || async {
        running(stack, port, "SELECT COUNT(*), SLEEP%").await.is_empty()
    })
    .await;
    let again = outcome(&mut killer, &format!("KILL {id}")).await;
    assert!(is_error(&again, 1094, "HY000"), "{again}");
    execute(&mut killer, "SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn either_id_kills() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let port = stack.pair.master.port();
        for by_greeting in [true, false] {
            kill_both_ways(&stack, port, by_greeting).await;
        }
        assert_eq!(stack.metric("failsoft_statements_retried_total").await, 0.0);
    }
}

/// Read-only mode does not keep anybody from killing what runs on a replica.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_a_replica_is_killed_there() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut before = stack.session().await;
        let by_master = server_id(&mut before).await;
        stack.pair.master.kill().unwrap();
        stack.wait_mode("read-only", "severed").await;
        for by_greeting in [true, false] {
            kill_both_ways(&stack, stack.pair.replica.port(), by_greeting).await;
        }
        assert_ne!(server_id(&mut before).await, 0, "{by_master} is another now");
    }
}

/// A transaction that is killed is rolled back, and its idle client sees the end.
#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_are_killed() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let mut killer = stack.session().await;
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        // It holds no server yet.
        let id = wire.client.greeting.connection_id;
        execute(&mut killer, &format!("KILL CONNECTION {id}")).await;
        assert!(wire.is_closed().await);
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        wire.query("BEGIN").await;
        wire.query("INSERT INTO t VALUES (5, 'undone')").await;
        let mut command = Wire::login(stack.failsoft.port(), 0).await;
        let id = wire.client.greeting.connection_id.to_le_bytes();
        assert!(command.ask(com::PROCESS_KILL, &id, Kind::One).await[0].is_ok());
        assert!(wire.is_closed().await);
        assert_eq!(query_one::<i64>(&mut killer, "SELECT COUNT(*) FROM t").await, 1);
        let (code, _, text) =
            command.ask(com::PROCESS_KILL, &id, Kind::One).await[0].error().unwrap();
        assert_eq!(code, 1094, "{text}");
        assert_eq!(command.value("SELECT 'goes on'").await, "goes on");
    }
}

/// A session that kills itself hears what it would hear from a server.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_may_kill_themselves() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        for what in ["KILL", "KILL QUERY"] {
            let mut direct = stack.direct(stack.pair.master.port()).await;
            let mut through = stack.session().await;
            let mut told = Vec::new();
            for session in [&mut direct, &mut through] {
                let id = server_id(session).await;
                let first = outcome(session, &format!("{what} {id}")).await;
                let then = outcome(session, "SELECT 1").await;
                told.push((first, then));
            }
            assert_eq!(told[1], told[0], "{flavor}: {what}");
            let mut through = stack.session().await;
            let kill = format!("{what} {}", through.id());
            let by_greeting = outcome(&mut through, &kill).await;
            assert_eq!(by_greeting, told[0].0, "{flavor}: {what} by the greeting's id");
        }
    }
}

/// Whom an account may kill its server decides.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_kill_their_own() {
    for flavor in flavors() {
        let users = format!(
            "users:\n  - {{name: {}, pass: {}}}\n  - {{name: {}, pass: {}}}",
            APP.user, APP.pass, ROOT.user, ROOT.pass
        );
        let stack = Stack::start_with(flavor, &users).await;
        let port = stack.failsoft.port();
        let mut root = conn(port, ROOT.user, ROOT.pass, Some("app")).await.unwrap();
        let mut app = stack.session().await;
        for holds_a_server in [false, true] {
            let told = outcome(&mut app, &format!("KILL {}", root.id())).await;
            assert!(is_error(&told, 1095, "HY000"), "{holds_a_server}: {told}");
            execute(&mut root, "SELECT 1").await;
        }
        let other = stack.session().await;
        let task = start(&stack, stack.pair.master.port(), other).await;
        let id = running(&stack, stack.pair.master.port(), "SELECT COUNT(*), SLEEP%").await[0];
        execute(&mut root, &format!("KILL {id}")).await;
        let (mut other, _) = task.await.unwrap();
        assert_eq!(outcome(&mut other, "SELECT 1").await, "closed");
    }
}

/// Nobody waits for a read whose client is gone, nor for a statement of a transaction that goes with
/// it; a write by itself comes to its end, as it does with a server.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_for_nobody_is_killed() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let port = stack.pair.master.port();
        let slow_write = "INSERT INTO t SELECT 7, SLEEP(3)";
        for (begin, statement, like) in [
            ("SELECT 1", SLEEP, "SELECT COUNT(*), SLEEP%"),
            ("BEGIN", "INSERT INTO t SELECT 6, SLEEP(1000)", "INSERT INTO t%"),
            ("SELECT 1", slow_write, "INSERT INTO t%"),
            // A server looks after its client while it sleeps.
            ("SELECT 1", "INSERT INTO t SELECT 8, SLEEP(1000)", "INSERT INTO t%"),
        ] {
            let mut wire = Wire::login(stack.failsoft.port(), 0).await;
            wire.query(begin).await;
            wire.client.command(com::QUERY, statement.as_bytes()).await.unwrap();
            wait_until(PATIENCE, "a statement that runs", || async {
                !running(&stack, port, like).await.is_empty()
            })
            .await;
            drop(wire);
            wait_until(PATIENCE, "its end", || async {
                running(&stack, port, like).await.is_empty()
            })
            .await;
        }
        let mut direct = stack.direct(port).await;
        wait_until(PATIENCE, "the write by itself", || async {
            let mut direct = stack.direct(port).await;
            query_one::<i64>(&mut direct, "SELECT COUNT(*) FROM t WHERE id = 7").await == 1
        })
        .await;
        let ids: Vec<i32> = direct.query("SELECT id FROM t ORDER BY id").await.unwrap();
        // What a server makes of a sleep whose client is gone is its own affair.
        assert!(ids.contains(&7) && !ids.contains(&6), "{ids:?}");
        // Who sends no more may still read: what was sent before is done, as a server does it.
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        let ahead = ["SELECT SLEEP(0.5)", "BEGIN", "INSERT INTO t VALUES (20, 'a')", "COMMIT"];
        // The last is answered or not: MySQL looks whether its client is there.
        for statement in ahead.into_iter().chain(["SELECT 'last'"]) {
            wire.client.command(com::QUERY, statement.as_bytes()).await.unwrap();
        }
        wire.client.stream.shutdown().await.unwrap();
        assert_eq!(wire.reply(Kind::Results).await.len(), 5);
        for statement in &ahead[1..] {
            let end = wire.reply(Kind::Results).await;
            assert!(end[0].is_ok(), "{statement}: {:?}", end[0].error());
        }
        let count = "SELECT COUNT(*) FROM t WHERE id = 20";
        assert_eq!(query_one::<i64>(&mut direct, count).await, 1);
        // Commands sent ahead are served in their order, and leave no doubt about the client.
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        wire.client.command(com::QUERY, b"SELECT SLEEP(0.2)").await.unwrap();
        wire.client.command(com::QUERY, b"SELECT 'ahead'").await.unwrap();
        wire.reply(Kind::Results).await;
        assert_eq!(wire.reply(Kind::Results).await.len(), 5);
    }
}
