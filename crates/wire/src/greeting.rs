//! The first packet of a connection: the server's greeting
//! (P: page_protocol_connection_phase_packets_protocol_handshake_v10).

use crate::auth::{NONCE_LEN, Nonce};
use crate::capabilities::Capabilities;
use crate::frame::put_packet;
use crate::lenenc::{Cursor, Truncated};

/// What a server says of itself before the login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Greeting {
    /// The version, such as `10.11.6-MariaDB-log`.
    pub version: String,
    /// The connection's id.
    pub connection_id: u32,
    /// The bytes that the password is scrambled with.
    pub nonce: Nonce,
    /// What the server offers.
    pub capabilities: Capabilities,
    /// The server's collation, its lowest eight bits.
    pub collation: u8,
    /// Status flags.
    pub status: u16,
    /// The name of the authentication plugin that the server would like to use.
    pub plugin: String,
}

/// Why a server's first packet is no greeting.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GreetingError {
    /// It speaks another version of the protocol.
    #[error("protocol version {0}, expected 10")]
    Version(u8),
    /// It is cut short.
    #[error(transparent)]
    Truncated(#[from] Truncated),
}

impl Greeting {
    /// Reads the payload of a greeting. MySQL and MariaDB differ in 4 bytes: a server that does not
    /// set the first capability flag is MariaDB and has its extended capabilities there
    /// (<https://mariadb.com/kb/en/connection/>).
    ///
    /// # Errors
    ///
    /// [`GreetingError`] when it cannot be one.
    pub fn parse(payload: &[u8]) -> Result<Self, GreetingError> {
        let mut cursor = Cursor::new(payload);
        let version = cursor.u8("the protocol version")?;
        if version != 10 {
            return Err(GreetingError::Version(version));
        }
        let version = String::from_utf8_lossy(cursor.until_nul()).into_owned();
        let connection_id = cursor.u32("the connection id")?;
        let first: [u8; 8] = cursor.array("the nonce")?;
        cursor.u8("the filler")?;
        let low = cursor.u16("the capabilities")?;
        let collation = cursor.u8("the collation")?;
        let status = cursor.u16("the status")?;
        let high = cursor.u16("the capabilities")?;
        cursor.u8("the nonce's length")?;
        cursor.bytes(6, "the filler")?;
        let extended = cursor.u32("the capabilities")?;
        let flags = u32::from(low) | u32::from(high) << 16;
        let capabilities = Capabilities::new(flags, 0);
        let capabilities = if capabilities.contains(Capabilities::MYSQL) {
            capabilities
        } else {
            Capabilities::new(flags, extended)
        };
        let second: [u8; NONCE_LEN - 8] = cursor.array("the nonce")?;
        // The nonce's closing NUL, and its padding where it is longer.
        cursor.until_nul();
        let plugin = String::from_utf8_lossy(cursor.until_nul()).into_owned();
        let mut nonce = [0; NONCE_LEN];
        for (slot, byte) in nonce.iter_mut().zip(first.iter().chain(&second)) {
            *slot = *byte;
        }
        Ok(Self {
            version,
            connection_id,
            nonce: Nonce(nonce),
            capabilities,
            collation,
            status,
            plugin,
        })
    }

    /// Appends the greeting as a packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = vec![10];
        payload.extend(self.version.as_bytes());
        payload.push(0);
        payload.extend(self.connection_id.to_le_bytes());
        let (first, second) = self.nonce.0.split_at(8);
        payload.extend(first);
        payload.push(0);
        let [a, b, c, d] = self.capabilities.flags().to_le_bytes();
        payload.extend([a, b, self.collation]);
        payload.extend(self.status.to_le_bytes());
        payload.extend([c, d, 21]);
        payload.extend([0; 6]);
        payload.extend(self.capabilities.extended().to_le_bytes());
        payload.extend(second);
        payload.push(0);
        payload.extend(self.plugin.as_bytes());
        payload.push(0);
        put_packet(out, 0, &payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HEADER_LEN;

    fn greeting(flags: u32, extended: u32) -> Greeting {
        Greeting {
            version: "9.7.0".to_owned(),
            connection_id: 0x8000_0007,
            nonce: Nonce(*b"abcdefghijklmnopqrst"),
            capabilities: Capabilities::new(flags, extended),
            collation: 255,
            status: 2,
            plugin: "caching_sha2_password".to_owned(),
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for greeting in [greeting(0xdfff_ffff, 0), greeting(0x81ff_fffe, 0x1f)] {
            let mut bytes = Vec::new();
            greeting.encode(&mut bytes);
            assert_eq!(Greeting::parse(&bytes[HEADER_LEN..]), Ok(greeting));
        }
    }

    #[test]
    fn every_cut_is_an_error_or_lacks_the_plugin() {
        let mut bytes = Vec::new();
        greeting(0xdfff_ffff, 0).encode(&mut bytes);
        let payload = &bytes[HEADER_LEN..];
        for cut in 0..payload.len() {
            match Greeting::parse(&payload[..cut]) {
                Err(_) => {}
                Ok(parsed) => assert!(cut >= 50 && parsed.version == "9.7.0", "cut at {cut}"),
            }
        }
    }
}
