//! Who has no account learns nothing from how it is refused.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use failsoft_tests::Stack;
use mysql_common::crypto;
use raw::{CALM, Handmade, native, sha2, show};
use testkit::{RawClient, flavors};

/// What a client says that it answers with, and its answer to a nonce.
type Way = (&'static str, &'static str, fn(&[u8]) -> Vec<u8>);

const WRONG: &str = "wrong-pass";

const WAYS: &[Way] = &[
    ("native", "mysql_native_password", |nonce| native(WRONG, nonce)),
    ("native, empty", "mysql_native_password", |_| Vec::new()),
    ("native, no scramble", "mysql_native_password", |_| b"short".to_vec()),
    ("sha2", "caching_sha2_password", |nonce| sha2(WRONG, nonce)),
    ("sha2, empty", "caching_sha2_password", |_| Vec::new()),
    ("sha2, no scramble", "caching_sha2_password", |_| b"short".to_vec()),
    ("clear", "mysql_clear_password", |_| WRONG.as_bytes().to_vec()),
    ("ed25519", "client_ed25519", |_| vec![7; 64]),
    ("unknown plugin", "no_such_plugin", |_| b"answer".to_vec()),
    ("none named", "", |nonce| native(WRONG, nonce)),
];

/// All packets of a refused login, readable, with what is random and the name taken out.
async fn refused(port: u16, user: &str, way: &Way) -> Vec<String> {
    let (_, plugin, answer) = way;
    let mut client = RawClient::connect(port).await.unwrap();
    let greeting = &client.greeting;
    let mut seen =
        vec![format!("{:x} {} {}", greeting.capabilities, greeting.version, greeting.plugin)];
    let mut nonce = client.greeting.nonce.clone();
    let login = Handmade {
        user: user.to_owned(),
        answer: answer(&nonce),
        plugin: (!plugin.is_empty()).then(|| (*plugin).to_owned()),
        ..Handmade::native(&client)
    };
    client.send(&login.payload()).await.unwrap();
    loop {
        let mut frame = client.read().await.unwrap();
        let payload = frame.payload.clone();
        match payload.as_slice() {
            [0xfe, switch @ ..] => {
                let name = switch.split(|byte| *byte == 0).next().unwrap().len();
                let fresh = &switch[name + 1..];
                nonce = fresh.strip_suffix(&[0]).unwrap_or(fresh).to_vec();
                frame.payload[name + 2..].fill(b'*');
                let again = match &switch[..name] {
                    b"caching_sha2_password" => sha2(WRONG, &nonce),
                    b"mysql_native_password" => native(WRONG, &nonce),
                    _ => answer(&nonce),
                };
                client.send(&again).await.unwrap();
            }
            [1, 4] => client.send(&[2]).await.unwrap(),
            [1, key @ ..] => {
                let masked = WRONG.bytes().chain([0]).zip(nonce.iter().cycle());
                let masked: Vec<u8> = masked.map(|(byte, mask)| byte ^ mask).collect();
                client.send(&crypto::encrypt(&masked, key)).await.unwrap();
            }
            _ => {}
        }
        seen.push(show(&frame).replace(user, "USER"));
        if frame.is_err() || frame.is_ok() {
            assert!(frame.is_err(), "{user} is let in by {way:?}");
            let closed = client.read().await.is_err();
            return [seen, vec![format!("closed: {closed}")]].concat();
        }
    }
}

/// The same packets in the same order, whether the account exists or not, but for the name in the
/// error; so neither the method that is asked for nor its number of steps tells which.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_does_not_exist_is_refused_as_a_wrong_password_is() {
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        for way in WAYS {
            let existing = refused(stack.failsoft.port(), "app", way).await;
            let unknown = refused(stack.failsoft.port(), "xyz", way).await;
            assert_eq!(existing, unknown, "{flavor}, {}", way.0);
            assert!(existing.len() > 2, "{flavor}, {}: {existing:?}", way.0);
        }
    }
}
