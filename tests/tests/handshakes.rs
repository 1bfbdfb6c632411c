//! What a login and a change of user carry besides the password comes to the server as on a direct
//! connection: collations of one and two bytes, schemas, connection attributes.
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

use raw::{
    CALM, CONNECT_ATTRS, Handmade, Kind, PLUGIN_AUTH_LENENC, Wire, com, lenenc_bytes, native, sha2,
};
use testkit::{
    APP, Failsoft, Flavor, Frame, Login, Options, ROOT, RawClient, Server, capability, conn,
    execute, flavors,
};

/// What the server makes of a collation.
const CHARSETS: &str = "SELECT CONCAT_WS(' ', @@character_set_client, @@character_set_results, \
                        @@collation_connection, DATABASE())";

async fn start(flavor: Flavor, extra: &[&str]) -> (Server, Failsoft) {
    let extra = extra.iter().map(|&argument| argument.to_owned()).collect();
    let server = Server::start(flavor, Options { extra, ..Options::default() }).await.unwrap();
    let config = Failsoft::config(&[("master", server.port())]).with(CALM);
    (server, config.start().await)
}

async fn logged_in(port: u16, collation: u8) -> Wire {
    let mut login = Login::new(APP.user, APP.pass);
    login.collation = collation;
    login.schema = Some("app".to_owned());
    Wire::login_as(port, &login).await
}

/// Changes the user and waits to be asked for the password; the last packet of the answer.
async fn change_user(wire: &mut Wire, tail: &[u8]) -> Frame {
    let plugin = wire.client.greeting.plugin.clone();
    let mut frame = wire.ask(com::CHANGE_USER, tail, Kind::One).await.remove(0);
    loop {
        frame = match frame.payload.as_slice() {
            [0xfe, switch @ ..] => {
                let rest = switch.strip_prefix(plugin.as_bytes()).expect("the greeting's plugin");
                wire.client.send(&answer_by(&plugin, &rest[1..21])).await.unwrap();
                wire.client.read().await.unwrap()
            }
            [1, 3] => wire.client.read().await.unwrap(),
            _ => return frame,
        };
    }
}

/// A change of user to the application, who starts in `schema`.
fn change(schema: &str, collation: u16, attributes: &[u8]) -> Vec<u8> {
    let mut tail = b"app\0\0".to_vec();
    tail.extend(schema.as_bytes());
    tail.push(0);
    tail.extend(collation.to_le_bytes());
    // No plugin's name: both kinds of server then ask by the account's.
    tail.extend(b"nothing\0");
    tail.extend(attributes);
    tail
}

#[tokio::test(flavor = "multi_thread")]
async fn collations_reach_the_server() {
    for flavor in flavors() {
        let (server, failsoft) = start(flavor, &[]).await;
        let ports = [server.port(), failsoft.port()];
        for collation in [0, 8, 28, 33, 45, 46, 63, 100, 192, 224, 248, 255] {
            let mut seen = Vec::new();
            for port in ports {
                seen.push(logged_in(port, collation).await.value(CHARSETS).await);
            }
            assert_eq!(seen[0], seen[1], "{flavor} {collation}");
        }
        // In two bytes: of one byte, MySQL's and MariaDB's above it, and some that there are not.
        for collation in [8, 28, 46, 255, 256, 303, 309, 576, 1057, 1069, 2304, 2305, 2308, 9999] {
            let mut seen = Vec::new();
            for port in ports {
                let mut wire = logged_in(port, 45).await;
                let answer = change_user(&mut wire, &change("app", collation, &[])).await;
                assert!(answer.is_ok(), "{flavor} {collation}: {:?}", answer.error());
                seen.push(wire.value(CHARSETS).await);
            }
            assert_eq!(seen[0], seen[1], "{flavor} {collation}");
        }
    }
}

/// A schema that is not there is told by the login or by the first statement, in the server's words,
/// and ends the session.
#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_are_not_there() {
    for flavor in flavors() {
        let (server, failsoft) = start(flavor, &[]).await;
        for port in [server.port(), failsoft.port()] {
            let mut wire = logged_in(port, 45).await;
            let mut answer = change_user(&mut wire, &change("app_nowhere", 45, &[])).await;
            if answer.is_ok() {
                answer = wire.query("SELECT 1").await.remove(0);
            }
            let (code, state, text) = answer.error().expect("an error");
            assert_eq!((code, state.as_str()), (1049, "42000"), "{text}");
            assert!(text.contains("app_nowhere"), "{text}");
            // MariaDB alone goes on as who the client was before (seen on 10.11).
            let goes_on = flavor == Flavor::MariaDb && port == server.port();
            assert_eq!(wire.client.query("SELECT 1").await.is_ok(), goes_on, "{flavor}");
        }
    }
}

/// Attributes arrive whole as long as servers take them, which is up to 64 KiB; with more, the login
/// is refused as by a server.
#[tokio::test(flavor = "multi_thread")]
async fn attributes_up_to_the_servers_limit() {
    for flavor in flavors() {
        let kept =
            ["--performance-schema=ON", "--performance-schema-session-connect-attrs-size=65536"];
        let (server, failsoft) = start(flavor, &kept).await;
        let mut root = conn(server.port(), ROOT.user, ROOT.pass, None).await.unwrap();
        execute(&mut root, "GRANT SELECT ON performance_schema.* TO app@'%'").await;
        for length in [0, 300, 60_000, 65_500, 65_535, 65_536, 200_000] {
            let direct = with_attributes(server.port(), length).await;
            let proxied = with_attributes(failsoft.port(), length).await;
            assert_eq!(proxied, direct, "{flavor} {length}");
        }
        // A change of user brings its own.
        let mut login = Login::new(APP.user, APP.pass);
        login.capabilities |= CONNECT_ATTRS;
        let mut wire = Wire::login_as(failsoft.port(), &login).await;
        let new = attributes("changed", 30_000);
        let answer = change_user(&mut wire, &change("", 45, &lenenc_bytes(&new))).await;
        assert!(answer.is_ok(), "{:?}", answer.error());
        assert!(wire.value(ATTRIBUTES).await.starts_with("7 changed "), "{flavor}");
        let too_many = attributes("changed", 65_536);
        let tail = change("", 45, &lenenc_bytes(&too_many));
        let answer = wire.ask(com::CHANGE_USER, &tail, Kind::One).await.remove(0);
        assert_eq!(answer.error().map(|error| error.0), Some(1835), "{flavor}");
        assert!(wire.is_closed().await, "{flavor}");
    }
}

/// How many attributes of the client's own the server has, and how long they are.
const ATTRIBUTES: &str = "SELECT CONCAT_WS(' ', LENGTH(MAX(IF(ATTR_NAME = 'who', ATTR_VALUE, ''))), \
                          MAX(IF(ATTR_NAME = 'who', ATTR_VALUE, '')), COUNT(*), \
                          SUM(LENGTH(ATTR_NAME) + LENGTH(ATTR_VALUE))) \
                          FROM performance_schema.session_connect_attrs \
                          WHERE PROCESSLIST_ID = CONNECTION_ID() AND ATTR_NAME <> '_proxy'";

/// `length` bytes of attributes, one of which says who this is.
fn attributes(who: &str, length: usize) -> Vec<u8> {
    let pair = |key: &str, value: &str| {
        [lenenc_bytes(key.as_bytes()), lenenc_bytes(value.as_bytes())].concat()
    };
    let mut all = pair("who", who);
    let rest = length.saturating_sub(all.len());
    if rest > 300 {
        // A key, and the three bytes of a length.
        all.extend(pair("k", &"v".repeat(rest.min(65_540) - 5)));
        all.extend(vec![0; length - all.len()]);
    }
    all
}

/// Logs in with so many bytes of attributes; what the server has of them, or the error.
async fn with_attributes(port: u16, length: usize) -> String {
    // MySQL knows the password after that.
    drop(RawClient::logged_in(port, &Login::new(APP.user, APP.pass)).await);
    let mut client = RawClient::connect(port).await.unwrap();
    let (plugin, nonce) = (client.greeting.plugin.clone(), client.greeting.nonce.clone());
    let login = Handmade {
        capabilities: capability::USUAL | PLUGIN_AUTH_LENENC | CONNECT_ATTRS,
        answer: answer_by(&plugin, &nonce),
        plugin: Some(plugin),
        attributes: Some(attributes("me", length)),
        ..Handmade::native(&client)
    };
    client.send(&login.payload()).await.unwrap();
    let mut answer = client.read().await.unwrap();
    if answer.payload == [1, 3] {
        answer = client.read().await.unwrap();
    }
    match answer.error() {
        Some((code, state, _)) => format!("{code} {state}"),
        None => Wire::new(client, 0).value(ATTRIBUTES).await,
    }
}

fn answer_by(plugin: &str, nonce: &[u8]) -> Vec<u8> {
    match plugin {
        "caching_sha2_password" => sha2(APP.pass, nonce),
        _ => native(APP.pass, nonce),
    }
}
