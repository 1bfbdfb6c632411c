//! Reading the configuration again while sessions go on.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

mod load;
mod orders;
mod servers;
mod sessions;
mod settings;

use std::time::Instant;

use failsoft_tests::{PATIENCE, Stack};
use testkit::{
    APP, Config, Failsoft, Flavor, Options, Server, conn, execute, query_one, wait_until,
};

/// The configuration of a stack as its servers are now.
fn config_of(stack: &Stack) -> Config {
    let pair = &stack.pair;
    Failsoft::config(&[("master", pair.master.port()), ("replica", pair.replica.port())])
}

/// Gives failsoft another file, tells it by SIGHUP, and waits until it says what came of it.
async fn hang_up(failsoft: &mut Failsoft, config: &Config) {
    let count = |log: String| log.matches("the configuration was ").count();
    let before = count(failsoft.log());
    failsoft.write_config(config);
    failsoft.reload();
    let failsoft = &*failsoft;
    wait_until(PATIENCE, "an answer to SIGHUP", || async { count(failsoft.log()) > before }).await;
}

/// Servers that know nothing of each other, so that each shows what it was sent, and failsoft in
/// front: the first is the master.
struct Strangers {
    failsoft: Failsoft,
    servers: Vec<Server>,
}

impl Strangers {
    /// Each has `app.t (id INT PRIMARY KEY, v INT)`.
    async fn start(flavor: Flavor, count: usize, yaml: &str) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            let options = Options {
                extra: vec!["--log-bin-trust-function-creators=1".into()],
                ..Options::default()
            };
            let server = Server::start(flavor, options).await.unwrap();
            let mut direct = conn(server.port(), APP.user, APP.pass, Some("app")).await.unwrap();
            execute(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
            direct.disconnect().await.unwrap();
            servers.push(server);
        }
        let config = failsoft_tests::configured(config_for(&servers, 0), yaml);
        Self { failsoft: config.start().await, servers }
    }

    fn port(&self, server: usize) -> u16 {
        self.servers[server].port()
    }

    /// The configuration with another master.
    fn with_master(&self, master: usize) -> Config {
        config_for(&self.servers, master)
    }

    /// A session of the application's account with a server.
    async fn direct(&self, server: usize) -> mysql_async::Conn {
        conn(self.port(server), APP.user, APP.pass, Some("app")).await.unwrap()
    }

    /// Waits until so many statements of a server are in the midst of `SLEEP()`.
    async fn wait_for_sleepers(&self, server: usize, count: i64) {
        let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
        let mut direct = self.direct(server).await;
        let start = Instant::now();
        while query_one::<i64>(&mut direct, sql).await < count {
            assert!(start.elapsed() < PATIENCE, "{count} statements that sleep");
        }
        direct.disconnect().await.unwrap();
    }

    /// The ids of the rows that a server has.
    async fn rows(&self, server: usize) -> Vec<i32> {
        use mysql_async::prelude::Queryable;
        let mut direct = self.direct(server).await;
        let rows = direct.query("SELECT id FROM t ORDER BY id").await.unwrap();
        direct.disconnect().await.unwrap();
        rows
    }
}

fn config_for(servers: &[Server], master: usize) -> Config {
    let role = |at| if at == master { "master" } else { "replica" };
    let databases: Vec<_> =
        servers.iter().enumerate().map(|(at, server)| (role(at), server.port())).collect();
    Failsoft::config(&databases)
}

/// The port of the server that a session's statements go to.
async fn port_of(session: &mut mysql_async::Conn) -> u16 {
    query_one(session, "SELECT @@port").await
}
