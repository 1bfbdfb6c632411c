//! The sockets that clients connect to.
//!
//! Each address has one socket for each core, among which the kernel shares connections out
//! (SO_REUSEPORT). A socket that waits in this process may wait in another one as well: connections
//! that the kernel has taken are then not lost with either. So a process that is to be replaced gives
//! its sockets to its successor, and a supervisor may lend its own.

use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Protocol, Type};

use crate::listener::StartError;
use crate::settings::Listen;

/// Connections that wait to be taken, per socket.
const BACKLOG: i32 = 1024;

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// For TCP.
    Tcp(TcpListener),
    /// Of a file.
    Unix(UnixListener),
}

impl Socket {
    /// Takes a socket that somebody else made.
    ///
    /// # Errors
    ///
    /// It is no socket that listens for streams.
    pub fn take(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(io::Error::other("not a socket that listens for connections"));
        }
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        Ok(if socket.domain()? == Domain::UNIX {
            Self::Unix(OwnedFd::from(socket).into())
        } else {
            Self::Tcp(socket.into())
        })
    }

    /// The address that it listens on: `127.0.0.1:3306`, `unix:/path`.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(socket) => Ok(socket.local_addr()?.to_string()),
            Self::Unix(socket) => {
                let address = socket.local_addr()?;
                let path = address.as_pathname().map(unix_address);
                path.ok_or_else(|| io::Error::other("a socket without a file"))
            }
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    ///
    /// There is no room for another file descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// Sockets that are there already.
#[derive(Debug)]
pub struct Inherited {
    /// They all listen on the address that was asked for.
    pub sockets: Vec<Socket>,
    /// They, and the file of one, remain somebody else's: a supervisor's.
    pub lent: bool,
}

/// Where sockets that are there already come from, by their address as [`Socket::address`] has it.
pub type Heritage<'h> = &'h mut dyn FnMut(&str) -> Option<Inherited>;

/// An address, and the sockets that listen on it.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Tells it from every other.
    pub(crate) id: u64,
    /// As it is configured.
    pub(crate) listen: Listen,
    /// As it is.
    pub(crate) address: String,
    pub(crate) sockets: Vec<Socket>,
    /// Somebody else listens too: neither its connections nor its file are ours to clear up.
    pub(crate) is_shared: bool,
}

impl Listening {
    /// The sockets of each core. Where there are fewer than cores, cores share them.
    pub(crate) fn deal(&self, cores: usize) -> io::Result<Vec<Vec<Socket>>> {
        let count = self.sockets.len().max(1);
        let of_core = |core: usize| {
            let mine = self.sockets.iter().enumerate().filter(move |(at, _)| {
                if count < cores { core % count == *at } else { at % cores == core }
            });
            mine.map(|(_, socket)| socket.try_clone()).collect()
        };
        (0..cores).map(of_core).collect()
    }

    /// Removes the file of a socket that is no longer used.
    pub(crate) fn clear_up(&self) {
        if let Listen::Unix(path) = &self.listen
            && !self.is_shared
        {
            // Somebody else may have removed it, or put another in its place.
            let _removed = std::fs::remove_file(path);
        }
    }
}

/// Listens on an address as configured, which may have several meanings; the ids count from
/// `first`.
pub(crate) fn listen(
    listen: &Listen,
    cores: usize,
    first: u64,
    heritage: Heritage<'_>,
) -> Result<Vec<Listening>, StartError> {
    let make = |id, address, sockets, is_shared| {
        let listen = listen.clone();
        Listening { id, listen, address, sockets, is_shared }
    };
    match listen {
        Listen::Tcp(text) => {
            let failed = |source| StartError::Listen { address: text.clone(), source };
            let addresses = text.to_socket_addrs().map_err(failed)?;
            let one = |(address, id): (SocketAddr, u64)| {
                if let Some(Inherited { sockets, lent }) = heritage(&address.to_string()) {
                    return Ok(make(id, address.to_string(), sockets, lent));
                }
                let (address, sockets) = bind_tcp_for(cores, address)?;
                Ok(make(id, address.to_string(), sockets, false))
            };
            addresses.zip(first..).map(one).collect::<io::Result<_>>().map_err(failed)
        }
        Listen::Unix(path) => {
            let address = unix_address(path);
            let failed = |source| StartError::Listen { address: address.clone(), source };
            let (sockets, is_shared) = match heritage(&address) {
                Some(Inherited { sockets, lent }) => (sockets, lent),
                None => (vec![Socket::Unix(bind_unix(path).map_err(failed)?)], false),
            };
            Ok(vec![make(first, address, sockets, is_shared)])
        }
    }
}

fn unix_address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// One socket for each core; with port 0 the first chooses for all.
fn bind_tcp_for(cores: usize, address: SocketAddr) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let mut address = address;
    let mut sockets = Vec::new();
    for _ in 0..cores {
        let listener = bind_tcp(address)?;
        address = listener.local_addr()?;
        sockets.push(Socket::Tcp(listener));
    }
    Ok((address, sockets))
}

/// SO_REUSEPORT lets the kernel share connections out among the cores.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket left behind by a process that was killed is replaced; any other file is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // As servers have it: who may connect is not who may log in.
    std::fs::set_permissions(path, Permissions::from_mode(0o777))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(cores: usize) -> Listening {
        let listen_to = Listen::Tcp("127.0.0.1:0".to_owned());
        listen(&listen_to, cores, 7, &mut |_| None).unwrap().remove(0)
    }

    #[test]
    fn every_core_has_a_socket_and_every_socket_a_core() {
        for (sockets, cores) in [(1, 1), (1, 3), (2, 3), (3, 3), (5, 2)] {
            let dealt = any(sockets).deal(cores).unwrap();
            assert_eq!(dealt.len(), cores);
            assert!(dealt.iter().all(|mine| !mine.is_empty()), "{sockets} for {cores}");
            let all: usize = dealt.iter().map(Vec::len).sum();
            assert_eq!(all, sockets.max(cores), "{sockets} for {cores}");
        }
    }

    #[test]
    fn sockets_that_are_there_are_taken() {
        let first = any(2);
        let text = Listen::Tcp(first.address.clone());
        let sockets: Vec<_> = first.sockets.iter().map(|it| it.try_clone().unwrap()).collect();
        let mut heritage = Some(Inherited { sockets, lent: false });
        let mut asked = Vec::new();
        let taken = listen(&text, 4, 1, &mut |address| {
            asked.push(address.to_owned());
            heritage.take()
        });
        let taken = taken.unwrap().remove(0);
        assert_eq!((taken.address.as_str(), taken.sockets.len()), (first.address.as_str(), 2));
        assert_eq!(asked, [first.address]);
    }

    #[test]
    fn only_sockets_that_listen_are_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(address).unwrap();
        assert!(Socket::take(stream.into()).is_err());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Socket::take(datagrams.into()).is_err());
        let taken = Socket::take(listener.into()).unwrap();
        assert_eq!(taken.address().unwrap(), address.to_string());
    }
}
