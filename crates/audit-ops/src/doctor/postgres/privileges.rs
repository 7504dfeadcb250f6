//! The rights of this user on the trail, by the catalog. They decide which statements can be tried.

use super::session::Session;
use crate::doctor::DoctorError;

/// The rights of this user, and identifiers that the server has quoted.
pub(super) struct Privileges {
    /// May insert probe rows.
    pub(super) may_insert: bool,
    /// May read, subject to row security.
    pub(super) may_select: bool,
    /// Row security applies to it: it is neither owner nor superuser and has no BYPASSRLS.
    pub(super) row_security_applies: bool,
    /// Has the policy that shows every tenant.
    pub(super) is_auditor: bool,
    /// A column that it may update, or any column if there is none.
    pub(super) column: String,
    /// A statement that creates a table in the trail's schema.
    pub(super) create_table: String,
    pub(super) schema: String,
    pub(super) user: String,
}

const QUERY: &str = "SELECT \
     (SELECT bool_and(has_column_privilege(c.oid, attnum, 'INSERT')) FROM pg_attribute WHERE attrelid = c.oid \
      AND attname IN ('id', 'created_at', 'tenant_id', 'actor_id', 'actor_type', 'action'))::text, \
     has_table_privilege(c.oid, 'SELECT')::text, \
     row_security_active(c.oid)::text, \
     EXISTS (SELECT FROM pg_policy p, unnest(p.polroles) r WHERE p.polrelid = c.oid AND p.polname = 'audit_logs_read_all' AND r <> 0 AND pg_has_role(r, 'USAGE'))::text, \
     (SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped \
      ORDER BY has_column_privilege(c.oid, attnum, 'UPDATE') DESC, attname = 'action' DESC LIMIT 1), \
     format('CREATE TABLE %I.audit_doctor_probe ()', n.nspname), quote_ident(n.nspname), quote_ident(current_user) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'audit_logs'::regclass";

impl Privileges {
    pub(super) async fn query(session: &Session) -> Result<Self, DoctorError> {
        let row = session.rows(QUERY).await?.into_iter().next().unwrap_or_default();
        let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let text = |at: usize| cells.get(at).cloned().unwrap_or_default();
        let flag = |at: usize| text(at) == "true";
        Ok(Self {
            may_insert: flag(0),
            may_select: flag(1),
            row_security_applies: flag(2),
            is_auditor: flag(3),
            column: text(4),
            create_table: text(5),
            schema: text(6),
            user: text(7),
        })
    }
}
