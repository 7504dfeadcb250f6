-- How long rows are kept: stray rows are moved into months, whole months are dropped, legal holds
-- forbid it, and a ledger tells what was dropped. docs/decisions/0011-retention.md has the reasons.

-- Rather fail than let every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

CREATE TABLE audit_legal_holds (
    id        bigint      PRIMARY KEY,
    releases  bigint      UNIQUE REFERENCES audit_legal_holds (id),
    tenant_id text,
    from_time timestamptz,
    to_time   timestamptz,
    reason    text        NOT NULL CHECK (reason ~ '\S'),
    made_by   name        NOT NULL DEFAULT session_user,
    made_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (from_time < to_time),
    CHECK (releases IS NULL OR (tenant_id IS NULL AND from_time IS NULL AND to_time IS NULL))
);
COMMENT ON TABLE audit_legal_holds IS 'What must not be dropped, whatever its age. Append-only: a hold is a row, its release a further one.';
COMMENT ON COLUMN audit_legal_holds.id IS 'Counted from 1 without gaps.';
COMMENT ON COLUMN audit_legal_holds.releases IS 'The hold that this row ends; null in a row that begins one.';
COMMENT ON COLUMN audit_legal_holds.tenant_id IS 'Whose rows are held; null: everybody''s.';
COMMENT ON COLUMN audit_legal_holds.from_time IS 'Rows from this created_at on are held; null: from the first.';
COMMENT ON COLUMN audit_legal_holds.to_time IS 'Rows before this created_at are held; null: up to the last.';
COMMENT ON COLUMN audit_legal_holds.made_by IS 'The user who logged in, whatever role was taken since.';

CREATE TABLE audit_retention_ledger (
    id             bigint      PRIMARY KEY,
    event          text        NOT NULL CHECK (event IN ('dropped', 'restored')),
    month          text        NOT NULL,
    from_time      timestamptz NOT NULL,
    to_time        timestamptz NOT NULL,
    row_count      bigint      NOT NULL,
    digest         bytea       NOT NULL CHECK (octet_length(digest) = 32),
    archive        text,
    archive_sha256 bytea,
    keep_months    integer,
    forced         boolean     NOT NULL DEFAULT false,
    reason         text        NOT NULL CHECK (reason ~ '\S'),
    done_by        name        NOT NULL DEFAULT session_user,
    done_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE audit_retention_ledger IS 'Which months were dropped from audit_logs, or restored. Append-only.';
COMMENT ON COLUMN audit_retention_ledger.id IS 'Counted from 1 without gaps.';
COMMENT ON COLUMN audit_retention_ledger.row_count IS 'How many rows there were.';
COMMENT ON COLUMN audit_retention_ledger.digest IS 'What audit_logs_digest(from_time, to_time) gave for them.';
COMMENT ON COLUMN audit_retention_ledger.archive IS 'The name of the archive file, as the client gave it; its content had this digest.';
COMMENT ON COLUMN audit_retention_ledger.archive_sha256 IS 'The SHA-256 of that file, as the client gave it.';
COMMENT ON COLUMN audit_retention_ledger.keep_months IS 'How many months were to be kept.';
COMMENT ON COLUMN audit_retention_ledger.forced IS 'True if fewer than twelve months were to be kept, or the clock was trusted against the rows.';
COMMENT ON COLUMN audit_retention_ledger.done_by IS 'The user who logged in, whatever role was taken since.';

CREATE TABLE audit_retention_writers (
    entry     bigint NOT NULL REFERENCES audit_retention_ledger (id),
    writer_id uuid   NOT NULL,
    row_count bigint NOT NULL,
    numbers   int8multirange NOT NULL,
    PRIMARY KEY (entry, writer_id)
);
COMMENT ON TABLE audit_retention_writers IS 'Which writers'' entries went with a dropped month. Append-only.';
COMMENT ON COLUMN audit_retention_writers.row_count IS 'How many rows; more than there are numbers if several rows claimed one.';
COMMENT ON COLUMN audit_retention_writers.numbers IS 'Their writer_seq.';

CREATE TABLE audit_retention_declarations (
    entry     bigint NOT NULL REFERENCES audit_retention_ledger (id),
    writer_id uuid   NOT NULL,
    action    text   NOT NULL,
    metadata  jsonb  NOT NULL
);
CREATE INDEX audit_retention_declarations_entry ON audit_retention_declarations (entry);
COMMENT ON TABLE audit_retention_declarations IS 'What writers had said about themselves in dropped months: losses they declared stay declared. Append-only.';

-- What follows runs with the owner's rights, and so looks nowhere but in pg_catalog; its own things are
-- named with @schema@. row_security = off: a query that a policy would cut fails instead.
DO $do$
DECLARE
    home constant text := quote_ident(current_schema());
BEGIN
EXECUTE replace($sql$

-- As the first migration has it, with one exception: a row may leave the default partition if it has
-- just been copied, to the bit, into the table that is about to become its month's partition
-- (audit_logs_adopt_month). audit_logs_demand_moved() sees to it that it does become one.
CREATE OR REPLACE FUNCTION @schema@.audit_logs_refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    copied boolean := false;
BEGIN
    IF TG_OP = 'DELETE' AND TG_RELID = (SELECT partdefid FROM pg_partitioned_table WHERE partrelid = '@schema@.audit_logs'::regclass) THEN
        -- A plain table of the trail's owner: a view would run somebody else's functions.
        IF EXISTS (SELECT FROM pg_class c JOIN pg_class trail ON trail.oid = TG_RELID
                   WHERE c.oid = to_regclass('@schema@.audit_logs_moving') AND c.relkind = 'r' AND c.relowner = trail.relowner) THEN
            -- *= compares bit by bit; = would take the JSON 1.0 for 1.
            copied := EXISTS (SELECT FROM @schema@.audit_logs_moving m WHERE m.id = OLD.id AND m.created_at = OLD.created_at AND m *= OLD);
        END IF;
        IF copied THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only: % on % is refused', CASE WHEN TG_TABLE_NAME LIKE 'audit\_%' AND TG_TABLE_NAME NOT LIKE 'audit\_logs%' THEN TG_TABLE_NAME ELSE 'audit_logs' END, TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'UA001',
              HINT = 'Audit rows are never changed. Write a further row that corrects this one.';
END
$$;

-- When the transaction ends, at the latest: a row that left the default partition is in the trail.
CREATE FUNCTION @schema@.audit_logs_demand_moved() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM @schema@.audit_logs a WHERE a.id = OLD.id AND a.created_at = OLD.created_at AND a *= OLD) THEN
        RAISE EXCEPTION 'audit_logs is append-only: DELETE on % is refused, the row was not moved into a month', TG_TABLE_NAME
            USING ERRCODE = 'UA001';
    END IF;
    RETURN NULL;
END
$$;

-- The months of which rows lie in the default partition, to be given to audit_logs_adopt_month; null:
-- times beyond what a month can hold, which stay there.
CREATE FUNCTION @schema@.audit_logs_stray_months() RETURNS TABLE (month_start timestamp, row_count bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT CASE WHEN created_at >= ''4713-01-01 BC'' AND created_at < ''294276-12-01'' THEN date_trunc(''month'', created_at AT TIME ZONE ''UTC'') END, count(*)
         FROM %s GROUP BY 1 ORDER BY 1',
        (SELECT partdefid::regclass FROM pg_partitioned_table WHERE partrelid = '@schema@.audit_logs'::regclass));
END
$$;

-- Moves a month's rows from the default partition into a partition of their own, and gives back how
-- many. Who reads the table or writes into the default partition waits meanwhile, about 3 s for
-- 100,000 rows; writers of all other months do not notice.
CREATE FUNCTION @schema@.audit_logs_adopt_month(month_start timestamp) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '400ms'
    AS $$
DECLARE
    parent   constant regclass := '@schema@.audit_logs'::regclass;
    home     constant name := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent);
    strays   constant regclass := (SELECT partdefid FROM pg_partitioned_table WHERE partrelid = parent);
    part     constant name := 'audit_logs_' || to_char(month_start, 'YYYY_MM') || CASE WHEN month_start < '0001-01-01' THEN '_bc' ELSE '' END;
    starts   constant timestamptz := month_start AT TIME ZONE 'UTC';
    ends     constant timestamptz := (month_start + interval '1 month') AT TIME ZONE 'UTC';
    attempts int := 0;
    moved    bigint;
BEGIN
    IF month_start IS NULL OR month_start <> date_trunc('month', month_start) THEN
        RAISE EXCEPTION 'audit_logs_adopt_month: % is not the beginning of a month', month_start USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs partitions', parent::oid::bigint));
            LOCK TABLE ONLY @schema@.audit_logs IN SHARE UPDATE EXCLUSIVE MODE;
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', strays);
            EXECUTE format('CREATE TABLE %I.audit_logs_moving (LIKE %s INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMMENTS)', home, parent);
            EXECUTE format('CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON %I.audit_logs_moving
                            FOR EACH STATEMENT EXECUTE FUNCTION %I.audit_logs_refuse_change()', home, home);
            PERFORM @schema@.audit_close_table(format('%I.audit_logs_moving', home)::regclass);
            EXECUTE format('INSERT INTO %I.audit_logs_moving SELECT * FROM %s WHERE created_at >= $1 AND created_at < $2 ORDER BY created_at', home, strays)
                USING starts, ends;
            EXECUTE format('ALTER TABLE %I.audit_logs_moving ADD CONSTRAINT %I PRIMARY KEY (id, created_at)', home, part || '_pkey');
            EXECUTE format('DELETE FROM %s WHERE created_at >= $1 AND created_at < $2', strays) USING starts, ends;
            GET DIAGNOSTICS moved = ROW_COUNT;
            EXECUTE format('ALTER TABLE %I.audit_logs_moving RENAME TO %I', home, part);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', parent, home, part, starts, ends);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_no_truncate', home, part);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_append_only', home, part);
            RETURN moved;
        EXCEPTION WHEN lock_not_available THEN
            attempts := attempts + 1;
            IF attempts >= 40 THEN
                RAISE EXCEPTION 'audit_logs: the rows of % were not moved, other sessions held the table through % attempts', to_char(month_start, 'YYYY-MM'), attempts
                    USING ERRCODE = 'lock_not_available', HINT = 'Repeat it when the long queries on audit_logs have ended.';
            END IF;
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
END
$$;

-- Hold the rows of a tenant, of a time range, or of both; gives back the hold's number.
CREATE FUNCTION @schema@.audit_hold_add(reason text, tenant_id text DEFAULT NULL, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
    AS $$
DECLARE
    made bigint;
BEGIN
    LOCK TABLE @schema@.audit_legal_holds IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO @schema@.audit_legal_holds (id, tenant_id, from_time, to_time, reason)
    SELECT coalesce(max(h.id), 0) + 1, audit_hold_add.tenant_id, audit_hold_add.from_time, audit_hold_add.to_time, audit_hold_add.reason
    FROM @schema@.audit_legal_holds h
    RETURNING id INTO made;
    RETURN made;
END
$$;

-- Ends a hold; gives back the number of the row that says so.
CREATE FUNCTION @schema@.audit_hold_release(hold bigint, reason text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
    AS $$
DECLARE
    made bigint;
BEGIN
    LOCK TABLE @schema@.audit_legal_holds IN SHARE ROW EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM @schema@.audit_legal_holds h WHERE h.id = hold AND h.releases IS NULL
                   AND NOT EXISTS (SELECT FROM @schema@.audit_legal_holds r WHERE r.releases = h.id)) THEN
        RAISE EXCEPTION 'audit_hold_release: % is not a hold that stands', hold USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO @schema@.audit_legal_holds (id, releases, reason)
    SELECT max(h.id) + 1, hold, audit_hold_release.reason FROM @schema@.audit_legal_holds h
    RETURNING id INTO made;
    RETURN made;
END
$$;

-- Which holds cover a partition: of a tenant's, those that cover a row in it.
CREATE FUNCTION @schema@.audit_holds_on(part regclass, starts timestamptz, ends timestamptz) RETURNS bigint[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
DECLARE
    hold   record;
    covers boolean;
    found  bigint[] := '{}';
BEGIN
    FOR hold IN
        SELECT h.* FROM @schema@.audit_legal_holds h
        WHERE h.releases IS NULL AND NOT EXISTS (SELECT FROM @schema@.audit_legal_holds r WHERE r.releases = h.id)
          AND coalesce(h.from_time < ends, true) AND coalesce(h.to_time > starts, true)
        ORDER BY h.id
    LOOP
        covers := hold.tenant_id IS NULL;
        IF NOT covers THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3)', part)
                INTO covers USING hold.tenant_id, greatest(hold.from_time, starts), least(hold.to_time, ends);
        END IF;
        IF covers THEN
            found := found || hold.id;
        END IF;
    END LOOP;
    RETURN found;
END
$$;

-- The partitions. row_count is exact for a partition that was not analyzed yet, else about right.
CREATE FUNCTION @schema@.audit_logs_months()
    RETURNS TABLE (part name, month text, from_time timestamptz, to_time timestamptz, whole_month boolean, has_rows boolean, row_count bigint, bytes bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC' SET datestyle = 'ISO'
    AS $$
DECLARE
    p record;
BEGIN
    FOR p IN
        SELECT c.oid::regclass AS rel, c.relname, c.reltuples, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '@schema@.audit_logs'::regclass
    LOOP
        part := p.relname;
        from_time := substring(p.bound FROM 'FROM \(''([^'']+)''\)')::timestamptz;
        to_time := substring(p.bound FROM 'TO \(''([^'']+)''\)')::timestamptz;
        whole_month := coalesce(from_time = date_trunc('month', from_time) AND to_time = from_time + interval '1 month', false);
        month := CASE WHEN whole_month THEN to_char(from_time, 'YYYY-MM') || CASE WHEN from_time < '0001-01-01' THEN ' BC' ELSE '' END END;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', p.rel) INTO has_rows;
        row_count := CASE WHEN has_rows THEN p.reltuples ELSE 0 END;
        IF has_rows AND row_count <= 0 THEN
            EXECUTE format('SELECT count(*) FROM %s', p.rel) INTO row_count;
        END IF;
        bytes := pg_total_relation_size(p.rel);
        RETURN NEXT;
    END LOOP;
END
$$;

-- What is to become of each partition if so many months are to be kept: drop; keep, for its age; held;
-- few_later: not as many later months hold rows, so that the clock may be wrong; not_a_month.
CREATE FUNCTION @schema@.audit_retention_plan(keep_months integer, trust_clock boolean DEFAULT false)
    RETURNS TABLE (part name, month text, from_time timestamptz, to_time timestamptz, row_count bigint, bytes bigint, holds bigint[], verdict text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC'
    AS $$
BEGIN
    IF keep_months IS NULL OR keep_months < 1 THEN
        RAISE EXCEPTION 'audit_logs: at least one month must be kept' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
        WITH months AS MATERIALIZED (
            SELECT m.*, @schema@.audit_holds_on(format('%s.%I', '@schema@', m.part)::regclass, m.from_time, m.to_time) AS holds
            FROM @schema@.audit_logs_months() m
        )
        SELECT m.part, m.month, m.from_time, m.to_time, m.row_count, m.bytes, m.holds,
               CASE WHEN NOT m.whole_month THEN 'not_a_month'
                    WHEN m.to_time > now() - make_interval(months => keep_months) THEN 'keep'
                    WHEN m.holds <> '{}' THEN 'held'
                    WHEN NOT trust_clock AND keep_months > (
                        SELECT count(*) FROM months l
                        WHERE l.whole_month AND l.has_rows AND l.from_time >= m.to_time AND l.from_time <= now()) THEN 'few_later'
                    ELSE 'drop' END
        FROM months m
        ORDER BY m.from_time, m.part;
END
$$;

CREATE FUNCTION @schema@.audit_digest_step(digest bytea, line bytea) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ BEGIN RETURN pg_catalog.sha256(digest OPERATOR(pg_catalog.||) line); END $$;

-- Over the SHA-256 of lines, in order: begins with 32 zero bytes; each step is SHA-256(before || line's).
CREATE AGGREGATE @schema@.audit_digest(bytea) (
    SFUNC = @schema@.audit_digest_step, STYPE = bytea, PARALLEL = SAFE,
    INITCOND = '\x0000000000000000000000000000000000000000000000000000000000000000'
);

-- How many rows there are in [from_time, to_time), and what they are: audit_digest over their lines in
-- the order of (created_at, id). A row's line is row_to_json(row), times in UTC, as UTF-8.
CREATE FUNCTION @schema@.audit_logs_digest(from_time timestamptz, to_time timestamptz, OUT row_count bigint, OUT digest bytea)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC'
    AS $$
BEGIN
    -- The hashes are sorted, not the lines; EXECUTE, so that the plan knows the partition.
    EXECUTE 'SELECT count(*), @schema@.audit_digest(line ORDER BY created_at, id) FROM (
                 SELECT sha256(convert_to(row_to_json(a)::text, ''UTF8'')) AS line, created_at, id
                 FROM @schema@.audit_logs a WHERE created_at >= $1 AND created_at < $2 OFFSET 0) AS lines'
        INTO row_count, digest USING from_time, to_time;
END
$$;

-- One at a time drops or restores; released with the transaction.
CREATE FUNCTION @schema@.audit_retention_turn() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs retention', '@schema@.audit_logs'::regclass::oid::bigint));
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'audit_logs: another session drops or restores a month' USING ERRCODE = 'lock_not_available';
END
$$;

-- Raises what speaks against dropping anything at all.
CREATE FUNCTION @schema@.audit_retention_check(keep_months integer, force boolean, max_months integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    last_time constant timestamptz := (SELECT max(done_at) FROM @schema@.audit_retention_ledger);
    lately    constant bigint := (SELECT count(*) FROM @schema@.audit_retention_ledger WHERE event = 'dropped' AND done_at > now() - interval '1 day');
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- Its one old snapshot would not show rows that came meanwhile.
        RAISE EXCEPTION 'audit_logs: a month is dropped in a READ COMMITTED transaction only' USING ERRCODE = 'UA002';
    ELSIF keep_months < 12 AND force IS NOT TRUE THEN
        RAISE EXCEPTION 'audit_logs: fewer than 12 months (%) are kept only if forced', keep_months
            USING ERRCODE = 'UA002', HINT = 'PCI DSS 10.5.1 asks for twelve months of audit history.';
    ELSIF last_time > clock_timestamp() THEN
        RAISE EXCEPTION 'audit_logs: the clock shows %, but the ledger has an entry of %', clock_timestamp(), last_time
            USING ERRCODE = 'UA002', HINT = 'Set the database server''s clock right.';
    ELSIF max_months IS NULL OR lately >= max_months THEN
        RAISE EXCEPTION 'audit_logs: % months were dropped within a day, no more than % may be', lately, coalesce(max_months, 0)
            USING ERRCODE = 'UA002', HINT = 'Look at what was dropped; then repeat with a higher max_months.';
    END IF;
END
$$;

-- Puts a month that is about to be dropped into the ledger.
CREATE FUNCTION @schema@.audit_retention_record(entry @schema@.audit_retention_ledger) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO @schema@.audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, archive, archive_sha256, keep_months, forced, reason)
    SELECT coalesce(max(id), 0) + 1, 'dropped', entry.month, entry.from_time, entry.to_time, entry.row_count, entry.digest,
           entry.archive, entry.archive_sha256, entry.keep_months, entry.forced, entry.reason
    FROM @schema@.audit_retention_ledger
    RETURNING id INTO made;
    -- Runs of numbers first, so that they are what is collected; numbers beyond a range's reach are no writer's.
    EXECUTE 'INSERT INTO @schema@.audit_retention_writers (entry, writer_id, row_count, numbers)
        SELECT $1, writer_id, sum(row_count), range_agg(int8range(first, last, ''[]'')) FROM (
            SELECT writer_id, count(*) AS row_count, min(writer_seq) AS first, max(writer_seq) AS last FROM (
                SELECT writer_id, writer_seq, writer_seq - dense_rank() OVER (PARTITION BY writer_id ORDER BY writer_seq) AS run
                FROM @schema@.audit_logs WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL
                  AND writer_seq BETWEEN 1 AND 9223372036854775806) AS numbered
            GROUP BY writer_id, run) AS runs
        GROUP BY writer_id' USING made, entry.from_time, entry.to_time;
    -- Of what it vouched for, the most is enough.
    EXECUTE 'INSERT INTO @schema@.audit_retention_declarations (entry, writer_id, action, metadata)
        SELECT $1, writer_id, action, metadata FROM @schema@.audit_logs
        WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL AND writer_seq IS NULL AND metadata IS NOT NULL
          AND action IN (''audit.writer_started'', ''audit.entries_lost'', ''audit.entry_quarantined'', ''audit.writer_stopped'')
        UNION ALL
        (SELECT DISTINCT ON (writer_id) $1, writer_id, action, metadata FROM @schema@.audit_logs
         WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL AND writer_seq IS NULL
           AND action = ''audit.writer_alive'' AND jsonb_typeof(metadata -> ''resolved_through'') = ''number''
         ORDER BY writer_id, metadata -> ''resolved_through'' DESC)' USING made, entry.from_time, entry.to_time;
    RETURN made;
END
$$;

-- Drops a partition, unless a hold covers it by now or rows came to it since the snapshot. In every
-- attempt the locks are waited for less than half a second in all, and then let go: that is how long a
-- writer may be held, whatever reader is in the way. audit_logs before its partitions, as writers do.
CREATE FUNCTION @schema@.audit_retention_take(part regclass, starts timestamptz, ends timestamptz, before pg_snapshot) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '100ms' SET enable_seqscan = off
    AS $$
DECLARE
    parent   constant regclass := '@schema@.audit_logs'::regclass;
    strays   constant oid := (SELECT partdefid FROM pg_partitioned_table WHERE partrelid = parent);
    attempts int := 0;
    late     boolean;
    holds    bigint[];
BEGIN
    LOOP
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs partitions', parent::oid::bigint));
            -- A hold that is being made is waited for.
            LOCK TABLE @schema@.audit_legal_holds IN SHARE MODE;
            PERFORM set_config('lock_timeout', '250ms', true);
            LOCK TABLE ONLY @schema@.audit_logs IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', '100ms', true);
            IF strays <> 0 THEN
                EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', strays::regclass);
            END IF;
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', part);
            -- By the BRIN index on tx_id: milliseconds. Rows of another cluster may have any tx_id.
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE tx_id >= $1 AND tx_id < $2 AND NOT pg_visible_in_snapshot(tx_id::text::xid8, $3))', part)
                INTO late USING pg_snapshot_xmin(before)::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint, before;
            IF late THEN
                RAISE EXCEPTION 'audit_logs: rows came to % while it was being read; nothing was dropped', part
                    USING ERRCODE = 'UA003', HINT = 'Repeat it; an archive of it as well.';
            END IF;
            holds := @schema@.audit_holds_on(part, starts, ends);
            IF holds <> '{}' THEN
                RAISE EXCEPTION 'audit_logs: % is under the legal holds %', part, holds USING ERRCODE = 'UA002';
            END IF;
            EXECUTE format('DROP TABLE %s', part);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            attempts := attempts + 1;
            IF attempts >= 60 THEN
                RAISE EXCEPTION 'audit_logs: % was not dropped, other sessions held the table through % attempts', part, attempts
                    USING ERRCODE = 'lock_not_available', HINT = 'Repeat it when the long queries on audit_logs have ended.';
            END IF;
            PERFORM pg_sleep(least(0.25 * attempts, 1));
        END;
    END LOOP;
END
$$;

-- Drops the partition of one whole month, and gives back the number of the ledger's entry about it.
-- Refuses (SQLSTATE UA002) what audit_retention_plan does not call drop, fewer than 12 months kept
-- unless forced, and more than max_months within a day. An archive must have the digest of the rows.
CREATE FUNCTION @schema@.audit_logs_drop_month(
    part name, keep_months integer, reason text, force boolean DEFAULT false, max_months integer DEFAULT 3, trust_clock boolean DEFAULT false,
    archive text DEFAULT NULL, archive_sha256 bytea DEFAULT NULL, archive_digest bytea DEFAULT NULL
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
DECLARE
    before  constant pg_snapshot := pg_current_snapshot();
    planned record;
    found   record;
    entry   @schema@.audit_retention_ledger;
BEGIN
    PERFORM @schema@.audit_retention_turn();
    PERFORM @schema@.audit_retention_check(keep_months, force, max_months);
    SELECT * INTO planned FROM @schema@.audit_retention_plan(keep_months, trust_clock) p WHERE p.part = audit_logs_drop_month.part;
    IF planned.verdict IS DISTINCT FROM 'drop' THEN
        RAISE EXCEPTION 'audit_logs: % is not to be dropped (%)', part,
            CASE coalesce(planned.verdict, '')
                WHEN '' THEN 'there is no such partition'
                WHEN 'keep' THEN format('it holds rows of the last %s months', keep_months)
                WHEN 'held' THEN format('under the legal holds %s', planned.holds)
                WHEN 'few_later' THEN format('fewer than %s later months hold rows: is the clock right?', keep_months)
                ELSE 'it is not a whole month' END
            USING ERRCODE = 'UA002';
    END IF;
    SELECT * INTO found FROM @schema@.audit_logs_digest(planned.from_time, planned.to_time);
    IF archive IS NOT NULL AND archive_digest IS DISTINCT FROM found.digest THEN
        RAISE EXCEPTION 'audit_logs: the archive of % does not have its rows; nothing was dropped', part
            USING ERRCODE = 'UA003', HINT = 'Rows came meanwhile, or the reader does not see them all. Make it again.';
    END IF;
    entry.month := planned.month;
    entry.from_time := planned.from_time;
    entry.to_time := planned.to_time;
    entry.row_count := found.row_count;
    entry.digest := found.digest;
    entry.archive := archive;
    entry.archive_sha256 := archive_sha256;
    entry.keep_months := keep_months;
    entry.forced := keep_months < 12 OR trust_clock;
    entry.reason := reason;
    entry.id := @schema@.audit_retention_record(entry);
    PERFORM @schema@.audit_retention_take(format('%s.%I', '@schema@', part)::regclass, planned.from_time, planned.to_time, before);
    RETURN entry.id;
END
$$;

$sql$, '@schema@', home);
END
$do$;

CREATE CONSTRAINT TRIGGER audit_logs_moved_only AFTER DELETE ON audit_logs_default
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_logs_demand_moved();
ALTER TABLE audit_logs_default ENABLE ALWAYS TRIGGER audit_logs_moved_only;

DO $do$
DECLARE
    auditor    constant name := audit_role('auditor');
    maintainer constant name := audit_role('maintainer');
    kept       text;
    f          regprocedure;
BEGIN
    FOREACH kept IN ARRAY ARRAY['audit_legal_holds', 'audit_retention_ledger', 'audit_retention_writers', 'audit_retention_declarations'] LOOP
        PERFORM audit_owner_only('TABLE', kept::regclass);
        EXECUTE format('GRANT SELECT ON %I TO %I, %I', kept, auditor, maintainer);
        EXECUTE format('CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change()', kept);
        EXECUTE format('CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change()', kept);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER audit_append_only, ENABLE ALWAYS TRIGGER audit_no_truncate', kept);
    END LOOP;
    FOR f IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
          AND p.proname IN ('audit_logs_demand_moved', 'audit_logs_stray_months', 'audit_logs_adopt_month', 'audit_hold_add', 'audit_hold_release',
                            'audit_holds_on', 'audit_logs_months', 'audit_retention_plan', 'audit_digest_step', 'audit_logs_digest',
                            'audit_retention_turn', 'audit_retention_check', 'audit_retention_record', 'audit_retention_take', 'audit_logs_drop_month')
    LOOP
        PERFORM audit_owner_only('FUNCTION', f);
    END LOOP;
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_stray_months(), audit_logs_adopt_month(timestamp),
                    audit_hold_add(text, text, timestamptz, timestamptz), audit_hold_release(bigint, text),
                    audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea) TO %I', maintainer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_months(), audit_retention_plan(integer, boolean),
                    audit_logs_digest(timestamptz, timestamptz) TO %I, %I', maintainer, auditor);
END
$do$;

COMMENT ON FUNCTION audit_logs_stray_months() IS 'The months of which rows lie in the default partition of audit_logs.';
COMMENT ON FUNCTION audit_logs_adopt_month(timestamp) IS 'Moves the rows of one month from the default partition of audit_logs into a partition of their own.';
COMMENT ON FUNCTION audit_hold_add(text, text, timestamptz, timestamptz) IS 'Forbids to drop the rows of a tenant or a time range.';
COMMENT ON FUNCTION audit_hold_release(bigint, text) IS 'Ends a hold.';
COMMENT ON FUNCTION audit_logs_months() IS 'The partitions of audit_logs.';
COMMENT ON FUNCTION audit_retention_plan(integer, boolean) IS 'What is to become of each partition of audit_logs if so many months are to be kept.';
COMMENT ON FUNCTION audit_logs_digest(timestamptz, timestamptz) IS 'The number and the digest of the rows of audit_logs in a time range.';
COMMENT ON FUNCTION audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea) IS 'Drops one whole month of audit_logs and puts it on record.';
