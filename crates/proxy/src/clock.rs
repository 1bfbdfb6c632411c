//! The only place of the data plane that reads the clock.

use std::time::Instant;

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "this is the edge where time comes in")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
