//! `failsoft completions` and `failsoft man`: what shells and readers of manuals are given.

use std::io::Write;

use anyhow::Context;
use clap::CommandFactory;

use crate::Exit;
use crate::cli::{Cli, Completions, Man};

/// Prints what completes the commands in a shell.
pub(crate) fn completions(options: &Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "failsoft", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}

/// Prints the main manual page, or writes all of them to a folder.
pub(crate) fn man(options: &Man) -> anyhow::Result<Exit> {
    match &options.folder {
        None => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?,
        Some(folder) => {
            let failed = || format!("the manual pages cannot be written to {}", folder.display());
            std::fs::create_dir_all(folder).with_context(failed)?;
            clap_mangen::generate_to(Cli::command(), folder).with_context(failed)?;
        }
    }
    Ok(Exit::Done)
}
