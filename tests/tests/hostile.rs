//! Peers that mean ill, or are broken: none harms another session, makes failsoft panic, or makes it
//! take memory without bound.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests measure, and panic"
)]

mod raw;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use failsoft_tests::{PATIENCE, Stack, memory, outcome};
use raw::{CALM, Handmade, Wire, lenenc};
use testkit::{APP, Failsoft, Login, Pair, RawClient, flavors, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How much memory failsoft may take beyond what it had, in KiB: less than one of the packets that
/// hostile peers announce.
const GROWTH: u64 = 12 * 1024;

/// A session that was there before is served, nothing has panicked, and all others are gone.
async fn unharmed(stack: &Stack, witness: &mut Wire) {
    assert_eq!(witness.value("SELECT v FROM app.t WHERE id = 1").await, "one");
    assert_eq!(stack.metric("failsoft_panics_total").await, 0.0, "{}", stack.failsoft.log());
    wait_until(PATIENCE, "no session but the witness's", || async {
        stack.metric("failsoft_sessions{state=\"login\"}").await == 0.0
            && stack.metric("failsoft_sessions{state=\"open\"}").await == 1.0
    })
    .await;
}

/// Reads until failsoft has had enough, or says nothing for a while.
async fn listen(client: &mut RawClient) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(len @ 1..)) =
        timeout(Duration::from_millis(150), client.stream.read(&mut piece)).await
    {
        heard.extend(&piece[..len]);
    }
    heard
}

/// What a hostile client sends in place of its login: whole bytes, header included.
fn logins(client: &RawClient) -> Vec<(&'static str, Vec<u8>)> {
    let login = Handmade::native(client).payload();
    let packet = |sequence: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&len[..3], &[sequence], payload].concat()
    };
    let attributes = |announced: usize| {
        let mut lying = login.clone();
        lying[2] |= 0x10;
        lying.extend(lenenc(announced));
        packet(1, &[&lying[..], &[3, b'a', b'b', b'c', 0xfe, 0xff]].concat())
    };
    let mut cut: Vec<_> = (0..login.len().min(60))
        .map(|len| ("a login that breaks off", packet(1, &login[..len])))
        .collect();
    cut.extend([
        ("16 MiB of nothing", [&[0xff, 0xff, 0xff, 1][..], &[0; 100_000]].concat()),
        ("an empty login", packet(1, &[])),
        ("a wrong sequence id", packet(7, &login)),
        ("a login of 0xff", packet(1, &[0xff; 400])),
        ("attributes that are said to be longer", attributes(5000)),
        ("attributes of four exabytes", attributes(1 << 62)),
        ("a plain request of HTTP", b"GET / HTTP/1.1\r\nHost: db\r\n\r\n".to_vec()),
        ("TLS where nobody asked for it", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
    ]);
    cut
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_log_in_as_one_does() {
    for flavor in flavors() {
        let yaml = format!("{CALM}limits: {{login_timeout: 1s}}\n");
        let stack = Stack::start_with(flavor, &yaml).await;
        let port = stack.failsoft.port();
        let mut witness = Wire::login(port, 0).await;
        assert_eq!(witness.value("SELECT v FROM app.t WHERE id = 1").await, "one");
        let before = memory(&stack.failsoft);
        let kinds = logins(&RawClient::connect(port).await.unwrap()).len();
        for at in 0..kinds {
            for half in [false, true] {
                let mut client = RawClient::connect(port).await.unwrap();
                let (what, bytes) = logins(&client).swap_remove(at);
                let bytes = if half { &bytes[..bytes.len() / 2] } else { &bytes[..] };
                // It may hang up in the middle.
                let _sent = client.stream.write_all(bytes).await;
                if !half && what == "attributes of four exabytes" {
                    let heard = listen(&mut client).await;
                    assert_eq!(heard.get(4), Some(&0xff), "{flavor}, {what}: {heard:?}");
                }
            }
        }
        unharmed(&stack, &mut witness).await;
        let grown = memory(&stack.failsoft).saturating_sub(before);
        assert!(grown < GROWTH, "{flavor}: {grown} KiB");
    }
}

/// Every command with a payload of nothing, of lies, and of noise.
#[tokio::test(flavor = "multi_thread")]
async fn clients_whose_commands_are_none() {
    let mut random = fastrand::Rng::with_seed(11);
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        let port = stack.failsoft.port();
        let mut witness = Wire::login(port, 0).await;
        assert_eq!(witness.value("SELECT v FROM app.t WHERE id = 1").await, "one");
        let before = memory(&stack.failsoft);
        for command in 0..=u8::MAX {
            // What would have the server itself end is not for a test of failsoft.
            let shuts_down = command == 0x08;
            for round in 0..3 {
                let rest = match round {
                    0 => Vec::new(),
                    1 => vec![0xff; 40],
                    _ => (0..random.usize(1..60)).map(|_| random.u8(..)).collect(),
                };
                if shuts_down {
                    continue;
                }
                let mut client = RawClient::logged_in(port, &Login::new(APP.user, APP.pass)).await;
                client.sequence = if round == 2 { random.u8(..) } else { 0 };
                client.send(&[&[command][..], &rest].concat()).await.unwrap();
                // And in the middle of the answer another half of a packet.
                let _sent = client.stream.write_all(&[0xff, 0xff, 0x7f, 0, 3]).await;
                if random.u8(..) < 16 {
                    listen(&mut client).await;
                }
            }
        }
        unharmed(&stack, &mut witness).await;
        let grown = memory(&stack.failsoft).saturating_sub(before);
        assert!(grown < GROWTH, "{flavor}: {grown} KiB");
    }
}

/// What a server that was broken into answers a statement with.
const ANSWERS: &[(&str, &[u8])] = &[
    ("a file of the client's", b"\x0c\x00\x00\x01\xfb/etc/passwd"),
    ("a result of more columns than come", b"\x01\x00\x00\x01\x05\x03\x00\x00\x02\xfe\x00\x00"),
    ("a wrong sequence id", b"\x07\x00\x00\x09\x00\x00\x00\x02\x00\x00\x00"),
    ("an empty packet", b"\x00\x00\x00\x01"),
    ("an OK of one byte", b"\x01\x00\x00\x01\x00"),
    ("an error of one byte", b"\x01\x00\x00\x01\xff"),
    ("as many columns as there can be", b"\x09\x00\x00\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff"),
    ("a length that is none", b"\x02\x00\x00\x01\xfc\x01"),
    ("nothing, and then silence for ever", b""),
    ("the half of a header", b"\x07\x00"),
];

/// Those of them of which nothing goes to a client: a write has an unknown outcome then, 1180. After
/// a part of a packet only the end of the connection is honest.
const SILENT: &[&str] = &["a file of the client's", "nothing, and then silence for ever"];

/// A server in the middle that turns hostile: with the statement that says so it answers with one of
/// [`ANSWERS`] and hangs up, and while a number of [`Self::greets`] is set it greets in odd ways.
struct Hostile {
    port: u16,
    greets: Arc<AtomicUsize>,
}

/// Odd ways to greet.
const GREETINGS: &[&[u8]] = &[
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"\x00\x00\x00\x00",
    b"\x05\x00\x00\x00\x0a8.0\x00",
    b"\xff\xff\xff\x00\x0a8.0.0",
    b"\x03\x00\x00\x00\xff\x10\x04",
    b"",
];

impl Hostile {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let greets = Arc::new(AtomicUsize::new(usize::MAX));
        let shared = Arc::clone(&greets);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let greeting = GREETINGS.get(shared.load(Ordering::Relaxed)).copied();
                tokio::spawn(between(client, server, greeting));
            }
        });
        Self { port, greets }
    }
}

async fn between(mut client: TcpStream, server: u16, greeting: Option<&'static [u8]>) {
    if let Some(greeting) = greeting {
        // Whoever is at the other end may hang up at any time.
        let _sent = client.write_all(greeting).await;
        let zeros = [0; 65_536];
        // A packet that was announced as 16 MiB goes on until nobody listens.
        while greeting.starts_with(b"\xff\xff\xff") && client.write_all(&zeros).await.is_ok() {}
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut from, mut to) = ([0; 16_384], [0; 16_384]);
    loop {
        tokio::select! {
            read = server.read(&mut from) => match read {
                Ok(len @ 1..) if client.write_all(&from[..len]).await.is_ok() => {}
                _ => return,
            },
            read = client.read(&mut to) => match read {
                Ok(len @ 1..) => {
                    if let Some(answer) = asked_for(&to[..len]) {
                        let _sent = client.write_all(answer).await;
                        // What silence is, failsoft has to find out by its checks.
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        return;
                    }
                    if server.write_all(&to[..len]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

/// The answer that a statement `… /* hostile N */` asks for.
fn asked_for(bytes: &[u8]) -> Option<&'static [u8]> {
    let text = String::from_utf8_lossy(bytes);
    let number = text.split("hostile ").nth(1)?.split(' ').next()?;
    Some(ANSWERS.get(number.parse::<usize>().ok()?)?.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_answer_with_lies() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let hostile = Hostile::start(pair.master.port()).await;
        let databases = [("master", hostile.port), ("replica", pair.replica.port())];
        // The one in the middle has to see what goes by.
        let yaml = format!("{CALM}tls: {{servers: off}}\n");
        let failsoft = Failsoft::config(&databases).with(&yaml).start().await;
        let stack = Stack::with_table(failsoft, pair).await;
        let mut witness = Wire::login(stack.failsoft.port(), 0).await;
        assert_eq!(witness.value("SELECT v FROM app.t WHERE id = 1").await, "one");
        let before = memory(&stack.failsoft);
        for (at, (what, _)) in ANSWERS.iter().enumerate() {
            let mut client =
                RawClient::logged_in(stack.failsoft.port(), &Login::new(APP.user, APP.pass)).await;
            let read = format!("SELECT /* hostile {at} */ 1");
            client.command(3, read.as_bytes()).await.unwrap();
            let heard = listen_long(&mut client).await;
            // Whatever came, nobody was asked for a file, and there is an answer or an end.
            assert!(!heard.windows(6).any(|bytes| bytes == b"passwd"), "{what}: {heard:?}");
            let mut client =
                RawClient::logged_in(stack.failsoft.port(), &Login::new(APP.user, APP.pass)).await;
            let write = format!("INSERT INTO app.t VALUES ({}, /* hostile {at} */ 'x')", 100 + at);
            client.command(3, write.as_bytes()).await.unwrap();
            let heard = listen_long(&mut client).await;
            // An answer of whole packets is the server's own; where it is none, nobody knows.
            if SILENT.contains(what) {
                assert_eq!(heard.get(4..7), Some(&[0xff, 0x9c, 0x04][..]), "{what}: {heard:?}");
            }
            let none = outcome_of(&stack, 100 + at).await;
            assert_eq!(none, 0, "{what}: sent again");
        }
        let mut others = stack.session().await;
        assert_eq!(outcome(&mut others, "INSERT INTO t VALUES (99, 'fine')").await, "ok");
        drop(others);
        unharmed(&stack, &mut witness).await;
        let grown = memory(&stack.failsoft).saturating_sub(before);
        assert!(grown < GROWTH, "{flavor}: {grown} KiB");
    }
}

async fn listen_long(client: &mut RawClient) -> Vec<u8> {
    let mut heard = vec![0; 4096];
    let len = timeout(PATIENCE, client.stream.read(&mut heard)).await.expect("no answer in time");
    heard.truncate(len.unwrap_or(0));
    heard
}

async fn outcome_of(stack: &Stack, id: usize) -> i64 {
    let mut direct = stack.direct(stack.pair.master.port()).await;
    testkit::query_one(&mut direct, &format!("SELECT COUNT(*) FROM t WHERE id = {id}")).await
}

/// A server that greets as no server does is as good as lost: reads are answered by the replica.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_greet_in_odd_ways() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let hostile = Hostile::start(pair.master.port()).await;
        let databases = [("master", hostile.port), ("replica", pair.replica.port())];
        let yaml = "health: {interval: 10m, threshold: 5, timeout: 10s}\nconnect_timeout: 1s\n";
        let failsoft = Failsoft::config(&databases).with(yaml).start().await;
        let stack = Stack::with_table(failsoft, pair).await;
        let before = memory(&stack.failsoft);
        for greeting in 0..GREETINGS.len() {
            hostile.greets.store(greeting, Ordering::Relaxed);
            // A failure is remembered for a quarter of a second, in which nobody is greeted.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let mut session = stack.session().await;
            assert_eq!(outcome(&mut session, "SELECT v FROM t WHERE id = 1").await, "ok");
            let told = outcome(&mut session, "INSERT INTO t VALUES (5, 'never')").await;
            assert!(told.starts_with("1290/HY000") && told.contains("unreachable"), "{told}");
        }
        hostile.greets.store(usize::MAX, Ordering::Relaxed);
        let mut session = stack.session().await;
        failsoft_tests::write_until_ok(&mut session, "INSERT INTO t VALUES (6, 'again')").await;
        assert_eq!(stack.metric("failsoft_panics_total").await, 0.0);
        let grown = memory(&stack.failsoft).saturating_sub(before);
        assert!(grown < GROWTH, "{flavor}: {grown} KiB");
    }
}
