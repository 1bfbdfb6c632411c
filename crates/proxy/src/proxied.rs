//! Whose connection it is when proxies stand on the way: PROXY headers of versions 1 and 2
//! (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>), taken from listed networks and
//! told to servers that want them.
//!
//! A header is the first thing on a connection, before the login and before TLS. Servers of MySQL
//! speak first, so the greeting is sent without waiting: a client that sends no header is not held
//! up by the question whether it will.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use wire::frame::HEADER_LEN;

use crate::stream::Stream;

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ends {
    /// The client's.
    pub(crate) source: SocketAddr,
    /// What the client connected to.
    pub(crate) destination: SocketAddr,
}

impl Ends {
    /// The ends of a connection. An IPv4 address is one, also where an IPv6 socket met it.
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self { source: canonical(source), destination: canonical(destination) }
    }
}

/// A client's host, as servers name it.
pub(crate) fn host(ends: Option<Ends>) -> String {
    ends.map_or_else(|| "localhost".to_owned(), |ends| ends.source.ip().to_string())
}

/// How a header begins. No packet of a login does: these are four bytes of a packet's header that
/// number the packet 88 and 10.
const BEGINNINGS: [&[u8; HEADER_LEN]; 2] = [b"PROX", b"\r\n\r\n"];

/// The longest header of version 1.
const LONGEST_LINE: usize = 107;

/// The part of a header of version 2 that has its length.
const FIXED: usize = 16;

/// The longest header of version 2 that is taken. What follows the addresses is of no use here;
/// HAProxy sends a few hundred bytes at most.
const LONGEST: usize = 4096;

/// Whether a connection begins with a header and not with a login.
pub(crate) fn is_header(beginning: [u8; HEADER_LEN]) -> bool {
    BEGINNINGS.contains(&&beginning)
}

/// Whether one of the networks has the address; an IPv4 address is one, also in the form that an IPv6
/// socket gives it.
pub(crate) fn is_listed(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address.to_canonical()))
}

/// Reads the rest of a header and not a byte more; yields the ends that it tells, or none where the
/// proxy speaks for itself, as with its checks.
///
/// # Errors
///
/// Those of the stream, and `InvalidData` for a header that is none. Not cancel-safe.
pub(crate) async fn receive(
    stream: &mut Stream,
    beginning: [u8; HEADER_LEN],
) -> io::Result<Option<Ends>> {
    let Stream::Tcp(tcp) = stream else { return Err(invalid()) };
    let mut bytes = beginning.to_vec();
    if beginning == *BEGINNINGS[0] {
        read_line(tcp, &mut bytes).await?;
    } else {
        read_binary(tcp, &mut bytes).await?;
    }
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<Ends>> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (header, len) = ProxyHeader::parse(bytes, config).map_err(|_| invalid())?;
    if len != bytes.len() {
        return Err(invalid());
    }
    Ok(header.proxied_address().map(|ends| Ends::new(ends.source, ends.destination)))
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no PROXY header")
}

/// Reads to the end of a line. It is looked for before it is taken, as a login may follow at once.
async fn read_line(tcp: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    while bytes.last() != Some(&b'\n') {
        let mut ahead = [0; LONGEST_LINE];
        let room = LONGEST_LINE.saturating_sub(bytes.len());
        let seen = tcp.peek(ahead.get_mut(..room).unwrap_or_default()).await?;
        let seen = ahead.get(..seen).unwrap_or_default();
        if room == 0 {
            return Err(invalid());
        }
        if seen.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = seen.iter().position(|&byte| byte == b'\n').map_or(seen.len(), |at| at + 1);
        let start = bytes.len();
        bytes.resize(start + end, 0);
        tcp.read_exact(bytes.get_mut(start..).unwrap_or_default()).await?;
    }
    Ok(())
}

/// Reads as much as the header's length says.
async fn read_binary(tcp: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(FIXED, 0);
    tcp.read_exact(bytes.get_mut(HEADER_LEN..).unwrap_or_default()).await?;
    let len = match bytes.last_chunk() {
        Some(len) => usize::from(u16::from_be_bytes(*len)),
        None => 0,
    };
    if FIXED + len > LONGEST {
        return Err(invalid());
    }
    bytes.resize(FIXED + len, 0);
    tcp.read_exact(bytes.get_mut(FIXED..).unwrap_or_default()).await?;
    Ok(())
}

/// The header of version 2 that tells a server whose connection it is. A client of a Unix socket has
/// no address: the connection then counts as failsoft's own.
pub(crate) fn header(ends: Option<Ends>) -> Vec<u8> {
    let told = ends.map(|Ends { source, destination }| match (source, destination) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => {
            ProxiedAddress::stream(source, destination)
        }
        // The two have to be of one family; nobody uses the second.
        _ => ProxiedAddress::stream(source, source),
    });
    let header = told.map_or_else(ProxyHeader::with_local, ProxyHeader::with_address);
    let mut bytes = Vec::new();
    // It only fails for what is appended to the addresses, which is nothing.
    let _encoded = header.encode_v2(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// What is read of `bytes`, sent in pieces of `piece`, and what follows the header.
    async fn received(bytes: &[u8], piece: usize) -> io::Result<(Option<Ends>, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Stream::Tcp(listener.accept().await.unwrap().0);
        let bytes = bytes.to_vec();
        let sent = tokio::spawn(async move {
            for piece in bytes.chunks(piece) {
                // The other end may have had enough.
                let _sent = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let _ended = client.shutdown().await;
        });
        let mut beginning = [0; HEADER_LEN];
        server.read_exact(&mut beginning).await?;
        let ends = receive(&mut server, beginning).await?;
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await?;
        sent.await.unwrap();
        Ok((ends, rest))
    }

    fn headers() -> Vec<(Vec<u8>, Option<Ends>)> {
        let four = ends("192.0.2.7:51234", "198.51.100.1:3306");
        let six = ends("[2001:db8::7]:51234", "[2001:db8::1]:3306");
        vec![
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 3306\r\n".to_vec(), Some(four)),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 3306\r\n".to_vec(), Some(six)),
            (
                b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 51234 3306\r\n".to_vec(),
                Some(four),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (header(Some(four)), Some(four)),
            (header(Some(six)), Some(six)),
            (header(None), None),
        ]
    }

    #[tokio::test]
    async fn headers_are_read_and_not_a_byte_more() {
        for (bytes, expected) in headers() {
            for piece in [1, 3, 1000] {
                let followed = [&bytes[..], b"\x01login\n"].concat();
                let (ends, rest) = received(&followed, piece).await.unwrap();
                assert_eq!(ends, expected, "{}", bytes.escape_ascii());
                assert_eq!(rest, b"\x01login\n", "{}", bytes.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn half_headers_and_rubbish_are_errors() {
        for (bytes, _) in headers() {
            for cut in HEADER_LEN..bytes.len() {
                let error = received(&bytes[..cut], 1000).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
            }
        }
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let rubbish: [Vec<u8>; 9] = [
            b"PROX\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 99999\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 2001:db8::1 51234 3306\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
            [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
            [&signature[..], b"\x31\x11\0\x0c", &[0; 12]].concat(),
            [&signature[..], b"\x21\x11\0\x04", &[0; 4]].concat(),
            [&signature[..], b"\x21\x11\xff\xff", &[0; 70_000]].concat(),
            [&b"\r\n\r\nsomething else"[..], &[0; 12]].concat(),
        ];
        for bytes in rubbish {
            let error = received(&bytes, 1000).await.unwrap_err();
            let kind = error.kind();
            assert_eq!(kind, io::ErrorKind::InvalidData, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_login_is_no_header() {
        let login = [0x50, 0, 0, 1];
        assert!(!is_header(login) && is_header(*b"PROX") && is_header(*b"\r\n\r\n"));
    }

    #[test]
    fn addresses_are_looked_up_in_the_list() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap());
        for (address, expected) in [
            ("10.9.8.7", true),
            ("11.0.0.1", false),
            ("::ffff:10.9.8.7", true),
            ("::ffff:11.0.0.1", false),
            ("2001:db8::1", true),
            ("::1", false),
        ] {
            assert_eq!(is_listed(&networks, address.parse().unwrap()), expected, "{address}");
        }
        assert!(!is_listed(&[], "10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn ends_of_two_families_are_told_as_one() {
        let mixed = ends("192.0.2.7:1", "[2001:db8::1]:2");
        assert_eq!(parse(&header(Some(mixed))).unwrap().unwrap().source, mixed.source);
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_is_heard(
            source: IpAddr, from: u16, destination: IpAddr, to: u16,
        ) {
            let told = Ends::new(SocketAddr::new(source, from), SocketAddr::new(destination, to));
            let heard = parse(&header(Some(told))).unwrap().unwrap();
            prop_assert_eq!(heard.source, told.source);
        }

        #[test]
        fn no_bytes_make_it_panic(
            version in 0..2usize,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let signature: &[u8] = if version == 0 { b"PROXY " } else { b"\r\n\r\n\0\r\nQUIT\n" };
            let _parsed = parse(&[signature, &bytes].concat());
        }

        #[test]
        fn lines_of_rubbish_are_not_believed(line in "PROXY [A-Z0-9 .:]{0,90}\r\n") {
            if let Ok(Some(ends)) = parse(line.as_bytes()) {
                prop_assert!(line.contains(&ends.source.port().to_string()));
            }
        }
    }
}
