//! Loopback ports that stay ours while their server is down.
//!
//! A port the kernel hands out can be handed out again as soon as its server is killed, and then a
//! test talks to somebody else's server. So ports are taken from outside the kernel's range for
//! outgoing connections, and each is held by a lock on a file of its number, which all processes
//! on the machine respect and which goes with the process that holds it.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, io};

use crate::SandboxError;

/// Lowest port used; below lie the ports of well-known services.
const LOWEST: u16 = 20_000;
/// The fewest ports worth having below the kernel's range; otherwise those above it are used.
const FEWEST: u16 = 1_000;
/// Where the kernel keeps its range for outgoing connections.
const KERNEL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What the kernel's range is where it cannot be read.
const USUAL_RANGE: (u16, u16) = (32_768, 60_999);

/// A loopback port that nobody else who asks here gets while this value lives.
#[derive(Debug)]
pub struct Lease {
    port: u16,
    _lock: File,
}

impl Lease {
    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Takes any free port.
    ///
    /// # Errors
    /// No port of the range is free, or the folder of the locks cannot be made.
    pub fn any() -> Result<Self, SandboxError> {
        let folder = lock_folder()?;
        let (low, high) = range();
        let count = u64::from(high - low) + 1;
        let start = RandomState::new().build_hasher().finish() % count;
        (0..count)
            .filter_map(|step| u16::try_from(u64::from(low) + (start + step) % count).ok())
            .find_map(|port| Self::take(&folder, port))
            .ok_or(SandboxError::NoPort { low, high })
    }

    /// Takes this port.
    ///
    /// # Errors
    /// Somebody else has it or listens on it, or the folder of the locks cannot be made.
    pub fn exactly(port: u16) -> Result<Self, SandboxError> {
        let folder = lock_folder()?;
        Self::take(&folder, port).ok_or(SandboxError::NoPort { low: port, high: port })
    }

    fn take(folder: &Path, port: u16) -> Option<Self> {
        let lock = lock_file(&folder.join(port.to_string())).ok()?;
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some(Self { port, _lock: lock })
    }
}

/// Whether anybody on this machine takes itself for connected to this port.
///
/// The end of a process or of a connection is known to the peer only when the kernel has delivered it,
/// which on a busy machine may be after the caller's next packet to that peer.
#[must_use]
pub fn is_connected_to(port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    tables.iter().any(|table| fs::read_to_string(table).is_ok_and(|text| has_peer(&text, port)))
}

/// Whether a table of the kernel's has an established connection to a port
/// (proc_pid_net(5): the third field is the remote address, the fourth the state).
fn has_peer(table: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|remote| remote.ends_with(&port)) && fields.next() == Some("01")
    })
}

/// The folder of the locks, which every user of the machine may add to.
fn lock_folder() -> Result<PathBuf, SandboxError> {
    let folder = env::temp_dir().join("failsoft-ports");
    match fs::create_dir(&folder) {
        Ok(()) => fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777))
            .map_err(SandboxError::io("open the folder of port locks to other users"))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(SandboxError::io("make the folder of port locks")(error)),
    }
    Ok(folder)
}

/// Opens a lock's file: for reading, which is enough, so that another user's can be had too.
fn lock_file(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::options().write(true).create(true).truncate(false).open(path)
        }
        other => other,
    }
}

/// The ports to choose from.
fn range() -> (u16, u16) {
    let text = fs::read_to_string(KERNEL_RANGE).unwrap_or_default();
    outside(parse_range(&text).unwrap_or(USUAL_RANGE))
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) if low <= high => Some((low, high)),
        _ => None,
    }
}

/// The best range outside the kernel's, or all from [`LOWEST`] up where the kernel's leaves none.
const fn outside((low, high): (u16, u16)) -> (u16, u16) {
    if low >= LOWEST + FEWEST {
        (LOWEST, low - 1)
    } else if high <= u16::MAX - FEWEST {
        (if high < LOWEST { LOWEST } else { high + 1 }, u16::MAX)
    } else {
        (LOWEST, u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_outside_the_kernels() {
        let rows = [
            ((32_768, 60_999), (20_000, 32_767)),
            ((1_024, 60_999), (61_000, 65_535)),
            ((1_024, 65_535), (20_000, 65_535)),
            ((1_024, 10_000), (20_000, 65_535)),
            ((20_500, 60_000), (60_001, 65_535)),
        ];
        for (kernel, ours) in rows {
            assert_eq!(outside(kernel), ours, "{kernel:?}");
        }
    }

    #[test]
    fn reads_the_kernels_range() {
        let rows =
            [("32768\t60999\n", Some((32_768, 60_999))), ("", None), ("9 1", None), ("x 1", None)];
        for (text, expected) in rows {
            assert_eq!(parse_range(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_lease_keeps_its_port_from_others_until_it_is_dropped() {
        let lease = Lease::any().unwrap();
        assert!(Lease::exactly(lease.port()).is_err());
        let other = Lease::any().unwrap();
        assert_ne!(lease.port(), other.port());
        let port = lease.port();
        drop(lease);
        // A process that another test is starting may hold a copy of the lock until it is itself;
        // and another test may have taken the port.
        let free = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            Lease::exactly(port).is_ok()
        });
        assert!(free, "port {port} is kept");
    }

    #[test]
    fn a_peer_is_connected_until_it_knows_of_the_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_connected_to(port));
        let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(is_connected_to(port));
        drop(server);
        while is_connected_to(port) {}
        // The client need not have closed its end.
        drop(client);
    }

    #[test]
    fn a_port_with_a_listener_is_not_taken() {
        let folder = lock_folder().unwrap();
        let (port, _listener) = loop {
            // Of ports that the kernel gives out, so that no other test has it.
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            if !folder.join(port.to_string()).exists() {
                break (port, listener);
            }
        };
        assert!(Lease::exactly(port).is_err());
    }
}
