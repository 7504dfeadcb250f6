//! Mutation test of the attacks: without any one defence, the outcome of an attack changes. Each defence is
//! removed in turn, in a transaction.

use tokio_postgres::Client;

use super::fixture::{ATTACKERS, AttackFixture, text};
use super::list::How;

/// A query for SQL statements that each remove one defence: every trigger, its ALWAYS mode, every policy, row
/// security, every privilege that is granted, and every privilege that must not be granted. It includes the
/// table, three partitions and the default partition.
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

/// Defences that a second one backs up: the second one is removed first, then the defence itself.
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

/// Removes the triggers of the partitions; the table has its own.
const NO_TRUNCATE_GUARDS: &str = "
    DO $$ DECLARE part regclass; BEGIN
        FOR part IN SELECT inhrelid FROM pg_inherits JOIN pg_trigger ON tgrelid = inhrelid
                    WHERE inhparent = 'audit_logs'::regclass AND tgname = 'audit_logs_no_truncate' LOOP
            EXECUTE format('DROP TRIGGER audit_logs_no_truncate ON %s', part);
        END LOOP;
    END $$";

/// Runs each attack, with a superuser who assumes each attacker's role. Returns the outcomes, or the first
/// difference from the expected ones.
async fn run_attacks(
    fixture: &AttackFixture,
    client: &Client,
    expected: Option<&[Vec<String>]>,
) -> Result<Vec<Vec<String>>, String> {
    let mut found = Vec::new();
    // The owner first: for the others most statements are refused for several reasons.
    for nth in [5, 0, 1, 2, 3, 4, 6] {
        let (name, login) = ATTACKERS[nth];
        client.batch_execute("SAVEPOINT attacker").await.unwrap();
        client
            .batch_execute(&format!("SET LOCAL SESSION AUTHORIZATION {login}"))
            .await
            .unwrap();
        let mut column = Vec::new();
        for attack in fixture.attacks().filter(|attack| attack.how != How::Copy) {
            let outcome = fixture.attempt(client, attack).await;
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
async fn every_missing_defence_changes_the_outcome_of_an_attack() {
    let fixture = AttackFixture::open().await;
    let client = fixture.superuser().await;
    client.batch_execute("BEGIN").await.unwrap();
    let expected = run_attacks(&fixture, &client, None).await.unwrap();
    assert_eq!(
        run_attacks(&fixture, &client, Some(&expected)).await.as_ref(),
        Ok(&expected),
        "the outcomes are reproducible"
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
            false => run_attacks(&fixture, &client, None).await.unwrap(),
        };
        client
            .batch_execute(&undo)
            .await
            .unwrap_or_else(|error| panic!("{undo}: {error:?}"));
        match run_attacks(&fixture, &client, Some(&before)).await {
            Err(difference) => println!("{undo}: {difference}"),
            Ok(_) => unnoticed.push(undo),
        }
        client
            .batch_execute("ROLLBACK TO defence; RELEASE defence")
            .await
            .unwrap();
    }
    assert!(
        unnoticed.is_empty(),
        "no attack notices that these are missing: {unnoticed:#?}"
    );
}
