//! What this application records: the usual actions that it uses, and its own.

use db_services::audit::Action;
use db_services::audit::actions::{
    ADMIN_DELETE_SKILL, ADMIN_MERGE_SKILLS, API_KEY_CREATE, API_KEY_REVOKE, AUTH_LOCKED_OUT, AUTH_LOGIN,
    AUTH_LOGIN_FAILED, AUTH_LOGOUT, SETTINGS_UPDATE, SKILL_CREATE, SKILL_DELETE, SKILL_UPDATE,
};

db_services::actions! {
    /// The application's own.
    pub const OWN = {
        SKILL_EXPORT = ("skill.export", Data, Read, Informational, "The skills of a tenant were exported.");
        TRAIL_READ = ("trail.read", Audit, Read, Informational, "Somebody looked at the audit trail of the tenant.");
        REQUEST_REJECT = ("request.reject", Configuration, Execute, Medium, "A request was refused, or failed, before its action was on record.");
        DEMO_SEED = ("demo.seed", Identity, Create, Informational, "The demonstration's users and skills were created.");
    };
}

/// The usual ones.
pub const USUAL: &[Action] = &[
    AUTH_LOGIN,
    AUTH_LOGOUT,
    AUTH_LOGIN_FAILED,
    AUTH_LOCKED_OUT,
    SKILL_CREATE,
    SKILL_UPDATE,
    SKILL_DELETE,
    ADMIN_DELETE_SKILL,
    ADMIN_MERGE_SKILLS,
    API_KEY_CREATE,
    API_KEY_REVOKE,
    SETTINGS_UPDATE,
];
