//! `failsoft check`: is this configuration good, and do the servers agree?

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::{Config, Role};
use control::{ProbeTarget, check_once};
use policy::cluster::{Cluster, Event};
use policy::observation::{CheckFailure, Observation};
use policy::topology::Topology;
use policy::view::{Server, View};

use crate::cli::Check;
use crate::run::install_cryptography;
use crate::{Exit, wiring};

/// Checks a configuration file.
pub(crate) fn check(options: &Check) -> anyhow::Result<Exit> {
    let config = match Config::load(&options.file) {
        Ok(config) => config,
        Err(error) => {
            println!("{error}");
            return Ok(Exit::BadInput);
        }
    };
    let file = options.file.display();
    let topology = match wiring::topology(&config) {
        Ok(topology) => topology,
        Err(error) => {
            println!("{file}: {error:#}");
            return Ok(Exit::BadInput);
        }
    };
    if options.show {
        print!("{}", config.show());
    } else {
        println!("{file}: OK, {}", summary(&config));
        for setting in wiring::unavailable(&config) {
            println!("{file}: {setting} is not available in this version and has no effect");
        }
    }
    if options.connect { connect(&config, topology) } else { Ok(Exit::Done) }
}

/// `1 master, 2 replicas, listening on 127.0.0.1:3306`.
fn summary(config: &Config) -> String {
    let count = |role, word: &str| {
        let number = config.databases.iter().filter(|db| db.role == role).count();
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {word}{plural}")
    };
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    let (masters, replicas) = (count(Role::Master, "master"), count(Role::Replica, "replica"));
    format!("{masters}, {replicas}, listening on {}", listen.join(" and "))
}

/// Looks at each server as a running failsoft would, once, and says what it would make of it.
fn connect(config: &Config, topology: Topology) -> anyhow::Result<Exit> {
    install_cryptography();
    let settings = wiring::watching(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(look(&topology, settings.servers, settings.timeout));
    let mut cluster = Cluster::new(topology, SystemTime::now());
    for (server, result) in results {
        cluster.apply(Event::Checked { server, result }, SystemTime::now());
    }
    let view = cluster.view();
    for server in &view.servers {
        println!("{}", words(server));
        server.messages.iter().for_each(|message| println!("    {message}"));
    }
    for partition in &view.partitions {
        println!("{}: {}", partition.name, view.partition_words(partition));
    }
    Ok(if is_well(&view) { Exit::Done } else { Exit::Refused })
}

/// Checks all enabled servers at the same time.
async fn look(
    topology: &Topology,
    targets: Vec<ProbeTarget>,
    limit: Duration,
) -> Vec<(usize, Result<Observation, CheckFailure>)> {
    let enabled = topology.servers.iter().zip(targets).enumerate();
    let checks: Vec<_> = enabled
        .filter(|(_, (spec, _))| spec.enabled)
        .map(|(at, (_, target))| (at, tokio::spawn(check_once(target, limit))))
        .collect();
    let mut results = Vec::new();
    for (at, check) in checks {
        let gone = |error| Err(CheckFailure { text: format!("{error}"), is_login: false });
        results.push((at, check.await.unwrap_or_else(gone)));
    }
    results
}

/// `db001:3306 master: 420 µs, 10.11.6-MariaDB, writable, replication -`.
fn words(server: &Server) -> String {
    let (name, role, connection) = (&server.name, server.role, server.connection_words());
    let seen: Option<&Arc<Observation>> = server.seen.as_ref();
    match seen {
        None => format!("{name} {role}: {connection}"),
        Some(seen) => {
            let access = if seen.read_only { "read_only" } else { "writable" };
            let replication = server.replication_words();
            let version = &seen.version;
            format!("{name} {role}: {connection}, {version}, {access}, replication: {replication}")
        }
    }
}

/// Whether every server answers and every partition takes writes.
fn is_well(view: &View) -> bool {
    view.servers.iter().all(|server| !server.enabled || server.failure.is_none())
        && view.partitions.iter().all(|partition| partition.mode.is_read_write())
}
