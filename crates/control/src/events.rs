//! The recent past, for people.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use policy::cluster::Change;
use telemetry::Occasional;
use telemetry::log::one_line;
use tokio::sync::watch;

/// How many entries are kept.
const CAPACITY: usize = 500;

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// One more than that of the entry before; 1 for the first since the start.
    pub number: u64,
    /// Whose doing it was.
    pub origin: Origin,
    /// When.
    pub at: SystemTime,
    /// Whether it is good or bad news.
    pub severity: Severity,
    /// What, in a sentence.
    pub text: String,
}

/// Whose doing something was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The servers', or failsoft's own.
    Cluster,
    /// An operator's: an order, carried out or refused.
    Operator,
}

impl Origin {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Operator => "operator",
        }
    }
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
#[derive(Clone, Debug)]
pub(crate) struct Events(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    entries: Mutex<VecDeque<Entry>>,
    /// The number of the latest.
    latest: watch::Sender<u64>,
    /// Orders that were refused for want of the token.
    refusals: Occasional,
}

/// From one refusal that is entered to the next.
const REFUSAL_PAUSE: Duration = Duration::from_secs(10);

impl Default for Events {
    fn default() -> Self {
        let (latest, _) = watch::channel(0);
        Self(Arc::new(Kept {
            entries: Mutex::default(),
            latest,
            refusals: Occasional::new(REFUSAL_PAUSE),
        }))
    }
}

impl Events {
    /// Logs an entry and keeps it; the oldest goes when there are too many.
    pub(crate) fn enter(&self, severity: Severity, origin: Origin, text: &str) {
        let text = one_line(text);
        match severity {
            Severity::Info => tracing::info!("{text}"),
            Severity::Warn => tracing::warn!("{text}"),
        }
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == CAPACITY {
            entries.pop_front();
        }
        let number = *self.0.latest.borrow() + 1;
        entries.push_back(Entry { number, origin, at: SystemTime::now(), severity, text });
        self.0.latest.send_replace(number);
    }

    /// Enters that somebody was refused an order: one in [`REFUSAL_PAUSE`] at most, so that nobody without the
    /// token pushes out what happened.
    pub(crate) fn enter_refusal(&self, text: &str, now: Instant) {
        if let Some(text) = self.0.refusals.text(text, now) {
            self.enter(Severity::Warn, Origin::Operator, &text);
        }
    }

    /// All that is kept, oldest first.
    pub(crate) fn all(&self) -> Vec<Entry> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The number of the latest, and notice of the next.
    pub(crate) fn latest(&self) -> watch::Receiver<u64> {
        self.0.latest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let events = Events::default();
        for number in 1..=CAPACITY + 3 {
            events.enter(Severity::Info, Origin::Cluster, &number.to_string());
        }
        let all = events.all();
        assert_eq!((all.len(), all[0].text.as_str(), all[0].number), (CAPACITY, "4", 4));
        assert_eq!(*events.latest().borrow(), 503);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "there is no other way to an instant")]
    fn refusals_do_not_push_out_what_happened() {
        let (events, start) = (Events::default(), Instant::now());
        for second in 0..100 {
            events.enter_refusal("refused", start + Duration::from_secs(second) / 4);
        }
        let texts: Vec<_> = events.all().into_iter().map(|entry| entry.text).collect();
        let more = "refused (and 39 more before it)";
        assert_eq!(texts, ["refused", more, more]);
    }
}
