//! What is measured: the ways to reach the server, as a table.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use testkit::{Failsoft, Lease, Process};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::options::Options;

/// How long a proxy may take until it can be connected to.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// A kind of peer, and how to start it.
pub(crate) struct Kind {
    /// Its name in the table.
    pub(crate) name: &'static str,
    start: Start,
}

/// How a peer comes to be.
enum Start {
    Direct,
    Haproxy,
    Router,
    ProxySql,
    Failsoft,
}

/// The columns of the table.
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: DIRECT, start: Start::Direct },
    Kind { name: FLOOR, start: Start::Haproxy },
    Kind { name: "Router", start: Start::Router },
    Kind { name: "ProxySQL", start: Start::ProxySql },
    Kind { name: OURS, start: Start::Failsoft },
];
/// No proxy at all: what latencies are compared with.
pub(crate) const DIRECT: &str = "direct";
/// The floor for a relay in user space: what ours is divided by.
pub(crate) const FLOOR: &str = "HAProxy";
/// Ours.
pub(crate) const OURS: &str = "failsoft";

/// A peer that runs. Dropping it ends its process.
pub(crate) struct Peer {
    name: &'static str,
    version: String,
    port: u16,
    running: Running,
}

/// What has to live as long as a peer does.
enum Running {
    Nothing,
    Failsoft(Box<Failsoft>),
    // The process first: it must be gone before its folder.
    Other { process: Process, _folder: TempDir, _leases: Vec<Lease> },
}

/// The server that they are in front of.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) version: String,
    /// On loopback.
    pub(crate) port: u16,
}

/// Starts all of them in front of one server.
pub(crate) async fn start(server: &Target, options: &Options) -> anyhow::Result<Vec<Peer>> {
    let mut peers = Vec::with_capacity(KINDS.len());
    for kind in KINDS {
        let peer = match kind.start {
            Start::Direct => Some(direct(kind.name, server)),
            Start::Haproxy => Some(haproxy(kind.name, server, options).await?),
            Start::Router => router(kind.name, server, options).await?,
            Start::ProxySql => proxysql(kind.name, server, options).await?,
            Start::Failsoft => Some(failsoft(kind.name, server, options).await?),
        };
        peers.extend(peer);
    }
    Ok(peers)
}

impl Peer {
    /// Its name in the table.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Which version of it runs.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The loopback port to connect to.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The process whose time is counted; none for the direct connection.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Nothing => None,
            Running::Failsoft(failsoft) => Some(failsoft.pid()),
            Running::Other { process, .. } => Some(process.pid()),
        }
    }
}

fn direct(name: &'static str, server: &Target) -> Peer {
    let version = server.version.clone();
    Peer { name, version, port: server.port, running: Running::Nothing }
}

async fn failsoft(name: &'static str, server: &Target, options: &Options) -> anyhow::Result<Peer> {
    let program = failsoft_program(options)?;
    let version = version(&program, "--version").context(
        "failsoft is not there; `cargo build --release -p failsoft -p failsoft-bench` builds both",
    )?;
    let running = Failsoft::config(&[("master", server.port)])
        .with("health: {interval: 3s}")
        .with("pool: {mode: session}")
        .with(&format!("threads: {}", options.threads()))
        .program(program)
        .try_start()
        .await
        .map_err(anyhow::Error::msg)?;
    Ok(Peer { name, version, port: running.port(), running: Running::Failsoft(Box::new(running)) })
}

async fn haproxy(name: &'static str, server: &Target, options: &Options) -> anyhow::Result<Peer> {
    let version = version(&options.haproxy, "-v")
        .context("HAProxy is not there; scripts/setup.sh installs it")?;
    let lease = Lease::any()?;
    let config = haproxy_config(lease.port(), server.port, options.threads());
    // In the foreground, as one process.
    let arguments = ["-db", "-f"].map(OsString::from);
    start_other(name, version, &options.haproxy, &arguments, &config, vec![lease]).await
}

/// MySQL Router, which passes TLS and logins through as they are; none where it is not installed.
async fn router(
    name: &'static str,
    server: &Target,
    options: &Options,
) -> anyhow::Result<Option<Peer>> {
    let folder = testkit::cache_dir().join("router");
    let unpacked = options.router.is_none();
    let program = options.router.clone().unwrap_or_else(|| folder.join("mysqlrouter"));
    let Ok(version) = version(&program, "--version") else { return Ok(None) };
    // One that is installed knows where its parts are.
    let plugins = folder.join("root/usr/lib/mysqlrouter/plugin");
    let parts = match unpacked {
        true => format!("plugin_folder = {}\n", plugins.display()),
        false => String::new(),
    };
    let lease = Lease::any()?;
    let (listen, to, threads) = (lease.port(), server.port, options.threads());
    let config = format!(
        "[DEFAULT]\nmax_total_connections = 6000\n{parts}[logger]\nlevel = WARNING\nsinks = consolelog\n[io]\nthreads = {threads}\n\
         [routing:all]\nbind_address = 127.0.0.1\nbind_port = {listen}\n\
         destinations = 127.0.0.1:{to}\nrouting_strategy = first-available\nprotocol = classic\n\
         client_ssl_mode = PASSTHROUGH\nserver_ssl_mode = AS_CLIENT\nmax_connect_errors = 4294967295\nmax_connections = 5000\n"
    );
    let arguments = ["-c"].map(OsString::from);
    start_other(name, version, &program, &arguments, &config, vec![lease]).await.map(Some)
}

/// ProxySQL, where one is named: it is in no registry that this project installs from.
async fn proxysql(
    name: &'static str,
    server: &Target,
    options: &Options,
) -> anyhow::Result<Option<Peer>> {
    let Some(program) = &options.proxysql else { return Ok(None) };
    let version = version(program, "--version").context("PROXYSQL is no ProxySQL")?;
    let (lease, admin) = (Lease::any()?, Lease::any()?);
    let (user, pass) = (testkit::APP.user, testkit::APP.pass);
    let config = format!(
        "datadir=\".\"\nadmin_variables={{mysql_ifaces=\"127.0.0.1:{}\"}}\n\
         mysql_variables={{threads={} interfaces=\"127.0.0.1:{}\" monitor_enabled=false}}\n\
         mysql_servers=({{address=\"127.0.0.1\" port={} hostgroup=0}})\n\
         mysql_users=({{username=\"{user}\" password=\"{pass}\" default_hostgroup=0}})\n",
        admin.port(),
        options.threads(),
        lease.port(),
        server.port,
    );
    let arguments = ["-f", "--initial", "-c"].map(OsString::from);
    start_other(name, version, program, &arguments, &config, vec![lease, admin]).await.map(Some)
}

/// Starts a peer that takes its file as the last of its arguments and listens on the first lease.
async fn start_other(
    name: &'static str,
    version: String,
    program: &Path,
    arguments: &[OsString],
    config: &str,
    leases: Vec<Lease>,
) -> anyhow::Result<Peer> {
    let folder = tempfile::Builder::new().prefix("failsoft-bench-").tempdir()?;
    let file = folder.path().join("config");
    fs::write(&file, config)?;
    let port = leases.first().context("a port to listen on")?.port();
    let mut command = vec![program.as_os_str().to_owned()];
    command.extend(arguments.iter().cloned());
    command.push(file.into());
    let process = launch(&command, folder.path(), port).await?;
    let running = Running::Other { process, _folder: folder, _leases: leases };
    Ok(Peer { name, version, port, running })
}

fn haproxy_config(listen: u16, server: u16, threads: usize) -> String {
    format!(
        "global\n  nbthread {threads}\n  maxconn 5000\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen mysql\n  bind 127.0.0.1:{listen}\n  server master 127.0.0.1:{server}\n"
    )
}

/// Starts a proxy and waits until its port can be connected to.
async fn launch(command: &[OsString], folder: &Path, port: u16) -> anyhow::Result<Process> {
    let mut process = Process::start(command, folder, &folder.join("log"))?;
    let deadline = Instant::now() + START_LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if process.ended()?.is_some() || Instant::now() >= deadline {
            bail!("{command:?} does not listen on port {port}:\n{}", process.log_tail());
        }
        sleep(PAUSE).await;
    }
    Ok(process)
}

/// The failsoft that is measured.
pub(crate) fn failsoft_program(options: &Options) -> anyhow::Result<PathBuf> {
    match &options.failsoft {
        Some(path) => Ok(path.clone()),
        None => beside_us().context("where is failsoft?"),
    }
}

/// The failsoft of the same build.
fn beside_us() -> anyhow::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("failsoft"))
}

/// The first word with a digit and a dot in what a program says about itself.
fn version(program: &Path, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(version_in(&text).unwrap_or("of unknown version").to_owned())
}

fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        let rows = [
            ("HAProxy version 2.6.12-1 2026/10/17 - https://haproxy.org/", Some("2.6.12-1")),
            ("failsoft 0.1.0\n", Some("0.1.0")),
            ("no such thing", None),
        ];
        for (text, expected) in rows {
            assert_eq!(version_in(text), expected, "{text}");
        }
    }
}
