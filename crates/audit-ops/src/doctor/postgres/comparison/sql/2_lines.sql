-- Months with the same description form a class: one of them is listed, and the names of all.
digests AS (
    SELECT month, md5(string_agg(md5(concat_ws(E'\t', kind, relation, name, attribute, value)), '' ORDER BY kind, relation, name, attribute, value)) AS digest
    FROM lines WHERE month <> 0 GROUP BY month),
classes AS (SELECT min(month) AS month, array_agg(month) AS months FROM digests GROUP BY digest)
SELECT l.month::text, l.kind, l.relation, l.name, l.attribute, l.value
FROM lines l LEFT JOIN classes c ON c.month = l.month WHERE l.month = 0 OR c.month IS NOT NULL
UNION ALL
SELECT c.month::text, 'months', '', m::regclass::text, '', '' FROM classes c, unnest(c.months) m
