//! A configuration as text, and the difference of two.

use super::{MINIMAL, minimal_and, sound};

/// A file with everything in it that can be shown.
const RICH: &str = r#"
listen: ["[::1]:3307", "unix:/run/fail soft.sock"]
admin: {http: off, mysql: "0.0.0.0:9307", token: "***"}
monitor: {user: failsoft, pass: "***"}
users: [{name: "o'\"\\ ${YES} $${YES} é \U0001f600", pass: "***"}, {name: "off", pass: "***"}, {name: "12", pass: "***"}]
databases:
  - {host: a, role: master, partition: [default], user: root, pass: "***"}
  - {host: b, port: 1, role: master, partition: ["x_*", "y z"], weight: 3, proxy_protocol: true}
  - {host: "2001:db8::1", role: replica, master: a, disabled: true}
health: {interval: 1m30s}
pool: {mode: session, idle: 3, idle_time: 30s, lifetime: 2h}
limits: {packet: 1MB, connections_per_user: 3}
slow_statement: 1s500ms
digests_per_second: 50
ledger: /var/lib/failsoft/ledger
tls: {clients: required, cert: c, key: /k, client_ca: /a, servers: verify, ca: "/c a", client_cert: a, client_key: b}
proxy_protocol: {from: [10.0.0.0/8, "::1"]}
log: {format: human, level: trace}
threads: 3
"#;

#[test]
fn what_is_shown_reads_as_the_same() {
    for text in [&minimal_and("threads: 2").replace("secret", "'***'"), &RICH.replace("1MB", "2MB")]
    {
        let config = sound(text);
        let shown = config.show();
        assert_eq!(sound(&shown), config, "{shown}");
    }
}

/// What is shown of a file with little in it.
const EVERYTHING: &str = "\
listen: [\"127.0.0.1:3306\"]
admin:
  http: \"127.0.0.1:9306\"
  mysql: off
  # token: (none)
monitor:
  user: app
  pass: \"***\"
users:
  - {name: app, pass: \"***\"}
login: listed
login_memory: 24h
databases:
  - {host: db001, port: 3306, role: master, disabled: false, weight: 1, compress: false, proxy_protocol: false}
# proxy_protocol: (none)
read_only: false
reads: master
health:
  interval: 3s
  threshold: 5
  timeout: 2s
connect_timeout: 1s
master_may_replicate: false
hold_writes: 0s
pool:
  mode: off
  idle: 64
  size: 64
  wait: 5s
  idle_time: 1m
  lifetime: 1h
limits:
  connections: 10000
  connections_per_user: 0
  server_connections: 0
  packet: 64MiB
  memory: 1GiB
  login_timeout: 10s
  idle_timeout: 8h
watch: false
threads: 2
drain_timeout: 30s
slow_statement: off
digests_per_second: 200
# ledger: (none)
tls:
  clients: preferred
  cert: /c
  key: /k
  # client_ca: (none)
  servers: preferred
  # ca: (none)
  # client_cert: (none)
  # client_key: (none)
log:
  format: auto
  level: info
";

#[test]
fn everything_is_shown() {
    let shown = sound(&minimal_and("threads: 2\ntls: {cert: /c, key: /k}")).show();
    assert_eq!(shown, EVERYTHING);
}

#[test]
fn every_setting_is_shown() {
    let shown = sound(&RICH.replace("1MB", "2MB")).show();
    for setting in crate::SETTINGS {
        let key = setting.key.rsplit('.').next().unwrap();
        let is_source = key.ends_with("_env") || key.ends_with("_file");
        let is_spread = setting.key.starts_with("defaults.");
        assert!(
            is_source
                || is_spread
                || shown.contains(&format!("{key}: "))
                || shown.contains(&format!("{key}:\n")),
            "{}",
            setting.key
        );
    }
}

#[test]
fn differences_are_named_and_secrets_are_not() {
    // What is replaced in the old file, by what, and what is said of it.
    let cases: &[(&str, &str, &str)] = &[
        ("", "", ""),
        (
            "pass: secret",
            "pass: other",
            "monitor.pass: *** -> *** (changed)\nusers[app].pass: *** -> *** (changed)",
        ),
        ("}\n", "}\nconnect_timeout: 90s\n", "connect_timeout: 1s -> 1m30s"),
        ("}\n", "}\nslow_statement: 1s\n", "slow_statement: off -> 1s"),
        ("}\n", "}\nadmin: {token: x}\n", "admin.token: (none) -> ***"),
        ("}\n", "}\nusers: [{name: b, pass: x}]\n", "users[b]: (none) -> {name: b, pass: \"***\"}"),
        ("role: replica", "role: replica, weight: 2", "databases[db002:3306].weight: 1 -> 2"),
        (
            "host: db002",
            "host: db003",
            "databases[db002:3306]: {host: db002, port: 3306, role: replica, disabled: false, master: \"db001:3306\", weight: 1, compress: false, proxy_protocol: false} -> (none)\ndatabases[db003:3306]: (none) -> {host: db003, port: 3306, role: replica, disabled: false, master: \"db001:3306\", weight: 1, compress: false, proxy_protocol: false}",
        ),
        ("}\n", "}\nlisten: [a:1, b:2]\n", "listen: [\"127.0.0.1:3306\"] -> [\"a:1\", \"b:2\"]"),
    ];
    let old = format!("{MINIMAL}  - {{host: db002, role: replica}}\n");
    for (from, to, expected) in cases {
        let new = old.replacen(from, to, 1);
        let changes = sound(&old).difference(&sound(&new));
        let found: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("\n"), *expected, "{new}");
    }
}

#[test]
fn an_order_is_a_difference() {
    let users = |list: &str| sound(&minimal_and(&format!("users: [{list}]")));
    let (a, b) = ("{name: a, pass: x}", "{name: b, pass: x}");
    let changes = users(&format!("{a}, {b}")).difference(&users(&format!("{b}, {a}")));
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].path, "users");
}
