//! Attacks on the trail as each role, as the owner and as a superuser, compared with the documentation.

pub mod fixture;
mod list;
mod mutants;
mod sqlite;

use fixture::{ATTACKERS, AttackFixture};
use list::{ATTACKS, How};

/// The outcome of each attack, by attacker, each on a connection of the attacker.
async fn outcomes(fixture: &AttackFixture) -> Vec<Vec<String>> {
    let mut columns = Vec::new();
    for (_, login) in ATTACKERS {
        let client = fixture.login(login).await;
        client.batch_execute("BEGIN").await.unwrap();
        let mut column = Vec::new();
        for attack in fixture.attacks() {
            column.push(match attack.how {
                How::Copy => fixture.attempt_copy(login, attack.sql).await,
                _ => fixture.attempt(&client, attack).await,
            });
        }
        columns.push(column);
    }
    columns
}

fn table(fixture: &AttackFixture, columns: &[Vec<String>]) -> String {
    let mut table = String::new();
    let mut nth = 0;
    for (title, attacks) in ATTACKS {
        let heads: Vec<_> = ATTACKERS.iter().map(|(name, _)| *name).collect();
        table += &format!(
            "| {title} | {} |\n| --- |{}\n",
            heads.join(" | "),
            " --- |".repeat(heads.len())
        );
        for attack in attacks
            .iter()
            .filter(|attack| fixture.attacks().any(|known| known.what == attack.what))
        {
            let cells: Vec<_> = columns.iter().map(|column| column[nth].as_str()).collect();
            table += &format!("| {} | {} |\n", attack.what, cells.join(" | "));
            nth += 1;
        }
        table += "\n";
    }
    table
}

/// The documentation's tables for one kind of database.
fn section(kind: &str) -> &'static str {
    let page = include_str!("../../../docs/append-only.md");
    let (_, rest) = page.split_once(&format!("<!-- {kind} -->\n")).unwrap();
    rest.split_once("<!-- end -->").unwrap().0
}

/// The documented table, without attacks that this version of PostgreSQL does not support.
fn documented(fixture: &AttackFixture) -> String {
    let known = |line: &&str| fixture.version >= 150_000 || !line.starts_with("| MERGE ");
    section("postgresql")
        .lines()
        .filter(known)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[tokio::test]
async fn the_outcomes_of_all_attacks_are_documented() {
    let fixture = AttackFixture::open().await;
    let before = fixture.rows().await;
    assert_eq!(before.len(), 4, "the rows to attack are stored");
    let found = table(&fixture, &outcomes(&fixture).await);
    println!("{found}");
    assert_eq!(fixture.rows().await, before);
    assert!(
        found.trim() == documented(&fixture).trim(),
        "docs/append-only.md differs; the table of this server is\n\n{found}"
    );
}
