//! The application's tables.
//!
//! Plain types that PostgreSQL and SQLite share, so one table serves both.

diesel::table! {
    tenants (id) {
        id -> Text,
        name -> Text,
        webhook_url -> Text,
        webhook_secret -> Text,
    }
}

diesel::table! {
    users (name) {
        name -> Text,
        tenant_id -> Text,
        is_admin -> Bool,
        password_hash -> Text,
        failed_sign_ins -> Integer,
        locked_until -> BigInt,
    }
}

diesel::table! {
    sessions (digest) {
        digest -> Text,
        user_name -> Text,
        expires_at -> BigInt,
    }
}

diesel::table! {
    skills (id) {
        id -> Text,
        tenant_id -> Text,
        owner -> Text,
        name -> Text,
        level -> Integer,
    }
}

diesel::table! {
    api_keys (id) {
        id -> Text,
        tenant_id -> Text,
        owner -> Text,
        name -> Text,
        digest -> Text,
    }
}

diesel::joinable!(sessions -> users (user_name));
diesel::joinable!(api_keys -> users (owner));
diesel::allow_tables_to_appear_in_same_query!(sessions, users, api_keys);
