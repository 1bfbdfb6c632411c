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
//! The same again with a server that answers from memory ([`scripted`]), and with everything on one
//! processor ([`pinned`]); then what is measured once or in bulk,
//! [`bulk`], [`idle`], [`syscalls`]; and how costs grow, [`curves`].
//!
//! Or it counts instructions, see [`instructions`].
//!
//! A new peer is a row of [`peers::KINDS`], a new number a row of [`report::METRICS`].

mod bulk;
mod chart;
mod client;
mod curves;
mod files;
mod idle;
mod instructions;
mod load;
mod options;
mod peers;
mod pinned;
mod procstat;
mod report;
mod scripted;
mod syscalls;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use testkit::{Flavor, Server};

use crate::bulk::Way;
use crate::load::{Load, Sample};
use crate::options::Options;
use crate::peers::{Peer, Target};
use crate::pinned::Pinned;
use crate::report::{Figure, Place, Report, Row};

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
    let version = server.program().version().to_owned();
    let target = Target { version, port: server.port() };
    let peers = peers::start(&target, &options).await?;
    let mut rows = measure_all(&peers, &options, Place::Anywhere).await?;
    if !options.unscripted {
        rows.extend(measure_scripted(&server, &target, &options).await?);
    }
    if !options.unpinned {
        let processes = peers.iter().filter_map(Peer::pid).chain([server.pid()]).collect();
        let _pinned = Pinned::to_one(processes)?;
        rows.extend(measure_all(&peers, &options, Place::OneProcessor).await?);
    }
    let mut figures = measure_bulk(&peers, &options).await?;
    figures.extend(measure_others(&peers, &options).await?);
    let mut report = Report::new(&server, &peers, &options, rows, figures);
    print(&report.to_markdown());
    if let Some(file) = &options.curves {
        progress("how costs grow");
        report.curves = curves::measure(&server, &options).await?;
        chart::draw(&report.curves, file)?;
        print(&curves::to_markdown(&report.curves));
    }
    match &options.json {
        Some(path) => write(path, &report),
        None => Ok(()),
    }
}

/// A private server with the table that is read.
async fn server() -> anyhow::Result<Server> {
    // Of all addresses of this machine, so that one server can pass for several.
    let extra = [
        "--skip-log-bin",
        "--innodb-buffer-pool-size=128M",
        "--max-connections=5000",
        "--bind-address=0.0.0.0",
        "--max-allowed-packet=128M",
        "--local-infile=ON",
    ];
    let extra = extra.map(str::to_owned).to_vec();
    let server =
        Server::start(Flavor::MariaDb, testkit::Options { extra, ..testkit::Options::default() })
            .await
            .context("no MariaDB to measure with; scripts/setup.sh installs one")?;
    let mut connection = server.connect(testkit::APP, Some("app")).await?;
    for statement in client::setup() {
        testkit::execute(&mut connection, &statement).await;
    }
    testkit::execute(&mut connection, bulk::SINK).await;
    Ok(server)
}

/// On one processor, one client is what says most.
async fn measure_all(peers: &[Peer], options: &Options, place: Place) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let numbers = || match place {
        Place::Anywhere | Place::FromMemory => options.connections.clone(),
        Place::OneProcessor => vec![NonZeroUsize::MIN],
    };
    let all =
        options.loads.iter().flat_map(|&load| numbers().into_iter().map(move |it| (load, it)));
    for (load, connections) in all {
        let mut samples = vec![Vec::new(); peers.len()];
        for round in 0..options.rounds.get() {
            let what = place.of(load);
            progress(&format!("{what}, {connections} connections, round {}", round + 1));
            // Each round begins with another peer: going first is no advantage in the end.
            let mut order: Vec<_> = peers.iter().zip(&mut samples).collect();
            order.rotate_left(round % peers.len().max(1));
            for (peer, taken) in order {
                taken.push(measure(load, peer, connections.get(), options).await?);
            }
        }
        rows.push(Row::new(load, place, connections.get(), samples));
    }
    Ok(rows)
}

/// The loads with a server that answers from memory.
async fn measure_scripted(
    server: &Server,
    target: &Target,
    options: &Options,
) -> anyhow::Result<Vec<Row>> {
    let port = scripted::start(server).await?;
    let peers = peers::start(&Target { port, ..target.clone() }, options).await?;
    measure_all(&peers, options, Place::FromMemory).await
}

/// How fast large results and files pass, the medians of the rounds.
async fn measure_bulk(peers: &[Peer], options: &Options) -> anyhow::Result<Vec<Figure>> {
    if options.bulk == 0 {
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for way in [Way::Result, Way::Load] {
        let mut taken = vec![Vec::new(); peers.len()];
        for round in 0..options.rounds.get() {
            progress(&format!("{}, round {}", way.words(), round + 1));
            for (peer, taken) in peers.iter().zip(&mut taken) {
                let moved = bulk::measure(way, peer, options.bulk << 20).await;
                taken.push(moved.with_context(|| peer.name())?);
            }
        }
        figures.extend(report::of_bulk(way, &taken));
    }
    Ok(figures)
}

/// What is measured once: the system calls of a select, and the memory of idle clients.
async fn measure_others(peers: &[Peer], options: &Options) -> anyhow::Result<Vec<Figure>> {
    progress("system calls, and idle clients");
    let (mut calls, mut memory) = (Vec::new(), Vec::new());
    for peer in peers {
        calls.push(syscalls::measure(peer).await.with_context(|| peer.name())?);
        memory.push(match options.idle {
            0 => None,
            clients => idle::measure(peer, clients).await.with_context(|| peer.name())?,
        });
    }
    let figure = |load, name, values| Figure { load, name, decimals: 1, values };
    Ok(vec![
        figure("select", "system calls each", calls),
        figure("idle", "memory for each, KiB", memory),
    ])
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
