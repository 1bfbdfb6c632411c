//! `failsoft-checker`: faults for as long as one likes, and a table at the end.
//!
//! Exits 0 if failsoft kept its promise, and 1 otherwise.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for people")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use checker::{Network, Plan, Until};
use clap::{Parser, ValueEnum};
use testkit::Flavor;

/// Breaks everything around failsoft, and compares what clients were told with what is there.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How many faults at most.
    #[arg(long, default_value_t = usize::MAX)]
    faults: usize,
    /// Which servers; both, side by side, if not given.
    #[arg(long)]
    flavor: Option<Name>,
    /// How many sessions for each of them.
    #[arg(long, default_value_t = 6)]
    clients: u64,
    /// The mean pause of a session between two units of writes, in milliseconds.
    #[arg(long, default_value_t = 250)]
    think: u64,
    /// A few faults on each route, and no lines between.
    #[arg(long)]
    quick: bool,
    /// What faults and statements are drawn from.
    #[arg(long)]
    seed: Option<u64>,
    /// More of failsoft's settings, as YAML: `tls: {servers: required}`.
    #[arg(long)]
    settings: Option<String>,
    /// Only the faults whose names have this in them.
    #[arg(long)]
    only: Option<String>,
    /// failsoft's program; the one beside this if not given.
    #[arg(long)]
    failsoft: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Mariadb,
    Mysql,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(name) = arguments.flavor else { return both() };
    checker::enter();
    let flavor = match name {
        Name::Mariadb => Flavor::MariaDb,
        Name::Mysql => Flavor::MySql,
    };
    let beside = std::env::current_exe().expect("our own path").with_file_name("failsoft");
    let plan = Plan {
        flavor,
        clients: arguments.clients,
        think: Duration::from_millis(arguments.think),
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
        only: arguments.only,
        settings: arguments.settings,
        program: Some(arguments.failsoft.unwrap_or(beside)),
    };
    let until = Until {
        faults: arguments.faults,
        time: Duration::from_secs(60 * arguments.minutes),
        laps: if arguments.quick { 1 } else { 6 },
        // Both routes are to have their turn.
        most: if arguments.quick && checker::is_inside() { 5 } else { usize::MAX },
        progress: !arguments.quick,
    };
    println!("{flavor}: seed {}", plan.seed);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let report = runtime.expect("a runtime").block_on(async {
        let network = checker::is_inside().then(Network::lay);
        checker::run(&plan, until, network).await
    });
    println!("{report}");
    if report.wrong().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs this program once for each flavour, side by side.
fn both() -> ExitCode {
    let program = std::env::current_exe().expect("our own path");
    let start = |name: &str| {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).args(["--flavor", name]);
        command.spawn().expect("a second process")
    };
    let children = ["mariadb", "mysql"].map(start);
    let well = children.map(|mut child| child.wait().is_ok_and(|status| status.success()));
    if well == [true, true] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
