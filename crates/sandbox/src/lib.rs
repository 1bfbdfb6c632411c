//! Starts private MariaDB and MySQL servers in scratch folders.
//!
//! `failsoft demo` and the tests use it. Nothing of the machine's own database service is touched:
//! each server has its own data, its own loopback port and its own settings, and leaves with the
//! process that started it, even when that process is killed with SIGKILL.
//!
//! ```text
//! Flavor::find ──▶ Program ──▶ template (once per version, in the cache folder)
//!                                  │ copied
//!                                  ▼
//!                    ports::Lease + scratch folder ──▶ Server ──▶ Pair: two, one replicating
//! ```
//!
//! The template already has the accounts [`ROOT`], [`APP`] and [`MONITOR`], the schema `app`, and
//! an empty binary log, so that copies of it are equal and can replicate from each other at once.

mod account;
mod error;
mod flavor;
mod pair;
pub mod ports;
mod process;
mod server;
mod settings;
mod template;

pub use account::{APP, Account, MONITOR, ROOT, connect};
pub use error::{NotFound, SandboxError};
pub use flavor::{Flavor, Program, cache_dir};
pub use pair::Pair;
pub use process::Process;
pub use rustix::process::Signal;
pub use server::{Options, Server};
