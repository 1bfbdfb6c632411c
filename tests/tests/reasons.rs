//! Each reason for read-only mode, shown alike everywhere.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use failsoft_tests::{READ_ONLY, Stack, is_error, outcome, write_until_ok};
use mysql_async::Conn;
use serde_json::Value;
use testkit::{Failsoft, Flavor, Pair, execute, flavors, query_one};

/// Checks that a write is refused for this reason, that reads go on, and that every surface says so.
async fn assert_reason(failsoft: &Failsoft, session: &mut Conn, reason: &str, detail: &str) {
    assert_eq!(query_one::<i64>(session, "SELECT 41 + 1").await, 42, "reads go on");
    let refused = outcome(session, "INSERT INTO t VALUES (99, 'refused')").await;
    assert!(is_error(&refused, 1290, "HY000"), "{refused}");
    let start = format!("{READ_ONLY} (failsoft: partition default is read-only: {reason}, ");
    assert!(refused.contains(&start), "{refused}");
    assert!(refused.contains(detail) && refused.ends_with("; reads continue)"), "{refused}");

    let (code, text) = failsoft.http_get("/rw").await;
    assert_eq!(code, 503, "{text}");
    assert!(text.contains(reason) && text.contains(detail), "{text}");
    let (code, _) = failsoft.http_get("/ro").await;
    assert_eq!(code, 200, "reads are served");

    let (_, body) = failsoft.http_get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&body).unwrap();
    let partition = &status["partitions"][0];
    assert_eq!(partition["mode"], "read-only", "{body}");
    assert_eq!(partition["reason"], reason, "{body}");
    assert!(partition["detail"].as_str().unwrap().contains(detail), "{body}");

    let (_, metrics) = failsoft.http_get("/metrics").await;
    for other in policy::mode::Reason::ALL.map(policy::mode::Reason::as_str) {
        let value = other == reason;
        let line = format!(
            "failsoft_partition_mode{{partition=\"default\",reason=\"{other}\"}} {}",
            u8::from(value)
        );
        assert!(metrics.lines().any(|l| l == line), "no `{line}` in\n{metrics}");
    }
    let log = failsoft.log();
    assert!(log.contains(&format!("read-only: {reason}, ")), "no {reason} in the log:\n{log}");
}

async fn stack(flavor: Flavor, yaml: &str) -> (Stack, Conn) {
    let stack = Stack::start_with(flavor, yaml).await;
    let session = stack.session().await;
    (stack, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn config() {
    for flavor in flavors() {
        let (stack, _) = stack(flavor, "").await;
        let databases =
            [("master", stack.pair.master.port()), ("replica", stack.pair.replica.port())];
        let failsoft = Failsoft::config(&databases).with("read_only: true").start().await;
        let mut session = failsoft.conn(Some("app")).await.unwrap();
        let detail = "read_only is set in the configuration";
        assert_reason(&failsoft, &mut session, "config", detail).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused() {
    for flavor in flavors() {
        let (stack, mut session) = stack(flavor, "").await;
        let order = stack.failsoft.http_post("/api/v1/pause", "{\"hold_s\": 1}").await;
        assert_eq!(order.0, 200, "{}", order.1);
        assert_reason(&stack.failsoft, &mut session, "paused", "an operator holds writes back")
            .await;
        let order = stack.failsoft.http_post("/api/v1/resume", "{}").await;
        assert_eq!(order.0, 200, "{}", order.1);
        assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (2, 'after')").await, "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masterless() {
    for flavor in flavors() {
        let (stack, _) = stack(flavor, "").await;
        let yaml = format!(
            "databases:\n  - {{host: 127.0.0.1, port: {}, role: master, disabled: true}}\n  \
             - {{host: 127.0.0.1, port: {}, role: replica}}",
            stack.pair.master.port(),
            stack.pair.replica.port()
        );
        let failsoft = Failsoft::config(&[]).with(&yaml).start().await;
        let mut session = failsoft.conn(Some("app")).await.unwrap();
        assert_reason(&failsoft, &mut session, "masterless", "no enabled master is configured")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn severed() {
    for flavor in flavors() {
        let (mut stack, mut session) = stack(flavor, "").await;
        stack.pair.master.kill().unwrap();
        stack.wait_mode("read-only", "severed").await;
        let detail = "last error Connection refused";
        assert_reason(&stack.failsoft, &mut session, "severed", detail).await;
        stack.pair.master.start_again().await.unwrap();
        write_until_ok(&mut session, "INSERT INTO t VALUES (2, 'after')").await;
        assert_eq!(stack.failsoft.http_get("/rw").await.0, 200);
    }
}

/// Scenario 8: the master came back with read_only on.
#[tokio::test(flavor = "multi_thread")]
async fn misconfigured_by_read_only() {
    for flavor in flavors() {
        let (stack, mut session) = stack(flavor, "").await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'before')").await;
        let mut root = stack.root(stack.pair.master.port()).await;
        execute(&mut root, "SET GLOBAL read_only = ON").await;
        // The server's own refusal is passed on, and counts before the next check does.
        let refused = outcome(&mut session, "INSERT INTO t VALUES (3, 'x')").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");
        stack.wait_mode("read-only", "misconfigured").await;
        assert_reason(&stack.failsoft, &mut session, "misconfigured", "has read_only on").await;
        execute(&mut root, "SET GLOBAL read_only = OFF").await;
        write_until_ok(&mut session, "INSERT INTO t VALUES (3, 'after')").await;
    }
}

/// The master follows another server: the replica was made the master of both by hand, and failsoft
/// has not been told.
#[tokio::test(flavor = "multi_thread")]
async fn misconfigured_by_replication() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        // failsoft believes that the replica is the master.
        let databases = [("master", pair.replica.port()), ("replica", pair.master.port())];
        let failsoft = Failsoft::config(&databases).start().await;
        let mut direct =
            testkit::conn(pair.master.port(), "app", "app-pass", Some("app")).await.unwrap();
        execute(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)").await;
        let mut session = failsoft.conn(Some("app")).await.unwrap();
        let detail = format!("replicates from 127.0.0.1:{}", pair.master.port());
        assert_reason(&failsoft, &mut session, "misconfigured", &detail).await;
    }
}

/// The brief degradation before the checks have noticed: it lasts for one statement, so what shows
/// it is the statement's error and the count of refusals.
#[tokio::test(flavor = "multi_thread")]
async fn unreachable() {
    for flavor in flavors() {
        let yaml = "health: {interval: 10m, threshold: 5, timeout: 10s}";
        let (mut stack, mut session) = stack(flavor, yaml).await;
        stack.pair.master.kill().unwrap();
        assert_eq!(query_one::<i64>(&mut session, "SELECT 41 + 1").await, 42, "reads go on");
        let refused = outcome(&mut session, "INSERT INTO t VALUES (99, 'refused')").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");
        let expected = format!(
            "{READ_ONLY} (failsoft: partition default is read-only: unreachable, master \
             127.0.0.1:{} could not be reached: Connection refused; reads continue)",
            stack.pair.master.port()
        );
        assert!(refused.ends_with(&expected), "{refused}");
        assert_surfaces_say_unreachable(&stack).await;
        stack.pair.master.start_again().await.unwrap();
        write_until_ok(&mut session, "INSERT INTO t VALUES (2, 'after')").await;
        stack.wait_mode("read-write", "").await;
    }
}

async fn assert_surfaces_say_unreachable(stack: &Stack) {
    stack.wait_mode("read-only", "unreachable").await;
    let (code, text) = stack.failsoft.http_get("/rw").await;
    assert_eq!(code, 503, "{text}");
    let (_, body) = stack.failsoft.http_get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status["partitions"][0]["reason"], "unreachable", "{body}");
    let (_, metrics) = stack.failsoft.http_get("/metrics").await;
    let line = "failsoft_partition_mode{partition=\"default\",reason=\"unreachable\"} 1";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    let log = stack.failsoft.log();
    assert!(log.contains("read-only: unreachable, "), "{log}");
}
