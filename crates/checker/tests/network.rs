//! Scenario 7: a master whose packets are refused, dropped, rejected or reset, whose cable is
//! pulled, or who forgot its connections. However it is, clients hear the same, in bounded time.
//!
//! This takes a network of our own, since only a kernel can lose packets; the tests start
//! themselves again in one.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

use std::time::{Duration, Instant};

use checker::network::{self, Break, Network};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{
    APP, Failsoft, Flavor, Options, Server, conn, execute, flavors, query_one, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// What the settings below promise: the checks decide within 4 × (1 + 0.3) s, and to reach a server
/// takes no more than two attempts of 1 s; the rest is for a machine that has much else to do.
const BOUND: Duration = Duration::from_secs(20);
const SETTINGS: &str = "health: {interval: 300ms, threshold: 4, timeout: 1s}\nconnect_timeout: 1s";

struct Stand {
    network: Network,
    master: Server,
    _replica: Server,
    failsoft: Failsoft,
}

impl Stand {
    async fn start(flavor: Flavor) -> Self {
        let network = Network::lay();
        let start = |index: usize, server_id| {
            let options = Options {
                read_only: index == 1,
                server_id,
                host: network.address(index),
                within: network.within(index),
                ..Options::default()
            };
            Server::start(flavor, options)
        };
        let (master, replica) = tokio::try_join!(start(0, 1), start(1, 2)).unwrap();
        replica.follow(&master).await.unwrap();
        let mut root = master.connect(testkit::ROOT, Some("app")).await.unwrap();
        execute(&mut root, "CREATE TABLE t (id INT PRIMARY KEY)").await;
        execute(&mut root, "INSERT INTO t VALUES (0)").await;
        replica.wait_for(&master).await.unwrap();
        let row = |role, server: &Server| {
            let (host, port) = (server.host(), server.port());
            format!("  - {{host: {host}, port: {port}, role: {role}}}\n")
        };
        let databases = row("master", &master) + &row("replica", &replica);
        let config = Failsoft::config(&[]).with(&format!("databases:\n{databases}")).with(SETTINGS);
        Self { network, failsoft: config.start().await, master, _replica: replica }
    }

    async fn session(&self) -> Conn {
        conn(self.failsoft.port(), APP.user, APP.pass, Some("app")).await.unwrap()
    }

    async fn wait_well(&self) {
        wait_until(PATIENCE, "read-write again, with both servers", || async {
            let (_, mode) = self.failsoft.http_get("/rw").await;
            let (_, metrics) = self.failsoft.http_get("/metrics").await;
            let up = |line: &&str| line.starts_with("failsoft_server_up{") && line.ends_with(" 1");
            mode.contains("read-write") && metrics.lines().filter(up).count() == 2
        })
        .await;
    }
}

/// The number of the error that a statement ends with, 0 for none; never later than the bound.
async fn told(session: &mut Conn, statement: &str) -> u16 {
    let start = Instant::now();
    let result = session.query_drop(statement).await;
    let took = start.elapsed();
    assert!(took < BOUND, "`{statement}` took {took:?}");
    match result {
        Ok(()) => 0,
        Err(mysql_async::Error::Server(error)) => error.code,
        Err(error) => panic!("`{statement}`: {error}"),
    }
}

/// One way to lose the master: what sessions hear that hold a connection to it, and those that do
/// not; and that all of them write again when it is back.
async fn lose(stand: &mut Stand, how: Break, forgets: bool, id: &mut u32) {
    let what = format!("{how:?}, {forgets}");
    let (mut idle, mut writer, mut reader) =
        (stand.session().await, stand.session().await, stand.session().await);
    let mut open = stand.session().await;
    for session in [&mut idle, &mut writer, &mut reader] {
        execute(session, "SELECT 1").await;
    }
    execute(&mut open, "BEGIN").await;
    let row = |id: u32| format!("INSERT INTO t VALUES ({id})");
    let [in_transaction, written, refused] = [*id + 1, *id + 2, *id + 3];
    execute(&mut open, &row(in_transaction)).await;
    stand.network.cut(0, how);
    if forgets {
        stand.master.kill().unwrap();
    }
    let mut late = stand.session().await;
    let (wrote, read, lost, too_late) = tokio::join!(
        async { told(&mut writer, &row(written)).await },
        async { told(&mut reader, "SELECT id FROM t").await },
        async { told(&mut open, "COMMIT").await },
        async { told(&mut late, &row(refused)).await },
    );
    // Its connection may have been found broken before anything was sent.
    assert!([1180, 1290].contains(&wrote), "{what}: a write got {wrote}");
    assert!([1180, 1213].contains(&lost), "{what}: COMMIT got {lost}");
    assert_eq!(read, 0, "{what}: reads go on");
    assert_eq!(too_late, 1290, "{what}: a write of a session without a connection");
    assert_eq!(told(&mut late, "SELECT id FROM t").await, 0, "{what}");
    stand.network.mend(0);
    if forgets {
        stand.master.start_again().await.unwrap();
    }
    stand.wait_well().await;
    if lost == 1213 {
        execute(&mut open, "ROLLBACK").await;
    }
    *id += 3;
    for session in [&mut idle, &mut writer, &mut reader, &mut open, &mut late] {
        *id += 1;
        assert_eq!(told(session, &row(*id)).await, 0, "{what}: writes again");
    }
    let mut root = stand.master.connect(testkit::ROOT, Some("app")).await.unwrap();
    let mut there = async |id: u32| -> bool {
        query_one::<u64>(&mut root, &format!("SELECT COUNT(*) FROM t WHERE id = {id}")).await == 1
    };
    assert!(!there(refused).await, "{what}: it was refused");
    assert!(wrote == 1180 || !there(written).await, "{what}: it was refused");
    assert!(lost == 1180 || !there(in_transaction).await, "{what}: it was rolled back");
    println!("{what}: write {wrote}, COMMIT {lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_lose_the_network_is_told_alike() {
    network::enter();
    if !network::is_inside() {
        assert!(std::env::var_os("CI").is_none(), "no network namespaces here");
        println!("skipped: no network namespaces here");
        return;
    }
    let ways = [
        (Break::Down, false),
        (Break::Drop, false),
        (Break::DropToServer, false),
        (Break::DropToClient, false),
        (Break::Prohibit, false),
        (Break::Unreachable, false),
        (Break::Reset, false),
        (Break::Drop, true),
        (Break::Down, true),
    ];
    let Some(flavor) = flavors().first().copied() else { return };
    let mut stand = Stand::start(flavor).await;
    let mut id = 0;
    for (how, forgets) in ways {
        stand.wait_well().await;
        lose(&mut stand, how, forgets, &mut id).await;
    }
}
