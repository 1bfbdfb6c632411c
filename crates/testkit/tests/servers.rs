//! Real servers of every flavour that is on this machine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests are not recognised as tests"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use testkit::{
    APP, Flavor, MONITOR, Options, Pair, ROOT, SandboxError, Server, error_of, execute, flavors,
    query_one, wait_until,
};
use tokio::time::{Instant, sleep, timeout};

async fn insert(server: &Server, value: u32) {
    let mut connection = server.connect(APP, Some("app")).await.unwrap();
    execute(&mut connection, &format!("INSERT INTO t VALUES ({value})")).await;
    connection.disconnect().await.unwrap();
}

async fn sum(server: &Server) -> u32 {
    let mut connection = server.connect(APP, Some("app")).await.unwrap();
    let sum =
        query_one(&mut connection, "SELECT CAST(COALESCE(SUM(n), 0) AS UNSIGNED) FROM t").await;
    connection.disconnect().await.unwrap();
    sum
}

async fn pair_with_table(flavor: Flavor) -> Pair {
    let pair = Pair::start(flavor).await.unwrap();
    let mut connection = pair.master.connect(APP, Some("app")).await.unwrap();
    execute(&mut connection, "CREATE TABLE t (n INT UNSIGNED PRIMARY KEY)").await;
    connection.disconnect().await.unwrap();
    pair
}

#[tokio::test]
async fn what_the_master_writes_the_replica_reads() {
    for flavor in flavors() {
        let began = Instant::now();
        let pair = pair_with_table(flavor).await;
        insert(&pair.master, 7).await;
        pair.wait_synced().await.unwrap();
        assert_eq!(sum(&pair.replica).await, 7, "{flavor}");
        println!("{flavor} {}: {:?}", pair.program().version(), began.elapsed());
    }
}

#[tokio::test]
async fn replication_resumes_after_either_is_killed_and_nothing_is_lost() {
    for flavor in flavors() {
        let mut pair = pair_with_table(flavor).await;
        let (port, pid) = (pair.master.port(), pair.master.pid());
        insert(&pair.master, 1).await;
        pair.master.kill().unwrap();
        assert!(!pair.master.is_running());
        assert!(pair.master.connect(APP, None).await.is_err());
        pair.master.start_again().await.unwrap();
        assert_eq!(pair.master.port(), port);
        assert_ne!(pair.master.pid(), pid);
        insert(&pair.master, 2).await;
        pair.wait_synced().await.unwrap();
        pair.replica.kill().unwrap();
        insert(&pair.master, 4).await;
        pair.replica.start_again().await.unwrap();
        pair.wait_synced().await.unwrap();
        assert_eq!(sum(&pair.replica).await, 7, "{flavor}");
    }
}

#[tokio::test]
async fn a_stopped_server_starts_again_with_its_data() {
    for flavor in flavors() {
        let mut pair = pair_with_table(flavor).await;
        insert(&pair.master, 3).await;
        pair.master.stop().await.unwrap();
        assert!(!pair.master.is_running());
        pair.master.start_again().await.unwrap();
        assert_eq!(sum(&pair.master).await, 3);
        pair.wait_synced().await.unwrap();
    }
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_is_resumed() {
    for flavor in flavors() {
        let mut server = Server::start(flavor, Options::default()).await.unwrap();
        let mut connection = server.connect(APP, None).await.unwrap();
        server.pause().unwrap();
        assert!(server.is_running());
        let mut ask = Box::pin(query_one::<u32>(&mut connection, "SELECT 5"));
        assert!(timeout(Duration::from_millis(200), &mut ask).await.is_err(), "{flavor} answered");
        server.resume().unwrap();
        assert_eq!(ask.as_mut().await, 5);
        drop(ask);
        server.pause().unwrap();
        drop(connection);
        let folder = server.dir().to_path_buf();
        drop(server);
        assert!(!folder.exists());
    }
}

#[tokio::test]
async fn accounts_may_do_what_they_are_for() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let mut app = pair.master.connect(APP, Some("app")).await.unwrap();
        execute(&mut app, "CREATE TEMPORARY TABLE temporary (n INT)").await;
        execute(&mut app, "CREATE DATABASE app_second").await;
        assert_eq!(error_of(&mut app, "CREATE DATABASE application").await.unwrap().0, 1044);
        let mut monitor = pair.replica.connect(MONITOR, None).await.unwrap();
        let status = match flavor {
            Flavor::MariaDb => "SHOW SLAVE STATUS",
            Flavor::MySql => "SHOW REPLICA STATUS",
        };
        assert_eq!(error_of(&mut monitor, status).await, None);
        assert_eq!(error_of(&mut monitor, "USE app").await.unwrap().0, 1044);
        pair.wait_synced().await.unwrap();
        let mut app = pair.replica.connect(APP, Some("app_second")).await.unwrap();
        assert_eq!(error_of(&mut app, "CREATE TABLE t (n INT)").await.unwrap().0, 1290);
        let mut root = pair.replica.connect(ROOT, None).await.unwrap();
        let refused = error_of(&mut root, "CREATE TABLE app_second.t (n INT)").await;
        assert_eq!(refused.is_some(), flavor == Flavor::MySql, "{refused:?}");
    }
}

#[tokio::test]
async fn two_servers_have_different_identities() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let statement = match flavor {
            Flavor::MariaDb => "SELECT CONCAT(@@server_id)",
            Flavor::MySql => "SELECT @@server_uuid",
        };
        let mut identities = Vec::new();
        for server in [&pair.master, &pair.replica] {
            let mut connection = server.connect(ROOT, None).await.unwrap();
            identities.push(query_one::<String>(&mut connection, statement).await);
        }
        assert_ne!(identities[0], identities[1]);
    }
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    for flavor in flavors() {
        let extra = vec!["--no-such-setting=1".to_owned()];
        let options = Options { extra, ..Options::default() };
        let error = Server::start(flavor, options).await.unwrap_err();
        assert!(matches!(error, SandboxError::Exited { .. }), "{error}");
        assert!(error.to_string().contains("no-such-setting"), "{error}");
    }
}

/// Not a test by itself: the process that the next test kills.
#[tokio::test]
async fn victim() {
    let Some(report) = env::var_os("TESTKIT_VICTIM") else { return };
    let server = Server::start(flavors()[0], Options::default()).await.unwrap();
    let text = format!("{}\n{}\n", server.pid(), server.dir().display());
    let written = Path::new(&report).with_extension("partial");
    fs::write(&written, text).unwrap();
    fs::rename(&written, &report).unwrap();
    sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn servers_go_when_the_process_that_started_them_is_killed() {
    if flavors().is_empty() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let report = scratch.path().join("report");
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "victim"])
        .env("TESTKIT_VICTIM", &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(Duration::from_secs(30), "the victim has a server", || async { report.exists() })
        .await;
    let text = fs::read_to_string(&report).unwrap();
    let (pid, folder) = text.trim().split_once('\n').unwrap();
    assert!(is_alive(pid));
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until(Duration::from_secs(5), "the server is gone", || async { !is_alive(pid) }).await;
    let folder = Path::new(folder);
    wait_until(Duration::from_secs(5), "its folder is gone", || async { !folder.exists() }).await;
}

/// Whether a process is there and not just waiting to be reaped.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
