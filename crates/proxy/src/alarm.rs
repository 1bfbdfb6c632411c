//! Waiting for what hardly ever happens, at the price of a look.
//!
//! A session looks at these with every statement, several times. To poll a future of tokio's each time
//! would register the same waker over and over, under a lock. Here that happens once for each task; from
//! then on the task is woken when it has happened, and until then a look is a look.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The task that is woken by something.
#[derive(Debug, Default)]
struct Woken(Option<Waker>);

impl Woken {
    /// Whether it is this task; it is from now on.
    fn is(&mut self, cx: &Context<'_>) -> bool {
        let is_it = self.0.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_it {
            self.0 = Some(cx.waker().clone());
        }
        is_it
    }
}

/// Goes off when a token is cancelled, and stays so.
#[derive(Debug)]
pub(crate) struct Alarm {
    token: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    woken: Woken,
}

impl Alarm {
    pub(crate) fn new(token: &CancellationToken) -> Self {
        let waiting = Box::pin(token.clone().cancelled_owned());
        Self { token: token.clone(), waiting, woken: Woken::default() }
    }

    /// Ready once it has gone off. Wakes the task that asked last.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.woken.is(cx) {
            true if self.token.is_cancelled() => Poll::Ready(()),
            true => Poll::Pending,
            // A future that has ended must not be polled again.
            false if self.token.is_cancelled() => Poll::Ready(()),
            false => self.waiting.as_mut().poll(cx),
        }
    }
}

/// Goes off at a time.
#[derive(Debug)]
pub(crate) struct Clock {
    sleep: Pin<Box<Sleep>>,
    woken: Woken,
}

impl Clock {
    pub(crate) fn new(sleep: Sleep) -> Self {
        Self { sleep: Box::pin(sleep), woken: Woken::default() }
    }

    /// Another time.
    pub(crate) fn reset(&mut self, at: Instant) {
        self.sleep.as_mut().reset(at.into());
        // It is registered anew with the next poll.
        self.woken = Woken::default();
    }

    pub(crate) fn is_set_to(&self, at: Instant) -> bool {
        self.sleep.deadline() == at.into()
    }

    /// Ready once it has gone off. Wakes the task that asked last.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.woken.is(cx) && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        let polled = self.sleep.as_mut().poll(cx);
        // A task that has done enough for now is told to come again, and nothing else is done for it.
        if polled.is_pending() && !tokio::task::coop::has_budget_remaining() {
            self.woken = Woken::default();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::clock::now;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_task_that_asked_last_is_woken() {
        let token = CancellationToken::new();
        let mut alarm = Alarm::new(&token);
        let (first, second) = (Arc::<Count>::default(), Arc::<Count>::default());
        for count in [&first, &first, &second, &second] {
            let waker = Waker::from(Arc::clone(count));
            assert!(alarm.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        token.cancel();
        let woken = |count: &Count| count.0.load(Ordering::Relaxed);
        assert_eq!((woken(&first), woken(&second)), (0, 1));
        for count in [&second, &first, &second] {
            let waker = Waker::from(Arc::clone(count));
            assert!(alarm.poll(&mut Context::from_waker(&waker)).is_ready());
        }
    }

    #[tokio::test]
    async fn a_clock_goes_off_when_it_was_set_to() {
        let mut clock = Clock::new(tokio::time::sleep(Duration::from_secs(3600)));
        let look = |clock: &mut Clock| {
            let mut cx = Context::from_waker(Waker::noop());
            (clock.poll(&mut cx).is_ready(), clock.poll(&mut cx).is_ready())
        };
        assert_eq!(look(&mut clock), (false, false));
        let soon = now() + Duration::from_millis(5);
        clock.reset(soon);
        assert!(clock.is_set_to(soon));
        std::future::poll_fn(|cx| clock.poll(cx)).await;
        // It has gone off until it is set again.
        assert_eq!(look(&mut clock), (true, true));
        clock.reset(now() + Duration::from_secs(3600));
        assert_eq!(look(&mut clock), (false, false));
    }
}
