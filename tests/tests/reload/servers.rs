//! Servers that come and go with the file.

use std::time::Instant;

use failsoft_tests::{PATIENCE, is_error, outcome, reload};
use mysql_async::prelude::Queryable;
use testkit::{APP, Config, Failsoft, conn, execute, flavors, query_one, wait_until};

use crate::{Strangers, port_of};

/// Read-only, so that replicas serve: the first server is the master, `out` says of the others what
/// is different in the file.
fn reading(strangers: &Strangers, out: &[(usize, &str)]) -> Config {
    let line = |(at, server): (usize, &testkit::Server)| {
        let role = if at == 0 { "master" } else { "replica" };
        let how = out.iter().find(|(which, _)| *which == at).map_or("", |(_, how)| *how);
        let port = server.port();
        match how {
            "removed" => String::new(),
            how => format!("  - {{host: 127.0.0.1, port: {port}, role: {role}{how}}}\n"),
        }
    };
    let listed: String = strangers.servers.iter().enumerate().map(line).collect();
    Failsoft::config(&[]).with(&format!("databases:\n{listed}read_only: true"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_taken_out_is_left() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 3, "read_only: true").await;
        let failsoft = &strangers.failsoft;
        for how in [", disabled: true", "removed"] {
            // Sessions are spread over both replicas; two of them get to the second.
            let mut sessions = Vec::new();
            while sessions.len() < 3 {
                let mut session = failsoft.conn(Some("app")).await.unwrap();
                if port_of(&mut session).await == strangers.port(2) {
                    sessions.push(session);
                }
            }
            let [mut idle, mut busy, mut open] = sessions.try_into().unwrap();
            execute(&mut open, "BEGIN").await;
            execute(&mut open, "SELECT * FROM t").await;
            let reading_on = tokio::spawn(async move {
                let seen: Option<(i32, u16)> =
                    busy.query_first("SELECT SLEEP(2), @@port").await.unwrap();
                (busy, seen)
            });
            wait_until(PATIENCE, "three connections", || open_connections(&strangers, 2, 3)).await;
            strangers.wait_for_sleepers(2, 1).await;
            reload(failsoft, &reading(&strangers, &[(2, how)])).await;

            assert_eq!(port_of(&mut idle).await, strangers.port(1), "{flavor}{how}");
            let told = outcome(&mut open, "SELECT * FROM t").await;
            assert!(is_error(&told, 1213, "40001"), "{flavor}{how}: {told}");
            let word = if how == "removed" {
                "it was removed from the configuration"
            } else {
                "it was disabled"
            };
            assert!(told.contains(word), "{flavor}{how}: {told}");
            let (mut busy, seen) = reading_on.await.unwrap();
            assert_eq!(seen, Some((0, strangers.port(2))), "{flavor}{how}: it ended where it ran");
            assert_eq!(port_of(&mut busy).await, strangers.port(1), "{flavor}{how}");
            let start = Instant::now();
            while connections_of_app(&strangers, 2).await > 0 {
                assert!(start.elapsed() < PATIENCE, "connections to a server that was taken out");
            }
            reload(failsoft, &reading(&strangers, &[])).await;
        }
    }
}

/// How many connections of the application's account a server has, beside the one that asks.
async fn connections_of_app(strangers: &Strangers, server: usize) -> i64 {
    let mut direct =
        conn(strangers.port(server), testkit::ROOT.user, testkit::ROOT.pass, None).await.unwrap();
    let sql =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{}'", APP.user);
    let count = query_one(&mut direct, &sql).await;
    direct.disconnect().await.unwrap();
    count
}

/// Whether failsoft counts at least so many connections to a server.
async fn open_connections(strangers: &Strangers, server: usize, least: u64) -> bool {
    let (_, metrics) = strangers.failsoft.http_get("/metrics").await;
    let series = format!(
        "failsoft_server_connections{{server=\"127.0.0.1:{}\",state=\"open\"}} ",
        strangers.port(server)
    );
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok());
    value.is_some_and(|value| value >= least)
}

/// What was removed is shown nowhere, and what is new is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_follows_the_file() {
    let Some(flavor) = flavors().first().copied() else { return };
    let strangers = Strangers::start(flavor, 3, "").await;
    let names = [0, 1, 2].map(|server| format!("127.0.0.1:{}", strangers.port(server)));
    let shown = || async {
        let (_, metrics) = strangers.failsoft.http_get("/metrics").await;
        let (_, status) = strangers.failsoft.http_get("/api/v1/status").await;
        let servers = status.split("\"events\"").next().unwrap().to_owned();
        names.clone().map(|name| {
            let in_metrics = metrics.contains(&format!("failsoft_server_up{{server=\"{name}\"}}"));
            assert_eq!(in_metrics, servers.contains(&format!("\"name\":\"{name}\"")), "{name}");
            in_metrics
        })
    };
    assert_eq!(shown().await, [true, true, true]);
    let ports = |servers: [usize; 2]| servers.map(|server| strangers.port(server));
    let of =
        |[master, replica]: [u16; 2]| Failsoft::config(&[("master", master), ("replica", replica)]);
    reload(&strangers.failsoft, &of(ports([0, 1]))).await;
    assert_eq!(shown().await, [true, true, false]);
    reload(&strangers.failsoft, &of(ports([2, 1]))).await;
    assert_eq!(shown().await, [false, true, true]);
    let (_, status) = strangers.failsoft.http_get("/api/v1/status").await;
    let told = format!("configuration: databases[{}]: (none) -> {{host: ", names[2]);
    assert!(status.contains(&told), "{status}");
    assert!(!status.contains(APP.pass) && status.contains("\"ready\":true"), "{status}");
}

/// A server that is new and not there takes nothing from those that are.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_that_does_not_answer_harms_nobody() {
    let Some(flavor) = flavors().first().copied() else { return };
    let strangers = Strangers::start(flavor, 1, "").await;
    let nobody = testkit::Lease::any().unwrap();
    let mut session = strangers.failsoft.conn(Some("app")).await.unwrap();
    let databases = [("master", strangers.port(0)), ("replica", nobody.port())];
    reload(&strangers.failsoft, &Failsoft::config(&databases)).await;
    assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (1, 0)").await, "ok");
    let (_, status) = strangers.failsoft.http_get("/api/v1/status").await;
    assert!(status.contains("Connection refused"), "{status}");
    // As the master it is severed, which is known at once, and comes back with the old file.
    let databases = [("master", nobody.port()), ("replica", strangers.port(0))];
    reload(&strangers.failsoft, &Failsoft::config(&databases)).await;
    let told = outcome(&mut session, "INSERT INTO t VALUES (2, 0)").await;
    assert!(is_error(&told, 1290, "HY000") && told.contains("severed"), "{told}");
    assert_eq!(query_one::<i64>(&mut session, "SELECT COUNT(*) FROM t").await, 1);
    reload(&strangers.failsoft, &strangers.with_master(0)).await;
    assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (2, 0)").await, "ok");
}

/// Schemas move from one master to another: so do the statements that are about them, those that
/// were prepared before included.
#[tokio::test(flavor = "multi_thread")]
async fn statements_follow_their_schemas() {
    for flavor in flavors() {
        let strangers = Strangers::start(flavor, 2, "").await;
        for server in 0..2 {
            let port = strangers.port(server);
            let mut direct =
                conn(port, testkit::ROOT.user, testkit::ROOT.pass, None).await.unwrap();
            execute(&mut direct, "CREATE DATABASE app_blog").await;
            execute(&mut direct, "CREATE TABLE app_blog.posts (port INT)").await;
            execute(&mut direct, &format!("INSERT INTO app_blog.posts VALUES ({port})")).await;
            direct.disconnect().await.unwrap();
        }
        let [main, blog] = [strangers.port(0), strangers.port(1)];
        let parts = |blog_is_on: u16| {
            let schemas = |port: u16, rest: &str| {
                let has_blog = if port == blog_is_on { "app_blog" } else { "app_other" };
                format!(
                    "  - {{host: 127.0.0.1, port: {port}, role: master, partition: [{has_blog}{rest}]}}\n"
                )
            };
            let listed = [schemas(main, ", default"), schemas(blog, ", app_more")].concat();
            Failsoft::config(&[]).with(&format!("databases:\n{listed}"))
        };
        reload(&strangers.failsoft, &parts(main)).await;
        let mut session = strangers.failsoft.conn(Some("app")).await.unwrap();
        let mut inside = strangers.failsoft.conn(Some("app_blog")).await.unwrap();
        let prepared = session.prep("SELECT port FROM app_blog.posts").await.unwrap();
        for (expected, next) in [(main, blog), (blog, main), (main, main)] {
            let by_text: u16 = query_one(&mut session, "SELECT port FROM app_blog.posts").await;
            let by_id: Option<u16> = session.exec_first(&prepared, ()).await.unwrap();
            let by_schema: u16 = query_one(&mut inside, "SELECT port FROM posts").await;
            assert_eq!(
                (by_text, by_id, by_schema),
                (expected, Some(expected), expected),
                "{flavor}"
            );
            let told = outcome(&mut inside, "INSERT INTO posts VALUES (1)").await;
            assert_eq!(told, "ok", "{flavor}");
            assert_eq!(outcome(&mut inside, "DELETE FROM posts WHERE port = 1").await, "ok");
            reload(&strangers.failsoft, &parts(next)).await;
        }
        // And back to a file without partitions.
        reload(&strangers.failsoft, &strangers.with_master(0)).await;
        let by_id: Option<u16> = session.exec_first(&prepared, ()).await.unwrap();
        assert_eq!(by_id, Some(main), "{flavor}");
        assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (1, 0)").await, "ok", "{flavor}");
        assert_eq!(strangers.rows(0).await, [1], "{flavor}");
    }
}
