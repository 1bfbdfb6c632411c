//! What clients ask, as operators see it: digests, slow statements, sessions.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use failsoft_tests::{PATIENCE, Stack, outcome};
use mysql_async::prelude::Queryable;
use serde_json::Value;
use testkit::{Flavor, flavors, wait_until};

async fn get(stack: &Stack, path: &str) -> Value {
    let (status, body) = stack.failsoft.http_get(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The digest of this text, once there is one that fits.
async fn digest(stack: &Stack, text: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let find = || async {
        let all = get(stack, "/api/v1/statements?limit=1000").await;
        let mut digests = all["digests"].as_array().unwrap().clone().into_iter();
        digests.find(|digest| digest["digest"] == text && fits(digest))
    };
    wait_until(PATIENCE, text, || async { find().await.is_some() }).await;
    find().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_counted_by_digest() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        for id in 2..7 {
            let insert = format!("INSERT INTO t VALUES ({id}, 'private')");
            assert_eq!(outcome(&mut session, &insert).await, "ok");
        }
        assert!(outcome(&mut session, "INSERT INTO t VALUES (2, 'again')").await.contains("1062"));
        let insert = "INSERT INTO t VALUES (?, …)";
        let found = digest(&stack, insert, |it| it["count"] == 6).await;
        assert_eq!((&found["failed"], &found["refused"]), (&1.into(), &0.into()), "{found}");
        assert_eq!((&found["class"], &found["by_master"]), (&"write".into(), &6.into()), "{found}");
        assert_eq!(found["refused_when_read_only"], true);
        assert_eq!(found["users"], serde_json::json!(["app"]));
        // What is executed is what was prepared.
        for id in [1, 2, 3] {
            let read = "SELECT v FROM t WHERE id = ?";
            let row: Option<String> = session.exec_first(read, (id,)).await.unwrap();
            assert!(row.is_some());
        }
        let read = "SELECT v FROM t WHERE id = ?";
        let found = digest(&stack, read, |it| it["count"] == 3).await;
        assert_eq!(
            (&found["class"], &found["refused_when_read_only"]),
            (&"read".into(), &false.into())
        );

        stack.pair.master.kill().unwrap();
        let refused = outcome(&mut session, "INSERT INTO t VALUES (9, 'private')").await;
        assert!(refused.starts_with("1290/"), "{refused}");
        assert_eq!(outcome(&mut session, "SELECT v FROM t WHERE id = 1").await, "ok");
        let found = digest(&stack, insert, |it| it["refused"] == 1).await;
        assert_eq!(found["count"], 7, "{found}");
        digest(&stack, read, |it| it["by_replica"] == 1).await;
        let all = get(&stack, "/api/v1/statements?refusable=true").await.to_string();
        assert!(all.contains(insert) && !all.contains(read) && !all.contains("private"), "{all}");

        let (status, _) = stack.failsoft.http_post("/api/v1/statements/reset", "").await;
        assert_eq!(status, 200);
        let after = get(&stack, "/api/v1/statements").await;
        assert_eq!(after["digests"], serde_json::json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_statements_are_logged_without_their_values() {
    let yaml = "slow_statement: 200ms\ndigests_per_second: 0";
    let stack = Stack::start_with(Flavor::MariaDb, yaml).await;
    let mut session = stack.session().await;
    assert_eq!(outcome(&mut session, "SELECT 'private', SLEEP(0.4)").await, "ok");
    assert_eq!(outcome(&mut session, "SELECT 'quick'").await, "ok");
    let all = get(&stack, "/api/v1/statements").await;
    let [slow] = &all["slow"].as_array().unwrap()[..] else { panic!("{all}") };
    assert_eq!((&slow["digest"], &slow["user"]), (&"SELECT ?, SLEEP(?)".into(), &"app".into()));
    assert!(slow["took_ms"].as_u64().unwrap() >= 400, "{slow}");
    assert!(slow["server"].as_str().unwrap().starts_with("master 127.0.0.1:"), "{slow}");
    assert_eq!(all["digests"], serde_json::json!([]), "none are made");
    // What a statement changes is not how it is read itself.
    let odd = r"SET sql_mode = 'NO_BACKSLASH_ESCAPES', @x = 'it\'s private', @y = SLEEP(0.3)";
    assert_eq!(outcome(&mut session, odd).await, "ok");
    let all_now = get(&stack, "/api/v1/statements").await.to_string();
    assert!(all_now.contains("SET sql_mode = ?, @x = ?, @y = SLEEP(?)"), "{all_now}");
    let log = stack.failsoft.log();
    let told = log.lines().find(|line| line.contains("slow statement: SELECT ?, SLEEP(?)"));
    assert!(told.is_some_and(|line| line.contains("\"took_ms\":")), "{log}");
    assert!(!log.contains("private"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_show_what_they_do() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        let id = session.id();
        let mine = || async {
            let all = get(&stack, "/api/v1/sessions").await;
            all.as_array().unwrap().iter().find(|it| it["id"] == id).cloned().unwrap()
        };
        // A client has its answer a moment before its session is seen to be done.
        let when = |state: &'static str| {
            let mine = &mine;
            async move {
                let is_it = || async { mine().await["state"] == state };
                wait_until(PATIENCE, state, is_it).await;
                mine().await
            }
        };
        let fresh = when("idle").await;
        assert_eq!((&fresh["state"], &fresh["server"]), (&"idle".into(), &Value::Null), "{fresh}");
        assert_eq!((&fresh["user"], &fresh["schema"]), (&"app".into(), &"app".into()), "{fresh}");
        assert_eq!(outcome(&mut session, "BEGIN").await, "ok");
        assert_eq!(outcome(&mut session, "DELETE FROM t").await, "ok");
        let open = when("in transaction").await;
        let master = format!("127.0.0.1:{}", stack.pair.master.port());
        assert_eq!(open["server"], master.as_str());
        let number: u64 = session.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        assert_eq!(open["connection"], number);
        assert_eq!(outcome(&mut session, "ROLLBACK").await, "ok");
        assert_eq!(outcome(&mut session, "CREATE TEMPORARY TABLE mine (a INT)").await, "ok");
        assert_eq!(outcome(&mut session, "USE information_schema").await, "ok");
        let tied = when("idle").await;
        assert_eq!(tied["pins"], serde_json::json!(["temporary_table"]), "{tied}");
        assert_eq!(tied["schema"], "information_schema", "{tied}");
        // What runs is seen while it does.
        let running = tokio::spawn(async move { outcome(&mut session, "SELECT SLEEP(30)").await });
        wait_until(PATIENCE, "a statement that runs", || async {
            mine().await["state"] == "running"
        })
        .await;
        let end = format!("/api/v1/sessions/{id}/end");
        assert_eq!(stack.failsoft.http_post(&end, "").await.0, 200);
        assert_ne!(running.await.unwrap(), "ok", "{flavor}");
        wait_until(PATIENCE, "nobody", || async {
            get(&stack, "/api/v1/sessions").await == serde_json::json!([])
        })
        .await;
        assert_eq!(stack.failsoft.http_post(&end, "").await.0, 404);
    }
}

/// As with SIGTERM: transactions may end, and then it leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_ordered_lets_transactions_end() {
    let mut stack = Stack::start(Flavor::MariaDb).await;
    let mut session = stack.session().await;
    assert_eq!(outcome(&mut session, "BEGIN").await, "ok");
    assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (2, 'two')").await, "ok");
    assert_eq!(stack.failsoft.http_post("/api/v1/drain", "").await.0, 200);
    let (status, why) = stack.failsoft.http_get("/readyz").await;
    assert!(status == 503 && why.contains("about to end"), "{why}");
    assert_eq!(stack.failsoft.http_post("/api/v1/drain", "").await.0, 503);
    // Who holds it up is seen.
    let holding = get(&stack, "/api/v1/sessions").await;
    assert_eq!(holding[0]["state"], "in transaction", "{holding}");
    assert_eq!(outcome(&mut session, "COMMIT").await, "ok");
    wait_until(PATIENCE, "its end", || async {
        testkit::http(stack.failsoft.http_port(), "GET", "/livez", "", "").await.is_err()
    })
    .await;
    assert!(!stack.failsoft.is_running() || stack.failsoft.stop().await == Some(0));
    let mut direct = stack.direct(stack.pair.master.port()).await;
    let rows: Option<u64> = direct.query_first("SELECT COUNT(*) FROM t").await.unwrap();
    assert_eq!(rows, Some(2));
}
