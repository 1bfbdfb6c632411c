//! Reads the tree into a [`Config`], section by section.
//!
//! Every function first reads all that it needs, and only then gives up on what was wrong, so that
//! one problem hides no other.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};

use crate::accounts::Accounts;
use crate::addresses;
use crate::databases::{self, Draft};
use crate::model::{Account, ClientTls, Config, Health, Limits, Log, Login, Pool, PoolMode};
use crate::model::{ServerTls, Tls};
use crate::node::{Node, quoted};
use crate::reader::{Given, Reader, Section};
use crate::settings::Kind;
use crate::units::show_duration;
use crate::values::{boolean, duration, duration_or_off, size, whole, word};

/// The most threads that are started without being asked for.
const THREADS_MAX: usize = 256;

/// The configuration in `node`; where that is `None`, `reader` has problems.
pub(crate) fn config(reader: &mut Reader<'_>, node: &Node) -> Option<Config> {
    let root = &reader.root(node);
    let defaults = reader.section(root, "defaults");
    let login = reader.read_or_default(root, "login", word::<Login>);
    let login_memory = reader.read_or_default(root, "login_memory", duration);
    let accounts = Accounts::read(reader, root, &defaults, login);
    let drafts = databases::read(reader, root, &defaults, &accounts);
    let passes = login == Some(Login::Passthrough);
    if passes {
        databases::check_passthrough(reader, &drafts);
    }
    let monitor = monitor(reader, root, &accounts, &drafts, passes);
    let (listen, admin) = addresses::read(reader, root, &drafts);
    let databases = databases::finish(reader, root, drafts);
    let health = health(reader, root);
    let limits = limits(reader, root);
    let tls = tls(reader, root);
    let proxies = proxies(reader, root);
    let log = log(reader, root);
    check_fixed(reader, root);
    let read_only = reader.read_or_default(root, "read_only", boolean);
    let connect_timeout = reader.read_or_default(root, "connect_timeout", duration);
    let hold_writes = reader.read_or_default(root, "hold_writes", duration);
    let master_may_replicate = reader.read_or_default(root, "master_may_replicate", boolean);
    let watch = reader.read_or_default(root, "watch", boolean);
    let threads = reader.read(root, "threads", whole::<usize>).value().unwrap_or_else(cores);
    let pool = pool(reader, root, limits, threads);
    let drain_timeout = reader.read_or_default(root, "drain_timeout", duration);
    let slow_statement = reader.read_or_default(root, "slow_statement", duration_or_off);
    let digests_per_second = reader.read_or_default(root, "digests_per_second", whole::<u32>);
    let ledger = reader.path(root, "ledger").value();
    Some(Config {
        listen,
        admin: admin?,
        monitor,
        users: accounts.into_users(),
        login: login?,
        login_memory: login_memory?,
        databases: databases?,
        proxies,
        read_only: read_only?,
        health: health?,
        connect_timeout: connect_timeout?,
        master_may_replicate: master_may_replicate?,
        hold_writes: hold_writes?,
        pool: pool?,
        limits: limits?,
        watch: watch?,
        threads,
        drain_timeout: drain_timeout?,
        slow_statement: slow_statement?,
        digests_per_second: digests_per_second?,
        ledger,
        tls: tls?,
        log: log?,
        files: std::mem::take(&mut reader.files),
    })
}

/// How many threads can run at the same time.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// The settings that this version knows only one value of.
fn check_fixed(reader: &mut Reader<'_>, root: &Section<'_>) {
    match root.find("reads").map(|node| (node, node.text())) {
        None | Some((Node::Broken, _) | (_, Some("master"))) => {}
        Some((_, Some("replicas"))) => {
            let message = "found \"replicas\", which is not available in this version, expected \
                           \"master\"";
            reader.reject(root.at("reads"), message);
        }
        Some((other, _)) => {
            let message = format!("found {}, expected \"master\"", other.describe());
            reader.reject(root.at("reads"), message);
        }
    }
}

fn monitor(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    accounts: &Accounts,
    drafts: &[Draft<'_>],
    passes: bool,
) -> Option<Account> {
    let section = reader.section(root, "monitor");
    match (accounts.account(reader, &section, &Given::Absent), &accounts.defaults) {
        (Given::Value(account), _) => Some(account),
        (Given::Absent, Given::Value(account)) => Some(account.clone()),
        (Given::Absent, Given::Absent) if passes || !accounts.is_empty() => {
            if drafts.iter().any(Draft::needs_monitor) {
                let expected = "an account for the health checks, as there is no defaults.user";
                reader.missing(root, "monitor", expected);
            }
            None
        }
        _ => None,
    }
}

fn health(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Health> {
    let section = &reader.section(root, "health");
    let interval = reader.read_or_default(section, "interval", duration);
    let threshold = reader.read_or_default(section, "threshold", whole::<u8>);
    let timeout = reader.read_or_default(section, "timeout", duration);
    let (interval, timeout) = (interval?, timeout?);
    let threshold = NonZeroU8::new(threshold?)?;
    let until_flip = interval * u32::from(threshold.get());
    if timeout >= until_flip {
        let message = format!(
            "found {}, expected less than interval × threshold, which is {}",
            show_duration(timeout),
            show_duration(until_flip)
        );
        reader.reject(section.at("timeout"), message);
    }
    Some(Health { interval, threshold, timeout })
}

fn pool(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    limits: Option<Limits>,
    threads: usize,
) -> Option<Pool> {
    let section = &reader.section(root, "pool");
    let mode = reader.read_or_default(section, "mode", word);
    let idle = reader.read_or_default(section, "idle", whole::<usize>);
    let size = reader.read_or_default(section, "size", whole::<usize>);
    let wait = reader.read_or_default(section, "wait", duration);
    let idle_time = reader.read_or_default(section, "idle_time", duration);
    let lifetime = reader.read_or_default(section, "lifetime", duration);
    // What is kept counts as well, and sessions would find no room beside it.
    let (key, kept, is_all) = match mode {
        Some(PoolMode::Transaction) => ("size", size, true),
        _ => ("idle", idle, false),
    };
    if let (Some(mode), Some(kept), Some(limits)) = (mode, kept, limits)
        && mode != PoolMode::Off
        && (1..=kept.max(threads)).contains(&limits.server_connections)
        && !(is_all && kept.max(threads) == limits.server_connections)
    {
        let most = limits.server_connections;
        let each = if threads > kept { format!(" for {threads} threads") } else { String::new() };
        let bound = if is_all { "at most" } else { "less than" };
        let message = format!(
            "found {kept}{each}, expected {bound} limits.server_connections, which is {most}"
        );
        reader.reject(section.at(key), message);
    }
    Some(Pool {
        mode: mode?,
        idle: idle?,
        size: size?,
        wait: wait?,
        idle_time: idle_time?,
        lifetime: lifetime?,
    })
}

fn limits(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Limits> {
    let section = &reader.section(root, "limits");
    let connections = reader.read_or_default(section, "connections", whole);
    let connections_per_user = reader.read_or_default(section, "connections_per_user", whole);
    let server_connections = reader.read_or_default(section, "server_connections", whole);
    let packet = reader.read_or_default(section, "packet", size);
    let memory = reader.read_or_default(section, "memory", size);
    let login_timeout = reader.read_or_default(section, "login_timeout", duration);
    let idle_timeout = reader.read_or_default(section, "idle_timeout", duration);
    if let (Some(all), Some(of_one)) = (connections, connections_per_user)
        && of_one > all
    {
        let message =
            format!("found {of_one}, expected at most limits.connections, which is {all}");
        reader.reject(section.at("connections_per_user"), message);
    }
    Some(Limits {
        connections: connections?,
        connections_per_user: connections_per_user?,
        server_connections: server_connections?,
        packet: packet?,
        memory: memory?,
        login_timeout: login_timeout?,
        idle_timeout: idle_timeout?,
    })
}

fn tls(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Tls> {
    let section = &reader.section(root, "tls");
    let clients = reader.read_or_default(section, "clients", word);
    let servers = reader.read_or_default(section, "servers", word);
    let cert_key = pair(reader, section, "cert", "key");
    let client_cert = pair(reader, section, "client_cert", "client_key");
    let client_ca = reader.file(section, "client_ca");
    if let (Some(mode @ (ClientTls::Off | ClientTls::Preferred)), false) =
        (clients, client_ca.is_absent())
    {
        let message = format!(
            "found although tls.clients is \"{mode}\", expected only with \"required\", since \
             clients without TLS show no certificate"
        );
        reader.reject(section.at("client_ca").key(), message);
    }
    let ca = reader.file(section, "ca");
    match (servers, &ca) {
        (Some(ServerTls::Verify), Given::Absent) => {
            reader.missing(section, "ca", "a file name, as tls.servers is \"verify\"");
        }
        (Some(mode @ (ServerTls::Off | ServerTls::Preferred | ServerTls::Required)), given)
            if !given.is_absent() =>
        {
            let message = format!(
                "found although tls.servers is \"{mode}\", expected only with \"verify\", since \
                 nothing else checks certificates"
            );
            reader.reject(section.at("ca").key(), message);
        }
        _ => {}
    }
    let (client_ca, ca) = (client_ca.value(), ca.value());
    Some(Tls { clients: clients?, cert_key, client_ca, servers: servers?, ca, client_cert })
}

/// The networks of which PROXY headers are taken; a single address is a network too.
fn proxies(reader: &mut Reader<'_>, root: &Section<'_>) -> Vec<IpNet> {
    let section = &reader.section(root, "proxy_protocol");
    let mut networks = Vec::new();
    for (place, text) in reader.texts(section, "from").value().unwrap_or_default() {
        match text.parse().or_else(|_| text.parse().map(IpAddr::into)) {
            Ok(network) => networks.push(canonical(network).trunc()),
            Err(_) => reader.mismatch(place, &Node::Text(text), Kind::Networks),
        }
    }
    networks
}

/// An IPv4 network is one, also where it is written as IPv6 has it, `::ffff:10.0.0.0/104`: that is
/// how addresses are compared.
fn canonical(network: IpNet) -> IpNet {
    let four = match network {
        IpNet::V6(six) => six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let four = four.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    four.map_or(network, IpNet::V4)
}

/// Two files that need each other.
fn pair(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    first: &str,
    second: &str,
) -> Option<(PathBuf, PathBuf)> {
    match (reader.file(section, first), reader.file(section, second)) {
        (Given::Value(first), Given::Value(second)) => Some((first, second)),
        (Given::Value(path), Given::Absent) => {
            let found = quoted(&path.display().to_string());
            reader.reject(section.at(first), format!("found {found}, expected {second} beside it"));
            None
        }
        (Given::Absent, Given::Value(path)) => {
            let found = quoted(&path.display().to_string());
            reader.reject(section.at(second), format!("found {found}, expected {first} beside it"));
            None
        }
        _ => None,
    }
}

fn log(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Log> {
    let section = &reader.section(root, "log");
    let format = reader.read_or_default(section, "format", word);
    let level = reader.read_or_default(section, "level", word);
    Some(Log { format: format?, level: level? })
}
