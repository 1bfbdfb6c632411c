//! Which drivers there are, and how their programs are run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SCHEMAS;

/// Whether `make test` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It does.
    Light,
    /// Only `make drivers-test DRIVERS=all` has it: its tool chain is hundreds of megabytes, or it
    /// takes a minute to build.
    Heavy,
}

/// What it is for, and so what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Sends what an application wants.
    Client,
    /// Writes dumps.
    Dump,
}

/// A driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driver {
    /// How the page names it.
    pub(crate) name: &'static str,
    pub(crate) sort: Sort,
    pub(crate) weight: Weight,
    /// Program and arguments; `{…}` as [`filled`] says.
    command: &'static [&'static str],
}

const fn client(name: &'static str, weight: Weight, command: &'static [&'static str]) -> Driver {
    Driver { name, sort: Sort::Client, weight, command }
}

const fn dump(name: &'static str, command: &'static [&'static str]) -> Driver {
    Driver { name, sort: Sort::Dump, weight: Weight::Light, command }
}

/// All of them, in the order of the page.
pub(crate) const DRIVERS: &[Driver] = &[
    client("`mariadb`", Weight::Light, &["python3", "cli.py", "mariadb"]),
    client("`mysql`", Weight::Light, &["python3", "cli.py", "{cache}/mysql/mysql"]),
    client(
        "PHP mysqli",
        Weight::Light,
        &["php", "-d", "mysqli.allow_local_infile=1", "php/drivers.php", "mysqli"],
    ),
    client("PHP PDO", Weight::Light, &["php", "php/drivers.php", "pdo"]),
    client("Python PyMySQL", Weight::Light, &["{python}", "python/drivers.py", "pymysql"]),
    client("Python mysqlclient", Weight::Light, &["{python}", "python/drivers.py", "mysqlclient"]),
    client(
        "Python mysql-connector-python",
        Weight::Light,
        &["{python}", "python/drivers.py", "connector"],
    ),
    client("Python asyncmy", Weight::Light, &["{python}", "python/drivers.py", "asyncmy"]),
    client(
        "Python SQLAlchemy on PyMySQL",
        Weight::Light,
        &["{python}", "python/drivers.py", "sqlalchemy"],
    ),
    client(
        "Python Django on mysqlclient",
        Weight::Light,
        &["{python}", "python/drivers.py", "django"],
    ),
    client("Perl DBD::mysql", Weight::Light, &["perl", "perl/dbi.pl", "mysql"]),
    client("Perl DBD::MariaDB", Weight::Light, &["perl", "perl/dbi.pl", "MariaDB"]),
    client("Ruby mysql2", Weight::Light, &["ruby", "ruby/mysql2.rb"]),
    client("Rust mysql_async", Weight::Light, &[env!("CARGO_BIN_EXE_driver-mysql-async")]),
    client("Rust sqlx", Weight::Heavy, &["sh", "sqlx/run.sh"]),
    client("Go go-sql-driver/mysql", Weight::Heavy, &["sh", "go/run.sh"]),
    client("Java MariaDB Connector/J", Weight::Heavy, &["sh", "java/run.sh"]),
    dump("`mariadb-dump`", &["python3", "dump.py", "mysqldump", "mariadb-dump"]),
    dump("`mysqldump`", &["python3", "dump.py", "mysqldump", "{cache}/mysql/mysqldump"]),
    dump("`mydumper`", &["python3", "dump.py", "mydumper", "mydumper"]),
];

impl Driver {
    /// Its own schema, so that drivers do not meet.
    pub(crate) fn schema(&self) -> String {
        let at = DRIVERS.iter().position(|other| other.name == self.name);
        format!("{SCHEMAS}{}", at.expect("a driver of the list"))
    }

    /// The command that runs its program.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.command.iter().map(|word| filled(word));
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).current_dir(programs());
        // Nothing is written into the checkout.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// The version that its program tells, if it is on this machine.
    pub(crate) fn version(&self) -> Result<String, String> {
        let output = self.command().arg("version").output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !text.is_empty() {
            return Ok(text);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(error.lines().last().unwrap_or("it does not tell its version").to_owned())
    }
}

/// The folder of the programs.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// A word of a command; `{cache}` is the cache folder, `{python}` the Python with the drivers that
/// `scripts/setup.sh` puts there.
fn filled(word: &str) -> String {
    let cache = testkit::cache_dir().display().to_string();
    word.replace("{python}", "{cache}/drivers/bin/python").replace("{cache}", &cache)
}

/// The drivers to test, with their versions: those that are light (`FAILSOFT_TEST_DRIVERS=light`), or
/// all (`all`), or the light ones that this machine has (`present`); none where nobody asks for them.
///
/// # Panics
/// One that was asked for is missing; in continuous integration (`CI=true`) `present` asks for all
/// that are light.
#[allow(clippy::print_stderr, reason = "the reader of a test's output has to see what was skipped")]
pub(crate) fn present() -> Vec<(Driver, String)> {
    let asked = env::var("FAILSOFT_TEST_DRIVERS").unwrap_or_default();
    let (all, must) = match asked.as_str() {
        "all" => (true, true),
        "light" => (false, true),
        "present" => (false, env::var("CI").as_deref() == Ok("true")),
        _ => {
            eprintln!("skipped: drivers; make drivers-test installs and runs them");
            return Vec::new();
        }
    };
    let wanted = DRIVERS.iter().filter(|driver| all || driver.weight == Weight::Light);
    let found = wanted.filter_map(|driver| match driver.version() {
        Ok(version) => Some((*driver, version)),
        Err(reason) => {
            assert!(!must, "{} is missing: {reason}", driver.name);
            eprintln!("skipped: {} is missing: {reason}", driver.name);
            None
        }
    });
    found.collect()
}
