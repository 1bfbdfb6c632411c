//! The signature of MariaDB's `client_ed25519`
//! (<https://mariadb.com/kb/en/connection-authentication/>).
//!
//! It is Ed25519 with one difference: where RFC 8032 hashes a random seed of 32 bytes, MariaDB
//! hashes the password, so that the account's public key follows from it.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{SIGNATURE_LENGTH, VerifyingKey};
use sha2::{Digest, Sha512};

/// Bytes of the nonce.
pub const NONCE_LEN: usize = 32;

/// Signs a nonce. The same password and nonce always make the same signature.
pub(crate) fn sign(password: &[u8], nonce: &[u8]) -> [u8; SIGNATURE_LENGTH] {
    let secret = ExpandedSecretKey::from_bytes(&Sha512::digest(password).into());
    raw_sign::<Sha512>(&secret, nonce, &VerifyingKey::from(&secret)).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_agree_with_another_implementation() {
        for password in [&b""[..], b"secret", b"p\xc3\xa4ss", &[b'x'; 300]] {
            let nonce = [0xa5; NONCE_LEN];
            let other = mysql_common::scramble::create_response_for_ed25519(password, &nonce);
            assert_eq!(sign(password, &nonce), other, "{}", password.escape_ascii());
        }
    }
}
