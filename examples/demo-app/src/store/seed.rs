//! The demonstration's tenants, users and skills.

use db_services::audit::{self, AuditEntry};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::schema::{skills, tenants, users};
use super::{Store, User, on};
use crate::actions::DEMO_SEED;
use crate::error::AppError;
use crate::secrets::hash_password;

/// Name, tenant, whether an administrator, password.
pub const DEMO_USERS: [(&str, &str, bool, &str); 4] = [
    ("alice", "acme", false, "alice's demo password"),
    ("bob", "acme", false, "bob's demo password"),
    ("carol", "acme", true, "carol's demo password"),
    ("dave", "globex", false, "dave's demo password"),
];

/// Id, name.
const TENANTS: [(&str, &str); 2] = [("acme", "Acme"), ("globex", "Globex")];

/// Id, tenant, owner, name, level.
const SKILLS: [(&str, &str, &str, &str, i32); 4] = [
    ("rust", "acme", "alice", "Rust", 4),
    ("postgres", "acme", "alice", "Postgres", 3),
    ("postgresql", "acme", "bob", "PostgreSQL", 5),
    ("cobol", "globex", "dave", "COBOL", 2),
];

impl Store {
    /// Fills an empty database.
    pub(super) async fn seed(&self) -> Result<(), AppError> {
        let count = users::table.count();
        if on!(self.database, |conn| count.get_result::<i64>(&mut conn).await?) > 0 {
            return Ok(());
        }
        let users = DEMO_USERS.map(|(name, tenant, is_admin, password)| {
            Ok::<_, AppError>(User {
                name: name.to_owned(),
                tenant_id: tenant.to_owned(),
                is_admin,
                password_hash: hash_password(password)?,
            })
        });
        let users = users.into_iter().collect::<Result<Vec<_>, _>>()?;
        on!(self.database, |conn| conn
            .transaction(async |conn| {
                for (id, name) in TENANTS {
                    let columns = (tenants::webhook_url.eq(""), tenants::webhook_secret.eq(""));
                    let tenant = (tenants::id.eq(id), tenants::name.eq(name), columns);
                    diesel::insert_into(tenants::table)
                        .values(tenant)
                        .execute(conn)
                        .await?;
                    let entry = AuditEntry::new(DEMO_SEED).actor("demo-app").actor_type("system");
                    audit::insert(conn, &entry.tenant(id).resource("tenant", id)).await?;
                }
                for user in &users {
                    diesel::insert_into(users::table)
                        .values(user)
                        .execute(conn)
                        .await?;
                }
                for (id, tenant, owner, name, level) in SKILLS {
                    let place = (skills::tenant_id.eq(tenant), skills::owner.eq(owner));
                    let skill = (
                        skills::id.eq(id),
                        place,
                        skills::name.eq(name),
                        skills::level.eq(level),
                    );
                    diesel::insert_into(skills::table)
                        .values(skill)
                        .execute(conn)
                        .await?;
                }
                Ok(())
            })
            .await)
    }
}
