//! Who can change, forge or see what, if they try? As each role, as the owner and as a superuser.

pub mod field;
mod list;
mod mutants;
mod sqlite;

use field::{ATTACKERS, Field};
use list::{ATTACKS, How};

/// What came of each attack, by attacker; each tried on a connection of the attacker's own.
async fn outcomes(field: &Field) -> Vec<Vec<String>> {
    let mut columns = Vec::new();
    for (_, login) in ATTACKERS {
        let client = field.login(login).await;
        client.batch_execute("BEGIN").await.unwrap();
        let mut column = Vec::new();
        for attack in field.attacks() {
            column.push(match attack.how {
                How::Copy => field.attempt_copy(login, attack.sql).await,
                _ => field.attempt(&client, attack).await,
            });
        }
        columns.push(column);
    }
    columns
}

fn table(field: &Field, columns: &[Vec<String>]) -> String {
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
            .filter(|attack| field.attacks().any(|known| known.what == attack.what))
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

/// Without what this version of PostgreSQL does not know.
fn documented(field: &Field) -> String {
    let known = |line: &&str| field.version >= 150_000 || !line.starts_with("| MERGE ");
    section("postgresql")
        .lines()
        .filter(known)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[tokio::test]
async fn who_is_refused_what_stands_in_the_documentation() {
    let field = Field::open().await;
    let before = field.rows().await;
    assert_eq!(before.len(), 4, "the rows that are attacked are there");
    let found = table(&field, &outcomes(&field).await);
    println!("{found}");
    assert_eq!(field.rows().await, before);
    assert!(
        found.trim() == documented(&field).trim(),
        "docs/append-only.md says otherwise; on this server it is\n\n{found}"
    );
}
