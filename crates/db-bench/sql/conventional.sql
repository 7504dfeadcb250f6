-- A conventional audit table: a primary key and a b-tree index for each query.
CREATE TABLE audit_events (
    id            uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    tenant_id     text,
    actor_id      text,
    actor_type    text,
    action        text        NOT NULL,
    outcome       text        NOT NULL DEFAULT 'success',
    resource_type text,
    resource_id   text,
    ip_address    inet,
    user_agent    text,
    request_id    text,
    metadata      jsonb       DEFAULT '{}'
);
CREATE INDEX audit_events_tenant ON audit_events (tenant_id, created_at);
CREATE INDEX audit_events_actor ON audit_events (actor_id, created_at);
CREATE INDEX audit_events_resource ON audit_events (resource_type, resource_id);
