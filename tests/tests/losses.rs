//! What becomes of a session when its server is lost: every row of the table, on both flavours.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::time::Duration;

use failsoft_tests::{PATIENCE, Stack, behind_a_link, behind_a_link_with};
use failsoft_tests::{cut, is_error, outcome, write_until_ok};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};
use testkit::{Cut, Direction, Login, RawClient, execute, flavors, query_one};

async fn count(stack: &Stack, id: i32) -> i64 {
    let mut direct = stack.direct(stack.pair.master.port()).await;
    query_one(&mut direct, &format!("SELECT COUNT(*) FROM t WHERE id = {id}")).await
}

/// Scenarios 3 and 15: the answer to a write is lost. The client hears that nobody knows, the write
/// is there once, and nothing sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "SELECT 1").await;
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let told = outcome(&mut session, "INSERT INTO t VALUES (2, 'unknown')").await;
        assert!(is_error(&told, 1180, "08007"), "{told}");
        assert!(told.contains("Outcome unknown: INSERT was sent to master 127.0.0.1:"), "{told}");
        assert!(told.contains("(reference "), "{told}");
        assert_eq!(count(&stack, 2).await, 1);
        // The session's state could be carried: it goes on.
        execute(&mut session, "INSERT INTO t VALUES (3, 'after')").await;
        testkit::wait_until(PATIENCE, "the count", || async {
            stack.metric("failsoft_writes_unknown_total").await == 1.0
        })
        .await;
        let log = stack.failsoft.log();
        assert!(log.contains("outcome unknown") && !log.contains("'unknown'"), "{log}");
        assert_eq!(in_the_ledger(&stack, &told).await, "INSERT INTO t VALUES (?, …)");
        testkit::wait_until(PATIENCE, "an event", || async {
            let (_, events) = stack.failsoft.http_get("/api/v1/events").await;
            events.contains("a write has an unknown outcome (")
        })
        .await;
        let insert = session.prep("INSERT INTO t VALUES (?, 'x')").await.unwrap();
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let told = session.exec_drop(&insert, (4,)).await;
        let told = told.expect_err("the connection broke").to_string();
        assert_eq!(in_the_ledger(&stack, &told).await, "INSERT INTO t VALUES (?, …)");
    }
}

/// failsoft is killed right after it told of an outcome, and knows of it when it is there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_outlives_failsoft() {
    let Some(flavor) = flavors().into_iter().next() else { return };
    let (mut stack, link) = behind_a_link_with(flavor, "ledger: outcomes.jsonl\n").await;
    let mut session = stack.session().await;
    execute(&mut session, "SELECT 1").await;
    link.cut_after(Direction::ToClient, 0, Cut::Reset);
    let told = outcome(&mut session, "INSERT INTO t VALUES (2, 'unknown')").await;
    stack.failsoft.kill();
    assert!(is_error(&told, 1180, "08007"), "{told}");
    stack.failsoft.start_again().await;
    assert_eq!(in_the_ledger(&stack, &told).await, "INSERT INTO t VALUES (?, …)");
}

/// The digest in the outcome ledger of what a client was told of, with its reference.
async fn in_the_ledger(stack: &Stack, told: &str) -> String {
    let reference = told.split("(reference ").nth(1).unwrap();
    let (code, body) = stack.failsoft.http_get("/api/v1/unknown-outcomes").await;
    assert_eq!(code, 200, "{body}");
    let outcomes: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    let found = outcomes.iter().find(|outcome| {
        outcome["reference"].as_str().is_some_and(|its| reference.starts_with(its))
    });
    let found = found.unwrap_or_else(|| panic!("{told} is not in {body}"));
    assert!(found["server"].as_str().is_some_and(|s| s.starts_with("master 127.0.0.1:")));
    assert!(found["connection"].as_u64() > Some(0) && found["user"] == "app", "{found}");
    found["digest"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "BEGIN").await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'unknown')").await;
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let told = outcome(&mut session, "COMMIT").await;
        assert!(is_error(&told, 1180, "08007"), "{told}");
        assert!(told.contains("COMMIT was sent to master"), "{told}");
        assert_eq!(count(&stack, 2).await, 1);
        // Nothing is open any more: the next statements stand for themselves.
        execute(&mut session, "INSERT INTO t VALUES (3, 'after')").await;
        assert_eq!(count(&stack, 3).await, 1);
    }
}

/// Scenarios 2 and 19: COMMIT never answers OK for a transaction that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_went_with_its_master() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "START TRANSACTION").await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'lost')").await;
        stack.pair.master.kill().unwrap();
        for statement in ["INSERT INTO t VALUES (3, 'x')", "SELECT 1", "COMMIT", "COMMIT"] {
            let told = outcome(&mut session, statement).await;
            assert!(is_error(&told, 1213, "40001"), "{statement}: {told}");
            assert!(told.contains("Transaction was rolled back: master 127.0.0.1:"), "{told}");
            assert!(told.ends_with("; try restarting transaction"), "{told}");
        }
        assert_eq!(outcome(&mut session, "SET @a = 1").await, "ok");
        session.ping().await.unwrap();
        assert_eq!(outcome(&mut session, "ROLLBACK").await, "ok");
        assert_eq!(query_one::<i64>(&mut session, "SELECT COUNT(*) FROM t").await, 1);
        stack.pair.master.start_again().await.unwrap();
        write_until_ok(&mut session, "INSERT INTO t VALUES (4, 'after')").await;
        assert_eq!(count(&stack, 2).await, 0);
    }
}

/// A statement in flight inside a transaction is undone with it: that much is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_a_transaction_in_flight() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        for begin in ["BEGIN", "SET autocommit = 0"] {
            let mut session = stack.session().await;
            execute(&mut session, begin).await;
            link.cut_after(Direction::ToClient, 0, Cut::Reset);
            let told = outcome(&mut session, "INSERT INTO t VALUES (2, 'undone')").await;
            assert!(is_error(&told, 1213, "40001"), "{begin}: {told}");
            let told = outcome(&mut session, "COMMIT").await;
            assert!(is_error(&told, 1213, "40001"), "{begin}: {told}");
            assert_eq!(outcome(&mut session, "ROLLBACK").await, "ok");
            execute(&mut session, "SELECT 1").await;
            assert_eq!(count(&stack, 2).await, 0, "{begin}");
        }
    }
}

/// Scenario 16: DDL commits by itself, so nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn an_implicit_commit_in_flight() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "BEGIN").await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'x')").await;
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let told = outcome(&mut session, "CREATE TABLE u (a INT)").await;
        assert!(is_error(&told, 1180, "08007"), "{told}");
        execute(&mut session, "INSERT INTO t VALUES (3, 'after')").await;
    }
}

/// Scenario 17.
#[tokio::test(flavor = "multi_thread")]
async fn several_statements_in_a_packet() {
    for flavor in flavors() {
        let (mut stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "SELECT 1").await;
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let three = "INSERT INTO t VALUES (2, 'a'); INSERT INTO t VALUES (3, 'b'); SELECT 1";
        let told = outcome(&mut session, three).await;
        assert!(is_error(&told, 1180, "08007"), "{told}");
        // In read-only mode nothing of it is sent, though it begins with a read.
        stack.pair.master.kill().unwrap();
        let told = outcome(&mut session, "SELECT 1; INSERT INTO t VALUES (9, 'x')").await;
        assert!(is_error(&told, 1290, "HY000"), "{told}");
    }
}

/// Scenario 3: a read of which nothing was delivered is sent once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_in_flight_is_answered_by_a_replica() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        let master = stack.pair.master.port();
        let killed = async {
            let mut direct = stack.root(master).await;
            let running = "SELECT COUNT(*) FROM information_schema.processlist \
                           WHERE info LIKE 'SELECT SLEEP(3)%'";
            while query_one::<i64>(&mut direct, running).await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // A connection open while the server is killed must not be dropped in order.
            std::mem::forget(direct);
        };
        let read = async {
            session.query_first::<(i64, i64), _>("SELECT SLEEP(3), @@port").await.unwrap().unwrap()
        };
        let handle = async {
            killed.await;
        };
        let (port, ()) = tokio::join!(read, async {
            handle.await;
            // SIGKILL from outside: the pair itself is borrowed by the statement above.
            kill(stack.pair.master.pid());
        });
        assert_eq!(port, (0, i64::from(stack.pair.replica.port())), "{flavor}");
        stack.pair.master.kill().unwrap();
        testkit::wait_until(PATIENCE, "the count", || async {
            stack.metric("failsoft_statements_retried_total").await >= 1.0
        })
        .await;
    }
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Scenario 18: a result that has begun is never begun again.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_interrupted_after_rows() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "SELECT 1").await;
        let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
                    SELECT i, REPEAT('x', 1000) FROM n";
        link.cut_after(Direction::ToClient, 100_000, Cut::Reset);
        let told = outcome(&mut session, rows).await;
        assert!(
            is_error(&told, 1317, "70100") || told == "closed",
            "an error at a packet's end, closed in the middle of one: {told}"
        );
        if told != "closed" {
            assert!(told.contains("Result interrupted: master 127.0.0.1:"), "{told}");
            execute(&mut session, "SELECT 1").await;
        }
    }
}

/// The state of a session that cannot be given to another server is lost with its own, and the
/// client is told which.
#[tokio::test(flavor = "multi_thread")]
async fn state_that_is_lost() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let table = [
            ("CREATE TEMPORARY TABLE tt (a INT)", "its temporary tables"),
            ("SELECT GET_LOCK('l', 1)", "its user locks"),
            ("LOCK TABLES t WRITE", "its table locks"),
            ("SELECT @v := 1", "its user variables"),
            ("PREPARE p FROM 'SELECT 1'", "its prepared statements"),
            ("SET @u = UUID()", "the values of its session variables"),
            ("HANDLER t OPEN", "its open handlers"),
        ];
        for (statement, state) in table {
            let mut session = stack.session().await;
            execute(&mut session, statement).await;
            cut(&link).await;
            let told = outcome(&mut session, "SELECT 1").await;
            assert!(is_error(&told, 1053, "08S01"), "{statement}: {told}");
            assert!(told.contains(state) && told.contains("master 127.0.0.1:"), "{told}");
            assert_eq!(outcome(&mut session, "SELECT 1").await, "closed", "{statement}");
        }
        // What the insert was given is lost, and is not answered with 0.
        let mut session = stack.session().await;
        execute(&mut session, "CREATE TABLE auto (id INT PRIMARY KEY AUTO_INCREMENT)").await;
        execute(&mut session, "INSERT INTO auto VALUES ()").await;
        cut(&link).await;
        execute(&mut session, "SELECT 1").await;
        let told = outcome(&mut session, "SELECT LAST_INSERT_ID()").await;
        assert!(is_error(&told, 1053, "08S01") && told.contains("LAST_INSERT_ID()"), "{told}");
    }
}

/// Scenarios 13 and 27: what can be carried is, and nobody sees the change.
#[tokio::test(flavor = "multi_thread")]
async fn state_that_is_carried() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        let settings = [
            "SET NAMES latin1",
            "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
            "SET sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')",
            "SET sql_mode=(SELECT CONCAT(@@sql_mode, ',HIGH_NOT_PRECEDENCE')), @query = (SELECT 7);",
            "SET time_zone = '+05:00', @@session.group_concat_max_len = 4242",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET @plain = 'carried', @sum = 1 + 2",
            "SET autocommit = 0",
            "USE information_schema",
        ];
        for statement in settings {
            execute(&mut session, statement).await;
        }
        let seen = "SELECT DATABASE(), @@character_set_client, @@sql_mode, @@time_zone, \
                    @@group_concat_max_len, @plain, @sum, @query, @@autocommit";
        let before: Vec<Value> = row(&mut session, seen).await;
        execute(&mut session, "ROLLBACK").await;
        let id: u64 = query_one(&mut session, "SELECT CONNECTION_ID()").await;
        execute(&mut session, "ROLLBACK").await;
        cut(&link).await;
        let after: Vec<Value> = row(&mut session, seen).await;
        assert_eq!(before, after, "{flavor}");
        let new: u64 = query_one(&mut session, "SELECT CONNECTION_ID()").await;
        assert_ne!(id, new, "the connection was another");
    }
}

async fn row(session: &mut Conn, statement: &str) -> Vec<Value> {
    let row: mysql_async::Row = session.query_first(statement).await.unwrap().unwrap();
    row.unwrap()
}

/// Prepared statements go with the session from the master to a replica and back.
#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_travel() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        let read = session.prep("SELECT v FROM t WHERE id = ?").await.unwrap();
        let write = session.prep("INSERT INTO t VALUES (?, ?)").await.unwrap();
        session.exec_drop(&write, (2, "two")).await.unwrap();
        let seen: Option<String> = session.exec_first(&read, (2,)).await.unwrap();
        assert_eq!(seen.as_deref(), Some("two"));
        stack.pair.wait_synced().await.unwrap();
        stack.pair.master.kill().unwrap();
        let seen: Option<String> = session.exec_first(&read, (2,)).await.unwrap();
        assert_eq!(seen.as_deref(), Some("two"), "{flavor}: on the replica");
        match session.exec_drop(&write, (3, "three")).await {
            Err(mysql_async::Error::Server(error)) => assert_eq!(error.code, 1290),
            other => panic!("{other:?}"),
        }
        stack.pair.master.start_again().await.unwrap();
        write_until_ok(&mut session, "INSERT INTO t VALUES (4, 'four')").await;
        session.exec_drop(&write, (5, "five")).await.unwrap();
        let seen: Option<String> = session.exec_first(&read, (5,)).await.unwrap();
        assert_eq!(seen.as_deref(), Some("five"), "{flavor}: back on the master");
    }
}

/// Clients send the types of parameters with the first execution only; a server that a statement is
/// prepared on again is given them.
#[tokio::test(flavor = "multi_thread")]
async fn types_of_parameters_travel() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut client =
            RawClient::logged_in(stack.failsoft.port(), &Login::new("app", "app-pass")).await;
        client.command(0x16, b"SELECT ? + 1").await.unwrap();
        let ok = client.read().await.unwrap();
        assert!(ok.is_ok(), "{ok:?}");
        let id = ok.payload[1..5].to_vec();
        // One parameter and one column, each with an EOF where that is not deprecated.
        let definitions = if client_deprecates_eof(&client) { 2 } else { 4 };
        for _ in 0..definitions {
            client.read().await.unwrap();
        }
        let execution = |types: &[u8], value: u8| {
            let head = [&id[..], &[0, 1, 0, 0, 0, 0]].concat();
            [head, types.to_vec(), vec![value]].concat()
        };
        for (types, value) in [(&[1, 1, 0][..], 41), (&[0], 42)] {
            client.command(0x17, &execution(types, value)).await.unwrap();
            let row = read_one_row(&mut client).await;
            assert_eq!(row[2], value + 1, "{flavor}: {row:?}");
        }
        cut(&link).await;
        client.command(0x17, &execution(&[0], 99)).await.unwrap();
        let row = read_one_row(&mut client).await;
        assert_eq!(row[2], 100, "{flavor}: after the change of the connection: {row:?}");
    }
}

fn client_deprecates_eof(client: &RawClient) -> bool {
    let agreed = client.greeting.capabilities & testkit::capability::USUAL;
    agreed & testkit::capability::DEPRECATE_EOF != 0
}

/// Reads the reply to a query of one column and one row; returns the row.
async fn read_one_row(client: &mut RawClient) -> Vec<u8> {
    let count = client.read().await.unwrap();
    assert_eq!(count.payload, [1], "{count:?}");
    client.read().await.unwrap();
    if !client_deprecates_eof(client) {
        client.read().await.unwrap();
    }
    let row = client.read().await.unwrap();
    client.read().await.unwrap();
    row.payload
}

/// No server answers: an error within two seconds that names each, and a session that lives on.
#[tokio::test(flavor = "multi_thread")]
async fn no_server_at_all() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "SELECT 1").await;
        stack.pair.master.kill().unwrap();
        stack.pair.replica.kill().unwrap();
        let told = outcome(&mut session, "SELECT 1").await;
        assert!(is_error(&told, 1053, "08S01"), "{told}");
        let ports = [stack.pair.master.port(), stack.pair.replica.port()];
        for port in ports {
            assert!(told.contains(&format!("127.0.0.1:{port}: ")), "{told}");
        }
        stack.pair.master.start_again().await.unwrap();
        testkit::wait_until(PATIENCE, "reads", || async {
            let mut other = stack.session().await;
            outcome(&mut other, "SELECT 1").await == "ok"
        })
        .await;
        let start = std::time::Instant::now();
        while outcome(&mut session, "SELECT 1").await != "ok" {
            assert!(start.elapsed() < PATIENCE, "the first session never reads again");
        }
    }
}
