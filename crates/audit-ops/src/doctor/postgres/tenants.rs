//! Does this user see rows of a tenant that is not its own?

use tokio_postgres::types::Type;

use super::attempts::{Probe, Standing};
use super::session::{Session, Tried};
use crate::doctor::Code::TenantRead;
use crate::doctor::{DoctorError, Finding, Severity};

/// Sets the tenant for the transaction. A parameter of a statement without a name: nothing of it stays.
pub(super) async fn set(session: &Session, tenant: &str) -> Result<(), DoctorError> {
    let sql = "SELECT set_config('audit.tenant_id', $1, true)";
    session
        .client()
        .query_typed(sql, &[(&tenant, Type::TEXT)])
        .await?;
    Ok(())
}

pub(super) async fn examine(
    session: &Session,
    standing: &Standing,
    probe: Option<&Probe>,
    tenant: Option<&str>,
) -> Result<Vec<Finding>, DoctorError> {
    if !standing.selects {
        return Ok(vec![cannot_read(session).await?]);
    }
    let seen = match (probe, tenant) {
        (Some(probe), _) => with_rows(session, probe).await,
        (None, Some(tenant)) => with_tenant(session, tenant).await,
        (None, None) => without_rows(session).await,
    };
    let mut findings = vec![told(seen)?.finding(standing)];
    // What audit::for_tenant does, for those whom row security does not bind.
    if let Some(probe) = probe.filter(|_| !standing.bound || standing.audits) {
        findings.extend(as_reader(session, probe).await?);
    }
    Ok(findings)
}

async fn cannot_read(session: &Session) -> Result<Finding, DoctorError> {
    Ok(
        match session
            .tried("SELECT count(*) FROM audit_logs WHERE false")
            .await?
        {
            Tried::Refused { sqlstate, .. } if sqlstate == "42501" => {
                Finding::ok(TenantRead, "this user may not read: refused (42501)")
            }
            Tried::Refused { sqlstate, message } => {
                Finding::unchecked(TenantRead, format!("{message} ({sqlstate})"))
            }
            Tried::Done { .. } => {
                Finding::unchecked(TenantRead, "this user may read columns, but was not granted them")
            }
            Tried::Waited => Finding::unchecked(
                TenantRead,
                "another session held the table for longer than 200 ms",
            ),
        },
    )
}

/// What was seen.
enum Seen {
    /// The tenant's own row, and no other.
    Own(&'static str),
    /// A row of another tenant, or one without a tenant being set.
    Others(&'static str),
    /// Not even a row of its own, so that nothing is proven.
    Nothing(String),
}

impl Seen {
    fn finding(self, standing: &Standing) -> Finding {
        match self {
            Self::Own(how) => Finding::ok(TenantRead, how),
            Self::Nothing(why) => Finding::unchecked(TenantRead, why),
            Self::Others(how) if standing.bound && standing.audits => Finding {
                code: TenantRead,
                severity: Severity::Info,
                found: format!("{how}, as an auditor should"),
                remedy: None,
            },
            Self::Others(how) if standing.bound => Finding::new(
                TenantRead,
                Severity::Critical,
                format!("{how}: the policies let it through"),
                "-- see what the check ROW_SECURITY found",
            ),
            Self::Others(how) => Finding::new(
                TenantRead,
                Severity::Critical,
                format!("{how}: row security does not hold for this user"),
                "-- see what the checks USER and ROW_SECURITY found; audit::for_tenant takes the reader's place for a query",
            ),
        }
    }
}

/// Why nothing was seen, or not looked for any further.
enum Unseen {
    Refused(String),
    Broken(DoctorError),
}

impl From<DoctorError> for Unseen {
    fn from(error: DoctorError) -> Self {
        Self::Broken(error)
    }
}

fn told(seen: Result<Seen, Unseen>) -> Result<Seen, DoctorError> {
    match seen {
        Ok(seen) => Ok(seen),
        Err(Unseen::Refused(why)) => Ok(Seen::Nothing(why)),
        Err(Unseen::Broken(error)) => Err(error),
    }
}

async fn exists(session: &Session, condition: &str) -> Result<bool, Unseen> {
    let sql = format!("SELECT EXISTS (SELECT FROM audit_logs WHERE {condition})::text");
    let rows = session.asked(&sql).await?.map_err(Unseen::Refused)?;
    Ok(rows
        .first()
        .and_then(|row| row.first())
        .is_some_and(|cell| cell.as_deref() == Some("true")))
}

/// Looks for the two rows of two tenants that were just inserted.
async fn with_rows(session: &Session, probe: &Probe) -> Result<Seen, Unseen> {
    let is = |id| format!("id = '{id}' AND created_at = now()");
    set(session, &probe.mine.to_string()).await?;
    let own = exists(session, &is(probe.mine)).await?;
    if exists(session, &is(probe.others)).await? {
        return Ok(Seen::Others("as one tenant, this user sees a row of another"));
    }
    set(session, "").await?;
    if exists(session, &is(probe.mine)).await? {
        return Ok(Seen::Others("with no tenant set, this user sees a tenant's row"));
    }
    Ok(match own {
        true => Seen::Own("of two rows that are there, one tenant's own is seen, and none without a tenant"),
        false => Seen::Nothing("this user sees no row at all, not even its own tenant's".to_owned()),
    })
}

/// For who may not insert: a tenant that is known to have rows.
async fn with_tenant(session: &Session, tenant: &str) -> Result<Seen, Unseen> {
    set(session, tenant).await?;
    if exists(
        session,
        "tenant_id IS DISTINCT FROM current_setting('audit.tenant_id')",
    )
    .await?
    {
        return Ok(Seen::Others(
            "as the tenant given, this user sees a row of another",
        ));
    }
    let own = exists(session, "true").await?;
    set(session, "").await?;
    if exists(session, "true").await? {
        return Ok(Seen::Others("with no tenant set, this user sees a row"));
    }
    Ok(match own {
        true => Seen::Own("rows of the tenant given are seen, of no other, and none without a tenant"),
        false => Seen::Nothing("the tenant given has no rows".to_owned()),
    })
}

/// For who may not insert and knows no tenant: there are rows, by the files' sizes, and none is seen.
async fn without_rows(session: &Session) -> Result<Seen, Unseen> {
    for tenant in ["", &uuid::Uuid::new_v4().to_string()] {
        set(session, tenant).await?;
        if exists(session, "true").await? {
            return Ok(Seen::Others(
                "with no tenant set, or an unknown one, this user sees a row",
            ));
        }
    }
    let sized = "SELECT coalesce(sum(pg_relation_size(relid)), 0)::text FROM pg_partition_tree('audit_logs') WHERE isleaf";
    let size = session.asked(sized).await?.map_err(Unseen::Refused)?;
    Ok(
        match size
            .first()
            .and_then(|row| row.first().cloned().flatten())
            .as_deref()
        {
            None | Some("0") => {
                Seen::Nothing("there are no rows, and this user may not insert any".to_owned())
            }
            Some(_) => Seen::Own(
                "there are rows, and none is seen without a tenant or as an unknown one (--tenant tries a known one)",
            ),
        },
    )
}

/// Whether the reader's role is bound, where this user may take it.
async fn as_reader(session: &Session, probe: &Probe) -> Result<Option<Finding>, DoctorError> {
    let place = "SELECT set_config('role', audit_role('reader'), true)";
    session.client().batch_execute("SAVEPOINT place").await?;
    let taken = matches!(session.kept(place).await?, Tried::Done { .. });
    let seen = if taken {
        Some(told(with_rows(session, probe).await)?)
    } else {
        None
    };
    session
        .client()
        .batch_execute("ROLLBACK TO place; RELEASE place")
        .await?;
    Ok(seen.map(|seen| match seen {
        Seen::Own(_) => Finding::ok(
            TenantRead,
            "in the reader's place, one tenant's own row is seen and no other",
        ),
        Seen::Nothing(_) => Finding::new(
            TenantRead,
            Severity::Warning,
            "in the reader's place no row is seen, not even its own tenant's",
            "-- see what the checks ROW_SECURITY and GRANTS found",
        ),
        Seen::Others(_) => Finding::new(
            TenantRead,
            Severity::Critical,
            "in the reader's place, as audit::for_tenant reads, a row of another tenant is seen",
            "-- see what the check ROW_SECURITY found",
        ),
    }))
}
