//! End to end, against real servers: what the tests in `tests/` share.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "used by tests only, where a panic is the report"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{APP, Config, Failsoft, FaultProxy, Flavor, Pair, conn, execute, wait_until};

/// How long anything may take on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The sentence of a read-only server, to the letter.
pub const READ_ONLY: &str = "The MySQL server is running with the --read-only option so it cannot \
                             execute this statement";

/// A replicating pair with failsoft in front of it.
#[derive(Debug)]
pub struct Stack {
    /// failsoft.
    pub failsoft: Failsoft,
    /// The servers.
    pub pair: Pair,
}

impl Stack {
    /// Starts both; `app.t (id INT PRIMARY KEY, v TEXT)` exists and has the row `(1, 'one')`.
    pub async fn start(flavor: Flavor) -> Self {
        Self::start_with(flavor, "").await
    }

    /// The same, with more YAML for failsoft.
    pub async fn start_with(flavor: Flavor, yaml: &str) -> Self {
        let pair = Pair::start(flavor).await.expect("a pair");
        let databases = [("master", pair.master.port()), ("replica", pair.replica.port())];
        let failsoft = configured(Failsoft::config(&databases), yaml).start().await;
        Self::with_table(failsoft, pair).await
    }

    /// Makes the table for a failsoft that was started otherwise.
    pub async fn with_table(failsoft: Failsoft, pair: Pair) -> Self {
        let mut direct = conn(pair.master.port(), APP.user, APP.pass, Some("app")).await.unwrap();
        execute(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)").await;
        execute(&mut direct, "INSERT INTO t VALUES (1, 'one')").await;
        direct.disconnect().await.unwrap();
        pair.wait_synced().await.expect("a replica that follows");
        let stack = Self { failsoft, pair };
        stack.wait_mode("read-write", "").await;
        stack
    }

    /// A session through failsoft.
    pub async fn session(&self) -> Conn {
        self.failsoft.conn(Some("app")).await.expect("a session")
    }

    /// A session on a server itself, as the application's account.
    pub async fn direct(&self, port: u16) -> Conn {
        conn(port, APP.user, APP.pass, Some("app")).await.expect("a direct connection")
    }

    /// A session on a server itself that may do everything.
    pub async fn root(&self, port: u16) -> Conn {
        conn(port, testkit::ROOT.user, testkit::ROOT.pass, Some("app")).await.expect("a login")
    }

    /// Waits until failsoft shows this mode and reason.
    pub async fn wait_mode(&self, mode: &str, reason: &str) {
        let what = format!("mode {mode} {reason}");
        wait_until(PATIENCE, &what, || async {
            let (_, body) = self.failsoft.http_get("/rw").await;
            match mode {
                "read-write" => body.contains("read-write"),
                _ => body.contains(reason) && !body.contains("read-write"),
            }
        })
        .await;
    }

    /// A metric's value; 0 when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, body) = self.failsoft.http_get("/metrics").await;
        body.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }
}

/// Checks go on seldom, so that cuts of a link hit sessions and not checks.
const SELDOM: &str = "health: {interval: 10m, threshold: 5, timeout: 10s}";

/// A pair with failsoft in front, and a fault proxy between failsoft and the master.
pub async fn behind_a_link(flavor: Flavor) -> (Stack, FaultProxy) {
    behind_a_link_with(flavor, "").await
}

/// The same, with more YAML for failsoft.
pub async fn behind_a_link_with(flavor: Flavor, yaml: &str) -> (Stack, FaultProxy) {
    let pair = Pair::start_with(flavor, &["--log-bin-trust-function-creators=1"]).await.unwrap();
    let link = FaultProxy::start(pair.master.port()).await;
    let databases = [("master", link.port()), ("replica", pair.replica.port())];
    let failsoft = configured(Failsoft::config(&databases).with(SELDOM), yaml).start().await;
    (Stack::with_table(failsoft, pair).await, link)
}

/// Resets every connection over the link, and waits until that is done.
pub async fn cut(link: &FaultProxy) {
    link.reset_all();
    wait_until(PATIENCE, "no connection", || async { link.is_idle() }).await;
}

/// Gives failsoft another file and has it read, by its API; what it answers. It is in force then.
pub async fn reload(failsoft: &Failsoft, config: &Config) -> String {
    failsoft.write_config(config);
    let (status, body) = failsoft.http_post("/api/v1/reload", "").await;
    assert_eq!(status, 200, "{body}");
    body
}

/// Adds YAML to a configuration, if there is any.
#[must_use]
pub fn configured(config: Config, yaml: &str) -> Config {
    if yaml.is_empty() { config } else { config.with(yaml) }
}

/// Session variables that name the server, the connection or the moment, and are no settings.
pub const NOT_SETTINGS: &[&str] = &[
    "error_count",
    "gtid_seq_no",
    "identity",
    "in_transaction",
    "last_gtid",
    "last_insert_id",
    "proxy_user",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "statement_id",
    "timestamp",
    "warning_count",
];

/// The memory that failsoft has, in KiB.
#[must_use]
pub fn memory(failsoft: &Failsoft) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", failsoft.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How a statement ended: `ok`, `1290: text`, or `closed`.
pub async fn outcome(session: &mut Conn, statement: &str) -> String {
    match session.query_drop(statement).await {
        Ok(()) => "ok".to_owned(),
        Err(mysql_async::Error::Server(error)) => {
            format!("{}/{}: {}", error.code, error.state, error.message)
        }
        Err(_) => "closed".to_owned(),
    }
}

/// Whether an outcome is an error of this number and SQLSTATE.
#[must_use]
pub fn is_error(outcome: &str, code: u16, state: &str) -> bool {
    outcome.starts_with(&format!("{code}/{state}: "))
}

/// Writes until a write succeeds; returns how many were refused. Any other end than OK and a
/// read-only error is a failure.
pub async fn write_until_ok(session: &mut Conn, statement: &str) -> usize {
    let start = Instant::now();
    let mut refused = 0;
    loop {
        match outcome(session, statement).await.as_str() {
            "ok" => return refused,
            other if is_error(other, 1290, "HY000") => refused += 1,
            other => panic!("`{statement}` ended with {other}"),
        }
        assert!(start.elapsed() < PATIENCE, "`{statement}` is refused for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// MariaDB's and MySQL's own clients, where they are installed.
#[must_use]
pub fn installed_clients() -> Vec<PathBuf> {
    let candidates = ["/usr/bin/mariadb".into(), testkit::cache_dir().join("mysql/mysql")];
    candidates.into_iter().filter(|path: &PathBuf| path.is_file()).collect()
}
