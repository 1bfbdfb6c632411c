//! The memory that long packets of clients take together.
//!
//! A packet is held until it is whole, since it has to be read before it is known where it goes. One
//! may be as long as `limits.packet`; what all take is bounded here, so that many clients with long
//! packets are refused one by one, and not all clients ended by the kernel at once. Short packets are
//! not counted: nothing that is shared between cores is touched for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are taken.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicUsize);

/// What one session has of it; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    /// Nothing of a budget yet.
    pub(crate) fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), held: 0 }
    }

    /// Takes so many bytes in all; false, with nothing changed, where all sessions would have more
    /// than `limit` then.
    pub(crate) fn hold(&mut self, bytes: usize, limit: usize) -> bool {
        let more = bytes.saturating_sub(self.held);
        if more == 0 {
            return true;
        }
        let take = |taken: usize| taken.checked_add(more).filter(|taken| *taken <= limit);
        let taken = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.held = bytes;
        }
        taken
    }

    /// Whether it has anything.
    pub(crate) const fn is_held(&self) -> bool {
        self.held > 0
    }

    /// Gives all of it back.
    pub(crate) fn give_back(&mut self) {
        self.budget.0.fetch_sub(std::mem::take(&mut self.held), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_share_what_there_is() {
        let budget = Arc::default();
        let (mut one, mut other) = (Share::of(&budget), Share::of(&budget));
        assert!(one.hold(60, 100) && other.hold(40, 100));
        assert!(one.hold(50, 100), "what it has already");
        assert!(!one.hold(61, 100), "one too many");
        one.give_back();
        assert!(other.hold(100, 100) && !one.hold(1, 100));
        drop(other);
        assert!(one.hold(100, 100));
        drop(one);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
