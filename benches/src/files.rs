//! Open files: each client that a curve needs is one here, and may be two in failsoft.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For 10,000 clients, and what else is open.
const WANTED: u64 = 24_000;

/// Raises the limit on open files as far as this process may; failsoft, which it starts, has the same.
/// Answers whether there can be 10,000 clients.
pub(crate) fn raise() -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= WANTED);
    if is_enough(current) {
        return true;
    }
    let wanted = Rlimit {
        current: Some(WANTED),
        maximum: if is_enough(maximum) { maximum } else { Some(WANTED) },
    };
    // Only root may have more than the maximum.
    if setrlimit(Resource::Nofile, wanted).is_ok() {
        return true;
    }
    // That is better than nothing.
    let _as_it_is = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    false
}
