//! Writes that wait for the master, with `hold_writes`.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests measure and panic"
)]

use std::time::{Duration, Instant};

use failsoft_tests::{PATIENCE, Stack, is_error, outcome};
use mysql_async::prelude::Queryable;
use testkit::{Failsoft, Login, RawClient, execute, flavors, query_one};

async fn held(stack: &Stack, count: f64) {
    testkit::wait_until(PATIENCE, "writes that wait", || async {
        stack.metric("failsoft_writes_held").await == count
    })
    .await;
}

/// A write, a prepared one, a transaction and a locking read that find the master dead are served
/// when it is back, without an error, once each; reads are answered meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_the_master() {
    for flavor in flavors() {
        let mut stack = Stack::start_with(flavor, "hold_writes: 5m\n").await;
        let [mut plain, mut prepared, mut transaction, mut locking, mut reader] = [
            stack.session().await,
            stack.session().await,
            stack.session().await,
            stack.session().await,
            stack.session().await,
        ];
        let insert = prepared.prep("INSERT INTO t VALUES (?, 'held')").await.unwrap();
        stack.pair.wait_synced().await.unwrap();
        stack.pair.master.kill().unwrap();
        let plain =
            tokio::spawn(
                async move { plain.query_drop("INSERT INTO t VALUES (10, 'held')").await },
            );
        let prepared = tokio::spawn(async move { prepared.exec_drop(&insert, (11,)).await });
        let transaction = tokio::spawn(async move {
            transaction.query_drop("BEGIN").await?;
            transaction.query_drop("INSERT INTO t VALUES (12, 'held')").await?;
            transaction.query_drop("COMMIT").await
        });
        let locking = tokio::spawn(async move {
            locking.query_first::<i32, _>("SELECT id FROM t WHERE id = 1 FOR UPDATE").await
        });
        held(&stack, 4.0).await;
        assert_eq!(query_one::<i32>(&mut reader, "SELECT COUNT(*) FROM t").await, 1);
        execute(&mut reader, "START TRANSACTION READ ONLY").await;
        execute(&mut reader, "COMMIT").await;
        stack.wait_mode("read-only", "severed").await;
        held(&stack, 4.0).await;
        stack.pair.master.start_again().await.unwrap();
        for task in [plain, prepared, transaction] {
            task.await.unwrap().unwrap();
        }
        assert_eq!(locking.await.unwrap().unwrap(), Some(1));
        held(&stack, 0.0).await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        let ids = "SELECT GROUP_CONCAT(id ORDER BY id) FROM t";
        assert_eq!(query_one::<String>(&mut direct, ids).await, "1,10,11,12");
        assert_eq!(stack.metric("failsoft_writes_unknown_total").await, 0.0);
    }
}

/// A write that waited in vain is refused, and says so; one whose partition is read-only on purpose
/// does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_runs_out() {
    for flavor in flavors() {
        let mut stack = Stack::start_with(flavor, "hold_writes: 1500ms\n").await;
        let mut session = stack.session().await;
        stack.pair.master.kill().unwrap();
        let start = Instant::now();
        let refused = outcome(&mut session, "INSERT INTO t VALUES (3, 'late')").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");
        assert!(refused.contains("; the write waited "), "{refused}");
        assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
        held(&stack, 0.0).await;
        stack.pair.master.start_again().await.unwrap();
        stack.wait_mode("read-write", "").await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        assert_eq!(query_one::<i32>(&mut direct, "SELECT COUNT(*) FROM t WHERE id = 3").await, 0);
        let databases = [("master", stack.pair.master.port())];
        let yaml = "hold_writes: 10m\nread_only: true\n";
        let on_purpose = Failsoft::config(&databases).with(yaml).start().await;
        let mut session = on_purpose.conn(Some("app")).await.unwrap();
        let refused = outcome(&mut session, "INSERT INTO t VALUES (3, 'never')").await;
        assert!(refused.contains("read-only: config"), "{refused}");
    }
}

/// While an operator holds writes back, what begins waits, and what has begun comes to its end.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_holds_writes_back() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let pause = |json: &'static str| stack.failsoft.http_post("/api/v1/pause", json);
        let (mut open, mut temporary) = (stack.session().await, stack.session().await);
        let (plain, begins) = (stack.session().await, stack.session().await);
        execute(&mut open, "BEGIN").await;
        execute(&mut open, "INSERT INTO t VALUES (2, 'begun')").await;
        execute(&mut temporary, "CREATE TEMPORARY TABLE mine (id INT)").await;
        let (status, body) = pause("{\"hold_s\": 600}").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("\"reason\":\"paused\""), "{body}");
        let mut waiting = Vec::new();
        for (mut session, sql) in [
            (temporary, "INSERT INTO t VALUES (3, 'tied')"),
            (plain, "INSERT INTO t VALUES (4, 'plain')"),
            (begins, "BEGIN"),
        ] {
            waiting.push(tokio::spawn(async move {
                let told = outcome(&mut session, sql).await;
                (session, told)
            }));
        }
        held(&stack, 3.0).await;
        execute(&mut open, "INSERT INTO t VALUES (5, 'begun')").await;
        assert_eq!(query_one::<i32>(&mut open, "SELECT COUNT(*) FROM t").await, 3);
        execute(&mut open, "COMMIT").await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        let ids = "SELECT GROUP_CONCAT(id ORDER BY id) FROM t";
        assert_eq!(query_one::<String>(&mut direct, ids).await, "1,2,5", "{flavor}");
        let (status, body) = stack.failsoft.http_post("/api/v1/resume", "{}").await;
        assert_eq!(status, 200, "{body}");
        let mut sessions = Vec::new();
        for task in waiting {
            let (session, told) = task.await.unwrap();
            assert_eq!(told, "ok", "{flavor}");
            sessions.push(session);
        }
        held(&stack, 0.0).await;
        let [temporary, _, begins] = &mut sessions[..] else { panic!("three sessions") };
        execute(begins, "INSERT INTO t VALUES (6, 'began')").await;
        execute(begins, "COMMIT").await;
        execute(temporary, "INSERT INTO mine VALUES (1)").await;
        assert_eq!(query_one::<String>(&mut direct, ids).await, "1,2,3,4,5,6", "{flavor}");
    }
}

/// A session stays with the master that it is on, as long as it begins nothing there, so that it finds
/// what it left there.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_stays_where_writes_are_held_back() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let master = stack.pair.master.port();
        let (mut asks, mut off) = (stack.session().await, stack.session().await);
        execute(&mut asks, "CREATE TABLE given (id INT PRIMARY KEY AUTO_INCREMENT)").await;
        execute(&mut asks, "INSERT INTO given VALUES (41)").await;
        execute(&mut asks, "INSERT INTO given VALUES ()").await;
        execute(&mut off, "SET autocommit = 0").await;
        let pause = |json: &'static str| stack.failsoft.http_post("/api/v1/pause", json);
        let begins = "SELECT @@port FROM t LIMIT 1";
        let (status, body) = pause("{\"hold_s\": 1}").await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(query_one::<u16>(&mut asks, "SELECT @@port").await, master, "{flavor}");
        assert_eq!(query_one::<i32>(&mut asks, "SELECT LAST_INSERT_ID()").await, 42, "{flavor}");
        assert_eq!(query_one::<u16>(&mut off, begins).await, stack.pair.replica.port());
        // It is on a replica, in a transaction, where no wait would help.
        let told = outcome(&mut off, "INSERT INTO t VALUES (2, 'tied')").await;
        assert!(is_error(&told, 1290, "HY000"), "{flavor}: {told}");
        assert!(told.contains("this session is on replica"), "{flavor}: {told}");
        execute(&mut off, "ROLLBACK").await;
        // A later order holds for those who wait already.
        let (status, body) = pause("{\"hold_s\": 3}").await;
        assert_eq!(status, 200, "{body}");
        let reading = tokio::spawn(async move { query_one::<u16>(&mut off, begins).await });
        held(&stack, 1.0).await;
        let (status, body) = pause("{\"hold_s\": 600}").await;
        assert_eq!(status, 200, "{body}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        held(&stack, 1.0).await;
        let (status, body) = stack.failsoft.http_post("/api/v1/resume", "{}").await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(reading.await.unwrap(), master, "{flavor}");
        assert_eq!(query_one::<i32>(&mut asks, "SELECT LAST_INSERT_ID()").await, 42, "{flavor}");
    }
}

/// The latest order says how long writes wait; orders that make no sense change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn orders_to_hold_writes_back() {
    let Some(flavor) = flavors().into_iter().next() else { return };
    let stack = Stack::start(flavor).await;
    let pause = |json: &'static str| stack.failsoft.http_post("/api/v1/pause", json);
    let mut session = stack.session().await;
    let (status, body) = pause("{\"hold_s\": 600}").await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = stack.failsoft.http_post("/api/v1/resume", "{}").await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = pause("{\"hold_s\": 1, \"partition\": \"default\"}").await;
    assert_eq!(status, 200, "{body}");
    let refused = outcome(&mut session, "INSERT INTO t VALUES (7, 'late')").await;
    assert!(is_error(&refused, 1290, "HY000"), "{refused}");
    let words = "read-only: paused, an operator holds writes back; the write waited ";
    assert!(refused.contains(words), "{refused}");
    let log = stack.failsoft.log();
    for line in [
        " holds writes back, each for 600s at most",
        " lets writes go on",
        " holds writes of partition default back, each for 1s at most",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    for json in ["{\"hold\": 1}", "{\"hold_s\": -1}", "no"] {
        assert_eq!(pause(json).await.0, 400, "{json}");
    }
    assert_eq!(pause("{\"partition\": \"nowhere\"}").await.0, 404);
}

/// A client that leaves while its write waits takes the write with it: nothing of it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_write_with_it() {
    for flavor in flavors() {
        let mut stack = Stack::start_with(flavor, "hold_writes: 5m\n").await;
        stack.pair.master.kill().unwrap();
        let login = Login::new("app", "app-pass");
        let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
        client.command(3, b"INSERT INTO app.t VALUES (4, 'left')").await.unwrap();
        held(&stack, 1.0).await;
        drop(client);
        held(&stack, 0.0).await;
        stack.pair.master.start_again().await.unwrap();
        stack.wait_mode("read-write", "").await;
        let mut session = stack.session().await;
        assert_eq!(query_one::<i32>(&mut session, "SELECT COUNT(*) FROM t WHERE id = 4").await, 0);
    }
}

/// A write that waits can be killed, and is not sent later.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_can_be_killed() {
    for flavor in flavors() {
        let mut stack = Stack::start_with(flavor, "hold_writes: 5m\n").await;
        stack.pair.master.kill().unwrap();
        let login = Login::new("app", "app-pass");
        let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
        let id = client.greeting.connection_id;
        client.command(3, b"INSERT INTO app.t VALUES (6, 'killed')").await.unwrap();
        held(&stack, 1.0).await;
        let mut killer = stack.session().await;
        execute(&mut killer, &format!("KILL QUERY {id}")).await;
        let told = client.read().await.unwrap().error().unwrap();
        assert_eq!((told.0, told.1.as_str()), (1317, "70100"), "{flavor}: {}", told.2);
        held(&stack, 0.0).await;
        stack.pair.master.start_again().await.unwrap();
        stack.wait_mode("read-write", "").await;
        // The session goes on.
        client.command(3, b"INSERT INTO app.t VALUES (7, 'after')").await.unwrap();
        assert!(client.read().await.unwrap().is_ok());
        let ids: Vec<i32> = killer.query("SELECT id FROM t ORDER BY id").await.unwrap();
        assert_eq!(ids, [1, 7], "{flavor}");
    }
}

/// failsoft that is to end lets no write wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_the_wait() {
    let Some(flavor) = flavors().into_iter().next() else { return };
    let mut stack = Stack::start_with(flavor, "hold_writes: 5m\n").await;
    stack.pair.master.kill().unwrap();
    let mut session = stack.session().await;
    let waits =
        tokio::spawn(
            async move { outcome(&mut session, "INSERT INTO t VALUES (5, 'drained')").await },
        );
    held(&stack, 1.0).await;
    stack.failsoft.terminate();
    let refused = waits.await.unwrap();
    assert!(is_error(&refused, 1290, "HY000"), "{refused}");
    assert_eq!(stack.failsoft.stop().await, Some(0));
}
