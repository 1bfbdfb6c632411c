//! The processor time and the memory of a process, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// What Linux counts in for user space, whatever its own tick is (proc(5), USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// Time in user mode and in the kernel, all threads together, also those that have ended.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&text).with_context(|| format!("{path} is not what was expected: {text}"))
}

/// Fields 14 and 15; the second field is a name in parentheses and may hold anything.
fn parse(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.checked_add(system)?)
}

/// The memory that a process has, in KiB (proc(5), VmRSS).
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_resident(&text).with_context(|| format!("{path} has no VmRSS"))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_times_behind_any_name() {
        let tail = "S 1 42 42 0 -1 4194304 100 0 0 0 250 150 9 9 20 0 4 0 1000 1 1";
        for name in ["haproxy", "a b", "x) y ("] {
            assert_eq!(parse(&format!("42 ({name}) {tail}")), Some(Duration::from_secs(4)));
        }
        for wrong in ["", "42 (x)", "42 (x) S 1 2", "42 (x) S 1 2 3 4 5 6 7 8 9 0 a b c d e f"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn memory_is_read() {
        let status = "VmSize:\t 9 kB\nVmRSS:\t    4120 kB\nRssAnon: 1 kB\n";
        assert_eq!(parse_resident(status), Some(4120));
        assert_eq!(parse_resident("VmRSS:\t4120 MB"), None);
        assert!(resident(std::process::id()).is_ok_and(|kib| kib > 0));
    }

    #[test]
    fn reads_our_own() {
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(cpu_time(u32::MAX).is_err());
    }
}
