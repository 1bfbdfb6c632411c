//! Connections that are kept when their session has ended: the next session finds nothing of it.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests measure and panic"
)]

use failsoft_tests::{PATIENCE, Stack, is_error, outcome, write_until_ok};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{Account, Failsoft, Flavor, execute, flavors, query_one, wait_until};

const OTHER: Account = Account { user: "other", pass: "other-pass" };

/// Of one core, so that every session finds what another left.
async fn stack(flavor: Flavor, pool: &str, more: &str) -> Stack {
    Stack::start_with(flavor, &format!("pool: {{mode: session{pool}}}\nthreads: 1\n{more}")).await
}

/// How many connections there are in this state, `open` or `idle`.
async fn connections(failsoft: &Failsoft, state: &str) -> f64 {
    let (_, metrics) = failsoft.http_get("/metrics").await;
    let lines = metrics.lines().filter(|line| line.starts_with("failsoft_server_connections{"));
    let of_state = lines.filter(|line| line.contains(&format!("state=\"{state}\"")));
    of_state.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Ends a session and waits until so many connections are kept.
async fn end(session: Conn, stack: &Stack, kept: f64) {
    session.disconnect().await.unwrap();
    wait_until(PATIENCE, &format!("{kept} connections that are kept"), || async {
        let (open, idle) = (
            connections(&stack.failsoft, "open").await,
            connections(&stack.failsoft, "idle").await,
        );
        (open, idle) == (0.0, kept)
    })
    .await;
}

/// The number of the connection that a session is on.
async fn number(session: &mut Conn) -> u64 {
    query_one(session, "SELECT CONNECTION_ID()").await
}

/// Whatever a session leaves behind, the next one on its connection is as on one of its own.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_session_is_left() {
    // What a session does, what the next one does, and what that comes to, a number or an error.
    let table: &[(&[&str], &str, &str)] = &[
        (&["SET @mine = 1"], "SELECT @mine IS NULL", "1"),
        (&["SELECT 1 INTO @mine"], "SELECT @mine IS NULL", "1"),
        (&["SET SESSION time_zone = '+03:00'"], "SELECT @@time_zone = @@GLOBAL.time_zone", "1"),
        (&["SET sql_mode = 'ANSI'"], "SELECT @@sql_mode = @@GLOBAL.sql_mode", "1"),
        (&["SET NAMES latin1"], "SELECT @@character_set_client = 'utf8mb4'", "1"),
        (&["SET NAMES latin1"], "SELECT @@collation_connection LIKE 'utf8mb4%'", "1"),
        (&["SET autocommit = 0"], "SELECT @@autocommit", "1"),
        (&["BEGIN", "INSERT INTO t VALUES (50, 'open')"], "SELECT COUNT(*) FROM t", "1"),
        (
            &["SET autocommit = 0", "INSERT INTO t VALUES (51, 'open')"],
            "SELECT COUNT(*) FROM t",
            "1",
        ),
        (&["SELECT GET_LOCK('mine', 0)"], "SELECT IS_USED_LOCK('mine') IS NULL", "1"),
        (&["LOCK TABLES t READ"], "SELECT COUNT(*) FROM other", "0"),
        (&["INSERT INTO given VALUES ()"], "SELECT LAST_INSERT_ID()", "0"),
        (&["CREATE TEMPORARY TABLE t (a INT)"], "SELECT COUNT(*) FROM t", "1"),
        (&["PREPARE mine FROM 'SELECT 1'"], "EXECUTE mine", "1243/HY000"),
        (&["HANDLER t OPEN AS mine"], "HANDLER mine READ FIRST", "1109/42S02"),
        (&["SET SESSION TRANSACTION READ ONLY"], "DELETE FROM other", "-"),
        (&["SET TRANSACTION READ ONLY"], "DELETE FROM other", "-"),
        (&["SELECT nope"], "SELECT @@error_count", "0"),
        (
            &["SET collation_database = utf8mb4_bin"],
            "SELECT @@collation_database = 'latin1_bin'",
            "1",
        ),
        (&["SELECT 1"], "SELECT @@character_set_database = 'latin1'", "1"),
    ];
    for flavor in flavors() {
        let stack = stack(flavor, "", "").await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        execute(&mut direct, "ALTER DATABASE app COLLATE latin1_bin").await;
        execute(&mut direct, "CREATE TABLE other (id INT PRIMARY KEY)").await;
        execute(&mut direct, "CREATE TABLE given (id INT PRIMARY KEY AUTO_INCREMENT)").await;
        for (does, asks, expected) in table {
            let mut session = stack.session().await;
            let first = number(&mut session).await;
            for statement in *does {
                let told = outcome(&mut session, statement).await;
                assert!(told == "ok" || statement.contains("nope"), "{flavor}: {does:?}: {told}");
            }
            end(session, &stack, 1.0).await;
            let mut session = stack.session().await;
            let answer = match session.query_first::<i64, _>(*asks).await {
                Ok(Some(number)) => number.to_string(),
                Ok(None) => "-".to_owned(),
                Err(mysql_async::Error::Server(error)) => format!("{}/{}", error.code, error.state),
                Err(error) => error.to_string(),
            };
            assert_eq!(answer, *expected, "{flavor}: {does:?}: {asks}");
            assert_eq!(number(&mut session).await, first, "{flavor}: {does:?}: another connection");
            // What is not known is not kept.
            let kept = if asks.starts_with("EXECUTE") { 0.0 } else { 1.0 };
            end(session, &stack, kept).await;
        }
        assert_eq!(stack.metric("failsoft_panics_total").await, 0.0);
    }
}

/// What no reset takes back is closed with its session.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_leave_traces_is_not_kept() {
    for flavor in flavors() {
        let stack = stack(flavor, "", "").await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        execute(&mut direct, "CREATE PROCEDURE p () SELECT 1").await;
        let traces: &[&[&str]] = &[
            &["CALL p()"],
            &["SET ROLE NONE"],
            // A reset leaves the role.
            &["SET ROLE NONE", "-reset"],
            &["SET @a = 1; SET @b = 2"],
            &["-prepared SET ROLE NONE"],
        ];
        for does in traces {
            let mut session = stack.session().await;
            for statement in *does {
                match *statement {
                    "-reset" => assert!(session.reset().await.unwrap()),
                    other => match other.strip_prefix("-prepared ") {
                        Some(text) => match session.prep(text).await {
                            Ok(prepared) => session.exec_drop(&prepared, ()).await.unwrap(),
                            // MySQL does not prepare it.
                            Err(_) => execute(&mut session, text).await,
                        },
                        None => execute(&mut session, other).await,
                    },
                }
            }
            end(session, &stack, 0.0).await;
        }
        // A server that does something for each client that logs in has to.
        let mut root = stack.root(stack.pair.master.port()).await;
        execute(&mut root, "SET GLOBAL init_connect = 'SET @greeted = 1'").await;
        let mut session = stack.session().await;
        assert_eq!(query_one::<i64>(&mut session, "SELECT @greeted").await, 1, "{flavor}");
        end(session, &stack, 0.0).await;
    }
}

/// A connection is kept for its account, schema and server, and for the master while it is that.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_for_those_they_are_for() {
    for flavor in flavors() {
        let users = "users: [{name: app, pass: app-pass}, {name: other, pass: other-pass}]\n";
        let mut stack = stack(flavor, ", idle_time: 10m", users).await;
        let mut root = stack.root(stack.pair.master.port()).await;
        for statement in [
            "CREATE USER other IDENTIFIED BY 'other-pass'",
            "GRANT ALL ON app.* TO other",
            "CREATE DATABASE app_b",
        ] {
            execute(&mut root, statement).await;
        }
        stack.pair.wait_synced().await.unwrap();
        let mut session = stack.session().await;
        let first = number(&mut session).await;
        end(session, &stack, 1.0).await;
        let mut session = stack.failsoft.conn_as(OTHER, Some("app")).await.unwrap();
        assert_eq!(query_one::<i64>(&mut session, "SELECT CURRENT_USER() LIKE 'other@%'").await, 1);
        end(session, &stack, 2.0).await;
        let mut session = stack.failsoft.conn(Some("app_b")).await.unwrap();
        assert_eq!(query_one::<String>(&mut session, "SELECT DATABASE()").await, "app_b");
        // Kept for those who come for the schema that it was left in.
        execute(&mut session, "USE app").await;
        let second = number(&mut session).await;
        assert_ne!(second, first);
        end(session, &stack, 3.0).await;
        let mut session = stack.session().await;
        assert_eq!(number(&mut session).await, second, "{flavor}: the last one first");
        assert_eq!(query_one::<String>(&mut session, "SELECT DATABASE()").await, "app");
        end(session, &stack, 3.0).await;
        // The master is lost, and what is kept of it.
        stack.pair.master.kill().unwrap();
        let mut session = stack.session().await;
        assert_eq!(query_one::<i64>(&mut session, "SELECT COUNT(*) FROM t").await, 1);
        let told = outcome(&mut session, "INSERT INTO t VALUES (2, 'refused')").await;
        assert!(is_error(&told, 1290, "HY000"), "{flavor}: {told}");
        let there: u16 = query_one(&mut session, "SELECT @@port").await;
        assert_eq!(there, stack.pair.replica.port(), "{flavor}");
        session.disconnect().await.unwrap();
        // What is kept of the replica takes no writes either.
        let mut session = stack.session().await;
        let told = outcome(&mut session, "INSERT INTO t VALUES (2, 'refused')").await;
        assert!(is_error(&told, 1290, "HY000"), "{flavor}: {told}");
        stack.pair.master.start_again().await.unwrap();
        write_until_ok(&mut session, "INSERT INTO t VALUES (2, 'after')").await;
        let there: u16 = query_one(&mut session, "SELECT @@port").await;
        assert_eq!(there, stack.pair.master.port(), "{flavor}");
    }
}

/// What the server closes, or what is old, is nobody's; and no more are kept than are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_has_an_end() {
    for flavor in flavors() {
        let limits = "limits: {server_connections: 3}\n";
        let stack = stack(flavor, ", idle: 2, idle_time: 2s", limits).await;
        let mut sessions = Vec::new();
        for _ in 0..3 {
            let mut session = stack.session().await;
            execute(&mut session, "SELECT 1").await;
            sessions.push(session);
        }
        let mut full = stack.session().await;
        let told = outcome(&mut full, "SELECT 1").await;
        assert!(is_error(&told, 1040, "08004"), "{flavor}: {told}");
        drop(full);
        for session in sessions {
            session.disconnect().await.unwrap();
        }
        wait_until(PATIENCE, "two connections that are kept", || async {
            connections(&stack.failsoft, "open").await + connections(&stack.failsoft, "idle").await
                <= 2.0
        })
        .await;
        // Those that are kept make room for another account's, and for another schema's.
        let mut session = stack.failsoft.conn(None).await.unwrap();
        let mut more = stack.failsoft.conn(None).await.unwrap();
        for session in [&mut session, &mut more] {
            execute(session, "SELECT 1").await;
        }
        session.disconnect().await.unwrap();
        more.disconnect().await.unwrap();
        wait_until(PATIENCE, "none that is kept any more", || async {
            connections(&stack.failsoft, "idle").await == 0.0
        })
        .await;
        // The server hangs up on one that is kept, if that is not too old by now.
        let mut session = stack.session().await;
        let first = number(&mut session).await;
        session.disconnect().await.unwrap();
        let mut root = stack.root(stack.pair.master.port()).await;
        let told = outcome(&mut root, &format!("KILL {first}")).await;
        assert!(told == "ok" || is_error(&told, 1094, "HY000"), "{flavor}: {told}");
        let there =
            format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {first}");
        wait_until(PATIENCE, "no connection that was killed", || async {
            query_one::<i64>(&mut stack.root(stack.pair.master.port()).await, &there).await == 0
        })
        .await;
        let mut session = stack.session().await;
        assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (3, 'x')").await, "ok", "{flavor}");
        assert_ne!(number(&mut session).await, first, "{flavor}");
    }
}
