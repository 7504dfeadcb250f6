-- Every partition must refuse UPDATE, DELETE and TRUNCATE, also in replica mode, and so must the tables of retention.
-- tgtype: 1 for each row, 2 before, 8 delete, 16 update, 32 truncate.
WITH guarded AS (
         SELECT relid::oid AS rel, 'audit_logs_append_only' AS row_name, 'audit_logs_no_truncate' AS whole_name FROM pg_partition_tree('audit_logs')
         UNION ALL
         SELECT oid, 'audit_append_only', 'audit_no_truncate' FROM pg_class
         WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'audit_logs'::regclass)
           AND relname IN ('audit_legal_holds', 'audit_retention_ledger', 'audit_retention_writers', 'audit_retention_declarations')),
     wanted AS (
         SELECT rel, row_name AS name, 'UPDATE' AS event, 19 AS bits, 'UPDATE OR DELETE ON %s FOR EACH ROW' AS body FROM guarded
         UNION ALL SELECT rel, row_name, 'DELETE', 11, 'UPDATE OR DELETE ON %s FOR EACH ROW' FROM guarded
         UNION ALL SELECT rel, whole_name, 'TRUNCATE', 34, 'TRUNCATE ON %s FOR EACH STATEMENT' FROM guarded),
     found AS (
         SELECT w.*, t.tgname, t.tgenabled
         FROM wanted w LEFT JOIN LATERAL (
             SELECT tgname, tgenabled FROM pg_trigger
             WHERE tgrelid = w.rel AND tgfoid = to_regprocedure('audit_logs_refuse_change()') AND tgtype & 3 = w.bits & 3 AND tgtype & w.bits = w.bits AND tgqual IS NULL AND tgattr::text = ''
             ORDER BY tgenabled = 'A' DESC, tgenabled = 'O' DESC LIMIT 1) t ON true),
     -- A row trigger that is created on audit_logs is cloned to the partitions.
     inspected AS (
         SELECT h.*, h.rel <> 'audit_logs'::regclass AND EXISTS (
             SELECT FROM found t WHERE t.rel = 'audit_logs'::regclass AND t.bits = h.bits AND t.tgname IS NULL) AS inherited
         FROM found h),
     faulty AS (
         SELECT rel, string_agg(event, ', ' ORDER BY bits) AS events,
                CASE WHEN bool_or(tgname IS NULL) THEN 'missing' WHEN bool_or(tgenabled IN ('D', 'R')) THEN 'off' ELSE 'origin_only' END AS state,
                string_agg(DISTINCT CASE
                    WHEN tgname IS NULL AND (bits = 34 OR NOT inherited) THEN
                        format(E'CREATE OR REPLACE TRIGGER %I BEFORE %s EXECUTE FUNCTION audit_logs_refuse_change();\nALTER TABLE %s ENABLE ALWAYS TRIGGER %I;',
                               name, format(body, rel::regclass), rel::regclass, name)
                    ELSE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', rel::regclass, coalesce(tgname, name)) END, E'\n') AS remedy
         FROM inspected WHERE tgenabled IS DISTINCT FROM 'A' GROUP BY rel)
SELECT CASE state WHEN 'origin_only' THEN 'warning' ELSE 'critical' END,
       CASE state WHEN 'missing' THEN format('nothing refuses %s on %s', events, string_agg(rel::regclass::text, ', ' ORDER BY rel::regclass::text))
                  WHEN 'off' THEN format('the trigger against %s is disabled on %s', events, string_agg(rel::regclass::text, ', ' ORDER BY rel::regclass::text))
                  ELSE format('the trigger against %s is disabled in replica mode on %s', events, string_agg(rel::regclass::text, ', ' ORDER BY rel::regclass::text)) END,
       string_agg(remedy, E'\n' ORDER BY rel::regclass::text)
FROM faulty GROUP BY state, events
