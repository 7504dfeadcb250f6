//! Which declared actions tests have written.

use std::collections::{BTreeMap, BTreeSet};

use super::Captured;
use crate::audit::Action;

/// Compares the actions that an application declares with those that its tests write.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use db_services::audit::testing::{Coverage, capture};
/// use db_services::audit::{AuditEntry, write_audit_log};
///
/// db_services::actions! {
///     const ACTIONS = {
///         INVOICE_SEND = ("invoice.send", Data, Execute, Informational, "An invoice was sent.");
///         INVOICE_VOID = ("invoice.void", Data, Delete, Medium, "An invoice was declared void.");
///     };
/// }
///
/// let mut coverage = Coverage::of(ACTIONS).known_gap(INVOICE_SEND, "needs a mail server");
/// coverage.add(&capture(async { drop(write_audit_log(AuditEntry::new(INVOICE_VOID))) }).await);
/// coverage.assert_complete();
/// # });
/// ```
///
/// One test drives everything that writes: tests that run in processes of their own cannot share a coverage.
#[derive(Clone, Debug)]
pub struct Coverage {
    declared: Vec<Action>,
    gaps: BTreeMap<&'static str, &'static str>,
    written: BTreeSet<String>,
}

impl Coverage {
    /// Begins with nothing written.
    pub fn of(declared: &[Action]) -> Self {
        Self {
            declared: declared.to_vec(),
            gaps: BTreeMap::new(),
            written: BTreeSet::new(),
        }
    }

    /// Accepts that no test writes an action, for a reason.
    pub fn known_gap(mut self, action: Action, reason: &'static str) -> Self {
        self.gaps.insert(action.name, reason);
        self
    }

    /// Adds what was captured.
    pub fn add<T>(&mut self, captured: &Captured<T>) {
        let actions = captured.entries().iter().map(|entry| entry.action.to_string());
        self.written.extend(actions);
    }

    /// Asserts that each declared action was written or is a known gap, that no known gap was written, and that each
    /// action that was written is declared.
    ///
    /// # Panics
    /// Otherwise; the message lists the actions.
    #[track_caller]
    #[allow(clippy::panic)] // a test kit: a test ends by panicking
    pub fn assert_complete(&self) {
        let faults = self.faults();
        if !faults.is_empty() {
            panic!(
                "the coverage of the declared actions is not complete:\n{}",
                faults.join("\n")
            );
        }
    }

    fn faults(&self) -> Vec<String> {
        let unwritten = self
            .declared
            .iter()
            .filter(|action| !self.written.contains(action.name) && !self.gaps.contains_key(action.name));
        let unwritten = unwritten.map(|action| format!("  {action} is declared, and no test writes it"));
        let closed = self.gaps.iter().filter(|(name, _)| self.written.contains(**name));
        let closed =
            closed.map(|(name, reason)| format!("  {name} is a known gap ({reason}), and a test writes it"));
        let undeclared = self
            .written
            .iter()
            .filter(|name| Action::find(&self.declared, name).is_none());
        let undeclared = undeclared.map(|name| format!("  {name} is written, and not declared"));
        unwritten.chain(closed).chain(undeclared).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::actions::{AUTH_LOGIN, AUTH_LOGOUT, SETTINGS_UPDATE};

    fn coverage(written: &[&str]) -> Coverage {
        let mut coverage = Coverage::of(&[AUTH_LOGIN, AUTH_LOGOUT]);
        coverage
            .written
            .extend(written.iter().map(|&name| name.to_owned()));
        coverage
    }

    #[test]
    fn actions_that_are_all_written_are_complete() {
        coverage(&["auth.login", "auth.logout"]).assert_complete();
    }

    #[test]
    fn an_action_that_no_test_writes_is_a_fault_unless_it_is_a_known_gap() {
        let partial = coverage(&["auth.login"]);
        assert_eq!(
            partial.faults(),
            ["  auth.logout is declared, and no test writes it"]
        );
        partial.known_gap(AUTH_LOGOUT, "no page yet").assert_complete();
    }

    #[test]
    fn a_known_gap_that_was_closed_is_a_fault() {
        let closed = coverage(&["auth.login", "auth.logout"]).known_gap(AUTH_LOGOUT, "no page yet");
        let expected = "  auth.logout is a known gap (no page yet), and a test writes it";
        assert_eq!(closed.faults(), [expected]);
    }

    #[test]
    fn an_action_that_is_not_declared_is_a_fault() {
        let more = coverage(&["auth.login", "auth.logout", SETTINGS_UPDATE.name]);
        assert_eq!(more.faults(), ["  settings.update is written, and not declared"]);
    }

    #[test]
    #[should_panic(expected = "auth.login is declared, and no test writes it")]
    fn the_assertion_lists_the_faults() {
        coverage(&[]).assert_complete();
    }
}
