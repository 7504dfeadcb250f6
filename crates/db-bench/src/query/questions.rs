//! What is asked. The values are those of `sql/fill.sql`.

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Viewer {
    /// The owner, to whom row security does not apply.
    Owner,
    /// A member of audit_auditor.
    Auditor,
    /// A member of audit_reader, with this tenant.
    Reader(&'static str),
}

/// A query, and its parameter for a row.
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) viewer: Viewer,
    pub(super) sql: &'static str,
    pub(super) about: fn(usize) -> String,
    /// Whether it must find a row.
    pub(super) finds: bool,
    /// At most this many milliseconds.
    pub(super) goal: Option<f64>,
}

/// The tenant with a tenth of the rows, and none of the frequent actor.
const LARGE: Viewer = Viewer::Reader("tenant-0000");
/// One of the others.
const SMALL: Viewer = Viewer::Reader("tenant-0077");

/// A page of look-ups, as `audit::query` composes it: the second condition is what an index in the order of time answers.
macro_rules! page_of {
    ($column:literal) => {
        concat!(
            "SELECT * FROM audit_logs WHERE ",
            $column,
            " = $1 AND name(",
            $column,
            " COLLATE \"C\") = name($1::text) ORDER BY created_at DESC, id DESC LIMIT 50"
        )
    };
}
const ACTOR: &str = page_of!("actor_id");
const RESOURCE: &str = page_of!("resource_id");
const REQUEST: &str = page_of!("request_id");
const TENANT: &str = page_of!("tenant_id");
const NEWEST: &str = "SELECT * FROM audit_logs ORDER BY created_at DESC, id DESC LIMIT 50";
const PLAIN: &str = "SELECT * FROM audit_logs WHERE actor_id = $1 ORDER BY created_at DESC LIMIT 50";
const LAST_DAY: &str = "SELECT count(*) FROM (SELECT FROM audit_logs WHERE created_at >= now() - interval '1 day' LIMIT 10001) AS few";

fn tenant(row: usize) -> String {
    format!("tenant-{:04}", row % 200)
}
fn ordinary(row: usize) -> String {
    // The frequent actor has those that end in 3.
    let row = if row % 10 == 3 { row - 1 } else { row };
    format!("user-{:08}", row * 7_919 % 20_000)
}
fn frequent(_: usize) -> String {
    "user-frequent".to_owned()
}
fn nobody(row: usize) -> String {
    format!("nobody-{row}")
}
fn resource(row: usize) -> String {
    format!("doc-{:012}", row * 104_729 % 100_000)
}
fn request(row: usize) -> String {
    format!("req-{row:016}")
}
fn nothing(_: usize) -> String {
    String::new()
}

/// A page of one tenant's rows from one table with one b-tree, and a bound on the time: what cannot be beaten.
pub(super) const IDEAL_TIMELINE: Question = Question {
    name: "tenant timeline, one b-tree",
    viewer: Viewer::Owner,
    sql: "SELECT * FROM ideal WHERE tenant_id = $1 AND created_at < now() ORDER BY created_at DESC LIMIT 50",
    about: tenant,
    finds: true,
    goal: None,
};

/// The same from the trail: the planner leaves out later months.
pub(super) const TIMELINE: Question = Question {
    name: "tenant timeline",
    viewer: Viewer::Auditor,
    sql: "SELECT * FROM audit_logs WHERE tenant_id = $1 AND name(tenant_id COLLATE \"C\") = name($1::text) \
          AND created_at < now() + interval '1 day' AND created_at >= now() - interval '31 days' ORDER BY created_at DESC LIMIT 50",
    about: tenant,
    finds: true,
    goal: None,
};

macro_rules! questions {
    ($($name:literal $viewer:expr, $sql:expr, $about:expr, $finds:literal, $goal:expr;)*) => {
        /// All others.
        pub(super) const QUESTIONS: &[Question] = &[$(Question {
            name: $name, viewer: $viewer, sql: $sql, about: $about, finds: $finds, goal: $goal,
        }),*];
    };
}

questions! {
    "actor, ordinary" Viewer::Auditor, ACTOR, ordinary, true, Some(50.0);
    "actor, frequent" Viewer::Auditor, ACTOR, frequent, true, Some(50.0);
    "actor, none" Viewer::Auditor, ACTOR, nobody, false, Some(50.0);
    "resource" Viewer::Auditor, RESOURCE, resource, true, Some(50.0);
    "request" Viewer::Auditor, REQUEST, request, true, Some(50.0);
    "actor, ordinary, large tenant" LARGE, ACTOR, ordinary, false, Some(50.0);
    "actor, frequent in others, large tenant" LARGE, ACTOR, frequent, false, Some(50.0);
    "resource, large tenant" LARGE, RESOURCE, resource, false, Some(50.0);
    "request, large tenant" LARGE, REQUEST, request, false, Some(50.0);
    "actor, ordinary, small tenant" SMALL, ACTOR, ordinary, false, Some(50.0);
    "actor, frequent, small tenant" SMALL, ACTOR, frequent, false, Some(50.0);
    "request, small tenant" SMALL, REQUEST, request, false, Some(50.0);
    "timeline without a time" Viewer::Auditor, TENANT, tenant, true, None;
    "timeline, large tenant" LARGE, NEWEST, nothing, true, None;
    "timeline, small tenant" SMALL, NEWEST, nothing, true, None;
    "page across tenants" Viewer::Auditor, NEWEST, nothing, true, Some(20.0);
    "count of a day, up to 10,000" Viewer::Auditor, LAST_DAY, nothing, true, None;
    "actor, plain SQL" Viewer::Auditor, PLAIN, ordinary, true, None;
}
