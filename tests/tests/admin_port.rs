//! The admin console in the MySQL protocol, with the clients that people have.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::path::Path;
use std::process::Output;

use failsoft_tests::{Stack, installed_clients, outcome};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use testkit::{ADMIN_TOKEN, Flavor, flavors, wait_until};
use tokio::process::Command;

use failsoft_tests::PATIENCE;

/// Runs a statement with a command line.
async fn typed(client: &Path, stack: &Stack, password: &str, statement: &str) -> Output {
    let port = stack.failsoft.admin_port().to_string();
    let mut command = Command::new(client);
    command.args(["--no-defaults", "--protocol=TCP", "--host=127.0.0.1", "--user=ops", "--table"]);
    command.args(["--port", &port, &format!("--password={password}"), "--execute", statement]);
    command.output().await.unwrap()
}

async fn shown(client: &Path, stack: &Stack, password: &str, statement: &str) -> String {
    let output = typed(client, stack, password, statement).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {statement}: {errors}", client.display());
    String::from_utf8(output.stdout).unwrap()
}

async fn refused(client: &Path, stack: &Stack, password: &str, statement: &str) -> String {
    let output = typed(client, stack, password, statement).await;
    assert!(!output.status.success(), "{}: {statement}", client.display());
    String::from_utf8(output.stderr).unwrap()
}

/// MariaDB's and MySQL's command lines show everything, and give orders with the token.
#[tokio::test(flavor = "multi_thread")]
async fn command_lines_look_and_give_orders() {
    let clients = installed_clients();
    assert!(!clients.is_empty(), "there is no command line to try");
    for client in &clients {
        let stack = Stack::start(flavors()[0]).await;
        let mut session = stack.session().await;
        assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (2, 'hush-hush')").await, "ok");
        let master = format!("127.0.0.1:{}", stack.pair.master.port());
        // statement, parts of what is shown
        let table: [(&str, &[&str]); 9] = [
            ("SHOW MODE", &["default", "read-write", "Read-write: statements go to master"]),
            ("SHOW SERVERS", &[&master, "healthy", "Up to Date"]),
            ("SHOW SESSIONS", &["app", "idle", &master]),
            ("SHOW POOLS", &["with_sessions", &master]),
            ("SHOW EVENTS", &["is read-write"]),
            ("SHOW CONFIG", &["admin:", "token:", "***"]),
            ("SHOW UNKNOWN OUTCOMES", &[]),
            ("EXPLAIN ROUTE SELECT 1 FOR UPDATE", &["locking read", "goes to master 127.0.0.1:"]),
            ("SHOW HELP", &["SHOW REFUSABLE STATEMENTS", "KILL SESSION id"]),
        ];
        for (statement, parts) in table {
            let text = shown(client, &stack, "", statement).await;
            for part in parts {
                assert!(text.contains(part), "{}: {statement}: {text}", client.display());
            }
            assert!(!text.contains("hush-hush") && !text.contains(ADMIN_TOKEN), "{text}");
        }
        wait_until(PATIENCE, "the statement in the list", || async {
            let text = shown(client, &stack, "", "SHOW REFUSABLE STATEMENTS").await;
            text.contains("INSERT INTO t VALUES (?, …)") && !text.contains("hush-hush")
        })
        .await;

        let error = refused(client, &stack, "", "SET READ_ONLY = ON").await;
        assert!(error.contains("1227") && error.contains("admin.token"), "{error}");
        let error = refused(client, &stack, "wrong", "SHOW MODE").await;
        assert!(error.contains("1045") && error.contains("not the token"), "{error}");
        stack.wait_mode("read-write", "").await;

        shown(client, &stack, ADMIN_TOKEN, "SET READ_ONLY = ON FOR PARTITION default").await;
        let write = "INSERT INTO t VALUES (3, 'three')";
        let error = outcome(&mut session, write).await;
        assert!(error.contains("read-only: config, switched on by an operator"), "{error}");
        shown(client, &stack, ADMIN_TOKEN, "SET READ_ONLY = OFF").await;
        assert_eq!(outcome(&mut session, write).await, "ok");
        let replica = format!("127.0.0.1:{}", stack.pair.replica.port());
        shown(client, &stack, ADMIN_TOKEN, &format!("DISABLE SERVER '{replica}'")).await;
        shown(client, &stack, ADMIN_TOKEN, &format!("ENABLE SERVER '{replica}'")).await;
        let error = refused(client, &stack, ADMIN_TOKEN, "DISABLE SERVER 'db9:1'").await;
        assert!(error.contains("db9:1 is not in the configuration"), "{error}");
        let error = refused(client, &stack, ADMIN_TOKEN, "DROP TABLE t").await;
        assert!(error.contains("1064") && error.contains("SHOW HELP lists"), "{error}");

        let text = shown(client, &stack, "", "SHOW ORDERS").await;
        let told = [
            "'ops' at 127.0.0.1:",
            "switched read-only mode of partition default on",
            "SET READ_ONLY was refused",
        ];
        for part in told {
            assert!(text.contains(part), "{text}");
        }
    }
}

async fn admin(stack: &Stack, password: &str) -> Conn {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(stack.failsoft.admin_port())
        .prefer_socket(Some(false))
        .user(Some("driver"))
        .pass(Some(password).filter(|password| !password.is_empty()))
        .db_name(Some("anything"));
    Conn::new(options).await.unwrap()
}

/// A driver asks for variables at connect, and a session is ended by its id.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_ends_a_session_and_reloads() {
    let stack = Stack::start(Flavor::MariaDb).await;
    let mut admin = admin(&stack, ADMIN_TOKEN).await;
    let variables: (u64, u64) =
        admin.query_first("SELECT @@max_allowed_packet, @@wait_timeout").await.unwrap().unwrap();
    assert_eq!(variables.1, 28800);
    let mut session = stack.session().await;
    assert_eq!(outcome(&mut session, "SELECT 1").await, "ok");
    let rows: Vec<mysql_async::Row> = admin.query("SHOW SESSIONS").await.unwrap();
    let id: String = rows[0].get("id").unwrap();
    assert_eq!(id, session.id().to_string());
    admin.query_drop(format!("KILL SESSION {id}")).await.unwrap();
    assert_eq!(outcome(&mut session, "SELECT 1").await, "closed");
    let error = outcome(&mut admin, &format!("KILL SESSION {id}")).await;
    assert!(error.contains(&format!("there is no session {id}")), "{error}");
    let rows: Vec<mysql_async::Row> = admin.query("RELOAD").await.unwrap();
    assert!(rows.is_empty(), "nothing is different");
    // What is no text is said so.
    let error = admin.prep("SHOW MODE").await.unwrap_err().to_string();
    assert!(error.contains("prepares no statements"), "{error}");
    admin.ping().await.unwrap();
}

/// What is nearly an order is no order, and is not said to be carried out; and what a driver puts in front of
/// one makes no difference.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_to_be_done_that_is_not() {
    let stack = Stack::start(Flavor::MariaDb).await;
    let mut admin = admin(&stack, ADMIN_TOKEN).await;
    for nearly in ["SET READ_ONLY ON", "SET GLOBAL read_only = 1", "SET READONLY = ON", "PAUSE NOW"]
    {
        let error = outcome(&mut admin, nearly).await;
        assert!(error.starts_with("1064/"), "{nearly}: {error}");
    }
    stack.wait_mode("read-write", "").await;
    assert_eq!(outcome(&mut admin, "/* ApplicationName=x */ SET READ_ONLY = ON").await, "ok");
    stack.wait_mode("read-only", "config").await;
    assert_eq!(outcome(&mut admin, "SET READ_ONLY = OFF").await, "ok");
    // The library would say OK to a command that it does not know, and do nothing.
    assert!(admin.reset().await.is_err(), "a reset that was none");
}

/// Who logged in with a token that is another by now only looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_replaced_gives_no_orders() {
    let stack = Stack::start(Flavor::MariaDb).await;
    let mut admin = admin(&stack, ADMIN_TOKEN).await;
    let databases = [("master", stack.pair.master.port()), ("replica", stack.pair.replica.port())];
    let yaml = "admin:\n  http: 127.0.0.1:{http}\n  mysql: 127.0.0.1:{admin}\n  token: another";
    failsoft_tests::reload(&stack.failsoft, &testkit::Failsoft::config(&databases).with(yaml))
        .await;
    let error = outcome(&mut admin, "SET READ_ONLY = ON").await;
    assert!(error.starts_with("1227/"), "{error}");
    let rows: Vec<mysql_async::Row> = admin.query("SHOW MODE").await.unwrap();
    assert_eq!(rows.len(), 1);
}

/// Half a login, garbage, and many who say nothing harm nobody.
#[tokio::test(flavor = "multi_thread")]
async fn odd_clients_of_the_admin_port_harm_nobody() {
    use tokio::io::AsyncWriteExt;
    let stack = Stack::start(Flavor::MariaDb).await;
    let mut odd = Vec::new();
    for sent in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 300], &[4, 0, 0, 1, 0, 0]] {
        let address = ("127.0.0.1", stack.failsoft.admin_port());
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        odd.push(stream);
    }
    let mut admin = admin(&stack, "").await;
    let rows: Vec<mysql_async::Row> = admin.query("SHOW MODE").await.unwrap();
    assert_eq!(rows.len(), 1);
    let (status, _) = stack.failsoft.http_get("/readyz").await;
    assert_eq!(status, 200);
}
