//! Counts and logs.
//!
//! * [`table`] lists every metric with its help and labels; nothing is registered that is not there.
//! * [`Metrics`] is the registry: gauges of servers and partitions, and the text for Prometheus.
//! * [`WorkerMetrics`] is what one core counts with. Its counters are its own and reach the registry
//!   only by [`WorkerMetrics::flush`], so that counting a statement touches no memory that another
//!   core writes to. Labels are resolved when it is made.
//! * [`log`] sets up `tracing`.

pub mod log;
mod metrics;
pub mod table;
mod worker;

pub use metrics::{Metrics, Totals};
pub use table::METRICS;
pub use worker::{ConnectionGuard, SessionGuard, SessionState, Target, WorkerMetrics};
