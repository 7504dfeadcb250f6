//! An event as its caller describes it.
//!
//! To build, change, clone and drop an entry touches no thread-local and asks the operating system for
//! nothing but the time, so that it is allowed everywhere: in the destructor of a thread-local, in a panic
//! hook, in a forked process. (The first [`Hashed`](super::scrub::Hashed) value of a process reads the environment.)

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use compact_str::CompactString;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::raw_json::LossyText;
use super::scrub::Detail;
use super::{Metadata, Receipt};

/// One event for the audit trail. Only the action is required.
///
/// The time is taken when the entry is made. The id is a UUID version 7 (RFC 9562) that is made when the
/// entry is written, unless it is set: an entry without one is a template, and each time it is written is
/// an event of its own. What exceeds a limit of [`limits`](super::limits) is cut and marked when it is
/// written, never refused.
///
/// ```
/// use db_services::audit::{AuditEntry, Outcome};
///
/// let entry = AuditEntry::new("auth.login")
///     .actor("alice")
///     .tenant("acme")
///     .resource("session", "s-1")
///     .ip_text("203.0.113.7")
///     .outcome(Outcome::Denied)
///     .metadata(serde_json::json!({"reason": "expired", "tries": 3}))
///     .detail("client", "ios");
/// assert_eq!(entry.actor_id.as_deref(), Some("alice"));
/// assert_eq!(entry.metadata.as_str(), r#"{"reason":"expired","tries":3,"client":"ios"}"#);
/// ```
///
/// Texts are [`CompactString`]: up to 24 bytes without an allocation. Setters take what becomes one, a
/// field is set with `Some("alice".into())`.
///
/// It deserialises from an object with the columns' names; an unknown name is an error, and an
/// `ip_address` that is no address is kept as [`ip_text`](Self::ip_text) keeps it, a blank one too.
/// [`from_json`](Self::from_json) reads such an object from text, and keeps the numbers in its metadata as they are written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "EntryJson<CompactString, Value>")]
#[non_exhaustive]
pub struct AuditEntry {
    /// Identifies the entry together with `created_at`: written twice, the pair is stored once. None
    /// unless it was set: each write makes one.
    pub id: Option<Uuid>,
    /// When it happened; stored to the microsecond.
    pub created_at: DateTime<Utc>,
    /// The customer or account it belongs to.
    pub tenant_id: Option<CompactString>,
    /// Who did it.
    pub actor_id: Option<CompactString>,
    /// What kind of actor: user, service, api_key, system, anonymous, or another word.
    pub actor_type: Option<CompactString>,
    /// Whom the actor acted for.
    pub on_behalf_of: Option<CompactString>,
    /// What was done, as `noun.verb`. One that begins with `audit.` is stored as `app.audit.…`.
    pub action: CompactString,
    /// How it ended.
    pub outcome: Outcome,
    /// What kind of thing it was done to.
    pub resource_type: Option<CompactString>,
    /// Which thing it was done to.
    pub resource_id: Option<CompactString>,
    /// The network address it came from.
    pub ip_address: Option<IpAddr>,
    /// The client software, as it named itself.
    pub user_agent: Option<CompactString>,
    /// The request it was part of.
    pub request_id: Option<CompactString>,
    /// The distributed trace it was part of (W3C Trace Context).
    pub trace_id: Option<CompactString>,
    /// Joins the entry of an intent with the entry of its outcome.
    pub operation_id: Option<Uuid>,
    /// Further details. The member `_audit` is reserved for the writer: a caller's own is
    /// stored as `app._audit`.
    pub metadata: Metadata,
    /// The text that [`ip_text`](Self::ip_text) could not read as a plain address.
    pub(super) ip_text: Option<CompactString>,
    /// Whether `created_at` was set with its setter or read from JSON.
    pub(super) own_time: OwnTime,
}

/// Whether the time of an entry was set. Entries that differ in it alone are equal.
#[derive(Clone, Copy, Debug)]
pub(super) enum OwnTime {
    Unset,
    Set,
}

impl PartialEq for OwnTime {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl AuditEntry {
    /// Creates an entry that happened now and succeeded.
    #[inline]
    pub fn new(action: impl Into<CompactString>) -> Self {
        Self {
            id: None,
            created_at: now(),
            tenant_id: None,
            actor_id: None,
            actor_type: None,
            on_behalf_of: None,
            action: action.into(),
            outcome: Outcome::Success,
            resource_type: None,
            resource_id: None,
            ip_address: None,
            user_agent: None,
            request_id: None,
            trace_id: None,
            operation_id: None,
            metadata: Metadata::default(),
            ip_text: None,
            own_time: OwnTime::Unset,
        }
    }

    /// Sets the id, for events that have one of their own. Give `created_at` too: only the pair is
    /// recognised when the entry is written again.
    #[inline]
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets when it happened.
    #[inline]
    pub fn created_at(mut self, time: DateTime<Utc>) -> Self {
        self.created_at = time;
        self.own_time = OwnTime::Set;
        self
    }

    /// Sets who did it.
    #[inline]
    pub fn actor(self, id: impl Into<CompactString>) -> Self {
        Self {
            actor_id: Some(id.into()),
            ..self
        }
    }

    /// Sets what kind of actor it was.
    #[inline]
    pub fn actor_type(self, kind: impl Into<CompactString>) -> Self {
        Self {
            actor_type: Some(kind.into()),
            ..self
        }
    }

    /// Sets whom the actor acted for.
    #[inline]
    pub fn on_behalf_of(self, id: impl Into<CompactString>) -> Self {
        Self {
            on_behalf_of: Some(id.into()),
            ..self
        }
    }

    /// Sets the customer or account it belongs to.
    #[inline]
    pub fn tenant(self, id: impl Into<CompactString>) -> Self {
        Self {
            tenant_id: Some(id.into()),
            ..self
        }
    }

    /// Sets what it was done to.
    #[inline]
    pub fn resource(self, kind: impl Into<CompactString>, id: impl Into<CompactString>) -> Self {
        Self {
            resource_type: Some(kind.into()),
            resource_id: Some(id.into()),
            ..self
        }
    }

    /// Sets the network address it came from.
    #[inline]
    pub fn ip(mut self, address: impl Into<IpAddr>) -> Self {
        self.ip_address = Some(address.into());
        self
    }

    /// Sets the network address from text, as a header or a log gives it.
    ///
    /// An address with a port gives the address. A text that is not a plain address ("unknown", a
    /// name, one with a port) is kept in the metadata as `_audit.ip_text`. A blank text sets nothing.
    #[inline]
    pub fn ip_text(mut self, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().trim();
        self.ip_address = text.parse().ok();
        self.ip_text = None;
        if self.ip_address.is_none() && !text.is_empty() {
            self.ip_address = text.parse::<SocketAddr>().ok().map(|address| address.ip());
            self.ip_text = Some(text.into());
        }
        self
    }

    /// Sets the client software.
    #[inline]
    pub fn user_agent(self, name: impl Into<CompactString>) -> Self {
        Self {
            user_agent: Some(name.into()),
            ..self
        }
    }

    /// Sets the request it was part of.
    #[inline]
    pub fn request_id(self, id: impl Into<CompactString>) -> Self {
        Self {
            request_id: Some(id.into()),
            ..self
        }
    }

    /// Sets the distributed trace it was part of.
    #[inline]
    pub fn trace_id(self, id: impl Into<CompactString>) -> Self {
        Self {
            trace_id: Some(id.into()),
            ..self
        }
    }

    /// Sets the operation that joins several entries.
    #[inline]
    pub fn operation_id(mut self, id: Uuid) -> Self {
        self.operation_id = Some(id);
        self
    }

    /// Sets how it ended.
    #[inline]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Sets the metadata, a JSON object. Null means an empty one; any other JSON value is kept as
    /// the member `value`.
    #[inline]
    pub fn metadata(mut self, metadata: impl Into<Value>) -> Self {
        self.metadata = Metadata::from(metadata.into());
        self
    }

    /// Sets one member of the metadata and leaves the others; of two with the same name the later one
    /// counts. Costs two thirds of what an object with the same members does.
    ///
    /// The value is anything that becomes a [`Value`], or one of [`Secret`](super::scrub::Secret),
    /// [`Hashed`](super::scrub::Hashed) and [`Plain`](super::scrub::Plain), which say how it is stored.
    #[inline]
    pub fn detail(mut self, name: impl AsRef<str>, value: impl Detail) -> Self {
        value.add_to(&mut self.metadata, name.as_ref());
        self
    }
}

impl AuditEntry {
    /// Reads an entry from a JSON object with the columns' names. Numbers in the metadata are kept as they are
    /// written; surrogates without their partner become U+FFFD.
    ///
    /// # Errors
    /// When the text is not such an object: not JSON or UTF-8, without an action, with an unknown name, with an id
    /// or a time that is none.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        if json.trim_ascii_start().starts_with(b"[") {
            // serde would take its items for the columns, by position.
            return Err(serde::de::Error::custom(
                "invalid type: an array, expected an object",
            ));
        }
        let columns: EntryJson<LossyText<'_>, &RawValue> = serde_json::from_slice(json)?;
        Ok(columns.into_entry(Metadata::from_raw))
    }

    /// Writes the entry: [`write_audit_log(entry)`](super::write_audit_log).
    pub fn write(self) -> Receipt {
        super::write_audit_log(self)
    }
}

/// The time of the system's clock; the first moment of 1970 if it is before that.
#[inline]
pub(super) fn now() -> DateTime<Utc> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let time = i64::try_from(now.as_secs()).ok();
    let time = time.and_then(|seconds| DateTime::from_timestamp(seconds, now.subsec_nanos()));
    time.unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// How an event ended. The database holds it as text, in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// It was done.
    #[default]
    Success,
    /// It was tried and failed.
    Failure,
    /// It was not allowed.
    Denied,
    /// It is not known, for example because the reply never came.
    Unknown,
}

impl Outcome {
    /// Returns the text that the database holds.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Success, Self::Failure, Self::Denied, Self::Unknown]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or(UnknownOutcome)
    }
}

/// The text is no [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an outcome is one of success, failure, denied, unknown")]
pub struct UnknownOutcome;

/// An entry as a JSON object, with its texts and its metadata as they are read.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "T: Deserialize<'de>, M: Deserialize<'de>")
)]
struct EntryJson<T, M> {
    id: Option<Uuid>,
    created_at: Option<DateTime<Utc>>,
    tenant_id: Option<T>,
    actor_id: Option<T>,
    actor_type: Option<T>,
    on_behalf_of: Option<T>,
    action: T,
    #[serde(default)]
    outcome: Outcome,
    resource_type: Option<T>,
    resource_id: Option<T>,
    ip_address: Option<T>,
    user_agent: Option<T>,
    request_id: Option<T>,
    trace_id: Option<T>,
    operation_id: Option<Uuid>,
    metadata: Option<M>,
}

impl From<EntryJson<CompactString, Value>> for AuditEntry {
    fn from(columns: EntryJson<CompactString, Value>) -> Self {
        columns.into_entry(Metadata::from)
    }
}

impl<T: Into<CompactString>, M> EntryJson<T, M> {
    fn into_entry(self, metadata: impl FnOnce(M) -> Metadata) -> AuditEntry {
        let text = |value: Option<T>| value.map(Into::into);
        let mut entry = AuditEntry::new(self.action).outcome(self.outcome);
        if let Some(address) = self.ip_address {
            let address: CompactString = address.into();
            entry = entry.ip_text(&address);
            // A blank one is part of the event as well.
            entry.ip_text = entry
                .ip_text
                .or(Some(address).filter(|text| text.trim().is_empty()));
        }
        AuditEntry {
            id: self.id,
            created_at: self.created_at.unwrap_or(entry.created_at),
            own_time: self.created_at.map_or(OwnTime::Unset, |_| OwnTime::Set),
            tenant_id: text(self.tenant_id),
            actor_id: text(self.actor_id),
            actor_type: text(self.actor_type),
            on_behalf_of: text(self.on_behalf_of),
            resource_type: text(self.resource_type),
            resource_id: text(self.resource_id),
            user_agent: text(self.user_agent),
            request_id: text(self.request_id),
            trace_id: text(self.trace_id),
            operation_id: self.operation_id,
            metadata: self.metadata.map(metadata).unwrap_or_default(),
            ..entry
        }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
