//! The tasks that check the servers, one for each.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use policy::observation::{CheckFailure, Observation};
use policy::topology::{ServerId, ServerName};
use policy::view::View;
use telemetry::Metrics;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::probe::Probe;
use crate::settings::ProbeTarget;

/// The end of one check.
pub(crate) struct Checked {
    pub(crate) server: ServerId,
    /// Of which watcher it is: one that was replaced has nothing to say any more.
    pub(crate) watcher: u64,
    pub(crate) result: Result<Observation, CheckFailure>,
}

/// How a server is watched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Manner {
    pub(crate) target: ProbeTarget,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// A watcher, as the actor holds it. Dropping it ends the watcher.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) watcher: u64,
    pub(crate) manner: Manner,
    pub(crate) nudge: Arc<Notify>,
    stop: CancellationToken,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What every watcher needs.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) results: mpsc::Sender<Checked>,
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled when all of them are to end.
    pub(crate) stop: CancellationToken,
}

/// A watcher that is to run, and what the actor keeps of it.
pub(crate) fn watcher(
    means: &Means,
    server: (ServerId, ServerName),
    watcher: u64,
    manner: Manner,
) -> (impl Future<Output = ()> + use<>, Watched) {
    let stop = means.stop.child_token();
    let nudge = Arc::new(Notify::new());
    let (server, name) = server;
    let task = Watcher {
        server,
        name,
        watcher,
        probe: Arc::new(Probe::new(manner.target.clone(), manner.timeout)),
        interval: manner.interval,
        nudge: Arc::clone(&nudge),
        means: means.clone(),
    };
    let running = stop.clone().run_until_cancelled_owned(task.run());
    let running = async move {
        let _ended = running.await;
    };
    (running, Watched { watcher, manner, nudge, stop })
}

/// Checks one server again and again, one check at a time.
struct Watcher {
    server: ServerId,
    name: ServerName,
    watcher: u64,
    probe: Arc<Probe>,
    interval: Duration,
    nudge: Arc<Notify>,
    means: Means,
}

impl Watcher {
    async fn run(mut self) {
        let mut jitter = Jitter::new();
        loop {
            let server = self.server;
            let enabled = |view: &Arc<View>| view.server(server).is_some_and(|s| s.enabled);
            // A server that is disabled is left alone until it is enabled.
            if self.means.views.wait_for(enabled).await.is_err() {
                return;
            }
            let start = Instant::now();
            let result = self.check().await;
            self.means.metrics.check(&self.name, start.elapsed());
            let checked = Checked { server, watcher: self.watcher, result };
            if self.means.results.send(checked).await.is_err() {
                return;
            }
            let next = start + jitter.apply(self.interval);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.nudge.notified() => {}
            }
        }
    }
}

impl Watcher {
    /// A task of its own: a server that makes the client library panic fails its check, and goes on
    /// being checked.
    async fn check(&self) -> Result<Observation, CheckFailure> {
        let probe = Arc::clone(&self.probe);
        tokio::spawn(async move { probe.check().await }).await.unwrap_or_else(|error| {
            tracing::error!("a health check did not end as it should: {error}");
            let text = "the server's answer broke the health check".to_owned();
            Err(CheckFailure { text, is_login: false })
        })
    }
}

/// Spreads the checks of many failsofts over time.
struct Jitter(u64);

impl Jitter {
    fn new() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    /// The interval, by at most a tenth longer or shorter.
    fn apply(&mut self, interval: Duration) -> Duration {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let per_mille = 900 + u32::try_from(self.0 % 201).unwrap_or(100);
        interval * per_mille / 1000
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth_and_varies() {
        let mut jitter = Jitter::new();
        let second = Duration::from_secs(1);
        let all: BTreeSet<_> = (0..200).map(|_| jitter.apply(second)).collect();
        assert!(all.len() > 20);
        assert!(all.iter().all(|each| (900..=1100).contains(&each.as_millis())));
    }
}
