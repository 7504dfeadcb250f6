-- The objects of the trail, for the queries that follow. @trail@ is the oid of audit_logs, @owner@ that of its owner,
-- @roles@ those of its roles with their parts, @tables@ a condition for the names of its tables. Only pg_catalog is in the search_path: the server qualifies all other names.
WITH RECURSIVE trail AS (
    SELECT c.oid, c.relnamespace, @owner@::oid AS owner, quote_ident(n.nspname) AS schema
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = @trail@),
known (oid, part) AS (VALUES @roles@),
partitions AS (
    SELECT i.inhrelid AS oid, p.partdefid = i.inhrelid AS is_default, i.inhdetachpending
    FROM pg_inherits i JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
    WHERE i.inhparent = @trail@),
-- A partition of a month is described as @month@, so that all months have the same description.
tables AS (
    SELECT c.*, CASE WHEN p.is_default IS FALSE THEN c.oid ELSE 0 END AS month,
           CASE WHEN p.is_default IS FALSE THEN '@month@' ELSE c.oid::regclass::text END AS label,
           p.oid IS NOT NULL AS in_trail, p.is_default, p.inhdetachpending
    FROM pg_class c CROSS JOIN trail LEFT JOIN partitions p ON p.oid = c.oid
    WHERE p.oid IS NOT NULL
       OR c.relnamespace = trail.relnamespace AND c.relkind IN ('r', 'p', 'f') AND @tables@),
functions AS (
    SELECT p.*, p.oid::regprocedure::text AS label
    FROM pg_proc p CROSS JOIN trail JOIN pg_roles o ON o.oid = trail.owner
    WHERE p.pronamespace = trail.relnamespace AND p.proname LIKE 'audit!_%' ESCAPE '!'
       -- A function of the owner that runs with its rights may do the same as the functions of the trail.
       OR p.prosecdef AND p.proowner = trail.owner AND NOT o.rolsuper
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')),
grantee AS (
    SELECT oid, quote_ident(rolname) AS name FROM pg_roles UNION ALL SELECT 0, 'PUBLIC'),
-- Who is a member of one of the trail's roles, through any number of others.
members AS (
    SELECT m.member AS oid FROM pg_auth_members m JOIN known ON known.oid = m.roleid
    UNION
    SELECT m.member FROM pg_auth_members m JOIN members ON members.oid = m.roleid),
