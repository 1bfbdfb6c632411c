//! The faults: what goes wrong, how, and how it is made good again.
//!
//! Each returns when everything runs again; whether failsoft has noticed is asked by whoever
//! called. Nothing here is undone by failsoft's own means.

use std::time::Duration;

use fastrand::Rng;
use mysql_async::prelude::Queryable;
use testkit::{Cut, Direction, Mode};
use tokio::time::sleep;

use crate::network::Break;
use crate::promote;
use crate::stand::{Route, Stand};

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// The master's process is killed.
    MasterKilled,
    /// The master is stopped in an orderly way.
    MasterStopped,
    /// The master's process is frozen.
    MasterFrozen,
    /// COMMITs are held on the master, which is then killed.
    CommitsHeld,
    /// The master has read_only on for a while.
    MasterReadOnly,
    /// The application's connections to the master are killed by an administrator.
    ConnectionsKilled,
    /// Idle connections run into the server's wait_timeout.
    IdleTimeout,
    /// The replica's process is killed.
    ReplicaKilled,
    /// The replica is frozen.
    ReplicaFrozen,
    /// Master and replica change roles.
    Swapped,
    /// failsoft's process is killed.
    FailsoftKilled,
    /// failsoft is stopped in an orderly way.
    FailsoftStopped,
    /// Answers are cut off at some byte.
    CutInAnswer,
    /// Statements are cut off at some byte.
    CutInStatement,
    /// Everything is slow and comes in small pieces.
    SlowLink,
    /// The link takes everything and delivers nothing.
    LinkFrozen,
    /// Connections are reset, and new ones refused.
    LinkRefused,
    /// The cable to the master is pulled.
    CableDown,
    /// Packets are dropped in both directions.
    Dropped,
    /// Packets to the master are dropped.
    DroppedToServer,
    /// Packets from the master are dropped.
    DroppedToClient,
    /// The master's host rejects packets, by ICMP.
    Rejected,
    /// The master's host resets connections.
    ResetByHost,
    /// The master is killed while its cable is out: its peers never hear of it.
    HalfOpen,
}

/// What a kind needs, and how it is called.
struct Row {
    kind: Kind,
    name: &'static str,
    /// The route it is made on; none if any will do.
    route: Option<Route>,
    /// It needs a network of our own.
    network: bool,
    /// Leaves a master that reads can do without: they have to go on.
    reads_go_on: bool,
}

const fn any(kind: Kind, name: &'static str, reads_go_on: bool) -> Row {
    Row { kind, name, route: None, network: false, reads_go_on }
}

const fn link(kind: Kind, name: &'static str, reads_go_on: bool) -> Row {
    Row { kind, name, route: Some(Route::Proxied), network: false, reads_go_on }
}

const fn cable(kind: Kind, name: &'static str) -> Row {
    Row { kind, name, route: Some(Route::Direct), network: true, reads_go_on: true }
}

/// Every kind, in the order of the report.
const KINDS: &[Row] = &[
    any(Kind::MasterKilled, "master killed (SIGKILL)", true),
    any(Kind::MasterStopped, "master stopped (SIGTERM)", false),
    any(Kind::MasterFrozen, "master frozen (SIGSTOP)", true),
    any(Kind::CommitsHeld, "master killed while it holds COMMITs", false),
    any(Kind::MasterReadOnly, "read_only set on the master", true),
    any(Kind::ConnectionsKilled, "connections killed (KILL)", false),
    any(Kind::IdleTimeout, "connections end by wait_timeout", false),
    any(Kind::ReplicaKilled, "replica killed", true),
    any(Kind::ReplicaFrozen, "replica frozen", true),
    any(Kind::Swapped, "master and replica swapped", false),
    any(Kind::FailsoftKilled, "failsoft killed (SIGKILL)", false),
    any(Kind::FailsoftStopped, "failsoft stopped (SIGTERM)", false),
    link(Kind::CutInAnswer, "connections cut in an answer", false),
    link(Kind::CutInStatement, "connections cut in a statement", false),
    link(Kind::SlowLink, "slow link, small pieces", true),
    link(Kind::LinkFrozen, "link frozen", true),
    link(Kind::LinkRefused, "connections reset, then refused", true),
    cable(Kind::CableDown, "cable pulled"),
    cable(Kind::Dropped, "packets dropped, both ways"),
    cable(Kind::DroppedToServer, "packets dropped, to the master"),
    cable(Kind::DroppedToClient, "packets dropped, from the master"),
    cable(Kind::Rejected, "packets rejected (ICMP)"),
    cable(Kind::ResetByHost, "connections reset by the host"),
    cable(Kind::HalfOpen, "master killed behind a pulled cable"),
];

impl Kind {
    /// Every kind that a stand with or without a network of its own can make.
    #[must_use]
    pub fn all(network: bool) -> Vec<Self> {
        KINDS.iter().filter(|row| network || !row.network).map(|row| row.kind).collect()
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The route it is made on; none if any will do.
    #[must_use]
    pub fn route(self) -> Option<Route> {
        self.row().route
    }

    /// Whether failsoft's process ends with it.
    #[must_use]
    pub const fn ends_failsoft(self) -> bool {
        matches!(self, Self::FailsoftKilled | Self::FailsoftStopped)
    }

    fn row(self) -> &'static Row {
        KINDS.iter().find(|row| row.kind == self).expect("every kind has a row")
    }
}

/// Makes a fault, and makes it good.
///
/// # Errors
/// A server or failsoft does not do what it is told; or reads did not go on meanwhile.
pub async fn make(
    stand: &mut Stand,
    kind: Kind,
    rng: &mut Rng,
    sessions: u64,
) -> Result<(), String> {
    let master = stand.master;
    // Shorter than the checks take to decide, or longer.
    let brief = Duration::from_millis(rng.u64(50..1_500));
    let long = Duration::from_millis(rng.u64(6_000..8_000));
    let some = if rng.u8(0..3) == 0 { long } else { brief };
    let away = Away { time: some, sessions: kind.row().reads_go_on.then_some(sessions) };
    match kind {
        Kind::MasterKilled => killed(stand, master, away).await,
        Kind::ReplicaKilled => killed(stand, stand.replica(), away).await,
        Kind::MasterStopped => stopped(stand, away).await,
        Kind::MasterFrozen => frozen(stand, master, away).await,
        Kind::ReplicaFrozen => frozen(stand, stand.replica(), away).await,
        Kind::CommitsHeld => commits_held(stand, brief).await,
        Kind::MasterReadOnly => read_only(stand, away).await,
        Kind::ConnectionsKilled => connections_killed(stand, rng).await,
        Kind::IdleTimeout => idle_timeout(stand).await,
        Kind::Swapped => promote::swap(stand).await,
        Kind::FailsoftKilled => failsoft_killed(stand).await,
        Kind::FailsoftStopped => failsoft_stopped(stand).await,
        Kind::CutInAnswer => cut(stand, Direction::ToClient, rng).await,
        Kind::CutInStatement => cut(stand, Direction::ToServer, rng).await,
        Kind::SlowLink => slow(stand, rng, away).await,
        Kind::LinkFrozen => link_frozen(stand, away).await,
        Kind::LinkRefused => link_refused(stand, away).await,
        Kind::HalfOpen => half_open(stand, away).await,
        Kind::CableDown => cable_cut(stand, Break::Down, away).await,
        Kind::Dropped => cable_cut(stand, Break::Drop, away).await,
        Kind::DroppedToServer => cable_cut(stand, Break::DropToServer, away).await,
        Kind::DroppedToClient => cable_cut(stand, Break::DropToClient, away).await,
        Kind::ResetByHost => cable_cut(stand, Break::Reset, away).await,
        Kind::Rejected => {
            let how = if rng.bool() { Break::Prohibit } else { Break::Unreachable };
            cable_cut(stand, how, away).await
        }
    }
}

/// How long something is away, and whose reads have to go on before it comes back.
#[derive(Clone, Copy)]
struct Away {
    time: Duration,
    sessions: Option<u64>,
}

impl Away {
    /// Waits; after a while each session has to have read.
    async fn pass(self, stand: &Stand) -> Result<(), String> {
        sleep(self.time).await;
        match self.sessions {
            Some(sessions) => stand.wait_active(sessions, false).await,
            None => Ok(()),
        }
    }
}

fn said(error: impl ToString) -> String {
    error.to_string()
}

async fn killed(stand: &mut Stand, server: usize, away: Away) -> Result<(), String> {
    stand.servers[server].kill().map_err(said)?;
    away.pass(stand).await?;
    stand.servers[server].start_again().await.map_err(said)
}

async fn stopped(stand: &mut Stand, away: Away) -> Result<(), String> {
    let master = stand.master;
    stand.servers[master].stop().await.map_err(said)?;
    away.pass(stand).await?;
    stand.servers[master].start_again().await.map_err(said)
}

async fn frozen(stand: &mut Stand, server: usize, away: Away) -> Result<(), String> {
    stand.servers[server].pause().map_err(said)?;
    let passed = away.pass(stand).await;
    stand.servers[server].resume().map_err(said)?;
    passed
}

/// FLUSH TABLES WITH READ LOCK stops COMMITs; the kill comes while they wait.
async fn commits_held(stand: &mut Stand, held: Duration) -> Result<(), String> {
    let master = stand.master;
    let mut root = stand.root(master).await?;
    root.query_drop("FLUSH TABLES WITH READ LOCK").await.map_err(said)?;
    sleep(held).await;
    stand.servers[master].kill().map_err(said)?;
    drop(root);
    stand.servers[master].start_again().await.map_err(said)
}

async fn read_only(stand: &Stand, away: Away) -> Result<(), String> {
    stand.order(stand.master, &["SET GLOBAL read_only = 1"]).await?;
    let passed = away.pass(stand).await;
    stand.order(stand.master, &["SET GLOBAL read_only = 0"]).await?;
    passed
}

/// Three rounds, each of some of the connections that there are.
async fn connections_killed(stand: &Stand, rng: &mut Rng) -> Result<(), String> {
    let mut root = stand.root(stand.master).await?;
    for _ in 0..3 {
        let ids: Vec<u64> = root
            .query("SELECT id FROM information_schema.processlist WHERE user = 'app'")
            .await
            .map_err(said)?;
        for id in ids.into_iter().filter(|_| rng.u8(0..3) > 0) {
            // It may have gone by itself.
            drop(root.query_drop(format!("KILL {id}")).await);
        }
        sleep(Duration::from_millis(rng.u64(100..500))).await;
    }
    drop(root.disconnect().await);
    Ok(())
}

/// New connections may idle for a second; sessions idle longer, in transactions too.
async fn idle_timeout(stand: &Stand) -> Result<(), String> {
    let mut root = stand.root(stand.master).await?;
    root.query_drop("SET GLOBAL wait_timeout = 1").await.map_err(said)?;
    let ids: Vec<u64> = root
        .query("SELECT id FROM information_schema.processlist WHERE user = 'app'")
        .await
        .map_err(said)?;
    for id in ids {
        drop(root.query_drop(format!("KILL {id}")).await);
    }
    stand.field.set_idle(true);
    sleep(Duration::from_secs(6)).await;
    stand.field.set_idle(false);
    root.query_drop("SET GLOBAL wait_timeout = 28800").await.map_err(said)?;
    drop(root.disconnect().await);
    Ok(())
}

async fn failsoft_killed(stand: &mut Stand) -> Result<(), String> {
    stand.field.turn();
    stand.failsoft.kill();
    stand.failsoft.start_again().await;
    stand.field.turn();
    Ok(())
}

async fn failsoft_stopped(stand: &mut Stand) -> Result<(), String> {
    stand.field.turn();
    let code = stand.failsoft.stop().await;
    stand.failsoft.start_again().await;
    stand.field.turn();
    if code == Some(0) { Ok(()) } else { Err(format!("failsoft ended with {code:?}")) }
}

/// Starts failsoft again on another route.
///
/// # Errors
/// It does not stop as it should.
pub async fn change_route(stand: &mut Stand, route: Route) -> Result<(), String> {
    stand.route = route;
    stand.write_config();
    failsoft_killed(stand).await
}

/// Some cuts, each after so many more bytes.
async fn cut(stand: &Stand, direction: Direction, rng: &mut Rng) -> Result<(), String> {
    stand.field.set_cutting(true);
    let link = &stand.links[stand.master];
    for _ in 0..4 {
        let how = match rng.u8(0..4) {
            0 => Cut::Close,
            1 => Cut::HalfClose,
            _ => Cut::Reset,
        };
        let bytes = if rng.bool() { rng.usize(0..200) } else { rng.usize(0..20_000) };
        link.cut_after(direction, bytes, how);
        sleep(Duration::from_millis(rng.u64(200..600))).await;
    }
    // What was planned and has not come: it comes now.
    link.cut_after(direction, 0, Cut::Reset);
    sleep(Duration::from_millis(300)).await;
    stand.field.set_cutting(false);
    Ok(())
}

async fn slow(stand: &Stand, rng: &mut Rng, away: Away) -> Result<(), String> {
    let link = &stand.links[stand.master];
    for direction in [Direction::ToServer, Direction::ToClient] {
        link.delay(direction, Duration::from_millis(rng.u64(5..80)));
        link.pieces(direction, rng.usize(40..2_000));
    }
    let passed = away.pass(stand).await;
    for direction in [Direction::ToServer, Direction::ToClient] {
        link.delay(direction, Duration::ZERO);
        link.pieces(direction, 0);
    }
    passed
}

async fn link_frozen(stand: &Stand, away: Away) -> Result<(), String> {
    let link = &stand.links[stand.master];
    link.freeze();
    link.set_mode(Mode::Blackhole).await;
    let passed = away.pass(stand).await;
    link.set_mode(Mode::Pass).await;
    link.thaw();
    passed
}

async fn link_refused(stand: &Stand, away: Away) -> Result<(), String> {
    let link = &stand.links[stand.master];
    link.set_mode(Mode::Refuse).await;
    link.reset_all();
    let passed = away.pass(stand).await;
    link.set_mode(Mode::Pass).await;
    passed
}

async fn cable_cut(stand: &Stand, how: Break, away: Away) -> Result<(), String> {
    let Some(network) = &stand.network else { return Err("no network of our own".to_owned()) };
    network.cut(stand.master, how);
    let passed = away.pass(stand).await;
    network.mend(stand.master);
    passed
}

async fn half_open(stand: &mut Stand, away: Away) -> Result<(), String> {
    let master = stand.master;
    let Some(network) = &stand.network else { return Err("no network of our own".to_owned()) };
    network.cut(master, Break::Drop);
    stand.servers[master].kill().map_err(said)?;
    let passed = away.pass(stand).await;
    if let Some(network) = &stand.network {
        network.mend(master);
    }
    stand.servers[master].start_again().await.map_err(said)?;
    passed
}
