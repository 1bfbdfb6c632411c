//! The configuration file: read, checked, shown, compared.
//!
//! ```text
//! text ──▶ node ──▶ expand ──▶ reader ──▶ read ──▶ model::Config ──▶ show
//!          tree     ${NAME}    settings   rules    what others use   YAML, differences
//! ```
//!
//! serde's derive stops at the first error. So the text becomes a plain tree first; then single
//! settings are taken out of it by the table [`SETTINGS`], which knows what each of them takes, and
//! everything that is wrong is collected with its path. Only then are lines and columns found.

mod accounts;
mod address;
mod addresses;
mod databases;
mod expand;
mod locate;
mod model;
mod node;
mod partitions;
mod problem;
mod read;
mod reader;
mod secret;
mod settings;
mod show;
mod units;
mod values;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use model::{
    Account, Admin, ClientTls, Config, Database, Health, Limits, Listen, Log, LogFormat, LogLevel,
    Login, Pool, PoolMode, Role, ServerTls, Tls,
};
pub use problem::{ConfigError, Position, Problem};
pub use secret::Secret;
pub use settings::{Kind, SETTINGS, Setting};
pub use show::Change;
pub use units::duration;

use crate::locate::Place;
use crate::node::Node;
use crate::reader::Reader;

/// The longest configuration file, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

impl Config {
    /// Reads a file, with the variables of the process's environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong with the file, or with the reason why it
    /// cannot be read. Nothing has changed; tell the operator.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = text_of(path).map_err(|problem| ConfigError::new(&file, vec![problem]))?;
        Self::parse(&file, &text, &|name| std::env::var(name).ok())
    }

    /// Reads the `text` of `file` with the variables of `env`. Files that the text names relatively
    /// are looked for beside `file`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong with the text.
    pub fn parse(
        file: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut node =
            Node::parse(text).map_err(|problem| ConfigError::new(file, vec![problem]))?;
        let mut reader = Reader::new(file, env);
        reader.expand(&mut node, &Place::root());
        match read::config(&mut reader, &node) {
            Some(config) if !reader.has_problems() => Ok(config),
            _ => Err(ConfigError::new(file, reader.into_problems(text))),
        }
    }
}

/// The text of a file.
fn text_of(path: &Path) -> Result<String, Problem> {
    let of_file = |message| Problem { position: None, path: String::new(), message };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| of_file(format!("found {error}, expected a file that can be read")))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(of_file("found more than 1 MiB, expected a configuration file".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (valid, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let valid = String::from_utf8_lossy(valid);
        let line = valid.matches('\n').count() + 1;
        let column = valid.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        let message = "found a byte that is not UTF-8, expected text in UTF-8".to_owned();
        Problem { position: Some(Position { line, column }), path: String::new(), message }
    })
}

#[cfg(test)]
mod tests;
