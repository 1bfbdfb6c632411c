//! A server as the suite expects it, and failsoft in front of it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failsoft_tests::PATIENCE;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tempfile::TempDir;
use testkit::{Account, Failsoft, Flavor, Lease, Options, Process, ROOT, Server, conn};
use tokio::time::Instant;

use super::case::Case;
use super::source::Source;

/// What a case sees little of, and a start need not wait for.
const OURS: &[&str] = &[
    "--user=root",
    "--bind-address=127.0.0.1",
    "--server-id=1",
    "--log-output=FILE",
    "--skip-ssl",
    "--performance-schema=OFF",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-use-native-aio=OFF",
    "--loose-skip-plugin-feedback",
];
/// The suite's servers have InnoDB for those cases only that ask for it.
const NO_INNODB: &str = "--loose-skip-plugin-innodb";
/// The suite's time zones, which come with the server.
const TIME_ZONES: &str = "/usr/share/mysql/mysql_test_data_timezone.sql";
/// The account that cases log in as when they name none.
const SUITE_ROOT: Account = Account { user: "root", pass: "" };
/// Above those that failsoft takes, as cases subtract the port they know from the server's, in numbers
/// that have no sign.
const HIGH_PORTS: RangeInclusive<u16> = 61_000..=65_000;
/// The pause between two attempts to log in.
const PAUSE: Duration = Duration::from_millis(20);
/// Schemas that stay between cases.
const KEPT: &str = "'mysql','information_schema','performance_schema','sys','mtr'";

/// Data as the suite's servers have it, which each [`Stand`] starts on a copy of.
#[derive(Debug)]
pub(crate) struct Template {
    folder: TempDir,
}

impl Template {
    /// Makes it on a server of the sandbox.
    pub(crate) async fn new() -> Self {
        let mut server = Server::start(Flavor::MariaDb, Options::default()).await.unwrap();
        furnish(&server).await;
        server.stop().await.unwrap();
        let folder = tempfile::Builder::new().prefix("failsoft-suite-").tempdir().unwrap();
        each_file(&server.dir().join("data"), folder.path(), copy);
        for entry in fs::read_dir(folder.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("binlog.") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        Self { folder }
    }
}

/// One server for one case after another.
#[derive(Debug)]
pub(crate) struct Stand {
    // First: the process must be gone before its folder.
    process: Process,
    folder: TempDir,
    lease: Lease,
    started_with: Vec<String>,
    failsoft: Option<(Case, Failsoft)>,
}

impl Stand {
    /// Starts a server with these options, and waits until it accepts logins. Fails with its log
    /// where it does not like them.
    pub(crate) async fn start(
        source: &Source,
        template: &Template,
        options: &[String],
    ) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("failsoft-").tempdir().unwrap();
        let variable = folder.path().join("var");
        for name in ["tmp", "log", "r"] {
            fs::create_dir_all(variable.join(name)).unwrap();
        }
        fs::write(variable.join(OPTION_FILE), "").unwrap();
        symlink(folder.path().join("log"), variable.join("log/mysqld.1.err")).unwrap();
        each_file(&source.folder().join("std_data"), &variable.join("std_data"), link_or_copy);
        each_file(template.folder.path(), &variable.join(DATA), copy);
        let lease = HIGH_PORTS.into_iter().find_map(|port| Lease::exactly(port).ok());
        let lease = lease.map_or_else(Lease::any, Ok).unwrap();
        let command = command(source, &variable, lease.port(), options);
        let process = Process::start(&command, folder.path(), &folder.path().join("log")).unwrap();
        let started_with = options.to_vec();
        let mut stand = Self { process, folder, lease, started_with, failsoft: None };
        stand.wait_ready().await?;
        Ok(stand)
    }

    async fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while conn(self.port(), SUITE_ROOT.user, SUITE_ROOT.pass, None).await.is_err() {
            let ended = self.process.ended().unwrap();
            if ended.is_some() || Instant::now() >= deadline {
                return Err(self.process.log_tail());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Whether the server was started with just what this case wants.
    pub(crate) fn is_for(&self, case: &Case) -> bool {
        self.started_with == case.server
    }

    /// The port of the server itself.
    pub(crate) const fn port(&self) -> u16 {
        self.lease.port()
    }

    /// The port of a failsoft that knows a case's accounts.
    pub(crate) async fn failsoft_port(&mut self, case: &Case) -> u16 {
        if let Some((known, failsoft)) = &mut self.failsoft
            && known.accounts == case.accounts
            && failsoft.is_running()
        {
            return failsoft.port();
        }
        let mut users = String::from("users:\n  - {name: root, pass: \"\"}\n");
        for (name, pass) in &case.accounts {
            users += &format!("  - {{name: {name:?}, pass: {pass:?}}}\n");
        }
        let failsoft = Failsoft::config(&[("master", self.port())])
            .with("defaults: {user: root, pass: \"\"}")
            .with("monitor: {user: root, pass: \"\"}")
            .with("health: {interval: 1h, threshold: 5, timeout: 10s}")
            .with("limits: {packet: 1GiB}")
            .with(&users)
            .start()
            .await;
        self.failsoft.insert((case.clone(), failsoft)).1.port()
    }

    /// The folder that the suite calls `var`.
    pub(crate) fn variable(&self) -> PathBuf {
        self.folder.path().join("var")
    }

    /// The server's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.variable().join(DATA)
    }

    /// The server's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.variable().join(SOCKET)
    }

    /// Takes away what a case left behind. Fails where it left the server such that it cannot.
    pub(crate) async fn reset(&self) -> Result<(), mysql_async::Error> {
        let mut root = root(self.port(), SUITE_ROOT).await?;
        let left = format!(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ({KEPT})"
        );
        let left: Vec<Vec<u8>> = root.query(left).await?;
        for schema in left.iter().map(|name| String::from_utf8_lossy(name)) {
            // Files that a case wrote there keep a schema from going.
            let dropping = format!("DROP DATABASE `{schema}`");
            if root.query_drop(&dropping).await.is_err() {
                fs::remove_dir_all(self.data().join(&*schema)).ok();
            }
        }
        for statement in ["DELETE FROM mtr.test_suppressions", CREATE_TEST] {
            root.query_drop(statement).await?;
        }
        clear(&self.variable().join("tmp"));
        root.disconnect().await
    }
}

/// Where in the folder that the suite calls `var` clients look for options.
pub(crate) const OPTION_FILE: &str = "my.cnf";
/// Where in the folder that the suite calls `var` a server's data is.
const DATA: &str = "mysqld.1/data";
/// Where in it the server's socket is.
pub(crate) const SOCKET: &str = "tmp/mysqld.1.sock";
const CREATE_TEST: &str =
    "CREATE OR REPLACE DATABASE test CHARACTER SET latin1 COLLATE latin1_swedish_ci";

async fn root(port: u16, account: Account) -> Result<Conn, mysql_async::Error> {
    conn(port, account.user, account.pass, None).await
}

/// The server's whole command line; options that come later win.
fn command(source: &Source, variable: &Path, port: u16, options: &[String]) -> Vec<OsString> {
    let mut command = Flavor::MariaDb.find().unwrap().command().to_vec();
    command.push("--no-defaults".into());
    command.extend(source.server_arguments().into_iter().map(OsString::from));
    command.push(format!("--port={port}").into());
    for (name, path) in [
        ("datadir", variable.join(DATA)),
        ("socket", variable.join(SOCKET)),
        ("tmpdir", variable.join("tmp")),
        ("pid-file", variable.join("pid")),
        ("secure-file-priv", variable.to_owned()),
    ] {
        command.push(with_path(&format!("--{name}"), &path));
    }
    command.extend(OURS.iter().map(OsString::from));
    if !options.iter().any(|option| option.contains("innodb")) {
        command.push(NO_INNODB.into());
    }
    command.extend(options.iter().map(OsString::from));
    command
}

/// `NAME=PATH`.
pub(crate) fn with_path(name: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(format!("{name}="));
    argument.push(path);
    argument
}

/// Makes of a sandbox's server one of the suite's: its schemas, accounts and time zones.
async fn furnish(server: &Server) {
    let mut session = root(server.port(), ROOT).await.unwrap();
    let time_zones = fs::read_to_string(TIME_ZONES).unwrap_or_default();
    let statements = [
        "DROP DATABASE app",
        "DROP USER app@'%', failsoft@'%', repl@'%'",
        "CREATE DATABASE mtr CHARACTER SET latin1",
        "CREATE TABLE mtr.test_suppressions (pattern VARCHAR(255)) ENGINE = MyISAM",
        "ALTER TABLE mysql.gtid_slave_pos ENGINE = Aria TRANSACTIONAL = 0",
        "CREATE DEFINER = root@localhost PROCEDURE mtr.add_suppression (pattern VARCHAR(255)) \
         INSERT INTO mtr.test_suppressions VALUES (pattern)",
        "USE mysql",
        &time_zones,
        "DROP USER root@'%'",
        "REPLACE INTO global_priv SELECT host, 'root', '{\"access\":18446744073709551615}' \
         FROM (SELECT 'localhost' AS host UNION SELECT '127.0.0.1' UNION SELECT '::1') AS hosts",
        "REPLACE INTO proxies_priv SELECT host, user, '', '', TRUE, '', NOW() FROM global_priv \
         WHERE user = 'root' AND host <> 'localhost'",
        "FLUSH PRIVILEGES",
        CREATE_TEST,
    ];
    for statement in statements.into_iter().filter(|statement| !statement.is_empty()) {
        let done = session.query_drop(statement).await;
        done.unwrap_or_else(|error| panic!("{statement:.60}: {error}"));
    }
    session.disconnect().await.unwrap();
}

/// Empties a folder, but for the server's own files.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("mysqld.1") {
            let removed = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            };
            removed.ok();
        }
    }
}

/// Brings each file below a folder to the same place below another.
fn each_file(from: &Path, to: &Path, bring: fn(&Path, &Path) -> io::Result<()>) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            each_file(&entry.path(), &target, bring);
        } else {
            bring(&entry.path(), &target).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Files that nobody writes to need no copy, where one file system holds both places.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| copy(from, to))
}
