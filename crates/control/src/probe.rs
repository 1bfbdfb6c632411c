//! Checks one server: logs in, looks, quits.
//!
//! A check is a fresh login, so that it finds what a client would find, and it ends with a proper
//! quit, so that servers do not count it among their aborted clients. What a server understands is
//! remembered from one check to the next, and forgotten when a check fails: it may be another then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, OptsBuilder, Row, SslOpts, Value};
use policy::observation::{CheckFailure, Observation, Replication};
use tokio::time::{Instant, timeout};

use crate::settings::{ProbeTarget, Tls, TlsMode};
use crate::status::{self, Fields};

mod failure;

/// How long the goodbye may take; its outcome matters to nobody.
const QUIT_LIMIT: Duration = Duration::from_millis(500);
/// Given, so that they are not asked for.
const MAX_PACKET: usize = 16 << 20;
const WAIT_TIMEOUT_S: usize = 600;

/// `ER_PARSE_ERROR`, `ER_UNKNOWN_SYSTEM_VARIABLE`: the server does not know what was asked.
const NOT_UNDERSTOOD: [u16; 2] = [1064, 1193];
/// `ER_DBACCESS_DENIED_ERROR`, `ER_TABLEACCESS_DENIED_ERROR`, `ER_COLUMNACCESS_DENIED_ERROR`,
/// `ER_SPECIFIC_ACCESS_DENIED_ERROR`.
const NOT_ALLOWED: [u16; 4] = [1044, 1142, 1143, 1227];

/// What every server answers.
const EVERYWHERE: &str = "SELECT @@global.version, @@global.read_only, @@global.server_id, @@global.hostname, \
     @@global.port";

/// How a flavour is asked for the rest: the first statement of each list that it understands.
struct Dialect {
    /// Its own identity (empty: none), whether even administrators may not write, and the GTIDs it
    /// has executed.
    facts: &'static [&'static str],
    /// The status of replication.
    status: &'static [&'static str],
}

const MYSQL: Dialect = Dialect {
    facts: &[
        "SELECT @@global.server_uuid, @@global.super_read_only, @@global.gtid_executed",
        "SELECT @@global.server_uuid, 0, @@global.gtid_executed",
        "SELECT '', 0, ''",
    ],
    status: &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
};

const MARIADB: Dialect = Dialect {
    facts: &[
        "SELECT @@global.server_uid, 0, @@global.gtid_current_pos",
        "SELECT '', 0, @@global.gtid_current_pos",
        "SELECT '', 0, ''",
    ],
    status: &["SHOW ALL SLAVES STATUS", "SHOW SLAVE STATUS"],
};

/// What the last check that got through learned of the server's understanding.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// The server offers no encryption.
    plain: bool,
    /// Which of [`Dialect::facts`].
    facts: usize,
    /// Which of [`Dialect::status`].
    status: usize,
}

/// Checks one server, any number of times.
#[derive(Debug)]
pub(crate) struct Probe {
    encrypted: Option<mysql_async::Opts>,
    plain: Option<mysql_async::Opts>,
    limit: Duration,
    memory: Mutex<Memory>,
}

/// Checks a server once.
///
/// # Errors
/// It cannot be reached within `limit`, or does not accept the login.
pub async fn check_once(target: ProbeTarget, limit: Duration) -> Result<Observation, CheckFailure> {
    Probe::new(target, limit).check().await
}

/// Logs in to a server as an account would, and out again.
///
/// # Errors
/// It cannot be reached within `limit`, or does not accept the login.
pub async fn try_login(target: ProbeTarget, limit: Duration) -> Result<(), CheckFailure> {
    let probe = Probe::new(target, limit);
    let logged_in = timeout(limit, probe.connect(&mut Memory::default())).await;
    let conn = logged_in.map_err(|_| failure::timed_out(limit))?;
    drop(timeout(QUIT_LIMIT, conn.map_err(|error| failure::of(&error))?.disconnect()).await);
    Ok(())
}

impl Probe {
    pub(crate) fn new(target: ProbeTarget, limit: Duration) -> Self {
        let mode = target.tls.mode;
        let plain = OptsBuilder::default()
            .ip_or_hostname(target.host)
            .tcp_port(target.port)
            .user(Some(target.user))
            .pass(Some(target.pass).filter(|pass| !pass.is_empty()))
            .prefer_socket(false)
            .max_allowed_packet(Some(MAX_PACKET))
            .wait_timeout(Some(WAIT_TIMEOUT_S))
            .connect_attribute("program_name", "failsoft health check");
        let encrypted = plain.clone().ssl_opts(ssl(&target.tls));
        Self {
            encrypted: (mode != TlsMode::Off).then(|| encrypted.into()),
            plain: matches!(mode, TlsMode::Off | TlsMode::Preferred).then(|| plain.into()),
            limit,
            memory: Mutex::default(),
        }
    }

    /// Logs in, looks and quits.
    pub(crate) async fn check(&self) -> Result<Observation, CheckFailure> {
        let mut memory = *self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match timeout(self.limit, self.look(&mut memory)).await {
            Ok(Ok((conn, observation))) => {
                drop(timeout(QUIT_LIMIT, conn.disconnect()).await);
                Ok(observation)
            }
            Ok(Err(error)) => Err(failure::of(&error)),
            Err(_) => Err(failure::timed_out(self.limit)),
        };
        if outcome.is_err() {
            memory = Memory::default();
        }
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        outcome
    }

    async fn look(&self, memory: &mut Memory) -> Result<(Conn, Observation), Error> {
        let start = Instant::now();
        let mut conn = self.connect(memory).await?;
        let first = one(&mut conn, EVERYWHERE).await?;
        let version = first.text(0);
        let dialect = if is_mariadb(&version) { MARIADB } else { MYSQL };
        let (facts, found) = understood(&mut conn, dialect.facts, memory.facts).await?;
        memory.facts = found;
        let facts = facts.first().map(Fact::new).unwrap_or_default();
        let mut messages = Vec::new();
        let replication = match understood(&mut conn, dialect.status, memory.status).await {
            Ok((rows, found)) => {
                memory.status = found;
                status::replication(&rows.iter().map(fields).collect::<Vec<_>>())
            }
            Err(Error::Server(error)) if NOT_ALLOWED.contains(&error.code) => {
                let account: Option<String> = conn.query_first("SELECT CURRENT_USER()").await?;
                messages.push(missing_grant(&version, &account.unwrap_or_default()));
                Replication::Hidden
            }
            Err(error) => return Err(error),
        };
        let place = [first.text(2), first.text(3), first.text(4)];
        let observation = Observation {
            identity: identity(&version, &facts.text(0), place),
            read_only: first.is_on(1) || facts.is_on(1),
            gtids: facts.text(2).split_whitespace().collect(),
            version,
            replication,
            latency: start.elapsed(),
            messages,
        };
        Ok((conn, observation))
    }

    async fn connect(&self, memory: &mut Memory) -> Result<Conn, Error> {
        match (&self.encrypted, &self.plain) {
            (Some(encrypted), Some(plain)) if !memory.plain => {
                match Conn::new(encrypted.clone()).await {
                    Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) => {
                        memory.plain = true;
                        Conn::new(plain.clone()).await
                    }
                    other => other,
                }
            }
            (_, Some(opts)) | (Some(opts), None) => Conn::new(opts.clone()).await,
            (None, None) => Err(DriverError::ConnectionClosed.into()),
        }
    }
}

fn ssl(tls: &Tls) -> SslOpts {
    let verified = tls.mode == TlsMode::Verify;
    let identity = tls
        .client_certificate
        .clone()
        .map(|(certificate, key)| ClientIdentity::new(certificate.into(), key.into()));
    SslOpts::default()
        .with_root_certs(tls.ca.iter().cloned().map(Into::into).collect())
        .with_disable_built_in_roots(tls.ca.is_some())
        .with_danger_accept_invalid_certs(!verified)
        .with_client_identity(identity)
}

/// Runs the first of the statements from `from` on that the server understands; also says which.
async fn understood(
    conn: &mut Conn,
    statements: &[&str],
    from: usize,
) -> Result<(Vec<Row>, usize), Error> {
    let mut last = Error::Driver(DriverError::ConnectionClosed);
    for (at, statement) in statements.iter().enumerate().skip(from) {
        match conn.query(*statement).await {
            Ok(rows) => return Ok((rows, at)),
            Err(Error::Server(error)) if NOT_UNDERSTOOD.contains(&error.code) => {
                last = Error::Server(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn one(conn: &mut Conn, statement: &str) -> Result<Fact, Error> {
    let row: Option<Row> = conn.query_first(statement).await?;
    Ok(row.as_ref().map(Fact::new).unwrap_or_default())
}

/// A row of global variables.
#[derive(Debug, Default)]
struct Fact(Vec<Option<String>>);

impl Fact {
    fn new(row: &Row) -> Self {
        Self(fields(row).into_iter().map(|(_, value)| value).collect())
    }

    /// Empty when there is no such column or it is NULL.
    fn text(&self, column: usize) -> String {
        self.0.get(column).cloned().flatten().unwrap_or_default()
    }

    /// Whether a switch is on. MariaDB has modes beside ON since 12: anything but off is on.
    fn is_on(&self, column: usize) -> bool {
        !matches!(self.text(column).as_str(), "" | "0" | "OFF")
    }
}

/// A row as text.
fn fields(row: &Row) -> Fields {
    row.columns_ref()
        .iter()
        .enumerate()
        .map(|(at, column)| (column.name_str().into_owned(), row.as_ref(at).and_then(text)))
        .collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        other => Some(other.as_sql(true)),
    }
}

fn is_mariadb(version: &str) -> bool {
    version.to_ascii_lowercase().contains("mariadb")
}

/// Who a server is. MySQL keeps a unique id with its data. MariaDB makes one from the machine and
/// the port, which two servers may share one after the other: the rest is told with it.
fn identity(version: &str, unique: &str, [id, host, port]: [String; 3]) -> String {
    let place = format!("{host}:{port} (server_id {id})");
    match unique {
        "" => place,
        unique if is_mariadb(version) => format!("{place} {unique}"),
        unique => unique.to_owned(),
    }
}

/// What to do so that failsoft sees replication.
fn missing_grant(version: &str, account: &str) -> String {
    let privilege = if is_mariadb(version) && splits_privileges(version) {
        "SLAVE MONITOR"
    } else {
        "REPLICATION CLIENT"
    };
    let account = match account.rsplit_once('@') {
        Some((user, host)) => format!("'{user}'@'{host}'"),
        None => "the monitor account".to_owned(),
    };
    format!("replication is hidden from this account: GRANT {privilege} ON *.* TO {account}")
}

/// MariaDB 10.5 split `REPLICATION CLIENT`, which no longer shows a replica's status.
fn splits_privileges(version: &str) -> bool {
    // The prefix is what MariaDB once put before its version for the sake of old replicas.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (10, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grant_fits_the_server() {
        // version, account, message's end
        #[rustfmt::skip]
        let table = [
            ("10.11.6-MariaDB-log", "failsoft@%", "GRANT SLAVE MONITOR ON *.* TO 'failsoft'@'%'"),
            ("5.5.5-10.5.4-MariaDB", "a@b", "GRANT SLAVE MONITOR ON *.* TO 'a'@'b'"),
            ("10.4.32-MariaDB", "a@b", "GRANT REPLICATION CLIENT ON *.* TO 'a'@'b'"),
            ("12.0.2-MariaDB", "a@b@c", "GRANT SLAVE MONITOR ON *.* TO 'a@b'@'c'"),
            ("9.7.0", "failsoft@%", "GRANT REPLICATION CLIENT ON *.* TO 'failsoft'@'%'"),
            ("8.0.36-28", "", "GRANT REPLICATION CLIENT ON *.* TO the monitor account"),
        ];
        for (version, account, end) in table {
            let message = missing_grant(version, account);
            assert!(message.ends_with(end), "{version}: {message}");
        }
    }

    #[test]
    fn identities_differ_where_servers_do() {
        let place = |id: &str, port: &str| [id.to_owned(), "db1".to_owned(), port.to_owned()];
        let all = [
            identity("5.6", "", place("1", "3306")),
            identity("5.6", "", place("2", "3306")),
            identity("5.6", "", place("1", "3307")),
            identity("10.11-MariaDB", "uid", place("1", "3306")),
            identity("10.11-MariaDB", "uid", place("2", "3306")),
            identity("9.7.0", "uuid-a", place("1", "3306")),
            identity("9.7.0", "uuid-b", place("1", "3306")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one), "{one}");
        }
        assert_eq!(all[0], "db1:3306 (server_id 1)");
    }

    #[test]
    fn switches_are_on_unless_they_say_off() {
        let fact = |value: &str| Fact(vec![Some(value.to_owned())]);
        for (value, on) in [("0", false), ("OFF", false), ("1", true), ("ON", true), ("", false)] {
            assert_eq!(fact(value).is_on(0), on, "{value:?}");
        }
        assert!(!Fact(vec![None]).is_on(0));
    }
}
