//! One failsoft takes the place of another on the same port, while clients connect and write.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use failsoft_tests::{PATIENCE, Stack};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{APP, Flavor, Options, Server, conn, execute, flavors, http, wait_until};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

/// How often failsoft is replaced.
const REPLACEMENTS: usize = 4;

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    greeted: AtomicU64,
    visits: AtomicU64,
    transactions: AtomicU64,
    /// Sessions that ended between two transactions.
    ended: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Connects, takes the greeting and hangs up, again and again.
async fn knock(port: u16, load: Arc<Load>) {
    while load.goes_on() {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        let mut header = [0; 4];
        stream.read_exact(&mut header).await.expect("a greeting");
        assert_eq!(header[3], 0, "the first packet");
        load.greeted.fetch_add(1, Ordering::Relaxed);
    }
}

/// Connects, writes one row and leaves, as PHP does; yields the rows.
async fn visit(port: u16, number: u64, load: Arc<Load>) -> Vec<u64> {
    let mut rows = Vec::new();
    while load.goes_on() {
        let id = number * 1_000_000 + u64::try_from(rows.len()).unwrap();
        let session = conn(port, APP.user, APP.pass, Some("app")).await;
        let mut session = session.unwrap_or_else(|error| panic!("visitor {number}: {error}"));
        let written = session.query_drop(format!("INSERT INTO writes VALUES ({id})")).await;
        written.unwrap_or_else(|error| panic!("visitor {number}: {error}"));
        rows.push(id);
        session.disconnect().await.unwrap();
        load.visits.fetch_add(1, Ordering::Relaxed);
    }
    rows
}

async fn transaction(session: &mut Conn, id: u64) -> Result<(), mysql_async::Error> {
    session.query_drop(format!("INSERT INTO writes VALUES ({id})")).await?;
    tokio::time::sleep(Duration::from_millis(id % 40)).await;
    session.query_drop(format!("INSERT INTO writes VALUES ({})", id + 1)).await?;
    session.query_drop("COMMIT").await
}

/// Keeps its connection and writes in transactions, as pools do: one that ends while it is idle is
/// replaced.
async fn trade(port: u16, number: u64, load: Arc<Load>) -> Vec<u64> {
    let mut rows = Vec::new();
    let mut session = conn(port, APP.user, APP.pass, Some("app")).await.unwrap();
    while load.goes_on() {
        let id = number * 1_000_000 + u64::try_from(rows.len()).unwrap();
        if session.query_drop("BEGIN").await.is_err() {
            load.ended.fetch_add(1, Ordering::Relaxed);
            session = conn(port, APP.user, APP.pass, Some("app")).await.unwrap();
            continue;
        }
        let done = transaction(&mut session, id).await;
        done.unwrap_or_else(|error| panic!("trader {number}, transaction {id}: {error}"));
        rows.extend([id, id + 1]);
        load.transactions.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(id % 7)).await;
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_refused_and_no_transaction_broken() {
    for flavor in flavors() {
        replace_under_load(flavor).await;
    }
}

async fn replace_under_load(flavor: Flavor) {
    // As many logins as these two cores can do: TLS within one machine is left out.
    let yaml = "tls: {servers: off}\nthreads: 3\ndrain_timeout: 60s";
    let mut stack = Stack::start_with(flavor, yaml).await;
    let mut session = stack.session().await;
    execute(&mut session, "CREATE TABLE writes (id BIGINT PRIMARY KEY)").await;
    session.disconnect().await.unwrap();
    let (port, load) = (stack.failsoft.port(), Arc::new(Load::default()));
    let knocking: Vec<_> = (0..4).map(|_| tokio::spawn(knock(port, Arc::clone(&load)))).collect();
    let mut writing = Vec::new();
    for number in 0..4 {
        writing.push(tokio::spawn(visit(port, number, Arc::clone(&load))));
        writing.push(tokio::spawn(trade(port, number + 100, Arc::clone(&load))));
    }
    for replacement in 0..REPLACEMENTS {
        let before = load.visits.load(Ordering::Relaxed) + 100;
        wait_until(PATIENCE, "visits", || async { load.visits.load(Ordering::Relaxed) > before })
            .await;
        let successor = stack.failsoft.successor().await;
        let mut replaced = std::mem::replace(&mut stack.failsoft, successor);
        // For a while both of them serve.
        let both = load.visits.load(Ordering::Relaxed) + 50;
        wait_until(PATIENCE, "visits", || async { load.visits.load(Ordering::Relaxed) > both })
            .await;
        let start = Instant::now();
        assert_eq!(replaced.stop().await, Some(0), "{}", replaced.log());
        println!("{flavor}: replacement {replacement}: drained in {:?}", start.elapsed());
        let log = stack.failsoft.log();
        assert!(log.contains("took over 127.0.0.1:"), "{log}");
    }
    load.stop.store(true, Ordering::Relaxed);
    for knocking in knocking {
        knocking.await.unwrap();
    }
    let mut expected = Vec::new();
    for writing in writing {
        expected.extend(writing.await.unwrap());
    }
    expected.sort_unstable();
    let mut direct = stack.direct(stack.pair.master.port()).await;
    let found: Vec<u64> = direct.query("SELECT id FROM writes ORDER BY id").await.unwrap();
    assert_eq!(found, expected, "every row that was written, once");
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "{flavor}: {} greetings, {} visits, {} transactions, {} sessions ended while idle",
        count(&load.greeted),
        count(&load.visits),
        count(&load.transactions),
        count(&load.ended),
    );
    assert!(count(&load.greeted) > 2000 && count(&load.transactions) > 100);
    // The console is the newest one's as soon as the one before has ended.
    wait_until(PATIENCE, "the console", || async {
        let answer = http(stack.failsoft.http_port(), "GET", "/readyz", "", "").await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

/// Nothing but connections, from many clients at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_meets_no_reset() {
    let Some(flavor) = flavors().first().copied() else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let yaml =
        format!("threads: 4\nlisten: [\"127.0.0.1:{{listen}}\", \"unix:{}\"]", socket.display());
    let mut stack = Stack::start_with(flavor, &yaml).await;
    let (port, load) = (stack.failsoft.port(), Arc::new(Load::default()));
    let knocking: Vec<_> = (0..64).map(|_| tokio::spawn(knock(port, Arc::clone(&load)))).collect();
    for _ in 0..10 {
        let before = load.greeted.load(Ordering::Relaxed) + 500;
        wait_until(PATIENCE, "greetings", || async {
            load.greeted.load(Ordering::Relaxed) > before
        })
        .await;
        let successor = stack.failsoft.successor().await;
        let mut replaced = std::mem::replace(&mut stack.failsoft, successor);
        assert_eq!(replaced.stop().await, Some(0), "{}", replaced.log());
        // The file is the successor's.
        let mut local = UnixStream::connect(&socket).await.unwrap();
        local.read_exact(&mut [0; 4]).await.unwrap();
    }
    load.stop.store(true, Ordering::Relaxed);
    for knocking in knocking {
        knocking.await.unwrap();
    }
    println!("{flavor}: {} greetings", load.greeted.load(Ordering::Relaxed));
    assert_eq!(stack.failsoft.stop().await, Some(0));
    assert!(!socket.exists(), "the last one clears up");
}

/// A process that is killed when the test is over.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts failsoft as systemd does that listens for it: the socket is its third file.
fn activate(listener: &TcpListener, file: &Path, log: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    let program = program.ancestors().nth(2).unwrap().join("failsoft");
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" run -c \"$1\"";
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program).arg(file).stdin(socket).stdout(Stdio::null());
    Child(command.stderr(log).spawn().unwrap())
}

async fn greeting(mut stream: TcpStream) {
    let mut header = [0; 4];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut header)).await;
    read.expect("a greeting in time").expect("a greeting");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_supervisor_lends_outlives_failsoft() {
    let Some(flavor) = flavors().first().copied() else { return };
    let server = Server::start(flavor, Options::default()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [file, log] = ["failsoft.yaml", "log"].map(|name| folder.path().join(name));
    let yaml = format!(
        "listen: {address}\nadmin: {{http: off}}\ndefaults: {{user: {}, pass: {}}}\n\
         databases: [{{host: 127.0.0.1, port: {}, role: master}}]\n",
        APP.user,
        APP.pass,
        server.port()
    );
    std::fs::write(&file, yaml).unwrap();
    for _ in 0..3 {
        // Nobody is there yet, and yet the client is not refused.
        let early = TcpStream::connect(address).await.unwrap();
        let mut failsoft = activate(&listener, &file, &log);
        greeting(early).await;
        let mut session = conn(address.port(), APP.user, APP.pass, Some("app")).await.unwrap();
        execute(&mut session, "SELECT 1").await;
        session.disconnect().await.unwrap();
        let pid = failsoft.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        wait_until(PATIENCE, "the end", || {
            std::future::ready(failsoft.0.try_wait().unwrap().is_some())
        })
        .await;
    }
    let log = std::fs::read_to_string(log).unwrap();
    let lent = format!("{address} is lent by the supervisor");
    assert_eq!(log.matches(&lent).count(), 3, "{log}");
}
