//! Counts and logs.
//!
//! * [`table`] lists every metric with its help and labels; nothing is registered that is not there.
//! * [`Metrics`] is the registry: gauges of servers and partitions, and the text for Prometheus.
//! * [`WorkerMetrics`] is what one core counts with. Its counters are its own and reach the registry
//!   only by [`WorkerMetrics::flush`], so that counting a statement touches no memory that another
//!   core writes to. Labels are resolved when it is made.
//! * [`Ledger`] keeps the writes whose outcome is unknown.
//! * [`Statements`] is what clients ask, by digest, and what took long.
//! * [`Occasional`] tells now and then of what may happen very often.
//! * [`Panics`] counts and logs what should not happen.
//! * [`log`] sets up `tracing`.

mod ledger;
pub mod log;
mod metrics;
mod occasional;
mod panics;
mod sampler;
pub mod statements;
pub mod table;
mod worker;

pub use ledger::{Ledger, UnknownOutcome};
pub use metrics::{Metrics, Totals};
pub use occasional::Occasional;
pub use panics::Panics;
pub use statements::Statements;
pub use table::METRICS;
pub use worker::{
    ConnectionGuard, HeldGuard, SessionGuard, SessionState, Target, WaitingGuard, WorkerMetrics,
};
