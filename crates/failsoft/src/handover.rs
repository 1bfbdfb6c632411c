//! One failsoft takes the place of another on the same address.
//!
//! With a socket of its own beside the other's (SO_REUSEPORT), a process takes a share of the
//! connections; but those that the kernel has taken for the other, and that the other has not seen
//! yet, are reset when it closes its socket. So the newer asks the older for its sockets and waits on
//! the same ones: whichever ends first, no connection is lost with it.
//!
//! The older listens for that on an abstract Unix socket that is named after the address. They trust
//! each other if they run as the same user, which is also what SO_REUSEPORT asks for.
//!
//! ```text
//! older ──▶ 1 (version), number of sockets as int<2>; with the sockets, as many as fit a message
//! ```

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use control::{Handle, Severity};
use proxy::{Inherited, Socket, Steering};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, UCred, recvmsg, sendmsg, sockopt::socket_peercred,
};
use tokio::task::AbortHandle;

/// Which form the message has.
const VERSION: u8 = 1;
/// How long the other may take to send, and to receive, a message.
const LIMIT: Duration = Duration::from_secs(2);
/// Sockets in one message; the kernel takes 253.
const AT_A_TIME: usize = 64;
/// The most sockets of an address: one for each core of a large machine.
const MOST: usize = 1024;

/// The name on which the sockets of an address can be asked for.
fn name(address: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("failsoft {address}"))
}

/// Whether the process at the other end may have our sockets, and we take its.
fn check_peer(stream: &UnixStream) -> anyhow::Result<UCred> {
    let peer = socket_peercred(stream)?;
    let me = rustix::process::geteuid();
    ensure!(peer.uid == me, "it runs as another user ({} and not {})", peer.uid, me);
    Ok(peer)
}

/// Asks another failsoft for the sockets of an address; none when there is none to ask.
pub(crate) fn take(address: &str) -> Option<Inherited> {
    let stream = UnixStream::connect_addr(&name(address).ok()?).ok()?;
    match receive(&stream, address) {
        Ok((sockets, _)) if sockets.is_empty() => None,
        Ok((sockets, peer)) => {
            let pid = peer.pid;
            tracing::info!("took over {address} from the failsoft that runs as process {pid}");
            Some(Inherited { sockets, lent: false })
        }
        Err(error) => {
            tracing::warn!("another failsoft did not hand over {address}: {error:#}");
            None
        }
    }
}

fn receive(stream: &UnixStream, address: &str) -> anyhow::Result<(Vec<Socket>, UCred)> {
    stream.set_read_timeout(Some(LIMIT))?;
    let peer = check_peer(stream)?;
    let mut sockets = Vec::new();
    loop {
        let (count, received) = receive_some(stream)?;
        ensure!(count <= MOST, "it has {count} sockets");
        let is_end = received.is_empty();
        for socket in received {
            let socket = Socket::take(socket)?;
            let found = socket.address()?;
            ensure!(found == address, "it sent a socket that listens on {found}");
            sockets.push(socket);
        }
        if sockets.len() >= count {
            return Ok((sockets, peer));
        }
        ensure!(!is_end, "it sent {} of {count} sockets", sockets.len());
    }
}

/// One message: how many sockets there are in all, and some of them.
fn receive_some(stream: &UnixStream) -> anyhow::Result<(usize, Vec<OwnedFd>)> {
    let mut bytes = [0; 3];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_A_TIME))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            sockets.extend(received);
        }
    }
    match bytes {
        [VERSION, low, high] if message.bytes == 3 => {
            Ok((u16::from_le_bytes([low, high]).into(), sockets))
        }
        _ => bail!("it speaks another version"),
    }
}

fn send(stream: &UnixStream, sockets: &[Socket]) -> anyhow::Result<()> {
    stream.set_write_timeout(Some(LIMIT))?;
    let [low, high] = u16::try_from(sockets.len())?.to_le_bytes();
    let bytes = [VERSION, low, high];
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    // Without sockets there is one message all the same.
    let chunks = fds.chunks(AT_A_TIME).chain(fds.is_empty().then_some(&[][..]));
    for chunk in chunks {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_A_TIME))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !chunk.is_empty() {
            ensure!(control.push(SendAncillaryMessage::ScmRights(chunk)), "too many sockets");
        }
        sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Hands the sockets of the addresses that are listened on to another failsoft that asks.
pub(crate) struct Handover {
    control: Handle,
    steering: Steering,
    offered: Mutex<HashMap<String, AbortHandle>>,
}

impl Handover {
    pub(crate) fn new(control: Handle, steering: Steering) -> Self {
        Self { control, steering, offered: Mutex::default() }
    }

    /// Offers what is listened on now, and nothing else. Needs a runtime.
    pub(crate) fn offer(&self) {
        let addresses = self.steering.addresses();
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        offered.retain(|address, task| {
            let keep = addresses.contains(address);
            if !keep {
                task.abort();
            }
            keep
        });
        for address in addresses {
            if offered.contains_key(&address) {
                continue;
            }
            match listen(&address) {
                Ok(listener) => {
                    let (control, steering) = (self.control.clone(), self.steering.clone());
                    let task =
                        tokio::spawn(hand_over(listener, address.clone(), control, steering));
                    offered.insert(address, task.abort_handle());
                }
                // Another failsoft that shares the address and was not asked, or did not answer.
                Err(error) => tracing::warn!("{address} cannot be handed over: {error}"),
            }
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let offered = self.offered.get_mut().unwrap_or_else(PoisonError::into_inner);
        offered.values().for_each(AbortHandle::abort);
    }
}

fn listen(address: &str) -> io::Result<tokio::net::UnixListener> {
    let listener = UnixListener::bind_addr(&name(address)?)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// Waits for a failsoft that asks and may have the sockets; one is enough, which is asked from then
/// on.
async fn hand_over(
    listener: tokio::net::UnixListener,
    address: String,
    control: Handle,
    steering: Steering,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let asked = stream.into_std().map_err(anyhow::Error::from).and_then(|stream| {
            stream.set_nonblocking(false)?;
            let peer = check_peer(&stream)?;
            Ok((stream, peer))
        });
        let (stream, peer) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                tracing::warn!("a process that asked for {address} did not get it: {error:#}");
                continue;
            }
        };
        // The other offers it in its turn as soon as it has it.
        drop(listener);
        let (steering, of) = (steering.clone(), address.clone());
        let sent = tokio::task::spawn_blocking(move || {
            let sockets = steering.share(&of).context("sharing the sockets")?;
            send(&stream, &sockets)
        });
        let sent = sent.await.map_err(anyhow::Error::from).and_then(|sent| sent);
        let pid = peer.pid;
        match sent {
            Ok(()) => {
                let text = format!(
                    "the failsoft that runs as process {pid} takes connections on {address}, too"
                );
                control.note(Severity::Info, text);
            }
            Err(error) => tracing::warn!("{address} was not handed over: {error:#}"),
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn sockets(count: usize) -> (String, Vec<Socket>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let clone = || Socket::Tcp(listener.try_clone().unwrap());
        (address, (0..count).map(|_| clone()).collect())
    }

    #[test]
    fn sockets_reach_the_other_side_however_many() {
        for count in [0, 1, AT_A_TIME, AT_A_TIME + 1, 3 * AT_A_TIME] {
            let (here, there) = UnixStream::pair().unwrap();
            let (address, sent) = sockets(count);
            let sending = std::thread::spawn(move || send(&there, &sent).unwrap());
            let (taken, peer) = receive(&here, &address).unwrap();
            sending.join().unwrap();
            assert_eq!((taken.len(), peer.uid), (count, rustix::process::geteuid()));
            // What was received is the socket that was sent.
            if let Some(Socket::Tcp(listener)) = taken.first() {
                let client = std::net::TcpStream::connect(&address).unwrap();
                listener.set_nonblocking(false).unwrap();
                let (_, peer) = listener.accept().unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
            }
        }
    }

    #[test]
    fn what_is_no_socket_of_the_address_is_refused() {
        let (here, there) = UnixStream::pair().unwrap();
        let (_, sent) = sockets(1);
        send(&there, &sent).unwrap();
        let error = receive(&here, "127.0.0.1:1").unwrap_err().to_string();
        assert!(error.starts_with("it sent a socket that listens on 127.0.0.1:"), "{error}");
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        assert!(receive(&here, "127.0.0.1:1").is_err());
        use std::io::Write;
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(&[9, 0, 0]).unwrap();
        let error = receive(&here, "127.0.0.1:1").unwrap_err().to_string();
        assert_eq!(error, "it speaks another version");
    }

    #[test]
    fn nobody_there_is_no_trouble() {
        assert!(take("127.0.0.1:1").is_none());
    }
}
