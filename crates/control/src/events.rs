//! The recent past, for people.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use policy::cluster::Change;

/// How many entries are kept.
const CAPACITY: usize = 500;

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When.
    pub at: SystemTime,
    /// Whether it is good or bad news.
    pub severity: Severity,
    /// What, in a sentence.
    pub text: String,
}

/// Whether something is good or bad news.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Something recovered, or was asked for.
    Info,
    /// Something degraded.
    Warn,
}

impl Severity {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
        }
    }

    /// Of a change of the cluster.
    pub(crate) fn of(change: &Change) -> Self {
        let good = match change {
            Change::Health { healthy, .. } => *healthy,
            Change::Identity { .. } => false,
            Change::Mode { mode, .. } => mode.is_read_write(),
        };
        if good { Self::Info } else { Self::Warn }
    }
}

/// The latest entries, shared between the actor and whoever shows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Arc<Mutex<VecDeque<Entry>>>);

impl Events {
    /// Logs an entry and keeps it; the oldest goes when there are too many.
    pub(crate) fn enter(&self, entry: Entry) {
        match entry.severity {
            Severity::Info => tracing::info!("{}", entry.text),
            Severity::Warn => tracing::warn!("{}", entry.text),
        }
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == CAPACITY {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// All that is kept, oldest first.
    pub(crate) fn all(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let events = Events::default();
        for number in 0..CAPACITY + 3 {
            let text = number.to_string();
            events.enter(Entry { at: SystemTime::UNIX_EPOCH, severity: Severity::Info, text });
        }
        let all = events.all();
        assert_eq!((all.len(), all[0].text.as_str()), (CAPACITY, "3"));
    }
}
