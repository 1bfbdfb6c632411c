//! Attempts to reach a server, shared between sessions.
//!
//! While a server answers, every session connects for itself. Once an attempt failed, attempts are
//! made one at a time, the others wait for its result, and a failure is remembered for a moment: so
//! a server that drops packets costs a storm of sessions one timeout, not one each.
//!
//! And however many want to connect, only so many do at a time: a storm of logins would else take so
//! long for each that all of them time out.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::ConnectError;

/// How long a failure answers for the server.
pub(crate) const REMEMBERED: Duration = Duration::from_millis(250);

/// How many logins to one server a core has under way.
const AT_A_TIME: usize = 8;

/// The attempts to reach one server, on one core.
#[derive(Debug)]
pub(crate) struct Gate {
    state: RefCell<State>,
    logins: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: RefCell::default(), logins: Semaphore::new(AT_A_TIME) }
    }
}

#[derive(Debug, Default)]
enum State {
    /// The last attempt got through, or there was none.
    #[default]
    Open,
    /// The last attempt failed.
    Failed { until: Instant, error: Rc<ConnectError> },
    /// Somebody tries; the rest wait for the sender to go.
    Trying(watch::Receiver<()>),
}

/// What a session is to do.
pub(crate) enum Entry {
    /// Connect, and say how it went.
    Try(Attempt),
    /// Wait for somebody else's attempt, then ask again.
    Wait(watch::Receiver<()>),
    /// It would fail.
    Fail(Rc<ConnectError>),
}

/// An attempt under way. Dropping it lets the next one try.
pub(crate) struct Attempt {
    /// Only an attempt after a failure keeps others waiting.
    _waited_for: Option<watch::Sender<()>>,
}

impl Gate {
    /// Asks what to do at `now`.
    pub(crate) fn enter(&self, now: Instant) -> Entry {
        let mut state = self.state.borrow_mut();
        match &*state {
            State::Open => Entry::Try(Attempt { _waited_for: None }),
            State::Failed { until, error } if now < *until => Entry::Fail(Rc::clone(error)),
            State::Trying(receiver) if receiver.has_changed().is_ok() => {
                Entry::Wait(receiver.clone())
            }
            State::Failed { .. } | State::Trying(_) => {
                let (sender, receiver) = watch::channel(());
                *state = State::Trying(receiver);
                Entry::Try(Attempt { _waited_for: Some(sender) })
            }
        }
    }

    /// Waits for a turn to log in, which lasts until the result is dropped; whether there was a
    /// queue.
    pub(crate) async fn turn(&self) -> (Option<SemaphorePermit<'_>>, bool) {
        match self.logins.try_acquire() {
            Ok(permit) => (Some(permit), false),
            // The semaphore is never closed.
            Err(_) => (self.logins.acquire().await.ok(), true),
        }
    }

    /// An attempt got through.
    pub(crate) fn reached(&self, _attempt: Attempt) {
        *self.state.borrow_mut() = State::Open;
    }

    /// An attempt failed at `now`.
    pub(crate) fn failed(&self, _attempt: Attempt, error: Rc<ConnectError>, now: Instant) {
        *self.state.borrow_mut() = State::Failed { until: now + REMEMBERED, error };
    }

    /// The server is believed to be well again: forget the failure.
    pub(crate) fn forget(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Failed { .. }) {
            *state = State::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    fn error() -> Rc<ConnectError> {
        Rc::new(ConnectError::TimedOut(Duration::from_secs(1)))
    }

    fn attempt(gate: &Gate, at: Instant) -> Attempt {
        match gate.enter(at) {
            Entry::Try(attempt) => attempt,
            Entry::Wait(_) => panic!("made to wait"),
            Entry::Fail(_) => panic!("failed"),
        }
    }

    #[test]
    fn while_it_answers_nobody_waits() {
        let (gate, start) = (Gate::default(), now());
        let first = attempt(&gate, start);
        let second = attempt(&gate, start);
        gate.reached(first);
        gate.reached(second);
        attempt(&gate, start);
    }

    #[test]
    fn a_failure_is_remembered_then_one_tries_and_the_rest_wait() {
        let (gate, start) = (Gate::default(), now());
        gate.failed(attempt(&gate, start), error(), start);
        assert!(matches!(gate.enter(start + REMEMBERED / 2), Entry::Fail(_)));
        let second = attempt(&gate, start + REMEMBERED);
        assert!(matches!(gate.enter(start + REMEMBERED), Entry::Wait(_)));
        gate.reached(second);
        attempt(&gate, start + REMEMBERED);
    }

    #[test]
    fn an_attempt_that_was_given_up_blocks_nobody() {
        let (gate, start) = (Gate::default(), now());
        gate.failed(attempt(&gate, start), error(), start);
        drop(attempt(&gate, start + REMEMBERED));
        attempt(&gate, start + REMEMBERED);
    }
}
