//! Everything on one processor: the steadiest way to compare what proxies cost.

use std::fs;

use anyhow::Context as _;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processes that are kept on one processor while this lives.
#[derive(Debug)]
pub(crate) struct Pinned {
    processes: Vec<u32>,
    before: CpuSet,
}

impl Pinned {
    /// Keeps these and this process on the first processor that this one may use.
    ///
    /// # Errors
    /// The operating system refused, or one of them is gone.
    pub(crate) fn to_one(mut processes: Vec<u32>) -> anyhow::Result<Self> {
        processes.push(std::process::id());
        let before = sched_getaffinity(None).context("which processors are there?")?;
        let first = (0..CpuSet::MAX_CPU).find(|&at| before.is_set(at)).context("no processor")?;
        let mut one = CpuSet::new();
        one.set(first);
        let pinned = Self { processes, before };
        pinned.set(&one)?;
        Ok(pinned)
    }

    /// Threads that start later go where the one that starts them is.
    fn set(&self, processors: &CpuSet) -> anyhow::Result<()> {
        for process in &self.processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?.file_name();
                let id = thread.to_str().and_then(|id| Pid::from_raw(id.parse().ok()?));
                // A thread may end meanwhile.
                let _gone = sched_setaffinity(id, processors);
            }
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let before = self.before;
        // The processes end before long, too.
        let _left = self.set(&before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_is_set_free_again() {
        let before = sched_getaffinity(None).unwrap();
        let pinned = Pinned::to_one(Vec::new()).unwrap();
        assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
