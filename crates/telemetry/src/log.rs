//! Sets up logging by `tracing`, to standard error.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

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

/// Changes what is logged.
#[derive(Clone)]
pub struct Level(Arc<dyn Fn(EnvFilter) + Send + Sync>);

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Level").finish_non_exhaustive()
    }
}

impl Level {
    /// Logs all events of `level` and above from now on.
    ///
    /// # Errors
    /// The level is not one.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        (self.0)(filter(level)?);
        Ok(())
    }
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(level).map_err(|_| LogError::Level { level: level.to_owned() })
}

/// The longest text of [`one_line`], in letters: errors of servers are shorter.
const LONGEST: usize = 2000;

/// A text in one line, and of a reasonable length: part of it may be what somebody sent.
#[must_use]
pub fn one_line(text: &str) -> String {
    let letters = text.chars().take(LONGEST);
    letters.map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Sends all events of `level` and above to standard error. A level may be given per target as
/// well: `info,control=debug`.
///
/// # Errors
/// The level is not one, or logging is set up already.
pub fn init(format: Format, level: &str) -> Result<Level, LogError> {
    let filter = filter(level)?;
    let terminal = stderr().is_terminal();
    let human = match format {
        Format::Auto => terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let (done, level): (_, Arc<dyn Fn(EnvFilter) + Send + Sync>) = if human {
        let builder = builder.with_ansi(terminal).with_target(false).with_filter_reloading();
        let handle = builder.reload_handle();
        // It is there as long as the process is.
        (builder.try_init(), Arc::new(move |filter| drop(handle.reload(filter))))
    } else {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Arc::new(move |filter| drop(handle.reload(filter))))
    };
    done.map_err(|_| LogError::SetUpAlready)?;
    Ok(Level(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_sent_is_one_line() {
        let text = one_line(&format!("a\x1b[2J\nb{}", "c".repeat(9000)));
        assert!(text.starts_with("a [2J bcc") && text.len() == LONGEST, "{}", text.len());
    }

    #[test]
    fn a_wrong_level_is_refused_before_anything_is_set_up() {
        let error = init(Format::Auto, "info,control=verbose").unwrap_err();
        assert!(error.to_string().contains("verbose"), "{error}");
    }
}
