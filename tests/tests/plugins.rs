//! Accounts of every authentication plugin, towards clients and towards servers.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

mod raw;

use std::path::Path;
use std::process::{Command, Stdio};

use failsoft_tests::outcome;
use mysql_common::scramble::create_response_for_ed25519;
use raw::{CALM, Handmade, Kind, Wire, com, native};
use testkit::{
    APP, Failsoft, Flavor, Options, ROOT, RawClient, Server, capability, conn, execute, flavors,
    query_one,
};

/// The accounts of these tests, beside the application's own.
const USERS: &str = "users:\n  - {name: app, pass: app-pass}\n  \
                     - {name: signer, pass: \"s\u{e4}gner'pass\"}\n  \
                     - {name: bare, pass: \"\"}\n  - {name: either, pass: either-pass}\n";
const SIGNER_PASS: &str = "s\u{e4}gner'pass";

/// What a MariaDB server is started with for it to know ed25519. Its plugin is where Debian's
/// package has it, or where `scripts/setup.sh` unpacked it.
fn with_ed25519() -> Vec<String> {
    let folder = testkit::cache_dir().join("mariadb/plugin");
    let unpacked = folder.join("auth_ed25519.so").is_file();
    let is_given =
        std::env::var_os("FAILSOFT_TEST_MARIADBD").is_some_and(|value| !value.is_empty());
    let own = (unpacked && !is_given).then(|| format!("--plugin-dir={}", folder.display()));
    own.into_iter().chain(["--plugin-load-add=auth_ed25519".to_owned()]).collect()
}

/// A MariaDB server with accounts that sign, and failsoft before it, whose monitor signs too.
async fn signing() -> (Server, Failsoft) {
    let options = Options { extra: with_ed25519(), ..Options::default() };
    let server = Server::start(Flavor::MariaDb, options).await.unwrap();
    let mut root = conn(server.port(), ROOT.user, ROOT.pass, None).await.unwrap();
    for (name, how) in [
        ("signer", "ed25519 USING PASSWORD('s\u{e4}gner\\'pass')"),
        ("bare", "ed25519 USING PASSWORD('')"),
        (
            "either",
            "ed25519 USING PASSWORD('another') \
             OR mysql_native_password USING PASSWORD('either-pass')",
        ),
        ("watcher", "ed25519 USING PASSWORD('watcher-pass')"),
    ] {
        execute(&mut root, &format!("CREATE USER {name}@'%' IDENTIFIED VIA {how}")).await;
        execute(&mut root, &format!("GRANT SELECT ON app.* TO {name}@'%'")).await;
    }
    let config = Failsoft::config(&[("master", server.port())]).with(USERS).with(CALM);
    let config = config.with("monitor: {user: watcher, pass: watcher-pass}");
    (server, config.start().await)
}

/// Servers that ask for a signature get one, whatever the client logged in to failsoft by.
#[tokio::test(flavor = "multi_thread")]
async fn servers_may_ask_for_a_signature() {
    if !flavors().contains(&Flavor::MariaDb) {
        return;
    }
    let (server, failsoft) = signing().await;
    for (user, pass) in [("signer", SIGNER_PASS), ("either", "either-pass")] {
        let mut session = conn(failsoft.port(), user, pass, Some("app")).await.unwrap();
        let account: String = query_one(&mut session, "SELECT CURRENT_USER()").await;
        assert_eq!(account, format!("{user}@%"));
        session.disconnect().await.unwrap();
    }
    // The checks sign as well: the master is known to be there.
    testkit::wait_until(failsoft_tests::PATIENCE, "a check that got through", || async {
        failsoft.http_get("/rw").await.1.contains("read-write")
    })
    .await;
    // MariaDB lets nobody in without a password (seen on 10.11), and is asked all the same; and
    // where a server has another password, its answer is what the client hears.
    let databases = format!(
        "databases:\n  - {{host: 127.0.0.1, port: {}, role: master, user: signer, pass: unfit}}",
        server.port()
    );
    let wrong = Failsoft::config(&[]).with(USERS).with(CALM).with(&databases).start().await;
    for (port, user) in [(failsoft.port(), "bare"), (wrong.port(), "signer")] {
        let pass = if user == "bare" { "" } else { SIGNER_PASS };
        let mut session = conn(port, user, pass, None).await.unwrap();
        let refused = outcome(&mut session, "SELECT 1").await;
        assert!(refused.contains(&format!("Access denied for user '{user}'@")), "{refused}");
        assert!(!refused.contains("unfit"), "{refused}");
    }
}

/// Clients may sign; whether the account signs on the server makes no difference.
#[tokio::test(flavor = "multi_thread")]
async fn clients_may_sign() {
    for flavor in flavors() {
        let server = Server::start(flavor, Options::default()).await.unwrap();
        let failsoft = Failsoft::config(&[("master", server.port())]).with(CALM).start().await;
        for early in [&b""[..], b"whatever", &[1; 64]] {
            for (pass, let_in) in [(APP.pass, true), ("wrong", false), ("", false)] {
                let (client, let_in_now) = sign_in(failsoft.port(), pass, early).await;
                assert_eq!(let_in_now, let_in, "{flavor} {pass}");
                if let_in {
                    changes_user(client).await;
                }
            }
        }
        mariadb_client_signs(failsoft.port());
    }
}

/// Logs in by a signature of what is asked to be signed.
async fn sign_in(port: u16, pass: &str, early: &[u8]) -> (RawClient, bool) {
    let mut client = RawClient::connect(port).await.unwrap();
    let login = Handmade {
        plugin: Some("client_ed25519".to_owned()),
        answer: early.to_vec(),
        ..Handmade::native(&client)
    };
    client.send(&login.payload()).await.unwrap();
    let switch = client.read().await.unwrap().payload;
    let nonce = switch.strip_prefix(b"\xfeclient_ed25519\0").expect("an auth switch");
    assert_eq!(nonce.len(), 32, "clients take no other length");
    client.send(&create_response_for_ed25519(pass.as_bytes(), nonce)).await.unwrap();
    let answer = client.read().await.unwrap();
    if let Some((code, state, text)) = answer.error() {
        assert_eq!((code, state.as_str()), (1045, "28000"), "{text}");
    }
    (client, answer.is_ok())
}

/// Plugins with a shorter nonce go on with the one they had, the greeting's; one that signs waits
/// to be asked.
async fn changes_user(client: RawClient) {
    let nonce = client.greeting.nonce.clone();
    let change = |answer: &[u8], plugin: &str| {
        let length = u8::try_from(answer.len()).unwrap();
        [b"app\0", &[length][..], answer, b"app\0\x2d\0", plugin.as_bytes(), b"\0"].concat()
    };
    let mut wire = Wire::new(client, capability::USUAL);
    let by_nonce = change(&native(APP.pass, &nonce), "mysql_native_password");
    let frames = wire.ask(com::CHANGE_USER, &by_nonce, Kind::One).await;
    assert!(frames[0].is_ok(), "{:?}", frames[0].error());
    let by_signature = change(b"", "client_ed25519");
    let frames = wire.ask(com::CHANGE_USER, &by_signature, Kind::One).await;
    let asked = frames[0].payload.strip_prefix(b"\xfeclient_ed25519\0").expect("an auth switch");
    let answer = create_response_for_ed25519(APP.pass.as_bytes(), asked);
    wire.client.send(&answer).await.unwrap();
    assert!(wire.client.read().await.unwrap().is_ok());
    assert_eq!(wire.value("SELECT DATABASE()").await, "app");
}

/// MariaDB's own client, where it and its plugin are installed.
fn mariadb_client_signs(port: u16) {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let plugins = folders.iter().map(|folder| Path::new(folder).join("libmariadb3/plugin"));
    let Some(plugins) = plugins.into_iter().find(|f| f.join("client_ed25519.so").is_file()) else {
        println!("skipped: no client_ed25519.so");
        return;
    };
    for (pass, expected) in [(APP.pass, "signed in"), ("wrong", "ERROR 1045 (28000)")] {
        let output = Command::new("mariadb")
            .args(["--no-defaults", "-h127.0.0.1", "--skip-ssl", "--batch", "-uapp"])
            .args(["--default-auth=client_ed25519".to_owned(), format!("-p{pass}")])
            .args([format!("--plugin-dir={}", plugins.display()), format!("-P{port}")])
            .args(["-e", "SELECT 'signed in'"])
            .stdin(Stdio::null())
            .output()
            .expect("the mariadb client");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(expected), "{text}");
    }
}

/// MySQL's sha256_password, under the server's public key and over TLS. 9.7 still has it, and calls
/// it deprecated.
#[tokio::test(flavor = "multi_thread")]
async fn servers_may_ask_for_sha256_passwords() {
    if !flavors().contains(&Flavor::MySql) {
        return;
    }
    let server = Server::start(Flavor::MySql, Options::default()).await.unwrap();
    let mut root = conn(server.port(), ROOT.user, ROOT.pass, None).await.unwrap();
    for (name, pass) in [("either", "either-pass"), ("bare", "")] {
        let how = format!("IDENTIFIED WITH sha256_password BY '{pass}'");
        execute(&mut root, &format!("CREATE USER {name}@'%' {how}")).await;
    }
    for mode in ["off", "required"] {
        let config = Failsoft::config(&[("master", server.port())]).with(USERS).with(CALM);
        let failsoft = config.with(&format!("tls: {{servers: {mode}}}")).start().await;
        for (name, pass) in [("either", "either-pass"), ("bare", "")] {
            let mut session = conn(failsoft.port(), name, pass, None).await.unwrap();
            let account: String = query_one(&mut session, "SELECT CURRENT_USER()").await;
            assert_eq!(account, format!("{name}@%"), "{mode}");
        }
    }
}

/// Plugins that show the password are for clients with TLS; the command-line clients have both.
#[tokio::test(flavor = "multi_thread")]
async fn clients_with_tls_may_show_their_password() {
    for flavor in flavors().into_iter().take(1) {
        let server = Server::start(flavor, Options::default()).await.unwrap();
        let failsoft = Failsoft::config(&[("master", server.port())]).with(CALM).start().await;
        for plugin in ["mysql_clear_password", "sha256_password"] {
            for (pass, expected) in [(APP.pass, "let in"), ("unfit", "ERROR 1045 (28000)")] {
                let Some(text) = mysql_client(failsoft.port(), plugin, pass) else { return };
                assert!(text.contains(expected), "{plugin}: {text}");
            }
        }
    }
}

/// What MySQL's own client prints, where it is installed.
fn mysql_client(port: u16, plugin: &str, pass: &str) -> Option<String> {
    let client = testkit::cache_dir().join("mysql/mysql");
    if !client.is_file() {
        println!("skipped: no {}", client.display());
        return None;
    }
    let output = Command::new(client)
        .args(["--no-defaults", "-h127.0.0.1", "-uapp", "--batch", "--ssl-mode=REQUIRED"])
        .args(["--enable-cleartext-plugin".to_owned(), format!("--default-auth={plugin}")])
        .args([format!("-P{port}"), format!("-p{pass}"), "-eSELECT 'let in'".to_owned()])
        .stdin(Stdio::null())
        .output()
        .expect("the mysql client");
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
