//! What a run stands on: two servers, what lies between them and failsoft, and failsoft.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{APP, Config, Failsoft, FaultProxy, Flavor, Options, ROOT, Server};
use tokio::time::{Instant, sleep};

use crate::field::Field;
use crate::network::Network;
use crate::{reads, script};

/// How long anything may take to be well again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The pause between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(25);
/// Settings of the servers beside the sandbox's: a lock left behind costs a statement, not the run.
const SERVERS: &[&str] = &["--innodb-lock-wait-timeout=5"];
/// The settings of failsoft: it decides within some five seconds.
const SETTINGS: &str = "health: {interval: 300ms, threshold: 4, timeout: 1s}\n\
                        connect_timeout: 1s\n\
                        drain_timeout: 3s\n\
                        threads: 2\n\
                        tls: {servers: off}";

/// The way from failsoft to the servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// Straight to their addresses.
    Direct,
    /// Through the fault proxies.
    Proxied,
}

/// What a run needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which servers.
    pub flavor: Flavor,
    /// How many sessions.
    pub clients: u64,
    /// The mean pause of a session between two units.
    pub think: Duration,
    /// What everything is drawn from.
    pub seed: u64,
    /// Only the kinds of faults whose names have this in them.
    pub only: Option<String>,
    /// More of failsoft's settings, which win over the checker's own.
    pub settings: Option<String>,
    /// failsoft's program, where it does not lie beside the tests.
    pub program: Option<PathBuf>,
}

/// Two servers, one of them the master, with failsoft in front.
#[derive(Debug)]
pub struct Stand {
    /// What the sessions know.
    pub field: Arc<Field>,
    /// The servers; ids 1 and 2.
    pub servers: [Server; 2],
    /// A fault proxy before each.
    pub links: [FaultProxy; 2],
    /// Which of them is the master.
    pub master: usize,
    /// How failsoft reaches them.
    pub route: Route,
    /// failsoft.
    pub failsoft: Failsoft,
    /// The network, where it is one of our own.
    pub network: Option<Network>,
    plan: Plan,
}

impl Stand {
    /// Starts everything, with the tables and with a row in `counters` for each session.
    ///
    /// # Panics
    /// Something does not start.
    pub async fn start(plan: &Plan, network: Option<Network>) -> Self {
        let start = |index: usize| {
            let network = network.as_ref();
            let options = Options {
                read_only: index == 1,
                server_id: if index == 0 { 1 } else { 2 },
                host: network.map_or(Ipv4Addr::LOCALHOST, |network| network.address(index)),
                within: network.map_or_else(Vec::new, |network| network.within(index)),
                extra: SERVERS.iter().map(|&setting| setting.to_owned()).collect(),
                ..Options::default()
            };
            Server::start(plan.flavor, options)
        };
        let (first, second) = tokio::try_join!(start(0), start(1)).expect("two servers");
        second.follow(&first).await.expect("replication");
        let servers = [first, second];
        fill(&servers[0], plan.clients).await;
        servers[1].wait_for(&servers[0]).await.expect("a replica that follows");
        let [a, b] = [0, 1].map(|index| (servers[index].host(), servers[index].port()).into());
        let links = [FaultProxy::start_to(a).await, FaultProxy::start_to(b).await];
        let route = Route::Proxied;
        let failsoft = config(&servers, &links, 0, route, plan).start().await;
        let (field, plan) = (Arc::new(Field::new()), plan.clone());
        let stand = Self { field, servers, links, master: 0, route, failsoft, network, plan };
        stand.wait_well().await.unwrap_or_else(|why| panic!("{why}"));
        stand
    }

    /// Which server is not the master.
    #[must_use]
    pub const fn replica(&self) -> usize {
        1 - self.master
    }

    /// A connection to a server that may do everything.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn root(&self, server: usize) -> Result<Conn, String> {
        let login = self.servers[server].connect(ROOT, Some("app"));
        login.await.map_err(|error| format!("server {}: {error}", server + 1))
    }

    /// Runs statements on a server itself.
    ///
    /// # Errors
    /// One of them failed.
    pub async fn order(&self, server: usize, statements: &[&str]) -> Result<(), String> {
        let mut root = self.root(server).await?;
        for statement in statements {
            let done = root.query_drop(*statement).await;
            done.map_err(|error| format!("`{statement}` on server {}: {error}", server + 1))?;
        }
        drop(root.disconnect().await);
        Ok(())
    }

    /// Writes the file as the roles and the route are now, without telling failsoft.
    pub fn write_config(&self) {
        let config = config(&self.servers, &self.links, self.master, self.route, &self.plan);
        self.failsoft.write_config(&config);
    }

    /// Waits until both servers are healthy to failsoft, and it is read-write.
    ///
    /// # Errors
    /// That does not come about; says what is missing.
    pub async fn wait_well(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, mode) = self.failsoft.http_get("/rw").await;
            let (_, metrics) = self.failsoft.http_get("/metrics").await;
            let healthy = metrics.lines().filter(|line| {
                line.starts_with("failsoft_server_healthy{") && line.ends_with(" 1")
                    || line.starts_with("failsoft_server_up{") && line.ends_with(" 1")
            });
            if mode.contains("read-write") && healthy.count() == 4 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("not well again within {PATIENCE:?}: {mode}"));
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until each session has written, or read, again.
    ///
    /// # Errors
    /// One has not; says which.
    pub async fn wait_active(&self, sessions: u64, writes: bool) -> Result<(), String> {
        let count = |session: u64| {
            let books = self.field.books();
            let counts = if writes { &books.wrote_by } else { &books.read_by };
            counts.get(&session).copied().unwrap_or(0)
        };
        let before: Vec<u64> = (1..=sessions).map(count).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stuck: Vec<u64> = (1..=sessions)
                .zip(&before)
                .filter(|(session, old)| count(*session) <= **old)
                .map(|(session, _)| session)
                .collect();
            if stuck.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let what = if writes { "acknowledged write" } else { "answered read" };
                return Err(format!("no {what} within {PATIENCE:?} in sessions {stuck:?}"));
            }
            sleep(LOOK).await;
        }
    }
}

/// The configuration of failsoft for these roles and this route.
fn config(
    servers: &[Server; 2],
    links: &[FaultProxy; 2],
    master: usize,
    route: Route,
    plan: &Plan,
) -> Config {
    let row = |index: usize| {
        let role = if index == master { "master" } else { "replica" };
        let (host, port) = match route {
            Route::Direct => (servers[index].host(), servers[index].port()),
            Route::Proxied => (Ipv4Addr::LOCALHOST, links[index].port()),
        };
        format!("  - {{host: {host}, port: {port}, role: {role}}}\n")
    };
    let config = Failsoft::config(&[]).with(&format!("databases:\n{}{}", row(0), row(1)));
    let config = config.with(SETTINGS).with(plan.settings.as_deref().unwrap_or_default());
    match &plan.program {
        Some(program) => config.program(program),
        None => config,
    }
}

/// Makes the tables on the first master.
async fn fill(master: &Server, clients: u64) {
    // Routines run with the rights of who made them: root's would write where read_only is set.
    let mut app = master.connect(APP, Some("app")).await.expect("a login");
    let counters: Vec<_> = (1..=clients).map(|session| format!("({session}, 0)")).collect();
    let mut statements = script::schema();
    statements.push(reads::insert_facts());
    statements.push(format!("INSERT INTO counters VALUES {}", counters.join(", ")));
    for statement in statements {
        testkit::execute(&mut app, &statement).await;
    }
    app.disconnect().await.expect("a quit");
}
