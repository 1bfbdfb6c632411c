//! A connection that has had its login, for a library that insists on one.
//!
//! It reads a login that the client never sent, and what it writes of a greeting and an answer to that
//! goes nowhere.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Chain};
use wire::capabilities::Capabilities;
use wire::frame::HEADER_LEN;
use wire::login::{Login, Opening};

/// What comes before anything of the client's.
type Handed<R> = Chain<Cursor<Vec<u8>>, R>;

/// Hands over both directions of a connection with a client that these were agreed on with.
pub(super) fn hand_over<R: AsyncRead, W>(
    capabilities: Capabilities,
    read: R,
    write: W,
) -> (Handed<R>, Unheard<W>) {
    let login = Login {
        // A schema would be one more thing to answer.
        opening: Opening {
            capabilities: capabilities.without(Capabilities::CONNECT_WITH_DB),
            max_packet: 1 << 24,
            collation: 45,
        },
        user: b"operator".to_vec(),
        answer: vec![0],
        schema: Vec::new(),
        plugin: "mysql_native_password".to_owned(),
        attributes: Vec::new(),
        zstd_level: None,
    };
    let mut bytes = Vec::new();
    login.encode(1, &mut bytes);
    (Cursor::new(bytes).chain(read), Unheard::new(write))
}

/// Packets of a login that the client has had: the greeting, and the OK.
const PACKETS: u8 = 2;

/// A writer whose first packets go nowhere.
#[derive(Debug)]
pub(super) struct Unheard<W> {
    inner: W,
    packets: u8,
    header: [u8; HEADER_LEN],
    have: usize,
    left: usize,
}

impl<W> Unheard<W> {
    fn new(inner: W) -> Self {
        Self { inner, packets: PACKETS, header: [0; HEADER_LEN], have: 0, left: 0 }
    }

    /// How many bytes at the front of these go nowhere.
    fn swallow(&mut self, bytes: &[u8]) -> usize {
        let mut swallowed = 0;
        while self.packets > 0 {
            let rest = bytes.get(swallowed..).unwrap_or_default();
            if self.have < HEADER_LEN {
                let Some(byte) = rest.first() else { break };
                if let Some(slot) = self.header.get_mut(self.have) {
                    *slot = *byte;
                }
                self.have += 1;
                swallowed += 1;
                let [a, b, c, _] = self.header;
                self.left = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
                continue;
            }
            let now = self.left.min(rest.len());
            self.left -= now;
            swallowed += now;
            if self.left > 0 {
                break;
            }
            (self.packets, self.have) = (self.packets - 1, 0);
        }
        swallowed
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Unheard<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let swallowed = self.swallow(bytes);
        if swallowed > 0 {
            return Poll::Ready(Ok(swallowed));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn two_packets_go_nowhere_however_they_are_cut() {
        let bytes = [&[3, 0, 0, 0][..], b"abc", &[1, 0, 0, 2], b"d", &[2, 0, 0, 1], b"ef"].concat();
        for cut in 1..bytes.len() {
            let mut unheard = Unheard::new(Vec::new());
            for part in bytes.chunks(cut) {
                unheard.write_all(part).await.unwrap();
            }
            assert_eq!(unheard.inner, [2, 0, 0, 1, b'e', b'f'], "cut at {cut}");
        }
    }
}
