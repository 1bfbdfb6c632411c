//! `failsoft demo`: a private master and replica with failsoft in front, for trying it out.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use sandbox::ports::Lease;
use sandbox::{APP, Flavor, MONITOR, Pair, Process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Exit;
use crate::cli::{self, Demo};
use crate::http::Console;
use crate::run::install_cryptography;

mod story;

/// How long failsoft may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the demo, or plays the story.
pub(crate) fn demo(options: &Demo) -> anyhow::Result<Exit> {
    install_cryptography();
    let flavor = match find(options.flavor) {
        Ok(flavor) => flavor,
        Err(error) => {
            eprintln!("{error:#}");
            return Ok(Exit::BadInput);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            done = play(flavor, options.story) => done,
            _ = tokio::signal::ctrl_c() => {
                println!("\nStopped; servers and data are gone.");
                Ok(if options.story { Exit::Refused } else { Exit::Done })
            }
        }
    })
}

/// The flavour asked for, or the first that is on this machine.
fn find(asked: Option<cli::Flavor>) -> anyhow::Result<Flavor> {
    let candidates: &[Flavor] = match asked {
        Some(cli::Flavor::Mariadb) => &[Flavor::MariaDb],
        Some(cli::Flavor::Mysql) => &[Flavor::MySql],
        None => &Flavor::all(),
    };
    let mut missing = Vec::new();
    for flavor in candidates {
        match flavor.find() {
            Ok(_) => return Ok(*flavor),
            Err(error) => missing.push(error.to_string()),
        }
    }
    bail!("the demo needs a database server: {}", missing.join("; "))
}

async fn play(flavor: Flavor, with_story: bool) -> anyhow::Result<Exit> {
    println!("Starting a private {flavor} master and a replica of it …");
    let pair = Pair::start(flavor).await?;
    let mut proxy = Proxy::start(&pair).await?;
    proxy.introduce(&pair);
    if with_story {
        let told = async {
            story::play(pair, &proxy).await?;
            proxy.stop().await
        };
        let Err(error) = told.await else { return Ok(Exit::Done) };
        eprintln!("\nThe story went wrong: {error:#}\n\nThe end of failsoft's log:");
        eprintln!("{}", proxy.log_tail());
        return Ok(Exit::Refused);
    }
    let master = pair.master.pid();
    println!(
        "Lose the master   kill -STOP {master}   (for good: kill -9 {master})\n\
         Bring it back     kill -CONT {master}\n\
         Ctrl-C ends it all."
    );
    loop {
        if let Some(status) = proxy.process.ended()? {
            bail!("failsoft ended with {status}; the end of its log:\n{}", proxy.log_tail());
        }
        sleep(PAUSE).await;
    }
}

/// On loopback, and of servers that are thrown away.
const TOKEN: &str = "demo";

/// failsoft, as a process of its own in front of the pair.
struct Proxy {
    // First: fields are dropped in this order, and the process must be gone before its folder.
    process: Process,
    port: u16,
    console_port: u16,
    folder: TempDir,
    // What keeps others from taking the ports.
    _leases: [Lease; 2],
}

impl Proxy {
    async fn start(pair: &Pair) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("failsoft-demo-").tempdir()?;
        let leases = [Lease::any()?, Lease::any()?];
        let [port, console_port] = [leases[0].port(), leases[1].port()];
        let file = folder.path().join("failsoft.yaml");
        std::fs::write(&file, configuration(pair, port, console_port))?;
        let program = std::env::current_exe().context("where is this program?")?;
        let command = [program.into(), "run".into(), "-c".into(), OsString::from(file)];
        let process = Process::start(&command, folder.path(), &folder.path().join("log"))?;
        let mut proxy = Self { process, port, console_port, folder, _leases: leases };
        proxy.wait_ready().await?;
        Ok(proxy)
    }

    fn console(&self) -> anyhow::Result<Console> {
        Console::parse(&self.url())
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.console_port)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let console = self.console()?;
        while console.get("/rw").is_err() {
            if let Some(status) = self.process.ended()? {
                bail!("failsoft ended with {status}:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("failsoft does not serve after {START_LIMIT:?}:\n{}", self.log_tail());
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    fn introduce(&self, pair: &Pair) {
        let flavor = pair.flavor();
        let (master, replica) = (&pair.master, &pair.replica);
        println!("    master   {flavor} on 127.0.0.1:{}, process {}", master.port(), master.pid());
        println!(
            "    replica  {flavor} on 127.0.0.1:{}, process {}",
            replica.port(),
            replica.pid()
        );
        println!("    failsoft on 127.0.0.1:{}, process {}", self.port, self.process.pid());
        println!("    console  {}, the token for orders is {TOKEN}", self.url());
        println!("    log      {}", self.folder.path().join("log").display());
        let (user, pass) = (APP.user, APP.pass);
        println!("\n    mysql -h 127.0.0.1 -P {} -u {user} -p{pass} app\n", self.port);
    }

    fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Ends failsoft in an orderly way.
    async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::TERM)?;
        match self.process.wait(STOP_LIMIT).await? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("failsoft ended with {status}"),
            None => bail!("failsoft did not end within {STOP_LIMIT:?}"),
        }
    }
}

/// Checks are more frequent than usual, so that nobody waits.
fn configuration(pair: &Pair, port: u16, console_port: u16) -> String {
    let (master, replica) = (pair.master.port(), pair.replica.port());
    let (app, monitor) = (APP, MONITOR);
    format!(
        "listen: 127.0.0.1:{port}\n\
         admin: {{http: \"127.0.0.1:{console_port}\", token: {TOKEN}}}\n\
         users:\n  - {{name: {}, pass: {}}}\n\
         monitor: {{user: {}, pass: {}}}\n\
         databases:\n\
         \x20 - {{host: 127.0.0.1, port: {master}, role: master}}\n\
         \x20 - {{host: 127.0.0.1, port: {replica}, role: replica}}\n\
         health: {{interval: 500ms, threshold: 3, timeout: 400ms}}\n\
         drain_timeout: 1s\n\
         log: {{format: human}}\n",
        app.user, app.pass, monitor.user, monitor.pass,
    )
}
