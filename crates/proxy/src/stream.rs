//! The ways bytes come and go.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use wire::frame::{HEADER_LEN, Header};

use crate::compressed::Compressed;

/// A connection to a client or a server.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    TlsServer(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// Compression over any of the others.
    Compressed(Box<Compressed>),
}

impl Stream {
    /// Whether nobody on the way can read along.
    pub(crate) fn is_private(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Compressed(over) => over.inner().is_private(),
            Self::Unix(_) | Self::TlsServer(_) | Self::TlsClient(_) => true,
        }
    }

    /// Ready where it is worth reading; always, where only reading tells.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx).map(drop),
            Self::Unix(unix) => unix.poll_read_ready(cx).map(drop),
            Self::TlsServer(_) | Self::TlsClient(_) | Self::Compressed(_) => Poll::Ready(()),
        }
    }

    /// Ends our side of the connection as the kernel does for a program that is gone: without the
    /// farewell of TLS, behind which a server does not see the end (seen on MySQL 9.7).
    pub(crate) fn end_sending(&self) {
        let socket = match self {
            Self::Tcp(tcp) => SockRef::from(tcp),
            Self::Unix(unix) => SockRef::from(unix),
            Self::TlsServer(tls) => SockRef::from(tls.get_ref().0),
            Self::TlsClient(tls) => SockRef::from(tls.get_ref().0),
            Self::Compressed(over) => return over.inner().end_sending(),
        };
        // The other side may be gone already.
        let _ended = socket.shutdown(Shutdown::Write);
    }

    /// Takes note that the other side was asked for a file, and sends that next.
    pub(crate) fn expect_file(&mut self) {
        if let Self::Compressed(over) = self {
            over.expect_file();
        }
    }

    /// Whether what goes over it is compressed.
    pub(crate) const fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }

    /// Whether TLS is on.
    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Self::TlsServer(_) | Self::TlsClient(_) => true,
            Self::Compressed(over) => over.inner().is_tls(),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::TlsServer($inner) => $call,
            Stream::TlsClient($inner) => $call,
            Stream::Compressed($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}

/// The longest packet of a login, bytes. Connection attributes are limited to 64 KiB by servers.
const LOGIN_PACKET: usize = 1 << 20;

/// Reads one packet of a login and not a byte more: what follows may be TLS.
///
/// Returns its sequence id and payload.
///
/// # Errors
///
/// Those of the stream, and `InvalidData` for a packet that is too long for a login.
pub(crate) async fn read_login_packet(stream: &mut Stream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    read_rest_of_login(stream, header).await
}

/// The same for a packet whose header was read.
pub(crate) async fn read_rest_of_login(
    stream: &mut Stream,
    header: [u8; HEADER_LEN],
) -> io::Result<(u8, Vec<u8>)> {
    let Some(header) = Header::peek(&header).filter(|header| header.payload_len <= LOGIN_PACKET)
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "login packet too long"));
    };
    let mut payload = vec![0; header.payload_len];
    stream.read_exact(&mut payload).await?;
    Ok((header.sequence, payload))
}
