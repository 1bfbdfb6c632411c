//! Tells systemd how far the service is, where it asks (`Type=notify`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1` or `STOPPING=1`. Without systemd this does nothing.
pub(crate) fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(socket.as_bytes(), state) {
        tracing::warn!("systemd could not be told {state}: {error}");
    }
}

/// Says that the configuration is being read again (`Type=notify-reload`); `READY=1` has to follow.
pub(crate) fn notify_reloading() {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The socket is a path, or after an `@` a name of Linux's abstract kind.
fn send(socket: &[u8], state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reaches_both_kinds_of_socket() {
        let abstract_name = format!("failsoft-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&abstract_name);
        let named = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let sockets = [
            (UnixDatagram::bind_addr(&named).unwrap(), format!("@{abstract_name}").into_bytes()),
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().as_bytes().to_vec()),
        ];
        for (socket, name) in sockets {
            send(&name, "READY=1").unwrap();
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        std::fs::remove_file(path).unwrap();
    }
}
