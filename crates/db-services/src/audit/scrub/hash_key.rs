//! The key of hashed values.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::values::HASH_PREFIX;
use crate::audit::limits::hex;

/// The fewest bytes of a key for [`Hashed`](super::Hashed): 128 bits, if they are random.
const MIN_KEY_BYTES: usize = 16;

/// The key of an HMAC.
#[derive(Clone)]
pub(super) struct HashKey(Vec<u8>);

/// Why there is no key for [`hash`](super::hash()).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashKeyError {
    /// No key is set.
    #[error("no hash key is set: set AUDIT_HASH_KEY, or install ScrubRules with a hash_key")]
    Missing,
    /// The key is too short to be secret.
    #[error(
        "the hash key is shorter than {MIN_KEY_BYTES} bytes: use random ones, such as `openssl rand -hex 32`"
    )]
    TooShort,
}

impl HashKey {
    pub(super) fn new(key: &[u8]) -> Result<Self, HashKeyError> {
        match key.len() {
            MIN_KEY_BYTES.. => Ok(Self(key.to_owned())),
            _ => Err(HashKeyError::TooShort),
        }
    }

    /// HMAC-SHA-256 (RFC 2104).
    pub(super) fn digest(&self, value: &[u8]) -> String {
        // Keys of any length are valid.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let digest = mac.map(|mac| mac.chain_update(value).finalize().into_bytes());
        format!("{HASH_PREFIX}{}", hex(&digest.unwrap_or_default()))
    }
}
