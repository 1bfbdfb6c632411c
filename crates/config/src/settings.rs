//! The table of settings: everything that may stand in the file, what it takes, and its default.
//!
//! The reader takes names, ranges and defaults from here and from nowhere else, and the reference
//! in `docs/configuration.md` is checked against it, so the three cannot disagree.

use std::fmt;
use std::time::Duration;

use crate::units::{show_duration, show_size};

/// One setting of the file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where it stands: `health.interval`, or `databases[].host` for a key of each list element.
    pub key: &'static str,
    /// What it takes; printed, it is the type in words.
    pub kind: Kind,
    /// The default as it would be written in the file; in words where it depends on something,
    /// and empty where there is none.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A text with something in it.
    Text,
    /// A host name or an IP address.
    Host,
    /// A TCP address, or `off`.
    AddressOrOff,
    /// TCP addresses and sockets, `unix:/path`.
    Listens,
    /// Schema names, prefixes such as `blog_*`, and `default`.
    Schemas,
    /// Networks and addresses.
    Networks,
    /// A file; a relative one is looked for beside the configuration file.
    File,
    /// A secret as it is.
    Secret,
    /// The name of an environment variable.
    Variable,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Whole(u64, u64),
    /// A duration, in milliseconds.
    Time(u64, u64),
    /// A duration in milliseconds, or `off`.
    TimeOrOff(u64, u64),
    /// A number of bytes.
    Size(u64, u64),
    /// One of some words.
    Word(&'static [&'static str]),
    /// A list of mappings, whose keys have rows of their own.
    Mappings,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |millis: &u64| show_duration(Duration::from_millis(*millis));
        match self {
            Self::Text => f.write_str("text"),
            Self::Host => f.write_str("host name or IP address"),
            Self::AddressOrOff => f.write_str("host:port or \"off\""),
            Self::Listens => f.write_str("host:port or unix:/path, or a list of them"),
            Self::Schemas => f.write_str("list of schema names, prefix_* and \"default\""),
            Self::Networks => f.write_str("list of networks, such as 10.0.0.0/8, and addresses"),
            Self::File => f.write_str("file name"),
            Self::Secret => f.write_str("secret text"),
            Self::Variable => f.write_str("name of an environment variable"),
            Self::Bool => f.write_str("true or false"),
            Self::Whole(min, max) => write!(f, "whole number from {min} to {max}"),
            Self::Time(min, max) => write!(f, "duration from {} to {}", time(min), time(max)),
            Self::TimeOrOff(min, max) => {
                write!(f, "duration from {} to {} or \"off\"", time(min), time(max))
            }
            Self::Size(min, max) => {
                write!(f, "size from {} to {}", show_size(*min), show_size(*max))
            }
            Self::Word(words) => f.write_str(&either(words)),
            Self::Mappings => f.write_str("list of mappings"),
        }
    }
}

impl Kind {
    /// The kind in a sentence: "a duration from 1ms to 1h".
    pub(crate) fn expected(&self) -> String {
        let article = match self {
            Self::Word(_) | Self::Bool | Self::AddressOrOff | Self::Listens => "",
            _ => "a ",
        };
        format!("{article}{self}")
    }
}

/// `"a", "b" or "c"`.
pub(crate) fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const YEAR: u64 = 8_760 * HOUR;
const PORT: Kind = Kind::Whole(1, 65_535);

const fn row(key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Setting {
    Setting { key, kind, default, doc }
}

/// Every setting, in the order of the reference.
pub const SETTINGS: &[Setting] = &[
    row(
        "listen",
        Kind::Listens,
        "127.0.0.1:3306",
        "Where applications connect; a single address needs no list, and port 0 takes a free port.",
    ),
    row(
        "admin.http",
        Kind::AddressOrOff,
        "127.0.0.1:9306",
        "Where the console, the API, the metrics and the verdicts for load balancers are served.",
    ),
    row(
        "admin.mysql",
        Kind::AddressOrOff,
        "off",
        "Where the admin console in the MySQL protocol is served; its password is the token.",
    ),
    row(
        "admin.token",
        Kind::Secret,
        "",
        "Needed for every action that changes something, and required where an admin address is \
         not on loopback.",
    ),
    row("admin.token_env", Kind::Variable, "", "The environment variable that holds the token."),
    row("admin.token_file", Kind::File, "", "The file that holds the token."),
    row("defaults.port", PORT, "3306", "The port of databases that name none."),
    row(
        "defaults.user",
        Kind::Text,
        "",
        "An account applications log in with, as if it were listed in `users`; `monitor` and \
         databases with a `pass` but no `user` fall back to it.",
    ),
    row("defaults.pass", Kind::Secret, "", "The password of `defaults.user`."),
    row(
        "defaults.pass_env",
        Kind::Variable,
        "",
        "The environment variable that holds the password of `defaults.user`.",
    ),
    row(
        "defaults.pass_file",
        Kind::File,
        "",
        "The file that holds the password of `defaults.user`.",
    ),
    row(
        "monitor.user",
        Kind::Text,
        "`defaults.user`",
        "The account of the health checks; `REPLICATION CLIENT` is enough, and optional.",
    ),
    row(
        "monitor.pass",
        Kind::Secret,
        "",
        "The password of the monitor account; for one of `users`, the default is the password there.",
    ),
    row(
        "monitor.pass_env",
        Kind::Variable,
        "",
        "The environment variable that holds the password of the monitor account.",
    ),
    row(
        "monitor.pass_file",
        Kind::File,
        "",
        "The file that holds the password of the monitor account.",
    ),
    row("users", Kind::Mappings, "`defaults.user`", "The accounts applications log in with."),
    row("users[].name", Kind::Text, "required", "The user's name."),
    row("users[].pass", Kind::Secret, "", "The user's password."),
    row(
        "users[].pass_env",
        Kind::Variable,
        "",
        "The environment variable that holds the password.",
    ),
    row("users[].pass_file", Kind::File, "", "The file that holds the password."),
    row(
        "login",
        Kind::Word(&["listed", "passthrough"]),
        "listed",
        "Who may log in: the accounts listed here, or also those that a server lets in.",
    ),
    row(
        "login_memory",
        Kind::Time(0, YEAR),
        "24h",
        "With `login: passthrough`, how long after a server let an account in failsoft lets it in \
         again without asking.",
    ),
    row(
        "databases",
        Kind::Mappings,
        "required",
        "The MySQL and MariaDB servers, at least one of them a master.",
    ),
    row("databases[].host", Kind::Host, "required", "Where the server is."),
    row("databases[].port", PORT, "`defaults.port`", "The server's TCP port."),
    row(
        "databases[].role",
        Kind::Word(&["master", "replica"]),
        "required",
        "Whether the server takes writes; failsoft never changes it.",
    ),
    row(
        "databases[].disabled",
        Kind::Bool,
        "false",
        "Leaves the server alone: no connection is ever made to it.",
    ),
    row(
        "databases[].user",
        Kind::Text,
        "the client's own user",
        "Logs in to this server with this account, whoever the client is.",
    ),
    row(
        "databases[].pass",
        Kind::Secret,
        "`defaults.pass`",
        "The password of that account; for one of `users`, the default is the password there.",
    ),
    row(
        "databases[].pass_env",
        Kind::Variable,
        "",
        "The environment variable that holds the password of that account.",
    ),
    row(
        "databases[].pass_file",
        Kind::File,
        "",
        "The file that holds the password of that account.",
    ),
    row(
        "databases[].partition",
        Kind::Schemas,
        "",
        "The schemas that live on this master; required on each one where there are several.",
    ),
    row(
        "databases[].master",
        Kind::Text,
        "the only master",
        "The master this replica follows, as `host` or `host:port`; required where there are \
         several partitions.",
    ),
    row(
        "databases[].weight",
        Kind::Whole(1, 1_000_000),
        "1",
        "How much is read from this replica, compared with others as fresh.",
    ),
    row(
        "databases[].compress",
        Kind::Bool,
        "false",
        "Compresses the connections to this server with zlib, if it offers that: less network, \
         more processor time.",
    ),
    row(
        "databases[].proxy_protocol",
        Kind::Bool,
        "false",
        "Tells this server the client's address in a PROXY header of version 2, which it has to \
         accept from failsoft.",
    ),
    row(
        "proxy_protocol.from",
        Kind::Networks,
        "",
        "Where clients' addresses are taken from PROXY headers of version 1 or 2: the load \
         balancers before failsoft.",
    ),
    row(
        "read_only",
        Kind::Bool,
        "false",
        "Refuses writes, as Phabricator's `cluster.read-only` does.",
    ),
    row(
        "reads",
        Kind::Word(&["master"]),
        "master",
        "Where reads go while there is a master; replicas answer when it is lost.",
    ),
    row(
        "health.interval",
        Kind::Time(100, HOUR),
        "3s",
        "The time from one check of a server to the next.",
    ),
    row(
        "health.threshold",
        Kind::Whole(1, 255),
        "5",
        "How many results in a row make a healthy server unhealthy, and an unhealthy one healthy.",
    ),
    row("health.timeout", Kind::Time(10, HOUR), "2s", "How long one check may take."),
    row(
        "connect_timeout",
        Kind::Time(1, 10 * MINUTE),
        "1s",
        "How long one attempt of a session to reach a server may take.",
    ),
    row(
        "master_may_replicate",
        Kind::Bool,
        "false",
        "For circular replication: a master that replicates from another server still takes writes.",
    ),
    row(
        "hold_writes",
        Kind::Time(0, HOUR),
        "0s",
        "How long a write waits for a lost master before it is refused; 0s is not at all.",
    ),
    row(
        "pool.mode",
        Kind::Word(&["off", "session", "transaction"]),
        "off",
        "When a session's connection to a server is given to others: never, when the session ends, or whenever it is in no transaction and has nothing else there.",
    ),
    row(
        "pool.idle",
        Kind::Whole(1, 100_000),
        "64",
        "The most connections to one server that are kept and belong to no session.",
    ),
    row(
        "pool.size",
        Kind::Whole(1, 100_000),
        "64",
        "In mode `transaction`: the most connections to one server that sessions share.",
    ),
    row(
        "pool.wait",
        Kind::Time(10, HOUR),
        "5s",
        "In mode `transaction`: how long a statement waits for one of them before it is refused with 1040.",
    ),
    row(
        "pool.idle_time",
        Kind::Time(SECOND, 24 * HOUR),
        "1m",
        "How long a connection is kept that no session takes; shorter than the servers' `wait_timeout`.",
    ),
    row(
        "pool.lifetime",
        Kind::Time(SECOND, 24 * HOUR),
        "1h",
        "How old a connection may become that is kept.",
    ),
    row("limits.connections", Kind::Whole(1, 1_000_000), "10000", "Client connections at a time."),
    row(
        "limits.connections_per_user",
        Kind::Whole(0, 1_000_000),
        "0",
        "Client connections of one user at a time; 0 is no limit of its own.",
    ),
    row(
        "limits.server_connections",
        Kind::Whole(0, 100_000),
        "0",
        "Connections to one server at a time; 0 is no limit of its own.",
    ),
    row(
        "limits.packet",
        Kind::Size(1 << 20, 1 << 30),
        "64MiB",
        "The longest packet taken from a client, as `max_allowed_packet`.",
    ),
    row(
        "limits.memory",
        Kind::Size(16 << 20, 1 << 40),
        "1GiB",
        "What packets of clients longer than 256 KiB may take of memory together, at least two of `limits.packet`; a client for whose packet there is no more room is refused.",
    ),
    row(
        "limits.login_timeout",
        Kind::Time(100, HOUR),
        "10s",
        "How long a client may take to log in.",
    ),
    row(
        "limits.idle_timeout",
        Kind::Time(SECOND, YEAR),
        "8h",
        "How long a client may send nothing before it is disconnected, as `wait_timeout`.",
    ),
    row(
        "watch",
        Kind::Bool,
        "false",
        "Reloads this file when it, or a file that it names, changes on disk.",
    ),
    row(
        "threads",
        Kind::Whole(1, 256),
        "the number of cores",
        "Threads that move data between clients and servers.",
    ),
    row(
        "drain_timeout",
        Kind::Time(0, 24 * HOUR),
        "30s",
        "How long transactions may go on after failsoft was told to stop.",
    ),
    row(
        "slow_statement",
        Kind::TimeOrOff(0, 24 * HOUR),
        "off",
        "Logs statements that take at least this long, without their values, ten a second at most, \
         and keeps the latest hundred for the console.",
    ),
    row(
        "digests_per_second",
        Kind::Whole(0, 1_000_000),
        "200",
        "How many statements a second each thread looks at for the list of statements; with more \
         than that the list's numbers are estimates. 0 makes no list.",
    ),
    row(
        "ledger",
        Kind::File,
        "",
        "Where writes of unknown outcome are kept, a line of JSON for each, so that a restart does \
         not forget them.",
    ),
    row(
        "tls.clients",
        Kind::Word(&["off", "preferred", "required"]),
        "preferred",
        "Whether clients may, or must, use TLS.",
    ),
    row(
        "tls.cert",
        Kind::File,
        "",
        "The certificate shown to clients, with its chain, in PEM; without it failsoft makes a \
         self-signed one at start.",
    ),
    row("tls.key", Kind::File, "", "The private key of `tls.cert`, in PEM."),
    row(
        "tls.client_ca",
        Kind::File,
        "",
        "The authorities that sign clients' certificates, in PEM; with it every client has to show \
         one. Only with `tls.clients: required`.",
    ),
    row(
        "tls.servers",
        Kind::Word(&["off", "preferred", "required", "verify"]),
        "preferred",
        "Whether connections to servers use TLS: never, where the server offers it, always, or \
         always and with a certificate signed by `tls.ca`.",
    ),
    row(
        "tls.ca",
        Kind::File,
        "",
        "The authorities that sign the servers' certificates, in PEM; for `verify`.",
    ),
    row("tls.client_cert", Kind::File, "", "The certificate failsoft shows to servers, in PEM."),
    row("tls.client_key", Kind::File, "", "The private key of `tls.client_cert`, in PEM."),
    row(
        "log.format",
        Kind::Word(&["auto", "human", "json"]),
        "auto",
        "How log lines look; `auto` is `human` on a terminal and `json` elsewhere.",
    ),
    row(
        "log.level",
        Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        "info",
        "The least important lines that are logged.",
    ),
];

/// The setting with this key.
pub(crate) fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The keys that a mapping may have, given where it stands: `""`, `health`, `databases[]`.
pub(crate) fn keys_of(section: &str) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for setting in SETTINGS {
        let inside = match section {
            "" => Some(setting.key),
            _ => setting.key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')),
        };
        let key = inside.and_then(|rest| rest.split(['.', '[']).next());
        keys.extend(key.filter(|key| keys.last() != Some(key)));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_section() {
        assert_eq!(keys_of("users[]"), ["name", "pass", "pass_env", "pass_file"]);
        assert_eq!(keys_of("health"), ["interval", "threshold", "timeout"]);
        let root = keys_of("");
        assert_eq!(root.len(), 25, "{root:?}");
        for key in root {
            assert_eq!(keys_of("").iter().filter(|other| **other == key).count(), 1, "{key}");
        }
    }

    #[test]
    fn keys_are_unique_and_docs_are_sentences() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            let key = setting.key;
            assert!(SETTINGS.iter().skip(at + 1).all(|other| other.key != key), "{key} twice");
            assert!(setting.doc.ends_with('.') && !setting.doc.contains("  "), "{key}");
        }
    }
}
