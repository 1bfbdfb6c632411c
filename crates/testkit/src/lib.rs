//! Fake and real servers for tests.
//!
//! | for | there is |
//! | --- | --- |
//! | real servers, alone or replicating | [`sandbox`], re-exported |
//! | which flavours this machine can test | [`flavors`] |
//! | a network that misbehaves | [`FaultProxy`] |
//! | a server that offers less than it has | [`Mask`] |
//! | failsoft itself, as a process | [`Failsoft`] |
//! | a client that sends what it should not | [`RawClient`] |
//!
//! What goes wrong here is a failed test, so most of these functions panic and say why.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "used by tests only, where a panic is the report"
)]

mod failsoft;
mod fault;
mod http;
mod mask;
mod raw;

use std::env;
use std::time::Duration;

use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, OptsBuilder};
use tokio::time::{Instant, sleep};

pub use failsoft::{ADMIN_TOKEN, Config, Failsoft};
pub use fault::{Cut, Direction, FaultProxy, Mode};
pub use http::{Response, http};
pub use mask::Mask;
pub use raw::{Frame, Login, RawClient, capability};
pub use sandbox::ports::Lease;
pub use sandbox::{
    APP, Account, Flavor, MONITOR, Options, Pair, Process, Program, ROOT, SandboxError, Server,
    cache_dir,
};

/// The pause between two looks of [`wait_until`].
const PAUSE: Duration = Duration::from_millis(10);
/// Largest packet that [`conn`] sends or takes, in bytes; the servers are set to the same.
const MAX_PACKET: usize = 64 << 20;
/// Seconds a connection may be idle: what servers use, and given so that it is not asked for.
const WAIT_TIMEOUT_S: usize = 28_800;

/// The flavours to test on this machine. Says which are missing.
///
/// # Panics
/// One is missing and this is continuous integration (`CI=true`), which must not skip.
#[must_use]
pub fn flavors() -> Vec<Flavor> {
    let is_ci = env::var("CI").is_ok_and(|value| value == "true");
    Flavor::all().into_iter().filter(|&flavor| is_here(flavor, is_ci)).collect()
}

#[allow(clippy::print_stderr, reason = "the reader of a test's output has to see what was skipped")]
fn is_here(flavor: Flavor, is_ci: bool) -> bool {
    match flavor.find() {
        Ok(_) => true,
        Err(missing) if is_ci => panic!("{missing}"),
        Err(missing) => {
            eprintln!("skipped: {missing}");
            false
        }
    }
}

/// Options for a login over TCP on loopback: no TLS, and never the Unix socket behind our back.
#[must_use]
pub fn opts(port: u16, user: &str, pass: &str, schema: Option<&str>) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(user))
        .pass(Some(pass))
        .db_name(schema)
        .prefer_socket(false)
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(WAIT_TIMEOUT_S))
}

/// Logs in over TCP on loopback.
///
/// # Errors
/// What the server or the network answered.
pub async fn conn(
    port: u16,
    user: &str,
    pass: &str,
    schema: Option<&str>,
) -> Result<Conn, mysql_async::Error> {
    Conn::new(opts(port, user, pass, schema)).await
}

/// The first column of the first row.
///
/// # Panics
/// The statement fails, or answers without a row.
pub async fn query_one<T: FromValue + Send + 'static>(connection: &mut Conn, statement: &str) -> T {
    match connection.query_first::<T, _>(statement).await {
        Ok(Some(value)) => value,
        Ok(None) => panic!("`{statement}` answered without a row"),
        Err(error) => panic!("`{statement}` failed: {error}"),
    }
}

/// Runs a statement.
///
/// # Panics
/// It fails.
pub async fn execute(connection: &mut Conn, statement: &str) {
    if let Err(error) = connection.query_drop(statement).await {
        panic!("`{statement}` failed: {error}");
    }
}

/// The server's error number that a statement ends with; `None` if it succeeds.
///
/// # Panics
/// It fails otherwise than by an error of the server, a lost connection for instance.
pub async fn error_of(connection: &mut Conn, statement: &str) -> Option<(u16, String)> {
    match connection.query_drop(statement).await {
        Ok(()) => None,
        Err(mysql_async::Error::Server(error)) => Some((error.code, error.message)),
        Err(error) => panic!("`{statement}` failed otherwise than by a server's error: {error}"),
    }
}

/// Waits until something is so.
///
/// # Panics
/// It is not so within the limit.
pub async fn wait_until<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    mut is_so: impl FnMut() -> F,
) {
    let deadline = Instant::now() + limit;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(PAUSE).await;
    }
}
