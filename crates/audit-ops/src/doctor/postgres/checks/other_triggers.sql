-- The trail must have no other triggers or rules: a trigger can change or drop a new row, a rule can suppress an INSERT.
WITH parts AS (SELECT relid FROM pg_partition_tree('audit_logs'))
SELECT CASE WHEN t.tgtype & 6 = 6 AND t.tgenabled <> 'D' THEN 'critical' ELSE 'warning' END,
       format('the trigger %s on %s runs %s%s', t.tgname, string_agg(t.tgrelid::regclass::text, ', ' ORDER BY t.tgrelid::regclass::text), t.tgfoid::regprocedure,
              CASE WHEN t.tgtype & 6 = 6 THEN ' before a row is stored, and can change or drop it' ELSE '' END),
       string_agg(format('DROP TRIGGER %I ON %s;', t.tgname, t.tgrelid::regclass), E'\n' ORDER BY t.tgrelid::regclass::text) FILTER (WHERE t.tgparentid = 0)
FROM parts JOIN pg_trigger t ON t.tgrelid = parts.relid
WHERE NOT t.tgisinternal AND t.tgfoid NOT IN (SELECT oid FROM pg_proc WHERE proname IN ('audit_logs_refuse_change', 'audit_logs_check_moved')
                                                AND pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'audit_logs'::regclass))
GROUP BY t.tgname, t.tgfoid, t.tgtype, t.tgenabled
UNION ALL
SELECT 'critical', format('the rule %s on %s rewrites statements', r.rulename, r.ev_class::regclass), format('DROP RULE %I ON %s;', r.rulename, r.ev_class::regclass)
FROM parts JOIN pg_rewrite r ON r.ev_class = parts.relid
