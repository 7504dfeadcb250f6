//! Secrets stay out of the trail.
//!
//! An entry may contain a secret that nobody meant to record: a form with a password, an error text with a
//! connection string, a header. Therefore each entry is scrubbed before it is cut to its [limits](super::limits) and
//! before it reaches a spool, a database, the quarantine or a log: on the writer's thread, and in
//! [`insert`](super::insert) and [`insert_many`](super::insert_many). (Only an entry that takes more than a 64th
//! of the queue's memory is scrubbed and cut in its caller's thread.) A marker replaces the value; names stay.
//!
//! | found | example | becomes |
//! | --- | --- | --- |
//! | a member of the metadata with the name of a secret | `"apiKey": "…"` | `"apiKey": "[scrubbed: name]"` |
//! | a well-known key | `ghp_…`, `AKIA…`, `xoxb-…` | `[scrubbed: key]` |
//! | a JSON web token (RFC 7519) | `eyJ….eyJ….…` | `[scrubbed: token]` |
//! | a private key in PEM (RFC 7468) | `-----BEGIN PRIVATE KEY-----…` | `[scrubbed: private key]` |
//! | HTTP credentials (RFC 6750, RFC 7617) | `Bearer …`, `Basic …` | `Bearer [scrubbed: credentials]` |
//! | the password of a URL | `postgres://app:…@db` | `postgres://app:[scrubbed: password]@db` |
//! | a parameter with the name of a secret | `?access_token=…`, `Cookie: …`, `{"pin": …}` in a text | `?access_token=[scrubbed: name]` |
//! | a payment card number | `4111 1111 1111 1111` | `[scrubbed: card]` |
//!
//! **Names.** The name of a secret ends with a word such as password, token, secret, authorization, cookie,
//! credentials, or with a compound such as API key, private key, signing key. Case and separators do not matter:
//! `apiKey`, `api_key` and `X-Api-Key` are one. Names that only look alike stay (`token_count`, `next_token`,
//! `password_changed_at`), and so do true, false and null. `key` alone is no secret: it names too many other things.
//! Of a pair such as `{"name": "password", "value": "…"}`, and of a [change](super::Changes) with such a path, the
//! value is replaced. [`ScrubRules`] adds and removes names.
//!
//! **Shapes** are found in every text of the metadata and in every text column but `action` and `tenant_id`. They
//! have a fixed prefix or a checksum. Nothing is guessed from how random a text looks: identifiers and digests stay.
//! An AWS access key id stays under its own name (`accessKeyId`), and so does a `sessionToken` that AWS CloudTrail
//! recorded: without the secret key neither is of use.
//!
//! The caller can decide, whatever a value looks like:
//!
//! ```
//! use db_services::audit::scrub::{Plain, Secret};
//! use db_services::audit::AuditEntry;
//!
//! let entry = AuditEntry::new("key.rotate")
//!     .detail("recovery", Secret("horse battery"))
//!     .detail("token", Plain("a colour, not a secret"));
//! assert_eq!(
//!     db_services::audit::NewAuditLog::from(entry).metadata.as_str(),
//!     r#"{"recovery":"[scrubbed]","token":"a colour, not a secret"}"#
//! );
//! ```
//!
//! [`Hashed`] stores a digest instead, by which the value can still be searched.
//!
//! This is a safety net and no proof: a password in a sentence is found by nobody. Personal data (names, addresses,
//! e-mail) is not looked for.

mod card;
mod filter;
mod hash_key;
mod members;
mod names;
mod parameter;
mod rules;
mod scrubber;
mod shapes;
mod text;
mod values;

use super::AuditEntry;
use super::limits::text_columns;

pub use hash_key::HashKeyError;
pub use rules::{RulesInUse, ScrubRules, Shape, hash, install};
pub use values::{Detail, Hashed, Plain, Secret};

/// Prepares the rules: their first use takes some 30 ms, which the writer's thread spends at its start.
pub(super) fn prepare() {
    rules::current();
}

/// The text without its secrets, for what is cut before its entry is scrubbed.
pub(super) fn scrub_text(text: String) -> String {
    let scrubbed = rules::current().and_then(|scrubber| text::scrub_text(scrubber, &text));
    scrubbed.unwrap_or(text)
}

/// Whether this is the name of a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    rules::current().is_some_and(|scrubber| scrubber.names().is_secret(name))
}

/// Replaces the secrets of an entry.
pub(super) fn scrub(entry: &mut AuditEntry) {
    let Some(scrubber) = rules::current() else { return };
    for (name, column, _) in text_columns!(entry, as_mut, &mut) {
        let is_key = matches!(name, "action" | "tenant_id");
        if let Some(column) = column.filter(|_| !is_key)
            && let Some(scrubbed) = text::scrub_text(scrubber, column)
        {
            *column = scrubbed.into();
        }
    }
    if let Some(address) = &mut entry.ip_text
        && let Some(scrubbed) = text::scrub_text(scrubber, address)
    {
        *address = scrubbed.into();
    }
    entry
        .metadata
        .rewrite(|json, is_plain| members::scrub_json(scrubber, json, is_plain));
}

#[cfg(test)]
mod tests;
