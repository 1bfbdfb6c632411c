//! Panics: each ends the task that it happens in and nothing else, and none goes unseen.

use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntCounter;

/// What is known of the panics of this process.
#[derive(Clone, Debug)]
pub struct Panics {
    count: IntCounter,
    /// Where the last one was.
    last: Arc<Mutex<Option<String>>>,
}

impl Panics {
    pub(crate) fn new(count: IntCounter) -> Self {
        Self { count, last: Arc::default() }
    }

    /// Counts and logs every panic of the process from now on.
    pub fn watch(&self) {
        let panics = self.clone();
        std::panic::set_hook(Box::new(move |info| panics.enter(info)));
    }

    /// Counts a panic. Its message may have been made from what a peer sent, so it goes to the log
    /// only.
    fn enter(&self, info: &PanicHookInfo<'_>) {
        let location = info.location().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
        let payload = info.payload();
        let said = payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let said = said.unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        tracing::error!(location, thread, "a task ended by a panic, which is a bug: {said:?}");
        self.count.inc();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(location);
    }

    /// How many there were and where the last one was, in words; none while there was none.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let count = self.count.get();
        Some(format!("tasks that ended by a panic: {count}, the last at {last}; please report it"))
    }
}

#[cfg(test)]
mod tests {
    use crate::Metrics;

    #[test]
    fn a_panic_ends_its_thread_and_is_counted() {
        let metrics = Metrics::new().unwrap();
        let before = std::panic::take_hook();
        metrics.panics().watch();
        assert_eq!(metrics.panics().words(), None);
        let ended = std::thread::spawn(|| panic!("of {}", "formatted text")).join();
        std::panic::set_hook(before);
        assert!(ended.is_err());
        let words = metrics.panics().words().unwrap();
        assert!(words.starts_with("tasks that ended by a panic: 1, the last at "), "{words}");
        assert!(words.contains("panics.rs:") && !words.contains("formatted"), "{words}");
        assert!(metrics.render().contains("failsoft_panics_total 1"));
    }
}
