//! A relay that hides what a server offers: it stands for a server that is older than it says.
//!
//! Only the greeting is changed. A login that then asks for what is hidden gets it all the same, so
//! such a login is a mistake of the client's.

use std::io;
use std::net::Ipv4Addr;

use sandbox::ports::Lease;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The relay. Dropping it closes its listener; connections that are open stay.
#[derive(Debug)]
pub struct Mask {
    lease: Lease,
    acceptor: JoinHandle<()>,
}

impl Mask {
    /// Starts relaying to a server on a loopback port. `hidden` are capabilities, MariaDB's extended
    /// ones in the upper half.
    ///
    /// # Panics
    /// There is no free port to listen on.
    pub async fn start(target: u16, hidden: u64) -> Self {
        let lease = Lease::any().expect("a free port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, lease.port())).await;
        let listener = listener.expect("a port to listen on");
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move { drop(relay(client, target, hidden).await) });
            }
        });
        Self { lease, acceptor }
    }

    /// The port to connect to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.lease.port()
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn relay(mut client: TcpStream, target: u16, hidden: u64) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut header = [0; 4];
    server.read_exact(&mut header).await?;
    let [a, b, c, _] = header;
    let mut payload = vec![0; usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16];
    server.read_exact(&mut payload).await?;
    hide(&mut payload, hidden);
    client.write_all(&[&header[..], &payload].concat()).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Takes capabilities out of a greeting (P: page_protocol_connection_phase_packets_protocol_handshake_v10).
fn hide(greeting: &mut [u8], hidden: u64) {
    let Some(nul) = greeting.iter().skip(1).position(|&byte| byte == 0) else { return };
    // Behind the version come the connection's id, half a nonce and a filler; the rest of the flags
    // is behind the collation and the status, MariaDB's behind the nonce's length and a filler.
    let low = nul + 2 + 4 + 8 + 1;
    let places = [0, 1, 5, 6, 14, 15, 16, 17];
    for (place, mask) in places.into_iter().zip(hidden.to_le_bytes()) {
        if let Some(byte) = greeting.get_mut(low + place) {
            *byte &= !mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::hide;

    #[test]
    fn flags_are_hidden_where_they_are() {
        let mut greeting = b"\x0a5.5.5-10.11\0".to_vec();
        greeting.extend([0xff; 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 6 + 4 + 13]);
        let whole = greeting.clone();
        hide(&mut greeting, 0x8040_2010_0804_0201);
        let changed: Vec<_> = (0..whole.len())
            .filter(|&at| whole[at] != greeting[at])
            .map(|at| (at - 26, greeting[at] ^ 0xff))
            .collect();
        assert_eq!(
            changed,
            [(0, 1), (1, 2), (5, 4), (6, 8), (14, 16), (15, 32), (16, 64), (17, 128)]
        );
        hide(&mut [10], 1);
    }
}
