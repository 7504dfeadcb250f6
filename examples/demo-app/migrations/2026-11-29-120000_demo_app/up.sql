-- The application's own tables, for PostgreSQL and SQLite alike. Identifiers are UUIDs as text, times are seconds
-- since 1970.

CREATE TABLE tenants (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    webhook_url TEXT NOT NULL,
    webhook_secret TEXT NOT NULL
);

CREATE TABLE users (
    name TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    is_admin BOOLEAN NOT NULL,
    password_hash TEXT NOT NULL,
    failed_sign_ins INTEGER NOT NULL DEFAULT 0,
    locked_until BIGINT NOT NULL DEFAULT 0
);

-- `digest` is the SHA-256 of the cookie: a reader of this table cannot use the sessions.
CREATE TABLE sessions (
    digest TEXT PRIMARY KEY NOT NULL,
    user_name TEXT NOT NULL REFERENCES users (name),
    expires_at BIGINT NOT NULL
);

CREATE TABLE skills (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    owner TEXT NOT NULL REFERENCES users (name),
    name TEXT NOT NULL,
    level INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    owner TEXT NOT NULL REFERENCES users (name),
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE
);
