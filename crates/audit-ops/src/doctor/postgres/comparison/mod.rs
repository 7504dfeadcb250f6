//! Compares the catalog with a description of everything that the migrations make.
//!
//! Each difference is a finding: what is missing, what was changed, and what is there in addition, unless the
//! operator allows it. The description, `expected.txt`, is generated from the migrations (`just catalog`).

mod description;
mod difference;
mod finding;
mod names;
mod query;
mod remedy;
mod severity;

use super::session::Session;
use crate::doctor::allow::Allowed;
use crate::doctor::{Code, DoctorError, Finding};

pub(super) use names::Names;

/// What the migrations make.
const EXPECTED: &str = include_str!("expected.txt");

/// The checks that the comparison serves, with the text to report if it finds nothing.
const CHECKS: [(Code, &str); 12] = [
    (
        Code::Roles,
        "without rights of their own, and no member has too many",
    ),
    (Code::Grants, "no excess rights, none missing"),
    (Code::RowSecurity, "on, with its three policies"),
    (Code::Triggers, "on every partition, always enabled"),
    (Code::OtherTriggers, "none"),
    (Code::Tables, "as the migrations created them"),
    (Code::Functions, "as the migrations created them"),
    (Code::Indexes, "all exist and are valid"),
    (Code::UnattachedTables, "none"),
    (Code::Dependents, "none"),
    (Code::Settings, "none"),
    (Code::PreparedTransactions, "none"),
];

/// Compares the catalog with the description. The caller has begun a transaction.
pub(super) async fn examine(
    session: &Session,
    names: &Names,
    allowed: &mut Allowed,
) -> Result<Vec<Finding>, DoctorError> {
    let expected = description::parse(EXPECTED);
    let condition = description::table_condition(&expected);
    let actual = match query::catalog(session, names, &condition).await? {
        Ok(actual) => actual,
        Err(message) => {
            let unchecked = |(code, _)| Finding::unchecked(code, message.clone());
            return Ok(CHECKS.map(unchecked).into());
        }
    };
    let expected = names.fill(expected);
    let mut differences = difference::all(&expected, &actual, names);
    differences.retain(|difference| !allowed.allows(&difference.extras(), &difference.sentence()));
    let mut findings: Vec<Finding> = differences
        .iter()
        .map(|difference| finding::of(difference, &expected, names))
        .collect();
    for (code, ok) in CHECKS {
        if !findings.iter().any(|finding| finding.code == code) {
            findings.push(Finding::ok(code, ok));
        }
    }
    Ok(findings)
}

/// Describes a trail as `expected.txt` does. The names of its schema and roles must occur nowhere else.
pub(super) async fn describe(session: &Session, names: &Names) -> Result<String, DoctorError> {
    let all = "c.relname LIKE 'audit!_%' ESCAPE '!'";
    let actual = query::catalog(session, names, all)
        .await?
        .map_err(DoctorError::Description)?;
    Ok(description::format(&actual, names))
}
