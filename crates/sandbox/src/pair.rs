//! A master and a replica that follows it by GTID.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep};

use crate::account::REPLICATION;
use crate::{Flavor, Options, Program, ROOT, SandboxError, Server};

/// How long the replica may take to catch up.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
/// The pause between two looks at a replica.
const SYNC_PAUSE: Duration = Duration::from_millis(10);

/// Two servers with real replication. The replica is read-only and resumes by itself whenever it,
/// or the master, comes back.
#[derive(Debug)]
pub struct Pair {
    /// Takes writes; server id 1.
    pub master: Server,
    /// Follows the master; read-only; server id 2.
    pub replica: Server,
}

impl Pair {
    /// Starts both, and waits until replication runs.
    ///
    /// # Errors
    /// A server does not start, or replication cannot be set up.
    pub async fn start(flavor: Flavor) -> Result<Self, SandboxError> {
        Self::start_with(flavor, &[]).await
    }

    /// Starts both with further arguments.
    ///
    /// # Errors
    /// A server does not start, or replication cannot be set up.
    pub async fn start_with(flavor: Flavor, extra: &[&str]) -> Result<Self, SandboxError> {
        let program = flavor.find()?;
        let extra: Vec<_> = extra.iter().map(|&argument| argument.to_owned()).collect();
        let options = Options { extra, ..Options::default() };
        let follower = Options { read_only: true, server_id: 2, ..options.clone() };
        let (master, replica) = tokio::try_join!(
            Server::start_program(program.clone(), options),
            Server::start_program(program, follower)
        )?;
        let pair = Self { master, replica };
        pair.replica.follow(&pair.master).await?;
        pair.wait_synced().await?;
        Ok(pair)
    }

    /// The flavour of both.
    #[must_use]
    pub const fn flavor(&self) -> Flavor {
        self.master.flavor()
    }

    /// The program both run.
    #[must_use]
    pub const fn program(&self) -> &Program {
        self.master.program()
    }

    /// Waits until the replica replicates and has applied all that the master has now.
    ///
    /// # Errors
    /// A server does not answer, or the replica does not catch up within 30 seconds.
    pub async fn wait_synced(&self) -> Result<(), SandboxError> {
        self.replica.wait_for(&self.master).await
    }

    /// Promotes the replica, as an operator would: the master takes no more writes, the replica
    /// catches up, stops following and takes writes, and what was the master follows it. The two
    /// then have each other's names.
    ///
    /// # Errors
    /// A statement was refused, or the replica does not catch up.
    pub async fn promote(&mut self) -> Result<(), SandboxError> {
        let (stop, demote, take) = match self.flavor() {
            Flavor::MariaDb => (
                ["STOP ALL SLAVES", "RESET SLAVE ALL"],
                ["SET GLOBAL read_only = 1", "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos"],
                "SET GLOBAL read_only = 0",
            ),
            Flavor::MySql => (
                ["STOP REPLICA", "RESET REPLICA ALL"],
                ["SET GLOBAL read_only = 1", "SET GLOBAL super_read_only = 1"],
                "SET GLOBAL read_only = 0",
            ),
        };
        self.master.run(&demote).await?;
        self.wait_synced().await?;
        self.replica.run(&stop).await?;
        self.replica.run(&[take]).await?;
        self.master.follow(&self.replica).await?;
        std::mem::swap(&mut self.master, &mut self.replica);
        self.wait_synced().await
    }
}

impl Server {
    /// Makes this server replicate from another, from its beginning, and start doing so.
    ///
    /// # Errors
    /// A statement was refused.
    pub async fn follow(&self, master: &Self) -> Result<(), SandboxError> {
        let (host, port) = (master.host(), master.port());
        let (user, pass) = (REPLICATION.user, REPLICATION.pass);
        let statements = match self.flavor() {
            Flavor::MariaDb => [
                format!(
                    "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, \
                     MASTER_USER='{user}', MASTER_PASSWORD='{pass}', MASTER_USE_GTID=slave_pos, \
                     MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1"
                ),
                "START SLAVE".to_owned(),
            ],
            Flavor::MySql => [
                format!(
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, \
                     SOURCE_USER='{user}', SOURCE_PASSWORD='{pass}', SOURCE_AUTO_POSITION=1, \
                     SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=86400, \
                     SOURCE_HEARTBEAT_PERIOD=1, GET_SOURCE_PUBLIC_KEY=1"
                ),
                "START REPLICA".to_owned(),
            ],
        };
        let [change, start] = &statements;
        self.run(&[change, start]).await
    }

    /// Runs statements as root.
    async fn run(&self, statements: &[&str]) -> Result<(), SandboxError> {
        let mut connection = self.connect(ROOT, None).await?;
        for statement in statements {
            connection.query_drop(*statement).await.map_err(SandboxError::sql(statement))?;
        }
        connection.disconnect().await.map_err(SandboxError::sql("quit"))
    }

    /// Waits until this replica replicates and has applied all that its master has now.
    ///
    /// # Errors
    /// A server does not answer, or this one does not catch up within 30 seconds.
    pub async fn wait_for(&self, master: &Self) -> Result<(), SandboxError> {
        let position = master.executed().await?;
        let deadline = Instant::now() + SYNC_LIMIT;
        while !(self.is_replicating().await? && self.has(&position).await?) {
            if Instant::now() >= deadline {
                return Err(SandboxError::NotSynced { position, after: SYNC_LIMIT });
            }
            sleep(SYNC_PAUSE).await;
        }
        Ok(())
    }

    /// All that this server has executed, as GTIDs.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn executed(&self) -> Result<String, SandboxError> {
        let statement = match self.flavor() {
            Flavor::MariaDb => "SELECT @@global.gtid_current_pos",
            Flavor::MySql => "SELECT REPLACE(@@global.gtid_executed, '\\n', '')",
        };
        Ok(self.ask(statement).await?.unwrap_or_default())
    }

    /// Whether both halves of replication run.
    async fn is_replicating(&self) -> Result<bool, SandboxError> {
        let (statement, columns) = match self.flavor() {
            Flavor::MariaDb => ("SHOW SLAVE STATUS", ["Slave_IO_Running", "Slave_SQL_Running"]),
            Flavor::MySql => ("SHOW REPLICA STATUS", ["Replica_IO_Running", "Replica_SQL_Running"]),
        };
        let mut connection = self.connect(ROOT, None).await?;
        let row: Option<mysql_async::Row> =
            connection.query_first(statement).await.map_err(SandboxError::sql(statement))?;
        connection.disconnect().await.map_err(SandboxError::sql("quit"))?;
        let runs = |row: &mysql_async::Row, column| {
            row.get::<String, _>(column).is_some_and(|state| state == "Yes")
        };
        Ok(row.is_some_and(|row| columns.iter().all(|&column| runs(&row, column))))
    }

    /// Whether this server has applied these GTIDs.
    async fn has(&self, position: &str) -> Result<bool, SandboxError> {
        let statement = match self.flavor() {
            Flavor::MariaDb => format!("SELECT MASTER_GTID_WAIT('{position}', 0) = 0"),
            Flavor::MySql => format!("SELECT GTID_SUBSET('{position}', @@global.gtid_executed)"),
        };
        Ok(self.ask(&statement).await?.as_deref() == Some("1"))
    }

    async fn ask(&self, statement: &str) -> Result<Option<String>, SandboxError> {
        let mut connection = self.connect(ROOT, None).await?;
        let answer: Option<Option<String>> =
            connection.query_first(statement).await.map_err(SandboxError::sql(statement))?;
        connection.disconnect().await.map_err(SandboxError::sql("quit"))?;
        Ok(answer.flatten())
    }
}
