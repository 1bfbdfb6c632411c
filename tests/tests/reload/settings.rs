//! Settings that take effect while failsoft runs, files that are wrong, and files that change by
//! themselves.

use std::fs;
use std::os::unix::fs::symlink;

use failsoft_tests::{PATIENCE, Stack, outcome, reload};
use mysql_async::prelude::Queryable;
use testkit::{
    APP, Account, Lease, Login, ROOT, RawClient, conn, execute, flavors, query_one, wait_until,
};
use tokio::io::AsyncWriteExt;

use crate::{Strangers, config_of, hang_up};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_mistakes_changes_nothing() {
    let Some(flavor) = flavors().first().copied() else { return };
    let mut stack = Stack::start(flavor).await;
    let mut session = stack.session().await;
    let wrong = config_of(&stack)
        .with("read_only: true")
        .with("health: {interval: never}")
        .with("databases:\n  - {host: 127.0.0.1, prot: 1, role: master}");
    hang_up(&mut stack.failsoft, &wrong).await;
    let file = stack.failsoft.dir().join("failsoft.yaml").display().to_string();
    let log = stack.failsoft.log();
    let parts = ["health.interval: found \\\"never\\\"", "databases[0].prot", "SIGHUP"];
    for part in parts {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (2, 'two')").await, "ok");
    // A line and a column for each, wherever it is told.
    let (status, body) = stack.failsoft.http_post("/api/v1/reload", "").await;
    assert!(status == 422 && body.matches(&format!("\"{file}:")).count() >= 2, "{body}");
    for path in ["/api/v1/status", "/"] {
        let (_, body) = stack.failsoft.http_get(path).await;
        assert!(body.contains("databases[0].prot"), "{path}: {body}");
    }
    let (status, ready) = stack.failsoft.http_get("/readyz").await;
    assert_eq!(status, 200);
    assert!(ready.contains("is invalid since 2") && ready.contains("running with the"), "{ready}");
    // What cannot be prepared is a mistake as well: a certificate that is not there, and an address
    // that is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let unprepared = [
        ("tls: {cert: nowhere.pem, key: nowhere.key}".to_owned(), "nowhere.key"),
        (
            format!("listen: [\"127.0.0.1:{{listen}}\", \"{address}\"]"),
            "cannot listen on 127.0.0.1:",
        ),
    ];
    for (yaml, part) in unprepared {
        let config = config_of(&stack).with("read_only: true").with(&yaml);
        stack.failsoft.write_config(&config);
        let (status, body) = stack.failsoft.http_post("/api/v1/reload", "").await;
        assert!(status == 422 && body.contains(part), "{status} {body}");
        assert_eq!(outcome(&mut session, "DELETE FROM t WHERE id = 2").await, "ok");
    }
    assert!(stack.metric("failsoft_configuration_valid").await < 1.0);
    reload(&stack.failsoft, &config_of(&stack)).await;
    assert_eq!(stack.failsoft.http_get("/readyz").await, (200, "ready\n".to_owned()));
    let invalid = stack.metric("failsoft_reloads_total{result=\"invalid\"}").await;
    let applied = stack.metric("failsoft_reloads_total{result=\"applied\"}").await;
    assert_eq!([invalid, applied], [4.0, 1.0]);
    assert!(stack.metric("failsoft_configuration_valid").await > 0.0);
}

/// What a file says is named setting by setting, without secrets; what has to wait is named, too.
#[tokio::test(flavor = "multi_thread")]
async fn differences_are_told() {
    let Some(flavor) = flavors().first().copied() else { return };
    let stack = Stack::start(flavor).await;
    let other = Lease::any().unwrap();
    let config = config_of(&stack)
        .with("connect_timeout: 7s\nthreads: 7\nread_only: true")
        .with("users: [{name: other, pass: do-not-show}]")
        .with(&format!(
            "admin: {{http: \"127.0.0.1:{}\", token_env: FAILSOFT_ADMIN_TOKEN}}",
            other.port()
        ));
    let body = reload(&stack.failsoft, &config).await;
    let (changes, pending) = body.split_once("\"needs_restart\"").unwrap();
    for setting in ["connect_timeout", "read_only", "users[other]"] {
        assert!(changes.contains(&format!("\"setting\":\"{setting}\"")), "{setting}: {body}");
    }
    for setting in ["threads", "admin.http", "admin.mysql"] {
        assert!(pending.contains(&format!("\"setting\":\"{setting}\"")), "{setting}: {body}");
    }
    let (_, status) = stack.failsoft.http_get("/api/v1/status").await;
    assert!(status.contains("configuration: connect_timeout: 10s -> 7s"), "{status}");
    assert!(status.contains("needs a restart, and is not in force"), "{status}");
    assert!(!(status + &stack.failsoft.log() + &body).contains("do-not-show"));
    stack.wait_mode("read-only", "config").await;
    // The same file once more: what waited still does.
    let body = reload(&stack.failsoft, &config).await;
    assert!(body.contains("\"changes\":[]") && body.contains("\"threads\""), "{body}");
}

/// A new password is good for logins at once, and for the connections that open sessions make from
/// then on; sessions of an account that is gone stay until they end.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_change_and_open_sessions_stay() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 2, "").await;
        let users = |pass: &str, more: &str| {
            let (user, old) = (APP.user, APP.pass);
            format!(
                "defaults: {{user: {user}, pass: {old}}}\nusers: [{{name: mine, pass: {pass}}}{more}]"
            )
        };
        let mut roots = Vec::new();
        for server in 0..2 {
            let port = strangers.port(server);
            let mut root = conn(port, ROOT.user, ROOT.pass, None).await.unwrap();
            for name in ["mine", "gone"] {
                execute(&mut root, &format!("CREATE USER {name} IDENTIFIED BY 'old'")).await;
                execute(&mut root, &format!("GRANT ALL ON app.* TO {name}")).await;
            }
            roots.push(root);
        }
        let config = |master: usize, yaml: &str| strangers.with_master(master).with(yaml);
        reload(&strangers.failsoft, &config(0, &users("old", ", {name: gone, pass: old}"))).await;
        let account = |user, pass| Account { user, pass };
        let login = |account| strangers.failsoft.conn_as(account, Some("app"));
        let mut mine = login(account("mine", "old")).await.unwrap();
        let mut gone = login(account("gone", "old")).await.unwrap();
        for session in [&mut mine, &mut gone] {
            execute(session, "SELECT * FROM t").await;
        }
        for root in &mut roots {
            execute(root, "ALTER USER mine IDENTIFIED BY 'new'").await;
        }
        // Both have to make a connection to the other server.
        reload(&strangers.failsoft, &config(1, &users("new", ""))).await;
        assert_eq!(outcome(&mut mine, "INSERT INTO t VALUES (1, 0)").await, "ok", "{flavor}");
        assert_eq!(outcome(&mut gone, "INSERT INTO t VALUES (2, 0)").await, "ok", "{flavor}");
        assert_eq!(strangers.rows(1).await, [1, 2]);
        login(account("mine", "new")).await.unwrap();
        for (user, pass) in [("mine", "old"), ("gone", "old")] {
            let denied = login(account(user, pass)).await.unwrap_err().to_string();
            assert!(denied.contains("Access denied for user"), "{flavor}: {user}: {denied}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_come_and_go() {
    let Some(flavor) = flavors().first().copied() else { return };
    let stack = Stack::start(flavor).await;
    let second = Lease::any().unwrap();
    let socket = stack.failsoft.dir().join("socket");
    let mut session = stack.session().await;
    let both = format!(
        "listen: [\"127.0.0.1:{{listen}}\", \"127.0.0.1:{}\", \"unix:{}\"]",
        second.port(),
        socket.display()
    );
    reload(&stack.failsoft, &config_of(&stack).with(&both)).await;
    for port in [stack.failsoft.port(), second.port()] {
        let mut session = conn(port, APP.user, APP.pass, Some("app")).await.unwrap();
        execute(&mut session, "SELECT 1").await;
    }
    let over = mysql_async::OptsBuilder::default()
        .socket(Some(socket.display().to_string()))
        .user(Some(APP.user))
        .pass(Some(APP.pass));
    mysql_async::Conn::new(over).await.unwrap();
    let mut on_second = conn(second.port(), APP.user, APP.pass, Some("app")).await.unwrap();
    reload(&stack.failsoft, &config_of(&stack)).await;
    wait_until(PATIENCE, "a closed address", || async {
        conn(second.port(), APP.user, APP.pass, None).await.is_err()
    })
    .await;
    assert!(!socket.exists());
    // Sessions that came that way stay.
    assert_eq!(outcome(&mut on_second, "INSERT INTO t VALUES (2, 'two')").await, "ok");
    assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (3, 'three')").await, "ok");
    assert!(conn(stack.failsoft.port(), APP.user, APP.pass, None).await.is_ok());
}

/// Connections that were made on other terms are left where that costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn terms_change_for_open_sessions() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 1, "").await;
        let failsoft = &strangers.failsoft;
        let asked = "SHOW SESSION STATUS LIKE 'Compression'";
        let compressed = |row: Option<(String, String)>| row.unwrap().1 == "ON";
        let mut idle = failsoft.conn(Some("app")).await.unwrap();
        let mut tied = failsoft.conn(Some("app")).await.unwrap();
        execute(&mut tied, "BEGIN").await;
        for session in [&mut idle, &mut tied] {
            assert!(!compressed(session.query_first(asked).await.unwrap()), "{flavor}");
        }
        let databases = format!(
            "databases:\n  - {{host: 127.0.0.1, port: {}, role: master, compress: true}}",
            strangers.port(0)
        );
        reload(failsoft, &strangers.with_master(0).with(&databases)).await;
        assert!(compressed(idle.query_first(asked).await.unwrap()), "{flavor}");
        let within = compressed(tied.query_first(asked).await.unwrap());
        assert!(!within, "{flavor}: not in a transaction");
        execute(&mut tied, "COMMIT").await;
        assert!(compressed(tied.query_first(asked).await.unwrap()), "{flavor}: after it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_levels_change() {
    let Some(flavor) = flavors().first().copied() else { return };
    let stack = Stack::start(flavor).await;
    let mut session = stack.session().await;
    reload(
        &stack.failsoft,
        &config_of(&stack).with("limits: {connections: 1}\nlog: {level: debug}"),
    )
    .await;
    let full = stack.failsoft.conn(None).await.unwrap_err().to_string();
    assert!(full.contains("limits.connections is 1"), "{full}");
    assert_eq!(outcome(&mut session, "SELECT 1").await, "ok", "who is in stays");
    // What is logged at this level: a connection to a server that is lost.
    let id: u64 = query_one(&mut session, "SELECT CONNECTION_ID()").await;
    let mut root = stack.root(stack.pair.master.port()).await;
    execute(&mut root, &format!("KILL {id}")).await;
    wait_until(PATIENCE, "a line of level debug", || async {
        stack.failsoft.log().contains("connection to a server lost")
    })
    .await;
    reload(&stack.failsoft, &config_of(&stack)).await;
    let mut raw = RawClient::logged_in(stack.failsoft.port(), &Login::new("app", "app-pass")).await;
    reload(&stack.failsoft, &config_of(&stack).with("limits: {packet: 1MiB}")).await;
    // A statement of 2 MiB is announced. The rest would meet a connection that is closed.
    raw.stream.write_all(&[0, 0, 0x20, 0, 3]).await.unwrap();
    let told = raw.read().await.unwrap().error().unwrap();
    assert_eq!((told.0, told.1.as_str()), (1153, "08S01"), "{}", told.2);
}

/// `watch: true`: written in place, renamed over, and behind a link as Kubernetes has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_is_read() {
    let Some(flavor) = flavors().first().copied() else { return };
    let stack = Stack::start_with(flavor, "watch: true").await;
    let failsoft = &stack.failsoft;
    let folder = failsoft.dir().to_owned();
    let at = |name: &str| folder.join(name);
    let read_only = |on: bool| config_of(&stack).with(&format!("watch: true\nread_only: {on}"));
    let shows = |reason: &'static str| {
        let mode = if reason.is_empty() { "read-write" } else { "read-only" };
        stack.wait_mode(mode, reason)
    };
    failsoft.write_config(&read_only(true));
    shows("config").await;
    // The text of either, for the ways that only this test knows.
    let on = fs::read_to_string(at("failsoft.yaml")).unwrap();
    let off = on.replace("read_only: true", "read_only: false");
    fs::write(at("next"), &off).unwrap();
    fs::rename(at("next"), at("failsoft.yaml")).unwrap();
    shows("").await;
    for (version, text) in [("one", &on), ("two", &off)] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("failsoft.yaml"), text).unwrap();
    }
    symlink("one", at("..data")).unwrap();
    symlink("..data/failsoft.yaml", at("link")).unwrap();
    fs::rename(at("link"), at("failsoft.yaml")).unwrap();
    shows("config").await;
    symlink("two", at("..next")).unwrap();
    fs::rename(at("..next"), at("..data")).unwrap();
    shows("").await;
    // A file that is wrong is said to be, and the next good one is read.
    fs::write(at("two/failsoft.yaml"), "databases: []").unwrap();
    wait_until(PATIENCE, "a file that is wrong", || async {
        failsoft.http_get("/readyz").await.1.contains("is invalid since")
    })
    .await;
    assert!(failsoft.http_get("/rw").await.1.contains("read-write"));
    fs::write(at("two/failsoft.yaml"), &on).unwrap();
    shows("config").await;
    // A file that it names comes later.
    let secret =
        on.replace("read_only: true", "read_only: false\nusers: [{name: x, pass_file: later}]");
    fs::write(at("two/failsoft.yaml"), &secret).unwrap();
    wait_until(PATIENCE, "a file that is missing", || async {
        failsoft.http_get("/readyz").await.1.contains("is invalid since")
    })
    .await;
    fs::write(at("later"), "secret").unwrap();
    shows("").await;
    let log = failsoft.log();
    assert!(log.contains("the file changed on disk"), "{log}");
    assert_eq!(log.matches("the file is invalid").count(), 2, "each mistake once\n{log}");
    fs::write(at("two/failsoft.yaml"), &on).unwrap();
    shows("config").await;
    // Without the setting it is left alone.
    let unwatched =
        on.replace("watch: true", "watch: false").replace("read_only: true", "read_only: false");
    fs::write(at("two/failsoft.yaml"), unwatched).unwrap();
    shows("").await;
    fs::write(at("two/failsoft.yaml"), &on).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert!(failsoft.http_get("/rw").await.1.contains("read-write"));
}
