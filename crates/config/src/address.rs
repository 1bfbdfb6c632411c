//! Addresses: `host:port`, `[ipv6]:port`, and whether two of them meet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest host name that DNS has.
const HOST_MAX: usize = 253;

/// A host and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    /// Name or IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `host:port`; an IPv6 address needs brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare {
            Some(bare) => bare.parse::<Ipv6Addr>().is_ok(),
            None => is_host(host) && !host.contains(':'),
        };
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok()?;
        (is_host && is_port).then(|| Self { host: bare.unwrap_or(host).to_owned(), port })
    }

    /// Only reachable from this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        matches!(Host::of(&self.host), Host::Ip(ip) if ip.is_loopback())
    }

    /// Both name the same server.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.port == other.port && Host::of(&self.host) == Host::of(&other.host)
    }

    /// One process cannot listen on both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        if self.port == 0 || self.port != other.port {
            return false;
        }
        match (Host::of(&self.host), Host::of(&other.host)) {
            (Host::Ip(a), Host::Ip(b)) => a == b || covers(a, b) || covers(b, a),
            (a, b) => a == b,
        }
    }

    /// Who connects to `server` may reach what listens here.
    pub(crate) fn is_reached_as(&self, server: &Self) -> bool {
        self.is_same(server) || (self.overlaps(server) && server.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A host name or an IP address, without brackets.
pub(crate) fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_broken_ip = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    !text.is_empty() && text.len() <= HOST_MAX && text.chars().all(is_name) && !is_broken_ip
}

/// A host in the form in which two can be compared.
#[derive(Eq, PartialEq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Host {
    fn of(host: &str) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(ip.to_canonical()),
            Err(_) if host.eq_ignore_ascii_case("localhost") => {
                Self::Ip(Ipv4Addr::LOCALHOST.into())
            }
            Err(_) => Self::Name(host.trim_end_matches('.').to_ascii_lowercase()),
        }
    }
}

/// To listen on `any` takes `one` as well; `[::]` takes IPv4 too.
fn covers(any: IpAddr, one: IpAddr) -> bool {
    any.is_unspecified() && (any.is_ipv6() || one.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let cases = [
            ("127.0.0.1:3306", Some(("127.0.0.1", 3306))),
            ("db001:1", Some(("db001", 1))),
            ("[::1]:3306", Some(("::1", 3306))),
            ("localhost:0", Some(("localhost", 0))),
            ("db_1.example.org.:65535", Some(("db_1.example.org.", 65535))),
            ("127.0.0.1", None),
            ("3306", None),
            (":3306", None),
            ("::1:3306", None),
            ("[127.0.0.1]:3306", None),
            ("a:65536", None),
            ("a:+1", None),
            ("a:", None),
            ("a b:1", None),
            ("tcp://a:1", None),
            ("256.0.0.1:1", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(host, port)| Address { host: host.to_owned(), port });
            let found = Address::parse(text);
            assert_eq!(found, expected, "{text}");
            if let Some(found) = found {
                assert_eq!(found.to_string(), text);
            }
        }
    }

    #[test]
    fn addresses_meet() {
        // Two addresses; whether one process can listen on both; whether the second, as a server,
        // leads to the first.
        let cases = [
            ("127.0.0.1:1", "127.0.0.1:1", "overlaps reached"),
            ("127.0.0.1:1", "localhost:1", "overlaps reached"),
            ("127.0.0.1:1", "127.0.0.1:2", "- -"),
            ("0.0.0.0:1", "127.0.0.1:1", "overlaps reached"),
            ("0.0.0.0:1", "10.0.0.1:1", "overlaps -"),
            ("0.0.0.0:1", "[::1]:1", "- -"),
            ("[::]:1", "[::1]:1", "overlaps reached"),
            ("[::]:1", "10.0.0.1:1", "overlaps -"),
            ("[::]:1", "[0:0::0]:1", "overlaps reached"),
            ("DB1:1", "db1.:1", "overlaps reached"),
            ("db1:1", "db2:1", "- -"),
            ("a:0", "a:0", "- reached"),
        ];
        for (a, b, expected) in cases {
            let (first, second) = (Address::parse(a).unwrap(), Address::parse(b).unwrap());
            let overlaps = if first.overlaps(&second) { "overlaps" } else { "-" };
            let reached = if first.is_reached_as(&second) { "reached" } else { "-" };
            assert_eq!(format!("{overlaps} {reached}"), expected, "{a} {b}");
            assert_eq!(first.overlaps(&second), second.overlaps(&first), "{a} {b}");
        }
    }
}
