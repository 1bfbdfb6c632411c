//! What ties a connection to its server's being used.
//!
//! A server that is lost is given up *at once*: what runs on it is ended. One that the configuration
//! takes out, or that is no longer the master, is *left*: what runs may end and be answered, and then
//! nothing more is sent there.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio_util::sync::CancellationToken;

use super::Loss;
use crate::alarm::Alarm;

/// Stands until it falls, once and for a cause.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence {
    token: CancellationToken,
    cause: Rc<Cell<&'static str>>,
}

impl Fence {
    /// One that falls with this one, or before.
    pub(crate) fn inner(&self) -> Self {
        Self { token: self.token.child_token(), cause: Rc::default() }
    }

    /// Brings it down.
    pub(crate) fn fall(&self, cause: &'static str) {
        self.cause.set(cause);
        self.token.cancel();
    }

    fn is_down(&self) -> bool {
        self.token.is_cancelled()
    }

    fn loss(&self) -> Loss {
        Loss(self.cause.get().to_owned())
    }

    fn fallen(&self) -> Alarm {
        Alarm::new(&self.token)
    }
}

/// The fences of one connection.
#[derive(Debug)]
pub(crate) struct Tether {
    /// When it falls the server is given up at once.
    outer: Fence,
    /// When it falls the server is left. It is within the other.
    inner: Fence,
    /// Until the inner one falls, and from then on until the outer one does.
    waiting: Alarm,
    is_left: bool,
}

impl Tether {
    pub(crate) fn new(outer: Fence, inner: Fence) -> Self {
        let waiting = inner.fallen();
        Self { outer, inner, waiting, is_left: false }
    }

    /// Ready once the server is given up at once.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Loss> {
        loop {
            ready!(self.waiting.poll(cx));
            if self.outer.is_down() {
                return Poll::Ready(self.outer.loss());
            }
            self.is_left = true;
            self.waiting = self.outer.fallen();
        }
    }

    /// Ready once the server is given up, at once or not.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Loss> {
        match self.poll_cut(cx) {
            Poll::Pending if self.is_left => Poll::Ready(self.inner.loss()),
            cut => cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// What the tether says of being cut, and of being left.
    fn state(tether: &mut Tether) -> (String, String) {
        let mut cx = Context::from_waker(Waker::noop());
        let words = |poll| match poll {
            Poll::Pending => "-".to_owned(),
            Poll::Ready(Loss(cause)) => cause,
        };
        (words(tether.poll_cut(&mut cx)), words(tether.poll_left(&mut cx)))
    }

    fn pair(cut: &str, left: &str) -> (String, String) {
        (cut.to_owned(), left.to_owned())
    }

    #[test]
    fn a_server_is_left_or_cut() {
        let outer = Fence::default();
        let inner = outer.inner();
        let mut tether = Tether::new(outer.clone(), inner.clone());
        assert_eq!(state(&mut tether), pair("-", "-"));
        inner.fall("disabled");
        assert_eq!(state(&mut tether), pair("-", "disabled"));
        assert_eq!(state(&mut tether), pair("-", "disabled"), "and stays so");
        let mut late = Tether::new(outer.clone(), inner);
        outer.fall("dead");
        assert_eq!(state(&mut tether), pair("dead", "dead"), "cut after it was left");
        assert_eq!(state(&mut late), pair("dead", "dead"));
        let outer = Fence::default();
        let mut tether = Tether::new(outer.clone(), outer.inner());
        outer.fall("dead");
        assert_eq!(state(&mut tether), pair("dead", "dead"));
    }
}
