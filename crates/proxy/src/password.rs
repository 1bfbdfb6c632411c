//! The password itself: caching_sha2's full exchange, for a client whose scramble was not enough
//! (P: page_caching_sha2_authentication_exchanges).
//!
//! It comes over TLS or a Unix socket, or hidden under failsoft's key.

use std::fmt;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::sync::OnceCell;
use wire::auth::{ASK_PUBLIC_KEY, FULL_AUTH, mask_password};
use zeroize::Zeroizing;

use crate::authenticate::Answer;
use crate::login::LoginError;
use crate::settings::Password;
use crate::stream::{Stream, read_login_packet};

/// The key that clients without TLS hide their passwords with, shared by all cores. It is made when
/// it is first asked for, which mostly it never is, and kept nowhere else, so what was recorded
/// cannot be read later.
#[derive(Default)]
pub(crate) struct LoginKey(OnceCell<Pair>);

struct Pair {
    /// The packet with the public key.
    told: Vec<u8>,
    private: OaepPrivateDecryptingKey,
}

impl fmt::Debug for LoginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginKey").field("made", &self.0.initialized()).finish_non_exhaustive()
    }
}

impl LoginKey {
    /// The key. Making it takes some tenths of a second, for which no session has to wait but those
    /// that need it.
    async fn pair(&self) -> Option<&Pair> {
        let made = self.0.get_or_try_init(|| async {
            let making = tokio::task::spawn_blocking(Pair::make).await;
            making.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        });
        made.await.inspect_err(|error| tracing::error!(error, "no key for logins")).ok()
    }
}

impl Pair {
    fn make() -> Result<Self, rcgen::Error> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let told = [b"\x01", pair.public_key_pem().as_bytes()].concat();
        let unusable = rcgen::Error::CouldNotParseKeyPair;
        let private = PrivateDecryptingKey::from_pkcs8(&pair.serialize_der())
            .map_err(|_| unusable.clone())?;
        let private = OaepPrivateDecryptingKey::new(private).map_err(|_| unusable)?;
        Ok(Self { told, private })
    }

    fn decrypt(&self, hidden: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut clear = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let clear = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, hidden, &mut clear, None).ok()?;
        Some(Zeroizing::new(clear.to_vec()))
    }
}

/// Asks a client that answered by caching_sha2 for the password itself; none where what it sends is
/// none, or could be read on the way.
///
/// # Errors
///
/// The client left, or there is no key.
pub(crate) async fn ask(
    key: &LoginKey,
    stream: &mut Stream,
    answer: &mut Answer,
) -> Result<Option<Password>, LoginError> {
    answer.tell(stream, FULL_AUTH).await?;
    let (sequence, clear) = read_login_packet(stream).await?;
    let mut clear = Zeroizing::new(clear);
    answer.sequence = sequence;
    if *clear == ASK_PUBLIC_KEY {
        let pair = key.pair().await.ok_or(LoginError::Io)?;
        answer.tell(stream, &pair.told).await?;
        let (sequence, hidden) = read_login_packet(stream).await?;
        answer.sequence = sequence;
        let masked = pair.decrypt(&hidden).unwrap_or_default();
        // The mask is undone as it was done; the NUL that it adds is cut off again.
        clear = Zeroizing::new(mask_password(&masked, &answer.nonce.0));
        clear.truncate(masked.len());
    } else if !stream.is_private() {
        return Ok(None);
    }
    Ok(in_clear(&clear))
}

/// The password in a packet that is the password and a NUL.
pub(crate) fn in_clear(packet: &[u8]) -> Option<Password> {
    let (_, password) = packet.split_last().filter(|(last, _)| **last == 0)?;
    std::str::from_utf8(password).ok().map(|password| Password::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_under_the_key_is_no_password() {
        let pair = Pair::make().unwrap();
        assert_eq!(pair.decrypt(b""), None);
        assert_eq!(pair.decrypt(&[7; 256]), None);
    }

    #[test]
    fn a_password_ends_with_a_nul() {
        let cases: [(&[u8], Option<&str>); 4] =
            [(b"a b\0", Some("a b")), (b"\0", Some("")), (b"a", None), (b"\xff\0", None)];
        for (packet, expected) in cases {
            assert_eq!(
                in_clear(packet).as_deref().map(String::as_str),
                expected,
                "{}",
                packet.escape_ascii()
            );
        }
    }
}
