//! Passwords on the wire
//! (P: page_protocol_connection_phase_authentication_methods, page_caching_sha2_authentication_exchanges).

use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ed25519;

/// Bytes of the greeting's nonce, and of every plugin's but `client_ed25519`.
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
    /// SHA-256 without a cache: the password itself, over TLS or under the server's public key.
    /// MySQL's; deprecated, and still there in 9.7.
    Sha256,
    /// A signature; MariaDB's since 10.1.22.
    Ed25519,
}

impl Plugin {
    /// Every plugin known here.
    pub const ALL: [Self; 5] =
        [Self::NativePassword, Self::CachingSha2, Self::ClearPassword, Self::Sha256, Self::Ed25519];

    /// The plugin's name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NativePassword => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::ClearPassword => "mysql_clear_password",
            Self::Sha256 => "sha256_password",
            Self::Ed25519 => "client_ed25519",
        }
    }

    /// The plugin of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    /// Bytes of the nonce that the plugin works with.
    #[must_use]
    pub fn nonce_len(self) -> usize {
        if self == Self::Ed25519 { ed25519::NONCE_LEN } else { NONCE_LEN }
    }

    /// The nonce in the data of an auth switch request, which mostly has a NUL after it.
    #[must_use]
    pub fn nonce_in(self, data: &[u8]) -> Option<&[u8]> {
        data.get(..self.nonce_len())
    }

    /// Whether the answer is the password itself, so that nobody may read along.
    #[must_use]
    pub fn shows_password(self) -> bool {
        matches!(self, Self::ClearPassword | Self::Sha256)
    }

    /// What a client that knows the password answers a nonce with. An empty password is answered
    /// with nothing by the plugins that scramble.
    #[must_use]
    pub fn answer(self, password: &[u8], nonce: &[u8]) -> Vec<u8> {
        match self {
            Self::ClearPassword | Self::Sha256 => [password, b"\0"].concat(),
            Self::Ed25519 => ed25519::sign(password, nonce).to_vec(),
            Self::NativePassword | Self::CachingSha2 if password.is_empty() => Vec::new(),
            Self::NativePassword => scramble_native(password, nonce).to_vec(),
            Self::CachingSha2 => scramble_sha2(password, nonce).to_vec(),
        }
    }

    /// Whether `answer` shows that the client knows the password, in time that does not depend on
    /// how much of it is right.
    #[must_use]
    pub fn verify(self, password: &[u8], nonce: &[u8], answer: &[u8]) -> bool {
        // A client that has no password sends nothing, or only the NUL that would end it.
        if password.is_empty() && matches!(answer, b"" | b"\0") {
            return true;
        }
        self.answer(password, nonce).ct_eq(answer).into()
    }
}

/// `SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))`.
fn scramble_native(password: &[u8], nonce: &[u8]) -> [u8; 20] {
    let once = Sha1::digest(password);
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(nonce).chain_update(twice).finalize();
    xor(once.into(), mask.into())
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)`.
fn scramble_sha2(password: &[u8], nonce: &[u8]) -> [u8; 32] {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let mask = Sha256::new().chain_update(twice).chain_update(nonce).finalize();
    xor(once.into(), mask.into())
}

/// What is encrypted with the server's public key in caching_sha2's full exchange without TLS, and
/// in sha256_password's: the password and a NUL, each byte XOR a byte of the nonce.
#[must_use]
pub fn mask_password(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let bytes = password.iter().chain(&[0]);
    bytes.zip(nonce.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
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
/// sha256_password: the same.
pub const ASK_PUBLIC_KEY_SHA256: &[u8] = &[0x01];

/// The payload of an auth switch request. A NUL ends the nonce, but for `client_ed25519`'s, of
/// which clients expect the exact length (seen with MariaDB 10.11's).
#[must_use]
pub fn switch_request(plugin: Plugin, nonce: &[u8]) -> Vec<u8> {
    let mut payload = vec![0xfe];
    payload.extend(plugin.name().as_bytes());
    payload.push(0);
    payload.extend(nonce);
    if plugin != Plugin::Ed25519 {
        payload.push(0);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &[u8] = b"abcdefghijklmnopqrst";

    #[test]
    fn only_the_right_password_fits() {
        for plugin in Plugin::ALL {
            for password in [&b""[..], b"secret", b"p\xc3\xa4ss"] {
                let answer = plugin.answer(password, NONCE);
                assert!(plugin.verify(password, NONCE, &answer), "{plugin:?}");
                assert!(!plugin.verify(b"other", NONCE, &answer), "{plugin:?}");
                assert!(!plugin.verify(password, NONCE, b"x"), "{plugin:?}");
            }
            assert_eq!(Plugin::by_name(plugin.name()), Some(plugin));
        }
    }

    #[test]
    fn scrambles_agree_with_another_implementation() {
        let native = mysql_common::scramble::scramble_native(NONCE, b"secret").unwrap();
        assert_eq!(scramble_native(b"secret", NONCE), native);
        let sha2 = mysql_common::scramble::scramble_sha256(NONCE, b"secret").unwrap();
        assert_eq!(scramble_sha2(b"secret", NONCE), sha2);
    }

    #[test]
    fn an_empty_password_may_come_with_its_nul() {
        assert!(Plugin::CachingSha2.verify(b"", NONCE, b"\0"));
        assert!(!Plugin::CachingSha2.verify(b"x", NONCE, b"\0"));
        for plugin in Plugin::ALL {
            assert!(plugin.verify(b"", NONCE, b""), "{plugin:?}");
            assert!(!plugin.verify(b"x", NONCE, b""), "{plugin:?}");
        }
    }

    #[test]
    fn a_switch_carries_the_nonce_of_its_plugin() {
        for plugin in Plugin::ALL {
            let nonce = vec![7; plugin.nonce_len()];
            let payload = switch_request(plugin, &nonce);
            let data = &payload[plugin.name().len() + 2..];
            assert_eq!(plugin.nonce_in(data), Some(&nonce[..]), "{plugin:?}");
            assert_eq!(plugin.nonce_in(&nonce[1..]), None, "{plugin:?}");
        }
    }

    #[test]
    fn a_nonce_has_no_byte_that_old_clients_trip_over() {
        let Nonce(bytes) = Nonce::from_random([
            0, 0x80, b'$', 0xa4, 1, 0xff, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert!(bytes.iter().all(|byte| byte.is_ascii() && !matches!(byte, 0 | b'$')));
    }
}
