//! `login: passthrough`: accounts that only the servers know.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests print what they skip, and panic"
)]

mod raw;

use std::process::{Command, Stdio};

use failsoft_tests::{installed_clients, outcome};
use mysql_async::{ChangeUserOpts, Conn, SslOpts};
use raw::{CALM, Handmade, Wire, native, sha2};
use testkit::{Failsoft, Flavor, Login, Pair, ROOT, RawClient, conn, execute, flavors, query_one};

/// Accounts that failsoft's file does not have.
const ACCOUNTS: [(&str, &str); 3] =
    [("second", "second-pass"), ("third", "thr\u{ef}rd'\"pass"), ("bare", "")];

async fn start(flavor: Flavor) -> (Pair, Failsoft) {
    let pair = Pair::start(flavor).await.unwrap();
    let mut root = conn(pair.master.port(), ROOT.user, ROOT.pass, None).await.unwrap();
    for (name, pass) in ACCOUNTS {
        let pass = pass.replace('\'', "''");
        execute(&mut root, &format!("CREATE USER {name}@'%' IDENTIFIED BY '{pass}'")).await;
    }
    pair.wait_synced().await.unwrap();
    let databases = [("master", pair.master.port()), ("replica", pair.replica.port())];
    let config = Failsoft::config(&databases).with("defaults: {port: 3306}").with(CALM);
    (pair, config.with("login: passthrough").start().await)
}

async fn whoami(session: &mut Conn) -> String {
    query_one::<String>(session, "SELECT USER()").await.split('@').next().unwrap().to_owned()
}

/// How a login ends: the user that the server sees, or the error.
async fn log_in(port: u16, user: &str, pass: &str, encrypted: bool) -> String {
    let trusting = SslOpts::default()
        .with_danger_accept_invalid_certs(true)
        .with_danger_skip_domain_validation(true);
    let options = testkit::opts(port, user, pass, None).ssl_opts(encrypted.then_some(trusting));
    match Conn::new(options).await {
        Ok(mut session) => {
            let user = whoami(&mut session).await;
            session.disconnect().await.unwrap();
            user
        }
        Err(mysql_async::Error::Server(error)) => format!("{} {}", error.code, error.message),
        Err(other) => other.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_say_who_is_let_in() {
    for flavor in flavors() {
        let (_pair, failsoft) = start(flavor).await;
        let port = failsoft.port();
        for encrypted in [false, true] {
            // The first login asks a server, and the next does not have to.
            for _ in 0..2 {
                for (name, pass) in ACCOUNTS {
                    assert_eq!(log_in(port, name, pass, encrypted).await, name, "{flavor}");
                }
            }
            for (name, pass, using) in [
                ("second", "unfit", "YES"),
                ("second", "", "NO"),
                ("bare", "unfit", "YES"),
                ("nobody", "unfit", "YES"),
                ("nobody", "", "NO"),
            ] {
                let expected = format!(
                    "1045 Access denied for user '{name}'@'127.0.0.1' (using password: {using})"
                );
                assert_eq!(log_in(port, name, pass, encrypted).await, expected, "{flavor}");
            }
        }
        by_the_short_way(port, flavor).await;
        changes_user(port).await;
        command_line_clients(port);
        let log = failsoft.log();
        for secret in ["second-pass", "unfit", "thr"] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    }
}

/// Whoever was let in before shows that it knows the password, by any plugin, and sends it no more.
async fn by_the_short_way(port: u16, flavor: Flavor) {
    let mut client = RawClient::connect(port).await.unwrap();
    let login = Handmade {
        user: "second".to_owned(),
        plugin: Some("caching_sha2_password".to_owned()),
        answer: sha2("second-pass", &client.greeting.nonce),
        ..Handmade::native(&client)
    };
    client.send(&login.payload()).await.unwrap();
    assert_eq!(client.read().await.unwrap().payload, [1, 3], "{flavor}");
    assert!(client.read().await.unwrap().is_ok());
    let mut client = RawClient::connect(port).await.unwrap();
    let login = Handmade {
        user: "second".to_owned(),
        answer: native("second-pass", &client.greeting.nonce),
        ..Handmade::native(&client)
    };
    client.send(&login.payload()).await.unwrap();
    assert!(client.read().await.unwrap().is_ok());
    // A password in clear is not taken where it can be read on the way, even if it is right.
    let mut client = RawClient::connect(port).await.unwrap();
    let login = Handmade {
        user: "third".to_owned(),
        plugin: Some("caching_sha2_password".to_owned()),
        answer: sha2("unfit", &client.greeting.nonce),
        ..Handmade::native(&client)
    };
    client.send(&login.payload()).await.unwrap();
    assert_eq!(client.read().await.unwrap().payload, [1, 4]);
    client.send("thr\u{ef}rd'\"pass\0".as_bytes()).await.unwrap();
    assert_eq!(client.read().await.unwrap().error().expect("a refusal").0, 1045);
    // Nor is rubbish under the key.
    let mut client = RawClient::connect(port).await.unwrap();
    let login = Handmade { answer: sha2("unfit", &client.greeting.nonce), ..login };
    client.send(&login.payload()).await.unwrap();
    assert_eq!(client.read().await.unwrap().payload, [1, 4]);
    client.send(&[2]).await.unwrap();
    let key = client.read().await.unwrap().payload;
    assert!(key.starts_with(b"\x01-----BEGIN PUBLIC KEY-----\n"), "{}", key.escape_ascii());
    client.send(&[7; 256]).await.unwrap();
    assert_eq!(client.read().await.unwrap().error().expect("a refusal").0, 1045);
}

async fn changes_user(port: u16) {
    let mut session = conn(port, "second", "second-pass", None).await.unwrap();
    for (name, pass) in ACCOUNTS {
        let pass = Some(pass.to_owned()).filter(|pass| !pass.is_empty());
        let other = ChangeUserOpts::new().with_user(Some(name.to_owned())).with_pass(pass);
        session.change_user(other).await.unwrap();
        assert_eq!(whoami(&mut session).await, name);
    }
    let wrong = ChangeUserOpts::new()
        .with_user(Some("second".to_owned()))
        .with_pass(Some("unfit".to_owned()));
    match session.change_user(wrong).await {
        Err(mysql_async::Error::Server(error)) => assert_eq!(error.code, 1045),
        other => panic!("{other:?}"),
    }
}

/// A password that was changed counts from then on.
#[tokio::test(flavor = "multi_thread")]
async fn changed_passwords() {
    for flavor in flavors() {
        let (pair, failsoft) = start(flavor).await;
        let port = failsoft.port();
        assert_eq!(log_in(port, "second", "second-pass", false).await, "second");
        let mut root = conn(pair.master.port(), ROOT.user, ROOT.pass, None).await.unwrap();
        execute(&mut root, "ALTER USER second@'%' IDENTIFIED BY 'new-pass'").await;
        pair.wait_synced().await.unwrap();
        // failsoft remembers the old one until a server says otherwise, to whichever statement.
        let mut session = conn(port, "second", "second-pass", None).await.unwrap();
        let refused = outcome(&mut session, "SELECT 1").await;
        assert!(refused.contains("Access denied for user 'second'"), "{refused}");
        drop(session);
        let refused = log_in(port, "second", "second-pass", false).await;
        assert!(refused.starts_with("1045 "), "{refused}");
        assert_eq!(log_in(port, "second", "new-pass", false).await, "second");
        // Locked is not wrong, and the client is told.
        execute(&mut root, "ALTER USER third@'%' ACCOUNT LOCK").await;
        let refused = log_in(port, "third", "thr\u{ef}rd'\"pass", false).await;
        assert!(refused.starts_with("3118 ") || refused.starts_with("4151 "), "{refused}");
        // One account's trouble is not the partition's.
        let log = failsoft.log();
        assert!(!log.contains("read-only: unreachable"), "{log}");
    }
}

/// While no server answers, known accounts are let in, and of others nothing can be said.
#[tokio::test(flavor = "multi_thread")]
async fn without_any_server() {
    for flavor in flavors() {
        let (mut pair, failsoft) = start(flavor).await;
        let port = failsoft.port();
        for name in ["second", "bare"] {
            let pass = if name == "bare" { "" } else { "second-pass" };
            assert_eq!(log_in(port, name, pass, false).await, name);
        }
        pair.master.kill().unwrap();
        // The replica is as good a judge.
        let third = "thr\u{ef}rd'\"pass";
        let mut session = conn(port, "third", third, None).await.unwrap();
        assert_eq!(whoami(&mut session).await, "third");
        drop(session);
        pair.replica.kill().unwrap();
        for (name, pass) in [("second", "second-pass"), ("third", third)] {
            let mut session = conn(port, name, pass, None).await.unwrap();
            let none = outcome(&mut session, "SELECT 1").await;
            assert!(none.starts_with("1053/08S01: No server"), "{none}");
        }
        for (name, pass) in [("nobody", "any"), ("second", "unfit"), ("nobody", "")] {
            let unknown = log_in(port, name, pass, false).await;
            assert!(unknown.starts_with("1053 Login cannot be verified"), "{unknown}");
            assert!(!unknown.contains("unfit"), "{unknown}");
        }
        let mut client = RawClient::connect(port).await.unwrap();
        let answer = client.login(&Login::new("second", "second-pass")).await.unwrap();
        assert!(answer.is_ok(), "{:?}", answer.error());
        drop(Wire::new(client, 0));
    }
}

/// MariaDB's and MySQL's own clients, where they are installed.
fn command_line_clients(port: u16) {
    for client in installed_clients() {
        let choices: [&[&str]; 2] = match client.ends_with("mysql/mysql") {
            true => [&["--ssl-mode=REQUIRED"], &["--ssl-mode=DISABLED", "--get-server-public-key"]],
            false => [&["--ssl", "--skip-ssl-verify-server-cert"], &["--skip-ssl"]],
        };
        for arguments in choices {
            for (pass, expected) in
                [("second-pass", "in as second@"), ("unfit", "ERROR 1045 (28000)")]
            {
                let output = Command::new(&client)
                    .args(["--no-defaults", "-h127.0.0.1", "-usecond", "--batch"])
                    .args(arguments)
                    .args([format!("-P{port}"), format!("-p{pass}")])
                    .args(["-e", "SELECT CONCAT('in as ', USER())"])
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                let text = [output.stdout, output.stderr].concat();
                let text = String::from_utf8_lossy(&text);
                assert!(text.contains(expected), "{} {arguments:?}: {text}", client.display());
            }
        }
    }
}
