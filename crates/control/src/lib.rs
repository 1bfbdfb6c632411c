//! Watches the servers and publishes what they are.
//!
//! ```text
//!   probe (one task per server) ──▶ result ─┐
//!   data plane ──▶ Report ──────────────────┼─▶ actor, owns policy::Cluster ──▶ watch<Arc<View>>
//!   console, signals ──▶ Order ─────────────┘            │
//!                                                        └─▶ log, metrics, ring of events
//! ```
//!
//! * [`probe`] checks one server: logs in, looks, quits.
//! * [`status`] reads the rows of replication status that servers answer with.
//! * [`start`] starts the actor and the probes; [`Handle`] is how others talk to it.

mod actor;
mod events;
mod handle;
mod outcomes;
pub mod probe;
mod settings;
pub mod status;
mod watcher;

pub use actor::start;
pub use events::{Entry, Origin, Severity};
pub use handle::{Control, Handle, Order, OrderError, Reload};
pub use policy::cluster::Report;
pub use probe::{check_once, try_login};
pub use settings::{ProbeTarget, Settings, Tls, TlsMode};
