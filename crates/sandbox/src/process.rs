//! A child process that cannot outlive us and whose id is its own.
//!
//! Between us and the program stands a shell for a moment only: it starts a watchdog and then
//! becomes the program, so that the process id we know is the program's and signals reach it
//! directly. The watchdog reads a pipe whose other end we hold. When we end, however that happens,
//! the pipe ends too, and the watchdog kills the program and removes its folder. Before we reap
//! the program ourselves we tell the watchdog to go, so that it never kills a stranger who was
//! given the same id.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Arguments: the folder to remove, then the program with its arguments.
const SHELL: &str = r#"
folder=$1
shift
exec 3<&0
( { read -r word <&3 || { kill -9 $$; sleep 1; rm -rf -- "$folder"; }; } </dev/null >/dev/null 2>&1 & )
exec "$@" 3<&- </dev/null
"#;

/// How often a process that should end is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How many bytes of a log an error shows.
const TAIL: usize = 3_000;

/// A running program, with its watchdog.
#[derive(Debug)]
pub struct Process {
    child: Child,
    watchdog: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output is added to `log` and whose folder goes with us when we are
    /// killed. A command that `exec`s another, as `env` does, is fine.
    ///
    /// # Errors
    /// The log cannot be written, or there is no shell.
    pub fn start(command: &[OsString], folder: &Path, log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut child = Command::new("sh")
            .args(["-c", SHELL, "failsoft-sandbox"])
            .arg(folder)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        Ok(Self { watchdog: child.stdin.take(), child, log: log.to_path_buf() })
    }

    /// Its process id, which signals reach directly.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.dismiss();
        }
        Ok(status)
    }

    /// Sends a signal; a process that has ended does not mind.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        match i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            Some(pid) => Ok(kill_process(pid, signal)?),
            None => Err(io::Error::other("the process id is out of range")),
        }
    }

    /// Waits until it has ended, up to a limit; `None` if it goes on.
    ///
    /// # Errors
    /// The operating system does not say.
    pub async fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends it at once (SIGKILL), also when it is stopped, and waits for that.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
            self.dismiss();
        }
        Ok(())
    }

    /// The end of what it printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Sends the watchdog away. It may have gone already.
    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.watchdog.take() {
            drop(pipe.write_all(b"done\n"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// The end of a file, from the start of a line.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let start = text.len().saturating_sub(TAIL);
    text.char_indices()
        .find(|&(at, c)| at >= start && (at == 0 || c == '\n'))
        .and_then(|(at, _)| text.get(at..))
        .unwrap_or_default()
        .trim()
        .to_owned()
}
