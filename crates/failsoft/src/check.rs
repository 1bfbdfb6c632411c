//! `failsoft check`: is this configuration good, and do the servers agree?

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::{Config, Role};
use control::{ProbeTarget, check_once};
use policy::cluster::{Cluster, Event};
use policy::observation::{CheckFailure, Observation};
use policy::topology::Topology;
use policy::view::{Server, View};
use serde::Serialize;

use crate::cli::Check;
use crate::run::install_cryptography;
use crate::{Exit, wiring};

/// What there is to say of a configuration.
#[derive(Debug, Default, Serialize)]
struct Report {
    file: String,
    valid: bool,
    /// What is wrong with it, one line for each mistake.
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    /// What the servers said, where they were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<Looked>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<String>,
}

/// What one server said.
#[derive(Debug, Serialize)]
struct Looked {
    words: String,
    messages: Vec<String>,
}

/// Checks a configuration file.
pub(crate) fn check(options: &Check) -> anyhow::Result<Exit> {
    let mut report = Report { file: options.file.display().to_string(), ..Report::default() };
    let (config, topology) = match read(options) {
        Ok(read) => read,
        Err(problems) => {
            report.problems = problems;
            report.print(options);
            return Ok(Exit::BadInput);
        }
    };
    report.valid = true;
    report.summary = Some(summary(&config));
    if options.show {
        print!("{}", config.show());
    }
    let mut exit = Exit::Done;
    if options.connect {
        let view = connect(&config, topology)?;
        let looked = |server: &Server| {
            let messages = server.messages.clone();
            Looked { words: words(server), messages }
        };
        report.servers = view.servers.iter().map(looked).collect();
        let partitions = view.partitions.iter();
        report.partitions =
            partitions.map(|it| format!("{}: {}", it.name, view.partition_words(it))).collect();
        if !is_well(&view) {
            exit = Exit::Refused;
        }
    }
    report.print(options);
    Ok(exit)
}

/// Reads the file; if it is not good, what is wrong with it.
fn read(options: &Check) -> Result<(Config, Topology), Vec<String>> {
    let config = Config::load(&options.file)
        .map_err(|error| error.to_string().lines().map(str::to_owned).collect::<Vec<_>>())?;
    let file = options.file.display();
    let topology = wiring::topology(&config).map_err(|error| vec![format!("{file}: {error:#}")])?;
    Ok((config, topology))
}

impl Report {
    fn print(&self, options: &Check) {
        if options.json {
            // It has no part that JSON lacks.
            println!("{}", serde_json::to_string(self).unwrap_or_default());
            return;
        }
        self.problems.iter().for_each(|problem| println!("{problem}"));
        if let Some(summary) = self.summary.as_ref().filter(|_| !options.show) {
            println!("{}: OK, {summary}", self.file);
        }
        for server in &self.servers {
            println!("{}", server.words);
            server.messages.iter().for_each(|message| println!("    {message}"));
        }
        self.partitions.iter().for_each(|partition| println!("{partition}"));
    }
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

/// Looks at each server as a running failsoft would, once.
fn connect(config: &Config, topology: Topology) -> anyhow::Result<View> {
    install_cryptography();
    let settings = wiring::watching(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(look(&topology, settings.servers, settings.timeout));
    let mut cluster = Cluster::new(topology, SystemTime::now());
    for (server, result) in results {
        cluster.apply(Event::Checked { server, result }, SystemTime::now());
    }
    Ok(cluster.view())
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
