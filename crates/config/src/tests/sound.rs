//! Files without problems.

use std::time::Duration;

use super::{MINIMAL, minimal_and, parse, sound};
use crate::{ClientTls, Config, Listen, LogFormat, LogLevel, Role, ServerTls};

#[test]
fn the_least_file_has_every_default() {
    let config = sound(MINIMAL);
    assert_eq!(config.listen, [Listen::Tcp("127.0.0.1:3306".to_owned())]);
    assert_eq!(config.admin.http.as_deref(), Some("127.0.0.1:9306"));
    assert_eq!((config.admin.mysql, config.admin.token), (None, None));
    let [user] = config.users.as_slice() else { panic!("{:?}", config.users) };
    assert_eq!((user.name.as_str(), user.pass.expose()), ("app", "secret"));
    assert_eq!(config.monitor.as_ref(), Some(user));
    let [database] = config.databases.as_slice() else { panic!("{:?}", config.databases) };
    assert_eq!((database.key().as_str(), database.role), ("db001:3306", Role::Master));
    assert_eq!((database.weight, database.disabled), (1, false));
    assert_eq!((database.account.as_ref(), database.master.as_ref()), (None, None));
    assert!(database.partition.is_empty());
    assert!(!config.read_only && !config.master_may_replicate && !config.watch);
    assert_eq!(config.health.interval, Duration::from_secs(3));
    assert_eq!(config.health.threshold.get(), 5);
    assert_eq!(config.health.timeout, Duration::from_secs(2));
    assert_eq!(config.connect_timeout, Duration::from_secs(1));
    assert_eq!(config.hold_writes, Duration::ZERO);
    assert_eq!(config.limits.connections, 10_000);
    assert_eq!(config.limits.connections_per_user, 0);
    assert_eq!(config.limits.server_connections, 0);
    assert_eq!(config.limits.packet, 64 << 20);
    assert_eq!(config.limits.login_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(8 * 3600));
    assert!((1..=256).contains(&config.threads));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.slow_statement, None);
    assert_eq!(config.digests_per_second, 200);
    assert_eq!(
        (config.tls.clients, config.tls.servers),
        (ClientTls::Preferred, ServerTls::Preferred)
    );
    assert_eq!((config.tls.cert_key, config.tls.ca, config.tls.client_cert), (None, None, None));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Auto, LogLevel::Info));
}

#[test]
fn what_the_file_says_is_what_is_read() {
    let config = sound(
        "
listen: [\"[::1]:3307\", unix:/run/failsoft.sock, 0.0.0.0:0]
admin: {http: off, mysql: 0.0.0.0:9307, token_env: FAILSOFT_ADMIN_TOKEN}
defaults: {port: 3310, user: app, pass_env: APP_DB_PASS}
monitor: {user: failsoft, pass: \"${FAILSOFT_DB_PASS}!\"}
users: [{name: app, pass: other}, {name: report, pass: \"\"}]
databases:
  - {host: \"${DB_HOST}\", role: master, weight: 7}
  - {host: \"[2001:db8::1]\", port: \"${DB_PORT}\", role: replica, disabled: \"${YES}\"}
read_only: true
reads: master
health: {interval: 250ms, threshold: 2, timeout: 100ms}
connect_timeout: 1m
master_may_replicate: true
hold_writes: 0
limits: {connections: 5, connections_per_user: 5, server_connections: 3, packet: 1048576, login_timeout: 1s, idle_timeout: 1h30m}
watch: true
threads: 2
drain_timeout: 0
slow_statement: 500ms
digests_per_second: 0
tls: {clients: required, cert: c.pem, key: /k.pem, client_ca: clients.pem, servers: verify, ca: ca.pem, client_cert: a, client_key: b}
log: {format: json, level: debug}
",
    );
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["[::1]:3307", "unix:/run/failsoft.sock", "0.0.0.0:0"]);
    assert_eq!(config.admin.http, None);
    assert_eq!(config.admin.mysql.as_deref(), Some("0.0.0.0:9307"));
    assert_eq!(config.admin.token.unwrap().expose(), "admin-token");
    assert_eq!(config.monitor.unwrap().pass.expose(), "monitor-password!");
    let users: Vec<(&str, &str)> =
        config.users.iter().map(|user| (user.name.as_str(), user.pass.expose())).collect();
    assert_eq!(users, [("app", "other"), ("report", "")]);
    let keys: Vec<String> = config.databases.iter().map(crate::Database::key).collect();
    assert_eq!(keys, ["db009:3310", "[2001:db8::1]:3310"]);
    assert_eq!(config.databases[0].weight, 7);
    assert!(config.databases[1].disabled);
    assert_eq!(config.databases[1].master.as_deref(), Some("db009:3310"));
    assert!(config.read_only && config.master_may_replicate && config.watch);
    assert_eq!(config.health.interval, Duration::from_millis(250));
    assert_eq!(config.limits.packet, 1 << 20);
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(5400));
    assert_eq!((config.threads, config.drain_timeout), (2, Duration::ZERO));
    assert_eq!(config.slow_statement, Some(Duration::from_millis(500)));
    assert_eq!(config.digests_per_second, 0);
    assert_eq!(config.tls.cert_key, Some(("c.pem".into(), "/k.pem".into())));
    assert_eq!(config.tls.client_ca, Some("clients.pem".into()));
    assert_eq!(config.tls.client_cert, Some(("a".into(), "b".into())));
    assert_eq!((config.tls.servers, config.tls.ca), (ServerTls::Verify, Some("ca.pem".into())));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Debug));
}

#[test]
fn replicas_know_their_masters() {
    // Servers, and the master of the last one.
    let cases = [
        ("{host: a, role: master}, {host: r, role: replica}", "a:3306"),
        ("{host: r2, role: replica}, {host: a, role: master}, {host: r, role: replica}", "a:3306"),
        ("{host: a, role: master}, {host: r, role: replica, master: A}", "a:3306"),
        ("{host: a, role: master, disabled: true}, {host: r, role: replica}", "a:3306"),
        (
            "{host: a, role: master, disabled: true}, {host: b, role: master}, {host: r, role: replica}",
            "b:3306",
        ),
        ("{host: a, role: master, partition: [x]}, {host: r, role: replica}", "a:3306"),
        (
            "{host: a, role: master, partition: [default]}, {host: b, role: master, partition: [x, \"y_*\"]}, {host: r, role: replica, master: \"b:3306\"}",
            "b:3306",
        ),
        (
            "{host: a, role: master, partition: [default], disabled: true}, {host: b, role: master, partition: [default]}, {host: r, role: replica, master: b}",
            "b:3306",
        ),
        (
            "{host: \"::1\", port: 1, role: master}, {host: r, role: replica, master: \"::1\"}",
            "[::1]:1",
        ),
        (
            "{host: a, role: master}, {host: a, port: 1, role: replica}, {host: r, role: replica, master: a}",
            "a:3306",
        ),
    ];
    for (servers, master) in cases {
        let config = sound(&format!("defaults: {{user: u, pass: p}}\ndatabases: [{servers}]"));
        let last = config.databases.last().unwrap();
        assert_eq!(last.master.as_deref(), Some(master), "{servers}");
    }
}

#[test]
fn accounts_are_completed() {
    // The account of the only database, given what else there is.
    let cases = [
        ("defaults: {user: u, pass: p}", "", None),
        ("defaults: {user: u, pass: p}", "user: x", Some(("x", "p"))),
        ("defaults: {user: u, pass: p}", "pass: x", Some(("u", "x"))),
        ("defaults: {user: u, pass: p}", "user: x, pass: y", Some(("x", "y"))),
        (
            "defaults: {user: u}\nusers: [{name: u, pass: p}, {name: x, pass: q}]",
            "user: x",
            Some(("x", "q")),
        ),
        ("users: [{name: u, pass: p}]", "user: u", Some(("u", "p"))),
    ];
    for (accounts, database, expected) in cases {
        let text = format!("{accounts}\ndatabases: [{{host: a, role: master, {database}}}]");
        let config = sound(&text);
        let account = config.databases[0].account.as_ref();
        let found = account.map(|account| (account.name.as_str(), account.pass.expose()));
        assert_eq!(found, expected, "{text}");
    }
    let own = sound("users: [{name: u, pass: p}]\ndatabases: [{host: a, role: master, user: u}]");
    assert_eq!(own.monitor, None, "the checks use the database's own account");
}

#[test]
fn secrets_come_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("failsoft.yaml");
    let text = minimal_and("monitor: {user: m, pass_file: pass}");
    std::fs::write(&file, &text).unwrap();
    for (content, expected) in
        [("a b", "a b"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), (" x${A}", " x${A}")]
    {
        std::fs::write(folder.path().join("pass"), content).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.monitor.unwrap().pass.expose(), expected);
    }
    std::fs::write(folder.path().join("pass"), b"\xff").unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    assert!(error.contains("failsoft.yaml:4:31: monitor.pass_file: found"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("failsoft.yaml");
    let name = file.display();
    let load = || Config::load(&file).unwrap_err().to_string();
    assert_eq!(
        load(),
        format!(
            "{name}: found No such file or directory (os error 2), expected a file that can be read"
        )
    );
    std::fs::write(&file, b"a: 1\nb\xc3\xa9: \xff").unwrap();
    assert_eq!(
        load(),
        format!("{name}:2:5: found a byte that is not UTF-8, expected text in UTF-8")
    );
    std::fs::write(&file, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(load(), format!("{name}: found more than 1 MiB, expected a configuration file"));
}

#[test]
fn anchors_work() {
    let text = minimal_and("users:\n  - {name: a, pass: &p x}\n  - {name: b, pass: *p}\n");
    assert_eq!(parse(&text).unwrap().users[1].pass.expose(), "x");
}

#[test]
fn the_file_of_the_contract_is_sound() {
    let config = sound(
        "
listen: [127.0.0.1:3306]           # addresses and unix:/path sockets for applications
admin:
  http: 127.0.0.1:9306
  mysql: 127.0.0.1:9307
  token_env: FAILSOFT_ADMIN_TOKEN

defaults: {port: 3306, user: app, pass_env: APP_DB_PASS}
monitor: {user: failsoft, pass_env: FAILSOFT_DB_PASS}
users:
  - {name: app, pass_env: APP_DB_PASS}

databases:
  - {host: db001, role: master}
  - {host: db002, role: replica}
  - {host: db003, port: 3310, role: replica, disabled: true}

read_only: false
reads: master
health: {interval: 3s, threshold: 5, timeout: 2s}
connect_timeout: 1s
master_may_replicate: false
hold_writes: 0s
limits: {connections: 10000, connections_per_user: 0, server_connections: 200, packet: 64MiB, login_timeout: 10s, idle_timeout: 8h}
",
    );
    assert_eq!((config.users.len(), config.databases.len()), (1, 3));
    assert_eq!(config.databases[2].master.as_deref(), Some("db001:3306"));
}

#[test]
fn servers_may_say_who_logs_in() {
    let databases = "databases: [{host: a, role: master}]";
    let monitor = "monitor: {user: m, pass: x}";
    let config = sound(&format!("login: passthrough\n{monitor}\n{databases}"));
    assert_eq!(config.login, crate::Login::Passthrough);
    assert!(config.users.is_empty());
    let text = "login: passthrough\ndatabases: [{host: a, role: master, user: u, pass: x}]";
    let problems = parse(text).unwrap_err().to_string();
    assert!(problems.contains("databases[0]: found an account for this server"), "{problems}");
    let problems = parse(&format!("login: passthrough\n{databases}")).unwrap_err();
    assert!(problems.to_string().contains("monitor: found none"), "{problems}");
}

#[test]
fn an_ipv4_network_is_one_however_it_is_written() {
    for (text, expected) in [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:db8::1/32", "2001:db8::/32"),
    ] {
        let config = sound(&minimal_and(&format!("proxy_protocol: {{from: ['{text}']}}")));
        assert_eq!(config.proxies, [expected.parse().unwrap()], "{text}");
    }
}
