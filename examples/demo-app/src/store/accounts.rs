//! Users, their sessions and the lock-out; the settings of a tenant.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::schema::{sessions, tenants, users};
use super::{NewSettings, Store, Tenant, User, on};
use crate::error::AppError;
use crate::secrets::{digest, now};

/// The number of failures in a row that locks an account.
pub const MAX_FAILURES: i32 = 5;
const LOCKED_SECONDS: i64 = 15 * 60;
const SESSION_SECONDS: i64 = 8 * 60 * 60;

/// What an attempt to sign in did to the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignIn {
    /// A session began.
    Began,
    /// There is no such user, or the password is wrong and the failure was counted.
    Failed,
    /// The failure was counted, and locked the account.
    LockedNow,
    /// The account is locked: the attempt changes nothing.
    Locked,
}

impl Store {
    pub(crate) async fn user(&self, name: &str) -> Result<Option<User>, AppError> {
        let user = users::table.find(name);
        Ok(on!(self.database, |conn| user
            .select(User::as_select())
            .first(&mut conn)
            .await
            .optional()?))
    }

    /// Begins a session, unless the account is locked. Attempts that are made at once cannot evade the lock: the
    /// condition is part of the statement.
    pub(crate) async fn begin_session(&self, user: &str, token: &str) -> Result<SignIn, AppError> {
        let now = now();
        let open = users::table
            .filter(users::name.eq(user))
            .filter(users::locked_until.le(now));
        on!(self.database, |conn| conn
            .transaction(async |conn| {
                let found = diesel::update(open)
                    .set(users::failed_sign_ins.eq(0))
                    .execute(conn)
                    .await?;
                if found == 0 {
                    return Ok(SignIn::Locked);
                }
                diesel::delete(sessions::table.filter(sessions::expires_at.le(now)))
                    .execute(conn)
                    .await?;
                let session = (
                    sessions::digest.eq(digest(token)),
                    sessions::user_name.eq(user),
                    sessions::expires_at.eq(now + SESSION_SECONDS),
                );
                diesel::insert_into(sessions::table)
                    .values(session)
                    .execute(conn)
                    .await?;
                Ok(SignIn::Began)
            })
            .await)
    }

    /// Counts a wrong password, and locks the account when there are too many.
    pub(crate) async fn count_failure(&self, user: &str) -> Result<SignIn, AppError> {
        let now = now();
        let open = users::table
            .filter(users::name.eq(user))
            .filter(users::locked_until.le(now));
        on!(self.database, |conn| conn
            .transaction(async |conn| {
                let count = diesel::update(open)
                    .set(users::failed_sign_ins.eq(users::failed_sign_ins + 1))
                    .returning(users::failed_sign_ins)
                    .get_result::<i32>(conn)
                    .await
                    .optional()?;
                match count {
                    None => Ok(SignIn::Locked),
                    Some(count) if count < MAX_FAILURES => Ok(SignIn::Failed),
                    Some(_) => {
                        let lock = (
                            users::failed_sign_ins.eq(0),
                            users::locked_until.eq(now + LOCKED_SECONDS),
                        );
                        diesel::update(users::table.find(user))
                            .set(lock)
                            .execute(conn)
                            .await?;
                        Ok(SignIn::LockedNow)
                    }
                }
            })
            .await)
    }

    /// The user of a session that has not expired.
    pub(crate) async fn session(&self, token: &str) -> Result<Option<User>, AppError> {
        let user = sessions::table
            .inner_join(users::table)
            .filter(sessions::digest.eq(digest(token)))
            .filter(sessions::expires_at.gt(now()));
        Ok(on!(self.database, |conn| user
            .select(User::as_select())
            .first(&mut conn)
            .await
            .optional()?))
    }

    /// Ends a session. One of several requests that end it at once finds it.
    pub(crate) async fn end_session(&self, token: &str) -> Result<(), AppError> {
        let session = sessions::table.find(digest(token));
        let ended = on!(self.database, |conn| diesel::delete(session)
            .execute(&mut conn)
            .await)?;
        match ended {
            0 => Err(AppError::NotFound),
            _ => Ok(()),
        }
    }

    pub(crate) async fn tenant(&self, id: &str) -> Result<Tenant, AppError> {
        let tenant = tenants::table.find(id);
        Ok(on!(self.database, |conn| tenant
            .select(Tenant::as_select())
            .first(&mut conn)
            .await?))
    }

    /// Changes the settings. Returns them as they were and as they are.
    pub(crate) async fn update_tenant(
        &self,
        id: &str,
        new: &NewSettings,
    ) -> Result<(Tenant, Tenant), AppError> {
        let row = tenants::table.find(id);
        on!(self.database, |conn| conn
            .transaction(async |conn| {
                // Locks the row, and changes nothing. A transaction that begins with SELECT could fail on SQLite when
                // it writes: somebody else may have written meanwhile.
                let before = diesel::update(row)
                    .set(tenants::name.eq(tenants::name))
                    .returning(Tenant::as_returning())
                    .get_result(conn)
                    .await?;
                let after = diesel::update(row)
                    .set(new)
                    .returning(Tenant::as_returning())
                    .get_result(conn)
                    .await?;
                Ok((before, after))
            })
            .await)
    }
}
