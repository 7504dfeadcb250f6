//! Skills.

use db_services::audit::{self, AuditEntry};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::schema::skills;
use super::{Skill, Store, on};
use crate::error::AppError;

impl Store {
    pub(crate) async fn skills(&self, tenant: &str) -> Result<Vec<Skill>, AppError> {
        let rows = skills::table
            .filter(skills::tenant_id.eq(tenant))
            .order(skills::name);
        Ok(on!(self.database, |conn| rows
            .select(Skill::as_select())
            .load(&mut conn)
            .await?))
    }

    pub(crate) async fn skill(&self, tenant: &str, id: &str) -> Result<Skill, AppError> {
        let row = skills::table.find(id).filter(skills::tenant_id.eq(tenant));
        Ok(on!(self.database, |conn| row
            .select(Skill::as_select())
            .first(&mut conn)
            .await?))
    }

    pub(crate) async fn create_skill(&self, new: &Skill) -> Result<(), AppError> {
        let insert = diesel::insert_into(skills::table).values(new);
        on!(self.database, |conn| insert.execute(&mut conn).await)?;
        Ok(())
    }

    /// Changes a skill. Returns it as it was and as it is.
    pub(crate) async fn update_skill(
        &self,
        tenant: &str,
        id: &str,
        name: &str,
        level: i32,
    ) -> Result<(Skill, Skill), AppError> {
        let row = skills::table
            .filter(skills::id.eq(id))
            .filter(skills::tenant_id.eq(tenant));
        on!(self.database, |conn| conn
            .transaction(async |conn| {
                // Locks the row, as in `update_tenant`.
                let before = diesel::update(row)
                    .set(skills::level.eq(skills::level))
                    .returning(Skill::as_returning())
                    .get_result(conn)
                    .await?;
                let after = diesel::update(row)
                    .set((skills::name.eq(name), skills::level.eq(level)))
                    .returning(Skill::as_returning())
                    .get_result(conn)
                    .await?;
                Ok((before, after))
            })
            .await)
    }

    /// Deletes a skill. Returns it as it was.
    pub(crate) async fn delete_skill(&self, tenant: &str, id: &str) -> Result<Skill, AppError> {
        let row = skills::table
            .filter(skills::id.eq(id))
            .filter(skills::tenant_id.eq(tenant));
        Ok(on!(self.database, |conn| diesel::delete(row)
            .returning(Skill::as_returning())
            .get_result(&mut conn)
            .await?))
    }

    /// Deletes one skill and gives the other one the higher level of both. The entry is part of the transaction:
    /// there is no merge without its record, and no record without its merge.
    pub(crate) async fn merge_skills(
        &self,
        tenant: &str,
        from: &str,
        into: &str,
        entry: AuditEntry,
    ) -> Result<(), AppError> {
        let row = |id| {
            skills::table
                .filter(skills::id.eq(id))
                .filter(skills::tenant_id.eq(tenant))
        };
        on!(self.database, |conn| conn
            .transaction(async |conn| {
                let merged = diesel::delete(row(from))
                    .returning(Skill::as_returning())
                    .get_result(conn)
                    .await?;
                // Locks the row, as in `update_tenant`: a change of it that is under way ends before.
                let before = diesel::update(row(into))
                    .set(skills::level.eq(skills::level))
                    .returning(Skill::as_returning())
                    .get_result(conn)
                    .await?;
                let after = diesel::update(row(into))
                    .set(skills::level.eq(before.level.max(merged.level)))
                    .returning(Skill::as_returning())
                    .get_result(conn)
                    .await?;
                let entry = entry.detail("merged_name", merged.name).changes(&before, &after);
                audit::insert(conn, &entry).await?;
                Ok(())
            })
            .await)
    }
}
