//! The main job: a session loses its master, reads on, is refused writes, and writes again, all on
//! one connection.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

use std::time::{Duration, Instant};

use failsoft_tests::{PATIENCE, READ_ONLY, Stack, is_error, outcome, write_until_ok};
use mysql_async::prelude::Queryable;
use testkit::{Failsoft, FaultProxy, Mode, Pair, execute, flavors, query_one};

/// Scenario 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_its_master() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'before')").await;
        stack.pair.wait_synced().await.unwrap();
        stack.pair.master.kill().unwrap();

        let start = Instant::now();
        let read = query_one::<String>(&mut session, "SELECT v FROM t WHERE id = 2").await;
        println!("{flavor}: first read after kill -9: {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!(read, "before");

        let refused = outcome(&mut session, "INSERT INTO t VALUES (3, 'lost')").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");
        let sentence = format!("{READ_ONLY} (failsoft: partition default is read-only: ");
        assert!(refused.contains(&sentence), "{refused}");
        assert!(refused.ends_with("; reads continue)"), "{refused}");
        println!("{flavor}: {refused}");

        // A session that begins now fares the same.
        let mut late = stack.session().await;
        assert_eq!(query_one::<i64>(&mut late, "SELECT COUNT(*) FROM t").await, 2);
        let refused = outcome(&mut late, "DELETE FROM t").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");

        stack.wait_mode("read-only", "severed").await;
        let refused = outcome(&mut session, "INSERT INTO t VALUES (3, 'lost')").await;
        assert!(refused.contains("read-only: severed, master 127.0.0.1:"), "{refused}");
        assert_eq!(query_one::<i64>(&mut session, "SELECT COUNT(*) FROM t").await, 2);

        stack.pair.master.start_again().await.unwrap();
        for (id, session) in [(4, &mut session), (5, &mut late)] {
            write_until_ok(session, &format!("INSERT INTO t VALUES ({id}, 'after')")).await;
        }
        stack.pair.wait_synced().await.unwrap();
        let mut replica = stack.direct(stack.pair.replica.port()).await;
        let ids: Vec<i32> = replica.query("SELECT id FROM t ORDER BY id").await.unwrap();
        assert_eq!(ids, [1, 2, 4, 5], "{flavor}");
    }
}

/// Scenario 7: nothing answers at the master's address any more, not even with a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_behind_a_black_hole_costs_one_connect_timeout() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let link = FaultProxy::start(pair.master.port()).await;
        let databases = [("master", link.port()), ("replica", pair.replica.port())];
        let yaml = "connect_timeout: 3s\nhealth: {interval: 1s, threshold: 3, timeout: 2900ms}";
        let failsoft = Failsoft::config(&databases).with(yaml).start().await;
        let mut stack = Stack::with_table(failsoft, pair).await;
        let mut session = stack.session().await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'before')").await;
        stack.pair.wait_synced().await.unwrap();
        link.set_mode(Mode::Drop).await;
        link.reset_all();
        stack.pair.master.kill().unwrap();

        let start = Instant::now();
        assert_eq!(query_one::<i64>(&mut session, "SELECT COUNT(*) FROM t").await, 2);
        let took = start.elapsed();
        println!("{flavor}: first read with the master in a black hole: {took:?}");
        assert!(took < Duration::from_secs(6), "connect_timeout is 3 s, it took {took:?}");
        let refused = outcome(&mut session, "INSERT INTO t VALUES (3, 'lost')").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");

        stack.wait_mode("read-only", "severed").await;
        let start = Instant::now();
        assert_eq!(query_one::<i64>(&mut session, "SELECT COUNT(*) FROM t").await, 2);
        assert!(
            start.elapsed() < Duration::from_millis(2900),
            "no statement waits once it is severed"
        );

        stack.pair.master.start_again().await.unwrap();
        link.set_mode(Mode::Pass).await;
        write_until_ok(&mut session, "INSERT INTO t VALUES (4, 'after')").await;
    }
}

/// Scenario 6: the server hangs. What was sent to it is given up when it fails its checks, and what
/// it says when it wakes up reaches nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_master_holds_nobody_for_long() {
    for flavor in flavors() {
        let yaml = "health: {interval: 300ms, threshold: 5, timeout: 1400ms}";
        let mut stack = Stack::start_with(flavor, yaml).await;
        let (mut reader, mut writer) = (stack.session().await, stack.session().await);
        execute(&mut reader, "SELECT 1").await;
        execute(&mut writer, "SELECT 1").await;
        stack.pair.master.pause().unwrap();
        let (read, wrote) = tokio::join!(
            async { query_one::<String>(&mut reader, "SELECT v FROM t WHERE id = 1").await },
            outcome(&mut writer, "INSERT INTO t VALUES (2, 'hung')"),
        );
        assert_eq!(read, "one", "{flavor}");
        assert!(is_error(&wrote, 1180, "08007"), "{wrote}");
        assert!(wrote.contains("Outcome unknown: INSERT was sent to master 127.0.0.1:"), "{wrote}");
        stack.wait_mode("read-only", "severed").await;
        stack.pair.master.resume().unwrap();
        // The connection is in step: the late answer of the paused server is not on it.
        for n in 0..20 {
            assert_eq!(query_one::<i64>(&mut reader, &format!("SELECT {n}")).await, n);
            assert_eq!(query_one::<i64>(&mut writer, &format!("SELECT {n}")).await, n);
        }
        write_until_ok(&mut writer, "INSERT INTO t VALUES (3, 'after')").await;
        let ids: Vec<i32> = reader.query("SELECT id FROM t ORDER BY id").await.unwrap();
        assert!(ids == [1, 3] || ids == [1, 2, 3], "once or not at all: {ids:?}");
    }
}

/// Scenario 4: no server at all, from the start.
#[tokio::test(flavor = "multi_thread")]
async fn servers_may_come_later() {
    for flavor in flavors() {
        let mut pair = Pair::start(flavor).await.unwrap();
        pair.master.kill().unwrap();
        pair.replica.kill().unwrap();
        let databases = [("master", pair.master.port()), ("replica", pair.replica.port())];
        let failsoft = Failsoft::config(&databases).start().await;
        let mut session = failsoft.conn(None).await.expect("a login with no server at all");
        let start = Instant::now();
        let none = outcome(&mut session, "SELECT 1").await;
        assert!(is_error(&none, 1053, "08S01"), "{none}");
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        for port in [pair.master.port(), pair.replica.port()] {
            assert!(none.contains(&format!("127.0.0.1:{port}: Connection refused")), "{none}");
        }
        let refused = outcome(&mut session, "CREATE TABLE app.x (a INT)").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");

        pair.replica.start_again().await.unwrap();
        testkit::wait_until(PATIENCE, "reads", || async {
            let mut session = failsoft.conn(None).await.unwrap();
            outcome(&mut session, "SELECT 1").await == "ok"
        })
        .await;
        assert_eq!(query_one::<i64>(&mut session, "SELECT 2").await, 2, "the first session too");
        pair.master.start_again().await.unwrap();
        write_until_ok(&mut session, "CREATE TABLE app.x (a INT)").await;
    }
}
