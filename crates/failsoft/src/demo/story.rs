//! The tale of a lost master, played with real servers on one connection that is never reopened.
//!
//! Every step is checked: what is printed is what happened, and the story fails where it differs.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use console::api;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, ServerError};
use sandbox::{APP, Pair};
use tokio::time::{Instant, sleep, timeout};

use super::Proxy;
use crate::status;

/// How long any one thing may take.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// Rows written while all is well.
const ROWS: u64 = 5;
/// Reads that must succeed after the master's death.
const READS: usize = 5;
/// The pause between two looks at something that is awaited.
const PAUSE: Duration = Duration::from_millis(50);
/// `ER_OPTION_PREVENTS_STATEMENT`, what a server says that is read-only.
const READ_ONLY: u16 = 1290;

/// Where the story is told.
struct Stage<'a> {
    pair: Pair,
    proxy: &'a Proxy,
    /// The one connection through failsoft.
    conn: Conn,
    start: Instant,
}

/// Plays the story.
///
/// # Errors
/// Something did not happen as told; the error says which step.
pub(super) async fn play(pair: Pair, proxy: &Proxy) -> anyhow::Result<()> {
    let conn = sandbox::connect(proxy.port, APP, Some("app")).await.context("logging in")?;
    let mut stage = Stage { pair, proxy, conn, start: Instant::now() };
    stage.tell("One connection through failsoft is opened. It is never opened again.");
    stage.write_some().await.context("writes flow")?;
    stage.lose_master().await.context("the master is lost")?;
    stage.read_on().await.context("reads go on")?;
    stage.write_in_vain().await.context("a write gets its error")?;
    stage.look_degraded().await.context("the status says why")?;
    stage.bring_master_back().await.context("the master returns")?;
    stage.write_again().await.context("the same session writes again")?;
    stage.compare().await.context("the replica has everything")?;
    stage.tell("All of it happened on one connection.");
    stage.conn.disconnect().await.context("quitting")
}

impl Stage<'_> {
    fn tell(&self, text: &str) {
        println!("{:6.2} s  {text}", self.start.elapsed().as_secs_f64());
    }

    /// Runs a statement and prints it.
    async fn run(&mut self, statement: &str) -> anyhow::Result<Duration> {
        let start = Instant::now();
        timeout(STEP_LIMIT, self.conn.query_drop(statement))
            .await
            .with_context(|| format!("{statement}: no answer after {STEP_LIMIT:?}"))?
            .with_context(|| statement.to_owned())?;
        let took = start.elapsed();
        self.tell(&format!("{statement}  -- OK, {}", millis(took)));
        Ok(took)
    }

    /// Asks how many rows there are, and which server says so.
    async fn count(&mut self) -> anyhow::Result<(u64, u16, Duration)> {
        let start = Instant::now();
        let asked = self.conn.query_first("SELECT COUNT(*), @@port FROM tale");
        let answer: Option<(u64, u16)> = timeout(STEP_LIMIT, asked).await??;
        let (rows, port) = answer.context("no row")?;
        Ok((rows, port, start.elapsed()))
    }

    async fn write_some(&mut self) -> anyhow::Result<()> {
        self.run("CREATE TABLE tale (n INT PRIMARY KEY, line VARCHAR(80))").await?;
        for n in 1..=ROWS {
            self.run(&format!("INSERT INTO tale VALUES ({n}, 'all is well')")).await?;
        }
        let (rows, port, _) = self.count().await?;
        ensure!((rows, port) == (ROWS, self.pair.master.port()), "{rows} rows on port {port}");
        self.tell(&format!("SELECT COUNT(*): {rows} rows, says the master on port {port}"));
        self.pair.wait_synced().await.context("waiting for the replica")
    }

    async fn lose_master(&mut self) -> anyhow::Result<()> {
        let pid = self.pair.master.pid();
        self.pair.master.kill()?;
        self.tell(&format!("kill -9 {pid}: the master is dead."));
        Ok(())
    }

    async fn read_on(&mut self) -> anyhow::Result<()> {
        for read in 0..READS {
            let (rows, port, took) = self.count().await?;
            ensure!(rows == ROWS, "{rows} rows instead of {ROWS}");
            ensure!(port == self.pair.replica.port(), "port {port} answered");
            let which = if read == 0 { "first read after it" } else { "another" };
            self.tell(&format!("{which}: {rows} rows, says the replica, after {}", millis(took)));
        }
        Ok(())
    }

    async fn write_in_vain(&mut self) -> anyhow::Result<()> {
        let statement = "INSERT INTO tale VALUES (100, 'while the master is lost')";
        self.tell(statement);
        let error = self.refusal(statement).await?;
        println!("          ERROR {} ({}): {}", error.code, error.state, error.message);
        ensure!(error.code == READ_ONLY, "error {} instead of {READ_ONLY}", error.code);
        ensure!(error.message.contains("failsoft: partition default is read-only"), "{error}");
        let (rows, ..) = self.count().await.context("the session after the error")?;
        ensure!(rows == ROWS, "{rows} rows instead of {ROWS}");
        self.tell("The session is well, and reads go on.");
        Ok(())
    }

    /// The server's error, for a statement that must not succeed.
    async fn refusal(&mut self, statement: &str) -> anyhow::Result<ServerError> {
        match timeout(STEP_LIMIT, self.conn.query_drop(statement)).await? {
            Ok(()) => bail!("{statement} succeeded"),
            Err(Error::Server(error)) => Ok(error),
            Err(other) => Err(other).context("the connection was lost"),
        }
    }

    async fn look_degraded(&self) -> anyhow::Result<()> {
        // Until the checks have failed often enough, the reason is `unreachable`.
        let is_severed = |status: &api::Status| {
            status.partitions.iter().all(|partition| partition.reason.as_deref() == Some("severed"))
        };
        let seen = self.wait_for_status(is_severed).await?;
        self.tell("failsoft status");
        print_indented(&status::table(&seen));
        Ok(())
    }

    async fn bring_master_back(&mut self) -> anyhow::Result<()> {
        self.pair.master.start_again().await?;
        let pid = self.pair.master.pid();
        self.tell(&format!("The master is started again, as process {pid}."));
        let seen = self.wait_for_status(api::Status::is_read_write).await?;
        let words = seen.partitions.first().map(|partition| partition.words.clone());
        self.tell(&words.unwrap_or_default());
        Ok(())
    }

    async fn wait_for_status(
        &self,
        wanted: impl Fn(&api::Status) -> bool,
    ) -> anyhow::Result<api::Status> {
        let deadline = Instant::now() + STEP_LIMIT;
        let console = self.proxy.console()?;
        loop {
            let seen = status::fetch(&console)?;
            if wanted(&seen) {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                bail!("not after {STEP_LIMIT:?}:\n{}", status::table(&seen));
            }
            sleep(PAUSE).await;
        }
    }

    async fn write_again(&mut self) -> anyhow::Result<()> {
        self.run("INSERT INTO tale VALUES (101, 'the same session writes again')").await?;
        let (rows, port, _) = self.count().await?;
        let master = self.pair.master.port();
        ensure!((rows, port) == (ROWS + 1, master), "{rows} rows on port {port}");
        self.tell(&format!("SELECT COUNT(*): {rows} rows, says the master on port {port}"));
        Ok(())
    }

    /// Asks the replica itself, not through failsoft.
    async fn compare(&self) -> anyhow::Result<()> {
        self.pair.wait_synced().await?;
        let mut direct = self.pair.replica.connect(APP, Some("app")).await?;
        let rows: Option<u64> = direct.query_first("SELECT COUNT(*) FROM tale").await?;
        direct.disconnect().await?;
        ensure!(rows == Some(ROWS + 1), "the replica has {rows:?} rows instead of {}", ROWS + 1);
        self.tell(&format!("The replica has caught up: {} rows there too.", ROWS + 1));
        Ok(())
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn print_indented(text: &str) {
    for line in text.lines() {
        anstream::println!("{}", format!("          {line}").trim_end());
    }
}
