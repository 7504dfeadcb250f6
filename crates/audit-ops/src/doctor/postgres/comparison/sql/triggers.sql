-- Triggers, except those of foreign keys. @table@ is the table's own name.
SELECT t.month, 'trigger', t.label, quote_ident(g.tgname), v.attribute, v.value
FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid LEFT JOIN pg_constraint k ON k.oid = g.tgconstraint
CROSS JOIN LATERAL (VALUES
    ('', replace(pg_get_triggerdef(g.oid), ' ON ' || t.oid::regclass::text || ' ', ' ON @table@ ')),
    ('enabled', CASE g.tgenabled WHEN 'A' THEN 'always' WHEN 'O' THEN 'disabled in replica mode' WHEN 'R' THEN 'disabled except in replica mode' ELSE 'disabled' END),
    ('cloned', CASE WHEN g.tgparentid <> 0 THEN 'yes' END)
) v (attribute, value)
WHERE v.value IS NOT NULL AND coalesce(k.contype, 't') = 't'
UNION ALL
SELECT t.month, 'rule', t.label, quote_ident(r.rulename), '', replace(pg_get_ruledef(r.oid), t.oid::regclass::text, '@table@')
FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid
WHERE t.relkind IN ('r', 'p', 'f')
