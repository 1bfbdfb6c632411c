//! PROXY headers, from load balancers before failsoft and to servers behind it: who a client is, and
//! who is not believed.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic"
)]

mod raw;

use std::net::Ipv4Addr;

use failsoft_tests::PATIENCE;
use mysql_async::{Conn, OptsBuilder, SslOpts};
use raw::{CALM, Wire};
use testkit::{
    APP, Failsoft, Flavor, Login, Options, ROOT, RawClient, Server, conn, execute, flavors,
    query_one, wait_until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket};

/// The address of the load balancer that is believed.
const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 7);
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 3306\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\xc8\x22\x0c\xea";
const V1_IPV6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 3306\r\n";
/// Version 2 with what HAProxy may add, here a name.
const V2_MORE: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x08\xc6\x33\x64\x01\xc8\x22\x0c\
                         \xea\x02\0\x04name";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A load balancer of this address, which says this before all else; its port.
async fn balancer(source: Ipv4Addr, header: &[u8], port: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let header = header.to_vec();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let header = header.clone();
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((source, 0).into()).unwrap();
                let mut server = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
                server.write_all(&header).await.unwrap();
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    own
}

/// A server and failsoft before it, which believes [`LISTED`]. MariaDB believes failsoft.
async fn start(flavor: Flavor, more: &str) -> (Server, Failsoft) {
    let mut options = Options::default();
    if flavor == Flavor::MariaDb {
        options.extra.push("--proxy-protocol-networks=127.0.0.0/8".to_owned());
    }
    let server = Server::start(flavor, options).await.unwrap();
    let tells = flavor == Flavor::MariaDb;
    let databases = format!(
        "databases:\n  - {{host: 127.0.0.1, port: {}, role: master, proxy_protocol: {tells}}}\n\
         proxy_protocol: {{from: [192.0.2.0/24, {LISTED}]}}\n{more}",
        server.port()
    );
    (server, Failsoft::config(&[]).with(CALM).with(&databases).start().await)
}

/// Who the server, if it is told, and failsoft, in its refusals, say that a client is.
async fn hosts(port: u16) -> (String, String) {
    let mut wire = Wire::login_as(port, &Login::new(APP.user, APP.pass)).await;
    let seen = wire.value("SELECT SUBSTRING_INDEX(USER(), '@', -1)").await;
    let mut client = RawClient::connect(port).await.unwrap();
    let answer = client.login(&Login::new(APP.user, "unfit")).await.unwrap();
    let (code, _, text) = answer.error().expect("a refusal");
    assert_eq!(code, 1045, "{text}");
    let refused = text.split('\'').nth(3).expect("a host").to_owned();
    (seen, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_have_the_address_that_the_balancer_tells() {
    for flavor in flavors() {
        let (_server, failsoft) = start(flavor, "").await;
        for (source, header, expected) in [
            (LISTED, V1, "192.0.2.7"),
            (LISTED, V2, "192.0.2.8"),
            (LISTED, V2_MORE, "192.0.2.8"),
            (LISTED, V1_IPV6, "2001:db8::7"),
            (LISTED, UNKNOWN, "127.0.7.7"),
            (LISTED, LOCAL, "127.0.7.7"),
            (LISTED, b"", "127.0.7.7"),
            (Ipv4Addr::new(127, 0, 9, 9), b"", "127.0.9.9"),
        ] {
            let port = balancer(source, header, failsoft.port()).await;
            let (seen, refused) = hosts(port).await;
            assert_eq!(refused, expected, "{flavor} {}", header.escape_ascii());
            let told = if flavor == Flavor::MariaDb { expected } else { "127.0.0.1" };
            assert_eq!(seen, told, "{flavor} {}", header.escape_ascii());
        }
    }
}

/// Headers come before TLS, and grants by host hold for the client's own.
#[tokio::test(flavor = "multi_thread")]
async fn with_tls_and_grants_by_host() {
    if !flavors().contains(&Flavor::MariaDb) {
        return;
    }
    let socket = std::env::temp_dir().join(format!("failsoft-proxied-{}.sock", std::process::id()));
    let listen = format!("listen: [\"127.0.0.1:{{listen}}\", \"unix:{}\"]", socket.display());
    let (server, failsoft) = start(Flavor::MariaDb, &listen).await;
    let mut root = conn(server.port(), ROOT.user, ROOT.pass, None).await.unwrap();
    execute(&mut root, "CREATE USER app@'192.0.2.8' IDENTIFIED BY 'app-pass'").await;
    for (header, expected) in [(V1, "app@%"), (V2, "app@192.0.2.8")] {
        let port = balancer(LISTED, header, failsoft.port()).await;
        let trusting = SslOpts::default()
            .with_danger_accept_invalid_certs(true)
            .with_danger_skip_domain_validation(true);
        let options = testkit::opts(port, APP.user, APP.pass, None).ssl_opts(Some(trusting));
        let mut session = Conn::new(options).await.unwrap();
        let account: String = query_one(&mut session, "SELECT CURRENT_USER()").await;
        assert_eq!(account, expected);
        session.disconnect().await.unwrap();
    }
    // A client without an address counts as failsoft itself.
    let options = OptsBuilder::from_opts(testkit::opts(1, APP.user, APP.pass, None));
    let mut session = Conn::new(options.socket(socket.to_str())).await.unwrap();
    let user: String = query_one(&mut session, "SELECT USER()").await;
    assert_eq!(user, "app@127.0.0.1");
    session.disconnect().await.unwrap();
}

/// With `login: passthrough` an account is who it is on its host, and is not let in from another.
#[tokio::test(flavor = "multi_thread")]
async fn with_passthrough() {
    if !flavors().contains(&Flavor::MariaDb) {
        return;
    }
    let more = "login: passthrough\ndefaults: {port: 3306}";
    let (server, failsoft) = start(Flavor::MariaDb, more).await;
    let mut root = conn(server.port(), ROOT.user, ROOT.pass, None).await.unwrap();
    for (host, pass) in [("192.0.2.7", "seven"), ("192.0.2.8", "eight")] {
        execute(&mut root, &format!("CREATE USER guest@'{host}' IDENTIFIED BY '{pass}'")).await;
    }
    for _ in 0..2 {
        for (header, right, wrong) in [(V1, "seven", "eight"), (V2, "eight", "seven")] {
            let port = balancer(LISTED, header, failsoft.port()).await;
            let mut session = conn(port, "guest", right, None).await.unwrap();
            assert_eq!(query_one::<i64>(&mut session, "SELECT 1").await, 1);
            session.disconnect().await.unwrap();
            match conn(port, "guest", wrong, None).await {
                Err(mysql_async::Error::Server(error)) => assert_eq!(error.code, 1045),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Everybody else who sends a header, and listed ones who send what is none, are told so at once.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_not_believed() {
    for flavor in flavors().into_iter().take(1) {
        let (_server, mut failsoft) = start(flavor, "limits: {login_timeout: 3s}").await;
        let rubbish = b"PROXY TCP4 nowhere nobody 1 2\r\n";
        let unlisted = "proxy_protocol.from does not list";
        for (source, header, expected) in [
            (Ipv4Addr::LOCALHOST, V1, unlisted),
            (Ipv4Addr::LOCALHOST, V2, unlisted),
            (LISTED, &rubbish[..], "no PROXY header"),
            (LISTED, &[V1, V1].concat(), "login packet too long"),
            (LISTED, b"\r\n\r\nno signature of version two", "no PROXY header"),
        ] {
            let port = balancer(source, header, failsoft.port()).await;
            let mut client = RawClient::connect(port).await.unwrap();
            match client.read().await {
                Ok(answer) => {
                    let (code, state, text) = answer.error().expect("a refusal");
                    assert_eq!((code, state.as_str()), (1043, "08S01"), "{text}");
                    assert!(text.contains(expected), "{text}");
                }
                Err(error) => assert_eq!(expected, "login packet too long", "{error}"),
            }
        }
        // Half a header is waited for as long as half a login.
        for header in [&V1[..20], &V2[..13], &V2[..20], &V2[..3]] {
            let port = balancer(LISTED, header, failsoft.port()).await;
            let mut client = RawClient::connect(port).await.unwrap();
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "{} is not ended", header.escape_ascii());
        }
        wait_until(PATIENCE, "four timeouts in the metrics", || async {
            let (_, body) = failsoft.http_get("/metrics").await;
            let counted = "failsoft_logins_total{result=\"timeout\"} 4";
            body.lines().any(|line| line == counted)
        })
        .await;
        assert_eq!(failsoft.stop().await, Some(0));
    }
}
