//! Open files: each client and each server connection is one.

use config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open beside connections: listeners, the console, logs, libraries, runtimes.
const OTHERS: u64 = 100;

/// Raises the limit on open files as far as the process may.
pub(crate) fn raise_open_files(config: &Config) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!("the limit on open files stays as it is: {error}");
    }
    let needed = needed(config);
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < needed
    {
        tracing::warn!(
            "{limit} open files are allowed, and the configured limits may take {needed}: no more \
             than {} clients are let in at a time; raise LimitNOFILE or lower limits.connections",
            connections_that_fit()
        );
    }
}

/// How many clients the open files allow at a time, each with a connection to a server. What is left
/// is for the console: who is to find out why no more are let in has to get in there.
pub(crate) fn connections_that_fit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX).max(1)
}

/// As many as clients and servers may take together; a session takes two while it connects.
fn needed(config: &Config) -> u64 {
    let servers = config.limits.server_connections.saturating_mul(config.databases.len());
    let all = config.limits.connections.saturating_add(servers);
    u64::try_from(all).unwrap_or(u64::MAX).saturating_add(OTHERS)
}
