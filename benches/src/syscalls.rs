//! System calls of a proxy for each statement, counted by strace.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::peers::Peer;

/// Statements that are counted over.
const STATEMENTS: u32 = 2_000;
/// How long strace takes to follow all threads.
const ATTACHING: Duration = Duration::from_secs(1);

/// The number for each of many point selects, one after another; none without a proxy or strace.
pub(crate) async fn measure(peer: &Peer) -> anyhow::Result<Option<f64>> {
    let Some(pid) = peer.pid().filter(|_| is_there()) else { return Ok(None) };
    let mut client = Client::connect(peer.port(), 1).await?;
    client.point_select().await?;
    let folder = TempDir::new()?;
    let file = folder.path().join("calls");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-q", "-o"])
        .arg(&file)
        .args(["-p", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start strace")?;
    tokio::time::sleep(ATTACHING).await;
    for _ in 0..STATEMENTS {
        client.point_select().await?;
    }
    let id = i32::try_from(strace.id()).ok().and_then(Pid::from_raw).context("strace is gone")?;
    kill_process(id, Signal::INT).context("strace does not stop")?;
    strace.wait()?;
    let text = std::fs::read_to_string(&file).context("strace left no counts")?;
    match total(&text) {
        Some(calls) => Ok(Some(f64::from(calls) / f64::from(STATEMENTS))),
        None => bail!("strace's counts cannot be read: {text}"),
    }
}

fn is_there() -> bool {
    Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|it| it.success())
}

/// The calls of the line `100.00 0.12 6 12000 3 total`.
fn total(text: &str) -> Option<u32> {
    let line = text.lines().rfind(|line| line.trim_end().ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        let text = "% time seconds usecs/call calls errors syscall\n\
                    60.00 0.1 5 8000 read\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    100.00 0.2 6 12000 40 total\n";
        assert_eq!(total(text), Some(12_000));
        assert_eq!(total(""), None);
    }
}
