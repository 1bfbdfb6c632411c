//! Every metric, as a table.

/// A metric's name, its help and its labels.
pub type Row = (&'static str, &'static str, &'static [&'static str]);

/// Every metric of failsoft; beside them `/metrics` has the usual `process_…` ones.
pub const METRICS: &[Row] = &[
    ("failsoft_build_info", "Always 1; the label says which version runs.", &["version"]),
    (
        "failsoft_client_bytes_total",
        "Bytes exchanged with clients; direction is received or sent, seen from failsoft.",
        &["direction"],
    ),
    (
        "failsoft_configuration_valid",
        "1 when the configuration file was good when it was read last; 0 while an older one is in \
         force for that.",
        &[],
    ),
    (
        "failsoft_connection_wait_seconds",
        "How long statements waited for a connection that sessions share; only those that did.",
        &[],
    ),
    ("failsoft_logins_total", "Logins of clients, by how they ended.", &["result"]),
    (
        "failsoft_panics_total",
        "Tasks of failsoft that ended by a panic, sessions and checks; each is a bug.",
        &[],
    ),
    (
        "failsoft_partition_mode",
        "1 while the partition is read-only for this reason; all 0 when it is read-write.",
        &["partition", "reason"],
    ),
    (
        "failsoft_reloads_total",
        "How often the configuration was read again, by what came of it: applied or invalid.",
        &["result"],
    ),
    ("failsoft_server_check_seconds", "Duration of health checks.", &["server"]),
    (
        "failsoft_server_connections",
        "Connections to the server that carry or may carry sessions.",
        &["server", "state"],
    ),
    ("failsoft_server_healthy", "1 while health checks let the server have traffic.", &["server"]),
    (
        "failsoft_server_replication_delay_seconds",
        "How far the server is behind its source; no series while that is not known.",
        &["server"],
    ),
    (
        "failsoft_server_up",
        "1 when the server's last check got through; no series while the server is disabled.",
        &["server"],
    ),
    ("failsoft_sessions", "Client sessions, by state.", &["state"]),
    (
        "failsoft_sessions_pinned",
        "Sessions that cannot leave their server, by cause; one session may have several.",
        &["cause"],
    ),
    (
        "failsoft_statement_seconds",
        "Time from a statement to the first byte of its answer.",
        &["class", "target"],
    ),
    (
        "failsoft_statements_refused_total",
        "Statements that failsoft refused instead of sending them to a server.",
        &["reason"],
    ),
    (
        "failsoft_statements_retried_total",
        "Reads sent once more to another server because the first was lost.",
        &[],
    ),
    (
        "failsoft_statements_total",
        "Statements answered, by what they ask and who answered.",
        &["partition", "class", "target"],
    ),
    (
        "failsoft_statements_waiting",
        "Statements that wait for a connection that sessions share.",
        &[],
    ),
    (
        "failsoft_transactions_aborted_total",
        "Transactions lost with their server before COMMIT was sent.",
        &[],
    ),
    (
        "failsoft_writes_held",
        "Writes that wait, for the master by `hold_writes` or for an operator by `pause`.",
        &[],
    ),
    (
        "failsoft_writes_unknown_total",
        "Writes whose outcome is unknown: sent, and the connection broke before the answer.",
        &[],
    ),
];

/// Why statements are refused, beside the reasons of read-only mode.
pub const OTHER_REFUSALS: &[&str] =
    &["no_server", "no_turn", "tied", "aborted", "state_lost", "partitions"];

/// How logins end.
pub const LOGIN_RESULTS: &[&str] = &["ok", "denied", "error", "timeout", "too_many"];

/// What comes of reading the configuration again.
pub(crate) const RELOAD_RESULTS: [&str; 2] = ["applied", "invalid"];

/// Upper bounds of the buckets for statements, seconds.
pub(crate) const STATEMENT_BUCKETS: &[f64] = &[
    0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 30.0,
];

/// Upper bounds of the buckets for checks, seconds.
pub(crate) const CHECK_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
