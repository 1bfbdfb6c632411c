//! The commands, as scripts meet them: what they print and how they exit.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests, where a panic is the report"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::{Lease, MONITOR, Pair, Process};

const GOOD: &str = "defaults: {user: app, pass: do-not-show}\n\
                    databases:\n  - {host: db001, role: master}\n  - {host: db002, role: replica}\n";

fn failsoft(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_failsoft")).args(arguments).output().unwrap()
}

/// Runs a command; returns how it exited, and what it printed on either stream.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = failsoft(arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A file that lives as long as its folder.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("failsoft.yaml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn check_says_what_is_good_and_what_is_not() {
    let partitions = "defaults: {user: app, pass: x}\ndatabases:\n  \
                      - {host: db001, role: master, partition: [default]}\n  \
                      - {host: db002, role: master, partition: [blog]}\n";
    // file, exit code, parts of the output
    let table: [(&str, i32, &[&str]); 3] = [
        (GOOD, 0, &["failsoft.yaml: OK, 1 master, 1 replica, listening on 127.0.0.1:3306"]),
        (
            "databaes: []\nread_only: maybe\n",
            2,
            &["failsoft.yaml:1:1", "databases", "2:12: read_only"],
        ),
        (partitions, 0, &["failsoft.yaml: OK, 2 masters, 0 replicas"]),
    ];
    for (text, code, parts) in table {
        let (_folder, path) = file(text);
        let (exit, output) = run(&["check", path.to_str().unwrap()]);
        assert_eq!(exit, code, "{text}: {output}");
        for part in parts {
            assert!(output.contains(part), "{part} in {output}");
        }
    }
}

#[test]
fn check_shows_every_default_and_no_secret() {
    let (_folder, path) = file(GOOD);
    let (exit, output) = run(&["check", "--show", path.to_str().unwrap()]);
    assert_eq!(exit, 0, "{output}");
    assert!(output.contains("threshold: 5") && output.contains("db001"), "{output}");
    assert!(!output.contains("do-not-show"), "{output}");
}

#[test]
fn bad_input_exits_with_2_and_nobody_there_with_3() {
    let lease = Lease::any().unwrap();
    let nobody = format!("http://127.0.0.1:{}", lease.port());
    let table: [(&[&str], i32, &str); 6] = [
        (&[], 2, "Usage"),
        (&["explode"], 2, "unrecognized subcommand"),
        (&["run", "-c", "/does/not/exist.yaml"], 2, "/does/not/exist.yaml"),
        (&["check", "/does/not/exist.yaml"], 2, "/does/not/exist.yaml"),
        (&["status", "--url", "ftp://x"], 2, "expected a URL"),
        (&["status", "--url", &nobody], 3, "no failsoft answers at http://127.0.0.1:"),
    ];
    for (arguments, code, part) in table {
        let (exit, output) = run(arguments);
        assert!(exit == code && output.contains(part), "{arguments:?}: {exit} {output}");
    }
}

#[test]
fn explain_answers_people_and_programs() {
    let (exit, output) = run(&["explain", "DELETE FROM t"]);
    assert!(exit == 0 && output.contains("write") && output.contains("1290"), "{output}");
    let (exit, output) = run(&["explain", "--json", "SELECT 1"]);
    let answer: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!((exit, &answer["class"]), (0, &"read".into()));
    let quoted = r#"SELECT "a'; DROP TABLE t; -- '"#;
    let (_, plain) = run(&["explain", "--json", quoted]);
    let (_, ansi) = run(&["explain", "--json", "--ansi-quotes", quoted]);
    assert_eq!((plain.contains("write"), ansi.contains("write")), (ansi.contains("write"), true));
}

/// failsoft in front of databases, as a process.
struct Running {
    process: Process,
    url: String,
    log: PathBuf,
    path: PathBuf,
    _folder: TempDir,
    _leases: [Lease; 2],
}

impl Running {
    fn start(databases: &str) -> Self {
        let leases = [(); 2].map(|()| Lease::any().unwrap());
        let [listen, http] = [leases[0].port(), leases[1].port()];
        let (folder, path) = file(&format!(
            "listen: 127.0.0.1:{listen}\n\
             admin: {{http: \"127.0.0.1:{http}\", token: so-secret}}\n\
             users: [{{name: app, pass: app-pass}}]\n\
             monitor: {{user: {}, pass: {}}}\n\
             health: {{interval: 200ms, threshold: 2, timeout: 300ms}}\n\
             databases:\n{databases}",
            MONITOR.user, MONITOR.pass
        ));
        let log = folder.path().join("log");
        let program = env!("CARGO_BIN_EXE_failsoft");
        let command = [program.into(), "run".into(), "-c".into(), path.clone().into()];
        let process = Process::start(&command, folder.path(), &log).unwrap();
        let url = format!("http://127.0.0.1:{http}");
        Self { process, url, log, path, _folder: folder, _leases: leases }
    }

    /// Waits until `status` exits as wanted and prints this; returns what it printed.
    ///
    /// The exit code alone says too little: a server that nobody has asked yet is as unusable as
    /// one that refused.
    fn wait_for_status(&self, code: i32, part: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (exit, output) = run(&["status", "--url", &self.url]);
            if exit == code && output.contains(part) {
                return output;
            }
            assert!(Instant::now() < deadline, "{exit}: {output}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&mut self, signal: rustix::process::Signal) {
        self.process.signal(signal).unwrap();
    }
}

#[test]
fn run_serves_without_a_master_and_ends_when_told() {
    let lease = Lease::any().unwrap();
    let port = lease.port();
    let mut running =
        Running::start(&format!("  - {{host: 127.0.0.1, port: {port}, role: master}}\n"));
    let output = running.wait_for_status(1, "unhealthy");
    assert!(output.contains("(severed)") && output.contains("Connection refused"), "{output}");
    let (_, json) = run(&["status", "--json", "--url", &running.url]);
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["partitions"][0]["reason"], "severed");
    running.signal(rustix::process::Signal::HUP);
    running.signal(rustix::process::Signal::TERM);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(running.process.wait(Duration::from_secs(60))).unwrap();
    assert_eq!(ended.unwrap().code(), Some(0), "{}", running.log());
    // The log is JSON, as it goes to a file; every line is an object.
    for line in running.log().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["level"].is_string() && entry["message"].is_string(), "{line}");
    }
    assert!(running.log().contains("is unhealthy: Connection refused"), "{}", running.log());
}

/// Runs a command that gives an order, with this token.
fn order(running: &Running, token: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_failsoft"))
        .args(arguments)
        .args(["--url", &running.url])
        .env("FAILSOFT_ADMIN_TOKEN", token)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn orders_are_given_from_the_command_line() {
    let lease = Lease::any().unwrap();
    let name = format!("127.0.0.1:{}", lease.port());
    let running =
        Running::start(&format!("  - {{host: 127.0.0.1, port: {}, role: master}}\n", lease.port()));
    running.wait_for_status(1, "unhealthy");
    let token = running.path.with_file_name("token");
    fs::write(&token, "so-secret\n").unwrap();
    let by_file = ["--token-file", token.to_str().unwrap()];
    let with_file = |arguments: &[&'static str]| [arguments, &by_file].concat();
    // token, arguments, exit code, a part of what is printed
    let table: Vec<(&str, Vec<&str>, i32, &str)> = vec![
        ("wrong", vec!["reload"], 1, "the token is wrong"),
        ("two\nlines", vec!["reload"], 2, "more than one line"),
        ("wrong", with_file(&["reload"]), 0, "nothing is different"),
        ("so-secret", vec!["read-only", "on"], 0, "Read-only since"),
        ("so-secret", vec!["read-only", "on", "--partition", "other"], 1, "there is default"),
        ("so-secret", vec!["read-only", "off"], 0, "(severed)"),
        ("so-secret", vec!["disable", &name], 0, "disabled"),
        ("so-secret", vec!["enable", &name], 0, "severed"),
        ("so-secret", vec!["enable", "db9/../x"], 1, "server db9/../x is not in the configuration"),
        ("so-secret", vec!["read-only", "--json", "on"], 0, "\"reason\":\"config\""),
        ("so-secret", vec!["read-only", "maybe"], 2, "[possible values: on, off]"),
    ];
    for (token, arguments, code, part) in table {
        let (exit, output) = order(&running, token, &arguments);
        assert!(exit == code && output.contains(part), "{arguments:?}: {exit} {output}");
    }
    let text = fs::read_to_string(&running.path).unwrap();
    fs::write(&running.path, format!("{text}connect_timeout: 7s\nthreads: 7\n")).unwrap();
    let (exit, output) = order(&running, "so-secret", &["reload"]);
    let changed = output.contains("connect_timeout: 1s -> 7s");
    assert!(exit == 0 && changed && output.contains("needs a restart: threads: "), "{output}");
    fs::write(&running.path, format!("{text}raed_only: true\n")).unwrap();
    let (exit, output) = order(&running, "so-secret", &["reload"]);
    assert!(exit == 1 && output.contains("failsoft.yaml:"), "{output}");
    assert!(output.contains("did you mean \"read_only\"?"), "{output}");
    let status = running.wait_for_status(1, "is invalid since");
    assert!(status.contains("raed_only"), "{status}");
    let nobody = format!("http://127.0.0.1:{}", lease.port());
    let (exit, output) = run(&["reload", "--url", &nobody, "--token-file", by_file[1]]);
    assert!(exit == 3 && output.contains("no failsoft answers"), "{exit} {output}");
    assert!(!running.log().contains("so-secret"));
}

#[test]
fn run_exits_with_1_where_it_cannot_listen_and_logs_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let lease = Lease::any().unwrap();
    let free = lease.port();
    for (listen, http) in [(free, port), (port, free)] {
        let (_folder, path) = file(&format!(
            "listen: 127.0.0.1:{listen}\nadmin: {{http: \"127.0.0.1:{http}\"}}\n{GOOD}"
        ));
        let (exit, output) = run(&["run", "-c", path.to_str().unwrap()]);
        assert_eq!(exit, 1, "{output}");
        assert!(output.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{output}");
        assert!(output.lines().all(|line| line.starts_with('{')), "{output}");
    }
}

#[tokio::test]
async fn check_connect_tells_what_servers_are_like() {
    for flavor in testkit::flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let (master, replica) = (pair.master.port(), pair.replica.port());
        let databases = |first, second| {
            format!(
                "users: [{{name: app, pass: app-pass}}]\nmonitor: {{user: {}, pass: {}}}\n\
                 databases:\n  - {{host: 127.0.0.1, port: {first}, role: master}}\n  \
                 - {{host: 127.0.0.1, port: {second}, role: replica}}\n",
                MONITOR.user, MONITOR.pass
            )
        };
        let good = databases(master, replica);
        let monitor = format!("monitor: {{user: {}, pass: {}}}\n", MONITOR.user, MONITOR.pass);
        // The right way round, and the wrong one; an account with another password; checks without a grant.
        let table = [
            (good.clone(), 0, vec!["Read-write", "writable", "replication: Up to Date"]),
            (
                databases(replica, master),
                1,
                vec!["misconfigured", "replicates from", "Not A Replica"],
            ),
            (
                good.replace("app-pass", "other"),
                1,
                vec!["Read-write", "    account app cannot log in: 1045 (28000): Access denied"],
            ),
            (
                good.replace(&monitor, "monitor: {user: app, pass: app-pass}\n"),
                1,
                vec!["Read-write", "    replication is hidden from this account: GRANT "],
            ),
        ];
        for (text, code, parts) in table {
            let (_folder, path) = file(&text);
            let (exit, output) = run(&["check", "--connect", path.to_str().unwrap()]);
            assert_eq!(exit, code, "{output}");
            for part in parts {
                assert!(output.contains(part), "{part} in {output}");
            }
        }
    }
}

#[test]
fn the_story_is_true() {
    for flavor in testkit::flavors() {
        let name = flavor.to_string().to_lowercase();
        let (exit, output) = run(&["demo", "--story", "--flavor", &name]);
        assert_eq!(exit, 0, "{output}");
        let lines = ["the master is dead", "ERROR 1290 (HY000)", "(severed)", "caught up: 6 rows"];
        for line in lines {
            assert!(output.contains(line), "{line} in {output}");
        }
    }
}
