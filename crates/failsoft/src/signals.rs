//! The signals that mean something.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that mean something.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Signalled {
    Stop,
    Reload,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) -> Signalled {
        tokio::select! {
            () = stop(&mut self.terminate, &mut self.interrupt) => Signalled::Stop,
            _ = self.hang_up.recv() => Signalled::Reload,
        }
    }

    /// Waits for the order to stop. One to reload waits.
    pub(crate) async fn stop(&mut self) {
        stop(&mut self.terminate, &mut self.interrupt).await;
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
