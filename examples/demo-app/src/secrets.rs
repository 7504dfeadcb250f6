//! Passwords, random tokens, and the time.

use std::time::{SystemTime, UNIX_EPOCH};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::error::AppError;

/// Takes the time of a real hash when there is no user, so that the time of the answer does not tell at once who has an
/// account. Counting a failure still takes longer than nothing: many measurements may tell it.
const NO_PASSWORD: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes a password with Argon2id.
pub(crate) fn hash_password(password: &str) -> Result<String, AppError> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(AppError::Password)?.to_string())
}

/// Each check takes 19 MiB of memory: a crowd of sign-ins waits.
static AT_ONCE: Semaphore = Semaphore::const_new(8);

/// True if the password is the one that was hashed. Without a hash it is false, after the same time.
pub(crate) async fn is_password(password: String, hash: Option<String>) -> Result<bool, AppError> {
    // An error: the semaphore is closed, which never happens.
    let _permit = AT_ONCE.acquire().await;
    let is_right = tokio::task::spawn_blocking(move || {
        let text = hash.as_deref().unwrap_or(NO_PASSWORD);
        let parsed = PasswordHash::new(text).map_err(AppError::PasswordHash)?;
        let is_right = Argon2::default()
            .verify_password(password.as_bytes(), &parsed)
            .is_ok();
        Ok::<_, AppError>(is_right && hash.is_some())
    });
    is_right.await?
}

/// 122 random bits from the operating system, for sessions and API keys.
pub(crate) fn new_token() -> String {
    Uuid::new_v4().simple().to_string()
}

/// An identifier that sorts by its time.
pub(crate) fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// What is stored of a token. It is random, so that a fast hash suffices.
pub(crate) fn digest(token: &str) -> String {
    Sha256::digest(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
