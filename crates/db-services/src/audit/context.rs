//! What is known of an event's surroundings: the request, the session, the job.
//!
//! A handler knows what happened; who did it, from where and in which request is known further out. An
//! [`AuditContext`] holds that. Inside of [`scope`] it fills what an entry leaves open, when the entry is written
//! with [`write_audit_log`](super::write_audit_log), an [`AuditWriter`](super::AuditWriter) or
//! [`insert`](super::insert):
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # use db_services::audit::{self, AuditWriter};
//! # let database = db_services::client::Database::from_url("sqlite::memory:").unwrap();
//! # database.migrate().await.unwrap();
//! # let (writer, _guard) = AuditWriter::builder(database).start().unwrap();
//! # audit::with_writer(writer, async {
//! use db_services::audit::context::{self, AuditContext};
//! use db_services::audit::{AuditEntry, write_audit_log};
//!
//! let request = AuditContext::new().request_id("r-1").ip([203, 0, 113, 7]).actor("alice");
//! context::scope(request, async {
//!     // Stored with the actor, the address and the request's id.
//!     write_audit_log(AuditEntry::new("skill.delete").resource("skill", "s-1"));
//!     // A task of its own takes the context along.
//!     tokio::spawn(context::carry(async {
//!         write_audit_log(AuditEntry::new("skill.reindex"));
//!     }))
//!     .await
//! })
//! .await
//! # }).await.unwrap();
//! # })
//! ```
//!
//! # Which value wins
//!
//! What the entry sets itself always wins. `actor_id`, `actor_type` and `on_behalf_of` describe one actor: they are
//! filled only in an entry that sets neither `actor_id` nor `actor_type`, or sets `actor_id` to the actor of the
//! context, and no other type. Thus `anonymous` never gets the name of the signed-in user, and another actor never gets
//! the user's type.
//! An address that [`ip_text`](super::AuditEntry::ip_text) could not read counts as set.
//!
//! # Late binding
//!
//! A sign-in learns who the actor is while the request runs. [`bind`] adds that to the current context, for all
//! entries written from then on, also by the tasks that carry it.
//!
//! # Without a task
//!
//! The context is a plain value: [`AuditContext::entry`] creates an entry that is filled already.
//! Synchronous code uses [`sync_scope`].

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use compact_str::CompactString;

use super::AuditEntry;
use super::global::carry_writer;

tokio::task_local! {
    /// Locked to copy values only: no user code runs meanwhile.
    static CURRENT: Option<Arc<Mutex<AuditContext>>>;
}

/// The values that entries of one request, session or job have in common. See the [module](self).
///
/// The fields are those of [`AuditEntry`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditContext {
    /// The customer or account.
    pub tenant_id: Option<CompactString>,
    /// Who acts.
    pub actor_id: Option<CompactString>,
    /// What kind of actor: user, service, api_key, system, anonymous, or another word.
    pub actor_type: Option<CompactString>,
    /// Whom the actor acts for.
    pub on_behalf_of: Option<CompactString>,
    /// The network address it came from.
    pub ip_address: Option<IpAddr>,
    /// The client software, as it named itself.
    pub user_agent: Option<CompactString>,
    /// The request.
    pub request_id: Option<CompactString>,
    /// The distributed trace (W3C Trace Context).
    pub trace_id: Option<CompactString>,
}

impl AuditContext {
    /// Creates a context that fills nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the customer or account.
    pub fn tenant(mut self, id: impl Into<CompactString>) -> Self {
        self.tenant_id = Some(id.into());
        self
    }

    /// Sets who acts.
    pub fn actor(mut self, id: impl Into<CompactString>) -> Self {
        self.actor_id = Some(id.into());
        self
    }

    /// Sets what kind of actor it is.
    pub fn actor_type(mut self, kind: impl Into<CompactString>) -> Self {
        self.actor_type = Some(kind.into());
        self
    }

    /// Sets whom the actor acts for.
    pub fn on_behalf_of(mut self, id: impl Into<CompactString>) -> Self {
        self.on_behalf_of = Some(id.into());
        self
    }

    /// Sets the network address.
    pub fn ip(mut self, address: impl Into<IpAddr>) -> Self {
        self.ip_address = Some(address.into());
        self
    }

    /// Sets the client software.
    pub fn user_agent(mut self, name: impl Into<CompactString>) -> Self {
        self.user_agent = Some(name.into());
        self
    }

    /// Sets the request.
    pub fn request_id(mut self, id: impl Into<CompactString>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Sets the distributed trace.
    pub fn trace_id(mut self, id: impl Into<CompactString>) -> Self {
        self.trace_id = Some(id.into());
        self
    }

    /// Creates an entry that this context has filled, for code that has the context at hand.
    ///
    /// Setters replace single columns: an entry of another actor needs its `actor_type` too.
    pub fn entry(&self, action: impl Into<CompactString>) -> AuditEntry {
        let mut entry = AuditEntry::new(action);
        self.fill(&mut entry);
        entry
    }

    /// Fills what the entry leaves open.
    fn fill(&self, entry: &mut AuditEntry) {
        let is_open = entry.actor_id.is_none() && entry.actor_type.is_none();
        let has_type_of_context = entry.actor_type.is_none() || entry.actor_type == self.actor_type;
        let is_same = entry.actor_id.is_some() && entry.actor_id == self.actor_id && has_type_of_context;
        if is_open || is_same {
            fill_text(&mut entry.actor_id, &self.actor_id);
            fill_text(&mut entry.actor_type, &self.actor_type);
            fill_text(&mut entry.on_behalf_of, &self.on_behalf_of);
        }
        if entry.ip_address.is_none() && entry.ip_text.is_none() {
            entry.ip_address = self.ip_address;
        }
        fill_text(&mut entry.tenant_id, &self.tenant_id);
        fill_text(&mut entry.user_agent, &self.user_agent);
        fill_text(&mut entry.request_id, &self.request_id);
        fill_text(&mut entry.trace_id, &self.trace_id);
    }

    /// Takes over what another context sets.
    fn merge(&mut self, other: Self) {
        let Self {
            tenant_id,
            actor_id,
            actor_type,
            on_behalf_of,
            ip_address,
            user_agent,
            request_id,
            trace_id,
        } = other;
        // Another actor comes with a type and a principal of its own, or with none. A type alone is another actor too.
        let is_named = actor_id.is_some() || actor_type.is_some();
        if is_named && actor_id != self.actor_id {
            (self.actor_id, self.actor_type, self.on_behalf_of) = (None, None, None);
        }
        let replace = |old: &mut Option<CompactString>, new: Option<CompactString>| {
            if new.is_some() {
                *old = new;
            }
        };
        replace(&mut self.tenant_id, tenant_id);
        replace(&mut self.actor_id, actor_id);
        replace(&mut self.actor_type, actor_type);
        replace(&mut self.on_behalf_of, on_behalf_of);
        replace(&mut self.user_agent, user_agent);
        replace(&mut self.request_id, request_id);
        replace(&mut self.trace_id, trace_id);
        self.ip_address = ip_address.or(self.ip_address);
    }
}

fn fill_text(open: &mut Option<CompactString>, value: &Option<CompactString>) {
    if open.is_none() {
        open.clone_from(value);
    }
}

/// Runs a future in which this context fills what entries leave open. An outer context does not apply inside.
///
/// It holds for the future itself; a task that is spawned from it takes it along with [`carry`].
pub fn scope<F: Future>(context: AuditContext, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(Some(Arc::new(Mutex::new(context))), future)
}

/// Does what [`scope`] does for synchronous code.
pub fn sync_scope<R>(context: AuditContext, run: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(Some(Arc::new(Mutex::new(context))), run)
}

/// Takes the current context along into another task, with the writer of a surrounding
/// [`with_writer`](super::with_writer). Both are those of the call, not of the first poll. What either side
/// [`bind`]s later holds for both.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use db_services::audit::context::{self, AuditContext};
///
/// let seen = context::scope(AuditContext::new().actor("alice"), async {
///     tokio::spawn(context::carry(async { context::current() })).await
/// });
/// assert_eq!(seen.await.unwrap(), Some(AuditContext::new().actor("alice")));
/// # })
/// ```
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(handle(), carry_writer(future))
}

/// Adds to the current context what another one sets, for the entries that are written from now on. False if there
/// is no current context.
///
/// Another actor replaces the actor's type and principal too: they describe one actor. A type without an actor
/// (`anonymous`) is another actor than the one that has an id, and replaces all three.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use db_services::audit::context::{self, AuditContext};
///
/// context::scope(AuditContext::new().request_id("r-1"), async {
///     // … the password is right …
///     context::bind(AuditContext::new().actor("alice").actor_type("user"));
///     assert_eq!(context::current().unwrap().actor_id.as_deref(), Some("alice"));
/// })
/// .await
/// # })
/// ```
pub fn bind(context: AuditContext) -> bool {
    let Some(current) = handle() else { return false };
    lock(&current).merge(context);
    true
}

/// Returns the current context as it is now.
pub fn current() -> Option<AuditContext> {
    handle().map(|current| lock(&current).clone())
}

/// Fills what entries leave open from the current context.
#[inline]
pub(super) fn fill(entries: &mut [AuditEntry]) {
    // An error: no context, or a thread that ends.
    let _ = CURRENT.try_with(|current| {
        if let Some(current) = current {
            let current = lock(current);
            entries.iter_mut().for_each(|entry| current.fill(entry));
        }
    });
}

fn handle() -> Option<Arc<Mutex<AuditContext>>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

fn lock(context: &Mutex<AuditContext>) -> std::sync::MutexGuard<'_, AuditContext> {
    context.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
