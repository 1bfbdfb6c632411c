//! The configuration as text: the whole of it in YAML, or what is different in another.
//!
//! Both are made from one tree, in which every value is already written as in the file.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::model::{Account, Admin, Config, Database, Health, Limits, Log, Pool, Role, Tls};
use crate::secret::Secret;
use crate::units::{show_duration, show_size};

/// What is shown of a secret.
const HIDDEN: &str = "***";

/// What is shown of a setting that is not there.
const ABSENT: &str = "(none)";

/// One setting that is different in a new configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The setting, such as `health.interval`, `databases[db001:3306].role` or `users[app].pass`.
    pub path: String,
    /// The value until now, `(none)` where there was none, `***` for a secret.
    pub old: String,
    /// The value from now on, in the same way; `*** (changed)` for a secret.
    pub new: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.path, self.old, self.new)
    }
}

/// A part of the configuration.
#[derive(Debug, PartialEq)]
enum Part<'c> {
    /// A value as it is written in YAML.
    Value(String),
    /// A secret.
    Hidden(&'c Secret),
    /// A setting that is not there and has no word for that.
    Absent,
    /// A mapping.
    Map(Vec<(&'static str, Self)>),
    /// A list of mappings, each with what identifies it.
    List(Vec<(String, Self)>),
}

impl Config {
    /// The whole configuration as YAML, with every default filled in and secrets as `***`. Apart
    /// from those, and from `defaults`, which is spread over what it is for, it reads as the same
    /// configuration again.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = String::new();
        if let Part::Map(entries) = whole(self) {
            write_map(&mut text, &entries, 0);
        }
        text
    }

    /// What `new` would change.
    #[must_use]
    pub fn difference(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        compare(&mut changes, String::new(), Some(&whole(self)), Some(&whole(new)));
        changes
    }
}

fn whole(config: &Config) -> Part<'_> {
    let users = config.users.iter().map(|it| (it.name.clone(), user(it))).collect();
    let databases = config.databases.iter().map(|it| (it.key(), database(it))).collect();
    Part::Map(vec![
        ("listen", texts(config.listen.iter().map(ToString::to_string))),
        ("admin", admin(&config.admin)),
        ("monitor", config.monitor.as_ref().map_or(Part::Absent, |it| Part::Map(login(it)))),
        ("users", Part::List(users)),
        ("login", plain(config.login)),
        ("login_memory", time(config.login_memory)),
        ("databases", Part::List(databases)),
        ("proxy_protocol", proxies(config)),
        ("read_only", plain(config.read_only)),
        ("reads", plain("master")),
        ("health", health(config.health)),
        ("connect_timeout", time(config.connect_timeout)),
        ("master_may_replicate", plain(config.master_may_replicate)),
        ("hold_writes", time(config.hold_writes)),
        ("pool", pool(config.pool)),
        ("limits", limits(config.limits)),
        ("watch", plain(config.watch)),
        ("threads", plain(config.threads)),
        ("drain_timeout", time(config.drain_timeout)),
        ("slow_statement", config.slow_statement.map_or_else(off, time)),
        ("digests_per_second", plain(config.digests_per_second)),
        ("ledger", config.ledger.as_deref().map_or(Part::Absent, file)),
        ("tls", tls(&config.tls)),
        ("log", log(config.log)),
    ])
}

fn admin(admin: &Admin) -> Part<'_> {
    let address = |address: &Option<String>| address.as_deref().map_or_else(off, text);
    Part::Map(vec![
        ("http", address(&admin.http)),
        ("mysql", address(&admin.mysql)),
        ("token", admin.token.as_ref().map_or(Part::Absent, Part::Hidden)),
    ])
}

fn login(account: &Account) -> Vec<(&'static str, Part<'_>)> {
    vec![("user", text(&account.name)), ("pass", Part::Hidden(&account.pass))]
}

fn user(account: &Account) -> Part<'_> {
    Part::Map(vec![("name", text(&account.name)), ("pass", Part::Hidden(&account.pass))])
}

fn database(database: &Database) -> Part<'_> {
    let mut entries = vec![
        ("host", text(&database.host)),
        ("port", plain(database.port)),
        ("role", plain(database.role)),
        ("disabled", plain(database.disabled)),
    ];
    entries.extend(database.account.iter().flat_map(login));
    if !database.partition.is_empty() {
        entries.push(("partition", texts(database.partition.iter().cloned())));
    }
    if database.role == Role::Replica {
        entries.extend(database.master.as_deref().map(|master| ("master", text(master))));
    }
    entries.push(("weight", plain(database.weight)));
    entries.push(("compress", plain(database.compress)));
    entries.push(("proxy_protocol", plain(database.proxy_protocol)));
    Part::Map(entries)
}

fn proxies(config: &Config) -> Part<'_> {
    if config.proxies.is_empty() {
        return Part::Absent;
    }
    let networks = config.proxies.iter().map(ToString::to_string);
    Part::Map(vec![("from", texts(networks))])
}

fn health(health: Health) -> Part<'static> {
    Part::Map(vec![
        ("interval", time(health.interval)),
        ("threshold", plain(health.threshold)),
        ("timeout", time(health.timeout)),
    ])
}

fn pool(pool: Pool) -> Part<'static> {
    Part::Map(vec![
        ("mode", plain(pool.mode)),
        ("idle", plain(pool.idle)),
        ("size", plain(pool.size)),
        ("wait", time(pool.wait)),
        ("idle_time", time(pool.idle_time)),
        ("lifetime", time(pool.lifetime)),
    ])
}

fn limits(limits: Limits) -> Part<'static> {
    Part::Map(vec![
        ("connections", plain(limits.connections)),
        ("connections_per_user", plain(limits.connections_per_user)),
        ("server_connections", plain(limits.server_connections)),
        ("packet", Part::Value(show_size(limits.packet))),
        ("memory", Part::Value(show_size(limits.memory))),
        ("login_timeout", time(limits.login_timeout)),
        ("idle_timeout", time(limits.idle_timeout)),
    ])
}

fn tls(tls: &Tls) -> Part<'_> {
    let files = |pair: &Option<(std::path::PathBuf, std::path::PathBuf)>| match pair {
        Some((cert, key)) => (file(cert), file(key)),
        None => (Part::Absent, Part::Absent),
    };
    let (cert, key) = files(&tls.cert_key);
    let (client_cert, client_key) = files(&tls.client_cert);
    Part::Map(vec![
        ("clients", plain(tls.clients)),
        ("cert", cert),
        ("key", key),
        ("client_ca", tls.client_ca.as_deref().map_or(Part::Absent, file)),
        ("servers", plain(tls.servers)),
        ("ca", tls.ca.as_deref().map_or(Part::Absent, file)),
        ("client_cert", client_cert),
        ("client_key", client_key),
    ])
}

fn log(log: Log) -> Part<'static> {
    Part::Map(vec![("format", plain(log.format)), ("level", plain(log.level))])
}

fn file(path: &Path) -> Part<'static> {
    text(&path.display().to_string())
}

fn plain(value: impl fmt::Display) -> Part<'static> {
    Part::Value(value.to_string())
}

fn time(duration: Duration) -> Part<'static> {
    Part::Value(show_duration(duration))
}

fn off() -> Part<'static> {
    Part::Value("off".to_owned())
}

fn text(text: &str) -> Part<'static> {
    Part::Value(scalar(text))
}

fn texts(items: impl Iterator<Item = String>) -> Part<'static> {
    let items: Vec<String> = items.map(|item| scalar(&item)).collect();
    Part::Value(format!("[{}]", items.join(", ")))
}

/// A text in YAML, in quotes where it could be taken for something else.
fn scalar(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(is_word)
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "off");
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\U{:08x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn write_map(out: &mut String, entries: &[(&'static str, Part<'_>)], depth: usize) {
    let indent = "  ".repeat(depth);
    for (key, part) in entries {
        match part {
            Part::Absent => *out += &format!("{indent}# {key}: {ABSENT}\n"),
            Part::Map(entries) => {
                *out += &format!("{indent}{key}:\n");
                write_map(out, entries, depth + 1);
            }
            Part::List(items) => {
                *out += &format!("{indent}{key}:\n");
                for (_, item) in items {
                    *out += &format!("{indent}  - {}\n", inline(item));
                }
            }
            Part::Value(_) | Part::Hidden(_) => {
                *out += &format!("{indent}{key}: {}\n", inline(part));
            }
        }
    }
}

/// A part on one line.
fn inline(part: &Part<'_>) -> String {
    match part {
        Part::Value(value) => value.clone(),
        Part::Hidden(_) => format!("{HIDDEN:?}"),
        Part::Absent => ABSENT.to_owned(),
        Part::Map(entries) => {
            let entry = |(key, part): &(&str, Part<'_>)| format!("{key}: {}", inline(part));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Part::List(items) => {
            format!(
                "[{}]",
                items.iter().map(|(_, item)| inline(item)).collect::<Vec<_>>().join(", ")
            )
        }
    }
}

/// The entries of a mapping or a list, with their paths.
fn children<'p>(path: &str, part: &'p Part<'p>) -> Option<Vec<(String, &'p Part<'p>)>> {
    let dot = if path.is_empty() { "" } else { "." };
    match part {
        Part::Map(entries) => {
            Some(entries.iter().map(|(key, part)| (format!("{path}{dot}{key}"), part)).collect())
        }
        Part::List(items) => {
            Some(items.iter().map(|(id, part)| (format!("{path}[{id}]"), part)).collect())
        }
        Part::Value(_) | Part::Hidden(_) | Part::Absent => None,
    }
}

fn compare(
    changes: &mut Vec<Change>,
    path: String,
    old: Option<&Part<'_>>,
    new: Option<&Part<'_>>,
) {
    if old == new {
        return;
    }
    let inner =
        old.and_then(|old| children(&path, old)).zip(new.and_then(|new| children(&path, new)));
    let Some((old_parts, new_parts)) = inner else {
        changes.push(change(path, old, new));
        return;
    };
    let find = |parts: &[(String, _)], path: &str| {
        parts.iter().find(|(other, _)| other == path).map(|(_, part)| *part)
    };
    let (old_len, new_len) = (changes.len(), new_parts.len());
    for (path, part) in &old_parts {
        compare(changes, path.clone(), Some(part), find(&new_parts, path));
    }
    for (path, part) in &new_parts {
        if find(&old_parts, path).is_none() {
            compare(changes, path.clone(), None, Some(part));
        }
    }
    if changes.len() == old_len && new_len > 0 {
        changes.push(change(path, old, new));
    }
}

fn change(path: String, old: Option<&Part<'_>>, new: Option<&Part<'_>>) -> Change {
    let shown = |part: Option<&Part<'_>>| match part {
        Some(Part::Hidden(_)) => HIDDEN.to_owned(),
        Some(part) => inline(part),
        None => ABSENT.to_owned(),
    };
    let is_secret = matches!((old, new), (Some(Part::Hidden(_)), Some(Part::Hidden(_))));
    let new = if is_secret { format!("{HIDDEN} (changed)") } else { shown(new) };
    Change { path, old: shown(old), new }
}
