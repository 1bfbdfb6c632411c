//! A MySQL proxy that degrades to read-only mode.
//!
//! This is the executable: its commands, and what connects the crates that do the work.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the command line; the crates that do the work print nothing"
)]

mod activation;
mod check;
mod cli;
mod demo;
mod explain;
mod handover;
mod http;
mod limits;
mod lists;
mod manual;
mod notify;
mod orders;
mod partitions;
mod reload;
mod run;
mod signals;
mod status;
mod surface;
mod table;
mod watch;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exit {
    /// It did what was asked.
    Done = 0,
    /// It refused, or failed, or what it looked at is degraded.
    Refused = 1,
    /// It was asked for something that makes no sense: arguments, or a configuration file.
    BadInput = 2,
    /// failsoft does not answer.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Check(options) => check::check(&options),
        Command::Status(options) => status::status(&options),
        Command::Sessions(options) => lists::sessions(&options),
        Command::Statements(options) => lists::statements(&options),
        Command::Events(options) => lists::events(&options),
        Command::Outcomes(options) => lists::outcomes(&options),
        Command::Reload(options) => orders::reload(&options),
        Command::ReadOnly(options) => orders::read_only(&options),
        Command::Pause(options) => orders::pause(&options),
        Command::Resume(options) => orders::resume(&options),
        Command::Disable(options) => orders::enable(&options, false),
        Command::Enable(options) => orders::enable(&options, true),
        Command::Kill(options) => orders::kill(&options),
        Command::Drain(options) => orders::drain(&options),
        Command::Explain(options) => explain::explain(&options),
        Command::Demo(options) => demo::demo(&options),
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::man(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("failsoft: {error:#}");
        Exit::Refused
    })
    .into()
}
