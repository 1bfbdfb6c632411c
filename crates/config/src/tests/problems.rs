//! Every problem, with its exact text and position.

use super::{MINIMAL, minimal_and, parse};

/// A text, and the problems in it without the file's name.
type Case = (&'static str, &'static str);

/// Lines after [`MINIMAL`], which has three; so the first of them is line 4.
const SETTINGS: &[Case] = &[
    ("helth: {}", "4:1: helth: found an unknown key (did you mean \"health\"?)"),
    ("read-only: true", "4:1: read-only: found an unknown key (did you mean \"read_only\"?)"),
    (
        "health: {intervall: 3s}",
        "4:10: health.intervall: found an unknown key (did you mean \"interval\"?)",
    ),
    ("log: {colour: red}", "4:7: log.colour: found an unknown key, expected one of format, level"),
    ("watch: true\nwatch: true", "5:1: watch: found the key a second time, expected it once"),
    (
        "3306: x",
        "4:1: 3306: found an unknown key, expected one of listen, admin, defaults, monitor, users, login, login_memory, databases, proxy_protocol, read_only, reads, health, connect_timeout, master_may_replicate, hold_writes, pool, limits, watch, threads, drain_timeout, slow_statement, digests_per_second, ledger, tls, log",
    ),
    (
        "health: [3s]",
        "4:9: health: found a list, expected a mapping of interval, threshold, timeout",
    ),
    ("health:", "4:8: health: found nothing, expected a mapping of interval, threshold, timeout"),
    ("users: app", "4:8: users: found \"app\", expected a list of mappings"),
    (
        "users: [app]",
        "4:9: users[0]: found \"app\", expected a mapping of name, pass, pass_env, pass_file",
    ),
    ("watch: yes", "4:8: watch: found \"yes\", expected true or false (did you mean true?)"),
    ("watch: !on true", "4:8: watch: found the tag \"on\", expected true or false"),
    ("read_only: 1", "4:12: read_only: found 1, expected true or false"),
    ("threads: 0", "4:10: threads: found 0, expected a whole number from 1 to 256"),
    ("threads: 257", "4:10: threads: found 257, expected a whole number from 1 to 256"),
    (
        "threads: \"4\"",
        "4:10: threads: found \"4\", expected a whole number from 1 to 256 (did you mean 4, without quotes?)",
    ),
    ("threads: 1.5", "4:10: threads: found 1.5, expected a whole number from 1 to 256"),
    (
        "connect_timeout: 3",
        "4:18: connect_timeout: found 3, expected a duration from 1ms to 10m (did you mean 3s?)",
    ),
    ("connect_timeout: 0", "4:18: connect_timeout: found 0, expected a duration from 1ms to 10m"),
    (
        "connect_timeout: soon",
        "4:18: connect_timeout: found \"soon\", expected a duration from 1ms to 10m",
    ),
    (
        "connect_timeout: -1s",
        "4:18: connect_timeout: found \"-1s\", expected a duration from 1ms to 10m",
    ),
    (
        "connect_timeout: 11m",
        "4:18: connect_timeout: found \"11m\", expected a duration from 1ms to 10m",
    ),
    ("drain_timeout: []", "4:16: drain_timeout: found a list, expected a duration from 0s to 24h"),
    (
        "slow_statement: none",
        "4:17: slow_statement: found \"none\", expected a duration from 0s to 24h or \"off\"",
    ),
    (
        "hold_writes: 5",
        "4:14: hold_writes: found 5, expected a duration from 0s to 1h (did you mean 5s?)",
    ),
    (
        "reads: replicas",
        "4:8: reads: found \"replicas\", which is not available in this version, expected \"master\"",
    ),
    ("reads: nearest", "4:8: reads: found \"nearest\", expected \"master\""),
    (
        "health: {threshold: 0}",
        "4:21: health.threshold: found 0, expected a whole number from 1 to 255",
    ),
    (
        "health: {interval: 0s}",
        "4:20: health.interval: found \"0s\", expected a duration from 100ms to 1h",
    ),
    ("health: {timeout: 0}", "4:19: health.timeout: found 0, expected a duration from 10ms to 1h"),
    (
        "health: {timeout: 15s}",
        "4:19: health.timeout: found 15s, expected less than interval × threshold, which is 15s",
    ),
    (
        "health: {interval: 100ms}",
        "4:9: health.timeout: found 2s, expected less than interval × threshold, which is 500ms",
    ),
    (
        "limits: {connections: -1}",
        "4:23: limits.connections: found -1, expected a whole number from 1 to 1000000",
    ),
    (
        "limits: {connections: 0}",
        "4:23: limits.connections: found 0, expected a whole number from 1 to 1000000",
    ),
    (
        "limits: {server_connections: 99999999999999999999}",
        "4:30: limits.server_connections: found 99999999999999999999, expected a whole number from 0 to 100000",
    ),
    (
        "limits: {connections_per_user: 20000}",
        "4:32: limits.connections_per_user: found 20000, expected at most limits.connections, which is 10000",
    ),
    (
        "limits: {packet: 2GiB}",
        "4:18: limits.packet: found \"2GiB\", expected a size from 1MiB to 1GiB",
    ),
    (
        "limits: {packet: 16384}",
        "4:18: limits.packet: found 16384, expected a size from 1MiB to 1GiB",
    ),
    (
        "limits: {packet: 64M}",
        "4:18: limits.packet: found \"64M\", expected a size from 1MiB to 1GiB (did you mean 64MiB?)",
    ),
    (
        "limits: {login_timeout: 0}",
        "4:25: limits.login_timeout: found 0, expected a duration from 100ms to 1h",
    ),
    (
        "limits: {idle_timeout: 9000h}",
        "4:24: limits.idle_timeout: found \"9000h\", expected a duration from 1s to 8760h",
    ),
    (
        "listen: 3306",
        "4:9: listen: found 3306, expected host:port or unix:/path, or a list of them (did you mean 127.0.0.1:3306?)",
    ),
    (
        "listen: \":3306\"",
        "4:9: listen: found \":3306\", expected host:port or unix:/path, or a list of them (did you mean 127.0.0.1:3306?)",
    ),
    (
        "listen: /run/x.sock",
        "4:9: listen: found \"/run/x.sock\", expected host:port or unix:/path, or a list of them (did you mean unix:/run/x.sock?)",
    ),
    (
        "listen: [db001]",
        "4:10: listen[0]: found \"db001\", expected host:port or unix:/path, or a list of them",
    ),
    ("listen: []", "4:9: listen: found an empty list, expected at least one element"),
    (
        "listen: [1.1.1.1:1, {}]",
        "4:21: listen[1]: found a mapping, expected host:port or unix:/path, or a list of them",
    ),
    (
        "listen: a:65536",
        "4:9: listen: found \"a:65536\", expected host:port or unix:/path, or a list of them",
    ),
    (
        "listen: unix:x.sock",
        "4:9: listen: found the socket \"x.sock\", expected an absolute path of at most 107 bytes",
    ),
    (
        "listen: [a:1, a:1]",
        "4:15: listen[1]: found \"a:1\", where listen[0] (\"a:1\") listens already, expected another address",
    ),
    (
        "listen: [\"0.0.0.0:1\", \"localhost:1\"]",
        "4:23: listen[1]: found \"localhost:1\", where listen[0] (\"0.0.0.0:1\") listens already, expected another address",
    ),
    (
        "listen: [unix:/a, unix:/a]",
        "4:19: listen[1]: found \"unix:/a\", where listen[0] (\"unix:/a\") listens already, expected another address",
    ),
    (
        "listen: DB001:3306",
        "4:9: listen: found \"DB001:3306\", which is databases[0], expected an address of failsoft's own",
    ),
    (
        "listen: 127.0.0.1:9306",
        "4:9: listen: found \"127.0.0.1:9306\", where admin.http (\"127.0.0.1:9306\", by default) listens already, expected another address",
    ),
    (
        "admin: {http: localhost:3306}",
        "4:15: admin.http: found \"localhost:3306\", where listen (\"127.0.0.1:3306\", by default) listens already, expected another address",
    ),
    (
        "admin: {mysql: 127.0.0.1:9306}",
        "4:16: admin.mysql: found \"127.0.0.1:9306\", where admin.http (\"127.0.0.1:9306\", by default) listens already, expected another address",
    ),
    (
        "admin: {http: 9306}",
        "4:15: admin.http: found 9306, expected host:port or \"off\" (did you mean 127.0.0.1:9306?)",
    ),
    (
        "admin: {http: db001:3306, token: x}",
        "4:15: admin.http: found \"db001:3306\", which is databases[0], expected an address of failsoft's own",
    ),
    (
        "admin: {http: 0.0.0.0:9306}",
        "4:15: admin.http: found \"0.0.0.0:9306\", which is not on loopback, expected one of token, token_env, token_file beside it",
    ),
    (
        "admin: {mysql: \"10.0.0.1:9307\"}",
        "4:16: admin.mysql: found \"10.0.0.1:9307\", which is not on loopback, expected one of token, token_env, token_file beside it",
    ),
    ("admin: {token: \"\"}", "4:16: admin.token: found an empty text, expected a token"),
    (
        "admin: {token: a, token_env: FAILSOFT_ADMIN_TOKEN}",
        "4:19: admin.token_env: found beside token, expected only one of token, token_env, token_file",
    ),
    (
        "admin: {token_env: NOT_SET}",
        "4:20: admin.token_env: found an environment variable that is not set, NOT_SET, expected one that is",
    ),
    (
        "admin: {token_env: hunter2}",
        "4:20: admin.token_env: found an environment variable that is not set, expected one that is",
    ),
    (
        "admin: {token_env: \"my secret\"}",
        "4:20: admin.token_env: found no variable's name, expected one such as DB_PASS",
    ),
    (
        "admin: {token_env: EMPTY}",
        "4:20: admin.token_env: found an empty environment variable, expected a secret in it",
    ),
    (
        "monitor: {user: mon, pass: 1234}",
        "4:28: monitor.pass: found a number, expected a text in quotes",
    ),
    (
        "monitor: {user: mon, pass: [x]}",
        "4:28: monitor.pass: found a list, expected a text in quotes",
    ),
    (
        "monitor: {user: mon, pass: \"ab${cd\"}",
        "4:28: monitor.pass: found \"${\" without a variable's name, expected ${NAME}, or $${ for a plain ${",
    ),
    (
        "monitor: {user: mon}",
        "4:10: monitor.pass: found none, expected one of pass, pass_env, pass_file for user \"mon\"",
    ),
    ("monitor: {pass: x}", "4:10: monitor.user: found none, expected a user to the password"),
    ("monitor: {user: \"\", pass: x}", "4:17: monitor.user: found \"\", expected a text"),
    (
        "monitor: {user: 7, pass: x}",
        "4:17: monitor.user: found 7, expected a text (did you mean \"7\"?)",
    ),
    (
        "monitor: {user: a, pass_file: /no/such/file}",
        "4:31: monitor.pass_file: found \"/no/such/file\", which cannot be read: No such file or directory (os error 2); expected a text file",
    ),
    (
        "monitor: {user: a, pass_file: /dev/null}",
        "4:31: monitor.pass_file: found \"/dev/null\" empty, expected a secret in it",
    ),
    (
        "monitor: {user: a, pass_file: /dev/zero}",
        "4:31: monitor.pass_file: found \"/dev/zero\" longer than 64 KiB, expected a secret in it",
    ),
    (
        "users: [{name: a, pass: x}, {name: a, pass: y}]",
        "4:36: users[1].name: found \"a\", which is users[0] already, expected it once",
    ),
    ("users: [{name: \"\", pass: x}]", "4:16: users[0].name: found \"\", expected a text"),
    ("users: [{pass: x}]", "4:9: users[0].name: found none, expected a text"),
    (
        "users: [{name: a}]",
        "4:9: users[0].pass: found none, expected one of pass, pass_env, pass_file",
    ),
    (
        "users: [{name: a, password: x}]",
        "4:9: users[0].pass: found none, expected one of pass, pass_env, pass_file\n4:19: users[0].password: found an unknown key (did you mean \"pass\"?)",
    ),
    (
        "log: {level: ${NOT_SET}}",
        "4:15: found invalid YAML: did not find expected ',' or '}', while parsing a flow mapping at line 4 column 6 (${NAME} needs quotes inside { } and [ ])",
    ),
    (
        "log: {level: \"${NOT_SET}\"}",
        "4:14: log.level: found an environment variable that is not set, NOT_SET, expected one that is",
    ),
    (
        "log: {level: warning}",
        "4:14: log.level: found \"warning\", expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\" (did you mean \"warn\"?)",
    ),
    (
        "log: {format: xml}",
        "4:15: log.format: found \"xml\", expected \"auto\", \"human\" or \"json\"",
    ),
    (
        "tls: {clients: true}",
        "4:16: tls.clients: found true, expected \"off\", \"preferred\" or \"required\"",
    ),
    (
        "tls: {servers: verify}",
        "4:6: tls.ca: found none, expected a file name, as tls.servers is \"verify\"",
    ),
    (
        "tls: {servers: required, ca: /ca}",
        "4:26: tls.ca: found although tls.servers is \"required\", expected only with \"verify\", since nothing else checks certificates",
    ),
    (
        "proxy_protocol: {from: [10.0.0.0/8, 10.0.0.0/33, host, '::1']}",
        "4:37: proxy_protocol.from[1]: found \"10.0.0.0/33\", expected a list of networks, such as 10.0.0.0/8, and addresses\n\
         4:50: proxy_protocol.from[2]: found \"host\", expected a list of networks, such as 10.0.0.0/8, and addresses",
    ),
    ("login: passthru", "4:8: login: found \"passthru\", expected \"listed\" or \"passthrough\""),
    (
        "tls: {client_ca: /ca}",
        "4:7: tls.client_ca: found although tls.clients is \"preferred\", expected only with \"required\", since clients without TLS show no certificate",
    ),
    ("tls: {cert: /c}", "4:13: tls.cert: found \"/c\", expected key beside it"),
    ("tls: {client_key: /k}", "4:19: tls.client_key: found \"/k\", expected client_cert beside it"),
    ("tls: {cert: 1, key: /k}", "4:13: tls.cert: found 1, expected a file name"),
];

/// Servers, after the line of `defaults`; so the first of them is line 3.
const SERVERS: &[Case] = &[
    (
        "db001",
        "3:5: databases[0]: found \"db001\", expected a mapping of host, port, role, disabled, user, pass, pass_env, pass_file, partition, master, weight, compress, proxy_protocol",
    ),
    ("{role: master}", "3:5: databases[0].host: found none, expected a host name or IP address"),
    ("{host: a}", "3:5: databases[0].role: found none, expected \"master\" or \"replica\""),
    (
        "{host: a, role: slave}",
        "3:21: databases[0].role: found \"slave\", expected \"master\" or \"replica\" (did you mean \"replica\"?)",
    ),
    (
        "{host: a, role: [master]}",
        "3:21: databases[0].role: found a list, expected \"master\" or \"replica\"",
    ),
    (
        "{host: a:3306, role: master}",
        "3:12: databases[0].host: found \"a:3306\", expected a host name or IP address (did you mean host: a, port: 3306?)",
    ),
    (
        "{host: \"a b\", role: master}",
        "3:12: databases[0].host: found \"a b\", expected a host name or IP address",
    ),
    (
        "{host: \"\", role: master}",
        "3:12: databases[0].host: found \"\", expected a host name or IP address",
    ),
    (
        "{host: 10.0.0.256, role: master}",
        "3:12: databases[0].host: found \"10.0.0.256\", expected a host name or IP address",
    ),
    (
        "{host: /run/mysqld.sock, role: master}",
        "3:12: databases[0].host: found \"/run/mysqld.sock\", a Unix socket, which is not available in this version, expected a host name or IP address",
    ),
    (
        "{host: unix:/run/a, role: master}",
        "3:12: databases[0].host: found \"unix:/run/a\", a Unix socket, which is not available in this version, expected a host name or IP address",
    ),
    (
        "{host: a, port: 0, role: master}",
        "3:21: databases[0].port: found 0, expected a whole number from 1 to 65535",
    ),
    (
        "{host: a, port: 65536, role: master}",
        "3:21: databases[0].port: found 65536, expected a whole number from 1 to 65535",
    ),
    (
        "{host: a, port: \"${APP_DB_PASS}\", role: master}",
        "3:21: databases[0].port: found \"app-password\", expected a whole number from 1 to 65535",
    ),
    (
        "{host: a, role: master, disabled: off}",
        "3:39: databases[0].disabled: found \"off\", expected true or false (did you mean false?)",
    ),
    (
        "{host: a, role: master, weight: 0}",
        "3:37: databases[0].weight: found 0, expected a whole number from 1 to 1000000",
    ),
    (
        "{host: a, role: master, host: b}",
        "3:29: databases[0].host: found the key a second time, expected it once",
    ),
    (
        "{host: localhost, role: master}",
        "3:12: databases[0].host: found localhost:3306, where failsoft itself listens (listen, by default), expected another server, or another listen",
    ),
    (
        "{host: a, role: replica}",
        "3:3: databases: found no master, expected one (with disabled: true if it is out of service)",
    ),
    (
        "{host: a, role: master}\n{host: A, port: 3306, role: replica}",
        "4:12: databases[1].host: found A:3306, which is databases[0] already, expected each server once",
    ),
    (
        "{host: a, role: master}\n{host: b, role: master}",
        "4:21: databases[1].role: found a second enabled master beside databases[0], expected one; disable it, make it a replica or give every master a partition",
    ),
    (
        "{host: a, role: master, master: b}",
        "3:29: databases[0].master: found on a master, expected only on replicas",
    ),
    (
        "{host: a, role: master}\n{host: b, role: replica, partition: [x]}",
        "4:30: databases[1].partition: found on a replica, expected only on masters; a replica has its master's",
    ),
    (
        "{host: a, role: master}\n{host: b, role: replica, master: c}",
        "4:38: databases[1].master: found \"c\", which is no database, expected \"a:3306\"",
    ),
    (
        "{host: a, role: master}\n{host: b, role: replica, master: b}",
        "4:38: databases[1].master: found \"b\", which is a replica, expected \"a:3306\"",
    ),
    (
        "{host: a, role: master}\n{host: b, role: replica, master: a:1}",
        "4:38: databases[1].master: found \"a:1\", which is no database, expected \"a:3306\"",
    ),
    (
        "{host: a, role: master, partition: [default]}\n{host: b, role: master}",
        "4:5: databases[1].partition: found none, expected a list of schemas, as other masters have one",
    ),
    (
        "{host: a, role: master, partition: [x]}\n{host: b, role: master, partition: [y]}",
        "3:3: databases: found several partitions but no \"default\", expected one master to list it",
    ),
    (
        "{host: a, role: master, partition: [default]}\n{host: b, role: master, partition: [default]}",
        "4:41: databases[1].partition[0]: found \"default\", which lives on databases[0] already, expected each schema in one partition",
    ),
    (
        "{host: a, role: master, partition: [default, x]}\n{host: b, role: master, partition: [y, x]}",
        "4:44: databases[1].partition[1]: found \"x\", which lives on databases[0] already, expected each schema in one partition",
    ),
    (
        "{host: a, role: master, partition: [default, \"blog_*\"]}\n{host: b, role: master, partition: [blog_user]}",
        "4:41: databases[1].partition[0]: found \"blog_user\", which lives on databases[0] already as \"blog_*\", expected each schema in one partition",
    ),
    (
        "{host: a, role: master, partition: [default, x, x]}\n{host: b, role: master, partition: [y]}",
        "3:53: databases[0].partition[2]: found \"x\" a second time, expected it once",
    ),
    (
        "{host: a, role: master, partition: [\"*\"]}",
        "3:41: databases[0].partition[0]: found \"*\", expected a schema name, prefix_* or \"default\"",
    ),
    (
        "{host: a, role: master, partition: [\"x*y\"]}",
        "3:41: databases[0].partition[0]: found \"x*y\", expected a schema name, prefix_* or \"default\"",
    ),
    (
        "{host: a, role: master, partition: []}",
        "3:40: databases[0].partition: found an empty list, expected at least one element",
    ),
    (
        "{host: a, role: master, partition: [1]}",
        "3:41: databases[0].partition[0]: found 1, expected a list of schema names, prefix_* and \"default\"",
    ),
    (
        "{host: a, role: master, partition: [default]}\n{host: b, role: master, partition: [x]}\n{host: c, role: replica}",
        "5:5: databases[2].master: found none, expected \"a:3306\" or \"b:3306\", as there are several",
    ),
    (
        "{host: db1, role: master, partition: [default]}\n{host: other, role: master, partition: [x]}\n{host: c, role: replica, master: othr:3306}",
        "5:38: databases[2].master: found \"othr:3306\", which is no database, expected \"db1:3306\" or \"other:3306\" (did you mean \"other:3306\"?)",
    ),
    (
        "{host: a, role: master, partition: [default]}\n{host: a, port: 1, role: master, partition: [x]}\n{host: c, role: replica, master: a}",
        "5:38: databases[2].master: found \"a\", which is several, expected \"a:3306\" or \"a:1\"",
    ),
];

/// Whole files.
const FILES: &[Case] = &[
    (
        "",
        "1:1: found nothing, expected a mapping of listen, admin, defaults, monitor, users, login, login_memory, databases, proxy_protocol, read_only, reads, health, connect_timeout, master_may_replicate, hold_writes, pool, limits, watch, threads, drain_timeout, slow_statement, digests_per_second, ledger, tls, log",
    ),
    (
        "just text",
        "1:1: found \"just text\", expected a mapping of listen, admin, defaults, monitor, users, login, login_memory, databases, proxy_protocol, read_only, reads, health, connect_timeout, master_may_replicate, hold_writes, pool, limits, watch, threads, drain_timeout, slow_statement, digests_per_second, ledger, tls, log",
    ),
    (
        "defaults: {user: a, pass: b}",
        "1:1: databases: found none, expected a list of at least one server",
    ),
    (
        "defaults: {user: a, pass: b}\ndatabases: []",
        "2:12: databases: found an empty list, expected at least one server",
    ),
    (
        "databases: [{host: a, role: master}]",
        "1:1: users: found none, expected an account to log in with, here or as defaults.user",
    ),
    (
        "users: [{name: u, pass: p}]\ndatabases: [{host: a, role: master}]",
        "1:1: monitor: found none, expected an account for the health checks, as there is no defaults.user",
    ),
    (
        "defaults: {pass: b}\ndatabases: [{host: a, role: master}]",
        "1:11: defaults.user: found none, expected a user to the password",
    ),
    (
        "defaults: {user: b}\ndatabases: [{host: a, role: master}]",
        "1:11: defaults.pass: found none, expected one of pass, pass_env, pass_file for user \"b\"",
    ),
    (
        "defaults: {user: a, pass: b, port: 99999}\ndatabases: [{host: a, role: master}]",
        "1:36: defaults.port: found 99999, expected a whole number from 1 to 65535",
    ),
    (
        "defaults: {user: a\ndatabases: []",
        "2:10: found invalid YAML: did not find expected ',' or '}', while parsing a flow mapping at line 1 column 11",
    ),
    ("a: *b", "1:4: found invalid YAML: unknown anchor"),
    (
        "\ta: b",
        "1:1: found invalid YAML: found character that cannot start any token, while scanning for the next token",
    ),
    (
        "a: 1\n---\nb: 2",
        "found invalid YAML: deserializing from YAML containing more than one document is not supported",
    ),
];

fn check(cases: &[Case], whole: impl Fn(&str) -> String) {
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let expected: Vec<String> = expected
            .lines()
            .map(|line| {
                let gap = if line.starts_with(|c: char| c.is_ascii_digit()) { ":" } else { ": " };
                format!("failsoft.yaml{gap}{line}")
            })
            .collect();
        let expected = expected.join("\n");
        let found = parse(&whole(text)).map_or_else(|error| error.to_string(), |_| "ok".to_owned());
        if found != expected {
            wrong.push(format!("{text}\n  found    {found}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn wrong_settings_are_named() {
    check(SETTINGS, minimal_and);
}

#[test]
fn wrong_servers_are_named() {
    check(SERVERS, |servers| {
        let list: String = servers.lines().map(|server| format!("  - {server}\n")).collect();
        format!("defaults: {{user: app, pass: secret}}\ndatabases:\n{list}")
    });
}

#[test]
fn wrong_files_are_named() {
    check(FILES, str::to_owned);
}

#[test]
fn all_problems_come_at_once_and_in_order() {
    let text = "\
listen: [127.0.0.1:3306, 127.0.0.1:3306]
admin: {http: 0.0.0.0:9306}
defaults: {port: 3306, user: app, pass_env: NOT_SET}
databases:
  - {host: db001, role: master}
  - host: db002
    role: slave
    prot: 3310
  - {host: db003, role: master}
  - {host: db001, port: 3306, role: replica, master: db009}
health: {interval: 3, threshold: 0}
limits: {packet: 2GiB}
lisen: x
";
    let expected = "\
failsoft.yaml:1:26: listen[1]: found \"127.0.0.1:3306\", where listen[0] (\"127.0.0.1:3306\") listens already, expected another address
failsoft.yaml:2:15: admin.http: found \"0.0.0.0:9306\", which is not on loopback, expected one of token, token_env, token_file beside it
failsoft.yaml:3:45: defaults.pass_env: found an environment variable that is not set, NOT_SET, expected one that is
failsoft.yaml:7:11: databases[1].role: found \"slave\", expected \"master\" or \"replica\" (did you mean \"replica\"?)
failsoft.yaml:8:5: databases[1].prot: found an unknown key (did you mean \"port\"?)
failsoft.yaml:9:25: databases[2].role: found a second enabled master beside databases[0], expected one; disable it, make it a replica or give every master a partition
failsoft.yaml:10:12: databases[3].host: found db001:3306, which is databases[0] already, expected each server once
failsoft.yaml:11:20: health.interval: found 3, expected a duration from 100ms to 1h (did you mean 3s?)
failsoft.yaml:11:34: health.threshold: found 0, expected a whole number from 1 to 255
failsoft.yaml:12:18: limits.packet: found \"2GiB\", expected a size from 1MiB to 1GiB
failsoft.yaml:13:1: lisen: found an unknown key (did you mean \"listen\"?)";
    assert_eq!(parse(text).unwrap_err().to_string(), expected);
}

#[test]
fn no_error_tells_a_secret() {
    for text in [
        "monitor: {user: u, pass: [hunter2]}",
        "monitor: {user: u, pass: {hunter2: hunter2}}",
        "monitor: {user: u, pass: \"hunter2${\"}",
        "monitor: {user: u, pass_env: hunter2}",
        "monitor: {user: u, pass: hunter2, pass_env: hunter2}",
        "monitor: {user: u, pass: !hunter2 x}",
        "monitor: {user: u, pass: !!int hunter2}",
        "admin: {token: hunter2, token_env: 5}",
    ] {
        let error = parse(&minimal_and(text)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let config = parse(&MINIMAL.replace("secret", "hunter2")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!config.show().contains("hunter2"));
}
