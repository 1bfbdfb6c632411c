//! What is wrong with a configuration file, and how it is told.

use std::fmt;

/// A place in a text, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing wrong with a configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where it is; `None` where the text has no such place, a file that is missing for one.
    pub position: Option<Position>,
    /// The setting, such as `databases[1].role`; empty for the file as a whole.
    pub path: String,
    /// What was found, and what was expected.
    pub message: String,
}

/// Everything that is wrong with a configuration file, one line each, as compilers write it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// The file's name, for the reader.
    pub file: String,
    /// The problems, at least one, in the order of their positions.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// Sorts `problems` by position.
    pub(crate) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (a.position, &a.path).cmp(&(b.position, &b.path)));
        Self { file: file.to_owned(), problems }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { position, path, message }) in self.problems.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", self.file)?;
            if let Some(Position { line, column }) = position {
                write!(f, ":{line}:{column}")?;
            }
            if !path.is_empty() {
                write!(f, ": {path}")?;
            }
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}
