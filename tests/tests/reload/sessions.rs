//! What becomes of open sessions when master and replica change their parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use failsoft_tests::{PATIENCE, Stack, cut, is_error, outcome, reload};
use mysql_async::prelude::Queryable;
use testkit::{Direction, Failsoft, FaultProxy, execute, flavors, query_one, wait_until};

use crate::{Strangers, config_of, hang_up, port_of};

/// Scenario 2, with replication and a real promotion.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_writes_to_the_new_master() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let old = stack.pair.master.port();
        let mut session = stack.session().await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'before')").await;
        let mut late = stack.session().await;
        let mut open = stack.session().await;
        execute(&mut open, "BEGIN").await;
        execute(&mut open, "INSERT INTO t VALUES (3, 'never')").await;
        stack.pair.promote().await.unwrap();
        assert_ne!(stack.pair.master.port(), old);
        // What was the master replicates now, and the file still says otherwise.
        stack.wait_mode("read-only", "misconfigured").await;
        let config = config_of(&stack);
        hang_up(&mut stack.failsoft, &config).await;

        assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (4, 'after')").await, "ok");
        assert_eq!(outcome(&mut late, "INSERT INTO t VALUES (5, 'late')").await, "ok");
        let lost = outcome(&mut open, "COMMIT").await;
        assert!(is_error(&lost, 1213, "40001"), "{flavor}: {lost}");
        assert_eq!(outcome(&mut open, "ROLLBACK").await, "ok");
        assert_eq!(outcome(&mut open, "INSERT INTO t VALUES (6, 'open')").await, "ok");
        stack.pair.wait_synced().await.unwrap();
        for server in [&stack.pair.master, &stack.pair.replica] {
            let mut direct = stack.direct(server.port()).await;
            let ids: Vec<i32> = direct.query("SELECT id FROM t ORDER BY id").await.unwrap();
            assert_eq!(ids, [1, 2, 4, 5, 6], "{flavor}");
        }
    }
}

/// While writes are held back, another server becomes the master, and no client hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_in_which_no_write_fails() {
    const WRITERS: i32 = 8;
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let ends = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for writer in 1..=WRITERS {
            let (mut session, ends) = (stack.session().await, Arc::clone(&ends));
            writers.push(tokio::spawn(async move {
                let mut written = Vec::new();
                while !ends.load(Ordering::Relaxed) || written.len() < 2 {
                    let id = writer * 100_000 + i32::try_from(written.len()).unwrap();
                    let insert = format!("INSERT INTO t VALUES ({id}, 'switched')");
                    // One in three in a transaction, which is begun or not when writes are held.
                    let steps = match id % 3 {
                        0 => vec!["BEGIN", &insert, "COMMIT"],
                        _ => vec![insert.as_str()],
                    };
                    for step in steps {
                        let told = outcome(&mut session, step).await;
                        assert_eq!(told, "ok", "{step}");
                    }
                    written.push(id);
                }
                written
            }));
        }
        let order = stack.failsoft.http_post("/api/v1/pause", "{\"hold_s\": 600}").await;
        assert_eq!(order.0, 200, "{}", order.1);
        wait_until(PATIENCE, "all writers wait", || async {
            stack.metric("failsoft_writes_held").await == f64::from(WRITERS)
        })
        .await;
        let old = stack.pair.master.port();
        stack.pair.promote().await.unwrap();
        reload(&stack.failsoft, &config_of(&stack)).await;
        let order = stack.failsoft.http_post("/api/v1/resume", "{}").await;
        assert_eq!(order.0, 200, "{}", order.1);
        ends.store(true, Ordering::Relaxed);
        let mut written = vec![1];
        for writer in writers {
            written.extend(writer.await.unwrap());
        }
        written.sort_unstable();
        assert_ne!(stack.pair.master.port(), old);
        let mut direct = stack.direct(stack.pair.master.port()).await;
        let ids: Vec<i32> = direct.query("SELECT id FROM t ORDER BY id").await.unwrap();
        assert_eq!(ids, written, "{flavor}");
        assert_eq!(stack.metric("failsoft_writes_unknown_total").await, 0.0);
    }
}

/// There is no moment in which the new master is not known to be one: it is looked at first.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_refused_for_want_of_a_check() {
    let Some(flavor) = flavors().first().copied() else { return };
    // Checks by themselves come too late to be of any help.
    let seldom = "health: {interval: 10m, threshold: 5, timeout: 10s}";
    let strangers = Strangers::start(flavor, 3, seldom).await;
    let mut session = strangers.failsoft.conn(Some("app")).await.unwrap();
    for (id, master) in [1, 2, 0, 1].into_iter().enumerate() {
        // The third one is new to failsoft whenever it becomes the master.
        let servers = if master == 2 { vec![2, 0] } else { vec![master, 1 - master] };
        let databases: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(at, server)| {
                (if at == 0 { "master" } else { "replica" }, strangers.port(*server))
            })
            .collect();
        reload(&strangers.failsoft, &Failsoft::config(&databases).with(seldom)).await;
        let told = outcome(&mut session, &format!("INSERT INTO t VALUES ({id}, 0)")).await;
        assert_eq!(told, "ok", "{master}");
        let id = i32::try_from(id).unwrap();
        assert!(strangers.rows(master).await.contains(&id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_carried_goes_along() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 2, "").await;
        let failsoft = &strangers.failsoft;
        let mut silent = failsoft.conn(Some("app")).await.unwrap();
        let mut session = failsoft.conn(Some("app")).await.unwrap();
        let plain = "SET SESSION sql_mode = 'ANSI_QUOTES', SESSION wait_timeout = 4711";
        execute(&mut session, plain).await;
        execute(&mut session, "SET autocommit = 0").await;
        execute(&mut session, "SET NAMES latin1").await;
        let insert = session.prep("INSERT INTO t VALUES (?, ?)").await.unwrap();
        session.exec_drop(&insert, (1, 1)).await.unwrap();
        execute(&mut session, "COMMIT").await;
        assert_eq!(port_of(&mut session).await, strangers.port(0));
        // With autocommit off a read begins a transaction as well.
        execute(&mut session, "COMMIT").await;
        reload(failsoft, &strangers.with_master(1)).await;
        session.exec_drop(&insert, (2, 2)).await.unwrap();
        execute(&mut session, "COMMIT").await;
        let all = "SELECT CONCAT(@@sql_mode, @@wait_timeout, @@autocommit + 0, \
                   @@character_set_client, DATABASE(), ':', @@port)";
        let seen: String = query_one(&mut session, all).await;
        assert_eq!(seen, format!("ANSI_QUOTES47110latin1app:{}", strangers.port(1)), "{flavor}");
        assert_eq!(port_of(&mut silent).await, strangers.port(1));
        assert_eq!(strangers.rows(0).await, [1], "{flavor}");
        assert_eq!(strangers.rows(1).await, [2], "{flavor}");
    }
}

/// What cannot be carried is told, once, and ends the session; nothing of it reaches the new master.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_is_told() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 2, "").await;
        // what ties the session, what is then asked for, what is named
        let table = [
            (
                "CREATE TEMPORARY TABLE mine (a INT)",
                "INSERT INTO t VALUES (9, 0)",
                "temporary tables",
            ),
            ("LOCK TABLES t WRITE", "INSERT INTO t VALUES (9, 0)", "LOCK TABLES"),
            ("SELECT GET_LOCK('mine', 0)", "SELECT 1", "GET_LOCK"),
            ("SELECT 1 INTO @mine", "SELECT @mine", "user variables"),
            ("PREPARE mine FROM 'SELECT 1'", "EXECUTE mine", "PREPARE"),
        ];
        let mut sessions = Vec::new();
        for (tie, _, _) in table {
            let mut session = strangers.failsoft.conn(Some("app")).await.unwrap();
            execute(&mut session, tie).await;
            sessions.push(session);
        }
        reload(&strangers.failsoft, &strangers.with_master(1)).await;
        for ((tie, asked, state), mut session) in table.into_iter().zip(sessions) {
            let told = outcome(&mut session, asked).await;
            assert!(is_error(&told, 1053, "08S01"), "{flavor}: {tie}: {told}");
            assert!(told.contains(state), "{flavor}: {tie}: {told}");
            assert!(told.contains("it is no longer the master it was"), "{flavor}: {tie}: {told}");
            assert_eq!(outcome(&mut session, "SELECT 1").await, "closed", "{flavor}: {tie}");
        }
        assert_eq!(strangers.rows(1).await, [0; 0], "{flavor}");
    }
}

/// A transaction is rolled back at once, so that its locks hold up nobody on what was the master.
#[tokio::test(flavor = "multi_thread")]
async fn open_transactions_are_rolled_back_and_nothing_of_them_is_mixed() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 2, "").await;
        let mut direct = strangers.failsoft.conn(Some("app")).await.unwrap();
        execute(&mut direct, "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)").await;
        // how it begins, what it does, what comes next
        let table = [
            ("BEGIN", "UPDATE t SET v = 1 WHERE id = 1", "COMMIT"),
            (
                "SET autocommit = 0",
                "UPDATE t SET v = 1 WHERE id = 2",
                "INSERT INTO t VALUES (9, 0)",
            ),
            ("START TRANSACTION READ ONLY", "SELECT * FROM t", "SELECT * FROM t"),
            ("BEGIN", "SELECT * FROM t WHERE id = 3 FOR UPDATE", "UPDATE t SET v = 1 WHERE id = 3"),
        ];
        let mut sessions = Vec::new();
        for (begin, first, _) in table {
            let mut session = strangers.failsoft.conn(Some("app")).await.unwrap();
            execute(&mut session, begin).await;
            execute(&mut session, first).await;
            sessions.push(session);
        }
        reload(&strangers.failsoft, &strangers.with_master(1)).await;
        // Nobody has asked for anything yet, and the locks are gone.
        let mut old = strangers.direct(0).await;
        execute(&mut old, "SET SESSION innodb_lock_wait_timeout = 30").await;
        execute(&mut old, "UPDATE t SET v = 7").await;
        for ((begin, _, next), mut session) in table.into_iter().zip(sessions) {
            let told = outcome(&mut session, next).await;
            assert!(is_error(&told, 1213, "40001"), "{flavor}: {begin}: {told}");
            assert!(told.contains("it is no longer the master it was"), "{flavor}: {told}");
            let again = outcome(&mut session, "COMMIT").await;
            assert!(is_error(&again, 1213, "40001"), "{flavor}: {begin}: {again}");
            assert_eq!(outcome(&mut session, "ROLLBACK").await, "ok", "{flavor}: {begin}");
            assert_eq!(port_of(&mut session).await, strangers.port(1), "{flavor}: {begin}");
        }
        assert_eq!(strangers.rows(0).await, [1, 2, 3], "{flavor}");
        assert_eq!(strangers.rows(1).await, [0; 0], "{flavor}");
        let values: Vec<i32> = old.query("SELECT DISTINCT v FROM t").await.unwrap();
        assert_eq!(values, [7], "{flavor}: nothing of the transactions was committed");
    }
}

/// What runs on the old master ends there, and is answered by it; only then is it left.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_answered_by_the_server_that_it_runs_on() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 2, "").await;
        let (old, new) = (strangers.port(0), strangers.port(1));
        let session = || async { strangers.failsoft.conn(Some("app")).await.unwrap() };
        let (mut reader, mut writer, mut committer) =
            (session().await, session().await, session().await);
        let reading = tokio::spawn(async move {
            let seen: (i32, u16) =
                reader.query_first("SELECT SLEEP(3), @@port").await.unwrap().unwrap();
            (reader, seen)
        });
        let writing = tokio::spawn(async move {
            let told = outcome(&mut writer, "INSERT INTO t SELECT 1, SLEEP(3)").await;
            (writer, told)
        });
        let transacting = tokio::spawn(async move {
            execute(&mut committer, "BEGIN").await;
            let told = outcome(&mut committer, "INSERT INTO t SELECT 2, SLEEP(3)").await;
            (committer, told)
        });
        strangers.wait_for_sleepers(0, 3).await;
        reload(&strangers.failsoft, &strangers.with_master(1)).await;
        let mut other = session().await;
        assert_eq!(port_of(&mut other).await, new, "{flavor}: meanwhile others go to the new one");

        let (mut reader, seen) = reading.await.unwrap();
        assert_eq!(seen, (0, old), "{flavor}");
        let (mut writer, told) = writing.await.unwrap();
        assert_eq!(told, "ok", "{flavor}: the server that ran it said so");
        let (mut committer, told) = transacting.await.unwrap();
        assert_eq!(told, "ok", "{flavor}");
        let told = outcome(&mut committer, "COMMIT").await;
        assert!(is_error(&told, 1213, "40001"), "{flavor}: {told}");
        for session in [&mut reader, &mut writer] {
            assert_eq!(port_of(session).await, new, "{flavor}");
        }
        assert_eq!(strangers.rows(0).await, [1], "{flavor}");
        assert_eq!(strangers.rows(1).await, [0; 0], "{flavor}");
        let unknown = strangers.failsoft.http_get("/api/v1/status").await.1;
        assert!(unknown.contains("\"writes_unknown\":0"), "{unknown}");
        // Time enough for a late word of the old master, if there were any.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(port_of(&mut writer).await, new);
    }
}

/// A statement is prepared again on the master's new connection when the master becomes another: it
/// is executed on the new one, and there only.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_goes_while_a_statement_is_prepared_executes_nothing() {
    for flavor in flavors() {
        let calm = "connect_timeout: 30s\nhealth: {interval: 10m, threshold: 5, timeout: 500ms}";
        let strangers = Strangers::start(flavor, 2, "").await;
        let link = FaultProxy::start(strangers.port(0)).await;
        let config =
            |first, second| Failsoft::config(&[("master", first), ("replica", second)]).with(calm);
        reload(&strangers.failsoft, &config(link.port(), strangers.port(1))).await;
        let mut session = strangers.failsoft.conn(Some("app")).await.unwrap();
        let insert = session.prep("INSERT INTO t VALUES (?, ?)").await.unwrap();
        session.exec_drop(&insert, (1, 1)).await.unwrap();
        cut(&link).await;
        // On the connection that is made for this the statement is not known.
        assert_eq!(outcome(&mut session, "SELECT 1").await, "ok");
        let sent = link.bytes(Direction::ToServer);
        link.freeze();
        let inserting = tokio::spawn(async move {
            session.exec_drop(&insert, (2, 2)).await.map_err(|error| error.to_string())
        });
        // The question waits in the link.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!inserting.is_finished() && link.bytes(Direction::ToServer) <= sent + 64);
        reload(&strangers.failsoft, &config(strangers.port(1), link.port())).await;
        link.thaw();
        assert_eq!(inserting.await.unwrap(), Ok(()), "{flavor}");
        assert_eq!(strangers.rows(0).await, [1], "{flavor}");
        assert_eq!(strangers.rows(1).await, [2], "{flavor}");
    }
}
