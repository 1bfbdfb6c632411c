//! Requests to failsoft's own console.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::Exit;

/// How long connecting, and each part of the answer, may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const LONGEST: u64 = 64 << 20;

/// How long an action may take: servers that are looked at take as long as a health check may.
const ACTION_LIMIT: Duration = Duration::from_secs(60);

/// What a console answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Where a console is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Console {
    /// `host:port`.
    authority: String,
}

impl Console {
    /// Reads `http://host:port`; what follows it is not looked at.
    ///
    /// # Errors
    /// The URL is another kind of URL.
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        let expected = || format!("found {url:?}, expected a URL such as http://127.0.0.1:9306");
        let rest = url.strip_prefix("http://").with_context(expected)?;
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty()
            || host.contains(['@', '?', '#'])
            || host.chars().any(char::is_whitespace)
        {
            bail!(expected());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { authority })
    }

    /// The body that is answered for `path`.
    ///
    /// # Errors
    /// Nobody answers there, or not failsoft.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        match self.ask("GET", path, "Accept: application/json\r\n", "", LIMIT)? {
            Answer { status: 200, body } => Ok(body),
            Answer { status, .. } => {
                bail!("http://{}{path} answered with status {status}", self.authority)
            }
        }
    }

    /// Orders an action.
    ///
    /// # Errors
    /// Nobody answers there, or not failsoft.
    pub(crate) fn post(&self, path: &str, token: &str, json: &str) -> anyhow::Result<Answer> {
        let version = env!("CARGO_PKG_VERSION");
        let headers = format!(
            "Authorization: Bearer {token}\r\nUser-Agent: failsoft/{version}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n",
            json.len()
        );
        self.ask("POST", path, &headers, json, ACTION_LIMIT)
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
        limit: Duration,
    ) -> anyhow::Result<Answer> {
        let host = &self.authority;
        // 1.0: the answer comes whole, and its end is the end of the connection.
        let request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n{headers}\r\n{body}");
        let answer = self
            .answer(&request, limit)
            .with_context(|| format!("no failsoft answers at http://{host}"))?;
        let answer = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            Some(Answer { status, body: body.to_owned() })
        });
        answer.ok_or_else(|| anyhow!("what answers at http://{host} is not failsoft"))
    }

    fn answer(&self, request: &str, limit: Duration) -> io::Result<String> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(LONGEST).read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, LIMIT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What the console at this URL answers for `path`. Where it answers nothing, why not has been told, and the
/// command ends so.
///
/// # Errors
/// How the command ends.
pub(crate) fn ask(url: &str, path: &str) -> Result<String, Exit> {
    let console = Console::parse(url).map_err(|error| tell(&error, Exit::BadInput))?;
    console.get(path).map_err(|error| tell(&error, Exit::Unreachable))
}

/// Tells of an error; the command ends so.
pub(crate) fn tell(error: &anyhow::Error, exit: Exit) -> Exit {
    eprintln!("{error:#}");
    exit
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn urls() {
        let table = [
            ("http://127.0.0.1:9306", Some("127.0.0.1:9306")),
            ("http://proxy:1/", Some("proxy:1")),
            ("http://[::1]:9306/x", Some("[::1]:9306")),
            ("http://[::1]", Some("[::1]:80")),
            ("http://proxy", Some("proxy:80")),
            ("https://proxy", None),
            ("proxy:9306", None),
            ("http://", None),
            ("http://a@b", None),
            ("http://a b", None),
        ];
        for (url, authority) in table {
            let parsed = Console::parse(url).ok().map(|console| console.authority);
            assert_eq!(parsed.as_deref(), authority, "{url}");
        }
    }

    #[test]
    fn answers_and_what_is_no_answer() {
        // what the server sends, body or a part of the error
        let table = [
            ("HTTP/1.0 200 OK\r\nA: b\r\n\r\nthe body", Ok("the body")),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\n", Err("status 503")),
            ("J\0\0\0\n8.0.36", Err("is not failsoft")),
            ("", Err("is not failsoft")),
        ];
        for (sent, expected) in table {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                stream.write_all(sent.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            let answer = Console::parse(&url).unwrap().get("/path");
            assert!(server.join().unwrap().starts_with("GET /path HTTP/1.0\r\n"));
            match (answer, expected) {
                (Ok(body), Ok(expected)) => assert_eq!(body, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error:#}"),
                (answer, _) => panic!("{sent}: {answer:?}"),
            }
        }
    }

    #[test]
    fn nobody_there_is_said_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Console::parse(&url).unwrap().get("/").unwrap_err();
        assert_eq!(error.to_string(), format!("no failsoft answers at {url}"));
    }
}
