//! The names that differ between databases: of the trail's schema, its owner and its roles.

use super::description::{Key, Objects};
use crate::doctor::DoctorError;
use crate::doctor::postgres::session::Session;

/// Finds the table by the user's search_path.
const TRAIL: &str = "SELECT c.oid::text, pg_catalog.quote_ident(n.nspname) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass('audit_logs')";

/// The owner of most of the trail's tables and functions: somebody else may own one of them now.
const OWNER: &str = "SELECT o.oid::text, quote_ident(o.rolname) FROM pg_roles o WHERE o.oid = ( \
     SELECT mode() WITHIN GROUP (ORDER BY owner) FROM ( \
         SELECT c.relowner AS owner FROM pg_class c JOIN pg_class t ON t.relnamespace = c.relnamespace \
         WHERE t.oid = @trail@ AND c.relname LIKE 'audit!_%' ESCAPE '!' AND c.relkind IN ('r', 'p') \
         UNION ALL SELECT p.proowner FROM pg_proc p JOIN pg_class t ON t.relnamespace = p.pronamespace \
         WHERE t.oid = @trail@ AND p.proname LIKE 'audit!_%' ESCAPE '!') owners)";

/// The roles as audit_roles names them. If the role of a policy has the rights of the part and the one that is named
/// has none, then audit_roles was changed (a finding of `checks/roles.sql`), and that role is meant.
const ROLES: &str = "SELECT a.kind, r.oid::text, quote_ident(r.rolname) FROM @schema@.audit_roles a \
     LEFT JOIN (VALUES ('writer', 'audit_logs_insert', 'audit_logs_lookup'), ('auditor', 'audit_logs_read_all', 'audit_logs_digest')) \
         w (kind, policy, function) ON w.kind = a.kind \
     LEFT JOIN pg_policy p ON p.polrelid = @trail@ AND p.polname = w.policy AND array_length(p.polroles, 1) = 1 \
     LEFT JOIN pg_proc f ON f.proname = w.function AND f.pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = @trail@) \
     JOIN pg_roles r ON r.oid = CASE WHEN EXISTS (SELECT FROM aclexplode(f.proacl) e WHERE e.grantee = p.polroles[1]) \
         AND NOT EXISTS (SELECT FROM aclexplode(f.proacl) e WHERE e.grantee = a.role) THEN p.polroles[1] ELSE a.role END";

/// The same for a user who may not read that table: by the policies and rights that each role has.
const ROLES_BY_RIGHTS: &str = "SELECT k.part, r.oid::text, quote_ident(r.rolname) FROM ( \
         SELECT CASE p.polname WHEN 'audit_logs_insert' THEN 'writer' WHEN 'audit_logs_read_tenant' THEN 'reader' \
                               WHEN 'audit_logs_read_all' THEN 'auditor' END AS part, p.polroles[1] AS role \
         FROM pg_policy p WHERE p.polrelid = @trail@ AND array_length(p.polroles, 1) = 1 \
         UNION ALL \
         SELECT 'maintainer', min(a.grantee::text)::oid FROM pg_proc p, aclexplode(p.proacl) a \
         WHERE p.proname = 'audit_logs_index_closed_months' AND p.pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = @trail@) AND a.grantee NOT IN (0, p.proowner) \
         HAVING count(*) = 1) k JOIN pg_roles r ON r.oid = k.role WHERE k.part IS NOT NULL";

/// The trail's identity in one database. Names are quoted by the server.
pub(in crate::doctor::postgres) struct Names {
    trail: String,
    pub(super) schema: String,
    owner_oid: String,
    pub(super) owner: String,
    /// Part, oid, name.
    roles: Vec<[String; 3]>,
}

impl Names {
    /// Looks for the table. From here on the transaction's search_path is pg_catalog alone. Returns none if there is no
    /// table.
    pub(in crate::doctor::postgres) async fn query(session: &Session) -> Result<Option<Self>, DoctorError> {
        let Some([trail, schema]) = first(session.rows(TRAIL).await?) else {
            return Ok(None);
        };
        session
            .execute("SET LOCAL search_path = pg_catalog, pg_temp")
            .await?;
        let mut names = Self {
            trail,
            schema,
            owner_oid: String::new(),
            owner: String::new(),
            roles: Vec::new(),
        };
        if let Some([oid, name]) = first(session.rows(&names.sql(OWNER)).await?) {
            (names.owner_oid, names.owner) = (oid, name);
        }
        let rows = match session.query_in_savepoint(&names.sql(ROLES)).await? {
            Ok(rows) => rows,
            Err(_) => session.rows(&names.sql(ROLES_BY_RIGHTS)).await?,
        };
        names.roles = rows.into_iter().filter_map(cells).collect();
        Ok(Some(names))
    }

    /// Completes a query: `@trail@` is the oid of audit_logs, `@owner@` that of its owner, `@schema@` the quoted name
    /// of its schema, `@roles@` the oids of the roles with their parts.
    pub(in crate::doctor::postgres) fn sql(&self, text: &str) -> String {
        let owner = [self.owner_oid.clone(), "owner".to_owned()];
        let roles = self
            .roles
            .iter()
            .map(|[part, oid, _]| [oid.clone(), part.clone()]);
        let known: Vec<String> = std::iter::once(owner)
            .chain(roles)
            .map(|[oid, part]| format!("({oid}::oid, '{part}')"))
            .collect();
        text.replace("@trail@", &format!("{}::oid", self.trail))
            .replace("@owner@", &self.owner_oid)
            .replace("@roles@", &known.join(", "))
            .replace("@schema@", &self.schema)
    }

    /// Puts the names into a description. Objects of a role that does not exist are left out.
    pub(super) fn fill(&self, objects: Objects) -> Objects {
        let filled = objects.into_iter().map(|(key, attributes)| {
            let key = Key {
                relation: self.put(&key.relation),
                name: self.put(&key.name),
                ..key
            };
            let attributes = attributes
                .into_iter()
                .map(|(attribute, value)| (attribute, self.put(&value)));
            (key, attributes.collect())
        });
        filled
            .filter(
                |(key, attributes): &(Key, std::collections::BTreeMap<String, String>)| {
                    let unknown = |text: &String| {
                        ["@writer@", "@reader@", "@auditor@", "@maintainer@"]
                            .iter()
                            .any(|role| text.contains(role))
                    };
                    !unknown(&key.name) && !attributes.values().any(unknown)
                },
            )
            .collect()
    }

    fn put(&self, text: &str) -> String {
        self.placeholders()
            .iter()
            .fold(text.to_owned(), |text, (placeholder, name)| {
                text.replace(placeholder, name)
            })
    }

    /// Replaces the names by the placeholders.
    pub(super) fn replace(&self, text: &str) -> String {
        self.placeholders()
            .iter()
            .fold(text.to_owned(), |text, (placeholder, name)| {
                text.replace(name.as_str(), placeholder)
            })
    }

    fn placeholders(&self) -> Vec<(String, &String)> {
        let fixed = [
            ("@schema@".to_owned(), &self.schema),
            ("@owner@".to_owned(), &self.owner),
        ];
        let roles = self
            .roles
            .iter()
            .map(|[part, _, name]| (format!("@{part}@"), name));
        fixed.into_iter().chain(roles).collect()
    }

    /// The quoted name of the role with this part.
    pub(super) fn role(&self, part: &str) -> Option<&str> {
        let role = self.roles.iter().find(|[of, _, _]| of == part)?;
        Some(&role[2])
    }
}

fn first<const N: usize>(rows: Vec<Vec<Option<String>>>) -> Option<[String; N]> {
    rows.into_iter().next().and_then(cells)
}

fn cells<const N: usize>(row: Vec<Option<String>>) -> Option<[String; N]> {
    let cells: Vec<String> = row.into_iter().collect::<Option<_>>()?;
    cells.try_into().ok()
}
