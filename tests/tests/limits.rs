//! What clients may use up, what is left of those that vanish, and how failsoft leaves.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

mod raw;

use failsoft_tests::{PATIENCE, Stack, is_error, outcome};
use mysql_async::prelude::Queryable;
use raw::{CALM, Kind, Wire, com};
use testkit::{APP, Flavor, Login, RawClient, execute, flavors, query_one, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A pair with a patient failsoft before it.
async fn start(flavor: Flavor, yaml: &str) -> Stack {
    Stack::start_with(flavor, &format!("{CALM}{yaml}")).await
}

/// What a connection is told in place of a greeting, or `None` if it is greeted.
async fn refused_at_the_door(port: u16) -> Option<String> {
    match RawClient::connect(port).await {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// What a login ends with; `None` if it is let in.
async fn login_error(port: u16, user: &str, pass: &str) -> Option<(u16, String, String)> {
    let mut client = RawClient::connect(port).await.unwrap();
    client.login(&Login::new(user, pass)).await.unwrap().error()
}

/// The application's connections on a server, as the server lists them.
async fn connections_of_app(stack: &Stack) -> Vec<u64> {
    let mut root = stack.root(stack.pair.master.port()).await;
    let list = "SELECT id FROM information_schema.processlist WHERE user = 'app'";
    let ids = root.query(list).await.unwrap();
    root.disconnect().await.unwrap();
    ids
}

/// The sum of a metric over its labels.
async fn sum(stack: &Stack, name: &str) -> f64 {
    let (_, body) = stack.failsoft.http_get("/metrics").await;
    let series = body.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits until failsoft has neither a session nor a connection to a server, and the server agrees.
async fn all_gone(stack: &Stack) {
    wait_until(PATIENCE, "no session and no server connection left", || async {
        sum(stack, "failsoft_sessions").await == 0.0
            && sum(stack, "failsoft_server_connections").await == 0.0
            && sum(stack, "failsoft_sessions_pinned").await == 0.0
            && connections_of_app(stack).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited() {
    for flavor in flavors() {
        let yaml = "users:\n  - {name: app, pass: app-pass}\n  - {name: second, pass: s}\n\
                    limits: {connections: 5, connections_per_user: 3}";
        let stack = start(flavor, yaml).await;
        let port = stack.failsoft.port();
        // Two rounds: what left makes room.
        for round in 0..2 {
            all_gone(&stack).await;
            let mut inside = Vec::new();
            for _ in 0..3 {
                inside.push(Wire::login(port, 0).await);
            }
            let (code, state, text) = login_error(port, APP.user, APP.pass).await.unwrap();
            assert_eq!((code, state.as_str()), (1040, "08004"), "{text}");
            assert!(text.contains("limits.connections_per_user is 3"), "{text}");
            // The other account has room, and a wrong password is told as ever.
            let mut second = RawClient::connect(port).await.unwrap();
            assert!(second.login(&Login::new("second", "s")).await.unwrap().is_ok());
            assert_eq!(login_error(port, APP.user, "wrong").await.unwrap().0, 1045);
            // One that has not logged in counts among all.
            let last = loop {
                // The refused ones above may not have been counted off yet.
                if let Ok(client) = RawClient::connect(port).await {
                    break client;
                }
            };
            let told = refused_at_the_door(port).await.expect("a sixth connection is refused");
            assert!(told.contains("1040") && told.contains("limits.connections is 5"), "{told}");
            for wire in &mut inside {
                assert_eq!(wire.value("SELECT 'unharmed'").await, "unharmed");
            }
            println!("{flavor}, round {round}: {told}");
            drop((inside, second, last));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_server_are_limited() {
    for flavor in flavors() {
        let stack = start(flavor, "limits: {server_connections: 2}").await;
        let (mut one, mut two) = (stack.session().await, stack.session().await);
        for session in [&mut one, &mut two] {
            execute(session, "UPDATE t SET v = 'mine' WHERE id = 1").await;
        }
        let mut three = stack.session().await;
        let refused = outcome(&mut three, "UPDATE t SET v = 'too many' WHERE id = 1").await;
        assert!(is_error(&refused, 1040, "08004"), "{refused}");
        assert!(refused.contains("limits.server_connections is 2"), "{refused}");
        println!("{flavor}: {refused}");
        // Those that have their connection notice nothing, and it is no failure of the server's.
        for session in [&mut one, &mut two] {
            execute(session, "UPDATE t SET v = 'still mine' WHERE id = 1").await;
        }
        one.disconnect().await.unwrap();
        wait_until(PATIENCE, "room for another", || async {
            let mut other = stack.session().await;
            let ended = outcome(&mut other, "UPDATE t SET v = 'late' WHERE id = 1").await;
            drop(other.disconnect().await);
            ended == "ok"
        })
        .await;
        stack.wait_mode("read-write", "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_and_silence_are_limited() {
    for flavor in flavors() {
        let yaml = "limits: {packet: 1MiB, idle_timeout: 10s}";
        let stack = start(flavor, yaml).await;
        let port = stack.failsoft.port();
        let fits = [b"SELECT LENGTH('", &vec![b'x'; (1 << 20) - 18][..], b"')"].concat();
        assert_eq!(fits.len() + 1, 1 << 20);
        let mut wire = Wire::login(port, 0).await;
        assert_eq!(wire.query(&fits).await.len(), 5, "a packet of the limit");
        // Announced to be longer: it is not waited for.
        wire.client.stream.write_all(&[1, 0, 0x10, 0, com::QUERY, b'S']).await.unwrap();
        let (code, state, text) = wire.reply(Kind::One).await[0].error().unwrap();
        assert_eq!((code, state.as_str()), (1153, "08S01"), "{text}");
        assert!(text.contains("limits.packet") && text.contains("1048576"), "{text}");
        assert!(wire.is_closed().await);
        // One that is sent in full by a client that does not listen meanwhile.
        let mut wire = Wire::login(port, 0).await;
        let long = vec![b' '; 40 << 20];
        if wire.client.command(com::QUERY, &long).await.is_ok()
            && let Ok(frame) = wire.client.read().await
        {
            assert_eq!(frame.error().unwrap().0, 1153);
        }
        silence(&stack).await;
        all_gone(&stack).await;
    }
}

/// Clients with long packets are refused while those of others take all the memory that there is
/// for them; the others are served, and so is everybody with short ones.
#[tokio::test(flavor = "multi_thread")]
async fn long_packets_share_what_memory_there_is() {
    const LONG: usize = 12 << 20;
    for flavor in flavors() {
        let yaml = "limits: {packet: 16MiB, memory: 40MiB}";
        let stack = start(flavor, yaml).await;
        let port = stack.failsoft.port();
        let query = [b"SELECT LENGTH('", &vec![b'x'; LONG][..], b"')"].concat();
        let header = u32::try_from(query.len() + 1).unwrap().to_le_bytes();
        let first = [&header[..3], &[0, com::QUERY], &query[..LONG - 1000]].concat();
        // A buffer grows to twice what is in it, 16 MiB each.
        let mut sending = Vec::new();
        for _ in 0..4 {
            let mut wire = Wire::login(port, 0).await;
            // It fails for one that is refused before it has sent all.
            let _sent = wire.client.stream.write_all(&first).await;
            sending.push(wire);
        }
        wait_until(PATIENCE, "one that is refused", || async {
            stack.failsoft.log().contains("limits.memory is used up")
        })
        .await;
        let mut short = Wire::login(port, 0).await;
        assert_eq!(short.value("SELECT v FROM app.t WHERE id = 1").await, "one", "{flavor}");
        let mut served = 0;
        for mut wire in sending {
            let _sent = wire.client.stream.write_all(&query[LONG - 1000..]).await;
            let Ok(frame) = wire.client.read().await else { continue };
            if let Some((code, _, text)) = frame.error() {
                assert!(code == 1041 && text.contains("limits.memory"), "{code} {text}");
                continue;
            }
            served += 1;
        }
        assert!((1..4).contains(&served), "{flavor}: {served} are served");
        // What they took is given back.
        let mut next = Wire::login(port, 0).await;
        assert_eq!(next.query(&query).await.len(), 5, "{flavor}");
        drop((short, next));
        all_gone(&stack).await;
    }
}

/// The silent are left without a word; who waits for an answer is not silent.
async fn silence(stack: &Stack) {
    let mut busy = Wire::login(stack.failsoft.port(), 0).await;
    let mut quiet = [
        Wire::login(stack.failsoft.port(), 0).await,
        Wire::login(stack.failsoft.port(), 0).await,
        Wire::login(stack.failsoft.port(), 0).await,
    ];
    assert_eq!(quiet[1].value("SELECT 1").await, "1");
    assert!(quiet[2].query("BEGIN").await[0].is_ok());
    assert!(quiet[2].query("INSERT INTO t VALUES (50, 'silent')").await[0].is_ok());
    assert_eq!(busy.query("SELECT SLEEP(14)").await.len(), 5, "a long statement is no silence");
    assert_eq!(busy.value("SELECT 'awake'").await, "awake");
    for wire in &mut quiet {
        let mut rest = Vec::new();
        let read = wire.client.stream.read_to_end(&mut rest);
        timeout(PATIENCE, read).await.expect("an end").unwrap();
        assert!(rest.is_empty(), "told {}", rest.escape_ascii());
    }
    let mut direct = stack.direct(stack.pair.master.port()).await;
    let left = "SELECT COUNT(*) FROM t WHERE id = 50";
    wait_until(PATIENCE, "the silent transaction's end", || async {
        connections_of_app(stack).await.len() <= 2
    })
    .await;
    assert_eq!(query_one::<i64>(&mut direct, left).await, 0);
    direct.disconnect().await.unwrap();
}

/// How a client goes without saying so.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// The kernel closes for a process that was killed.
    Closed,
    /// And tells the other end at once, where something was left unread.
    Reset,
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_leave_nothing() {
    for flavor in flavors() {
        let stack = start(flavor, "").await;
        for exit in [Exit::Closed, Exit::Reset] {
            for &(what, statements, unread) in VANISHING {
                let mut wire = Wire::login(stack.failsoft.port(), 1 << 7).await;
                for sql in statements {
                    let frames = wire.query(sql).await;
                    assert_eq!(frames[0].error(), None, "{what}: {sql}");
                }
                wire.client.command(com::QUERY, unread.as_bytes()).await.unwrap();
                if !what.contains("before the answer") {
                    wire.client.read().await.unwrap();
                }
                if matches!(exit, Exit::Reset) {
                    wire.client.stream.set_zero_linger().unwrap();
                }
                drop(wire);
            }
            let mut half = Wire::login(stack.failsoft.port(), 0).await;
            assert_eq!(half.value("SELECT 1").await, "1");
            half.client.stream.write_all(b"\x50\0\0\0\x03INSERT INTO t VALUES (61").await.unwrap();
            drop(half);
            all_gone(&stack).await;
            let mut session = stack.session().await;
            let rows = "SELECT COUNT(*) FROM t WHERE id BETWEEN 60 AND 69";
            assert_eq!(query_one::<i64>(&mut session, rows).await, 0, "{exit:?}");
            // No lock is left either.
            execute(&mut session, "UPDATE t SET v = 'free' WHERE id = 1").await;
            assert_eq!(query_one::<i64>(&mut session, "SELECT GET_LOCK('mine', 0)").await, 1);
            execute(&mut session, "LOCK TABLES t WRITE").await;
            execute(&mut session, "UNLOCK TABLES").await;
            session.disconnect().await.unwrap();
            println!("{flavor}: {} ways to vanish, {exit:?}", VANISHING.len() + 1);
        }
    }
}

/// What clients did before they vanished, and the statement whose answer they did not read.
const VANISHING: &[(&str, &[&str], &str)] = &[
    ("idle", &[], "SELECT 1"),
    (
        "in a transaction",
        &["BEGIN", "INSERT INTO t VALUES (60, 'x')", "UPDATE t SET v = 'y' WHERE id = 1"],
        "SELECT 1",
    ),
    ("with a user lock", &["SELECT GET_LOCK('mine', 30)"], "SELECT 1"),
    ("with locked tables", &["LOCK TABLES t READ"], "SELECT 1"),
    ("with a temporary table", &["CREATE TEMPORARY TABLE x (a INT)"], "SELECT 1"),
    (
        "amid a large result",
        &[],
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
         SELECT REPEAT(i, 30000) FROM n",
    ),
    ("amid a file", &[], "LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
    ("before the answer", &[], "SELECT SLEEP(2)"),
];

#[tokio::test(flavor = "multi_thread")]
async fn transactions_may_end_before_failsoft_does() {
    for flavor in flavors() {
        let mut stack = start(flavor, "drain_timeout: 60s").await;
        let port = stack.failsoft.port();
        let mut idle = [Wire::login(port, 0).await, Wire::login(port, 0).await];
        assert_eq!(idle[1].value("SELECT 1").await, "1");
        let mut open = Wire::login(port, 0).await;
        for sql in ["BEGIN", "INSERT INTO t VALUES (70, 'in time')"] {
            assert!(open.query(sql).await[0].is_ok());
        }
        let mut asleep = Wire::login(port, 0).await;
        asleep.client.command(com::QUERY, b"SELECT SLEEP(2)").await.unwrap();
        let clients = async {
            for wire in &mut idle {
                closed_without_a_word(wire).await;
            }
            nobody_is_let_in(port).await;
            assert_eq!(asleep.reply(Kind::Results).await.len(), 5, "the statement's answer");
            closed_without_a_word(&mut asleep).await;
            assert_eq!(open.value("SELECT COUNT(*) FROM t").await, "2");
            assert!(open.query("INSERT INTO t VALUES (71, 'too')").await[0].is_ok());
            assert!(open.query("COMMIT").await[0].is_ok());
            closed_without_a_word(&mut open).await;
        };
        let (code, ()) = tokio::join!(stack.failsoft.stop(), clients);
        assert_eq!(code, Some(0), "{flavor}");
        let mut direct = stack.direct(stack.pair.master.port()).await;
        let rows = query_one::<i64>(&mut direct, "SELECT COUNT(*) FROM t WHERE id >= 70").await;
        assert_eq!(rows, 2);
        println!("{flavor}: drained");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_do_not_end_are_ended() {
    for flavor in flavors() {
        let mut stack = start(flavor, "drain_timeout: 1s").await;
        let port = stack.failsoft.port();
        let mut open = Wire::login(port, 0).await;
        for sql in ["BEGIN", "INSERT INTO t VALUES (70, 'too late')"] {
            assert!(open.query(sql).await[0].is_ok());
        }
        let (code, ()) = tokio::join!(stack.failsoft.stop(), closed_without_a_word(&mut open));
        assert_eq!(code, Some(0), "{flavor}");
        wait_until(PATIENCE, "a server that noticed", || async {
            connections_of_app(&stack).await.is_empty()
        })
        .await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        assert_eq!(query_one::<i64>(&mut direct, "SELECT COUNT(*) FROM t").await, 1);
        println!("{flavor}: cut off");
    }
}

async fn closed_without_a_word(wire: &mut Wire) {
    let mut rest = Vec::new();
    let read = wire.client.stream.read_to_end(&mut rest);
    timeout(PATIENCE, read).await.expect("an end").unwrap();
    assert!(rest.is_empty(), "told {}", rest.escape_ascii());
}

/// The port is closed; what was on its way may still be hung up on.
async fn nobody_is_let_in(port: u16) {
    wait_until(PATIENCE, "a closed port", || async {
        match RawClient::connect(port).await {
            Ok(mut client) => {
                let answer = client.login(&Login::new(APP.user, APP.pass)).await;
                assert!(!answer.is_ok_and(|answer| answer.is_ok()), "let in");
                false
            }
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        }
    })
    .await;
}
