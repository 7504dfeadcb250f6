//! Checks of the server and of this user's session: version, TLS, clock, and settings.

use chrono::{DateTime, Utc};

use super::catalog::Settings;
use super::server_settings;
use super::session::{Row, Session, refusal};
use crate::doctor::Code::*;
use crate::doctor::{DoctorError, Finding, Severity};

/// The oldest supported version, as a `server_version_num`.
const MIN_VERSION: u32 = 140_000;
/// The largest difference of the clocks that is not a finding.
const MAX_SKEW_SECS: f64 = 5.0;

/// Queried outside a transaction, before the doctor changes settings.
const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ( \
     'allow_system_table_mods', 'autovacuum', 'default_transaction_read_only', 'fsync', 'full_page_writes', 'idle_session_timeout', 'ignore_checksum_failure', 'lock_timeout', \
     'log_duration', 'log_min_duration_sample', 'log_min_duration_statement', 'log_parameter_max_length', \
     'log_parameter_max_length_on_error', 'log_statement', 'server_version', 'server_version_num', \
     'session_replication_role', 'ssl', 'statement_timeout', 'synchronous_commit', 'synchronous_standby_names', \
     'track_counts', 'transaction_timeout', 'zero_damaged_pages')";

/// This connection, and the server's clock.
const CONNECTION: &str = "SELECT s.ssl::text, s.version, host(pg_catalog.inet_client_addr()), \
     extract(epoch FROM pg_catalog.clock_timestamp())::text, pg_catalog.pg_is_in_recovery()::text, current_user::text, pg_catalog.quote_ident(current_user), \
     pg_catalog.current_setting('audit.tenant_id', true) \
     FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid()";

/// The server, as this user's session sees it.
pub(super) struct Server {
    pub(super) settings: Settings,
    pub(super) user: String,
    /// It is a standby, or transactions are read-only.
    pub(super) read_only: bool,
    findings: Vec<Finding>,
    /// The user's name, quoted for SQL.
    quoted_user: String,
    /// The tenant that a session of this user begins with.
    tenant: String,
}

impl Server {
    pub(super) async fn query(session: &Session) -> Result<Self, DoctorError> {
        let rows = or_none(session.rows(SETTINGS).await)?;
        let pairs = rows
            .into_iter()
            .filter_map(|row| match <[Option<String>; 2]>::try_from(row) {
                Ok([Some(name), Some(setting)]) => Some((name, setting)),
                _ => None,
            });
        let settings: Settings = pairs.collect();
        let before = Utc::now();
        let connection = or_none(session.rows(CONNECTION).await)?
            .into_iter()
            .next()
            .unwrap_or_default();
        let after = Utc::now();
        let cell = |at: usize| connection.get(at).cloned().flatten();
        let standby = cell(4).as_deref() == Some("true");
        let read_only = standby || is_on(&settings, "default_transaction_read_only");
        let transport = match connection.is_empty() {
            true => Finding::not_run(Tls, "this user may not read pg_stat_ssl"),
            false => transport(
                cell(0).as_deref() == Some("true"),
                cell(1).as_deref(),
                cell(2).as_deref(),
            ),
        };
        let findings = vec![
            transport,
            clock(before, cell(3).and_then(|text| text.parse().ok()), after),
        ];
        Ok(Self {
            settings,
            user: cell(5).unwrap_or_default(),
            read_only,
            findings,
            quoted_user: cell(6).unwrap_or_default(),
            tenant: cell(7).unwrap_or_default(),
        })
    }

    pub(super) fn name(&self) -> String {
        format!(
            "PostgreSQL {}",
            self.settings.get("server_version").map_or("?", String::as_str)
        )
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut all = self.findings.clone();
        if self.settings.is_empty() {
            all.push(Finding::not_run(Durability, "this user may not read pg_settings"));
            return all;
        }
        all.push(version(&self.settings, &self.name()));
        all.extend(durability(&self.settings, &self.quoted_user));
        all.push(replica_mode(&self.settings, &self.quoted_user));
        all.extend(server_log(&self.settings));
        all.extend(server_settings::examine(&self.settings, &self.tenant));
        all.extend(timeouts(&self.settings, &self.quoted_user));
        all
    }
}

/// No rows if the server refuses to show them: the checks that need them say so.
fn or_none(rows: Result<Vec<Row>, DoctorError>) -> Result<Vec<Row>, DoctorError> {
    rows.or_else(|error| refusal(error).map(|_| Vec::new()))
}

fn is_on(settings: &Settings, name: &str) -> bool {
    settings.get(name).is_some_and(|setting| setting == "on")
}

fn number(settings: &Settings, name: &str) -> i64 {
    settings
        .get(name)
        .and_then(|setting| setting.parse().ok())
        .unwrap_or(0)
}

fn or_ok(findings: Vec<Finding>, ok: Finding) -> Vec<Finding> {
    if findings.is_empty() { vec![ok] } else { findings }
}

fn version(settings: &Settings, name: &str) -> Finding {
    match settings
        .get("server_version_num")
        .and_then(|text| text.parse::<u32>().ok())
    {
        Some(number) if number < MIN_VERSION => Finding::new(
            ServerVersion,
            Severity::Warning,
            format!("{name} is older than 14, the oldest supported version"),
            "-- upgrade the server",
        ),
        _ => Finding::ok(ServerVersion, name),
    }
}

/// Checks that a connection to another machine is encrypted. A client without an address uses a Unix socket.
fn transport(ssl: bool, version: Option<&str>, client: Option<&str>) -> Finding {
    let local = client.map(|text| {
        text.parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    });
    match (ssl, local) {
        (true, _) => Finding::ok(Tls, version.unwrap_or("encrypted")),
        (false, None) => Finding::ok(Tls, "over a Unix socket of this machine"),
        (false, Some(true)) => Finding::ok(Tls, "over the loopback address of this machine"),
        (false, Some(false)) => Finding::new(
            Tls,
            Severity::Warning,
            format!(
                "entries go over the network unencrypted; the server sees this client as {}",
                client.unwrap_or("?")
            ),
            "-- in the application's URL: sslmode=verify-full, with sslrootcert=/path/ca.pem for a private certificate authority;\n\
             -- on the server: ssl = on, and hostssl in pg_hba.conf",
        ),
    }
}

/// Compares the server's time, in seconds since 1970, with this machine's before and after the query.
fn clock(before: DateTime<Utc>, server: Option<f64>, after: DateTime<Utc>) -> Finding {
    let Some(server) = server else {
        return Finding::not_run(
            Clock,
            "the server does not show this user its connection and its clock",
        );
    };
    let seconds = |time: DateTime<Utc>| time.timestamp_micros() as f64 / 1e6;
    // The time that the query took limits the precision.
    let ahead = server - seconds(after);
    let behind = seconds(before) - server;
    let (skew, side) = if ahead > behind {
        (ahead, "ahead of")
    } else {
        (behind, "behind")
    };
    if skew < MAX_SKEW_SECS {
        return Finding::ok(Clock, format!("less than {MAX_SKEW_SECS} seconds apart"));
    }
    Finding::new(
        Clock,
        Severity::Warning,
        format!("the server's clock is {skew:.0} seconds {side} this machine's"),
        "-- run an NTP client on both machines: created_at comes from the application's clock, recorded_at from the server's",
    )
}

fn durability(settings: &Settings, role: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, consequence) in [
        (
            "fsync",
            "a crash of the machine loses commits, and can corrupt the whole database",
        ),
        (
            "full_page_writes",
            "a crash of the machine can leave partially written pages",
        ),
    ] {
        if !is_on(settings, name) {
            found.push(Finding::new(
                Durability,
                Severity::Critical,
                format!("{name} is off: {consequence}"),
                format!("ALTER SYSTEM SET {name} = on;\nSELECT pg_reload_conf();"),
            ));
        }
    }
    let level = settings.get("synchronous_commit").map_or("", String::as_str);
    if level == "off" {
        found.push(Finding::new(
            Durability,
            Severity::Warning,
            "synchronous_commit is off for this user: an entry written in a transaction of the application can be \
             lost although it was committed (audit writers set it to local)",
            format!("ALTER ROLE {role} SET synchronous_commit = on;"),
        ));
    }
    let standbys = settings
        .get("synchronous_standby_names")
        .is_some_and(|names| !names.is_empty());
    if level == "local" && standbys {
        found.push(Finding::new(
            Durability,
            Severity::Info,
            "synchronous_commit is local: commits do not wait for the synchronous standby",
            "",
        ));
    }
    or_ok(
        found,
        Finding::ok(
            Durability,
            format!("fsync, full_page_writes, synchronous_commit = {level}"),
        ),
    )
}

fn replica_mode(settings: &Settings, role: &str) -> Finding {
    match settings.get("session_replication_role").map(String::as_str) {
        Some("origin") | None => Finding::ok(ReplicaMode, "session_replication_role is origin"),
        Some(mode) => Finding::new(
            ReplicaMode,
            Severity::Warning,
            format!(
                "session_replication_role is {mode} for this user: other tables' triggers and foreign keys are disabled"
            ),
            format!("ALTER ROLE {role} SET session_replication_role = origin;"),
        ),
    }
}

fn server_log(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let parameters = number(settings, "log_parameter_max_length") != 0;
    let logs = |name: &str| number(settings, name) >= 0 && settings.contains_key(name);
    let statement = settings.get("log_statement").map_or("", String::as_str);
    let mut add = |cause: String| {
        found.push(Finding::new(
            ServerLog,
            Severity::Info,
            format!("{cause}: rows are in the server's log, where no role protects them"),
            "ALTER SYSTEM SET log_parameter_max_length = 0;\nSELECT pg_reload_conf();",
        ));
    };
    if parameters && matches!(statement, "mod" | "all") {
        add(format!("log_statement is {statement}, with parameters"));
    }
    for name in ["log_min_duration_statement", "log_min_duration_sample"] {
        if parameters && logs(name) {
            add(format!(
                "{name} is {} ms, with parameters",
                number(settings, name)
            ));
        }
    }
    if number(settings, "log_parameter_max_length_on_error") != 0 {
        found.push(Finding::new(
            ServerLog,
            Severity::Info,
            "log_parameter_max_length_on_error is not 0: refused rows are in the server's log",
            "ALTER SYSTEM SET log_parameter_max_length_on_error = 0;\nSELECT pg_reload_conf();",
        ));
    }
    or_ok(
        found,
        Finding::ok(ServerLog, "statements' parameters are not logged"),
    )
}

/// The shortest timeouts that a writer works with: setting, milliseconds, severity, consequence. A writer sends
/// up to a thousand rows in a statement, and keeps its connections open.
const MIN_TIMEOUTS: [(&str, i64, Severity, &str); 4] = [
    (
        "statement_timeout",
        5_000,
        Severity::Warning,
        "a batch of a thousand rows on a busy server is cancelled",
    ),
    (
        "transaction_timeout",
        5_000,
        Severity::Warning,
        "a batch of a thousand rows on a busy server is cancelled",
    ),
    (
        "lock_timeout",
        1_000,
        Severity::Warning,
        "batches fail while a partition is created or dropped",
    ),
    (
        "idle_session_timeout",
        60_000,
        Severity::Info,
        "the writer has to reconnect after each pause",
    ),
];

fn timeouts(settings: &Settings, role: &str) -> Vec<Finding> {
    let short = MIN_TIMEOUTS
        .iter()
        .filter_map(|(name, least, severity, consequence)| {
            let set = number(settings, name);
            (set > 0 && set < *least).then(|| {
                Finding::new(
                    Timeouts,
                    *severity,
                    format!("{name} is {set} ms for this user: {consequence}"),
                    format!("ALTER ROLE {role} SET {name} = {least};\n-- or 0, for none"),
                )
            })
        });
    or_ok(short.collect(), Finding::ok(Timeouts, "none is too short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severity(finding: &Finding) -> Severity {
        finding.severity
    }

    #[test]
    fn only_connections_to_another_machine_must_be_encrypted() {
        let plain = |client| severity(&transport(false, None, client));
        assert_eq!(plain(Some("10.0.0.7")), Severity::Warning);
        assert_eq!(plain(Some("2001:db8::1")), Severity::Warning);
        assert_eq!(plain(Some("127.0.0.1")), Severity::Ok);
        assert_eq!(plain(Some("::1")), Severity::Ok);
        assert_eq!(plain(None), Severity::Ok);
        assert_eq!(
            severity(&transport(true, Some("TLSv1.3"), Some("10.0.0.7"))),
            Severity::Ok
        );
    }

    #[test]
    fn clock_comparison_allows_for_the_duration_of_the_query() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let server = |seconds: i64| Some((1_800_000_000 + seconds) as f64);
        assert_eq!(severity(&clock(at(0), server(4), at(0))), Severity::Ok);
        assert_eq!(severity(&clock(at(0), server(-4), at(0))), Severity::Ok);
        assert_eq!(severity(&clock(at(0), server(8), at(10))), Severity::Ok);
        let ahead = clock(at(0), server(60), at(0));
        assert_eq!(
            (severity(&ahead), ahead.found.contains("60 seconds ahead of")),
            (Severity::Warning, true)
        );
        let behind = clock(at(0), server(-7200), at(1));
        assert_eq!(
            (severity(&behind), behind.found.contains("7200 seconds behind")),
            (Severity::Warning, true)
        );
    }

    #[test]
    fn an_unsupported_server_version_is_a_warning() {
        let of = |number: &str| {
            severity(&version(
                &[("server_version_num".to_owned(), number.to_owned())].into(),
                "PostgreSQL",
            ))
        };
        assert_eq!(
            (of("130012"), of("140000"), of("180001")),
            (Severity::Warning, Severity::Ok, Severity::Ok)
        );
    }
}
