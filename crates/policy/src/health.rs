//! The health of one server.
//!
//! ```text
//!              first check answered            threshold answers in a row
//!   Unchecked ──────────────────────▶ Healthy ◀──────────────────────────┐
//!       │                                │                               │
//!       │ first check failed             └──────────────────────────▶ Unhealthy
//!       └──────────────────────────────────────────────────────────────▶ │
//!                                          threshold failures in a row
//! ```
//!
//! One slow check removes nobody, and one lucky check brings nobody back: that is the thresholds'
//! meaning in Phabricator, whose numbers (5 checks, 3 seconds) are the defaults.

use std::num::NonZeroU8;
use std::time::SystemTime;

/// When a server's health flips.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HealthParams {
    /// Results in a row that disagree with the state and flip it.
    pub threshold: NonZeroU8,
}

/// How one check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The server answered in time.
    Answered,
    /// It did not, refused, or did not accept the login.
    Failed,
}

/// How many outcomes the console shows; Phabricator shows five.
pub const HISTORY: usize = 5;

/// Whether a server may get traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// No check has ended yet.
    Unchecked,
    /// It may.
    Healthy,
    /// It gets checks and nothing else.
    Unhealthy,
}

/// A server's health, with what leads to its next change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Health {
    state: State,
    /// Results in a row, up to now, that disagree with `state`.
    against: u8,
    /// Failed checks in a row.
    failed_in_a_row: u32,
    /// When the first of the failures in a row ended.
    failing_since: Option<SystemTime>,
    /// The latest outcomes, the latest in the lowest bit; a set bit is an answer.
    history: u8,
    /// How many bits of `history` are in use.
    known: u8,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Unchecked,
            against: 0,
            failed_in_a_row: 0,
            failing_since: None,
            history: 0,
            known: 0,
        }
    }
}

impl Health {
    /// The health after one more check that ended at `now`.
    #[must_use]
    pub fn after(mut self, outcome: Outcome, now: SystemTime, params: HealthParams) -> Self {
        let answered = outcome == Outcome::Answered;
        self.history = self.history << 1 | u8::from(answered);
        self.known = self.known.saturating_add(1).min(u8::try_from(HISTORY).unwrap_or(u8::MAX));
        if answered {
            self.failed_in_a_row = 0;
            self.failing_since = None;
        } else {
            self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
            self.failing_since = self.failing_since.or(Some(now));
        }
        let meant = if answered { State::Healthy } else { State::Unhealthy };
        if self.state == meant {
            self.against = 0;
        } else {
            self.against = self.against.saturating_add(1);
            if self.state == State::Unchecked || self.against >= params.threshold.get() {
                self.state = meant;
                self.against = 0;
            }
        }
        self
    }

    /// Whether the server may get traffic.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the server may get traffic. One that was never checked may not.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.state == State::Healthy
    }

    /// Failed checks in a row, up to now.
    #[must_use]
    pub fn failed_in_a_row(&self) -> u32 {
        self.failed_in_a_row
    }

    /// When the first of the failures in a row was seen.
    #[must_use]
    pub fn failing_since(&self) -> Option<SystemTime> {
        self.failing_since
    }

    /// The latest outcomes, oldest first, at most [`HISTORY`].
    pub fn history(&self) -> impl Iterator<Item = Outcome> + use<> {
        let bits = self.history;
        (0..self.known)
            .rev()
            .map(move |at| if bits >> at & 1 == 1 { Outcome::Answered } else { Outcome::Failed })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Plays `checks` (`+` answered, `-` failed) and returns the state after each as `U` or `d`.
    fn play(checks: &str, threshold: u8) -> String {
        let params = HealthParams { threshold: NonZeroU8::new(threshold).unwrap() };
        let mut health = Health::default();
        checks
            .chars()
            .map(|check| {
                let outcome = if check == '+' { Outcome::Answered } else { Outcome::Failed };
                health = health.after(outcome, UNIX_EPOCH, params);
                if health.is_healthy() { 'U' } else { 'd' }
            })
            .collect()
    }

    #[test]
    fn flips() {
        // threshold, what the checks say, what we make of it
        let table = [
            (5, "+", "U"),
            (5, "-", "d"),
            (1, "+-+", "UdU"),
            (3, "+--+--", "UUUUUU"),
            (3, "+---", "UUUd"),
            (3, "+---++-+++", "UUUddddddU"),
            (5, "-++++", "ddddd"),
            (5, "-+++++", "dddddU"),
            (5, "+----+----", "UUUUUUUUUU"),
            (5, "+-----", "UUUUUd"),
        ];
        for (threshold, checks, expected) in table {
            assert_eq!(play(checks, threshold), expected, "threshold {threshold}: {checks}");
        }
    }

    #[test]
    fn history_shows_the_latest_five() {
        let params = HealthParams { threshold: NonZeroU8::new(5).unwrap() };
        let mut health = Health::default();
        for outcome in "++--+-+".chars() {
            let outcome = if outcome == '+' { Outcome::Answered } else { Outcome::Failed };
            health = health.after(outcome, UNIX_EPOCH, params);
        }
        let seen: String = health
            .history()
            .map(|outcome| if outcome == Outcome::Answered { '+' } else { '-' })
            .collect();
        assert_eq!(seen, "--+-+");
    }
}
