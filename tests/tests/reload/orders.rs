//! Operators' orders, and what becomes of them when the file is read again.

use failsoft_tests::{Stack, is_error, outcome, reload};
use testkit::{ADMIN_TOKEN, execute, flavors, http};

use crate::{Strangers, config_of, port_of};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_opens_the_door() {
    let Some(flavor) = flavors().first().copied() else { return };
    let stack = Stack::start(flavor).await;
    let port = stack.failsoft.http_port();
    let post = |header: String| async move {
        let response =
            http(port, "POST", "/api/v1/read-only", &header, "{\"on\": true}").await.unwrap();
        (response.status, response.body)
    };
    let json = "Content-Type: application/json\r\n";
    let (status, body) = post(json.to_owned()).await;
    assert!(status == 401 && body.contains("Authorization: Bearer"), "{status} {body}");
    let (status, body) = post(format!("Authorization: Bearer wrong\r\n{json}")).await;
    assert!(status == 403 && body.contains("the token is wrong"), "{status} {body}");
    stack.wait_mode("read-write", "").await;
    let log = stack.failsoft.log();
    assert!(log.contains("/api/v1/read-only was refused to 127.0.0.1:"), "{log}");
    assert!(!log.contains(ADMIN_TOKEN) && !log.contains("wrong\\r"), "{log}");
    // Another token, from the file.
    let config =
        config_of(&stack).with(&format!("admin: {{http: \"127.0.0.1:{port}\", token: other}}"));
    reload(&stack.failsoft, &config).await;
    let (status, _) = post(format!("Authorization: Bearer {ADMIN_TOKEN}\r\n{json}")).await;
    assert_eq!(status, 403);
    let (status, _) = post(format!("Authorization: Bearer other\r\n{json}")).await;
    assert_eq!(status, 200);
    stack.wait_mode("read-only", "config").await;
}

/// An order is in force when it is answered, and as good after a reload as before.
#[tokio::test(flavor = "multi_thread")]
async fn orders_outlive_reloads() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 3, "").await;
        let failsoft = &strangers.failsoft;
        let order = |path: String, json: &'static str| async move {
            let (status, body) = failsoft.http_post(&path, json).await;
            assert_eq!(status, 200, "{path}: {body}");
        };
        let read_only = || "/api/v1/read-only".to_owned();
        let server = |at: usize, what: &str| {
            format!("/api/v1/servers/127.0.0.1:{}/{what}", strangers.port(at))
        };
        let mut session = failsoft.conn(Some("app")).await.unwrap();
        execute(&mut session, "INSERT INTO t VALUES (1, 0)").await;
        order(read_only(), "{\"on\": true}").await;
        for _ in 0..2 {
            let told = outcome(&mut session, "INSERT INTO t VALUES (2, 0)").await;
            assert!(is_error(&told, 1290, "HY000"), "{flavor}: {told}");
            assert!(told.contains("switched on by an operator"), "{flavor}: {told}");
            reload(failsoft, &strangers.with_master(0).with("connect_timeout: 9s")).await;
        }
        // The replica that it reads from is taken out, and it reads from the other.
        let there = port_of(&mut session).await;
        let at = (1..3).find(|at| strangers.port(*at) == there).unwrap();
        order(server(at, "disable"), "").await;
        let other = port_of(&mut session).await;
        assert_ne!(other, there, "{flavor}");
        reload(failsoft, &strangers.with_master(0)).await;
        assert_eq!(port_of(&mut session).await, other, "{flavor}");
        // What the file says as well, an order does not undo.
        reload(failsoft, &strangers.with_master(0).with("read_only: true")).await;
        let (status, body) = failsoft.http_post(&read_only(), "{\"on\": false}").await;
        assert!(
            status == 409 && body.contains("in the configuration"),
            "{flavor}: {status} {body}"
        );
        reload(failsoft, &strangers.with_master(0)).await;
        order(read_only(), "{\"on\": false}").await;
        assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (2, 0)").await, "ok", "{flavor}");
        order(server(at, "enable"), "").await;
        // The master out is no master.
        order(server(0, "disable"), "").await;
        let told = outcome(&mut session, "INSERT INTO t VALUES (3, 0)").await;
        assert!(told.contains("read-only: masterless"), "{flavor}: {told}");
        order(server(0, "enable"), "").await;
        // Nothing is known of it until it is checked.
        failsoft_tests::write_until_ok(&mut session, "INSERT INTO t VALUES (3, 0)").await;
        assert_eq!(strangers.rows(0).await, [1, 2, 3], "{flavor}");
        // An order goes with its server.
        order(server(2, "disable"), "").await;
        let without: Vec<_> =
            [("master", 0), ("replica", 1)].map(|(role, at)| (role, strangers.port(at))).into();
        reload(failsoft, &testkit::Failsoft::config(&without)).await;
        reload(failsoft, &strangers.with_master(0)).await;
        let (_, status) = failsoft.http_get("/api/v1/status").await;
        assert!(!status.contains("disabled by an operator"), "{status}");
    }
}
