//! What the data plane has to be told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use policy::partition::Homes;

/// Everything the data plane needs of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of the configuration, see [`View::generation`](policy::view::View::generation).
    pub generation: u64,
    /// Where applications connect to.
    pub listen: Vec<Listen>,
    /// How many cores serve sessions.
    pub threads: usize,
    /// The servers, in the order of the view's.
    pub servers: Vec<ServerSettings>,
    /// Where each schema lives, in terms of the view's partitions.
    pub homes: Homes,
    /// The accounts that applications log in with.
    pub accounts: Vec<Account>,
    /// Accounts that are not listed log in if a server lets them in, and again for this long.
    pub passthrough: Option<Duration>,
    /// Clients from here may tell another address in a PROXY header.
    pub proxies: Vec<IpNet>,
    /// How long one attempt to reach a server may take, login included.
    pub connect_timeout: Duration,
    /// How long a write may wait for the master before it is refused; zero is not at all.
    pub hold_writes: Duration,
    /// How connections to servers are kept for sessions to come, if they are.
    pub pool: Option<PoolSettings>,
    /// The limits.
    pub limits: Limits,
    /// TLS towards clients.
    pub tls_clients: ClientTls,
    /// TLS towards servers.
    pub tls_servers: ServerTls,
    /// Statements that take at least this long are logged.
    pub slow_statement: Option<Duration>,
    /// Statements a second that each core looks at for the list of statements.
    pub digests_per_second: u32,
    /// How long transactions may go on after the order to stop.
    pub drain_timeout: Duration,
}

/// An address for applications.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Listen {
    /// `host:port`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How to reach a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerSettings {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Log in to this server as this account in place of the client's.
    pub account: Option<Account>,
    /// Compress the connections to it with zlib, if it offers that.
    pub compress: bool,
    /// Tell it the client's address in a PROXY header.
    pub proxy_protocol: bool,
}

/// An account.
#[derive(Clone, Eq, PartialEq)]
pub struct Account {
    /// The user's name.
    pub name: String,
    /// The password; may be empty.
    pub password: Password,
}

/// A password, whose memory is overwritten when it is dropped.
pub type Password = zeroize::Zeroizing<String>;

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How connections to servers are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolSettings {
    /// Sessions share connections between their transactions.
    pub shared: Option<Sharing>,
    /// How many that belong to no session each core keeps to one server.
    pub idle: usize,
    /// How long one is kept that nobody takes.
    pub idle_time: Duration,
    /// How old one may become.
    pub lifetime: Duration,
}

/// How connections are shared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sharing {
    /// How many of them the sessions of each core have to one server.
    pub size: usize,
    /// How long a session waits for one.
    pub wait: Duration,
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Client connections in all.
    pub connections: usize,
    /// As many as the files that this process may have open allow.
    pub connections_by_files: usize,
    /// Client connections of one account; 0 is no limit.
    pub connections_per_user: usize,
    /// Connections to one server; 0 is no limit.
    pub server_connections: usize,
    /// The longest packet of a client, bytes.
    pub packet: usize,
    /// What long packets of all clients may take together, bytes.
    pub memory: usize,
    /// From the connection to the end of the login.
    pub login_timeout: Duration,
    /// How long a session may be silent.
    pub idle_timeout: Duration,
}

/// TLS towards clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientTls {
    /// Not offered.
    Off,
    /// Offered.
    On {
        /// Clients without it are refused.
        required: bool,
        /// PEM files of the certificate chain and the key; without them a certificate is made at
        /// the start.
        certificate: Option<(PathBuf, PathBuf)>,
        /// PEM file of the authorities; with it each client has to show a certificate.
        ca: Option<PathBuf>,
    },
}

/// TLS towards servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerTls {
    /// When it is used.
    pub mode: ServerTlsMode,
    /// A PEM file of certificates to trust.
    pub ca: Option<PathBuf>,
    /// PEM files of the certificate chain and the key to show.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// When TLS is used towards servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerTlsMode {
    /// Never.
    Off,
    /// Where the server offers it; its certificate is not checked.
    Preferred,
    /// Always; the certificate is not checked.
    Required,
    /// Always, and the certificate has to be good for the host's name.
    Verify,
}
