-- Entries of the ledger and holds that are dated in the future.
SELECT tableoid::regclass::text, id::text, done_at::text FROM @schema@.audit_retention_ledger WHERE done_at > clock_timestamp() + interval '10 minutes'
UNION ALL
SELECT tableoid::regclass::text, id::text, created_at::text FROM @schema@.audit_legal_holds WHERE created_at > clock_timestamp() + interval '10 minutes'
