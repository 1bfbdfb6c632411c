//! What the console asks of those that it does not know: the data plane, and whoever reads the
//! configuration. The executable answers.

use tokio::sync::{mpsc, oneshot};

use crate::api::{Reloaded, SessionRow};

/// A question to the rest of failsoft.
#[derive(Debug)]
pub enum Ask {
    /// To be told once every session goes by what was ordered.
    Settle(oneshot::Sender<()>),
    /// What every session does, in the order of their ids.
    Sessions(oneshot::Sender<Vec<SessionRow>>),
    /// To end a session; whether there is one with this id.
    EndSession(u32, oneshot::Sender<bool>),
    /// To end failsoft as SIGTERM does.
    Drain,
}

/// Where questions are asked.
pub type Asks = mpsc::Sender<Ask>;

/// Somebody wants the configuration to be read again.
#[derive(Debug)]
pub struct Reload {
    /// Who, in words.
    pub by: String,
    /// What came of it; what is wrong, a line for each problem.
    pub answer: oneshot::Sender<Result<Reloaded, Vec<String>>>,
}

/// Where reloads are asked for.
pub type Reloads = mpsc::Sender<Reload>;
