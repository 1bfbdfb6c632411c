//! The data plane: one task per client connection.
//!
//! A session reads a command, asks [`policy`] where it goes, and copies bytes. It makes no decision
//! of its own and never looks into a row. One single-threaded runtime per core takes connections
//! from a port that all cores share, so that nothing of a session is ever touched by two cores.
//!
//! * [`settings`] is what it has to be told; [`start`] starts it.
//! * `listener` starts the cores, `accept` is what each does, `sockets` is where clients connect;
//!   `login` lets in, `session` serves, `relay` copies.
//! * `backend` is an open connection to a server: reaching it, logging in, restoring a session on it.
//! * `setup` is the configuration in force; it is replaced as a whole while sessions go on.
//! * `registry` knows which session holds which connection, for `KILL`, and what each does.
//! * `refusal` is the only place where our errors become MySQL's.

mod accept;
mod alarm;
mod authenticate;
mod backend;
mod budget;
mod buffers;
mod clock;
mod compressed;
mod listener;
mod login;
mod passthrough;
mod password;
mod proxied;
mod refusal;
mod registry;
mod relay;
mod session;
pub mod settings;
mod setup;
mod sockets;
mod stream;
mod tls;
mod worker;

pub use listener::{Prepared, Proxy, StartError, Steering, start};
pub use policy::cluster::Report;
pub use registry::SessionInfo;
pub use settings::Settings;
pub use sockets::{Heritage, Inherited, Socket};

/// Whether bytes are a PROXY header, for the fuzzer.
#[cfg(fuzzing)]
pub fn parse_proxy_header(bytes: &[u8]) -> bool {
    proxied::parse(bytes).is_ok()
}
