//! Connections that sessions share between their transactions: nobody meets what is another's, and all
//! get their turn.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure and panic"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

mod raw;

use failsoft_tests::{PATIENCE, Stack, behind_a_link_with, cut, is_error, outcome, write_until_ok};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use raw::{Kind, Wire, com, execution};
use testkit::{Account, Flavor, capability, execute, flavors, query_one, wait_until};

const OTHER: Account = Account { user: "other", pass: "other-pass" };

/// One connection for all, so that every session meets what another left.
const ONE: &str = "pool: {mode: transaction, size: 1, wait: 60s}\nthreads: 1\n";

async fn one(flavor: Flavor, more: &str) -> Stack {
    Stack::start_with(flavor, &format!("{ONE}{more}")).await
}

/// What the server's connection is that a session is on, without asking in its name.
async fn connections(stack: &Stack) -> Vec<u64> {
    let mut root = stack.root(stack.pair.master.port()).await;
    let accounts = format!("'{}', '{}'", testkit::APP.user, OTHER.user);
    let sql = format!("SELECT id FROM information_schema.processlist WHERE user IN ({accounts})");
    root.query(sql).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_share_twenty_connections() {
    const CLIENTS: i64 = 1000;
    const ROUNDS: i64 = 2;
    for flavor in flavors() {
        let stack = Stack::start_with(
            flavor,
            "pool: {mode: transaction, size: 20, wait: 60s}\nthreads: 2\nlimits: {server_connections: 20}",
        )
        .await;
        let stack = Arc::new(stack);
        let mut root = stack.root(stack.pair.master.port()).await;
        execute(&mut root, "CREATE TABLE rounds (client INT PRIMARY KEY, n INT)").await;
        execute(&mut root, "CREATE TABLE given (id INT PRIMARY KEY AUTO_INCREMENT, client INT)")
            .await;
        let longest = Arc::new(Mutex::new(Duration::ZERO));
        let done = Arc::new(AtomicBool::new(false));
        let most = tokio::spawn({
            let (stack, done) = (Arc::clone(&stack), Arc::clone(&done));
            async move {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(connections(&stack).await.len());
                }
                most
            }
        });
        let clients = (0..CLIENTS).map(|client| {
            let (stack, longest) = (Arc::clone(&stack), Arc::clone(&longest));
            tokio::spawn(async move {
                let mut session = stack.session().await;
                let insert = format!("INSERT INTO rounds VALUES ({client}, 0)");
                execute(&mut session, &insert).await;
                for round in 0..ROUNDS {
                    let began = Instant::now();
                    play(&mut session, client, round).await;
                    let took = began.elapsed();
                    let mut longest = longest.lock().unwrap();
                    *longest = took.max(*longest);
                }
            })
        });
        let began = Instant::now();
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        let took = began.elapsed();
        done.store(true, Ordering::Relaxed);
        let most = most.await.unwrap();
        assert!(most <= 20, "{flavor}: {most} connections");
        let sum: i64 = query_one(&mut root, "SELECT SUM(n) FROM rounds").await;
        assert_eq!(sum, CLIENTS * ROUNDS * 2, "{flavor}");
        let longest = *longest.lock().unwrap();
        println!(
            "{flavor}: {CLIENTS} clients, {ROUNDS} rounds each in {took:?}, the longest {longest:?}, \
             {most} connections"
        );
    }
}

/// A read, an insert with its id, and a transaction of two writes.
async fn play(session: &mut Conn, client: i64, round: i64) {
    let read = format!("SELECT n FROM rounds WHERE client = {client}");
    assert_eq!(query_one::<i64>(session, &read).await, round * 2);
    execute(session, &format!("INSERT INTO given (client) VALUES ({client})")).await;
    let own = "SELECT client FROM given WHERE id = LAST_INSERT_ID()";
    assert_eq!(query_one::<i64>(session, own).await, client);
    execute(session, "BEGIN").await;
    for _ in 0..2 {
        execute(session, &format!("UPDATE rounds SET n = n + 1 WHERE client = {client}")).await;
    }
    execute(session, "COMMIT").await;
}

/// What sessions in turn do on one connection, and what each of them then finds.
#[tokio::test(flavor = "multi_thread")]
async fn each_finds_its_own_and_nothing_of_others() {
    // What the first does, what it asks afterwards, what it finds, and what another finds.
    let table: &[(&str, &str, &str, &str)] = &[
        ("SET @mine = 7", "SELECT @mine", "7", "-"),
        ("SET SESSION time_zone = '+03:00'", "SELECT @@time_zone = '+03:00'", "1", "0"),
        ("SET NAMES latin1", "SELECT @@character_set_client = 'latin1'", "1", "0"),
        ("SET autocommit = 0", "SELECT @@autocommit", "0", "1"),
        ("SET SESSION TRANSACTION READ ONLY", "SELECT COUNT(*) FROM t", "1", "1"),
        ("USE information_schema", "SELECT DATABASE() = 'information_schema'", "1", "0"),
        ("INSERT INTO given VALUES (NULL, 1)", "SELECT LAST_INSERT_ID()", "1", "0"),
        // An id that the client gives is none that the server remembers.
        ("INSERT INTO given VALUES (70, 1)", "SELECT LAST_INSERT_ID()", "0", "0"),
        ("SELECT LAST_INSERT_ID(77)", "SELECT LAST_INSERT_ID()", "77", "0"),
        ("SELECT LAST_INSERT_ID(78)", "SELECT @@identity", "78", "0"),
        ("SELECT 1", "SELECT LAST_INSERT_ID()", "0", "0"),
        ("SELECT nope", "SELECT 3", "3", "3"),
    ];
    for flavor in flavors() {
        let stack = one(flavor, "").await;
        let mut direct = stack.root(stack.pair.master.port()).await;
        execute(&mut direct, "CREATE TABLE given (id INT PRIMARY KEY AUTO_INCREMENT, a INT)").await;
        for (does, asks, finds, another_finds) in table {
            let (mut first, mut second) = (stack.session().await, stack.session().await);
            assert_eq!(query_one::<i64>(&mut second, "SELECT 1").await, 1);
            let told = outcome(&mut first, does).await;
            assert!(told == "ok" || does.contains("nope"), "{flavor}: {does}: {told}");
            let before = connections(&stack).await;
            for _ in 0..2 {
                assert_eq!(answer(&mut second, asks).await, *another_finds, "{flavor}: {does}");
                assert_eq!(answer(&mut first, asks).await, *finds, "{flavor}: {does}");
                if does.contains("autocommit") {
                    execute(&mut first, "COMMIT").await;
                }
            }
            assert_eq!(before.len(), 1, "{flavor}: {does}");
            // The next begins with an empty table.
            drop((first, second));
            execute(&mut direct, "TRUNCATE given").await;
        }
        assert_eq!(stack.metric("failsoft_panics_total").await, 0.0);
    }
}

async fn answer(session: &mut Conn, asks: &str) -> String {
    match session.query_first::<Option<i64>, _>(asks).await {
        Ok(Some(Some(number))) => number.to_string(),
        Ok(_) => "-".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Statements that were prepared are prepared again where they are needed, and forgotten where they were
/// closed.
#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_follow_their_session() {
    for flavor in flavors() {
        let stack = one(flavor, "").await;
        let (mut first, mut second) = (stack.session().await, stack.session().await);
        let one = first.prep("SELECT CONCAT('first ', ?)").await.unwrap();
        let two = second.prep("SELECT CONCAT('second ', ?)").await.unwrap();
        for n in 0..3 {
            for (session, statement, name) in
                [(&mut first, &one, "first"), (&mut second, &two, "second")]
            {
                let told: String = session.exec_first(statement, (n,)).await.unwrap().unwrap();
                assert_eq!(told, format!("{name} {n}"), "{flavor}");
            }
        }
        second.disconnect().await.unwrap();
        let told: String = first.exec_first(&one, (9,)).await.unwrap().unwrap();
        assert_eq!(told, "first 9", "{flavor}");
        first.close(one).await.unwrap();
        let three = first.prep("SELECT ? + 1").await.unwrap();
        assert_eq!(first.exec_first::<i64, _, _>(&three, (1,)).await.unwrap(), Some(2));
        let mut root = stack.root(stack.pair.master.port()).await;
        let (_, count): (String, i64) = root
            .query_first("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(count, 1, "{flavor}: of what was closed nothing is left");
    }
}

/// What a client says while its connection is parked holds there as well.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_failsoft_answers_hold_on_the_parked_connection() {
    for flavor in flavors() {
        let stack = one(flavor, "").await;
        let mut wire = Wire::login(stack.failsoft.port(), capability::MULTI_STATEMENTS).await;
        assert_eq!(wire.value("SELECT 1").await, "1");
        wire.ask(com::SET_OPTION, &[1, 0], Kind::One).await;
        let refused = wire.query("SELECT 1; SELECT 2").await;
        assert_eq!(refused[0].error().map(|error| error.0), Some(1064), "{flavor}: {refused:?}");
        // It keeps the connection.
        drop(wire);
        // Of a statement that is reset, what was sent for it is forgotten.
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        let (id, _) = wire.prepare("SELECT ?").await;
        let data = [&id.to_le_bytes()[..], &[7, 0], b"for no parameter"].concat();
        wire.client.command(com::STMT_SEND_LONG_DATA, &data).await.unwrap();
        let execution = [&execution(id, 0), &b"\0\x01\x08\0\x07\0\0\0\0\0\0\0"[..]].concat();
        let refused = wire.ask(com::STMT_EXECUTE, &execution, Kind::Results).await;
        assert!(refused[0].is_err(), "{flavor}: {refused:?}");
        wire.ask(com::STMT_RESET, &id.to_le_bytes(), Kind::One).await;
        let rows = wire.ask(com::STMT_EXECUTE, &execution, Kind::Results).await;
        assert!(!rows[0].is_err(), "{flavor}: {rows:?}");
    }
}

/// What ties a session keeps the connection, and who waits is told why when the time is up. Nothing is
/// executed then, and it goes on as soon as there is a turn.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_told() {
    let ties: &[(&[&str], &str)] = &[
        (&["BEGIN", "INSERT INTO t VALUES (2, 'open')"], "ROLLBACK"),
        (&["CREATE TEMPORARY TABLE tt (a INT)"], "-"),
        (&["SELECT GET_LOCK('mine', 0)"], "-"),
        (&["LOCK TABLES t WRITE"], "UNLOCK TABLES"),
        (&["SELECT @v := 1"], "-"),
        (&["SELECT CONNECTION_ID()"], "-"),
        (&["CALL p()"], "-"),
        (&["SET autocommit = 0", "SELECT COUNT(*) FROM t"], "COMMIT"),
    ];
    for flavor in flavors() {
        let stack = Stack::start_with(
            flavor,
            "pool: {mode: transaction, size: 1, wait: 100ms}\nthreads: 1",
        )
        .await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        execute(&mut direct, "CREATE PROCEDURE p () SET @hidden = 1").await;
        for (does, ends) in ties {
            let (mut first, mut second) = (stack.session().await, stack.session().await);
            for statement in *does {
                assert_eq!(outcome(&mut first, statement).await, "ok", "{flavor}: {statement}");
            }
            let told = outcome(&mut second, "INSERT INTO t VALUES (3, 'no turn')").await;
            assert!(is_error(&told, 1040, "08004"), "{flavor}: {does:?}: {told}");
            assert!(told.contains("pool.wait") && told.contains("pool.size"), "{told}");
            match *ends {
                "-" => first.disconnect().await.unwrap(),
                ends => execute(&mut first, ends).await,
            }
            wait_until(PATIENCE, "a turn", || async {
                let mut third = stack.session().await;
                outcome(&mut third, "SELECT 1").await == "ok"
            })
            .await;
            assert_eq!(query_one::<i64>(&mut second, "SELECT COUNT(*) FROM t").await, 1);
        }
        assert_eq!(stack.failsoft.http_get("/rw").await.0, 200, "{flavor}: the master is well");
    }
}

/// What a statement leaves for the next is there for whoever is likely to ask, and is said to be lost
/// where it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_statement_leaves_is_there_or_said_to_be_lost() {
    for flavor in flavors() {
        let stack = one(flavor, "").await;
        let (mut first, mut second) = (stack.session().await, stack.session().await);
        for _ in 0..3 {
            execute(&mut first, "SELECT CAST(v AS SIGNED) FROM t").await;
            // It waits until the first has had its time to ask.
            let waits = tokio::spawn(async move {
                execute(&mut second, "SELECT 1").await;
                second
            });
            let warned: i64 = query_one(&mut first, "SELECT @@warning_count").await;
            assert_eq!(warned, 1, "{flavor}");
            second = waits.await.unwrap();
        }
        let mut third = stack.session().await;
        execute(&mut third, "INSERT INTO t SELECT id + 10, v FROM t WHERE id < 10").await;
        execute(&mut second, "SELECT 1").await;
        let told = outcome(&mut third, "SELECT ROW_COUNT()").await;
        assert!(is_error(&told, 1053, "08S01"), "{flavor}: {told}");
        assert!(told.contains("it was lent to another session"), "{told}");
        // A session that only came sees nothing of others.
        execute(&mut second, "SELECT CAST(v AS SIGNED) FROM t").await;
        let mut fresh = stack.session().await;
        assert_eq!(query_one::<i64>(&mut fresh, "SELECT @@warning_count").await, 0, "{flavor}");
    }
}

/// Accounts and schemas do not share, and make room for each other.
#[tokio::test(flavor = "multi_thread")]
async fn other_accounts_have_other_connections() {
    for flavor in flavors() {
        let users = format!(
            "users:\n  - {{name: {}, pass: {}}}\n  - {{name: {}, pass: {}}}\n",
            testkit::APP.user,
            testkit::APP.pass,
            OTHER.user,
            OTHER.pass
        );
        let stack = one(flavor, &users).await;
        let mut root = stack.root(stack.pair.master.port()).await;
        let create = format!("CREATE USER '{}'@'%' IDENTIFIED BY '{}'", OTHER.user, OTHER.pass);
        execute(&mut root, &create).await;
        execute(&mut root, &format!("GRANT ALL ON app.* TO '{}'@'%'", OTHER.user)).await;
        let mut app = stack.session().await;
        let mut other = stack.failsoft.conn_as(OTHER, Some("app")).await.unwrap();
        execute(&mut app, "SELECT LAST_INSERT_ID(5)").await;
        for _ in 0..3 {
            let (mine, theirs): (String, i64) = other
                .query_first("SELECT CURRENT_USER(), LAST_INSERT_ID()")
                .await
                .unwrap()
                .unwrap();
            assert!(mine.starts_with("other@") && theirs == 0, "{flavor}: {mine} {theirs}");
            let told: (String, i64) =
                app.query_first("SELECT CURRENT_USER(), LAST_INSERT_ID()").await.unwrap().unwrap();
            assert!(told.0.starts_with("app@") && told.1 == 5, "{flavor}: {told:?}");
        }
        assert_eq!(connections(&stack).await.len(), 1, "{flavor}");
    }
}

/// The master is lost with all that is parked there, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_lost_and_comes_back() {
    for flavor in flavors() {
        let mut stack = one(flavor, "").await;
        let (mut first, mut second) = (stack.session().await, stack.session().await);
        for session in [&mut first, &mut second] {
            execute(session, "SET @kept = 1").await;
        }
        stack.pair.wait_synced().await.unwrap();
        stack.pair.master.kill().unwrap();
        for session in [&mut first, &mut second] {
            let told = outcome(session, "INSERT INTO t VALUES (2, 'refused')").await;
            assert!(is_error(&told, 1290, "HY000"), "{flavor}: {told}");
            let (port, kept): (u16, i64) =
                session.query_first("SELECT @@port, @kept").await.unwrap().unwrap();
            assert_eq!((port, kept), (stack.pair.replica.port(), 1), "{flavor}");
            let told = outcome(session, "DELETE FROM t").await;
            assert!(is_error(&told, 1290, "HY000"), "{flavor}: {told}");
        }
        stack.pair.master.start_again().await.unwrap();
        write_until_ok(&mut second, "INSERT INTO t VALUES (3, 'after')").await;
        write_until_ok(&mut first, "INSERT INTO t VALUES (4, 'after')").await;
        assert_eq!(query_one::<i64>(&mut first, "SELECT @kept").await, 1, "{flavor}");
    }
}

/// An insert id that went with its connection is not taken for another's.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_id_that_is_lost_is_said_to_be() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link_with(flavor, ONE).await;
        let (mut first, mut second) = (stack.session().await, stack.session().await);
        execute(&mut first, "SELECT LAST_INSERT_ID(5)").await;
        cut(&link).await;
        assert_eq!(query_one::<i64>(&mut second, "SELECT LAST_INSERT_ID()").await, 0, "{flavor}");
        let told = outcome(&mut first, "SELECT LAST_INSERT_ID()").await;
        assert!(is_error(&told, 1053, "08S01"), "{flavor}: {told}");
        // What another session keeps for its owner outlives the connection.
        let mut third = stack.session().await;
        execute(&mut third, "SELECT LAST_INSERT_ID(6)").await;
        assert_eq!(query_one::<i64>(&mut second, "SELECT 1").await, 1);
        cut(&link).await;
        assert_eq!(query_one::<i64>(&mut third, "SELECT LAST_INSERT_ID()").await, 6, "{flavor}");
    }
}
