//! Which replica answers when the master does not.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::time::{Duration, Instant};

use failsoft_tests::PATIENCE;
use testkit::{
    APP, Failsoft, Flavor, Options, Pair, ROOT, Server, execute, flavors, query_one, wait_until,
};

/// A replica that applies everything an hour late.
async fn late_replica(flavor: Flavor, master: &Server) -> Server {
    let options = Options { read_only: true, server_id: 3, ..Options::default() };
    let late = Server::start(flavor, options).await.unwrap();
    late.follow(master).await.unwrap();
    late.wait_for(master).await.unwrap();
    let mut root = late.connect(ROOT, None).await.unwrap();
    let statements = match flavor {
        Flavor::MariaDb => ["STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY = 3600", "START SLAVE"],
        Flavor::MySql => {
            ["STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 3600", "START REPLICA"]
        }
    };
    for statement in statements {
        execute(&mut root, statement).await;
    }
    late
}

/// Scenarios 10 and 11: with the master dead nobody's delay is known. A replica that is late on
/// purpose serves when nothing better is left, and then no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_replica_serves_when_nothing_better_is_left() {
    for flavor in flavors() {
        let mut pair = Pair::start(flavor).await.unwrap();
        let mut direct = pair.master.connect(APP, Some("app")).await.unwrap();
        execute(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY)").await;
        let late = late_replica(flavor, &pair.master).await;
        execute(&mut direct, "INSERT INTO t VALUES (1)").await;
        pair.wait_synced().await.unwrap();
        // The late one stands first, so that only its lateness speaks against it.
        let ports = [pair.master.port(), late.port(), pair.replica.port()];
        let [master, first, second] = ports;
        let databases = [("master", master), ("replica", first), ("replica", second)];
        let failsoft = Failsoft::config(&databases).start().await;
        wait_until(PATIENCE, "three servers that are up", || async {
            let (_, metrics) = failsoft.http_get("/metrics").await;
            let up = |line: &&str| line.starts_with("failsoft_server_up{") && line.ends_with(" 1");
            metrics.lines().filter(up).count() == 3
        })
        .await;
        pair.master.kill().unwrap();
        let look = "SELECT CONCAT(@@server_id, ':', COUNT(*)) FROM t";
        let mut session = failsoft.conn(Some("app")).await.unwrap();
        assert_eq!(query_one::<String>(&mut session, look).await, "2:1", "{flavor}");
        pair.replica.kill().unwrap();
        assert_eq!(query_one::<String>(&mut session, look).await, "3:0", "{flavor}: what is left");
        pair.replica.start_again().await.unwrap();
        // It is not tried again at once; the session is led back all the same.
        let deadline = Instant::now() + PATIENCE;
        while query_one::<String>(&mut session, look).await != "2:1" {
            assert!(Instant::now() < deadline, "{flavor}: not led back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
