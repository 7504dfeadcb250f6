//! Filters without the secrets that they look for, for the record of a reading.

use super::filter::{AuditFilter, Condition, Test};
use crate::audit::scrub;

impl AuditFilter {
    /// The filter with a marker in place of the value of each member that has the name of a secret.
    pub(in crate::audit) fn without_secret_members(&self) -> Self {
        self.conditions.iter().cloned().map(without_secret).collect()
    }
}

fn without_secret(condition: Condition) -> Condition {
    let test = match condition.test {
        Test::Member(path, _) if path.iter().any(|name| scrub::is_secret_name(name)) => {
            Test::Member(path, "[scrubbed: name]".to_owned())
        }
        other => other,
    };
    Condition { test, ..condition }
}
