-- Reading the trail is recorded in the trail: by a function, because a login that may only read cannot insert.
SET LOCAL lock_timeout = '2s';

SET LOCAL check_function_bodies = off;

-- Records that the trail was read. The actor is the login of the session, the address that of its client, and the action
-- one of two: a caller can neither forge another reader nor any other entry. What it says about the query, the rows and the
-- person on whose behalf it reads is its own statement, and bounded.
--
-- A login that row security limits to one tenant leaves a record of that tenant, which the tenant's readers see. One that
-- sees every row leaves a record without a tenant, whichever tenant it asks for: an investigation is not announced.
CREATE FUNCTION audit_record_reading(action text, query text, rows_returned bigint, on_behalf_of text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    sees_all constant boolean := pg_has_role(session_user, current_user, 'USAGE') OR EXISTS (
        SELECT FROM @schema@.audit_roles a
        WHERE a.kind = 'auditor' AND pg_has_role(session_user, a.role::oid, 'USAGE'));
BEGIN
    IF action IS NULL OR action NOT IN ('audit.viewed', 'audit.exported') THEN
        RAISE EXCEPTION 'audit_record_reading: the action is % instead of audit.viewed or audit.exported',
            coalesce(quote_literal(left(action, 100)), 'null')
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO @schema@.audit_logs
        (tenant_id, actor_id, on_behalf_of, action, resource_type, ip_address, metadata)
    VALUES (
        CASE WHEN NOT sees_all THEN left(nullif(current_setting('audit.tenant_id', true), ''), 256) END,
        session_user, left(on_behalf_of, 256), action, 'audit_trail', inet_client_addr(),
        jsonb_strip_nulls(jsonb_build_object('query', left(query, 4096), 'rows', rows_returned)));
END
$$;

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', 'audit_record_reading(text, text, bigint, text)'::regprocedure);

DO $do$ BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_record_reading(text, text, bigint, text) TO %I, %I',
                   audit_role('reader'), audit_role('auditor'));
END $do$;

COMMENT ON FUNCTION audit_record_reading(text, text, bigint, text) IS
    'Records audit.viewed or audit.exported: who has read the trail, with which query, how many rows.';
