//! Turns the configuration into what each crate needs to be told.

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, bail};
use config::{Config, Database};
use policy::health::HealthParams;
use policy::route::Tried;
use policy::topology::{Role, ServerName, ServerSpec, Topology};
use policy::view::View;
use proxy::settings as data;

use crate::limits;
use crate::partitions::Partitions;

/// What policy is told.
///
/// # Errors
/// The configuration asks for what this version does not have.
pub(crate) fn topology(config: &Config) -> anyhow::Result<Topology> {
    if config.databases.len() > Tried::CAPACITY {
        bail!(
            "{} databases are too many, {} are possible",
            config.databases.len(),
            Tried::CAPACITY
        );
    }
    let partitions = Partitions::of(config);
    let servers = config.databases.iter().zip(&partitions.of_databases);
    Ok(Topology {
        servers: servers.map(|(database, partition)| server(database, *partition)).collect(),
        partitions: partitions.names,
        read_only: config.read_only,
        master_may_replicate: config.master_may_replicate,
        health: HealthParams { threshold: config.health.threshold },
    })
}

fn server(database: &Database, partition: usize) -> ServerSpec {
    ServerSpec {
        name: ServerName::new(&database.key()),
        role: match database.role {
            config::Role::Master => Role::Master,
            config::Role::Replica => Role::Replica,
        },
        partition,
        enabled: !database.disabled,
        weight: database.weight,
    }
}

/// What the control plane is told.
///
/// # Errors
/// A server has no account for its checks.
pub(crate) fn watching(config: &Config) -> anyhow::Result<control::Settings> {
    let tls = watching_tls(&config.tls);
    let servers = config.databases.iter().map(|database| probe_target(config, database, &tls));
    Ok(control::Settings {
        servers: servers.collect::<anyhow::Result<_>>()?,
        interval: config.health.interval,
        timeout: config.health.timeout,
    })
}

fn probe_target(
    config: &Config,
    database: &Database,
    tls: &control::Tls,
) -> anyhow::Result<control::ProbeTarget> {
    let mut accounts = config.monitor.iter().chain(&database.account).chain(&config.users);
    let account =
        accounts.next().with_context(|| format!("no account checks {}", database.key()))?;
    Ok(login_target(database, account, tls))
}

fn login_target(
    database: &Database,
    account: &config::Account,
    tls: &control::Tls,
) -> control::ProbeTarget {
    control::ProbeTarget {
        host: database.host.clone(),
        port: database.port,
        user: account.name.clone(),
        pass: account.pass.expose().to_owned(),
        tls: tls.clone(),
    }
}

/// As whom sessions log in to each server, in the order of the configuration. None for a server that is told
/// the client's address: it may well let nobody in from here.
pub(crate) fn logins(config: &Config) -> Vec<Vec<control::ProbeTarget>> {
    let tls = watching_tls(&config.tls);
    let of = |database: &Database| {
        let own = database.account.as_ref().map_or(&config.users[..], std::slice::from_ref);
        let accounts = own.iter().filter(|_| !database.proxy_protocol);
        accounts.map(|account| login_target(database, account, &tls)).collect()
    };
    config.databases.iter().map(of).collect()
}

fn watching_tls(tls: &config::Tls) -> control::Tls {
    let mut hasher = DefaultHasher::new();
    let pair = tls.client_cert.iter().flat_map(|(cert, key)| [cert, key]);
    for file in tls.ca.iter().chain(pair) {
        // One that cannot be read is a check's to tell of.
        std::fs::read(file).ok().hash(&mut hasher);
    }
    control::Tls {
        mode: match tls.servers {
            config::ServerTls::Off => control::TlsMode::Off,
            config::ServerTls::Preferred => control::TlsMode::Preferred,
            config::ServerTls::Required => control::TlsMode::Required,
            config::ServerTls::Verify => control::TlsMode::Verify,
        },
        ca: tls.ca.clone(),
        client_certificate: tls.client_cert.clone(),
        content: hasher.finish(),
    }
}

/// What the data plane is told of the configuration with this number.
pub(crate) fn serving(config: &Config, generation: u64) -> data::Settings {
    let server = |database: &Database| data::ServerSettings {
        host: database.host.clone(),
        port: database.port,
        account: database.account.as_ref().map(account),
        compress: database.compress,
        proxy_protocol: database.proxy_protocol,
    };
    data::Settings {
        generation,
        listen: config.listen.iter().map(listen).collect(),
        threads: config.threads,
        servers: config.databases.iter().map(server).collect(),
        homes: Partitions::of(config).homes,
        accounts: config.users.iter().map(account).collect(),
        passthrough: (config.login == config::Login::Passthrough).then_some(config.login_memory),
        proxies: config.proxies.clone(),
        connect_timeout: config.connect_timeout,
        hold_writes: config.hold_writes,
        pool: pool(config),
        limits: data::Limits {
            connections: config.limits.connections,
            connections_by_files: limits::connections_that_fit(),
            connections_per_user: config.limits.connections_per_user,
            server_connections: config.limits.server_connections,
            packet: usize::try_from(config.limits.packet).unwrap_or(usize::MAX),
            memory: usize::try_from(config.limits.memory.max(2 * config.limits.packet))
                .unwrap_or(usize::MAX),
            login_timeout: config.limits.login_timeout,
            idle_timeout: config.limits.idle_timeout,
        },
        tls_clients: client_tls(&config.tls),
        tls_servers: data::ServerTls {
            mode: match config.tls.servers {
                config::ServerTls::Off => data::ServerTlsMode::Off,
                config::ServerTls::Preferred => data::ServerTlsMode::Preferred,
                config::ServerTls::Required => data::ServerTlsMode::Required,
                config::ServerTls::Verify => data::ServerTlsMode::Verify,
            },
            ca: config.tls.ca.clone(),
            client: config.tls.client_cert.clone(),
        },
        slow_statement: config.slow_statement,
        digests_per_second: config.digests_per_second,
        drain_timeout: config.drain_timeout,
    }
}

/// Each thread has its share, and one connection at least.
fn pool(config: &Config) -> Option<data::PoolSettings> {
    let config::Pool { mode, idle, size, wait, idle_time, lifetime } = config.pool;
    let share = |all: usize| (all / config.threads).max(1);
    let shared = data::Sharing { size: share(size), wait };
    Some(data::PoolSettings {
        shared: match mode {
            config::PoolMode::Off => return None,
            config::PoolMode::Session => None,
            config::PoolMode::Transaction => Some(shared),
        },
        idle: share(idle),
        idle_time,
        lifetime,
    })
}

/// A session, as the API tells it.
pub(crate) fn session(info: proxy::SessionInfo, view: &View) -> console::api::SessionRow {
    let state = match (info.runs, info.in_transaction) {
        (true, _) => "running",
        (false, true) => "in transaction",
        (false, false) => "idle",
    };
    let server = info.server.and_then(|id| view.server(id));
    console::api::SessionRow {
        id: info.id,
        user: info.user,
        client: info.host,
        schema: info.schema,
        state: state.to_owned(),
        since_ms: u64::try_from(info.since_change.as_millis()).unwrap_or(u64::MAX),
        age_s: info.age.as_secs(),
        commands: info.commands,
        server: server.map(|server| server.name.to_string()),
        connection: info.connection,
        pins: info.pins.names().map(str::to_owned).collect(),
    }
}

fn listen(address: &config::Listen) -> data::Listen {
    match address {
        config::Listen::Tcp(address) => data::Listen::Tcp(address.clone()),
        config::Listen::Unix(path) => data::Listen::Unix(path.clone()),
    }
}

fn account(account: &config::Account) -> data::Account {
    data::Account {
        name: account.name.clone(),
        password: data::Password::new(account.pass.expose().to_owned()),
    }
}

fn client_tls(tls: &config::Tls) -> data::ClientTls {
    let on = |required| data::ClientTls::On {
        required,
        certificate: tls.cert_key.clone(),
        ca: tls.client_ca.clone(),
    };
    match tls.clients {
        config::ClientTls::Off => data::ClientTls::Off,
        config::ClientTls::Preferred => on(false),
        config::ClientTls::Required => on(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(databases: &str) -> Config {
        let text = format!("defaults: {{user: app, pass: x}}\ndatabases:\n{databases}");
        Config::parse("test.yaml", &text, &|_| None).unwrap()
    }

    #[test]
    fn servers_keep_the_order_of_the_file() {
        let config = config(
            "- {host: b, role: replica, weight: 7}\n- {host: a, role: master}\n\
             - {host: c, port: 3310, role: replica, disabled: true}\n",
        );
        let topology = topology(&config).unwrap();
        let shown: Vec<_> = topology
            .servers
            .iter()
            .map(|s| format!("{} {} {} {}", s.name, s.role, s.enabled, s.weight))
            .collect();
        let expected = ["b:3306 replica true 7", "a:3306 master true 1", "c:3310 replica false 1"];
        assert_eq!(shown, expected);
        let watched = watching(&config).unwrap();
        let served = serving(&config, 0);
        for ((spec, probe), server) in
            topology.servers.iter().zip(&watched.servers).zip(&served.servers)
        {
            assert_eq!(spec.name.as_str(), format!("{}:{}", probe.host, probe.port));
            assert_eq!((&probe.host, probe.port), (&server.host, server.port));
        }
    }
}
