//! Logins to servers step by step, with a script in the server's place: also what the servers of
//! the end-to-end tests cannot be made to ask for.

use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use wire::auth::switch_request;

use super::*;
use crate::settings::Password;

const NONCE: [u8; 20] = *b"abcdefghijklmnopqrst";
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

/// What the server does next.
enum Turn {
    /// It sends a packet.
    Say(Vec<u8>),
    /// It expects one that is just this.
    Hear(Vec<u8>),
    /// It expects the password under its key.
    Decrypt(OaepPrivateDecryptingKey, Vec<u8>),
}

async fn play(mut server: Stream, turns: Vec<Turn>) {
    let mut sequence = 2;
    for turn in turns {
        if let Turn::Say(payload) = turn {
            let mut bytes = Vec::new();
            put_packet(&mut bytes, sequence, &payload);
            server.write_all(&bytes).await.unwrap();
            continue;
        }
        let (at, heard) = read_login_packet(&mut server).await.unwrap();
        assert_eq!(at, sequence + 1, "the sequence id");
        sequence = at + 1;
        match turn {
            Turn::Decrypt(key, expected) => {
                let mut clear = vec![0; 512];
                let clear = key.decrypt(&OAEP_SHA1_MGF1SHA1, &heard, &mut clear, None).unwrap();
                assert_eq!(mask_password(clear, &NONCE)[..clear.len()], expected);
            }
            Turn::Hear(expected) => assert_eq!(heard, expected),
            Turn::Say(_) => {}
        }
    }
}

async fn over_tcp() -> (Stream, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Stream::Tcp(client), Stream::Tcp(listener.accept().await.unwrap().0))
}

/// As private as TLS, for what is told in clear.
fn privately() -> (Stream, Stream) {
    let (client, server) = UnixStream::pair().unwrap();
    (Stream::Unix(client), Stream::Unix(server))
}

async fn log_in(
    (mut client, server): (Stream, Stream),
    password: &str,
    verified: bool,
    turns: Vec<Turn>,
) -> Result<u16, ConnectError> {
    let account = Account { name: "app".to_owned(), password: Password::new(password.to_owned()) };
    let nonce = Nonce([b'x'; 20]);
    let plugin = Some(Plugin::NativePassword);
    let played = tokio::spawn(play(server, turns));
    let ended = finish_login(&mut client, nonce, &account, plugin, verified).await;
    drop(client);
    played.await.unwrap();
    ended
}

fn ask(plugin: Plugin) -> Turn {
    Turn::Say(switch_request(plugin, &NONCE))
}

fn ok() -> Turn {
    Turn::Say(OK.to_vec())
}

fn key() -> (Turn, OaepPrivateDecryptingKey) {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let key = PrivateDecryptingKey::from_pkcs8(&pair.serialize_der()).unwrap();
    let pem = [b"\x01", pair.public_key_pem().as_bytes()].concat();
    (Turn::Say(pem), OaepPrivateDecryptingKey::new(key).unwrap())
}

#[tokio::test]
async fn sha256_over_a_private_connection_sends_the_password() {
    let turns = vec![ask(Plugin::Sha256), Turn::Hear(b"secret\0".to_vec()), ok()];
    assert_eq!(log_in(privately(), "secret", false, turns).await.unwrap(), 2);
}

#[tokio::test]
async fn sha256_without_one_asks_for_the_key_and_hides_the_password() {
    let (pem, key) = key();
    let turns = vec![
        ask(Plugin::Sha256),
        Turn::Hear(vec![1]),
        pem,
        Turn::Decrypt(key, b"secret\0".to_vec()),
        ok(),
    ];
    assert_eq!(log_in(over_tcp().await, "secret", false, turns).await.unwrap(), 2);
    let turns = vec![ask(Plugin::Sha256), Turn::Hear(vec![0]), ok()];
    assert_eq!(log_in(over_tcp().await, "", false, turns).await.unwrap(), 2);
}

#[tokio::test]
async fn caching_sha2_asks_for_the_key_otherwise() {
    let (pem, key) = key();
    let turns = vec![
        ask(Plugin::CachingSha2),
        Turn::Hear(Plugin::CachingSha2.answer(b"secret", &NONCE)),
        Turn::Say(FULL_AUTH.to_vec()),
        Turn::Hear(vec![2]),
        pem,
        Turn::Decrypt(key, b"secret\0".to_vec()),
        ok(),
    ];
    assert_eq!(log_in(over_tcp().await, "secret", false, turns).await.unwrap(), 2);
}

#[tokio::test]
async fn a_key_that_is_none_gets_no_password() {
    for pem in [&b"\x01"[..], b"\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        let turns = vec![ask(Plugin::Sha256), Turn::Hear(vec![1]), Turn::Say(pem.to_vec())];
        let error = log_in(over_tcp().await, "secret", false, turns).await.unwrap_err();
        assert!(error.to_string().contains("public key"), "{error}");
    }
}

#[tokio::test]
async fn the_password_in_clear_is_for_servers_that_were_verified() {
    let turns = vec![ask(Plugin::ClearPassword), Turn::Hear(b"secret\0".to_vec()), ok()];
    assert_eq!(log_in(privately(), "secret", true, turns).await.unwrap(), 2);
    for connection in [privately(), over_tcp().await] {
        let turns = vec![ask(Plugin::ClearPassword)];
        let error = log_in(connection, "secret", false, turns).await.unwrap_err();
        assert!(error.to_string().contains("tls.servers: verify"), "{error}");
    }
}

#[tokio::test]
async fn a_server_may_ask_for_several_in_turn() {
    let turns = vec![
        Turn::Say(switch_request(Plugin::Ed25519, &[7; 32])),
        Turn::Hear(Plugin::Ed25519.answer(b"secret", &[7; 32])),
        ask(Plugin::NativePassword),
        Turn::Hear(Plugin::NativePassword.answer(b"secret", &NONCE)),
        ok(),
    ];
    assert_eq!(log_in(over_tcp().await, "secret", false, turns).await.unwrap(), 2);
}

#[tokio::test]
async fn a_login_without_end_is_given_up() {
    let round = || [ask(Plugin::Ed25519), Turn::Hear(Plugin::Ed25519.answer(b"secret", &NONCE))];
    let turns: Vec<_> = (0..8).flat_map(|_| round()).collect();
    // Without a nonce of the right length, the one before is signed.
    let account = Account { name: "app".to_owned(), password: Password::new("secret".to_owned()) };
    let (mut client, server) = privately();
    let played = tokio::spawn(play(server, turns));
    let ended = finish_login(&mut client, Nonce(NONCE), &account, None, false).await;
    assert!(ended.unwrap_err().to_string().contains("no end"));
    played.await.unwrap();
}

#[test]
fn resets_lead_back_to_the_login_on_newer_mariadb() {
    for (version, expected) in [
        ("10.11.19-MariaDB-0+deb12u1-log", true),
        ("5.5.5-10.4.1-MariaDB", true),
        ("5.5.5-10.3.39-MariaDB", false),
        ("11.4.2-MariaDB", true),
        ("9.7.4-2", false),
        ("8.0.36", false),
        ("MariaDB", false),
    ] {
        assert_eq!(resets_to_login(version), expected, "{version}");
    }
}
