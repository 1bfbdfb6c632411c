//! Sockets that a supervisor lends: socket activation as systemd has it (`LISTEN_FDS`).
//!
//! The supervisor listens before failsoft does, and while it is started again: clients then wait for
//! a moment instead of being refused.

use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use proxy::{Inherited, Socket};

/// The sockets that are lent, by the addresses that they listen on.
#[derive(Debug, Default)]
pub(crate) struct Lent(Vec<(String, Socket)>);

impl Lent {
    /// Takes what the environment names. Other threads may read the environment afterwards, and not
    /// meanwhile: it is changed, so that no child process takes the sockets for its own.
    pub(crate) fn from_env() -> Self {
        let mut listed = ListenFd::from_env();
        let mut lent = Vec::new();
        for at in 0..listed.len() {
            let tcp = listed.take_tcp_listener(at).map(|found| found.map(OwnedFd::from));
            let found = match tcp {
                Ok(found) => Ok(found),
                Err(_) => listed.take_unix_listener(at).map(|found| found.map(OwnedFd::from)),
            };
            let socket = match found {
                Ok(Some(fd)) => Socket::take(fd),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match socket.and_then(|socket| Ok((socket.address()?, socket))) {
                Ok(socket) => lent.push(socket),
                Err(error) => tracing::warn!("socket {at} of LISTEN_FDS is not used: {error}"),
            }
        }
        Self(lent)
    }

    /// The sockets that listen on an address.
    pub(crate) fn take(&mut self, address: &str) -> Option<Inherited> {
        let is_it = |(of, _): &mut (String, Socket)| of == address;
        let sockets: Vec<_> = self.0.extract_if(.., is_it).map(|(_, socket)| socket).collect();
        if sockets.is_empty() {
            return None;
        }
        tracing::info!("{address} is lent by the supervisor");
        Some(Inherited { sockets, lent: true })
    }

    /// Says which sockets no address of the configuration is for.
    pub(crate) fn tell_unused(&self) {
        for (address, _) in &self.0 {
            tracing::warn!(
                "the supervisor lends a socket that listens on {address}, which `listen` does not \
                 name; nobody takes connections there"
            );
        }
    }
}
