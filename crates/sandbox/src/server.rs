//! One private server: started, stopped, killed, frozen and started again.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use mysql_async::{Conn, OptsBuilder};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::account::{self, Account};
use crate::ports::{self, Lease};
use crate::process::Process;
use crate::{Flavor, Program, ROOT, SandboxError, settings, template};

/// How long a server may take until it accepts logins.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long one attempt to log in may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const LOGIN_PAUSE: Duration = Duration::from_millis(20);
/// How long a clean end may take before the server is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long the kernel may take to tell the peers of a server that was killed.
const TOLD_LIMIT: Duration = Duration::from_secs(5);

/// What is special about one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Refuses writes; on MySQL those of privileged accounts too (`super_read_only`).
    pub read_only: bool,
    /// Its number in replication; servers that replicate from each other need different ones.
    pub server_id: u32,
    /// The port to listen on; a free one if `None`.
    pub port: Option<u16>,
    /// The address it is reached at. Other than loopback, it has to be one of this machine's, or of
    /// the network namespace that `within` enters.
    pub host: Ipv4Addr,
    /// A command that runs the server as its own last arguments and becomes it:
    /// `nsenter --net=/proc/4711/ns/net`.
    pub within: Vec<String>,
    /// Further arguments, which win over ours: `--performance-schema=ON`.
    pub extra: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            server_id: 1,
            port: None,
            host: Ipv4Addr::LOCALHOST,
            within: Vec::new(),
            extra: Vec::new(),
        }
    }
}

/// A private server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Server {
    // First: fields are dropped in this order, and the process must be gone before its folder.
    process: Process,
    scratch: TempDir,
    lease: Lease,
    program: Program,
    options: Options,
}

impl Server {
    /// Starts a server of this flavour on a copy of the template, and waits until it accepts logins.
    ///
    /// # Errors
    /// There is no such server, or it does not start; the error carries the end of its log.
    pub async fn start(flavor: Flavor, options: Options) -> Result<Self, SandboxError> {
        Self::start_program(flavor.find()?, options).await
    }

    /// Starts this program; as [`Server::start`] otherwise.
    ///
    /// # Errors
    /// It does not start; the error carries the end of its log.
    pub async fn start_program(program: Program, options: Options) -> Result<Self, SandboxError> {
        let template = template::prepare(&program).await?;
        let scratch = template::scratch_folder()?;
        let data = settings::data(scratch.path());
        tokio::task::spawn_blocking(move || template::copy(&template, &data))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(SandboxError::io("copy the template"))?;
        let lease = options.port.map_or_else(Lease::any, Lease::exactly)?;
        let command = command(&program, scratch.path(), lease.port(), &options);
        let process = launch(&program, &command, scratch.path())?;
        let mut server = Self { process, scratch, lease, program, options };
        server.wait_ready().await?;
        Ok(server)
    }

    /// The loopback port it listens on, also while it is down.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.lease.port()
    }

    /// The address it is reached at.
    #[must_use]
    pub const fn host(&self) -> Ipv4Addr {
        self.options.host
    }

    /// Which flavour it is.
    #[must_use]
    pub const fn flavor(&self) -> Flavor {
        self.program.flavor()
    }

    /// The program it runs.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// The id of its process, which signals reach directly; the last one while it is down.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its folder: `data`, `socket`, `log`, `tmp`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Logs in over TCP.
    ///
    /// # Errors
    /// The server refused or is not there.
    pub async fn connect(
        &self,
        account: Account,
        schema: Option<&str>,
    ) -> Result<Conn, SandboxError> {
        let attempt = format!("log in as {}", account.user);
        Conn::new(self.login(account, schema)).await.map_err(SandboxError::sql(&attempt))
    }

    fn login(&self, account: Account, schema: Option<&str>) -> OptsBuilder {
        account::builder(account, schema)
            .ip_or_hostname(self.host().to_string())
            .tcp_port(self.port())
    }

    /// Whether its process is there; a paused one is.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.ended(), Ok(None))
    }

    /// Ends it in an orderly way (SIGTERM), also when it is paused, and kills it where that takes
    /// too long.
    ///
    /// MySQL takes some ten seconds to say goodbye to a replica; where an orderly end does not
    /// matter, [`Server::kill`] is instant.
    ///
    /// # Errors
    /// The operating system refused the signal.
    pub async fn stop(&mut self) -> Result<(), SandboxError> {
        for signal in [Signal::TERM, Signal::CONT] {
            self.process.signal(signal).map_err(SandboxError::io("stop the server"))?;
        }
        match self.process.wait(STOP_LIMIT).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.kill(),
            Err(error) => Err(SandboxError::io("wait for the server to end")(error)),
        }
    }

    /// Ends it at once (SIGKILL), as a crash would; the port and the data stay. Comes back when the
    /// kernel has told who was connected to it.
    ///
    /// # Errors
    /// The operating system refused the signal.
    pub fn kill(&mut self) -> Result<(), SandboxError> {
        self.process.kill().map_err(SandboxError::io("kill the server"))?;
        let deadline = Instant::now() + TOLD_LIMIT;
        while ports::is_connected_to(self.port()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Freezes it (SIGSTOP): the kernel goes on accepting connections, and nothing is answered. Comes
    /// back when every thread of it stands still, which the signal alone does not wait for.
    ///
    /// # Errors
    /// The operating system refused the signal.
    pub fn pause(&mut self) -> Result<(), SandboxError> {
        self.process.signal(Signal::STOP).map_err(SandboxError::io("pause the server"))?;
        while !stands_still(self.pid()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Errors
    /// The operating system refused the signal.
    pub fn resume(&mut self) -> Result<(), SandboxError> {
        self.process.signal(Signal::CONT).map_err(SandboxError::io("resume the server"))
    }

    /// Starts it again on the same port and data; what still runs is killed first.
    ///
    /// # Errors
    /// It does not start; the error carries the end of its log.
    pub async fn start_again(&mut self) -> Result<(), SandboxError> {
        self.kill()?;
        let folder = self.scratch.path();
        let command = command(&self.program, folder, self.port(), &self.options);
        self.process = launch(&self.program, &command, folder)?;
        self.wait_ready().await
    }

    /// Whether it refuses writes from its next start on, as after a change of roles. What it does
    /// until then is set with SQL.
    pub const fn start_read_only(&mut self, read_only: bool) {
        self.options.read_only = read_only;
    }

    async fn wait_ready(&mut self) -> Result<(), SandboxError> {
        let login = self.login(ROOT, None);
        let connection = ready(self.program.flavor(), &mut self.process, login).await?;
        connection.disconnect().await.map_err(SandboxError::sql("quit"))
    }
}

/// The whole command line.
fn command(program: &Program, folder: &Path, port: u16, options: &Options) -> Vec<OsString> {
    let flavor = program.flavor();
    let role = if options.read_only { settings::read_only(flavor) } else { &[] };
    let mut command: Vec<_> = options.within.iter().map(OsString::from).collect();
    command.extend(program.command().iter().cloned());
    command.extend(settings::arguments(flavor, folder, port));
    if options.host != Ipv4Addr::LOCALHOST {
        command.push("--bind-address=0.0.0.0".into());
    }
    command.push(format!("--server-id={}", options.server_id).into());
    command.push(format!("--report-port={port}").into());
    command.extend(role.iter().map(OsString::from));
    command.extend(options.extra.iter().map(OsString::from));
    command
}

fn launch(program: &Program, command: &[OsString], folder: &Path) -> Result<Process, SandboxError> {
    Process::start(command, folder, &settings::log(folder))
        .map_err(SandboxError::io(format!("start {}", program.flavor())))
}

/// Waits until the server of this process accepts a login, and hands it over.
pub(crate) async fn ready(
    flavor: Flavor,
    process: &mut Process,
    options: OptsBuilder,
) -> Result<Conn, SandboxError> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let attempt = tokio::time::timeout(LOGIN_LIMIT, Conn::new(options.clone())).await;
        let last = match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        let ended = process.ended().map_err(SandboxError::io("look at the server"))?;
        if let Some(status) = ended {
            let what = flavor.to_string();
            return Err(SandboxError::Exited { what, status, log: process.log_tail() });
        }
        if Instant::now() >= deadline {
            let log = process.log_tail();
            return Err(SandboxError::NotReady { flavor, after: READY_LIMIT, last, log });
        }
        tokio::time::sleep(LOGIN_PAUSE).await;
    }
}

/// Whether every thread of a process is stopped (state `T` in `/proc/PID/task/*/stat`), or gone.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { return true };
        // The state follows the name, which is in parentheses and may hold any byte.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['T', 'Z', 'X']))
    })
}
