//! `failsoft completions` and `failsoft man`: what shells and readers of manuals are given.

use std::fs::{self, OpenOptions};
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

/// What the main page has beside what the commands say of themselves.
const MORE: &str = include_str!("manual.roff");

/// Prints the main manual page, or writes all of them to a folder.
pub(crate) fn man(options: &Man) -> anyhow::Result<Exit> {
    match &options.folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            page.extend(MORE.as_bytes());
            std::io::stdout().write_all(&page)?;
        }
        Some(folder) => {
            let failed = || format!("the manual pages cannot be written to {}", folder.display());
            fs::create_dir_all(folder).with_context(failed)?;
            clap_mangen::generate_to(Cli::command(), folder).with_context(failed)?;
            let main = OpenOptions::new().append(true).open(folder.join("failsoft.1"));
            main.and_then(|mut main| main.write_all(MORE.as_bytes())).with_context(failed)?;
        }
    }
    Ok(Exit::Done)
}
