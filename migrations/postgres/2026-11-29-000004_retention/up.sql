-- How long rows are kept: whole months are dropped, legal holds prevent it, and a ledger records what was
-- dropped. docs/decisions/0011-retention.md has the reasons.

-- Fail rather than make every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

CREATE TABLE audit_legal_holds (
    id         bigint      PRIMARY KEY,
    releases   bigint      UNIQUE REFERENCES audit_legal_holds (id),
    tenant_id  text,
    from_time  timestamptz,
    to_time    timestamptz,
    reason     text        NOT NULL CHECK (reason ~ '[^[:space:]]'),
    created_by name        NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (from_time < to_time),
    CHECK (releases IS NULL OR (tenant_id IS NULL AND from_time IS NULL AND to_time IS NULL))
);

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
    overrides      text[]      NOT NULL DEFAULT '{}',
    reason         text        NOT NULL CHECK (reason ~ '[^[:space:]]'),
    done_by        name        NOT NULL DEFAULT session_user,
    done_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE audit_retention_writers (
    entry     bigint NOT NULL REFERENCES audit_retention_ledger (id),
    writer_id uuid   NOT NULL,
    part      bigint NOT NULL,
    row_count bigint NOT NULL,
    numbers   int8multirange NOT NULL,
    PRIMARY KEY (entry, writer_id, part)
);

CREATE TABLE audit_retention_declarations (
    entry     bigint NOT NULL REFERENCES audit_retention_ledger (id),
    writer_id uuid   NOT NULL,
    action    text   NOT NULL,
    metadata  jsonb  NOT NULL
);
CREATE INDEX audit_retention_declarations_entry ON audit_retention_declarations (entry);

SELECT audit_revoke_all('TABLE', t)
FROM unnest(ARRAY['audit_legal_holds', 'audit_retention_ledger', 'audit_retention_writers',
                  'audit_retention_declarations']::regclass[]) AS t;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_legal_holds
    FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_legal_holds
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();
ALTER TABLE audit_legal_holds
    ENABLE ALWAYS TRIGGER audit_append_only, ENABLE ALWAYS TRIGGER audit_no_truncate;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_retention_ledger
    FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_retention_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();
ALTER TABLE audit_retention_ledger
    ENABLE ALWAYS TRIGGER audit_append_only, ENABLE ALWAYS TRIGGER audit_no_truncate;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_retention_writers
    FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_retention_writers
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();
ALTER TABLE audit_retention_writers
    ENABLE ALWAYS TRIGGER audit_append_only, ENABLE ALWAYS TRIGGER audit_no_truncate;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_retention_declarations
    FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_retention_declarations
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();
ALTER TABLE audit_retention_declarations
    ENABLE ALWAYS TRIGGER audit_append_only, ENABLE ALWAYS TRIGGER audit_no_truncate;

SET LOCAL check_function_bodies = off;

-- Holds the rows of a tenant, of a time range, or of both. Returns the number of the hold.
CREATE FUNCTION audit_hold_add(
    reason text, tenant_id text DEFAULT NULL, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    created bigint;
BEGIN
    LOCK TABLE @schema@.audit_legal_holds IN SHARE UPDATE EXCLUSIVE MODE;
    INSERT INTO @schema@.audit_legal_holds (id, tenant_id, from_time, to_time, reason)
    SELECT coalesce(max(h.id), 0) + 1, audit_hold_add.tenant_id, audit_hold_add.from_time, audit_hold_add.to_time,
           audit_hold_add.reason
    FROM @schema@.audit_legal_holds h
    RETURNING id INTO created;
    RETURN created;
END
$$;

-- Ends a hold. Returns the number of the row that records it.
CREATE FUNCTION audit_hold_release(hold bigint, reason text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    created bigint;
BEGIN
    LOCK TABLE @schema@.audit_legal_holds IN SHARE UPDATE EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM @schema@.audit_legal_holds h WHERE h.id = hold AND h.releases IS NULL
                   AND NOT EXISTS (SELECT FROM @schema@.audit_legal_holds r WHERE r.releases = h.id)) THEN
        RAISE EXCEPTION 'audit_hold_release: % is not an active hold', hold
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO @schema@.audit_legal_holds (id, releases, reason)
    SELECT max(h.id) + 1, hold, audit_hold_release.reason FROM @schema@.audit_legal_holds h
    RETURNING id INTO created;
    RETURN created;
END
$$;

-- The condition for a tenant, as text: the second half is what an index can answer.
CREATE FUNCTION audit_tenant_condition(parameter text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT format('tenant_id = %1$s AND pg_catalog.name(tenant_id COLLATE "C") = pg_catalog.name(%1$s)', parameter) $$;

-- How many rows a hold with these restrictions would cover now, and in how many months. Counts up to 100,000 rows
-- exactly; from there on, whether a month has one.
CREATE FUNCTION audit_hold_coverage(
    tenant_id text DEFAULT NULL, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL,
    OUT months bigint, OUT row_count bigint
)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET enable_seqscan = off
    AS $$
DECLARE
    month record;
    found bigint;
BEGIN
    months := 0;
    row_count := 0;
    FOR month IN SELECT m.from_time, m.to_time FROM @schema@.audit_logs_months() m WHERE m.has_rows ORDER BY 1 LOOP
        -- The default partition has no bounds. Its rows are in no other partition.
        EXECUTE format(
            'SELECT count(*) FROM (
                 SELECT FROM %s WHERE %s AND created_at >= $2 AND ($3 IS NULL OR created_at < $3)
                 LIMIT $4) AS found',
            CASE WHEN month.from_time IS NULL
                 THEN (SELECT partdefid::regclass FROM pg_partitioned_table
                       WHERE partrelid = '@schema@.audit_logs'::regclass)
                 ELSE '@schema@.audit_logs'::regclass END,
            CASE WHEN tenant_id IS NULL THEN '$1 IS NULL' ELSE @schema@.audit_tenant_condition('$1') END)
            INTO found
            USING tenant_id, greatest(coalesce(from_time, '-infinity'), month.from_time),
                  nullif(least(to_time, month.to_time), 'infinity'), greatest(100000 - row_count, 1);
        months := months + (found > 0)::integer;
        row_count := row_count + found;
    END LOOP;
END
$$;

-- The holds that cover a partition. A tenant's hold does if the partition has a row that it covers.
CREATE FUNCTION audit_holds_on(partition regclass, starts timestamptz, ends timestamptz) RETURNS bigint[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
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
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s AND created_at >= $2
                            AND ($3 IS NULL OR created_at < $3))',
                           partition, @schema@.audit_tenant_condition('$1'))
                INTO covers
                USING hold.tenant_id, coalesce(greatest(hold.from_time, starts), '-infinity'),
                      least(hold.to_time, ends);
        END IF;
        IF covers THEN
            found := found || hold.id;
        END IF;
    END LOOP;
    RETURN found;
END
$$;

-- The months. A month in segments is one row, with the name of its first partition; any other partition is a row of its
-- own. row_count is exact where no partition of a row was analyzed yet, otherwise the planner's estimate.
CREATE FUNCTION audit_logs_months() RETURNS TABLE (
        partition name, month text, from_time timestamptz, to_time timestamptz, whole_month boolean,
        has_rows boolean, row_count bigint, bytes bigint, segments bigint, relation regclass)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
DECLARE
    part  text;
    parts text[];
    found boolean;
    rows  bigint;
BEGIN
    FOR partition, relation, from_time, to_time, whole_month, parts, bytes IN
        WITH all_parts AS (
            SELECT p.*, date_trunc('month', p.from_time) AS month_start FROM @schema@.audit_logs_partitions() p),
        -- Partitions of one month that together are all of it.
        complete AS (
            SELECT a.month_start FROM all_parts a
            WHERE isfinite(a.from_time) AND isfinite(a.to_time) AND a.to_time <= a.month_start + interval '1 month'
            GROUP BY a.month_start
            HAVING sum(a.to_time - a.from_time) = a.month_start + interval '1 month' - a.month_start)
        SELECT (array_agg(a.partition_name ORDER BY a.from_time))[1],
               (array_agg(a.partition ORDER BY a.from_time))[1], min(a.from_time), max(a.to_time),
               bool_and(c.month_start IS NOT NULL), array_agg(a.qualified_name ORDER BY a.from_time),
               sum(pg_total_relation_size(a.partition))::bigint
        FROM all_parts a
        LEFT JOIN complete c ON c.month_start = a.month_start AND a.to_time <= c.month_start + interval '1 month'
        GROUP BY coalesce(c.month_start::text, a.partition::oid::text)
    LOOP
        month := CASE WHEN whole_month THEN
            to_char(from_time, 'YYYY-MM') || CASE WHEN from_time < '0001-01-01' THEN ' BC' ELSE '' END END;
        segments := 0;
        has_rows := false;
        row_count := 0;
        FOREACH part IN ARRAY parts LOOP
            BEGIN
                EXECUTE format('SELECT EXISTS (SELECT FROM %s)', part) INTO found;
            EXCEPTION WHEN undefined_table THEN
                -- It was dropped meanwhile.
                CONTINUE;
            END;
            segments := segments + 1;
            CONTINUE WHEN NOT found;
            has_rows := true;
            rows := (SELECT c.reltuples FROM pg_class c WHERE c.oid = part::regclass);
            IF rows <= 0 THEN
                EXECUTE format('SELECT count(*) FROM %s', part) INTO rows;
            END IF;
            row_count := row_count + rows;
        END LOOP;
        IF segments > 0 THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

-- What would become of each partition if this number of months were kept. The verdicts:
--     drop            it is old enough, and nothing prevents it
--     keep            it is not old enough
--     held            it is old enough, but a legal hold covers it
--     too_few_recent  it is old enough, but fewer later months than are to be kept hold rows: the clock may be wrong
--     not_monthly     it is not the partition of one whole month
CREATE FUNCTION audit_retention_plan(keep_months integer, trust_clock boolean DEFAULT false) RETURNS TABLE (
        partition name, month text, from_time timestamptz, to_time timestamptz, row_count bigint, bytes bigint,
        holds bigint[], relation regclass, verdict text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
BEGIN
    IF keep_months IS NULL OR keep_months < 1 THEN
        RAISE EXCEPTION 'audit_logs: at least one month must be kept' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
        WITH months AS MATERIALIZED (
            SELECT m.*, @schema@.audit_holds_on(
                -- All segments of the month; the default partition, which has no bounds, alone.
                CASE WHEN m.from_time IS NULL THEN m.relation ELSE '@schema@.audit_logs'::regclass END,
                m.from_time, m.to_time) AS holds
            FROM @schema@.audit_logs_months() m
        )
        SELECT m.partition, m.month, m.from_time, m.to_time, m.row_count, m.bytes, m.holds, m.relation,
               CASE WHEN NOT m.whole_month THEN 'not_monthly'
                    WHEN m.to_time > now() - make_interval(months => keep_months) THEN 'keep'
                    WHEN m.holds <> '{}' THEN 'held'
                    WHEN NOT trust_clock AND keep_months > (
                        SELECT count(*) FROM months l
                        WHERE l.whole_month AND l.has_rows AND l.from_time >= m.to_time AND l.from_time <= now())
                    THEN 'too_few_recent'
                    ELSE 'drop' END
        FROM months m
        ORDER BY m.from_time, m.partition;
END
$$;

CREATE FUNCTION audit_digest_step(digest bytea, line bytea) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ BEGIN RETURN pg_catalog.sha256(digest OPERATOR(pg_catalog.||) line); END $$;

-- The digest of lines, given by the SHA-256 of each, in order. It begins with 32 zero bytes; each step is
-- SHA-256(digest || SHA-256(line)).
CREATE AGGREGATE audit_digest(bytea) (
    SFUNC = audit_digest_step, STYPE = bytea, PARALLEL = SAFE,
    INITCOND = E'\\x0000000000000000000000000000000000000000000000000000000000000000'
);

-- A query for the lines of the rows in [$1, $2): created_at, id and line, which is row_to_json(row), times in UTC. The
-- line is null for rows that may be long: audit_logs_long_line() makes theirs. Decides without decompressing a value,
-- so that one that is larger than the memory, or than a string may be, is not touched here.
CREATE FUNCTION audit_logs_line_query() RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    is_short text;
BEGIN
    -- The text of jsonb may be ten thousand times as long as its value: a number 1E99999 has 100,000 digits.
    SELECT string_agg(format(
               CASE WHEN atttypid = 'text'::regtype THEN 'coalesce(octet_length(%1$I), 0) <= 16384'
                    ELSE 'coalesce(pg_column_size(%1$I), 0) <= 2000 AND pg_column_compression(%1$I) IS NULL' END,
               attname), ' AND ')
    INTO is_short FROM pg_attribute
    WHERE attrelid = '@schema@.audit_logs'::regclass AND attnum > 0 AND NOT attisdropped AND attlen = -1;
    RETURN 'SELECT created_at, id, CASE WHEN octet_length(line) <= 16384 THEN line END AS line FROM (
                SELECT created_at, id, CASE WHEN ' || is_short || ' THEN row_to_json(a)::text END AS line
                FROM @schema@.audit_logs a WHERE created_at >= $1 AND created_at < $2 OFFSET 0) AS short';
END
$$;

-- The line of a row by its key. A value whose text has more than 65,536 bytes as UTF-8 is replaced in it by
-- {"bytes": …, "sha256": …} of that text, one that cannot be turned into text by {"error": SQLSTATE}. Then the line
-- ends with the names of these columns: "_long":[…] and "_unreadable":[…]. Long JSON that is nested more than 6,000
-- levels deep is in both: its text may not become a value again.
CREATE FUNCTION audit_logs_long_line(
    row_id uuid, row_time timestamptz, OUT line text, OUT long_columns name[], OUT unreadable_columns name[]
)
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    col         record;
    replacement json;
    is_too_deep boolean;
    list        text[] := '{}';
BEGIN
    long_columns := '{}';
    unreadable_columns := '{}';
    FOR col IN
        SELECT attname, attlen, atttypid FROM pg_attribute
        WHERE attrelid = '@schema@.audit_logs'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
    LOOP
        replacement := NULL;
        IF col.attlen = -1 THEN
            BEGIN
                EXECUTE 'SELECT CASE WHEN octet_length(b) > 65536 THEN
                             json_build_object(''bytes'', octet_length(b), ''sha256'', encode(sha256(b), ''hex'')) END
                         FROM (SELECT convert_to(' || quote_ident(col.attname) || '::text, ''UTF8'') AS b
                               FROM @schema@.audit_logs WHERE id = $1 AND created_at = $2 OFFSET 0) AS v'
                    INTO replacement USING row_id, row_time;
                IF replacement IS NOT NULL THEN
                    -- A restore puts it together within a function, where half of the stack may be in use already.
                    -- With the default max_stack_depth, PostgreSQL parses about 14,000 levels.
                    IF col.atttypid = 'jsonb'::regtype THEN
                        EXECUTE 'SELECT jsonb_path_exists(' || quote_ident(col.attname) || ', ''strict $.**{6001}'')
                                 FROM @schema@.audit_logs WHERE id = $1 AND created_at = $2'
                            INTO is_too_deep USING row_id, row_time;
                        IF is_too_deep THEN
                            unreadable_columns := unreadable_columns || col.attname;
                        END IF;
                    END IF;
                    long_columns := long_columns || col.attname;
                END IF;
            EXCEPTION WHEN OTHERS THEN
                -- A lack of resources and a cancelled statement say nothing about the value.
                IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58') THEN
                    RAISE;
                END IF;
                replacement := json_build_object('error', SQLSTATE);
                unreadable_columns := unreadable_columns || col.attname;
            END;
        END IF;
        list := list || CASE WHEN replacement IS NULL THEN quote_ident(col.attname)
                             ELSE format('%L::json AS %I', replacement, col.attname) END;
    END LOOP;
    IF long_columns <> '{}' THEN
        list := list || format('%L::json AS _long', to_json(long_columns));
    END IF;
    IF unreadable_columns <> '{}' THEN
        list := list || format('%L::json AS _unreadable', to_json(unreadable_columns));
    END IF;
    EXECUTE 'SELECT row_to_json(r)::text FROM (
                 SELECT ' || array_to_string(list, ', ') || ' FROM @schema@.audit_logs
                 WHERE id = $1 AND created_at = $2 OFFSET 0) AS r'
        INTO line USING row_id, row_time;
END
$$;

-- The lines of an archive: of each row in [from_time, to_time), in the order of (created_at, id). A line with long
-- values is followed by their text in pieces, {"_piece":"…"}, column by column in the order of "_long". The server
-- needs memory for one long value at a time, and a temporary file for all lines. jit = off: the compiler takes 80 MB.
CREATE FUNCTION audit_logs_lines(from_time timestamptz, to_time timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET work_mem = '8MB' SET jit = off
    AS $$
DECLARE
    r     record;
    long  record;
    col   name;
    chunk bytea;
    rest  bytea;
    cut   integer;
BEGIN
    FOR r IN EXECUTE @schema@.audit_logs_line_query() || ' ORDER BY created_at, id' USING from_time, to_time LOOP
        IF r.line IS NOT NULL THEN
            RETURN NEXT r.line;
            CONTINUE;
        END IF;
        SELECT * INTO long FROM @schema@.audit_logs_long_line(r.id, r.created_at);
        RETURN NEXT long.line;
        FOREACH col IN ARRAY long.long_columns LOOP
            rest := '';
            FOR chunk IN EXECUTE
                'SELECT substring(b FROM n * 65536 + 1 FOR 65536) FROM (
                     SELECT convert_to(' || quote_ident(col) || '::text, ''UTF8'') AS b
                     FROM @schema@.audit_logs WHERE id = $1 AND created_at = $2 OFFSET 0) AS v,
                     generate_series(0, (octet_length(b) - 1) / 65536) AS n'
                USING r.id, r.created_at
            LOOP
                -- The last character may be incomplete; it is part of the next piece.
                rest := rest || chunk;
                cut := octet_length(rest) - 1;
                WHILE cut > 0 AND get_byte(rest, cut) & 192 = 128 LOOP
                    cut := cut - 1;
                END LOOP;
                -- All of it if that is the one character whose end came with this chunk.
                IF cut > 0 THEN
                    RETURN NEXT '{"_piece":' || to_json(convert_from(substring(rest FOR cut), 'UTF8')) || '}';
                    rest := substring(rest FROM cut + 1);
                END IF;
            END LOOP;
            RETURN NEXT '{"_piece":' || to_json(convert_from(rest, 'UTF8')) || '}';
        END LOOP;
    END LOOP;
END
$$;

-- The number and the digest of the rows in [from_time, to_time): audit_digest over the SHA-256 of their lines, as
-- UTF-8, in the order of (created_at, id). Also how many have a value that cannot be turned into text, and one of them.
CREATE FUNCTION audit_logs_digest(
    from_time timestamptz, to_time timestamptz, OUT row_count bigint, OUT digest bytea,
    OUT unreadable bigint, OUT unreadable_row text
)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET work_mem = '8MB' SET jit = off
    AS $$
BEGIN
    -- The hashes are sorted, not the lines. EXECUTE: the plan depends on the times.
    EXECUTE 'SELECT count(*), @schema@.audit_digest(hash ORDER BY created_at, id),
                    count(*) FILTER (WHERE is_unreadable),
                    min(id || '' at '' || created_at) FILTER (WHERE is_unreadable)
             FROM (SELECT created_at, id, sha256(convert_to(line, ''UTF8'')) AS hash,
                          is_long AND line ~ '',"_unreadable":\[["a-z_0-9,]+\]\}$'' AS is_unreadable
                   FROM (SELECT created_at, id, line IS NULL AS is_long,
                                CASE WHEN line IS NULL
                                     THEN (SELECT l.line FROM @schema@.audit_logs_long_line(id, created_at) AS l)
                                     ELSE line END AS line
                         FROM (' || @schema@.audit_logs_line_query() || ') AS lines OFFSET 0) AS all_lines
                   OFFSET 0) AS hashes'
        INTO row_count, digest, unreadable, unreadable_row USING from_time, to_time;
END
$$;

-- Whether the trail has this row of an archive, bit by bit: a row that is too long, or whose metadata is nested too
-- deeply, to be compared with others. The members long_columns are compared by the SHA-256 of their text, and not at all
-- where that is null; metadata with the argument unless it is null.
CREATE FUNCTION audit_logs_has_row(
    other_members json, long_columns name[], long_sha256 text[], metadata jsonb DEFAULT NULL
) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
DECLARE
    row_id   constant uuid := other_members ->> 'id';
    row_time constant timestamptz := other_members ->> 'created_at';
    stored   text;
    given    text;
    is_same  boolean;
BEGIN
    SELECT string_agg(format('a.%I', attname), ', ' ORDER BY attnum),
           string_agg(CASE WHEN attname = 'metadata' AND metadata IS NOT NULL THEN '$2'
                           ELSE format('r.%I', attname) END, ', ' ORDER BY attnum)
    INTO stored, given FROM pg_attribute
    WHERE attrelid = '@schema@.audit_logs'::regclass AND attnum > 0 AND NOT attisdropped
      AND attname <> ALL (long_columns);
    EXECUTE 'SELECT record_image_eq(ROW(' || stored || '), ROW(' || given || '))
             FROM @schema@.audit_logs a, json_populate_record(NULL::@schema@.audit_logs, $1) AS r
             WHERE a.id = $3 AND a.created_at = $4'
        INTO is_same USING other_members, metadata, row_id, row_time;
    FOR nth IN 1..cardinality(long_columns) LOOP
        EXIT WHEN is_same IS NOT TRUE;
        CONTINUE WHEN long_sha256[nth] IS NULL;
        EXECUTE 'SELECT encode(sha256(convert_to(' || quote_ident(long_columns[nth]) || '::text, ''UTF8'')), ''hex'') = $3
                 FROM @schema@.audit_logs WHERE id = $1 AND created_at = $2'
            INTO is_same USING row_id, row_time, long_sha256[nth];
    END LOOP;
    RETURN is_same IS TRUE;
END
$$;

-- Inserts one row of an archive, for the owner: a row that is too long, or whose metadata is nested too deeply, for
-- json_populate_record. The members long_columns are read from the table pg_temp.audit_restore_pieces
-- (name, nth, piece), metadata from the argument unless it is null. True: inserted now. False: the same row is
-- stored already. Null: a different row has its id and time.
CREATE FUNCTION audit_logs_restore_row(
    other_members json, long_columns name[], long_sha256 text[], metadata jsonb DEFAULT NULL
) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    list     text;
    inserted bigint;
BEGIN
    SELECT string_agg(
               CASE WHEN attname = ANY (long_columns) THEN format(
                        '(SELECT string_agg(piece, '''' ORDER BY nth) FROM pg_temp.audit_restore_pieces
                          WHERE name = %L)::%s', attname, format_type(atttypid, atttypmod))
                    WHEN attname = 'metadata' AND metadata IS NOT NULL THEN '$2'
                    ELSE format('r.%I', attname) END, ', ' ORDER BY attnum)
    INTO list FROM pg_attribute
    WHERE attrelid = '@schema@.audit_logs'::regclass AND attnum > 0 AND NOT attisdropped;
    EXECUTE 'INSERT INTO @schema@.audit_logs
                 SELECT ' || list || ' FROM json_populate_record(NULL::@schema@.audit_logs, $1) AS r
                 ON CONFLICT DO NOTHING' USING other_members, metadata;
    GET DIAGNOSTICS inserted = ROW_COUNT;
    RETURN CASE WHEN @schema@.audit_logs_has_row(other_members, long_columns, long_sha256, metadata)
                THEN inserted > 0 END;
END
$$;

-- One session at a time drops or restores. Released with the transaction. The mode is that of
-- audit_logs_lock_partitions(), for the same reason.
CREATE FUNCTION audit_retention_lock() RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '2s'
    AS $$
BEGIN
    LOCK TABLE @schema@.audit_retention_ledger IN SHARE UPDATE EXCLUSIVE MODE;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'audit_logs: another session drops or restores a month' USING ERRCODE = 'lock_not_available';
END
$$;

-- Raises an error if no month at all may be dropped now.
CREATE FUNCTION audit_retention_check(
    keep_months integer, force boolean, max_months integer, trust_clock boolean
) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    -- Entries that one with trust_clock follows, made by a clock that is not ahead of this one, are settled by it.
    last_time     constant timestamptz := (
        SELECT max(l.done_at) FROM @schema@.audit_retention_ledger l
        WHERE NOT EXISTS (SELECT FROM @schema@.audit_retention_ledger t
                          WHERE t.id > l.id AND 'trust_clock' = ANY (t.overrides) AND t.done_at <= clock_timestamp()));
    dropped_today constant bigint := (
        SELECT count(*) FROM @schema@.audit_retention_ledger
        -- A later entry was made while the clock was wrong.
        WHERE event = 'dropped' AND done_at BETWEEN now() - interval '1 day' AND clock_timestamp());
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- Its one old snapshot would not show the rows that were inserted meanwhile.
        RAISE EXCEPTION 'audit_logs: a month is dropped only in a READ COMMITTED transaction'
            USING ERRCODE = 'UA002';
    ELSIF keep_months < 12 AND force IS NOT TRUE THEN
        RAISE EXCEPTION 'audit_logs: fewer than 12 months (%) are kept only if forced', keep_months
            USING ERRCODE = 'UA002', HINT = 'PCI DSS 10.5.1 asks for twelve months of audit history.';
    ELSIF last_time > clock_timestamp() AND trust_clock IS NOT TRUE THEN
        RAISE EXCEPTION 'audit_logs: the clock shows %, but the ledger has an entry of %',
            clock_timestamp(), last_time
            USING ERRCODE = 'UA002',
                  HINT = 'Correct the database server''s clock. If it is right and was wrong then, set trust_clock '
                         '(--trust-clock) once: the ledger records that, and it settles all earlier entries.';
    ELSIF max_months IS NULL OR dropped_today >= max_months THEN
        RAISE EXCEPTION 'audit_logs: % months were dropped within a day, the limit is %',
            dropped_today, coalesce(max_months, 0)
            USING ERRCODE = 'UA002', HINT = 'Look at what was dropped; then repeat with a higher max_months.';
    END IF;
END
$$;

-- Records in the ledger a month that is about to be dropped. Returns the number of the ledger's entry. Its memory does
-- not grow with the rows: groups are sorted, not hashed, and a writer has 10,000 runs of numbers in each of its rows.
CREATE FUNCTION audit_retention_log(entry audit_retention_ledger) RETURNS bigint
    LANGUAGE plpgsql SET work_mem = '8MB' SET jit = off SET enable_hashagg = off
    AS $$
DECLARE
    created bigint;
    left_out bigint;
BEGIN
    INSERT INTO @schema@.audit_retention_ledger
        (id, event, month, from_time, to_time, row_count, digest, archive, archive_sha256, keep_months, overrides,
         reason)
    SELECT coalesce(max(id), 0) + 1, 'dropped', entry.month, entry.from_time, entry.to_time, entry.row_count,
           entry.digest, entry.archive, entry.archive_sha256, entry.keep_months,
           entry.overrides, entry.reason
    FROM @schema@.audit_retention_ledger
    RETURNING id INTO created;
    -- Runs of numbers are collected, not single numbers. A number beyond the limits of a range is no writer's.
    EXECUTE 'INSERT INTO @schema@.audit_retention_writers (entry, writer_id, part, row_count, numbers)
        SELECT $1, writer_id, part, sum(row_count), range_agg(int8range(first, last, ''[]'')) FROM (
            SELECT writer_id, row_count, first, last,
                   (row_number() OVER (PARTITION BY writer_id ORDER BY first) - 1) / 10000 + 1 AS part FROM (
                SELECT writer_id, count(*) AS row_count, min(writer_seq) AS first, max(writer_seq) AS last FROM (
                    SELECT writer_id, writer_seq,
                           writer_seq - dense_rank() OVER (PARTITION BY writer_id ORDER BY writer_seq) AS run
                    FROM @schema@.audit_logs WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL
                      AND writer_seq BETWEEN 1 AND 9223372036854775806) AS numbered
                GROUP BY writer_id, run) AS runs) AS parts
        GROUP BY writer_id, part' USING created, entry.from_time, entry.to_time;
    -- Of the numbers that a writer attested (audit.writer_alive), the highest is enough. No writer makes a record of
    -- more than 64 KiB. 64 MiB of a month are kept, the first records of each writer before the second ones: what is
    -- left out declares nothing, so its numbers count as missing.
    EXECUTE 'WITH declared AS (
            SELECT writer_id, action, metadata, created_at, id FROM @schema@.audit_logs
            WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL AND writer_seq IS NULL
              AND metadata IS NOT NULL
              AND action IN (''audit.writer_started'', ''audit.entries_lost'', ''audit.entry_quarantined'',
                             ''audit.entries_duplicate'', ''audit.writer_stopped'')
            UNION ALL
            (SELECT DISTINCT ON (writer_id) writer_id, action, metadata, created_at, id FROM @schema@.audit_logs
             WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL AND writer_seq IS NULL
               AND action = ''audit.writer_alive'' AND jsonb_typeof(metadata -> ''resolved_through'') = ''number''
             ORDER BY writer_id, metadata -> ''resolved_through'' DESC)),
        counted AS (
            SELECT *, row_number() OVER (PARTITION BY writer_id ORDER BY created_at, id) AS nth,
                   pg_column_size(metadata)::bigint AS size FROM declared),
        summed AS (
            SELECT *, sum(size) OVER (ORDER BY nth, created_at, id ROWS UNBOUNDED PRECEDING) AS total FROM counted
            WHERE size <= 65536),
        kept AS (
            INSERT INTO @schema@.audit_retention_declarations (entry, writer_id, action, metadata)
            SELECT $1, writer_id, action, metadata FROM summed WHERE total <= 67108864 RETURNING 1)
        SELECT (SELECT count(*) FROM counted) - (SELECT count(*) FROM kept)'
        INTO left_out USING created, entry.from_time, entry.to_time;
    IF left_out > 0 THEN
        RAISE WARNING 'audit_logs: % records of writers in % are larger than any writer makes, or too many, and are not '
            'kept in the ledger', left_out, entry.month;
    END IF;
    RETURN created;
END
$$;

-- What depends on partitions beside the trail itself: a login without any right on a table can make a view, a function
-- or a rule that names it, and the table could then not be dropped. has_reader: it belongs to somebody who may read the
-- partitions, or it is not known to whom.
CREATE FUNCTION audit_retention_dependents(partitions regclass[]) RETURNS TABLE (description text, has_reader boolean)
    LANGUAGE sql STABLE
    AS $$
    WITH RECURSIVE found (classid, objid, objsubid) AS (
        SELECT 'pg_class'::regclass::oid, p::oid, 0 FROM unnest(partitions) AS p
        UNION
        -- The rule of a view stands for the view, with which it goes. The type of a table's rows is a part of it.
        SELECT CASE WHEN v.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(v.oid, d.objid),
               CASE WHEN v.oid IS NULL THEN d.objsubid ELSE 0 END
        FROM found f
        JOIN pg_depend d ON d.refclassid = f.classid AND d.refobjid = f.objid
             AND (f.objsubid = 0 OR d.refobjsubid = f.objsubid)
             AND (d.deptype = 'n' OR d.deptype = 'i' AND d.classid = 'pg_type'::regclass)
        LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        LEFT JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
    )
    SELECT pg_describe_object(f.classid, f.objid, f.objsubid) || coalesce(' of ' || owner.oid::regrole, ''),
           coalesce((SELECT bool_or(has_any_column_privilege(owner.oid, p::oid, 'SELECT'))
                     FROM unnest(partitions) AS p), true)
    FROM found f
    LEFT JOIN pg_rewrite rule ON f.classid = 'pg_rewrite'::regclass AND rule.oid = f.objid
    LEFT JOIN pg_policy policy ON f.classid = 'pg_policy'::regclass AND policy.oid = f.objid
    LEFT JOIN pg_class c ON c.oid = CASE f.classid WHEN 'pg_class'::regclass THEN f.objid
                                    ELSE coalesce(rule.ev_class, policy.polrelid) END
    LEFT JOIN pg_proc proc ON f.classid = 'pg_proc'::regclass AND proc.oid = f.objid
    LEFT JOIN pg_type type ON f.classid = 'pg_type'::regclass AND type.oid = f.objid
    LEFT JOIN pg_roles owner ON owner.oid = coalesce(c.relowner, proc.proowner, type.typowner)
    WHERE (f.classid <> 'pg_class'::regclass OR f.objid <> ALL (partitions::oid[]) OR f.objsubid <> 0)
      -- The types of rows, and of arrays of them.
      AND (type.typtype = 'c' OR type.typcategory = 'A') IS NOT TRUE
    ORDER BY 1
    $$;

-- Drops partitions, with what depends on them and belongs to nobody who may read them: it never worked, and would
-- prevent the drop. Refuses (SQLSTATE UA002) if something else depends on them.
CREATE FUNCTION audit_retention_drop_tables(partitions regclass[]) RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '100ms'
    AS $$
DECLARE
    needed constant text := (
        SELECT string_agg(d.description, ', ') FROM @schema@.audit_retention_dependents(partitions) d
        WHERE d.has_reader);
BEGIN
    IF needed IS NOT NULL THEN
        RAISE EXCEPTION 'audit_logs: % cannot be dropped, because of: %', array_to_string(partitions, ', '), needed
            USING ERRCODE = 'UA002', HINT = 'Drop what depends on it, as its owner or as a superuser, and repeat it.';
    END IF;
    EXECUTE format('DROP TABLE %s CASCADE', array_to_string(partitions, ', '));
END
$$;

-- Drops the partitions of a month, unless a hold covers it by now or rows were inserted since the snapshot. An attempt
-- that does not get its locks at once releases them: audit_logs_lock_exclusively().
CREATE FUNCTION audit_retention_drop(starts timestamptz, ends timestamptz, before pg_snapshot) RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '100ms' SET enable_seqscan = off
    AS $$
DECLARE
    attempts int := 0;
    segments regclass[];
    segment  regclass;
    late     boolean;
    holds    bigint[];
BEGIN
    LOOP
        BEGIN
            -- As audit_logs_lock_partitions(). Nobody waits behind this lock but maintenance.
            LOCK TABLE ONLY @schema@.audit_logs IN SHARE UPDATE EXCLUSIVE MODE;
            segments := (SELECT array_agg(p.partition ORDER BY p.from_time) FROM @schema@.audit_logs_partitions() p
                         WHERE p.from_time >= starts AND p.to_time <= ends);
            IF segments IS NULL THEN
                RAISE EXCEPTION 'audit_logs: there is no partition from % to %', starts, ends
                    USING ERRCODE = 'UA003', HINT = 'Repeat it.';
            END IF;
            -- Waits for a hold that is being added.
            LOCK TABLE @schema@.audit_legal_holds IN SHARE UPDATE EXCLUSIVE MODE;
            PERFORM @schema@.audit_logs_lock_exclusively(segments);
            FOREACH segment IN ARRAY segments LOOP
                -- By the BRIN index on tx_id: milliseconds, also without statistics, as no other index has a condition.
                -- Rows of another cluster may have any tx_id.
                EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE tx_id >= $1 AND tx_id < $2
                                AND NOT pg_visible_in_snapshot(tx_id::text::xid8, $3))', segment)
                    INTO late
                    USING pg_snapshot_xmin(before)::text::bigint,
                          pg_snapshot_xmax(pg_current_snapshot())::text::bigint, before;
                IF late THEN
                    RAISE EXCEPTION 'audit_logs: rows were inserted into % while it was being read; nothing was dropped',
                        segment
                        USING ERRCODE = 'UA003', HINT = 'Repeat it; an archive of it as well.';
                END IF;
            END LOOP;
            holds := @schema@.audit_holds_on('@schema@.audit_logs', starts, ends);
            IF holds <> '{}' THEN
                RAISE EXCEPTION 'audit_logs: % is under the legal holds %', segments[1], holds
                    USING ERRCODE = 'UA002';
            END IF;
            PERFORM @schema@.audit_retention_drop_tables(segments);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            attempts := attempts + 1;
            IF attempts >= 60 THEN
                RAISE EXCEPTION 'audit_logs: % was not dropped, other sessions locked the table during % attempts',
                    segments[1], attempts
                    USING ERRCODE = 'lock_not_available',
                          HINT = 'Repeat it when the long queries on audit_logs have ended.';
            END IF;
            PERFORM pg_sleep(least(0.25 * attempts, 1));
        END;
    END LOOP;
END
$$;

-- Drops the partition of one whole month. Returns the number of the ledger's entry about it. Refuses (SQLSTATE
-- UA002) a partition whose verdict in audit_retention_plan is not drop, to keep fewer than 12 months unless
-- forced, and to drop more than max_months within a day. An archive must have the digest of the rows.
CREATE FUNCTION audit_logs_drop_month(
    partition      name,
    keep_months    integer,
    reason         text,
    force          boolean DEFAULT false,
    max_months     integer DEFAULT 3,
    trust_clock    boolean DEFAULT false,
    archive        text    DEFAULT NULL,
    archive_sha256 bytea   DEFAULT NULL,
    archive_digest bytea   DEFAULT NULL,
    drop_unreadable boolean DEFAULT false
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    before  constant pg_snapshot := pg_current_snapshot();
    planned record;
    found   record;
    entry   @schema@.audit_retention_ledger;
BEGIN
    PERFORM @schema@.audit_retention_lock();
    PERFORM @schema@.audit_retention_check(keep_months, force, max_months, trust_clock);
    SELECT * INTO planned FROM @schema@.audit_retention_plan(keep_months, trust_clock) p
    WHERE p.partition = audit_logs_drop_month.partition
    -- Two partitions in different schemas may have one name.
    ORDER BY p.verdict <> 'drop', p.from_time LIMIT 1;
    IF planned.verdict IS DISTINCT FROM 'drop' THEN
        RAISE EXCEPTION 'audit_logs: % is not to be dropped (%)', partition,
            CASE coalesce(planned.verdict, '')
                WHEN '' THEN 'there is no such partition'
                WHEN 'keep' THEN format('it holds rows of the last %s months', keep_months)
                WHEN 'held' THEN format('under the legal holds %s', planned.holds)
                WHEN 'too_few_recent' THEN
                    format('fewer than %s later months hold rows: is the clock right?', keep_months)
                ELSE 'it is not a whole month' END
            USING ERRCODE = 'UA002';
    END IF;
    SELECT * INTO found FROM @schema@.audit_logs_digest(planned.from_time, planned.to_time);
    IF found.unreadable > 0 AND drop_unreadable IS NOT TRUE THEN
        RAISE EXCEPTION 'audit_logs: % rows of % have a value that cannot be turned into text, so no archive has it: %',
            found.unreadable, partition, found.unreadable_row
            USING ERRCODE = 'UA002',
                  HINT = 'Save what you need of them. Then set drop_unreadable (--drop-unreadable): the ledger '
                         'records that.';
    END IF;
    IF archive IS NOT NULL AND archive_digest IS DISTINCT FROM found.digest THEN
        RAISE EXCEPTION 'audit_logs: the archive of % does not have its rows; nothing was dropped', partition
            USING ERRCODE = 'UA003',
                  HINT = 'Rows were inserted meanwhile, or the archive''s reader does not see them all. '
                         'Write the archive again.';
    END IF;
    entry.month := planned.month;
    entry.from_time := planned.from_time;
    entry.to_time := planned.to_time;
    entry.row_count := found.row_count;
    entry.digest := found.digest;
    entry.archive := archive;
    entry.archive_sha256 := archive_sha256;
    entry.keep_months := keep_months;
    entry.overrides := array_remove(ARRAY[
        CASE WHEN keep_months < 12 THEN 'force' END,
        CASE WHEN trust_clock THEN 'trust_clock' END,
        CASE WHEN found.unreadable > 0 THEN 'drop_unreadable' END], NULL);
    entry.reason := reason;
    entry.id := @schema@.audit_retention_log(entry);
    -- By its oid: a table of another schema may have its name.
    PERFORM @schema@.audit_retention_drop(planned.from_time, planned.to_time, before);
    RETURN entry.id;
END
$$;

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', f)
FROM unnest(ARRAY[
    'audit_hold_add(text, text, timestamptz, timestamptz)',
    'audit_hold_release(bigint, text)',
    'audit_tenant_condition(text)',
    'audit_hold_coverage(text, timestamptz, timestamptz)',
    'audit_holds_on(regclass, timestamptz, timestamptz)',
    'audit_logs_months()',
    'audit_retention_plan(integer, boolean)',
    'audit_digest_step(bytea, bytea)',
    'audit_logs_line_query()',
    'audit_logs_long_line(uuid, timestamptz)',
    'audit_logs_lines(timestamptz, timestamptz)',
    'audit_logs_digest(timestamptz, timestamptz)',
    'audit_logs_has_row(json, name[], text[], jsonb)',
    'audit_logs_restore_row(json, name[], text[], jsonb)',
    'audit_retention_lock()',
    'audit_retention_check(integer, boolean, integer, boolean)',
    'audit_retention_log(audit_retention_ledger)',
    'audit_retention_dependents(regclass[])',
    'audit_retention_drop_tables(regclass[])',
    'audit_retention_drop(timestamptz, timestamptz, pg_snapshot)',
    'audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea, boolean)'
]::regprocedure[]) AS f;

DO $do$
DECLARE
    auditor    constant name := audit_role('auditor');
    maintainer constant name := audit_role('maintainer');
BEGIN
    EXECUTE format('GRANT SELECT ON audit_legal_holds, audit_retention_ledger, audit_retention_writers,
                    audit_retention_declarations TO %I, %I', auditor, maintainer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_months(), audit_retention_plan(integer, boolean),
                    audit_logs_digest(timestamptz, timestamptz) TO %I, %I', maintainer, auditor);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_lines(timestamptz, timestamptz),
                    audit_logs_has_row(json, name[], text[], jsonb) TO %I', auditor);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
                    audit_hold_add(text, text, timestamptz, timestamptz), audit_hold_release(bigint, text),
                    audit_hold_coverage(text, timestamptz, timestamptz),
                    audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea, boolean)
                    TO %I', maintainer);
END
$do$;

COMMENT ON TABLE audit_legal_holds IS
    'What must not be dropped, whatever its age. Append-only: a hold is a row, its release a further one.';
COMMENT ON COLUMN audit_legal_holds.id IS 'Counted from 1 without gaps.';
COMMENT ON COLUMN audit_legal_holds.releases IS
    'The hold that this row ends; null in a row that begins one.';
COMMENT ON COLUMN audit_legal_holds.tenant_id IS 'The tenant whose rows are held; null: all tenants.';
COMMENT ON COLUMN audit_legal_holds.from_time IS 'Rows from this created_at on are held; null: from the first.';
COMMENT ON COLUMN audit_legal_holds.to_time IS 'Rows before this created_at are held; null: up to the last.';
COMMENT ON COLUMN audit_legal_holds.created_by IS 'The user who logged in, whatever role was set since.';

COMMENT ON TABLE audit_retention_ledger IS
    'Which months were dropped from audit_logs, or restored. Append-only.';
COMMENT ON COLUMN audit_retention_ledger.id IS 'Counted from 1 without gaps.';
COMMENT ON COLUMN audit_retention_ledger.row_count IS 'How many rows there were.';
COMMENT ON COLUMN audit_retention_ledger.digest IS
    'What audit_logs_digest(from_time, to_time) returned for them.';
COMMENT ON COLUMN audit_retention_ledger.archive IS
    'The name of the archive file. The client says so, and that the file''s rows have this digest.';
COMMENT ON COLUMN audit_retention_ledger.archive_sha256 IS
    'The SHA-256 of that file, as the client gave it.';
COMMENT ON COLUMN audit_retention_ledger.keep_months IS 'How many months were to be kept.';
COMMENT ON COLUMN audit_retention_ledger.overrides IS
    'Which refusals were overridden: force, trust_clock, drop_unreadable; not_in_ledger, differs_from_ledger.';
COMMENT ON COLUMN audit_retention_ledger.done_by IS 'The user who logged in, whatever role was set since.';

COMMENT ON TABLE audit_retention_writers IS
    'Which writers'' entries were in a dropped month. Append-only.';
COMMENT ON COLUMN audit_retention_writers.part IS
    'Counted from 1: a row has at most 10,000 runs of consecutive numbers, and a writer with more has several rows.';
COMMENT ON COLUMN audit_retention_writers.row_count IS
    'How many rows; more than there are numbers if several rows claimed one.';
COMMENT ON COLUMN audit_retention_writers.numbers IS 'Their writer_seq.';

COMMENT ON TABLE audit_retention_declarations IS
    'What writers recorded about themselves in dropped months, at most 64 MiB of a month: losses they declared stay '
    'declared. Append-only.';

COMMENT ON FUNCTION audit_hold_add(text, text, timestamptz, timestamptz) IS
    'Prevents the rows of a tenant or a time range from being dropped.';
COMMENT ON FUNCTION audit_hold_coverage(text, timestamptz, timestamptz) IS
    'How many rows and months a hold with these restrictions would cover now.';
COMMENT ON FUNCTION audit_hold_release(bigint, text) IS 'Ends a hold.';
COMMENT ON FUNCTION audit_tenant_condition(text) IS 'A condition for the rows of a tenant, as text.';
COMMENT ON FUNCTION audit_logs_months() IS 'The months of audit_logs, each of one or more partitions.';
COMMENT ON FUNCTION audit_retention_plan(integer, boolean) IS
    'What would become of each partition of audit_logs if this number of months were kept.';
COMMENT ON FUNCTION audit_logs_line_query() IS 'A query for the lines of rows of audit_logs.';
COMMENT ON FUNCTION audit_logs_long_line(uuid, timestamptz) IS
    'The line of a row of audit_logs that may have long values.';
COMMENT ON FUNCTION audit_logs_lines(timestamptz, timestamptz) IS
    'The lines of an archive of the rows of audit_logs in a time range.';
COMMENT ON FUNCTION audit_logs_has_row(json, name[], text[], jsonb) IS
    'Whether audit_logs has a row of an archive that is too long, or nested too deeply, to be compared with others.';
COMMENT ON FUNCTION audit_logs_restore_row(json, name[], text[], jsonb) IS
    'Inserts a row of an archive that is too long, or nested too deeply, to be inserted with others.';
COMMENT ON FUNCTION audit_logs_digest(timestamptz, timestamptz) IS
    'The number and the digest of the rows of audit_logs in a time range.';
COMMENT ON FUNCTION
    audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea, boolean) IS
    'Drops one whole month of audit_logs and records it in the ledger.';
