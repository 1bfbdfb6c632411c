//! The client's part of the login
//! (P: page_protocol_connection_phase_packets_protocol_handshake_response,
//! page_protocol_com_change_user).

use std::fmt;

use crate::capabilities::Capabilities;
use crate::command::CHANGE_USER;
use crate::frame::put_packet;
use crate::lenenc::{Cursor, Truncated, put_lenenc_bytes};

/// The first bytes of a login, which are all there is of one that asks for TLS first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opening {
    /// What the client wants.
    pub capabilities: Capabilities,
    /// The longest packet the client takes, bytes.
    pub max_packet: u32,
    /// The collation of the connection, its lowest eight bits.
    pub collation: u8,
}

/// Bytes of an [`Opening`] on the wire.
pub const OPENING_LEN: usize = 32;

impl Opening {
    /// Reads the first bytes of a login.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when there are fewer than [`OPENING_LEN`].
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Truncated> {
        let flags = cursor.u32("the capabilities")?;
        let max_packet = cursor.u32("the longest packet")?;
        let collation = cursor.u8("the collation")?;
        cursor.bytes(19, "the filler")?;
        let extended = cursor.u32("the capabilities")?;
        let capabilities = Capabilities::new(flags, 0);
        let capabilities = if capabilities.contains(Capabilities::MYSQL) {
            capabilities
        } else {
            Capabilities::new(flags, extended)
        };
        Ok(Self { capabilities, max_packet, collation })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.capabilities.flags().to_le_bytes());
        out.extend(self.max_packet.to_le_bytes());
        out.push(self.collation);
        out.extend([0; 19]);
        out.extend(self.capabilities.extended().to_le_bytes());
    }

    /// Appends the packet that asks for TLS: an opening and nothing else.
    pub fn encode_tls_request(&self, sequence: u8, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(OPENING_LEN);
        self.put(&mut payload);
        put_packet(out, sequence, &payload);
    }
}

/// A login. Its answer may be a password in clear, so it is not shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Login {
    /// The fixed part.
    pub opening: Opening,
    /// The account.
    pub user: Vec<u8>,
    /// The answer to the nonce.
    pub answer: Vec<u8>,
    /// The schema to start in; empty when there is none.
    pub schema: Vec<u8>,
    /// The plugin the answer is for; empty when the client does not say.
    pub plugin: String,
    /// Connection attributes as they are on the wire, without the length of the whole.
    pub attributes: Vec<u8>,
    /// The level of Zstandard compression, where that is wanted.
    pub zstd_level: Option<u8>,
}

impl Login {
    /// Reads the payload of a login.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when it is cut short or a length in it lies.
    pub fn parse(payload: &[u8]) -> Result<Self, Truncated> {
        let mut cursor = Cursor::new(payload);
        let opening = Opening::parse(&mut cursor)?;
        let has = |flag| opening.capabilities.contains(flag);
        let user = cursor.until_nul().to_vec();
        let answer = if has(Capabilities::PLUGIN_AUTH_LENENC) {
            cursor.lenenc_bytes("the authentication answer")?
        } else if has(Capabilities::SECURE_CONNECTION) {
            let len = cursor.u8("the authentication answer's length")?;
            cursor.bytes(len.into(), "the authentication answer")?
        } else {
            cursor.until_nul()
        };
        let answer = answer.to_vec();
        let schema = if has(Capabilities::CONNECT_WITH_DB) { cursor.until_nul() } else { b"" };
        let plugin = if has(Capabilities::PLUGIN_AUTH) { cursor.until_nul() } else { b"" };
        let attributes = if has(Capabilities::CONNECT_ATTRS) && !cursor.is_empty() {
            cursor.lenenc_bytes("the connection attributes")?
        } else {
            b""
        };
        let zstd_level =
            if has(Capabilities::ZSTD_COMPRESSION) { cursor.rest().first().copied() } else { None };
        Ok(Self {
            opening,
            user,
            answer,
            schema: schema.to_vec(),
            plugin: String::from_utf8_lossy(plugin).into_owned(),
            attributes: attributes.to_vec(),
            zstd_level,
        })
    }

    /// Appends the login as a packet. Flags that say which fields there are have to fit.
    pub fn encode(&self, sequence: u8, out: &mut Vec<u8>) {
        let has = |flag| self.opening.capabilities.contains(flag);
        let mut payload = Vec::new();
        self.opening.put(&mut payload);
        payload.extend(&self.user);
        payload.push(0);
        put_lenenc_bytes(&mut payload, &self.answer);
        if has(Capabilities::CONNECT_WITH_DB) {
            payload.extend(&self.schema);
            payload.push(0);
        }
        payload.extend(self.plugin.as_bytes());
        payload.push(0);
        if has(Capabilities::CONNECT_ATTRS) {
            put_lenenc_bytes(&mut payload, &self.attributes);
        }
        payload.extend(self.zstd_level);
        put_packet(out, sequence, &payload);
    }
}

/// A `COM_CHANGE_USER`. Its answer may be a password in clear, so it is not shown.
#[derive(Clone, Eq, PartialEq)]
pub struct ChangeUser {
    /// The account.
    pub user: Vec<u8>,
    /// The answer to the greeting's nonce.
    pub answer: Vec<u8>,
    /// The schema to start in; empty when there is none.
    pub schema: Vec<u8>,
    /// The collation of the connection; none when the client does not say.
    pub collation: Option<u16>,
    /// The plugin the answer is for; empty when the client does not say.
    pub plugin: String,
    /// Connection attributes as they are on the wire, without the length of the whole; none when
    /// the client sends none.
    pub attributes: Option<Vec<u8>>,
}

impl ChangeUser {
    /// Reads the payload after the command byte.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when it is cut short or a length in it lies.
    pub fn parse(payload: &[u8]) -> Result<Self, Truncated> {
        let mut cursor = Cursor::new(payload);
        let user = cursor.until_nul().to_vec();
        let len = cursor.u8("the authentication answer's length")?;
        let answer = cursor.bytes(len.into(), "the authentication answer")?.to_vec();
        let schema = cursor.until_nul().to_vec();
        let collation = if cursor.is_empty() { None } else { Some(cursor.u16("the collation")?) };
        let plugin = String::from_utf8_lossy(cursor.until_nul()).into_owned();
        // Servers do not look at what follows where attributes were not agreed on.
        let attributes = cursor.lenenc_bytes("the connection attributes").ok().map(<[u8]>::to_vec);
        Ok(Self { user, answer, schema, collation, plugin, attributes })
    }

    /// Appends the command as a packet. The answer is at most 255 bytes, and there has to be a
    /// collation; attributes have to be agreed on.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = vec![CHANGE_USER];
        payload.extend(&self.user);
        payload.push(0);
        payload.push(u8::try_from(self.answer.len()).unwrap_or_default());
        payload.extend(&self.answer);
        payload.extend(&self.schema);
        payload.push(0);
        payload.extend(self.collation.unwrap_or_default().to_le_bytes());
        payload.extend(self.plugin.as_bytes());
        payload.push(0);
        if let Some(attributes) = &self.attributes {
            put_lenenc_bytes(&mut payload, attributes);
        }
        put_packet(out, 0, &payload);
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = String::from_utf8_lossy(&self.user);
        f.debug_struct("Login")
            .field("user", &user)
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChangeUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = String::from_utf8_lossy(&self.user);
        f.debug_struct("ChangeUser")
            .field("user", &user)
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

/// Appends a connection attribute (P: page_protocol_connection_phase_packets_protocol_handshake_response).
pub fn put_attribute(out: &mut Vec<u8>, key: &str, value: &str) {
    put_lenenc_bytes(out, key.as_bytes());
    put_lenenc_bytes(out, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HEADER_LEN;

    fn login() -> Login {
        let flags = Capabilities::LOGIN.or(Capabilities::CARRIED);
        let flags = flags.or(Capabilities::ZSTD_COMPRESSION);
        let mut attributes = Vec::new();
        put_attribute(&mut attributes, "program_name", "test");
        Login {
            opening: Opening { capabilities: flags, max_packet: 1 << 24, collation: 45 },
            user: b"app".to_vec(),
            answer: vec![1; 32],
            schema: b"shop".to_vec(),
            plugin: "caching_sha2_password".to_owned(),
            attributes,
            zstd_level: Some(7),
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut bytes = Vec::new();
        login().encode(1, &mut bytes);
        assert_eq!(Login::parse(&bytes[HEADER_LEN..]), Ok(login()));
    }

    #[test]
    fn a_login_of_an_old_client() {
        let flags = Capabilities::PROTOCOL_41
            .or(Capabilities::SECURE_CONNECTION)
            .or(Capabilities::MYSQL)
            .flags();
        let mut payload = flags.to_le_bytes().to_vec();
        payload.extend([0, 0, 0, 1, 8]);
        payload.extend([0; 23]);
        payload.extend(b"app\0\x03abc");
        let login = Login::parse(&payload).unwrap();
        assert_eq!((login.user, login.answer), (b"app".to_vec(), b"abc".to_vec()));
        assert!(login.plugin.is_empty() && login.schema.is_empty());
    }

    #[test]
    fn change_user() {
        let parsed = ChangeUser::parse(b"app\0\x02xyshop\0\xff\0mysql_native_password\0").unwrap();
        assert_eq!(parsed.schema, b"shop");
        assert_eq!(
            (parsed.collation, parsed.plugin.as_str()),
            (Some(255), "mysql_native_password")
        );
        assert!(ChangeUser::parse(b"app\0\x09xy").is_err());
        let short = ChangeUser::parse(b"app\0\x02xyshop\0").unwrap();
        assert_eq!((short.collation, short.attributes), (None, None));
        for attributes in [None, Some(vec![]), Some(vec![7; 60_000])] {
            let change = ChangeUser { collation: Some(2304), attributes, ..parsed.clone() };
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            assert_eq!(ChangeUser::parse(&bytes[HEADER_LEN + 1..]), Ok(change));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let _login = Login::parse(&bytes);
            let _change = ChangeUser::parse(&bytes);
            let _greeting = crate::greeting::Greeting::parse(&bytes);
        }
    }
}
