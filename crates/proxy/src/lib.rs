//! The data plane: one task per client connection.
//!
//! A session reads a command, asks [`policy`] where it goes, and copies bytes. It makes no decision
//! of its own and never looks into a row. One single-threaded runtime per core takes connections
//! from a port that all cores share, so that nothing of a session is ever touched by two cores.
//!
//! * [`settings`] is what it has to be told; [`start`] starts it.
//! * `listener` accepts, `login` lets in, `session` serves, `relay` copies.
//! * `backend` is an open connection to a server: reaching it, logging in, restoring a session on it.
//! * `registry` knows which session holds which connection, for `KILL`.
//! * `refusal` is the only place where our errors become MySQL's.

mod authenticate;
mod backend;
mod clock;
mod compressed;
mod listener;
mod login;
mod passthrough;
mod proxied;
mod refusal;
mod registry;
mod relay;
mod session;
pub mod settings;
mod stream;
mod tls;
mod worker;

pub use listener::{Proxy, StartError, start};
pub use policy::cluster::Report;
pub use settings::Settings;
