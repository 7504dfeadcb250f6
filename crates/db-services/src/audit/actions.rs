//! Actions with a declared meaning.
//!
//! An action is any text, `noun.verb` by convention. One that is declared as an [`Action`] also has a category, a
//! verb, a severity and a sentence that says what it means. A compiler finds a misspelt constant, and the formats of
//! SIEMs (OCSF, ECS, CEF) map from category, verb and severity.
//!
//! The usual actions are declared here. An application declares its own in the same way:
//!
//! ```
//! use db_services::audit::AuditEntry;
//! use db_services::audit::actions::AUTH_LOGIN;
//!
//! db_services::actions! {
//!     /// What this application records of its own.
//!     pub const ACTIONS = {
//!         INVOICE_SEND = ("invoice.send", Data, Execute, Informational, "An invoice was sent to its customer.");
//!         INVOICE_VOID = ("invoice.void", Data, Delete, Medium, "An invoice was declared void.");
//!     };
//! }
//!
//! let entry = AuditEntry::new(INVOICE_VOID).resource("invoice", "2026-0117");
//! assert_eq!(entry.action, "invoice.void");
//! assert_eq!(AuditEntry::new(AUTH_LOGIN).action, "auth.login");
//! assert_eq!(ACTIONS.len(), 2);
//! ```
//!
//! `auditlog actions --used --declared FILE` compares the declared actions with those in the table. The file is the list
//! as JSON, which the application prints:
//!
//! ```
//! use db_services::audit::actions::USUAL as ACTIONS;
//!
//! println!("{}", serde_json::to_string(ACTIONS)?);
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt;

use compact_str::CompactString;
use serde::Serialize;

use super::limits::TEXT_CHARS;

/// An action with a declared meaning. Created by [`actions!`](crate::actions).
///
/// It serialises as an object with its fields' names, as the command `auditlog` and other languages read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Action {
    /// The text that an entry's `action` gets.
    pub name: &'static str,
    /// What it concerns.
    pub category: Category,
    /// What is done.
    pub verb: Verb,
    /// How much attention it needs when it succeeds.
    pub severity: Severity,
    /// A sentence that says what happened.
    pub meaning: &'static str,
}

/// What an action concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Category {
    /// Signing in and out. OCSF class 3002, ECS `authentication`.
    Authentication,
    /// Accounts, groups, rights, credentials. OCSF classes 3001 and 3005, ECS `iam`.
    Identity,
    /// How the application is set up. OCSF class 3004, ECS `configuration`.
    Configuration,
    /// The things that the application keeps for its users. OCSF class 6003, ECS `database`.
    Data,
    /// The audit trail itself. OCSF class 6003, ECS `configuration`.
    Audit,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verb {
    /// A session begins, or fails to.
    Logon,
    /// A session ends.
    Logoff,
    /// A thing begins to exist.
    Create,
    /// A thing is looked at or exported.
    Read,
    /// A thing changes.
    Update,
    /// A thing ceases to exist, or to count.
    Delete,
    /// A right or a credential is given.
    Grant,
    /// A right or a credential is taken.
    Revoke,
    /// Something is done with a thing that leaves it as it is.
    Execute,
}

/// How much attention an action needs. The order is that of OCSF's `severity_id`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Nothing is to be done.
    Informational,
    /// Worth a look when there are many.
    Low,
    /// Worth a look each time.
    Medium,
    /// Somebody should look soon.
    High,
    /// Somebody should look now.
    Critical,
}

impl Action {
    /// Used by [`actions!`](crate::actions), which checks the name.
    #[doc(hidden)]
    pub const fn declared(
        name: &'static str,
        category: Category,
        verb: Verb,
        severity: Severity,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            category,
            verb,
            severity,
            meaning,
        }
    }

    /// Returns the first action with this name.
    pub fn find(actions: &[Self], name: &str) -> Option<Self> {
        actions.iter().find(|action| action.name == name).copied()
    }
}

impl From<Action> for CompactString {
    #[inline]
    fn from(action: Action) -> Self {
        Self::const_new(action.name)
    }
}

impl AsRef<str> for Action {
    fn as_ref(&self) -> &str {
        self.name
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

/// Why the names of declared actions cannot be used, for the compiler's message.
#[doc(hidden)]
pub const fn fault(actions: &[Action]) -> Option<&'static str> {
    let mut nth = 0;
    while nth < actions.len() {
        if let Some(fault) = name_fault(actions[nth].name.as_bytes()) {
            return Some(fault);
        }
        let mut other = 0;
        while other < nth {
            if is_equal(actions[nth].name.as_bytes(), actions[other].name.as_bytes()) {
                return Some("two actions have the same name");
            }
            other += 1;
        }
        nth += 1;
    }
    None
}

const NOT_NOUN_VERB: &str = "the name of an action is `noun.verb`, of a-z, 0-9, `_`, `-`, `.`";

const fn name_fault(name: &[u8]) -> Option<&'static str> {
    if name.len() > TEXT_CHARS {
        return Some("the name of an action has more than 512 bytes");
    }
    if let [b'a', b'u', b'd', b'i', b't', b'.', ..] = name {
        return Some("names that begin with `audit.` are reserved");
    }
    let (mut dots, mut nth) = (0, 0);
    while nth < name.len() {
        match name[nth] {
            b'.' if nth > 0 && name[nth - 1] != b'.' => dots += 1,
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => {}
            _ => return Some(NOT_NOUN_VERB),
        }
        nth += 1;
    }
    if dots == 0 || name[name.len() - 1] == b'.' {
        return Some(NOT_NOUN_VERB);
    }
    None
}

const fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let mut nth = 0;
    while nth < left.len() && nth < right.len() && left[nth] == right[nth] {
        nth += 1;
    }
    nth == left.len() && nth == right.len()
}

/// Declares actions: a constant for each, and one for the list of them. See [`audit::actions`](crate::audit::actions).
///
/// Each has a name, a [`Category`](crate::audit::actions::Category), a [`Verb`](crate::audit::actions::Verb), a
/// [`Severity`](crate::audit::actions::Severity) and a sentence that becomes its documentation. A name that is not
/// `noun.verb`, that is reserved or that occurs twice does not compile:
///
/// ```compile_fail
/// db_services::actions! {
///     pub const ACTIONS = {
///         SEND = ("send", Data, Execute, Informational, "Something was sent.");
///     };
/// }
/// ```
#[macro_export]
macro_rules! actions {
    (
        $(#[$attribute:meta])*
        $visibility:vis const $list:ident = {
            $($constant:ident = ($name:literal, $category:ident, $verb:ident, $severity:ident, $meaning:literal);)*
        };
    ) => {
        $(
            #[doc = concat!("`", $name, "`: ", $meaning)]
            $visibility const $constant: $crate::audit::actions::Action = $crate::audit::actions::Action::declared(
                $name,
                $crate::audit::actions::Category::$category,
                $crate::audit::actions::Verb::$verb,
                $crate::audit::actions::Severity::$severity,
                $meaning,
            );
        )*
        $(#[$attribute])*
        $visibility const $list: &[$crate::audit::actions::Action] = &[$($constant),*];
        const _: () = if let Some(fault) = $crate::audit::actions::fault($list) {
            panic!("{}", fault)
        };
    };
}

crate::actions! {
    /// The actions that most applications have.
    pub const USUAL = {
        AUTH_LOGIN = ("auth.login", Authentication, Logon, Informational, "Somebody signed in.");
        AUTH_LOGOUT = ("auth.logout", Authentication, Logoff, Informational, "Somebody signed out.");
        AUTH_LOGIN_FAILED = ("auth.login_failed", Authentication, Logon, Low, "Somebody failed to sign in.");
        AUTH_LOCKED_OUT = ("auth.locked_out", Authentication, Revoke, Medium, "An account was locked after failed sign-ins.");
        SKILL_CREATE = ("skill.create", Data, Create, Informational, "A skill was created.");
        SKILL_UPDATE = ("skill.update", Data, Update, Informational, "A skill was changed.");
        SKILL_DELETE = ("skill.delete", Data, Delete, Low, "A skill was deleted.");
        ADMIN_DELETE_SKILL = ("admin.delete_skill", Data, Delete, Medium, "An administrator deleted another user's skill.");
        ADMIN_MERGE_SKILLS = ("admin.merge_skills", Data, Update, Medium, "An administrator merged skills into one.");
        API_KEY_CREATE = ("api_key.create", Identity, Grant, Medium, "An API key was issued.");
        API_KEY_REVOKE = ("api_key.revoke", Identity, Revoke, Low, "An API key was revoked.");
        SETTINGS_UPDATE = ("settings.update", Configuration, Update, Low, "A setting was changed.");
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditEntry;

    fn fault_of(name: &'static str) -> Option<&'static str> {
        fault(&[Action { name, ..AUTH_LOGIN }])
    }

    #[test]
    fn names_of_a_noun_and_a_verb_are_accepted() {
        for name in [
            "auth.login",
            "api_key.create",
            "a.b.c-d",
            "x2.y",
            "auditor.invite",
        ] {
            assert_eq!(fault_of(name), None, "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let names = [
            "",
            ".",
            "login",
            "auth.",
            ".login",
            "auth..login",
            "Auth.login",
            "auth login.x",
            "ä.b",
            "a.b\0",
        ];
        for name in names {
            assert!(
                fault_of(name).is_some_and(|fault| fault.contains("noun.verb")),
                "{name:?}"
            );
        }
        assert!(fault_of("audit.viewed").is_some_and(|fault| fault.contains("reserved")));
        let long: &'static str = Box::leak(format!("a.{}", "b".repeat(TEXT_CHARS)).into_boxed_str());
        assert!(fault_of(long).is_some_and(|fault| fault.contains("512")));
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        let prefix = Action {
            name: "auth.log",
            ..AUTH_LOGIN
        };
        assert_eq!(fault(&[AUTH_LOGIN, prefix, AUTH_LOGOUT]), None);
        let fault = fault(&[AUTH_LOGIN, AUTH_LOGOUT, AUTH_LOGIN]);
        assert!(fault.is_some_and(|fault| fault.contains("same name")));
    }

    #[test]
    fn an_entry_takes_an_action_or_a_text() {
        let declared = AuditEntry::new(AUTH_LOGIN_FAILED);
        assert_eq!(declared.action, AuditEntry::new("auth.login_failed").action);
        assert_eq!(Action::find(USUAL, &declared.action), Some(AUTH_LOGIN_FAILED));
        assert_eq!(Action::find(USUAL, "auth"), None);
    }

    #[test]
    fn an_action_serialises_with_the_names_of_its_fields() {
        let expected = serde_json::json!({
            "name": "auth.login", "category": "authentication", "verb": "logon", "severity": "informational",
            "meaning": "Somebody signed in.",
        });
        assert_eq!(serde_json::to_value(AUTH_LOGIN).unwrap(), expected);
    }

    #[test]
    fn severities_have_an_order() {
        assert!(Severity::Informational < Severity::Critical);
    }
}
