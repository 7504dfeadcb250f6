//! Values of which the caller decides how they are stored.

use std::fmt;

use compact_str::CompactString;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::rules::hash;
use crate::audit::Metadata;

/// What a digest begins with.
pub(super) const HASH_PREFIX: &str = "hmac-sha256:";

/// What each marker begins with.
pub(super) const MARKER_START: &str = "[scrubbed";

/// What replaces a [`Secret`].
const MARKER: &str = "[scrubbed]";

/// What replaces a [`Hashed`] value when there is no key.
const NO_KEY: &str = "[scrubbed: no hash key]";

/// A value that is not stored: a marker replaces it, whatever it looks like.
///
/// It serialises as the marker, so that a type with such a field can be given to
/// [`AuditEntry::changes`](crate::audit::AuditEntry::changes); that it changed is then not seen. Use
/// [`Changes::masked`](crate::audit::Changes::masked) where it should be.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Secret<T>(pub T);

/// A value of which a digest is stored: HMAC-SHA-256 (RFC 2104) with the key of
/// [`ScrubRules::hash_key`](super::ScrubRules::hash_key) or `AUDIT_HASH_KEY`.
///
/// Equal values have equal digests, so that all entries about one of them can be found: [`hash`](super::hash()) and
/// `auditlog hash` return the digest to search for. The bytes are hashed as they are: fold the case of an e-mail address
/// before. Without a key a marker is stored, since a digest without one could be found by trying.
///
/// ```
/// use db_services::audit::AuditEntry;
/// use db_services::audit::scrub::{Hashed, ScrubRules, hash, install};
///
/// install(ScrubRules::new().hash_key("0123456789abcdef0123456789abcdef")?)?;
/// let entry = AuditEntry::new("auth.login").actor(Hashed("alice@example.org"));
/// assert_eq!(entry.actor_id.as_deref(), Some(&*hash("alice@example.org")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The digest is computed when the value is converted, in the caller's thread: about a microsecond.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hashed<T>(pub T);

/// A value that is stored as it is, although it looks like a secret or has the name of one. For
/// [`AuditEntry::detail`](crate::audit::AuditEntry::detail).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plain<T>(pub T);

/// A value for [`AuditEntry::detail`](crate::audit::AuditEntry::detail): what becomes a JSON value, and [`Plain`].
pub trait Detail: sealed::Sealed {
    #[doc(hidden)]
    fn add_to(self, metadata: &mut Metadata, name: &str);
}

mod sealed {
    pub trait Sealed {}
    impl<T: Into<serde_json::Value>> Sealed for T {}
    impl<T: Into<serde_json::Value>> Sealed for super::Plain<T> {}
}

impl<T: Into<Value>> Detail for T {
    #[inline]
    fn add_to(self, metadata: &mut Metadata, name: &str) {
        metadata.insert(name, self);
    }
}

impl<T: Into<Value>> Detail for Plain<T> {
    fn add_to(self, metadata: &mut Metadata, name: &str) {
        metadata.insert_plain(name, self.0);
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<T> fmt::Debug for Hashed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(…)")
    }
}

impl<T: AsRef<[u8]>> Hashed<T> {
    fn digest(&self) -> String {
        hash(&self.0).unwrap_or_else(|_| NO_KEY.to_owned())
    }
}

impl<T> From<Secret<T>> for Value {
    fn from(_: Secret<T>) -> Self {
        MARKER.into()
    }
}

impl<T> From<Secret<T>> for CompactString {
    fn from(_: Secret<T>) -> Self {
        Self::const_new(MARKER)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MARKER)
    }
}

impl<T: AsRef<[u8]>> From<Hashed<T>> for Value {
    fn from(value: Hashed<T>) -> Self {
        value.digest().into()
    }
}

impl<T: AsRef<[u8]>> From<Hashed<T>> for CompactString {
    fn from(value: Hashed<T>) -> Self {
        value.digest().into()
    }
}

impl<T: AsRef<[u8]>> Serialize for Hashed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.digest())
    }
}

/// True for what a [`Secret`] or a [`Hashed`] value became.
pub(super) fn is_stored_form(text: &str) -> bool {
    text == MARKER || text == NO_KEY || is_digest(text)
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix(HASH_PREFIX);
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
