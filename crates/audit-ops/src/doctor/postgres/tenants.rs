//! Tries to read rows of another tenant.

use tokio_postgres::types::Type;

use super::privileges::Privileges;
use super::probe_rows::ProbeRows;
use super::session::{Attempt, LOCK_TIMEOUT_REASON, Refusal, Session, answered};
use crate::doctor::Code::TenantRead;
use crate::doctor::{DoctorError, Finding, Severity};
use crate::session::SET_TENANT;

/// Sets the tenant for the transaction. It is a parameter of an unnamed statement, so nothing is kept.
pub(super) async fn set(session: &Session, tenant: &str) -> Result<(), DoctorError> {
    answered(session.client().query_typed(SET_TENANT, &[(&tenant, Type::TEXT)])).await?;
    Ok(())
}

pub(super) async fn examine(
    session: &Session,
    privileges: &Privileges,
    probe: Option<&ProbeRows>,
    tenant: Option<&str>,
) -> Result<Vec<Finding>, DoctorError> {
    if !privileges.may_select {
        return Ok(vec![cannot_read(session).await?]);
    }
    let visibility = match (probe, tenant) {
        (Some(probe), _) => with_probe_rows(session, probe).await,
        (None, Some(tenant)) => with_tenant(session, tenant).await,
        (None, None) => without_probe_rows(session).await,
    };
    let mut findings = vec![or_inconclusive(visibility)?.finding(privileges)];
    // Users that row security does not restrict read a tenant's rows as audit::for_tenant does.
    if let Some(probe) = probe.filter(|_| !privileges.row_security_applies || privileges.is_auditor) {
        findings.extend(as_reader(session, probe).await?);
    }
    Ok(findings)
}

async fn cannot_read(session: &Session) -> Result<Finding, DoctorError> {
    Ok(
        match session
            .run_and_undo("SELECT count(*) FROM audit_logs WHERE false")
            .await?
        {
            Attempt::Refused(reason) if reason.lacks_right() => {
                Finding::ok(TenantRead, "this user may not read: refused (42501)")
            }
            Attempt::Refused(reason) => Finding::not_run(TenantRead, reason.to_string()),
            Attempt::Done { .. } => Finding::unchecked(TenantRead, "this user may read some columns only"),
            Attempt::LockTimeout => Finding::not_run(TenantRead, LOCK_TIMEOUT_REASON),
        },
    )
}

/// Which rows are visible to a tenant.
enum Visibility {
    /// Its own row, and no other.
    OwnOnly(&'static str),
    /// A row of another tenant, or a row while no tenant is set.
    Others(&'static str),
    /// No row, not even its own, so the result is inconclusive.
    Nothing(String),
    /// The server refused to show any.
    Unknown(Refusal),
}

impl Visibility {
    fn finding(self, privileges: &Privileges) -> Finding {
        match self {
            Self::OwnOnly(how) => Finding::ok(TenantRead, how),
            Self::Nothing(why) => Finding::unchecked(TenantRead, why),
            Self::Unknown(refused) => refused.needs_a_right(TenantRead),
            Self::Others(how) if privileges.row_security_applies && privileges.is_auditor => Finding {
                code: TenantRead,
                severity: Severity::Info,
                found: format!("{how}, as expected of an auditor"),
                remedy: None,
            },
            Self::Others(how) if privileges.row_security_applies => Finding::new(
                TenantRead,
                Severity::Critical,
                format!("{how}: the policies allow it"),
                "-- see what the check ROW_SECURITY found",
            ),
            Self::Others(how) => Finding::new(
                TenantRead,
                Severity::Critical,
                format!("{how}: row security does not apply to this user"),
                "-- see what the checks USER and ROW_SECURITY found; audit::for_tenant assumes the reader's role for a query",
            ),
        }
    }
}

/// Why the visibility could not be determined.
enum ProbeError {
    /// The server refused the query.
    Refused(Refusal),
    /// The examination cannot continue.
    Fatal(DoctorError),
}

impl From<DoctorError> for ProbeError {
    fn from(error: DoctorError) -> Self {
        Self::Fatal(error)
    }
}

/// Treats a refused query as inconclusive.
fn or_inconclusive(result: Result<Visibility, ProbeError>) -> Result<Visibility, DoctorError> {
    match result {
        Ok(visibility) => Ok(visibility),
        Err(ProbeError::Refused(refused)) => Ok(Visibility::Unknown(refused)),
        Err(ProbeError::Fatal(error)) => Err(error),
    }
}

async fn exists(session: &Session, condition: &str) -> Result<bool, ProbeError> {
    let sql = format!("SELECT EXISTS (SELECT FROM audit_logs WHERE {condition})::text");
    let rows = session
        .query_in_savepoint(&sql)
        .await?
        .map_err(ProbeError::Refused)?;
    Ok(rows
        .first()
        .and_then(|row| row.first())
        .is_some_and(|cell| cell.as_deref() == Some("true")))
}

/// Looks for the two probe rows of two tenants.
async fn with_probe_rows(session: &Session, probe: &ProbeRows) -> Result<Visibility, ProbeError> {
    let row = |id| format!("id = '{id}' AND created_at = now()");
    set(session, &probe.own.to_string()).await?;
    let own = exists(session, &row(probe.own)).await?;
    if exists(session, &row(probe.other)).await? {
        return Ok(Visibility::Others(
            "as one tenant, this user sees a row of another",
        ));
    }
    set(session, "").await?;
    if exists(session, &row(probe.own)).await? {
        return Ok(Visibility::Others(
            "with no tenant set, this user sees a tenant's row",
        ));
    }
    Ok(if own {
        Visibility::OwnOnly(
            "of two stored rows, a tenant sees only its own, and none is visible without a tenant",
        )
    } else {
        Visibility::Nothing("this user sees no row at all, not even its own tenant's".to_owned())
    })
}

/// For a user that may not insert: looks for rows of a tenant that is known to have some.
async fn with_tenant(session: &Session, tenant: &str) -> Result<Visibility, ProbeError> {
    set(session, tenant).await?;
    if exists(
        session,
        "tenant_id IS DISTINCT FROM current_setting('audit.tenant_id')",
    )
    .await?
    {
        return Ok(Visibility::Others(
            "as the given tenant, this user sees a row of another",
        ));
    }
    let own = exists(session, "true").await?;
    set(session, "").await?;
    if exists(session, "true").await? {
        return Ok(Visibility::Others("with no tenant set, this user sees a row"));
    }
    Ok(if own {
        Visibility::OwnOnly("the given tenant sees its own rows only, and none is visible without a tenant")
    } else {
        Visibility::Nothing("the given tenant has no rows".to_owned())
    })
}

/// For a user that may not insert, without a known tenant: the size of the files shows that there are rows, and
/// none must be visible.
async fn without_probe_rows(session: &Session) -> Result<Visibility, ProbeError> {
    for tenant in ["", &uuid::Uuid::new_v4().to_string()] {
        set(session, tenant).await?;
        if exists(session, "true").await? {
            return Ok(Visibility::Others(
                "with no tenant set, or an unknown one, this user sees a row",
            ));
        }
    }
    let total_size = "SELECT coalesce(sum(pg_relation_size(relid)), 0)::text FROM pg_partition_tree('audit_logs') WHERE isleaf";
    let size = session
        .query_in_savepoint(total_size)
        .await?
        .map_err(ProbeError::Refused)?;
    Ok(
        match size
            .first()
            .and_then(|row| row.first().cloned().flatten())
            .as_deref()
        {
            None | Some("0") => {
                Visibility::Nothing("there are no rows, and this user may not insert any".to_owned())
            }
            Some(_) => Visibility::OwnOnly(
                "there are rows, and none is visible without a tenant or as an unknown one (--tenant tries a known one)",
            ),
        },
    )
}

/// Checks row security in the reader's role, if this user may assume it.
async fn as_reader(session: &Session, probe: &ProbeRows) -> Result<Option<Finding>, DoctorError> {
    let set_role = "SELECT set_config('role', audit_role('reader'), true)";
    session.execute("SAVEPOINT reader").await?;
    let assumed = matches!(session.run_in_savepoint(set_role).await?, Attempt::Done { .. });
    let visibility = if assumed {
        Some(or_inconclusive(with_probe_rows(session, probe).await)?)
    } else {
        None
    };
    session.execute("ROLLBACK TO reader; RELEASE reader").await?;
    Ok(visibility.map(|visibility| match visibility {
        Visibility::OwnOnly(_) => Finding::ok(
            TenantRead,
            "in the reader's role, a tenant sees its own row and no other",
        ),
        Visibility::Unknown(refused) => refused.needs_a_right(TenantRead),
        Visibility::Nothing(_) => Finding::new(
            TenantRead,
            Severity::Warning,
            "in the reader's role no row is visible, not even its own tenant's",
            "-- see what the checks ROW_SECURITY and GRANTS found",
        ),
        Visibility::Others(_) => Finding::new(
            TenantRead,
            Severity::Critical,
            "in the reader's role, as audit::for_tenant reads, a row of another tenant is visible",
            "-- see what the check ROW_SECURITY found",
        ),
    }))
}
