//! What there is to see, as data.
//!
//! Times are in UTC as RFC 3339 has them; names end in their unit where there is one.
//!
//! * [`status`] is what one failsoft sees of its servers, [`lists`] what its clients do.
//! * [`orders`] is what actions take, and are answered with.

pub mod lists;
pub mod orders;
pub mod status;

pub use lists::{SessionRow, SlowStatement, StatementDigest, StatementList};
pub use orders::{Difference, Pause, ReadOnly, Refused, Reloaded, Resume, ShownConfiguration};
pub use status::{Configuration, Event, Partition, Server, Status, duration_words, millis_words};
pub use telemetry::UnknownOutcome;
