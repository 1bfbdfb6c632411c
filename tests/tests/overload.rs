//! More than there is room for: failsoft sheds what is too much with the right error, serves the
//! rest, answers its operator, and is well again by itself.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

mod raw;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use failsoft_tests::{PATIENCE, Stack, memory, outcome};
use raw::{CALM, Wire};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{
    APP, Failsoft, Login, Options, Pair, ROOT, RawClient, Server, execute, flavors, query_one,
    wait_until,
};

/// A program that runs failsoft with no more than this many files open.
fn with_files(folder: &tempfile::TempDir, files: u32) -> std::path::PathBuf {
    let beside = std::env::current_exe().unwrap();
    let program = beside.ancestors().nth(2).unwrap().join("failsoft");
    let path = folder.path().join("failsoft-with-few-files");
    let script = format!("#!/bin/sh\nulimit -n {files}\nexec {} \"$@\"\n", program.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Connects until failsoft says that it has enough; yields those it let in, and what it said.
async fn fill(port: u16) -> (Vec<RawClient>, String) {
    let mut inside = Vec::new();
    loop {
        match RawClient::connect(port).await {
            Ok(mut client) => {
                let told = client.login(&Login::new(APP.user, APP.pass)).await.unwrap();
                assert!(told.is_ok(), "{told:?}");
                inside.push(client);
            }
            Err(error) => return (inside, error.to_string()),
        }
        assert!(inside.len() < 1000, "nobody is turned away");
    }
}

/// There are never more clients than files for them and for the console.
#[tokio::test(flavor = "multi_thread")]
async fn files_run_out() {
    const FILES: u32 = 300;
    let folder = tempfile::tempdir().unwrap();
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let databases = [("master", pair.master.port()), ("replica", pair.replica.port())];
        let config = Failsoft::config(&databases).with(CALM).program(with_files(&folder, FILES));
        let stack = Stack::with_table(config.start().await, pair).await;
        let port = stack.failsoft.port();
        for round in 0..2 {
            let (mut inside, told) = fill(port).await;
            assert!(told.contains("1040") && told.contains("files that may be open"), "{told}");
            // Each of them may have its statement, all at the same time.
            for client in &mut inside {
                client.command(3, b"SELECT 1").await.unwrap();
            }
            for client in &mut inside {
                assert!(!client.read().await.unwrap().is_err(), "{flavor}: round {round}");
            }
            // A storm of those that are turned away takes nothing from those inside.
            let storm = (0..400).map(|_| RawClient::connect(port));
            let storm: Vec<_> = storm.map(tokio::spawn).collect();
            // The operator gets in meanwhile.
            let (code, body) = stack.failsoft.http_get("/metrics").await;
            assert!(code == 200 && body.contains("failsoft_logins_total{result=\"too_many\"}"));
            for one in storm {
                assert!(one.await.unwrap().is_err(), "{flavor}: let in");
            }
            for client in &mut inside {
                client.command(14, b"").await.unwrap();
                // The rest of the answers before comes first.
                while !client.read().await.unwrap().is_ok() {}
            }
            println!("{flavor}, round {round}: {} let in; {told}", inside.len());
            drop(inside);
            wait_until(PATIENCE, "no session left", || async {
                stack.metric("failsoft_sessions{state=\"open\"}").await == 0.0
            })
            .await;
        }
        assert_eq!(stack.metric("failsoft_panics_total").await, 0.0);
    }
}

/// Clients that all reconnect at once, as they do after a read-only error, are let in without a
/// connection to a server, and statements of others are not held up for long.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_logs_in_at_once() {
    const CLIENTS: usize = 600;
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        let port = stack.failsoft.port();
        let mut witness = Wire::login(port, 0).await;
        assert_eq!(witness.value("SELECT v FROM app.t WHERE id = 1").await, "one");
        let start = Instant::now();
        let logins = (0..CLIENTS).map(|_| async move {
            RawClient::logged_in(port, &Login::new(APP.user, APP.pass)).await
        });
        let logins: Vec<_> = logins.map(tokio::spawn).collect();
        let mut slowest = Duration::ZERO;
        while logins.iter().any(|login| !login.is_finished()) {
            let asked = Instant::now();
            assert_eq!(witness.value("SELECT v FROM app.t WHERE id = 1").await, "one");
            slowest = slowest.max(asked.elapsed());
        }
        let took = start.elapsed();
        let mut inside = Vec::new();
        for login in logins {
            inside.push(login.await.unwrap());
        }
        let server = format!("127.0.0.1:{}", stack.pair.master.port());
        let open = format!("failsoft_server_connections{{server=\"{server}\",state=\"open\"}}");
        assert_eq!(stack.metric(&open).await, 1.0, "{flavor}: only the witness has asked anything");
        println!("{flavor}: {CLIENTS} logins in {took:?}, slowest statement meanwhile {slowest:?}");
        drop(inside);
        wait_until(PATIENCE, "no session but the witness's", || async {
            stack.metric("failsoft_sessions{state=\"open\"}").await == 1.0
        })
        .await;
    }
}

/// Opens as many files as it is allowed to; yields how many sessions that leaves room for in a
/// failsoft that may open as many, and keeps two of them for each session.
fn room() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum.or(current), maximum }).unwrap();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(1000) / 2).unwrap()
}

/// Sessions that only wait hold no server and little memory, and those that work are served as if
/// they were alone.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_sessions() {
    const AT_A_TIME: usize = 250;
    let Some(flavor) = flavors().into_iter().next() else { return };
    let count = room().min(10_000);
    if count < 1000 {
        println!("too few files may be open here: nothing is tested");
        return;
    }
    let yaml = format!("{CALM}limits: {{connections: {}}}\n", count + 100);
    let stack = Stack::start_with(flavor, &yaml).await;
    let port = stack.failsoft.port();
    let before = memory(&stack.failsoft);
    let mut idle = Vec::with_capacity(count);
    while idle.len() < count {
        let logins = (idle.len()..count).take(AT_A_TIME).map(|_| async move {
            RawClient::logged_in(port, &Login::new(APP.user, APP.pass)).await
        });
        for login in logins.map(tokio::spawn).collect::<Vec<_>>() {
            idle.push(login.await.unwrap());
        }
    }
    let each = memory(&stack.failsoft).saturating_sub(before) / u64::try_from(count).unwrap();
    println!("{flavor}: {count} idle sessions, {each} KiB each");
    assert!(each < 24, "{each} KiB for an idle session");
    let server = format!("127.0.0.1:{}", stack.pair.master.port());
    let open = format!("failsoft_server_connections{{server=\"{server}\",state=\"open\"}}");
    assert_eq!(stack.metric(&open).await, 0.0, "nobody has asked anything");

    let working = (0..8).map(|worker| async move {
        let mut session = Wire::login(port, 0).await;
        for round in 0..100 {
            let id = 100 + worker * 100 + round;
            let told = session.query(format!("INSERT INTO app.t VALUES ({id}, 'v')")).await;
            assert!(told[0].is_ok(), "{:?}", told[0].error());
            let value = session.value(&format!("SELECT id FROM app.t WHERE id = {id}")).await;
            assert_eq!(value, id.to_string());
        }
    });
    for worker in working.map(tokio::spawn).collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    // Who has waited is served like everybody, and the operator sees them all.
    let open = "failsoft_sessions{state=\"open\"}";
    let all = f64::from(u32::try_from(count).unwrap());
    wait_until(PATIENCE, "only idle sessions", || async { stack.metric(open).await == all }).await;
    for client in idle.iter_mut().step_by(count / 10) {
        let told = client.query("SELECT 1").await.unwrap();
        assert!(!told[0].is_err(), "{:?}", told[0].error());
    }
    drop(idle);
    wait_until(PATIENCE, "no session left", || async { stack.metric(open).await == 0.0 }).await;
    assert_eq!(stack.metric("failsoft_panics_total").await, 0.0);
}

/// A replica that takes no more connections, or answers no more, is passed over for another one,
/// and serves again when it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_drowns() {
    for flavor in flavors() {
        let mut pair = Pair::start(flavor).await.unwrap();
        let options = Options { read_only: true, server_id: 3, ..Options::default() };
        let drowning = Server::start(flavor, options).await.unwrap();
        drowning.follow(&pair.master).await.unwrap();
        let mut direct = pair.master.connect(APP, Some("app")).await.unwrap();
        execute(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY)").await;
        drowning.wait_for(&pair.master).await.unwrap();
        pair.wait_synced().await.unwrap();
        pair.master.kill().unwrap();
        // The one in trouble stands first, so that only its trouble speaks against it.
        let ports = [pair.master.port(), drowning.port(), pair.replica.port()];
        let databases = [("master", ports[0]), ("replica", ports[1]), ("replica", ports[2])];
        let failsoft = Failsoft::config(&databases).with(CALM).start().await;

        // Its connections are all taken.
        let mut root = drowning.connect(ROOT, None).await.unwrap();
        let most: String = query_one(&mut root, "SELECT CONCAT('', @@max_connections)").await;
        execute(&mut root, "SET GLOBAL max_connections = 10").await;
        let mut taken = Vec::new();
        while let Ok(one) = drowning.connect(APP, None).await {
            taken.push(one);
            assert!(taken.len() < 50, "{flavor}: max_connections is not heeded");
        }
        let id = "SELECT @@server_id";
        let mut sessions = Vec::new();
        for _ in 0..5 {
            let mut session = failsoft.conn(Some("app")).await.unwrap();
            assert_eq!(query_one::<i32>(&mut session, id).await, 2, "{flavor}: another one");
            let refused = outcome(&mut session, "INSERT INTO t VALUES (1)").await;
            assert!(refused.starts_with("1290/"), "{flavor}: {refused}");
            sessions.push(session);
        }
        drop(taken);
        execute(&mut root, &format!("SET GLOBAL max_connections = {most}")).await;
        // With the other one gone it is what is left, and serves.
        pair.replica.kill().unwrap();
        for mut session in sessions {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let told = outcome(&mut session, "SELECT COUNT(*) FROM t").await;
                if told == "ok" {
                    break;
                }
                assert!(Instant::now() < deadline, "{flavor}: {told}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let Ok(anew) = failsoft.conn(Some("app")).await {
                    session = anew;
                }
            }
            assert_eq!(query_one::<i32>(&mut session, id).await, 3, "{flavor}");
        }
    }
}
