//! A tiny HTTP client: one request per connection, enough for verdicts, metrics and the API.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a whole exchange may take.
const LIMIT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header's lines, as they came.
    pub header: String,
    /// The body, which the server ends by closing.
    pub body: String,
}

/// Sends a request to a loopback port and reads the whole answer.
///
/// `header` is any number of header lines, each ended by `\r\n`. HTTP/1.0 is spoken, so that the
/// answer ends with the connection and comes in one piece.
///
/// # Errors
/// Nobody answers within 10 seconds, or what is answered is not HTTP.
pub async fn http(
    port: u16,
    method: &str,
    path: &str,
    header: &str,
    body: &str,
) -> io::Result<Response> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{header}Content-Length: {length}\r\n\r\n{body}"
    );
    tokio::time::timeout(LIMIT, exchange(port, request)).await?
}

async fn exchange(port: u16, request: String) -> io::Result<Response> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (line, header) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, header: header.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_answers() {
        let full =
            parse("HTTP/1.0 503 Service Unavailable\r\nA: b\r\nC: d\r\n\r\nread-only\r\n\r\n.");
        let expected = Response {
            status: 503,
            header: "A: b\r\nC: d".into(),
            body: "read-only\r\n\r\n.".into(),
        };
        assert_eq!(full, Some(expected));
        let bare = parse("HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert_eq!((bare.status, bare.body.as_str()), (200, ""));
        for wrong in ["", "HTTP/1.1 200 OK", "SSH-2.0 200\r\n\r\n", "HTTP/1.1 many\r\n\r\n"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
