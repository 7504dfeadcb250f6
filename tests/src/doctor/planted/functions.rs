//! Faults of functions.

use super::faults;

pub(super) const FAULTS: &[super::Fault] = faults! {
    Functions Critical "the body of the function public.audit_holds_on(", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit_holds_on'::regproc), 'RETURN found', 'RETURN ''{}'''); END $do$";
    // A body that is bound when it is created is not text.
    Functions Critical "function public.audit_holds_on(", "CREATE OR REPLACE FUNCTION audit_holds_on(partition regclass, starts timestamptz, ends timestamptz) RETURNS bigint[] \
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off RETURN '{}'::bigint[]";
    Functions Critical "function public.audit_logs_refuse_change()", "CREATE OR REPLACE FUNCTION audit_logs_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END'";
    Functions Critical "the body of the function public.audit_logs_refuse_change() was changed", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit_logs_refuse_change()'::regprocedure), 'copied boolean := false', 'copied boolean := true'); END $do$";
    Functions Critical "the body of the function public.audit_logs_check_moved() was changed", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit_logs_check_moved()'::regprocedure), 'IF NOT EXISTS', 'IF false AND NOT EXISTS'); END $do$";
    Functions Critical "of the function public.audit_uuid_v7()", "CREATE OR REPLACE FUNCTION audit_uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE RETURN gen_random_uuid()";
    Functions Critical "function public.audit_uuid_v7()", "CREATE OR REPLACE FUNCTION audit_uuid_v7() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'";
    Functions Critical "the body of the function public.audit_digest_step(bytea,bytea)", "CREATE OR REPLACE FUNCTION audit_digest_step(digest bytea, line bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS 'BEGIN RETURN digest; END'";
    Functions Critical "the aggregate of the function public.audit_digest(bytea)", "CREATE OR REPLACE AGGREGATE audit_digest(bytea) (SFUNC = audit_digest_step, STYPE = bytea, PARALLEL = SAFE)";
    Functions Critical "the body of the function public.audit_logs_lookup(", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[])'::regprocedure), 'a.id = w.id', 'true'); END $do$";
    Functions Critical "the body of the function public.audit_retention_check(", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit_retention_check(integer, boolean, integer, boolean)'::regprocedure), 'keep_months < 12', 'keep_months < 0'); END $do$";
    Functions Critical "the body of the function public.audit_logs_create_upcoming_partition(", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef((SELECT oid FROM pg_proc WHERE proname = 'audit_logs_create_upcoming_partition')::regprocedure), '24 months', '2400 months'); END $do$";
    Functions Critical "the body of the function public.audit_logs_restore_row(", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef((SELECT oid FROM pg_proc WHERE proname = 'audit_logs_restore_row')::regprocedure), 'THEN inserted > 0 END', 'THEN true END'); END $do$";
    Functions Critical "the body of the function public.audit_logs_lines(", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef((SELECT oid FROM pg_proc WHERE proname = 'audit_logs_lines')::regprocedure), 'BEGIN', 'BEGIN RETURN;'); END $do$";
    // A difference of white space is one.
    Functions Critical "the body of the function public.audit_role(text) was changed", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit_role(text)'::regprocedure), 'RETURN found;', 'RETURN  found;'); END $do$";
    Functions Warning "the arguments of the function public.audit_logs_drop_month(", "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef((SELECT oid FROM pg_proc WHERE proname = 'audit_logs_drop_month')::regprocedure), 'max_months integer DEFAULT 3', 'max_months integer DEFAULT 1000'); END $do$";

    // Attributes.
    Functions Warning "lacks SECURITY DEFINER", "ALTER FUNCTION audit_logs_index_closed_months(integer) SECURITY INVOKER";
    Functions Critical "has SECURITY DEFINER", "ALTER FUNCTION audit_uuid_v7() SECURITY DEFINER";
    Functions Critical "has SECURITY DEFINER", "ALTER FUNCTION audit_qualify_functions SECURITY DEFINER";
    Functions Critical "has SECURITY DEFINER", "ALTER FUNCTION audit_logs_ensure_partitions SECURITY DEFINER";
    Functions Critical "lacks SET search_path = pg_catalog, pg_temp", "ALTER FUNCTION audit_hold_add RESET search_path";
    Functions Critical "is SET search_path = public, pg_temp instead of", "ALTER FUNCTION audit_hold_add SET search_path = public, pg_temp";
    Functions Warning "lacks SET row_security = 'off'", "ALTER FUNCTION audit_logs_months() RESET row_security";
    Functions Warning "has SET work_mem = '1GB'", "ALTER FUNCTION audit_logs_months() SET work_mem = '1GB'";
    Functions Warning "lacks SET TimeZone = 'utc'", "ALTER FUNCTION audit_logs_create_partition(timestamp) RESET timezone";
    Functions Warning "lacks SET default_tablespace", "ALTER FUNCTION audit_logs_move_month RESET default_tablespace";
    Functions Warning "lacks SET enable_seqscan", "ALTER FUNCTION audit_hold_coverage RESET enable_seqscan";
    Functions Warning "is SET lock_timeout = '1h' instead of", "ALTER FUNCTION audit_logs_create_partition(timestamp) SET lock_timeout = '1h'";
    Functions Warning "function public.audit_hold_release(bigint,text)", "ALTER FUNCTION audit_hold_release RESET lock_timeout";
    Functions Warning "is IMMUTABLE instead of STABLE", "ALTER FUNCTION audit_holds_on IMMUTABLE";
    Functions Warning "has STRICT", "ALTER FUNCTION audit_logs_drop_month STRICT";
    Functions Warning "lacks STRICT", "ALTER FUNCTION audit_digest_step CALLED ON NULL INPUT";
    Functions Warning "lacks PARALLEL SAFE", "ALTER FUNCTION audit_uuid_v7() PARALLEL UNSAFE";
    Functions Warning "has LEAKPROOF", "ALTER FUNCTION audit_logs_lookup LEAKPROOF";
    Functions Info "has COST 5", "ALTER FUNCTION audit_role(text) COST 5";
    Functions Info "has ROWS 5", "ALTER FUNCTION audit_logs_months() ROWS 5";
    Functions Critical "the owner of the function public.audit_logs_drop_month(", "ALTER FUNCTION audit_logs_drop_month OWNER TO postgres";
    Functions Critical "the owner of the function public.audit_digest(bytea) is postgres", "ALTER AGGREGATE audit_digest(bytea) OWNER TO postgres";
    Functions Critical "belongs to the extension plpgsql", "ALTER EXTENSION plpgsql ADD FUNCTION audit_role(text)";
    Grants Warning "the owner has no EXECUTE on the function", "REVOKE EXECUTE ON FUNCTION audit_hold_add FROM trail_owner";

    // Missing and additional ones.
    Functions Warning "the function public.audit_logs_index_closed_months(integer) is missing", "DROP FUNCTION audit_logs_index_closed_months(integer)";
    Functions Warning "the function public.audit_logs_lookup(uuid[],timestamp with time zone[],uuid[],bigint[]) is missing", "DROP FUNCTION audit_logs_lookup";
    Functions Warning "the function public.audit_digest(bytea) is missing", "DROP AGGREGATE audit_digest(bytea)";
    Functions Warning "the function public.audit_retention_log(public.audit_retention_ledger) is missing", "DROP FUNCTION audit_retention_log";
    Functions Warning "the function public.audit_logs_ensure_partitions(date) is not part of the trail", "CREATE FUNCTION audit_logs_ensure_partitions(date) RETURNS integer LANGUAGE sql AS 'SELECT 0'";
    Functions Warning "the function public.audit_back_door() is not part of the trail", "CREATE FUNCTION audit_back_door() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM audit_roles'";
    Functions Warning "the function public.\"innocent ()\"() is not part of the trail", "CREATE FUNCTION \"innocent ()\"() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT'; ALTER FUNCTION \"innocent ()\"() OWNER TO trail_owner";
    Functions Info "the function public.audit_procedure() is not part of the trail", "CREATE PROCEDURE audit_procedure() LANGUAGE sql AS 'SELECT'";
};
