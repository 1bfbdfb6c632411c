//! Passwords on the wire
//! (P: page_protocol_connection_phase_authentication_methods, page_caching_sha2_authentication_exchanges).

use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 20;

/// The bytes that a password is scrambled with, fresh for each login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Nonce(pub [u8; NONCE_LEN]);

impl Nonce {
    /// Makes a nonce of random bytes. Servers send no byte that ends a string or looks like `$`,
    /// since old clients read it as text.
    #[must_use]
    pub fn from_random(mut bytes: [u8; NONCE_LEN]) -> Self {
        for byte in &mut bytes {
            *byte &= 0x7f;
            if matches!(*byte, 0 | b'$') {
                *byte += 1;
            }
        }
        Self(bytes)
    }

    /// Reads the data of an auth switch request: 20 bytes, mostly with a NUL after them.
    #[must_use]
    pub fn from_switch(data: &[u8]) -> Option<Self> {
        data.first_chunk().map(|bytes| Self(*bytes))
    }
}

/// An authentication plugin.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Plugin {
    /// SHA-1; gone from MySQL 9, MariaDB's default.
    NativePassword,
    /// SHA-256, with a cache in the server; MySQL's default since 8.0.
    CachingSha2,
    /// The password itself; only over TLS.
    ClearPassword,
}

impl Plugin {
    /// Every plugin known here.
    pub const ALL: [Self; 3] = [Self::NativePassword, Self::CachingSha2, Self::ClearPassword];

    /// The plugin's name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NativePassword => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::ClearPassword => "mysql_clear_password",
        }
    }

    /// The plugin of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    /// What a client that knows the password answers a nonce with. An empty password is answered
    /// with nothing by all plugins but the clear one.
    #[must_use]
    pub fn answer(self, password: &[u8], nonce: &Nonce) -> Vec<u8> {
        match self {
            Self::ClearPassword => [password, b"\0"].concat(),
            _ if password.is_empty() => Vec::new(),
            Self::NativePassword => scramble_native(password, nonce).to_vec(),
            Self::CachingSha2 => scramble_sha2(password, nonce).to_vec(),
        }
    }

    /// Whether `answer` shows that the client knows the password, in time that does not depend on
    /// how much of it is right.
    #[must_use]
    pub fn verify(self, password: &[u8], nonce: &Nonce, answer: &[u8]) -> bool {
        let mut expected = self.answer(password, nonce);
        // A client that has no password sends nothing, or only the NUL that would end it.
        if expected.is_empty() && answer == b"\0" {
            expected.push(0);
        }
        expected.ct_eq(answer).into()
    }
}

/// `SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))`.
fn scramble_native(password: &[u8], nonce: &Nonce) -> [u8; 20] {
    let once = Sha1::digest(password);
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(nonce.0).chain_update(twice).finalize();
    xor(once.into(), mask.into())
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)`.
fn scramble_sha2(password: &[u8], nonce: &Nonce) -> [u8; 32] {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let mask = Sha256::new().chain_update(twice).chain_update(nonce.0).finalize();
    xor(once.into(), mask.into())
}

/// What is encrypted with the server's public key in caching_sha2's full exchange without TLS: the
/// password and a NUL, each byte XOR a byte of the nonce.
#[must_use]
pub fn mask_password(password: &[u8], nonce: &Nonce) -> Vec<u8> {
    let bytes = password.iter().chain(&[0]);
    bytes.zip(nonce.0.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

fn xor<const N: usize>(mut bytes: [u8; N], mask: [u8; N]) -> [u8; N] {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    bytes
}

/// caching_sha2: the password in the server's cache fits; OK follows.
pub const FAST_AUTH_OK: &[u8] = &[0x01, 0x03];
/// caching_sha2: the server needs the password itself.
pub const FULL_AUTH: &[u8] = &[0x01, 0x04];
/// caching_sha2: a client without TLS asks for the server's public key.
pub const ASK_PUBLIC_KEY: &[u8] = &[0x02];

/// The payload of an auth switch request.
#[must_use]
pub fn switch_request(plugin: Plugin, nonce: &Nonce) -> Vec<u8> {
    let mut payload = vec![0xfe];
    payload.extend(plugin.name().as_bytes());
    payload.push(0);
    payload.extend(nonce.0);
    payload.push(0);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce(*b"abcdefghijklmnopqrst");

    #[test]
    fn only_the_right_password_fits() {
        for plugin in Plugin::ALL {
            for password in [&b""[..], b"secret", b"p\xc3\xa4ss"] {
                let answer = plugin.answer(password, &NONCE);
                assert!(plugin.verify(password, &NONCE, &answer), "{plugin:?}");
                assert!(!plugin.verify(b"other", &NONCE, &answer), "{plugin:?}");
                assert!(!plugin.verify(password, &NONCE, b"x"), "{plugin:?}");
            }
            assert_eq!(Plugin::by_name(plugin.name()), Some(plugin));
        }
    }

    #[test]
    fn scrambles_agree_with_another_implementation() {
        let native = mysql_common::scramble::scramble_native(&NONCE.0, b"secret").unwrap();
        assert_eq!(scramble_native(b"secret", &NONCE), native);
        let sha2 = mysql_common::scramble::scramble_sha256(&NONCE.0, b"secret").unwrap();
        assert_eq!(scramble_sha2(b"secret", &NONCE), sha2);
    }

    #[test]
    fn an_empty_password_may_come_with_its_nul() {
        assert!(Plugin::CachingSha2.verify(b"", &NONCE, b"\0"));
        assert!(!Plugin::CachingSha2.verify(b"x", &NONCE, b"\0"));
    }

    #[test]
    fn a_nonce_has_no_byte_that_old_clients_trip_over() {
        let Nonce(bytes) = Nonce::from_random([
            0, 0x80, b'$', 0xa4, 1, 0xff, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert!(bytes.iter().all(|byte| byte.is_ascii() && !matches!(byte, 0 | b'$')));
    }
}
