//! What may happen very often and is told now and then, with the number of those that were not told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one through, and the next not before a pause is over.
#[derive(Debug)]
pub struct Occasional {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When one was let through.
    told: Option<Instant>,
    /// How many there were since, which were not.
    since: u64,
}

impl Occasional {
    /// With a pause from one to the next.
    #[must_use]
    pub fn new(pause: Duration) -> Self {
        Self { pause, state: Mutex::default() }
    }

    /// If this one is to be told: how many there were since the last that was.
    #[must_use]
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_soon = |told: Instant| now.saturating_duration_since(told) < self.pause;
        if state.told.is_some_and(is_soon) {
            state.since += 1;
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.since))
    }

    /// The text of this one, if it is to be told, with the number of those that were not.
    #[must_use]
    pub fn text(&self, text: &str, now: Instant) -> Option<String> {
        Some(match self.admit(now)? {
            0 => text.to_owned(),
            more => format!("{text} (and {more} more before it)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "there is no other way to an instant")]
    fn one_in_a_pause_is_told_and_the_others_are_counted() {
        let (occasional, start) = (Occasional::new(Duration::from_secs(10)), Instant::now());
        let at = |quarter: u32| start + Duration::from_secs(1) / 4 * quarter;
        let told: Vec<_> = (0..100).filter_map(|quarter| occasional.admit(at(quarter))).collect();
        assert_eq!(told, [0, 39, 39]);
        let late = at(1000);
        assert_eq!(occasional.text("x", late).as_deref(), Some("x (and 19 more before it)"));
        assert_eq!(occasional.text("x", late), None);
    }
}
