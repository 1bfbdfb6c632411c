//! The servers' settings, as tables.
//!
//! What they share: durable over SIGKILL (the log is flushed at each commit), small and quick to
//! start, GTID replication ready, and nothing but one loopback port and one Unix socket open.

use std::ffi::OsString;
use std::path::Path;

use crate::Flavor;
use crate::account::MAX_PACKET;

/// Settings both flavours understand.
const BOTH: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--log-bin=binlog",
    "--sync-binlog=1",
    "--relay-log=relay",
    "--relay-log-recovery=ON",
    "--log-bin-trust-function-creators=ON",
    "--local-infile=ON",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=32M",
    "--innodb-use-native-aio=OFF",
    "--performance-schema=OFF",
    "--table-open-cache=400",
    "--max-connections=500",
];

const MARIADB: &[&str] = &[
    "--binlog-format=ROW",
    "--gtid-strict-mode=ON",
    "--log-slave-updates=ON",
    "--master-retry-count=86400",
    "--slave-net-timeout=5",
    "--innodb-log-file-size=4M",
    "--log-warnings=1",
];

const MYSQL: &[&str] = &[
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--replica-net-timeout=5",
    "--innodb-redo-log-capacity=8M",
    "--mysqlx=OFF",
    "--log-error-verbosity=2",
];

/// What makes a server refuse writes, by flavour.
pub(crate) const fn read_only(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MariaDb => &["--read-only=ON"],
        Flavor::MySql => &["--read-only=ON", "--super-read-only=ON"],
    }
}

/// All of a server's arguments but those of its role: places, port and the tables above.
pub(crate) fn arguments(flavor: Flavor, folder: &Path, port: u16) -> Vec<OsString> {
    let own = match flavor {
        Flavor::MariaDb => MARIADB,
        Flavor::MySql => MYSQL,
    };
    let mut arguments = vec![OsString::from("--no-defaults")];
    arguments.extend(places(folder));
    arguments.push(format!("--port={port}").into());
    arguments.push(format!("--max-allowed-packet={MAX_PACKET}").into());
    arguments.extend(BOTH.iter().chain(own).map(OsString::from));
    arguments.extend(account());
    arguments
}

/// Where in the folder a server keeps what.
fn places(folder: &Path) -> impl Iterator<Item = OsString> {
    let named = [
        ("datadir", data(folder)),
        ("socket", socket(folder)),
        ("pid-file", folder.join("pid")),
        ("tmpdir", folder.join("tmp")),
        ("secure-file-priv", folder.join("tmp")),
    ];
    named.into_iter().map(|(name, path)| with_path(name, &path))
}

/// `--name=path`.
pub(crate) fn with_path(name: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(format!("--{name}="));
    argument.push(path);
    argument
}

/// The account to run as: servers refuse to be root unless told so.
pub(crate) fn account() -> Option<OsString> {
    rustix::process::geteuid().is_root().then(|| OsString::from("--user=root"))
}

/// Where in a server's folder its data is.
pub(crate) fn data(folder: &Path) -> std::path::PathBuf {
    folder.join("data")
}

/// Where in a server's folder its Unix socket is.
pub(crate) fn socket(folder: &Path) -> std::path::PathBuf {
    folder.join("socket")
}

/// Where in a server's folder its log is.
pub(crate) fn log(folder: &Path) -> std::path::PathBuf {
    folder.join("log")
}
