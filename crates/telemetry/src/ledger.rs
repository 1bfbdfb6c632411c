//! The outcome ledger: the writes of which nobody knows what became of them.
//!
//! It is kept in memory, the latest first to be looked for and the oldest first to go; in a file, where
//! there is one, to which a line is added for each; and each is in the log.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many entries are kept: some hundred bytes each. More in a process's life means that a server
/// was lost under load many times.
const CAPACITY: usize = 2000;

/// The most of a file that is read at the start, from its end.
const TAIL: u64 = 4 << 20;

/// A write that was sent and not answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct UnknownOutcome {
    /// When the connection broke, in UTC as RFC 3339 has it.
    pub at: String,
    /// What the client was told to refer to.
    pub reference: String,
    /// Where the client is.
    pub client: String,
    /// The account that it logged in as.
    pub user: String,
    /// Its current schema; empty for none.
    pub schema: String,
    /// The statement without its values.
    pub digest: String,
    /// The server that it was sent to, with its role.
    pub server: String,
    /// The server's id of the connection, as in its binary log.
    #[schema(value_type = i64, minimum = 0)]
    pub connection: u32,
    /// How the connection broke.
    pub cause: String,
    /// The GTIDs that the server had executed when it was checked last: what came of the write is
    /// behind them in its binary log. Empty where they are not known.
    pub gtids: String,
}

/// The latest unknown outcomes, shared between all who enter them and who show them.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: Mutex<VecDeque<UnknownOutcome>>,
    /// How many were entered since the start.
    entered: AtomicU64,
    file: OnceLock<PathBuf>,
}

impl Kept {
    fn entries(&self) -> MutexGuard<'_, VecDeque<UnknownOutcome>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, outcome: UnknownOutcome) {
        let mut entries = self.entries();
        if entries.len() == CAPACITY {
            entries.pop_front();
        }
        entries.push_back(outcome);
    }
}

impl Ledger {
    /// Keeps entries in a file from now on, and has those that are in it already. Once only.
    ///
    /// # Errors
    /// The file cannot be read, or not be written to.
    pub fn keep_in(&self, path: &Path) -> io::Result<()> {
        append(path, b"")?;
        let text = tail(path)?;
        // One that was cut off must not swallow the next.
        if !text.is_empty() && !text.ends_with('\n') {
            append(path, b"\n")?;
        }
        let mut strange = 0;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(outcome) => self.0.add(outcome),
                Err(_) => strange += 1,
            }
        }
        if strange > 0 {
            tracing::warn!("{strange} lines of the ledger in {} are left out", path.display());
        }
        self.0.file.get_or_init(|| path.to_owned());
        Ok(())
    }

    /// Keeps an outcome, and puts it into the log.
    ///
    /// The file is written by whoever calls: a session that has just lost its server, and a line that
    /// the kernel has by then outlives failsoft's being killed in the next moment.
    pub fn enter(&self, outcome: UnknownOutcome) {
        tracing::warn!(
            reference = outcome.reference,
            statement = outcome.digest,
            server = outcome.server,
            connection = outcome.connection,
            user = outcome.user,
            client = outcome.client,
            schema = outcome.schema,
            gtids = outcome.gtids,
            cause = outcome.cause,
            "outcome unknown: the connection broke before the answer"
        );
        if let Some(file) = self.0.file.get()
            && let Err(error) = write(file, &outcome)
        {
            tracing::error!("the ledger in {} cannot be written: {error}", file.display());
        }
        self.0.add(outcome);
        self.0.entered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were entered since the start.
    #[must_use]
    pub fn entered(&self) -> u64 {
        self.0.entered.load(Ordering::Relaxed)
    }

    /// All that is kept, the latest first.
    #[must_use]
    pub fn all(&self) -> Vec<UnknownOutcome> {
        self.latest(CAPACITY)
    }

    /// The latest of it, `most` at most, the latest first.
    #[must_use]
    pub fn latest(&self, most: usize) -> Vec<UnknownOutcome> {
        self.0.entries().iter().rev().take(most).cloned().collect()
    }
}

fn write(file: &Path, outcome: &UnknownOutcome) -> io::Result<()> {
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    append(file, &line)
}

/// Adds to a file, which is made where there is none. It is opened each time, so that it may be moved
/// away, and written to at once, so that lines of two processes do not mix.
fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    // Statements without their values and names of accounts are nobody else's business.
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(line)
}

/// The last lines of a file, as many as are of interest.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let begin = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // Where it does not begin with the file it begins within a line.
    Ok(match text.split_once('\n') {
        Some((_, rest)) if begin > 0 => rest.to_owned(),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(reference: &str) -> UnknownOutcome {
        UnknownOutcome {
            at: "2026-11-22T10:00:00Z".to_owned(),
            reference: reference.to_owned(),
            client: "10.0.0.7".to_owned(),
            user: "app".to_owned(),
            schema: "shop".to_owned(),
            digest: "INSERT INTO t VALUES (?)".to_owned(),
            server: "master db1:3306".to_owned(),
            connection: 7,
            cause: "connection reset".to_owned(),
            gtids: String::new(),
        }
    }

    #[test]
    fn the_latest_are_kept_and_come_first() {
        let ledger = Ledger::default();
        let other = ledger.clone();
        for number in 0..CAPACITY + 2 {
            ledger.enter(outcome(&number.to_string()));
        }
        let all = other.all();
        let of = |at: usize| all[at].reference.parse::<usize>().unwrap();
        assert_eq!(other.latest(3), all[..3]);
        assert_eq!((all.len(), of(0), of(CAPACITY - 1)), (CAPACITY, CAPACITY + 1, 2));
    }

    #[test]
    fn a_file_outlives_the_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::default();
        ledger.keep_in(&path).unwrap();
        ledger.enter(outcome("1"));
        // It is moved away, and made anew.
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        ledger.enter(outcome("2"));
        ledger.enter(outcome("3"));
        assert_eq!(ledger.all().len(), 3);
        // The last one was cut off.
        append(&path, b"\n{\"reference\":").unwrap();
        let next = Ledger::default();
        next.keep_in(&path).unwrap();
        assert_eq!(next.all(), [outcome("3"), outcome("2")]);
        next.enter(outcome("4"));
        let last = Ledger::default();
        last.keep_in(&path).unwrap();
        assert_eq!(last.all(), [outcome("4"), outcome("3"), outcome("2")]);
        assert!(Ledger::default().keep_in(&folder.path().join("no/where")).is_err());
    }

    #[test]
    fn the_end_of_a_long_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let line = |number: usize| {
            let mut line = serde_json::to_vec(&outcome(&number.to_string())).unwrap();
            line.push(b'\n');
            line
        };
        let lines: Vec<u8> = (0..30_000).flat_map(line).collect();
        std::fs::write(&path, &lines).unwrap();
        assert!(lines.len() as u64 > TAIL);
        let ledger = Ledger::default();
        ledger.keep_in(&path).unwrap();
        assert_eq!(ledger.all().len(), CAPACITY);
        assert_eq!(ledger.latest(1), [outcome("29999")]);
    }
}
