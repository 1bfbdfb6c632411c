//! The configuration, as the rest of the program uses it.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::address::Address;
use crate::partitions::do_meet;
use crate::secret::Secret;

/// The whole configuration: checked, with every default filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Where applications connect; at least one.
    pub listen: Vec<Listen>,
    /// Where operators connect.
    pub admin: Admin,
    /// The account of the health checks. `None` only where every enabled database has an account
    /// of its own: the checks then use that.
    pub monitor: Option<Account>,
    /// The accounts applications log in with, each name once; at least one where no others may.
    pub users: Vec<Account>,
    /// Who else may log in.
    pub login: Login,
    /// How long accounts are remembered that are not listed.
    pub login_memory: Duration,
    /// The servers; at least one is a master, though it may be disabled.
    pub databases: Vec<Database>,
    /// Clients from here may tell another address in a PROXY header.
    pub proxies: Vec<IpNet>,
    /// Writes are refused.
    pub read_only: bool,
    /// How servers are checked.
    pub health: Health,
    /// How long one attempt of a session to reach a server may take.
    pub connect_timeout: Duration,
    /// The master may replicate from another server.
    pub master_may_replicate: bool,
    /// How long a write waits for a lost master.
    pub hold_writes: Duration,
    /// How connections to servers are kept.
    pub pool: Pool,
    /// What clients may use up.
    pub limits: Limits,
    /// The file is reloaded when it changes.
    pub watch: bool,
    /// Threads of the data plane, 1 to 256.
    pub threads: usize,
    /// How long transactions may go on after the order to stop.
    pub drain_timeout: Duration,
    /// Statements that take at least this long are logged; `None` is off.
    pub slow_statement: Option<Duration>,
    /// Statements a second that each thread looks at for the list of statements.
    pub digests_per_second: u32,
    /// Where the outcome ledger outlives the process.
    pub ledger: Option<PathBuf>,
    /// Encryption.
    pub tls: Tls,
    /// Log lines.
    pub log: Log,
    /// The files that the configuration names: certificates, keys and secrets.
    pub files: BTreeSet<PathBuf>,
}

/// An address to listen on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Listen {
    /// `host:port`, or `[ipv6]:port`; port 0 takes a free one.
    Tcp(String),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where operators connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admin {
    /// `host:port` of the console, the API and the metrics; `None` is off.
    pub http: Option<String>,
    /// `host:port` of the admin console in the MySQL protocol; `None` is off.
    pub mysql: Option<String>,
    /// What is needed for an action that changes something. Never `None` where one of the
    /// addresses is not on loopback.
    pub token: Option<Secret>,
}

/// A user name and its password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The user name, never empty.
    pub name: String,
    /// The password; empty only where the file says `pass: ""`.
    pub pass: Secret,
}

/// One MySQL or MariaDB server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Database {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port, not 0.
    pub port: u16,
    /// Whether it takes writes.
    pub role: Role,
    /// It is left alone.
    pub disabled: bool,
    /// Log in to this server with this account, whoever the client is.
    pub account: Option<Account>,
    /// The schemas of a master, as written; empty where there is one partition only.
    pub partition: Vec<String>,
    /// The [`Database::key`] of a replica's master; always there for a replica.
    pub master: Option<String>,
    /// How much is read from it, compared with others; at least 1.
    pub weight: u32,
    /// Applications' statements and results are compressed on the way to it, if it offers that.
    pub compress: bool,
    /// It is told clients' addresses in PROXY headers.
    pub proxy_protocol: bool,
}

impl Database {
    /// What identifies the server everywhere: `host:port`, or `[ipv6]:port`.
    #[must_use]
    pub fn key(&self) -> String {
        Address { host: self.host.clone(), port: self.port }.to_string()
    }

    /// Whether a schema is on the lists of both.
    #[must_use]
    pub fn shares_schemas_with(&self, other: &Self) -> bool {
        let meets = |schema: &String| other.partition.iter().any(|one| do_meet(one, schema));
        self.partition.iter().any(meets)
    }
}

/// How servers are checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Health {
    /// From one check of a server to the next.
    pub interval: Duration,
    /// Results in a row that flip a server's state.
    pub threshold: NonZeroU8,
    /// How long one check may take; less than `interval` times `threshold`.
    pub timeout: Duration,
}

/// How connections to servers are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// When.
    pub mode: PoolMode,
    /// The most to one server that belong to no session.
    pub idle: usize,
    /// The most to one server that sessions share between their transactions.
    pub size: usize,
    /// How long a session waits for one of them.
    pub wait: Duration,
    /// How long one is kept that nobody takes.
    pub idle_time: Duration,
    /// How old one may become.
    pub lifetime: Duration,
}

/// What clients may use up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Client connections at a time.
    pub connections: usize,
    /// Client connections of one user at a time; 0 is no limit.
    pub connections_per_user: usize,
    /// Connections to one server at a time.
    pub server_connections: usize,
    /// Bytes of the longest packet taken from a client, 1 MiB to 1 GiB.
    pub packet: u64,
    /// Bytes that long packets of all clients may take together, 16 MiB to 1 TiB.
    pub memory: u64,
    /// How long a client may take to log in; never zero.
    pub login_timeout: Duration,
    /// How long a client may send nothing; never zero.
    pub idle_timeout: Duration,
}

/// Encryption of connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// On connections from clients.
    pub clients: ClientTls,
    /// PEM files of the certificate shown to clients and its key; `None` is a self-signed one.
    pub cert_key: Option<(PathBuf, PathBuf)>,
    /// PEM file of the authorities for certificates of clients, which each must show then; only with
    /// [`ClientTls::Required`].
    pub client_ca: Option<PathBuf>,
    /// On connections to servers.
    pub servers: ServerTls,
    /// PEM file of the authorities for [`ServerTls::Verify`]; there exactly then.
    pub ca: Option<PathBuf>,
    /// PEM files of the certificate shown to servers and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// Log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Log {
    /// How they look.
    pub format: LogFormat,
    /// The least important ones that are logged.
    pub level: LogLevel,
}

/// A setting that takes one of some words.
pub(crate) trait Word: Copy + 'static {
    /// The words and what they mean.
    const ALL: &'static [(&'static str, Self)];
}

/// Makes an enum of words.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// The word in the configuration file.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl Word for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// Whether a server takes writes.
    Role {
        /// It does.
        Master = "master",
        /// It follows a master.
        Replica = "replica",
    }
}

words! {
    /// Who may log in.
    Login {
        /// Listed accounts.
        Listed = "listed",
        /// Also those that a server lets in.
        Passthrough = "passthrough",
    }
}

words! {
    /// TLS on connections from clients.
    ClientTls {
        /// Not offered.
        Off = "off",
        /// Offered.
        Preferred = "preferred",
        /// A client without it is refused.
        Required = "required",
    }
}

words! {
    /// TLS on connections to servers.
    ServerTls {
        /// Not used.
        Off = "off",
        /// Used where the server offers it.
        Preferred = "preferred",
        /// A server without it is not used.
        Required = "required",
        /// As required, and the certificate must be signed by the configured authorities.
        Verify = "verify",
    }
}

words! {
    /// When connections to servers are kept.
    PoolMode {
        /// Never.
        Off = "off",
        /// When their session ends.
        Session = "session",
        /// Whenever their session has nothing on them: between its transactions.
        Transaction = "transaction",
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// For people on a terminal, JSON elsewhere.
        Auto = "auto",
        /// For people.
        Human = "human",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// How important a log line is.
    LogLevel {
        /// Something failed.
        Error = "error",
        /// Something may fail.
        Warn = "warn",
        /// Something happened.
        Info = "info",
        /// For finding out why.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
