-- The server must require encryption and authentication. Only superusers may read these rules.
WITH rules AS (
         SELECT line_number, type, auth_method, type LIKE 'host%' AND coalesce(address, '') NOT IN ('127.0.0.1', '::1', 'samehost', 'localhost') AS from_outside
         FROM pg_hba_file_rules WHERE error IS NULL)
SELECT 'critical', format('pg_hba.conf admits anybody on the network without a password (line %s)', string_agg(line_number::text, ', ' ORDER BY line_number)), '-- in pg_hba.conf: hostssl and scram-sha-256 instead of trust; then SELECT pg_reload_conf();'
FROM rules WHERE from_outside AND auth_method = 'trust' HAVING count(*) > 0
UNION ALL
SELECT 'warning', format('pg_hba.conf admits unencrypted connections (line %s)', string_agg(line_number::text, ', ' ORDER BY line_number)), '-- in pg_hba.conf: hostssl instead of host; then SELECT pg_reload_conf();'
FROM rules WHERE from_outside AND type IN ('host', 'hostnossl') AND auth_method NOT IN ('reject', 'trust') HAVING count(*) > 0
UNION ALL
SELECT 'warning', format('pg_hba.conf admits anybody on this machine without a password (line %s)', string_agg(line_number::text, ', ' ORDER BY line_number)), '-- in pg_hba.conf: peer or scram-sha-256 instead of trust; then SELECT pg_reload_conf();'
FROM rules WHERE NOT from_outside AND auth_method = 'trust' HAVING count(*) > 0
UNION ALL
SELECT 'warning', format('pg_hba.conf permits passwords in clear text or as MD5 (line %s)', string_agg(line_number::text, ', ' ORDER BY line_number)), '-- in pg_hba.conf: scram-sha-256; then SELECT pg_reload_conf();'
FROM rules WHERE auth_method IN ('password', 'md5') HAVING count(*) > 0
