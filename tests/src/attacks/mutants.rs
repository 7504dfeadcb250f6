//! Would the suite notice if one defence were missing? Each is taken away in turn, in a transaction.

use tokio_postgres::Client;

use super::field::{ATTACKERS, Field, text};
use super::list::How;

/// Every trigger, that it holds for a replica too, every policy, row security, every right given, and
/// rights that are not to be given: as SQL that undoes it. Of the partitions, three and the default.
const DEFENCES: &str = "
    WITH tree AS (
        SELECT 'audit_logs'::regclass AS rel UNION ALL
        SELECT tableoid::regclass FROM audit_logs WHERE tableoid <> 'made_by_hand'::regclass
    ), given AS (
        SELECT format('%s ON %s', privilege_type, oid::regclass) AS what, grantee FROM pg_class c, aclexplode(c.relacl)
        WHERE oid IN ('audit_logs'::regclass, 'audit_roles'::regclass) AND grantee <> relowner
        UNION ALL
        SELECT format('%s (%I) ON %s', privilege_type, attname, attrelid::regclass), grantee FROM pg_attribute, aclexplode(attacl)
        WHERE attrelid = 'audit_logs'::regclass
        UNION ALL
        SELECT format('%s ON FUNCTION %s', privilege_type, oid::regprocedure), grantee FROM pg_proc, aclexplode(proacl)
        WHERE proname LIKE 'audit\\_%' AND grantee NOT IN (0, proowner)
    )
    SELECT format('DROP TRIGGER %I ON %s', tgname, rel) FROM tree JOIN pg_trigger ON tgrelid = rel
        WHERE tgparentid = 0 AND (tgname, rel) <> ('audit_logs_no_truncate', 'audit_logs'::regclass)
    UNION ALL SELECT format('ALTER TABLE %s ENABLE TRIGGER %I', rel, tgname) FROM tree JOIN pg_trigger ON tgrelid = rel
        WHERE (tgname, rel) <> ('audit_logs_no_truncate', 'audit_logs'::regclass)
    UNION ALL SELECT format('DROP POLICY %I ON audit_logs', polname) FROM pg_policy WHERE polrelid = 'audit_logs'::regclass
    UNION ALL SELECT 'ALTER TABLE audit_logs DISABLE ROW LEVEL SECURITY'
    UNION ALL SELECT format('REVOKE %s FROM %s', what, grantee::regrole) FROM given
    UNION ALL SELECT format('GRANT %s ON %s TO PUBLIC', needed, rel)
        FROM tree, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) AS needed
        WHERE (needed, rel = 'audit_logs'::regclass) NOT IN (('INSERT', false), ('TRIGGER', true))
    UNION ALL SELECT format('GRANT INSERT (%I) ON audit_logs TO audit_writer', col) FROM unnest('{recorded_at,tx_id}'::text[]) AS col
    UNION ALL SELECT format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', oid::regprocedure) FROM pg_proc
        WHERE proname LIKE 'audit\\_%' AND prosecdef
    UNION ALL SELECT 'GRANT UPDATE ON audit_roles TO PUBLIC'
    UNION ALL SELECT 'GRANT CREATE ON SCHEMA public TO PUBLIC'
    UNION ALL SELECT 'GRANT attack_owner TO attack_writer'
    UNION ALL SELECT 'ALTER ROLE attack_reader BYPASSRLS'
    UNION ALL SELECT 'CREATE POLICY one_more ON audit_logs USING (true)'";

/// Defences with another one behind them: that is taken away first, then the defence itself.
const DOUBLED: [(&str, &str); 6] = [
    (
        NO_TRUNCATE_GUARDS,
        "DROP TRIGGER audit_logs_no_truncate ON audit_logs",
    ),
    (
        NO_TRUNCATE_GUARDS,
        "ALTER TABLE audit_logs ENABLE TRIGGER audit_logs_no_truncate",
    ),
    (
        "ALTER TABLE audit_logs_default DISABLE ROW LEVEL SECURITY",
        "GRANT INSERT ON audit_logs_default TO PUBLIC",
    ),
    (
        "GRANT INSERT ON audit_logs_default TO PUBLIC",
        "ALTER TABLE audit_logs_default DISABLE ROW LEVEL SECURITY",
    ),
    (
        "GRANT SELECT ON audit_logs_2031_05 TO PUBLIC",
        "ALTER TABLE audit_logs_2031_05 DISABLE ROW LEVEL SECURITY",
    ),
    (
        "GRANT TRIGGER ON ALL TABLES IN SCHEMA public TO PUBLIC; REVOKE TRIGGER ON audit_logs FROM PUBLIC",
        "GRANT TRIGGER ON audit_logs TO PUBLIC",
    ),
];

/// On the partitions; the table has its own.
const NO_TRUNCATE_GUARDS: &str = "
    DO $$ DECLARE part regclass; BEGIN
        FOR part IN SELECT inhrelid FROM pg_inherits JOIN pg_trigger ON tgrelid = inhrelid
                    WHERE inhparent = 'audit_logs'::regclass AND tgname = 'audit_logs_no_truncate' LOOP
            EXECUTE format('DROP TRIGGER audit_logs_no_truncate ON %s', part);
        END LOOP;
    END $$";

/// What comes of each attack, one after the other, when a superuser takes the attackers' places.
/// Stops at the first that is not as expected, and names it.
async fn differs(
    field: &Field,
    client: &Client,
    expected: Option<&[Vec<String>]>,
) -> Result<Vec<Vec<String>>, String> {
    let mut found = Vec::new();
    // The owner first: for the others most statements are refused for more than one reason.
    for nth in [5, 0, 1, 2, 3, 4, 6] {
        let (name, login) = ATTACKERS[nth];
        client.batch_execute("SAVEPOINT attacker").await.unwrap();
        client
            .batch_execute(&format!("SET LOCAL SESSION AUTHORIZATION {login}"))
            .await
            .unwrap();
        let mut column = Vec::new();
        for attack in field.attacks().filter(|attack| attack.how != How::Copy) {
            let outcome = field.attempt(client, attack).await;
            if let Some(expected) = expected.map(|columns| &columns[found.len()][column.len()])
                && *expected != outcome
            {
                return Err(format!(
                    "{}, {name}: {outcome} instead of {expected}",
                    attack.what
                ));
            }
            column.push(outcome);
        }
        client
            .batch_execute("ROLLBACK TO attacker; RELEASE attacker")
            .await
            .unwrap();
        found.push(column);
    }
    Ok(found)
}

#[tokio::test]
async fn every_defence_is_missed_when_it_is_gone() {
    let field = Field::open().await;
    let client = field.superuser().await;
    client.batch_execute("BEGIN").await.unwrap();
    let expected = differs(&field, &client, None).await.unwrap();
    assert_eq!(
        differs(&field, &client, Some(&expected)).await.as_ref(),
        Ok(&expected),
        "twice the same"
    );
    let mut unnoticed = Vec::new();
    let alone = text(&client, DEFENCES)
        .await
        .into_iter()
        .map(|undo| (String::new(), undo));
    let doubled = DOUBLED
        .iter()
        .map(|(behind, undo)| (behind.to_string(), undo.to_string()));
    for (behind, undo) in alone.chain(doubled) {
        client.batch_execute("SAVEPOINT defence").await.unwrap();
        client.batch_execute(&behind).await.unwrap();
        let before = match behind.is_empty() {
            true => expected.clone(),
            false => differs(&field, &client, None).await.unwrap(),
        };
        client
            .batch_execute(&undo)
            .await
            .unwrap_or_else(|error| panic!("{undo}: {error:?}"));
        match differs(&field, &client, Some(&before)).await {
            Err(difference) => println!("{undo}: {difference}"),
            Ok(_) => unnoticed.push(undo),
        }
        client
            .batch_execute("ROLLBACK TO defence; RELEASE defence")
            .await
            .unwrap();
    }
    assert!(unnoticed.is_empty(), "nothing fails without {unnoticed:#?}");
}
