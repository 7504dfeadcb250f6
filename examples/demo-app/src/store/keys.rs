//! API keys.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::{api_keys, users};
use super::{ApiKey, Store, User, on};
use crate::error::AppError;
use crate::secrets::digest;

impl Store {
    pub(crate) async fn api_keys(&self, tenant: &str) -> Result<Vec<ApiKey>, AppError> {
        let rows = api_keys::table
            .filter(api_keys::tenant_id.eq(tenant))
            .order(api_keys::name);
        Ok(on!(self.database, |conn| rows
            .select(ApiKey::as_select())
            .load(&mut conn)
            .await?))
    }

    pub(crate) async fn create_api_key(
        &self,
        owner: &User,
        id: &str,
        name: &str,
        key: &str,
    ) -> Result<(), AppError> {
        let row = (
            api_keys::id.eq(id),
            api_keys::tenant_id.eq(&owner.tenant_id),
            api_keys::owner.eq(&owner.name),
            api_keys::name.eq(name),
            api_keys::digest.eq(digest(key)),
        );
        let insert = diesel::insert_into(api_keys::table).values(row);
        on!(self.database, |conn| insert.execute(&mut conn).await)?;
        Ok(())
    }

    pub(crate) async fn find_api_key(&self, tenant: &str, id: &str) -> Result<ApiKey, AppError> {
        let row = api_keys::table.find(id).filter(api_keys::tenant_id.eq(tenant));
        Ok(on!(self.database, |conn| row
            .select(ApiKey::as_select())
            .first(&mut conn)
            .await?))
    }

    pub(crate) async fn revoke_api_key(&self, tenant: &str, id: &str) -> Result<(), AppError> {
        let row = api_keys::table
            .filter(api_keys::id.eq(id))
            .filter(api_keys::tenant_id.eq(tenant));
        match on!(self.database, |conn| diesel::delete(row).execute(&mut conn).await)? {
            0 => Err(AppError::NotFound),
            _ => Ok(()),
        }
    }

    /// The key with this secret, and its owner.
    pub(crate) async fn api_key(&self, key: &str) -> Result<Option<(ApiKey, User)>, AppError> {
        let row = api_keys::table
            .inner_join(users::table)
            .filter(api_keys::digest.eq(digest(key)));
        Ok(on!(self.database, |conn| row
            .select((ApiKey::as_select(), User::as_select()))
            .first(&mut conn)
            .await
            .optional()?))
    }
}
