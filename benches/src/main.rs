//! Measures failsoft beside its peers, in one run, and prints a table of ratios.
//!
//! One private MariaDB serves everybody. For each number of connections the peers take turns, round
//! by round, so that what happens to the machine happens to all of them; what is shown is the median
//! of the rounds.
//!
//! ```text
//! options ─▶ peers::start ─▶ for loads and connections { for rounds { for peers { load::measure } } } ─▶ report
//! ```
//!
//! Or it counts instructions, see [`instructions`].
//!
//! A new peer is a row of [`peers::KINDS`], a new number a row of [`report::METRICS`].

mod client;
mod idle;
mod instructions;
mod load;
mod options;
mod peers;
mod procstat;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use testkit::{Flavor, Server};

use crate::load::{Load, Sample};
use crate::options::Options;
use crate::peers::Peer;
use crate::report::{Report, Row};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let server = server().await?;
    if let Some(file) = &options.guard {
        let failsoft = peers::failsoft_program(&options)?;
        print(&instructions::guard(&server, &failsoft, file, options.update).await?);
        return Ok(());
    }
    let peers = peers::start(&server, &options).await?;
    let rows = measure_all(&peers, &options).await?;
    let idle = measure_idle(&peers, options.idle).await?;
    let report = Report::new(&server, &peers, &options, rows, idle);
    print(&report.to_markdown());
    match &options.json {
        Some(path) => write(path, &report),
        None => Ok(()),
    }
}

/// A private server with the table that is read.
async fn server() -> anyhow::Result<Server> {
    let extra = ["--skip-log-bin", "--innodb-buffer-pool-size=128M", "--max-connections=5000"]
        .map(str::to_owned)
        .to_vec();
    let server =
        Server::start(Flavor::MariaDb, testkit::Options { extra, ..testkit::Options::default() })
            .await
            .context("no MariaDB to measure with; scripts/setup.sh installs one")?;
    let mut connection = server.connect(testkit::APP, Some("app")).await?;
    for statement in client::setup() {
        testkit::execute(&mut connection, &statement).await;
    }
    Ok(server)
}

async fn measure_all(peers: &[Peer], options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let numbers = || options.connections.iter().copied();
    let all = options.loads.iter().flat_map(|&load| numbers().map(move |number| (load, number)));
    for (load, connections) in all {
        let mut samples = vec![Vec::new(); peers.len()];
        for round in 0..options.rounds.get() {
            let what = load.words();
            progress(&format!("{what}, {connections} connections, round {}", round + 1));
            // Each round begins with another peer: going first is no advantage in the end.
            let mut order: Vec<_> = peers.iter().zip(&mut samples).collect();
            order.rotate_left(round % peers.len().max(1));
            for (peer, taken) in order {
                taken.push(measure(load, peer, connections.get(), options).await?);
            }
        }
        rows.push(Row::new(load, connections.get(), samples));
    }
    Ok(rows)
}

/// The memory for each idle client, by peer.
async fn measure_idle(peers: &[Peer], clients: u64) -> anyhow::Result<Vec<Option<f64>>> {
    let mut all = Vec::new();
    for peer in peers {
        let measured = match clients {
            0 => None,
            _ => idle::measure(peer, clients).await.with_context(|| peer.name())?,
        };
        all.push(measured);
    }
    Ok(all)
}

async fn measure(
    load: Load,
    peer: &Peer,
    connections: usize,
    options: &Options,
) -> anyhow::Result<Sample> {
    let seconds = Duration::from_secs_f64(options.seconds);
    load::measure(load, peer.port(), peer.pid(), connections, seconds)
        .await
        .with_context(|| format!("{} with {connections} connections", peer.name()))
}

fn write(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[allow(clippy::print_stdout, reason = "the table is what one runs this for")]
fn print(text: &str) {
    print!("{text}");
}

#[allow(clippy::print_stderr, reason = "a run takes minutes, and the table goes elsewhere")]
fn progress(text: &str) {
    eprintln!("{text}");
}
