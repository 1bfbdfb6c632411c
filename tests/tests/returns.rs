//! What answers at an address may be another server than before, and what a replica has may be old.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use failsoft_tests::{PATIENCE, Stack, is_error, outcome, write_until_ok};
use mysql_async::prelude::Queryable;
use testkit::{
    APP, Failsoft, FaultProxy, Flavor, Options, Pair, ROOT, Server, conn, execute, flavors,
    query_one, wait_until,
};

/// The ids in a server's table.
async fn ids(port: u16) -> Vec<i32> {
    let mut direct = conn(port, APP.user, APP.pass, Some("app")).await.unwrap();
    let ids = direct.query("SELECT id FROM t ORDER BY id").await.unwrap();
    direct.disconnect().await.unwrap();
    ids
}

/// Scenario 8: the address leads to another server, and connections to the one before stay open, as
/// where an address is moved. Nobody writes to the one before any more.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_at_the_masters_address() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let link = FaultProxy::start(pair.master.port()).await;
        let databases = [("master", link.port()), ("replica", pair.replica.port())];
        let stack = Stack::with_table(Failsoft::config(&databases).start().await, pair).await;
        let options = Options { server_id: 9, ..Options::default() };
        let other = Server::start(flavor, options).await.unwrap();
        let mut direct = other.connect(APP, Some("app")).await.unwrap();
        execute(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)").await;

        let mut idle = stack.session().await;
        let insert = idle.prep("INSERT INTO t VALUES (?, 'prepared')").await.unwrap();
        idle.exec_drop(&insert, (10,)).await.unwrap();
        let mut open = stack.session().await;
        execute(&mut open, "BEGIN").await;
        execute(&mut open, "INSERT INTO t VALUES (20, 'open')").await;

        link.lead_to(other.port());
        wait_until(PATIENCE, "the other server is noticed", || async {
            stack.failsoft.log().contains("another server answers at")
        })
        .await;
        stack.wait_mode("read-write", "").await;
        idle.exec_drop(&insert, (11,)).await.unwrap();
        let told = outcome(&mut open, "INSERT INTO t VALUES (21, 'open')").await;
        assert!(is_error(&told, 1213, "40001"), "{flavor}: {told}");
        execute(&mut open, "ROLLBACK").await;
        execute(&mut open, "INSERT INTO t VALUES (22, 'afterwards')").await;
        assert_eq!(ids(stack.pair.master.port()).await, [1, 10], "{flavor}: the one before");
        assert_eq!(ids(other.port()).await, [11, 22], "{flavor}: the other one");
    }
}

async fn replicate(pair: &Pair, flavor: Flavor, verb: &str) {
    let mut root = pair.replica.connect(ROOT, None).await.unwrap();
    let noun = match flavor {
        Flavor::MariaDb => "SLAVE",
        Flavor::MySql => "REPLICA",
    };
    execute(&mut root, &format!("{verb} {noun} SQL_THREAD")).await;
}

/// Scenario 40: who writes reads what was written, however late the replica is; with the master
/// gone it reads what the replica has, and with the master back its own writes again.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_read_their_own_writes() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        replicate(&stack.pair, flavor, "STOP").await;
        let mut session = stack.session().await;
        let newest = "SELECT MAX(id) FROM t";
        for id in 2..50 {
            execute(&mut session, &format!("INSERT INTO t VALUES ({id}, 'new')")).await;
            assert_eq!(query_one::<i32>(&mut session, newest).await, id, "{flavor}");
            let mut other = stack.session().await;
            assert_eq!(query_one::<i32>(&mut other, newest).await, id, "{flavor}: another one");
        }
        stack.pair.master.kill().unwrap();
        assert_eq!(query_one::<i32>(&mut session, newest).await, 1, "{flavor}: the replica");
        stack.pair.master.start_again().await.unwrap();
        write_until_ok(&mut session, "INSERT INTO t VALUES (50, 'new')").await;
        assert_eq!(query_one::<i32>(&mut session, newest).await, 50, "{flavor}");
    }
}

/// Scenario 14: a statement runs for longer than servers keep connections on which nothing happens,
/// and sessions that ask for nothing as long go on with what they had set.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_gives_up_idle_connections() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        for server in [&stack.pair.master, &stack.pair.replica] {
            let mut root = server.connect(ROOT, None).await.unwrap();
            execute(&mut root, "SET GLOBAL wait_timeout = 2").await;
        }
        let mut idle = stack.session().await;
        execute(&mut idle, "SET time_zone = '+03:00'").await;
        let first: u32 = query_one(&mut idle, "SELECT CONNECTION_ID()").await;
        let mut busy = stack.session().await;
        assert_eq!(query_one::<i32>(&mut busy, "SELECT SLEEP(5)").await, 0, "{flavor}");
        execute(&mut busy, "INSERT INTO t VALUES (2, 'busy')").await;
        let mut root = stack.root(stack.pair.master.port()).await;
        let there =
            format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {first}");
        let deadline = Instant::now() + PATIENCE;
        while query_one::<i64>(&mut root, &there).await > 0 {
            assert!(Instant::now() < deadline, "{flavor}: the connection is not given up");
        }
        assert_eq!(
            query_one::<String>(&mut idle, "SELECT @@time_zone").await,
            "+03:00",
            "{flavor}"
        );
        execute(&mut idle, "INSERT INTO t VALUES (3, 'idle')").await;
        assert_eq!(ids(stack.pair.master.port()).await, [1, 2, 3], "{flavor}");
    }
}

/// A program that runs failsoft with this file in place of `/etc/hosts`; none where the machine
/// does not allow that.
fn with_hosts(folder: &tempfile::TempDir) -> Option<PathBuf> {
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.2 db-master.test\n").unwrap();
    let beside = std::env::current_exe().unwrap();
    let failsoft = beside.ancestors().nth(2).unwrap().join("failsoft");
    let enter = format!(
        "unshare --mount --map-root-user sh -c \
         'mount --bind {} /etc/hosts && exec \"$@\"' sh",
        hosts.display()
    );
    let mut trial = Command::new("sh");
    trial.args(["-c", &format!("{enter} grep -q db-master.test /etc/hosts")]);
    let is_possible = trial.stdout(Stdio::null()).stderr(Stdio::null()).status();
    is_possible.is_ok_and(|status| status.success()).then(|| {
        let path = folder.path().join("failsoft-with-hosts");
        let script = format!("#!/bin/sh\nexec {enter} {} \"$@\"\n", failsoft.display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    })
}

/// A server with an empty table, whose number is the last of its address.
async fn server_at(flavor: Flavor, address: [u8; 4], port: Option<u16>) -> Server {
    let [.., last] = address;
    let options =
        Options { host: address.into(), port, server_id: last.into(), ..Options::default() };
    let server = Server::start(flavor, options).await.unwrap();
    let mut direct = server.connect(APP, Some("app")).await.unwrap();
    execute(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY)").await;
    server
}

/// Scenario 40: the master's name leads to another address. failsoft asks for it with each
/// connection that it makes, so that a lost master that is set up elsewhere is found without a
/// reload.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_another_address() {
    for flavor in flavors() {
        let folder = tempfile::tempdir().unwrap();
        let Some(program) = with_hosts(&folder) else {
            println!("no mount namespaces on this machine: nothing is tested");
            return;
        };
        let before = server_at(flavor, [127, 0, 0, 2], None).await;
        let port = before.port();
        let listed =
            format!("databases:\n  - {{host: db-master.test, port: {port}, role: master}}\n");
        let failsoft = Failsoft::config(&[]).with(&listed).program(program).start().await;
        let mut session = failsoft.conn(Some("app")).await.unwrap();
        write_until_ok(&mut session, "INSERT INTO t VALUES (1)").await;
        assert_eq!(query_one::<i32>(&mut session, "SELECT @@server_id").await, 2, "{flavor}");
        // Its port is free then.
        drop(before);
        let _after = server_at(flavor, [127, 0, 0, 3], Some(port)).await;
        std::fs::write(folder.path().join("hosts"), "127.0.0.3 db-master.test\n").unwrap();
        // What is in flight when a check finds another server there is unknown.
        wait_until(PATIENCE, "a check of the other server", || async {
            failsoft.log().contains("another server answers at db-master.test")
        })
        .await;
        write_until_ok(&mut session, "INSERT INTO t VALUES (2)").await;
        assert_eq!(query_one::<i32>(&mut session, "SELECT @@server_id").await, 3, "{flavor}");
    }
}
