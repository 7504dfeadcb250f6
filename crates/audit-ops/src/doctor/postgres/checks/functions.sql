-- Functions that run with the owner's rights must use pg_catalog alone, belong to the owner, and not be executable by everybody.
WITH trail AS (SELECT relowner, relnamespace FROM pg_class WHERE oid = 'audit_logs'::regclass),
     ours AS (
         SELECT p.*, p.oid::regprocedure AS signature, trail.relowner FROM pg_proc p, trail
         WHERE p.pronamespace = trail.relnamespace AND p.proname LIKE 'audit!_%' ESCAPE '!' AND p.prokind = 'f')
SELECT 'critical', format('%s runs with the rights of %s, but resolves names in the caller''s search_path', signature, pg_get_userbyid(proowner)),
       format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp;', signature)
FROM ours WHERE prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)
UNION ALL
SELECT 'critical', format('%s belongs to %s, not to the table''s owner', signature, pg_get_userbyid(proowner)), format('ALTER FUNCTION %s OWNER TO %I;', signature, pg_get_userbyid(relowner))
FROM ours WHERE proowner <> relowner
UNION ALL
SELECT CASE WHEN proname ~ '^audit_logs_(create_partition|ensure_partitions|index_closed_months)$' THEN 'warning' ELSE 'critical' END,
       format('everybody may execute %s, which has the owner''s rights', signature), format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', signature)
FROM ours
WHERE prosecdef AND prorettype <> 'trigger'::regtype
  AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE')
UNION ALL
SELECT 'warning', format('%s runs with the rights of its caller, which are not sufficient', signature), format('ALTER FUNCTION %s SECURITY DEFINER;', signature)
FROM ours WHERE NOT prosecdef AND proname IN ('audit_logs_create_partition', 'audit_logs_create_upcoming_partition', 'audit_logs_index_closed_months')
