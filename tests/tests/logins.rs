//! Every way in, and every way to be kept out: what a client is told, and that nothing of it stays.
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

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use failsoft_tests::{PATIENCE, Stack, configured, installed_clients, outcome};
use mysql_async::{ChangeUserOpts, Conn, OptsBuilder, SslOpts};
use mysql_common::crypto::encrypt;
use raw::{
    CALM, CONNECT_ATTRS, Handmade, Kind, PLUGIN_AUTH_LENENC, Wire, com, lenenc_bytes, native, sha2,
};
use testkit::{
    APP, Failsoft, Flavor, Login, Pair, RawClient, capability, conn, execute, flavors, query_one,
    wait_until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixStream};

/// The accounts of these tests, beside the application's own.
const USERS: &str = "users:\n  - {name: app, pass: app-pass}\n  - {name: bare, pass: \"\"}\n  \
                     - {name: second, pass: second-pass}";

/// Makes the accounts on the servers, by way of the master.
async fn create_accounts(pair: &Pair) {
    let mut root = conn(pair.master.port(), "root", "root-pass", None).await.unwrap();
    for (name, pass) in [("bare", ""), ("second", "second-pass")] {
        execute(&mut root, &format!("CREATE USER {name}@'%' IDENTIFIED BY '{pass}'")).await;
        execute(&mut root, &format!("GRANT SELECT ON app.* TO {name}@'%'")).await;
    }
    pair.wait_synced().await.unwrap();
}

/// A pair and failsoft before it, with these tests' accounts and more YAML.
async fn start(flavor: Flavor, yaml: &str) -> Stack {
    let pair = Pair::start(flavor).await.unwrap();
    create_accounts(&pair).await;
    let databases = [("master", pair.master.port()), ("replica", pair.replica.port())];
    let config = Failsoft::config(&databases).with(USERS);
    Stack::with_table(configured(config.with(CALM), yaml).start().await, pair).await
}

/// Who the server says that the session is.
async fn whoami(session: &mut Conn) -> String {
    query_one::<String>(session, "SELECT USER()").await.split('@').next().unwrap().to_owned()
}

/// Waits until no session is left, and that failsoft is alive.
async fn nobody_is_left(stack: &Stack) {
    wait_until(PATIENCE, "no session", || async {
        let (_, body) = stack.failsoft.http_get("/metrics").await;
        let sessions = body.lines().filter(|line| line.starts_with("failsoft_sessions{"));
        let counts: Vec<&str> = sessions.filter_map(|line| line.split(' ').nth(1)).collect();
        !counts.is_empty() && counts.iter().all(|&count| count == "0")
    })
    .await;
    let mut session = stack.session().await;
    assert_eq!(query_one::<i64>(&mut session, "SELECT 1").await, 1);
    session.disconnect().await.unwrap();
}

/// The plugin in the greeting is the servers' own, and clients may answer with either.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_checked_by_every_plugin() {
    for flavor in flavors() {
        let stack = start(flavor, "").await;
        let port = stack.failsoft.port();
        plugins(port, flavor).await;
        refusals(port, &stack).await;
        schemas(port, &stack).await;
        others(port).await;
        changes_of_user(&stack).await;
        attributes(&stack).await;
        nobody_is_left(&stack).await;
    }
}

async fn handmade(port: u16, make: impl FnOnce(&RawClient) -> Handmade) -> RawClient {
    let mut client = RawClient::connect(port).await.unwrap();
    let login = make(&client);
    client.send(&login.payload()).await.unwrap();
    client
}

async fn plugins(port: u16, flavor: Flavor) {
    let client = RawClient::connect(port).await.unwrap();
    let (plugin, version) = match flavor {
        Flavor::MariaDb => ("mysql_native_password", "MariaDB"),
        Flavor::MySql => ("caching_sha2_password", "9."),
    };
    assert_eq!(client.greeting.plugin, plugin);
    assert!(client.greeting.version.contains(version), "{}", client.greeting.version);
    drop(client);
    // By name, by the old rule that no name means native, and with long answers.
    for (plugin, flags) in [
        (Some("mysql_native_password"), 0),
        (None, 0),
        (Some("mysql_native_password"), PLUGIN_AUTH_LENENC),
    ] {
        let mut client = handmade(port, |client| Handmade {
            plugin: plugin.map(str::to_owned),
            capabilities: capability::USUAL | flags,
            ..Handmade::native(client)
        })
        .await;
        let answer = client.read().await.unwrap();
        assert!(answer.is_ok(), "{plugin:?}: {:?}", answer.error());
        assert_eq!(Wire::new(client, 0).value("SELECT 1").await, "1");
    }
    // The fast path: 01 03, then OK.
    let mut client = handmade(port, |client| Handmade {
        plugin: Some("caching_sha2_password".to_owned()),
        answer: sha2(APP.pass, &client.greeting.nonce),
        ..Handmade::native(client)
    })
    .await;
    assert_eq!(client.read().await.unwrap().payload, [1, 3]);
    assert!(client.read().await.unwrap().is_ok());
    // A plugin that is not known here, and one that would show the password, are switched from.
    for plugin in ["dialog", "sha256_password", "mysql_clear_password"] {
        switched(port, plugin, APP.pass, true).await;
        switched(port, plugin, "wrong", false).await;
    }
}

/// Names some other plugin, and answers the one that is asked for instead.
async fn switched(port: u16, plugin: &str, pass: &str, let_in: bool) {
    let mut client = handmade(port, |client| Handmade {
        plugin: Some(plugin.to_owned()),
        answer: b"whatever\0".to_vec(),
        ..Handmade::native(client)
    })
    .await;
    let switch = client.read().await.unwrap().payload;
    let rest = switch.strip_prefix(b"\xfe").expect("an auth switch");
    let (asked, rest) = rest.split_at(rest.iter().position(|&byte| byte == 0).unwrap());
    let nonce = &rest[1..21];
    let answer = match asked {
        b"mysql_native_password" => native(pass, nonce),
        b"caching_sha2_password" => sha2(pass, nonce),
        other => panic!("asked for {}", other.escape_ascii()),
    };
    client.send(&answer).await.unwrap();
    let mut last = client.read().await.unwrap();
    if last.payload == [1, 3] {
        last = client.read().await.unwrap();
    }
    assert_eq!(last.is_ok(), let_in, "{plugin}: {:?}", last.error());
    if let_in {
        changes_user_by_the_last_nonce(client, nonce).await;
    }
}

/// Clients answer `COM_CHANGE_USER` by the nonce they were given last, not by the greeting's.
async fn changes_user_by_the_last_nonce(client: RawClient, nonce: &[u8]) {
    let answer = native(APP.pass, nonce);
    let length = u8::try_from(answer.len()).unwrap();
    let rest = [b"app\0", &[length][..], &answer, b"app\0\x2d\0mysql_native_password\0"].concat();
    let mut wire = Wire::new(client, 0);
    let frames = wire.ask(com::CHANGE_USER, &rest, Kind::One).await;
    assert!(frames[0].is_ok(), "{:?}", frames[0].error());
    assert_eq!(wire.value("SELECT DATABASE()").await, "app");
}

/// A wrong password, no password and an unknown user are told the same, as the server words it.
async fn refusals(port: u16, stack: &Stack) {
    let cases = [
        ("app", "wrong", "YES"),
        ("app", "", "NO"),
        ("nobody", "app-pass", "YES"),
        ("nobody", "", "NO"),
        ("", "", "NO"),
        ("bare", "x", "YES"),
        ("o'brien\u{1f600}", "x", "YES"),
    ];
    for (user, pass, using) in cases {
        let expected =
            format!("Access denied for user '{user}'@'127.0.0.1' (using password: {using})");
        for port in [port, stack.pair.master.port()] {
            let mut client = RawClient::connect(port).await.unwrap();
            let answer = client.login(&Login::new(user, pass)).await.unwrap();
            let (code, state, text) = answer.error().expect("a refusal");
            assert_eq!((code, state.as_str()), (1045, "28000"), "{user}: {text}");
            let is_ours = port != stack.pair.master.port();
            // MariaDB's server names 'localhost' where it can and knows no user with emoji.
            assert!(!is_ours || text == expected, "{text}");
            assert!(client.read().await.is_err(), "{user}: not closed");
        }
    }
    let logged = "client 127.0.0.1 was not let in: ";
    assert!(stack.failsoft.log().contains(logged), "{}", stack.failsoft.log());
    let mut bare = conn(port, "bare", "", Some("app")).await.unwrap();
    assert_eq!(whoami(&mut bare).await, "bare");
    // The rights are the server's to judge.
    let refused = outcome(&mut bare, "INSERT INTO t VALUES (9, 'no')").await;
    assert!(refused.starts_with("1142/42000: "), "{refused}");
    bare.disconnect().await.unwrap();
}

async fn schemas(port: u16, stack: &Stack) {
    let mut with = stack.session().await;
    assert_eq!(query_one::<String>(&mut with, "SELECT DATABASE()").await, "app");
    let mut without = stack.failsoft.conn(None).await.unwrap();
    let none = query_one::<Option<String>>(&mut without, "SELECT DATABASE()").await;
    assert_eq!(none, None);
    assert!(outcome(&mut without, "SELECT * FROM t").await.starts_with("1046/3D000: "));
    // Told by the login or by the first statement, and then the session is over.
    let mut login = Login::new(APP.user, APP.pass);
    login.schema = Some("app_nowhere".to_owned());
    let mut client = RawClient::connect(port).await.unwrap();
    let answer = client.login(&login).await.unwrap();
    if answer.is_ok() {
        let mut wire = Wire::new(client, 0);
        let (code, state, text) = wire.query("SELECT 1").await[0].error().unwrap();
        assert_eq!((code, state.as_str()), (1049, "42000"), "{text}");
        assert!(text.contains("app_nowhere"), "{text}");
        assert!(wire.is_closed().await);
    } else {
        assert_eq!(answer.error().unwrap().0, 1049);
    }
}

/// What is not a login at all.
async fn others(port: u16) {
    let rubbish: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00\x00\x00\x01",
        b"\x01\x00\x00\x01\x00",
        b"\xff\xff\xff\x01",
        b"\x20\x00\x00\x01\x8d\xa6\x0f\x00",
        b"\x24\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
          \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
    ];
    for bytes in rubbish {
        let mut client = RawClient::connect(port).await.unwrap();
        client.stream.write_all(bytes).await.unwrap();
        client.stream.shutdown().await.unwrap();
        // An error packet or nothing, and then the end: never a login.
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{}", bytes.escape_ascii());
        assert!(rest.get(4).is_none_or(|&marker| marker == 0xff), "{}", rest.escape_ascii());
    }
    // A login in pieces, cut everywhere, is waited for.
    for cut in 1..10 {
        let mut client = RawClient::connect(port).await.unwrap();
        let payload = Handmade::native(&client).payload();
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let packet = [&length[..3], &[1], &payload].concat();
        let at = packet.len() * cut / 10;
        client.stream.write_all(&packet[..at]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        client.stream.write_all(&packet[at..]).await.unwrap();
        assert!(client.read().await.unwrap().is_ok(), "cut at {at}");
    }
    // A client that logs in and sends its first statement without waiting for the answer.
    let mut client = RawClient::connect(port).await.unwrap();
    let payload = Handmade::native(&client).payload();
    client.send(&payload).await.unwrap();
    client.command(com::QUERY, b"SELECT 'hasty'").await.unwrap();
    assert!(client.read().await.unwrap().is_ok());
    assert_eq!(Wire::new(client, 0).reply(Kind::Results).await.len(), 5);
}

async fn changes_of_user(stack: &Stack) {
    let mut session = stack.session().await;
    execute(&mut session, "SET @a = 1").await;
    let second = ChangeUserOpts::new()
        .with_user(Some("second".to_owned()))
        .with_pass(Some("second-pass".to_owned()))
        .with_db_name(Some("app".to_owned()));
    session.change_user(second).await.unwrap();
    assert_eq!(whoami(&mut session).await, "second");
    assert_eq!(query_one::<Option<i64>>(&mut session, "SELECT @a").await, None);
    let refused = outcome(&mut session, "DELETE FROM t").await;
    assert!(refused.starts_with("1142/42000: "), "{refused}");
    let back = ChangeUserOpts::new()
        .with_user(Some("app".to_owned()))
        .with_pass(Some("app-pass".to_owned()));
    session.change_user(back).await.unwrap();
    assert_eq!(whoami(&mut session).await, "app");
    let wrong = ChangeUserOpts::new()
        .with_user(Some("second".to_owned()))
        .with_pass(Some("wrong".to_owned()));
    match session.change_user(wrong).await {
        Err(mysql_async::Error::Server(error)) => {
            assert_eq!((error.code, error.state.as_str()), (1045, "28000"));
        }
        other => panic!("{other:?}"),
    }
    // MySQL closes the connection after that, MariaDB goes on as the user that it was.
    match stack.pair.flavor() {
        Flavor::MySql => assert_eq!(outcome(&mut session, "SELECT 1").await, "closed"),
        Flavor::MariaDb => assert_eq!(whoami(&mut session).await, "app"),
    }
}

/// Connection attributes reach the server; many of them are no trouble.
async fn attributes(stack: &Stack) {
    let pair = |key: &str, value: &str| {
        [lenenc_bytes(key.as_bytes()), lenenc_bytes(value.as_bytes())].concat()
    };
    for length in [0, 200, 20_000, 60_000] {
        let value = "v".repeat(length);
        let mut client = handmade(stack.failsoft.port(), |client| Handmade {
            capabilities: capability::USUAL | PLUGIN_AUTH_LENENC | CONNECT_ATTRS,
            attributes: Some([pair("program_name", "logins"), pair("long", &value)].concat()),
            ..Handmade::native(client)
        })
        .await;
        let answer = client.read().await.unwrap();
        assert!(answer.is_ok(), "{length}: {:?}", answer.error());
        let mut wire = Wire::new(client, 0);
        assert_eq!(wire.value("SELECT 'in'").await, "in", "{length}");
    }
}

/// Where a scramble does not fit, MySQL asks for the password itself, and so does failsoft: there are
/// clients whose scrambles never fit (sqlx before 0.9). An account that does not exist is asked the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_scramble_that_does_not_fit_is_not_the_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        create_accounts(&pair).await;
        let listen = format!("listen: [\"127.0.0.1:{{listen}}\", \"unix:{}\"]", socket.display());
        let databases = [("master", pair.master.port())];
        let config = Failsoft::config(&databases).with(USERS).with(CALM).with(&listen);
        let failsoft = config.start().await;
        let private = tcp_to(socket.clone()).await;
        for (user, pass, right) in
            [("app", APP.pass, true), ("app", "wrong", false), ("nobody", "any", false)]
        {
            let by_key = full_exchange(failsoft.port(), user, pass, true).await;
            assert_eq!(by_key, right, "{flavor}: {user} {pass}, under the key");
            let in_clear = full_exchange(private, user, pass, false).await;
            assert_eq!(in_clear, right, "{flavor}: {user} {pass}, by the socket");
            // In clear where it can be read on the way it is refused, even if it is right.
            assert!(!full_exchange(failsoft.port(), user, pass, false).await, "{flavor}: {user}");
        }
        // An empty password is one too, and what is no scramble at all is refused at once.
        assert!(full_exchange(private, "bare", "", false).await, "{flavor}");
        let mut client = handmade(failsoft.port(), |client| Handmade {
            plugin: Some("caching_sha2_password".to_owned()),
            answer: vec![1; 31],
            ..Handmade::native(client)
        })
        .await;
        let (code, _, text) = client.read().await.unwrap().error().expect("a refusal");
        assert_eq!(code, 1045);
        assert!(text.ends_with("(using password: YES)"), "{text}");
    }
}

/// A port whose connections lead to a socket of failsoft's.
async fn tcp_to(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    port
}

/// Answers with a scramble that cannot fit, and with the password when asked for it; whether that
/// lets it in.
async fn full_exchange(port: u16, user: &str, pass: &str, under_key: bool) -> bool {
    let mut client = handmade(port, |client| Handmade {
        user: user.to_owned(),
        plugin: Some("caching_sha2_password".to_owned()),
        answer: vec![1; 32],
        ..Handmade::native(client)
    })
    .await;
    assert_eq!(client.read().await.unwrap().payload, [1, 4], "{user}");
    let mut clear = [pass.as_bytes(), b"\0"].concat();
    if under_key {
        client.send(&[2]).await.unwrap();
        let key = client.read().await.unwrap().payload;
        let nonce = client.greeting.nonce.iter().cycle();
        clear.iter_mut().zip(nonce).for_each(|(byte, mask)| *byte ^= mask);
        clear = encrypt(&clear, &key[1..]);
    }
    client.send(&clear).await.unwrap();
    let last = client.read().await.unwrap();
    if let Some((code, state, text)) = last.error() {
        assert_eq!((code, state.as_str()), (1045, "28000"), "{text}");
        assert!(text.ends_with("(using password: YES)"), "{text}");
        assert!(client.read().await.is_err(), "{user}: not closed");
    }
    last.is_ok()
}

/// The ways to log in to a server: full authentication with its public key, or with TLS, and the
/// fast path once the server has the password in its cache.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_logged_in_to_with_and_without_tls() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        create_accounts(&pair).await;
        for mode in ["off", "preferred", "required"] {
            // MySQL's cache is empty again: the next login takes the long way.
            let mut root = conn(pair.master.port(), "root", "root-pass", None).await.unwrap();
            execute(&mut root, "FLUSH PRIVILEGES").await;
            let databases = [("master", pair.master.port()), ("replica", pair.replica.port())];
            let config = Failsoft::config(&databases).with(USERS).with(CALM);
            let failsoft = config.with(&format!("tls: {{servers: {mode}}}")).start().await;
            let offers: (String, String) =
                query_row(&mut root, "SHOW GLOBAL VARIABLES LIKE 'have_ssl'").await;
            let offers = flavor == Flavor::MySql || offers.1 == "YES";
            if mode == "required" && !offers {
                // It is refused, and says why.
                let mut session = failsoft.conn(Some("app")).await.unwrap();
                let none = outcome(&mut session, "SELECT 1").await;
                assert!(none.contains("TLS"), "{none}");
                continue;
            }
            for round in 0..2 {
                for (user, pass) in [("app", "app-pass"), ("bare", ""), ("second", "second-pass")] {
                    let mut session = conn(failsoft.port(), user, pass, Some("app")).await.unwrap();
                    assert_eq!(whoami(&mut session).await, user, "{mode} {round}");
                    let (_, cipher): (String, String) =
                        query_row(&mut session, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").await;
                    let encrypted = mode != "off" && offers;
                    assert_eq!(!cipher.is_empty(), encrypted, "{flavor} {mode}: {cipher}");
                    session.disconnect().await.unwrap();
                }
            }
            println!("{flavor}: tls.servers {mode}");
        }
    }
}

async fn query_row(session: &mut Conn, sql: &str) -> (String, String) {
    use mysql_async::prelude::Queryable;
    session.query_first(sql).await.unwrap().unwrap_or_default()
}

fn encrypted(port: u16, pass: &str) -> OptsBuilder {
    testkit::opts(port, APP.user, pass, Some("app")).ssl_opts(Some(
        SslOpts::default()
            .with_danger_accept_invalid_certs(true)
            .with_danger_skip_domain_validation(true),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_or_must_use_tls() {
    for flavor in flavors() {
        let stack = start(flavor, "tls: {clients: preferred}").await;
        let port = stack.failsoft.port();
        for _ in 0..3 {
            let mut session = Conn::new(encrypted(port, APP.pass)).await.unwrap();
            assert_eq!(whoami(&mut session).await, "app");
            let large: String = query_one(&mut session, "SELECT REPEAT('x', 5000000)").await;
            assert_eq!(large.len(), 5_000_000);
            session.reset().await.unwrap();
            session.disconnect().await.unwrap();
        }
        match Conn::new(encrypted(port, "wrong")).await {
            Err(mysql_async::Error::Server(error)) => assert_eq!(error.code, 1045),
            other => panic!("{other:?}"),
        }
        assert_eq!(whoami(&mut stack.session().await).await, "app", "plain");
        command_line_clients(port, &[&[], &["--ssl"]]).await;
        nobody_is_left(&stack).await;

        let databases = [("master", stack.pair.master.port())];
        let strict = Failsoft::config(&databases).with("tls: {clients: required}").start().await;
        let mut session = Conn::new(encrypted(strict.port(), APP.pass)).await.unwrap();
        assert_eq!(whoami(&mut session).await, "app");
        for pass in [APP.pass, "wrong"] {
            let mut client = RawClient::connect(strict.port()).await.unwrap();
            let answer = client.login(&Login::new(APP.user, pass)).await.unwrap();
            let (code, state, text) = answer.error().unwrap();
            assert_eq!((code, state.as_str()), (3159, "HY000"), "{text}");
        }
        let off = Failsoft::config(&databases).with("tls: {clients: off}").start().await;
        let greeting = RawClient::connect(off.port()).await.unwrap().greeting;
        assert_eq!(greeting.capabilities & (1 << 11), 0, "TLS is offered");
        command_line_clients(off.port(), &[&[]]).await;
    }
}

async fn command_line_clients(port: u16, choices: &'static [&[&str]]) {
    for client in installed_clients() {
        let is_mysql = client.ends_with("mysql/mysql");
        for arguments in choices {
            let arguments: &[&str] = match (is_mysql, arguments.contains(&"--ssl")) {
                (true, true) => &["--ssl-mode=REQUIRED"],
                (true, false) => &["--ssl-mode=DISABLED", "--get-server-public-key"],
                (false, true) => &["--ssl", "--skip-ssl-verify-server-cert"],
                (false, false) => &["--skip-ssl"],
            };
            let mut command = Command::new(&client);
            command
                .args(["--no-defaults", "-h127.0.0.1", "-uapp", "-papp-pass", "--batch"])
                .args(arguments)
                .args([format!("-P{port}"), "app".to_owned()])
                .args(["-e", "SELECT CONCAT('from ', v) FROM t; SELECT nothing"])
                .stdin(Stdio::null());
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
            let output = output.unwrap();
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let name = client.display();
            if is_mysql && arguments[0].contains("mode") && err.contains("unknown variable") {
                println!("{name} does not know {arguments:?}");
                continue;
            }
            assert!(out.contains("from one"), "{name} {arguments:?}: {out} {err}");
            assert!(err.contains("ERROR 1054 (42S22)"), "{name} {arguments:?}: {err}");
            println!("{name} {arguments:?}");
        }
    }
}

/// Command lines take TLS where it is offered, and there is none on a Unix socket; and another account of
/// the system's may connect to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_logs_in_over_a_socket() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let yaml = format!("listen: [\"127.0.0.1:{{listen}}\", \"unix:{}\"]", socket.display());
    for client in installed_clients() {
        let _stack = start(flavors()[0], &yaml).await;
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o777, "{mode:o}");
        let mut command = tokio::process::Command::new(&client);
        command.arg("--no-defaults").arg(format!("--socket={}", socket.display()));
        command.args(["--user", APP.user, &format!("--password={}", APP.pass)]);
        command.args(["--execute", "SELECT 'it ' 'works'"]);
        let output = command.output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("it works"), "{}: {errors}", client.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_stalls() {
    for flavor in flavors().into_iter().take(1) {
        let folder = std::env::temp_dir();
        let socket = folder.join(format!("failsoft-logins-{}.sock", std::process::id()));
        let yaml = format!(
            "listen: [\"127.0.0.1:{{listen}}\", \"unix:{}\"]\nlimits: {{login_timeout: 8s}}",
            socket.display()
        );
        let mut stack = start(flavor, &yaml).await;
        let options = OptsBuilder::default()
            .socket(socket.to_str())
            .user(Some(APP.user))
            .pass(Some(APP.pass))
            .db_name(Some("app"))
            .max_allowed_packet(Some(1 << 20))
            .wait_timeout(Some(100));
        let mut session = Conn::new(options.clone()).await.unwrap();
        assert_eq!(whoami(&mut session).await, "app");
        execute(&mut session, "INSERT INTO t VALUES (2, 'by the socket')").await;
        match Conn::new(options.pass(Some("wrong"))).await {
            Err(mysql_async::Error::Server(error)) => {
                assert_eq!(error.code, 1045);
                assert!(error.message.contains("'app'@'localhost'"), "{}", error.message);
            }
            other => panic!("{other:?}"),
        }
        // Clients that say nothing, or half of something, or half a login with TLS.
        let halves: [&[u8]; 4] = [b"", b"\x20", b"\x80\0\0\x01half", b"\x20\0\0\x01"];
        let mut stalled = Vec::new();
        for half in halves {
            let mut client = RawClient::connect(stack.failsoft.port()).await.unwrap();
            client.stream.write_all(half).await.unwrap();
            stalled.push((half, client));
        }
        for (half, mut client) in stalled {
            let mut rest = Vec::new();
            let read = client.stream.read_to_end(&mut rest);
            let ended = tokio::time::timeout(PATIENCE, read).await;
            assert!(ended.is_ok(), "{} is not ended", half.escape_ascii());
        }
        wait_until(PATIENCE, "four timeouts in the metrics", || async {
            stack.metric("failsoft_logins_total{result=\"timeout\"}").await >= 4.0
        })
        .await;
        // A session that was let in is not ended by it.
        assert_eq!(whoami(&mut session).await, "app");
        session.disconnect().await.unwrap();
        nobody_is_left(&stack).await;
        assert_eq!(stack.failsoft.stop().await, Some(0));
        assert!(!socket.exists(), "the socket's file is left behind");
    }
}
