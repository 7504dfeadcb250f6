//! The settings of a session do not change what the trail's functions do.

use db_test::Server;

use crate::attacks::fixture::{connect, text};
use crate::support::TestDb;

/// The functions without these settings: the bodies of the first are bound when they are created, so no search_path
/// matters, and each of them is called for every row, where a setting would cost time.
const PER_ROW: &str = "{audit_uuid_v7,audit_digest_step}";

#[tokio::test]
async fn every_function_has_all_settings_of_the_list() {
    let db = TestDb::postgres().await;
    let client = connect(&db.url).await;
    let functions =
        "SELECT proname::text FROM pg_proc WHERE proname LIKE 'audit!_%' ESCAPE '!' AND prokind = 'f'";
    assert!(text(&client, functions).await.len() > 25);
    let lacking = format!(
        "SELECT format('%s lacks %s', p.oid::regprocedure, wanted) FROM pg_proc p, unnest('{{search_path,datestyle,timezone,\
             intervalstyle,lock_timeout,row_security,default_tablespace,default_table_access_method}}'::text[]) AS wanted \
         WHERE proname LIKE 'audit!_%' ESCAPE '!' AND prokind = 'f' AND proname <> ALL ('{PER_ROW}') \
           AND NOT EXISTS (SELECT FROM unnest(proconfig) AS had WHERE lower(split_part(had, '=', 1)) = wanted)"
    );
    assert_eq!(text(&client, &lacking).await, [""; 0]);
    let others = "SELECT had || ' in ' || proname FROM pg_proc p, unnest(proconfig) AS had \
                  WHERE proname LIKE 'audit!_%' ESCAPE '!' AND had ~ '^search_path' AND had <> 'search_path=pg_catalog, pg_temp'";
    assert_eq!(text(&client, others).await, [""; 0]);
}

/// Each would change the months, their storage, or the digest.
#[tokio::test]
async fn the_settings_of_a_session_do_not_change_months_and_digests() {
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    let client = connect(&db.url).await;
    client
        .batch_execute("SET allow_in_place_tablespaces = on")
        .await
        .unwrap();
    client
        .batch_execute("CREATE TABLESPACE elsewhere LOCATION ''")
        .await
        .unwrap();
    client
        .batch_execute(
            "CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
             INSERT INTO audit_logs (id, created_at, recorded_at, tx_id, action) VALUES
                 ('00000000-0000-7000-8000-000000000000', '2019-02-15', '2019-02-15', 1, 'x'),
                 ('00000000-0000-7000-8000-000000000000', '2018-02-15', '2019-02-15', 1, 'x')",
        )
        .await
        .unwrap();
    let digest = "SELECT encode(digest, 'hex') FROM audit_logs_digest('2018-01-01Z', '2020-01-01Z')";
    let before = text(&client, digest).await;
    client
        .batch_execute(
            "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kolkata'; SET intervalstyle = 'sql_standard';
             SET default_tablespace = 'elsewhere'; SET default_table_access_method = 'other'; SET row_security = off;
             SET extra_float_digits = -15; SET bytea_output = 'escape'; SET quote_all_identifiers = on;
             SELECT audit_logs_ensure_partitions('2019-03-01Z', '2019-05-01Z'), audit_logs_move_month('2019-02-01');
             CREATE TABLE probe ()",
        )
        .await
        .unwrap();
    let probe = "SELECT (reltablespace <> 0 AND relam <> 2)::text FROM pg_class WHERE relname = 'probe'";
    assert_eq!(text(&client, probe).await, ["true"], "the settings take effect");
    let elsewhere = "SELECT c.relname::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid \
                     WHERE inhparent = 'audit_logs'::regclass AND (reltablespace <> 0 OR relam <> 2)";
    assert_eq!(text(&client, elsewhere).await, [""; 0]);
    let months =
        "SELECT month FROM audit_logs_months() WHERE whole_month AND from_time < '2020-01-01Z' ORDER BY 1";
    assert_eq!(
        text(&client, months).await,
        ["2019-02", "2019-03", "2019-04", "2019-05"]
    );
    let odd = "SELECT partition::text FROM audit_logs_months() WHERE NOT whole_month";
    assert_eq!(text(&client, odd).await, ["audit_logs_default"]);
    let in_default = "SELECT month_start::text FROM audit_logs_default_months()";
    assert_eq!(text(&client, in_default).await, ["01/02/2018 00:00:00"]);
    assert_eq!(text(&client, digest).await, before);
}
