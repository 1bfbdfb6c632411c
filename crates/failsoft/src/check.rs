//! `failsoft check`: is this configuration good, and do the servers agree?

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::{Config, Role};
use control::{ProbeTarget, check_once, try_login};
use policy::cluster::{Cluster, Event};
use policy::observation::{CheckFailure, Observation, Replication};
use policy::topology::Topology;
use policy::view::{Server, View};
use serde::Serialize;

use crate::cli::Check;
use crate::http::tell;
use crate::run::{config_file, install_cryptography};
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

/// What all servers said.
struct Visit {
    view: View,
    /// Of each server the accounts that it does not let in, and why.
    refused: Vec<Vec<String>>,
}

/// Checks a configuration file.
pub(crate) fn check(options: &Check) -> anyhow::Result<Exit> {
    let file = match config_file(options.file.as_deref(), "failsoft check FILE") {
        Ok(file) => file,
        Err(error) => return Ok(tell(&error, Exit::BadInput)),
    };
    let mut report = Report { file: file.display().to_string(), ..Report::default() };
    let (config, topology) = match read(&file) {
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
        let visit = connect(&config, topology)?;
        report.take(&visit);
        if !visit.is_well() {
            exit = Exit::Refused;
        }
    }
    report.print(options);
    Ok(exit)
}

/// Reads the file; if it is not good, what is wrong with it.
fn read(file: &Path) -> Result<(Config, Topology), Vec<String>> {
    let config = Config::load(file)
        .map_err(|error| error.to_string().lines().map(str::to_owned).collect::<Vec<_>>())?;
    let file = file.display();
    let topology = wiring::topology(&config).map_err(|error| vec![format!("{file}: {error:#}")])?;
    Ok((config, topology))
}

impl Report {
    fn take(&mut self, Visit { view, refused }: &Visit) {
        let looked = |(server, refused): (&Server, &Vec<String>)| {
            let messages = server.messages.iter().chain(refused).cloned().collect();
            Looked { words: words(server), messages }
        };
        self.servers = view.servers.iter().zip(refused).map(looked).collect();
        self.partitions = view.partition_lines().collect();
    }

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

/// Looks at each server as a running failsoft would, once, and logs in as the accounts do.
fn connect(config: &Config, topology: Topology) -> anyhow::Result<Visit> {
    install_cryptography();
    let settings = wiring::watching(config)?;
    let accounts = wiring::logins(config);
    let limit = settings.timeout;
    if stderr().is_terminal() {
        let (many, limit) = (settings.servers.len(), limit.as_secs_f64());
        eprintln!("asking {many} servers, for at most {limit} s each time …");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let enabled: Vec<_> = topology.servers.iter().map(|spec| spec.enabled).collect();
    let mut cluster = Cluster::new(topology, SystemTime::now());
    let targets = settings.servers.into_iter().zip(accounts).zip(enabled);
    let answers = runtime.block_on(look(targets, limit));
    let mut refused = Vec::new();
    for (server, answer) in answers.into_iter().enumerate() {
        let (result, others) = answer.unzip();
        if let Some(result) = result {
            cluster.apply(Event::Checked { server, result }, SystemTime::now());
        }
        refused.push(others.unwrap_or_default());
    }
    Ok(Visit { view: cluster.view(), refused })
}

/// What a server says to the health checks, and the accounts that it does not let in.
type Answer = (Result<Observation, CheckFailure>, Vec<String>);

/// Visits all enabled servers at the same time.
async fn look(
    targets: impl Iterator<Item = ((ProbeTarget, Vec<ProbeTarget>), bool)>,
    limit: Duration,
) -> Vec<Option<Answer>> {
    let visits: Vec<_> = targets
        .map(|((monitor, accounts), enabled)| {
            enabled.then(|| tokio::spawn(visit(monitor, accounts, limit)))
        })
        .collect();
    let mut answers = Vec::new();
    for visit in visits {
        let Some(visit) = visit else {
            answers.push(None);
            continue;
        };
        let gone = |error| {
            let failure = CheckFailure { text: format!("{error}"), is_login: false };
            (Err(failure), Vec::new())
        };
        answers.push(Some(visit.await.unwrap_or_else(gone)));
    }
    answers
}

/// Visits one server. One that cannot be reached is not asked again for each account.
async fn visit(monitor: ProbeTarget, accounts: Vec<ProbeTarget>, limit: Duration) -> Answer {
    let others = accounts.into_iter().filter(|account| *account != monitor).collect::<Vec<_>>();
    let checked = match check_once(monitor, limit).await {
        Err(failure) if !failure.is_login => return (Err(failure), Vec::new()),
        checked => checked,
    };
    let mut refused = Vec::new();
    for target in others {
        let user = target.user.clone();
        if let Err(failure) = try_login(target, limit).await {
            refused.push(format!("account {user} cannot log in: {}", failure.text));
        }
    }
    (checked, refused)
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

impl Visit {
    /// Whether every server answers and hides nothing, lets every account in, and every partition takes
    /// writes.
    fn is_well(&self) -> bool {
        let hides = |server: &Server| {
            server.seen.as_ref().is_some_and(|seen| seen.replication == Replication::Hidden)
        };
        let is_well = |server: &Server| server.failure.is_none() && !hides(server);
        self.refused.iter().all(Vec::is_empty)
            && self.view.servers.iter().all(|server| !server.enabled || is_well(server))
            && self.view.partitions.iter().all(|partition| partition.mode.is_read_write())
    }
}
