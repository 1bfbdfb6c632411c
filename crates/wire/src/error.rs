//! ERR packets (P: page_protocol_basic_err_packet).

use crate::frame::put_packet;
use crate::lenenc::{Cursor, Truncated};

/// An error as a client sees it: number, SQLSTATE and text.
///
/// Numbers below 2000 are the server's; see
/// <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientError {
    /// The error number, such as 1290.
    pub code: u16,
    /// Five ASCII letters and digits, such as `HY000`.
    pub sql_state: [u8; 5],
    /// One sentence without a full stop, as MySQL writes them.
    pub message: String,
}

/// What a server's ERR packet says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerError {
    /// The error number.
    pub code: u16,
    /// Five letters and digits; `HY000` where the server sent none.
    pub sql_state: [u8; 5],
    /// The text, with what is not UTF-8 replaced.
    pub message: String,
}

impl ClientError {
    /// An error with this number, SQLSTATE and text.
    #[must_use]
    pub fn new(code: u16, sql_state: &[u8; 5], message: impl Into<String>) -> Self {
        Self { code, sql_state: *sql_state, message: message.into() }
    }

    /// Appends the error to `out` as a packet with this sequence id.
    pub fn encode(&self, sequence: u8, out: &mut Vec<u8>) {
        let mut payload = vec![0xff];
        payload.extend(self.code.to_le_bytes());
        payload.push(b'#');
        payload.extend(self.sql_state);
        payload.extend(self.message.as_bytes());
        put_packet(out, sequence, &payload);
    }

    /// Appends the error as a packet sent before the login, which has no SQLSTATE: the client's
    /// capabilities are not known yet.
    pub fn encode_before_login(&self, out: &mut Vec<u8>) {
        let mut payload = vec![0xff];
        payload.extend(self.code.to_le_bytes());
        payload.extend(self.message.as_bytes());
        put_packet(out, 0, &payload);
    }
}

impl ServerError {
    /// Reads the payload of an ERR packet, its marker included.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when there is no error number.
    pub fn parse(payload: &[u8]) -> Result<Self, Truncated> {
        let mut cursor = Cursor::new(payload);
        cursor.u8("the marker")?;
        let code = cursor.u16("the error number")?;
        let (sql_state, text) = match cursor.rest() {
            [b'#', rest @ ..] if rest.len() >= 5 => {
                let (state, text) = rest.split_at(5);
                (state.try_into().unwrap_or(*b"HY000"), text)
            }
            text => (*b"HY000", text),
        };
        Ok(Self { code, sql_state, message: String::from_utf8_lossy(text).into_owned() })
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.code, String::from_utf8_lossy(&self.sql_state), self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_on_the_wire_and_back() {
        let error = ClientError::new(1290, b"HY000", "read-only");
        let mut bytes = Vec::new();
        error.encode(1, &mut bytes);
        assert_eq!(bytes, b"\x12\0\0\x01\xff\x0a\x05#HY000read-only");
        let back = ServerError::parse(&bytes[4..]).unwrap();
        assert_eq!(back.to_string(), "1290 (HY000): read-only");
    }

    #[test]
    fn an_error_before_the_login_has_no_state() {
        let mut bytes = Vec::new();
        ClientError::new(1040, b"08004", "Too many connections").encode_before_login(&mut bytes);
        let back = ServerError::parse(&bytes[4..]).unwrap();
        assert_eq!((back.code, back.message.as_str()), (1040, "Too many connections"));
    }
}
