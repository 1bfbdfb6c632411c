//! Writes that wait before they are refused.
//!
//! With `hold_writes`, a write that finds its partition read-only for a reason that passes by itself
//! is kept for a while, unsent; while an operator holds writes back, each is kept for as long as the
//! order says. It is tried again when the cluster changes, and every [`AGAIN`] where the master could
//! not be reached though its checks have not noticed.

use std::task::Poll;
use std::time::{Duration, Instant};

use policy::mode::Reason;
use policy::route::{Decision, Refusal, Why};
use policy::view::Partition;
use sql::Kind;
use telemetry::HeldGuard;

use super::Session;
use super::statement::Request;
use crate::clock::now;
use crate::relay::Ahead;

/// How long after a failed attempt the master is tried again: what the attempts to one server share
/// of a failure is forgotten by then.
const AGAIN: Duration = Duration::from_millis(300);

/// A statement that waits, or did.
#[derive(Debug)]
pub(super) struct Kept {
    /// It is counted as long as it waits.
    counted: Option<HeldGuard>,
    /// Orders to kill what the session runs that had been carried out when it came.
    killed: u32,
}

impl Kept {
    /// It waits no longer: a server has it.
    pub(super) fn is_over(&mut self) {
        self.counted = None;
    }
}

/// What a wait came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waited {
    /// Something may have changed: it is worth another try.
    Again,
    /// It is to be refused. A client that leaves meanwhile, or has to, gets what it would have got.
    Over,
    /// Somebody killed it.
    Killed,
}

/// How long a write may wait for the cause of its refusal to pass: by the configuration where that
/// passes by itself, and by the order of the operator whom it waits for.
fn limit(refusal: Refusal, configured: Duration, ordered: Option<Duration>) -> Duration {
    match refusal {
        Refusal::ReadOnly(Reason::Unreachable | Reason::Severed | Reason::Misconfigured) => {
            configured
        }
        Refusal::ReadOnly(Reason::Paused) => ordered.unwrap_or_default(),
        Refusal::ReadOnly(Reason::Config | Reason::Masterless)
        | Refusal::TiedToReplica
        | Refusal::NoServer => Duration::ZERO,
    }
}

/// Whether a statement begins a transaction that may come to write. A replica would take it, and the
/// writes that follow could not leave that.
fn begins(request: &Request) -> bool {
    request.route_as == Kind::Begin && request.statement.class.because != sql::START_READ_ONLY
}

/// Whether a decision made of a read the beginning of a transaction that could have begun on the master.
fn begins_by_reading(request: &Request, session: &Session, reason: Reason) -> bool {
    let reads = matches!(request.route_as, Kind::Read | Kind::OwnRead);
    reason == Reason::Paused && reads && session.begins()
}

/// What a statement waits for: the refusal it would get, or the mode in which it would begin what it had
/// better begin on the master.
pub(super) fn waits_for(
    decision: &Decision,
    request: &Request,
    session: &Session,
) -> Option<Refusal> {
    match *decision {
        Decision::Refuse(refusal) => Some(refusal),
        Decision::Forward { why: Why::ReadOnly(reason), .. } => {
            let begins = begins(request) || begins_by_reading(request, session, reason);
            begins.then_some(Refusal::ReadOnly(reason))
        }
        Decision::Forward { .. } => None,
    }
}

impl Session {
    /// Lets a statement that would be refused wait; `kept` is what it was kept by so far.
    pub(super) async fn hold(
        &mut self,
        refusal: Refusal,
        partition: &Partition,
        kept: &mut Option<Kept>,
    ) -> Waited {
        let configured = self.worker.setup().settings.hold_writes;
        let limit = limit(refusal, configured, partition.hold);
        // What ties a session to a server that is lost is lost as well; to one whose writes are held
        // back it does not matter.
        let stays = self.is_tied() && refusal != Refusal::ReadOnly(Reason::Paused);
        if limit.is_zero() || stays {
            return Waited::Over;
        }
        let kept = kept.get_or_insert_with(|| Kept {
            counted: Some(self.worker.metrics.held()),
            killed: self.client.leash.carried_out(),
        });
        // An order that came meanwhile may say another time.
        let (until, killed) = (self.active + limit, kept.killed);
        if now() >= until || self.worker.drain.is_cancelled() {
            return Waited::Over;
        }
        // While sessions do not get through to the master, what they tell of it and what its checks
        // say contradict each other: every attempt changes the view, and would wake all others.
        let wake = match refusal {
            Refusal::ReadOnly(Reason::Unreachable) => (until.min(now() + AGAIN), false),
            _ => (until, true),
        };
        let leash = self.client.leash.clone();
        let waited = tokio::select! {
            again = self.wait_for_change(wake) => if again { Waited::Again } else { Waited::Over },
            () = leash.carried_out_since(killed) => Waited::Killed,
        };
        // Both may have happened.
        if leash.carried_out() == killed { waited } else { Waited::Killed }
    }

    /// Waits until the view changes, where that matters, at most until `wake`; false where there is no
    /// point any more.
    async fn wait_for_change(&mut self, (wake, by_view): (Instant, bool)) -> bool {
        let worker = std::rc::Rc::clone(&self.worker);
        let mut changed = std::pin::pin!(worker.changed());
        let mut timer = std::pin::pin!(tokio::time::sleep_until(wake.into()));
        let mut ahead = Ahead { input: &mut self.input, command_len: self.command_len };
        let (client, halt, drain) = (&mut self.client.stream, &mut self.halt, &mut self.drain);
        let mut watched = true;
        std::future::poll_fn(|cx| {
            if halt.poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            let moved = [
                by_view && changed.as_mut().poll(cx).is_ready(),
                timer.as_mut().poll(cx).is_ready(),
                drain.poll(cx).is_ready(),
            ];
            if moved.contains(&true) {
                return Poll::Ready(true);
            }
            while watched && ahead.has_room() {
                match ahead.poll_fill(client, cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) if ahead.has_commands(client) => watched = false,
                    Poll::Ready(_) => return Poll::Ready(false),
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for() {
        // By the configuration, by an operator's order, seconds.
        let table = [
            (Reason::Config, 0),
            (Reason::Paused, 9),
            (Reason::Masterless, 0),
            (Reason::Unreachable, 5),
            (Reason::Severed, 5),
            (Reason::Misconfigured, 5),
        ];
        let limit = |refusal| {
            limit(refusal, Duration::from_secs(5), Some(Duration::from_secs(9))).as_secs()
        };
        assert_eq!(table.len(), Reason::ALL.len());
        for (reason, seconds) in table {
            assert_eq!(limit(Refusal::ReadOnly(reason)), seconds, "{reason}");
        }
        assert_eq!((limit(Refusal::TiedToReplica), limit(Refusal::NoServer)), (0, 0));
    }
}
