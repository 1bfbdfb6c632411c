//! What operators order, by whichever way: HTTP or the MySQL protocol.
//!
//! Every order that is carried out, and every one that is refused for want of the token, is an event
//! that says who gave it: together they are the audit log.

use control::{Order, OrderError, Severity};
use tokio::sync::oneshot;

use crate::api::{Refused, Reloaded, SessionRow};
use crate::plane::{Ask, Reload};
use crate::web::{Console, Phase};

/// Why an order was not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) refused: Refused,
}

/// What kind of reason that is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RefusalKind {
    /// What it is about is not there.
    NotFound,
    /// The configuration says otherwise.
    Conflict,
    /// The configuration on disk is not good.
    Invalid,
    /// failsoft starts, or is about to end.
    Unavailable,
}

impl Refusal {
    fn new(kind: RefusalKind, error: impl Into<String>) -> Self {
        Self { kind, refused: Refused { error: error.into(), problems: Vec::new() } }
    }

    fn ending() -> Self {
        Self::new(RefusalKind::Unavailable, "failsoft starts, or is about to end")
    }
}

impl From<OrderError> for Refusal {
    fn from(error: OrderError) -> Self {
        let kind = match error {
            OrderError::UnknownServer { .. } | OrderError::UnknownPartition { .. } => {
                RefusalKind::NotFound
            }
            OrderError::InConfiguration(_) => RefusalKind::Conflict,
            OrderError::Stopped => RefusalKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl Console {
    /// Carries out an order that concerns the cluster; all sessions go by it when this returns.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub(crate) async fn order(&self, order: Order, by: &str) -> Result<(), Refusal> {
        let done = self.control.order(order, by).await.map_err(Refusal::from);
        self.note_failure(by, &done);
        done?;
        self.settle().await;
        Ok(())
    }

    /// Has the configuration read again.
    ///
    /// # Errors
    /// [`Refusal`], with what is wrong with the file; then nothing has changed.
    pub(crate) async fn reload(&self, by: &str) -> Result<Reloaded, Refusal> {
        if *self.phase.borrow() != Phase::Serving {
            return Err(Refusal::ending());
        }
        let (answer, answered) = oneshot::channel();
        let asked = self.reloads.send(Reload { by: by.to_owned(), answer }).await;
        match (asked, answered.await) {
            (Ok(()), Ok(Ok(reloaded))) => Ok(reloaded),
            (Ok(()), Ok(Err(problems))) => {
                let error = "the configuration on disk is invalid; nothing was changed".to_owned();
                let refused = Refused { error, problems };
                Err(Refusal { kind: RefusalKind::Invalid, refused })
            }
            _ => Err(Refusal::ending()),
        }
    }

    /// Has a session end, as a `KILL` would.
    ///
    /// # Errors
    /// There is no such session.
    pub(crate) async fn end_session(&self, id: u32, by: &str) -> Result<(), Refusal> {
        let (console, by) = (self.clone(), by.to_owned());
        // Apart: whoever asked may hang up, and the session ends all the same.
        let ending = tokio::spawn(async move {
            let ended = match console.ask(|answer| Ask::EndSession(id, answer)).await {
                None => Err(Refusal::ending()),
                Some(false) => {
                    Err(Refusal::new(RefusalKind::NotFound, format!("there is no session {id}")))
                }
                Some(true) => Ok(()),
            };
            if ended.is_ok() {
                console.control.note_order(Severity::Info, format!("{by} ended session {id}"));
            }
            console.note_failure(&by, &ended);
            ended
        });
        ending.await.unwrap_or_else(|_| Err(Refusal::ending()))
    }

    /// Has failsoft end as SIGTERM does.
    ///
    /// # Errors
    /// It is about to already.
    pub(crate) async fn drain(&self, by: &str) -> Result<(), Refusal> {
        if *self.phase.borrow() != Phase::Serving {
            let refused = Err(Refusal::ending());
            self.note_failure(by, &refused);
            return refused;
        }
        self.control.note_order(Severity::Warn, format!("{by} told failsoft to end"));
        self.asks.send(Ask::Drain).await.map_err(|_| Refusal::ending())?;
        let mut phase = self.phase.clone();
        // Nobody to tell is the end of failsoft.
        let _ends = phase.wait_for(|phase| *phase != Phase::Serving).await;
        Ok(())
    }

    /// Has statements counted anew.
    pub(crate) fn reset_statements(&self, by: &str) {
        self.metrics.statements().reset();
        self.control.note_order(Severity::Info, format!("{by} had statements counted anew"));
    }

    /// Enters that somebody was not let give orders.
    pub(crate) fn note_refused(&self, what: &str, to: &str, why: &str) {
        self.control.note_refusal(format!("{what} was refused to {to}: {why}"));
    }

    /// Enters that an order was not carried out, if so.
    fn note_failure(&self, by: &str, done: &Result<(), Refusal>) {
        if let Err(Refusal { refused, .. }) = done {
            let text = format!("an order of {by} was not carried out: {}", refused.error);
            self.control.note_order(Severity::Warn, text);
        }
    }

    /// What every session does; nothing before they are served.
    pub(crate) async fn sessions(&self) -> Vec<SessionRow> {
        self.ask(Ask::Sessions).await.unwrap_or_default()
    }

    /// Waits until every session goes by the latest view.
    async fn settle(&self) {
        // Nobody to answer is the end of all sessions.
        let _settled = self.ask(Ask::Settle).await;
    }

    /// The data plane's answer; none before it serves.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        if *self.phase.borrow() == Phase::Starting {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.asks.send(question(answer)).await.ok()?;
        answered.await.ok()
    }
}
