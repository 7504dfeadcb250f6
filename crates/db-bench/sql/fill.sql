-- One month of a trail: $1 the month, counted back from this one, $2 its rows, $3 the rows of the
-- months before it. In chronological order, as a trail grows: 200 tenants, 20,000 actors, 100,000
-- resources, a request for each row. The ids are of version 7, from the time and number of the row.
INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, action, resource_type, resource_id, ip_address,
                        user_agent, request_id, metadata)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(nth % 4096), 3, '0')
        || '8' || lpad(to_hex(nth), 15, '0'))::uuid,
       at,
       'tenant-' || lpad((nth * 7 % 200)::text, 4, '0'),
       'user-' || lpad((nth * 7919 % 20000)::text, 8, '0'),
       'user',
       'document.read',
       'document',
       'doc-' || lpad((nth * 104729 % 100000)::text, 12, '0'),
       '10.0.0.1',
       'Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0',
       'req-' || lpad(nth::text, 16, '0'),
       jsonb_build_object('field', 'title', 'version', nth, 'reason', 'edited in the browser', 'trusted', true)
FROM (SELECT $3::bigint + one AS nth,
             date_trunc('month', now()) - make_interval(months => $1::int)
             + one * (least(now(), date_trunc('month', now()) - make_interval(months => $1::int) + interval '1 month')
                      - (date_trunc('month', now()) - make_interval(months => $1::int))) / $2::bigint AS at
      FROM generate_series(0, $2::bigint - 1) AS one) AS rows
