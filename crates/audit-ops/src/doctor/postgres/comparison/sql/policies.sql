-- Policies. Their expressions need a lock on the table.
SELECT t.month, 'policy', t.label, quote_ident(p.polname), '',
       format('%s FOR %s TO %s', CASE WHEN p.polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END,
              CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
              (SELECT string_agg(coalesce(g.name, r::text), ', ' ORDER BY g.name) FROM unnest(p.polroles) r LEFT JOIN grantee g ON g.oid = r))
           || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '') || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
FROM tables t JOIN pg_policy p ON p.polrelid = t.oid
