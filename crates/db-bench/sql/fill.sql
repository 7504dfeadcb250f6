-- Rows of a trail: $1 the time of the first, $2 the time after the last, $3 how many, $4 the number of the first. In
-- chronological order, as a trail grows: one tenant with a tenth of the rows, one with a fifteenth, 200 others; an actor
-- with a tenth, which the first tenant never sees, and 20,000 others; 100,000 resources; a request for each row. The ids
-- are of version 7, from the time and number of the row.
INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, action, resource_type, resource_id, ip_address,
                        user_agent, request_id, metadata)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(nth % 4096), 3, '0')
        || '8' || lpad(to_hex(nth), 15, '0'))::uuid,
       at,
       'tenant-' || lpad(CASE WHEN nth % 10 = 0 THEN 0 WHEN nth % 15 = 1 THEN 1
                              ELSE (hashint8(nth) & 1048575) % 200 END::text, 4, '0'),
       CASE WHEN nth % 10 = 3 THEN 'user-frequent'
            ELSE 'user-' || lpad((nth * 7919 % 20000)::text, 8, '0') END,
       'user',
       (ARRAY['document.read', 'document.update', 'auth.login', 'settings.update'])[1 + (hashint8(nth + 3) & 1023) % 4],
       'document',
       'doc-' || lpad((nth * 104729 % 100000)::text, 12, '0'),
       '10.0.0.1',
       'Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0',
       'req-' || lpad(nth::text, 16, '0'),
       jsonb_build_object('field', 'title', 'version', nth, 'reason', 'edited in the browser', 'trusted', true)
FROM (SELECT $4::bigint + one AS nth, $1::timestamptz + one * (($2::timestamptz - $1::timestamptz) / $3::bigint) AS at
      FROM generate_series(0, $3::bigint - 1) AS one) AS rows
