//! The accounts every server of a sandbox has, and how to log in with them.

use mysql_async::{Conn, OptsBuilder};

use crate::Flavor;

/// An account of the sandbox's servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name.
    pub user: &'static str,
    /// The password, in clear: these servers hold nothing and listen on loopback only.
    pub pass: &'static str,
}

/// May do everything, on every server.
pub const ROOT: Account = Account { user: "root", pass: "root-pass" };
/// What an application logs in with: everything on the schema `app` and on schemas `app_…`.
pub const APP: Account = Account { user: "app", pass: "app-pass" };
/// What failsoft checks servers with: may see replication, and nothing else.
pub const MONITOR: Account = Account { user: "failsoft", pass: "monitor-pass" };
/// What a replica logs in to its master with.
pub(crate) const REPLICATION: Account = Account { user: "repl", pass: "repl-pass" };

/// Largest packet a connection of [`connect`] sends or takes, in bytes; the servers are set to it.
pub(crate) const MAX_PACKET: usize = 64 << 20;
/// Seconds a connection may be idle: what servers use, and given so that it is not asked for.
const WAIT_TIMEOUT_S: usize = 28_800;

/// Logs in to a server on loopback over TCP, never over its Unix socket.
///
/// # Errors
/// What the server or the network answered.
pub async fn connect(
    port: u16,
    account: Account,
    schema: Option<&str>,
) -> Result<Conn, mysql_async::Error> {
    Conn::new(builder(account, schema).ip_or_hostname("127.0.0.1").tcp_port(port)).await
}

/// What logins over TCP and over the Unix socket have in common.
pub(crate) fn builder(account: Account, schema: Option<&str>) -> OptsBuilder {
    OptsBuilder::default()
        .user(Some(account.user))
        .pass((!account.pass.is_empty()).then_some(account.pass))
        .db_name(schema)
        .prefer_socket(false)
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(WAIT_TIMEOUT_S))
}

/// Statements that turn a freshly initialised server into the template: run as root, unlogged.
pub(crate) fn setup(flavor: Flavor) -> Vec<String> {
    let plugin = match flavor {
        Flavor::MariaDb => "mysql_native_password",
        Flavor::MySql => "caching_sha2_password",
    };
    let create = |account: Account| match flavor {
        Flavor::MariaDb => format!(
            "CREATE USER {}@'%' IDENTIFIED VIA {plugin} USING PASSWORD('{}')",
            account.user, account.pass
        ),
        Flavor::MySql => format!(
            "CREATE USER {}@'%' IDENTIFIED WITH {plugin} BY '{}'",
            account.user, account.pass
        ),
    };
    let mut statements = vec!["SET SESSION sql_log_bin = 0".to_owned()];
    statements.extend([ROOT, APP, MONITOR, REPLICATION].map(create));
    statements.push(format!("ALTER USER root@localhost IDENTIFIED BY '{}'", ROOT.pass));
    statements.extend(common(flavor).iter().map(|&statement| statement.to_owned()));
    statements
}

/// Rights and schemas, by flavour.
fn common(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MariaDb => &[
            "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION",
            "GRANT ALL PRIVILEGES ON app.* TO app@'%'",
            r"GRANT ALL PRIVILEGES ON `app\_%`.* TO app@'%'",
            "GRANT BINLOG MONITOR, SLAVE MONITOR ON *.* TO failsoft@'%'",
            "GRANT REPLICATION SLAVE ON *.* TO repl@'%'",
            "DELETE FROM mysql.global_priv WHERE User = ''",
            "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host NOT IN ('localhost', '%')",
            "FLUSH PRIVILEGES",
            "ALTER TABLE mysql.gtid_slave_pos ENGINE = InnoDB",
            "CREATE DATABASE app",
        ],
        Flavor::MySql => &[
            "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION",
            "GRANT ALL PRIVILEGES ON app.* TO app@'%'",
            r"GRANT ALL PRIVILEGES ON `app\_%`.* TO app@'%'",
            "GRANT REPLICATION CLIENT ON *.* TO failsoft@'%'",
            "GRANT REPLICATION SLAVE ON *.* TO repl@'%'",
            "CREATE DATABASE app",
        ],
    }
}
