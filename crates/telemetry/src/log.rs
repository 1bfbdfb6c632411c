//! Sets up logging by `tracing`, to standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// [`Format::Human`] on a terminal, [`Format::Json`] otherwise.
    #[default]
    Auto,
    /// One readable line per event.
    Human,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not one.
    #[error("log level {level:?} is not known, expected error, warn, info, debug or trace")]
    Level {
        /// What was given.
        level: String,
    },
    /// Something in this process logs already.
    #[error("logging is set up already")]
    SetUpAlready,
}

/// Sends all events of `level` and above to standard error. A level may be given per target as
/// well: `info,control=debug`.
///
/// # Errors
/// The level is not one, or logging is set up already.
pub fn init(format: Format, level: &str) -> Result<(), LogError> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|_| LogError::Level { level: level.to_owned() })?;
    let terminal = stderr().is_terminal();
    let human = match format {
        Format::Auto => terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let done = if human {
        builder.with_ansi(terminal).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    done.map_err(|_| LogError::SetUpAlready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_level_is_refused_before_anything_is_set_up() {
        let error = init(Format::Auto, "info,control=verbose").unwrap_err();
        assert!(error.to_string().contains("verbose"), "{error}");
    }
}
