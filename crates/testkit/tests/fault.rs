//! What the fault proxy does to connections, seen from both ends.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests are not recognised as tests"
)]

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use testkit::{Cut, Direction, FaultProxy, Lease, Mode, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const MOMENT: Duration = Duration::from_millis(150);

/// A server that sends back what it gets, and FIN for FIN.
async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
                drop(to.shutdown().await);
            });
        }
    });
    port
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
}

async fn ask(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(MOMENT, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn passes_and_counts() {
    let proxy = FaultProxy::start(echo().await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "hello").await, "hello");
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    assert_eq!(proxy.bytes(Direction::ToServer), 5);
    assert_eq!(proxy.bytes(Direction::ToClient), 5);
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    wait_until(MOMENT, "nothing is open", || async { proxy.open() == 0 }).await;
}

#[tokio::test]
async fn refuses_new_connections_and_keeps_the_open_ones() {
    let proxy = FaultProxy::start(echo().await).await;
    let mut open = connect(&proxy).await;
    assert_eq!(ask(&mut open, "a").await, "a");
    proxy.set_mode(Mode::Refuse).await;
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut open, "b").await, "b");
    proxy.set_mode(Mode::Pass).await;
    assert_eq!(ask(&mut connect(&proxy).await, "c").await, "c");
}

#[tokio::test]
async fn swallows() {
    let proxy = FaultProxy::start(echo().await).await;
    proxy.set_mode(Mode::Blackhole).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"hello").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(proxy.accepted(), 1);
    proxy.set_mode(Mode::Pass).await;
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn ignores_connections_until_it_passes_them() {
    let proxy = FaultProxy::start(echo().await).await;
    proxy.set_mode(Mode::Drop).await;
    for _ in 0..3 {
        let attempt = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
        assert!(timeout(MOMENT, attempt).await.is_err(), "a connection was answered");
    }
    proxy.set_mode(Mode::Pass).await;
    assert_eq!(ask(&mut connect(&proxy).await, "a").await, "a");
}

#[tokio::test]
async fn resets_what_is_open_and_not_what_comes() {
    let proxy = FaultProxy::start(echo().await).await;
    let mut streams = [connect(&proxy).await, connect(&proxy).await];
    for stream in &mut streams {
        assert_eq!(ask(stream, "a").await, "a");
    }
    proxy.reset_all();
    for stream in &mut streams {
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(ask(&mut connect(&proxy).await, "b").await, "b");
}

#[tokio::test]
async fn freezes_and_delivers_afterwards() {
    let proxy = FaultProxy::start(echo().await).await;
    let mut old = connect(&proxy).await;
    assert_eq!(ask(&mut old, "a").await, "a");
    proxy.freeze();
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        stream.write_all(b"x").await.unwrap();
        assert!(is_silent(stream).await);
    }
    proxy.thaw();
    for stream in [&mut old, &mut new] {
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn delays_one_direction() {
    let proxy = FaultProxy::start(echo().await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "a").await, "a");
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.delay(direction, MOMENT);
        let began = Instant::now();
        assert_eq!(ask(&mut stream, "b").await, "b");
        assert!(began.elapsed() >= MOMENT, "{:?}", began.elapsed());
        proxy.delay(direction, Duration::ZERO);
    }
}

#[tokio::test]
async fn cuts_after_so_many_bytes() {
    let rows = [
        (Direction::ToClient, 3, Cut::Reset, "hel", Some(ErrorKind::ConnectionReset)),
        (Direction::ToClient, 0, Cut::Reset, "", Some(ErrorKind::ConnectionReset)),
        (Direction::ToClient, 3, Cut::Close, "hel", None),
        (Direction::ToServer, 2, Cut::HalfClose, "he", None),
        (Direction::ToClient, 5, Cut::Reset, "hello", Some(ErrorKind::ConnectionReset)),
    ];
    let proxy = FaultProxy::start(echo().await).await;
    for (direction, bytes, cut, expected, error) in rows {
        let mut stream = connect(&proxy).await;
        proxy.cut_after(direction, bytes, cut);
        stream.write_all(b"hello").await.unwrap();
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, expected.as_bytes(), "{direction:?} {bytes} {cut:?}");
        stream.shutdown().await.unwrap_or_default();
        let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
        assert_eq!(end, error.map_or(Ok(0), Err), "{direction:?} {bytes} {cut:?}");
    }
    assert_eq!(ask(&mut connect(&proxy).await, "again").await, "again");
}

#[tokio::test]
async fn a_target_that_is_down_resets_the_client() {
    let lease = Lease::any().unwrap();
    let proxy = FaultProxy::start(lease.port()).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn writes_in_pieces() {
    let proxy = FaultProxy::start(echo().await).await;
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "a").await, "a");
    proxy.pieces(Direction::ToClient, 2);
    proxy.delay(Direction::ToClient, MOMENT);
    stream.write_all(b"hello").await.unwrap();
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    while pieces.concat().len() < 5 {
        let mut piece = [0; 5];
        let count = stream.read(&mut piece).await.unwrap();
        pieces.push(piece[..count].to_vec());
    }
    assert!(pieces.len() > 1, "{pieces:?}");
    assert_eq!(pieces.concat(), b"hello");
    proxy.pieces(Direction::ToClient, 0);
    proxy.delay(Direction::ToClient, Duration::ZERO);
    assert_eq!(ask(&mut stream, "again").await, "again");
}
