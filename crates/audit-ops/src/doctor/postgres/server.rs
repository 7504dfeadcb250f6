//! What is the server, and how is this user's session set up?

use chrono::{DateTime, Utc};

use super::catalog::Settings;
use super::session::Session;
use crate::doctor::Code::*;
use crate::doctor::{DoctorError, Finding, Severity};

/// The oldest version that is supported, as `server_version_num` counts.
const OLDEST: u32 = 140_000;
/// How far the clocks may be apart before it is a finding.
const SKEW: f64 = 5.0;

/// Asked outside of a transaction, before the doctor sets limits of its own.
const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ( \
     'default_transaction_read_only', 'fsync', 'full_page_writes', 'idle_session_timeout', 'lock_timeout', \
     'log_duration', 'log_min_duration_sample', 'log_min_duration_statement', 'log_parameter_max_length', \
     'log_parameter_max_length_on_error', 'log_statement', 'server_version', 'server_version_num', \
     'session_replication_role', 'ssl', 'statement_timeout', 'synchronous_commit', 'synchronous_standby_names', \
     'transaction_timeout')";

/// How this connection reaches the server, and the server's clock.
const HERE: &str = "SELECT s.ssl::text, s.version, host(pg_catalog.inet_client_addr()), \
     extract(epoch FROM pg_catalog.clock_timestamp())::text, pg_catalog.pg_is_in_recovery()::text, current_user::text, pg_catalog.quote_ident(current_user) \
     FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid()";

/// What the server is.
pub(super) struct Server {
    pub(super) settings: Settings,
    pub(super) user: String,
    /// A standby, or a session that may only read.
    pub(super) read_only: bool,
    findings: Vec<Finding>,
    /// The user's name as SQL takes it.
    role: String,
}

impl Server {
    pub(super) async fn ask(session: &Session) -> Result<Self, DoctorError> {
        let rows = session.rows(SETTINGS).await?;
        let pairs = rows
            .into_iter()
            .filter_map(|row| match <[Option<String>; 2]>::try_from(row) {
                Ok([Some(name), Some(setting)]) => Some((name, setting)),
                _ => None,
            });
        let settings: Settings = pairs.collect();
        let before = Utc::now();
        let here = session.rows(HERE).await?.into_iter().next().unwrap_or_default();
        let after = Utc::now();
        let cell = |at: usize| here.get(at).cloned().flatten();
        let standby = cell(4).as_deref() == Some("true");
        let read_only = standby || is_on(&settings, "default_transaction_read_only");
        let findings = vec![
            transport(
                cell(0).as_deref() == Some("true"),
                cell(1).as_deref(),
                cell(2).as_deref(),
            ),
            clock(before, cell(3).and_then(|text| text.parse().ok()), after),
        ];
        Ok(Self {
            settings,
            user: cell(5).unwrap_or_default(),
            read_only,
            findings,
            role: cell(6).unwrap_or_default(),
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
        all.push(version(&self.settings, &self.name()));
        all.extend(durability(&self.settings, &self.role));
        all.push(replica_mode(&self.settings, &self.role));
        all.extend(server_log(&self.settings));
        all.extend(timeouts(&self.settings, &self.role));
        all
    }
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

fn or_fine(findings: Vec<Finding>, fine: Finding) -> Vec<Finding> {
    if findings.is_empty() { vec![fine] } else { findings }
}

fn version(settings: &Settings, name: &str) -> Finding {
    match settings
        .get("server_version_num")
        .and_then(|text| text.parse::<u32>().ok())
    {
        Some(number) if number < OLDEST => Finding::new(
            ServerVersion,
            Severity::Warning,
            format!("{name} is older than 14, the oldest that is supported"),
            "-- upgrade the server",
        ),
        _ => Finding::ok(ServerVersion, name),
    }
}

/// Whether the way to the server is encrypted, where it leaves the machine. No address: a socket.
fn transport(ssl: bool, version: Option<&str>, client: Option<&str>) -> Finding {
    let local = client.map(|text| {
        text.parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    });
    match (ssl, local) {
        (true, _) => Finding::ok(Tls, version.unwrap_or("encrypted")),
        (false, None) => Finding::ok(Tls, "by a Unix socket of this machine"),
        (false, Some(true)) => Finding::ok(Tls, "on the loopback address of this machine"),
        (false, Some(false)) => Finding::new(
            Tls,
            Severity::Warning,
            format!(
                "entries go over the network unencrypted; the server sees this client as {}",
                client.unwrap_or("?")
            ),
            "-- in the application's URL: sslmode=verify-full, with sslrootcert=/path/ca.pem for an authority of your own;\n\
             -- on the server: ssl = on, and hostssl in pg_hba.conf",
        ),
    }
}

/// Compares clocks: the server's, in seconds since 1970, lies between two moments of this machine's.
fn clock(before: DateTime<Utc>, server: Option<f64>, after: DateTime<Utc>) -> Finding {
    let Some(server) = server else {
        return Finding::unchecked(Clock, "the server told no time");
    };
    let seconds = |time: DateTime<Utc>| time.timestamp_micros() as f64 / 1e6;
    // Nothing is known better than to the time that the answer took.
    let ahead = server - seconds(after);
    let behind = seconds(before) - server;
    let (apart, side) = if ahead > behind {
        (ahead, "ahead of")
    } else {
        (behind, "behind")
    };
    if apart < SKEW {
        return Finding::ok(Clock, format!("less than {SKEW} seconds apart"));
    }
    Finding::new(
        Clock,
        Severity::Warning,
        format!("the server's clock is {apart:.0} seconds {side} this machine's"),
        "-- run an NTP client on both machines: created_at is by the application's clock, recorded_at by the server's",
    )
}

fn durability(settings: &Settings, role: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, what) in [
        (
            "fsync",
            "a crash of the machine loses what was committed, and can ruin the whole database",
        ),
        (
            "full_page_writes",
            "a crash of the machine can leave pages half written",
        ),
    ] {
        if !is_on(settings, name) {
            found.push(Finding::new(
                Durability,
                Severity::Critical,
                format!("{name} is off: {what}"),
                format!("ALTER SYSTEM SET {name} = on;\nSELECT pg_reload_conf();"),
            ));
        }
    }
    let level = settings.get("synchronous_commit").map_or("", String::as_str);
    if level == "off" {
        found.push(Finding::new(
            Durability,
            Severity::Warning,
            "synchronous_commit is off for this user: an entry written in a transaction of the application's \
             own can be lost although it was committed (audit writers set it to local for themselves)",
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
            "synchronous_commit is local: what is committed need not be on the synchronous standby yet",
            "",
        ));
    }
    or_fine(
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
                "session_replication_role is {mode} for this user: other tables' triggers and foreign keys sleep"
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
    let mut told = |what: String| {
        found.push(Finding::new(
            ServerLog,
            Severity::Info,
            format!("{what}: rows stand in the server's log, where no role keeps them from being read"),
            "ALTER SYSTEM SET log_parameter_max_length = 0;\nSELECT pg_reload_conf();",
        ));
    };
    if parameters && matches!(statement, "mod" | "all") {
        told(format!("log_statement is {statement}, with parameters"));
    }
    for name in ["log_min_duration_statement", "log_min_duration_sample"] {
        if parameters && logs(name) {
            told(format!(
                "{name} is {} ms, with parameters",
                number(settings, name)
            ));
        }
    }
    if number(settings, "log_parameter_max_length_on_error") != 0 {
        found.push(Finding::new(
            ServerLog,
            Severity::Info,
            "log_parameter_max_length_on_error is not 0: rows that are refused stand in the server's log",
            "ALTER SYSTEM SET log_parameter_max_length_on_error = 0;\nSELECT pg_reload_conf();",
        ));
    }
    or_fine(
        found,
        Finding::ok(ServerLog, "statements' parameters are not logged"),
    )
}

/// What a writer needs: it sends up to a thousand rows in a statement, and keeps its connections.
const LEAST: [(&str, i64, Severity, &str); 4] = [
    (
        "statement_timeout",
        5_000,
        Severity::Warning,
        "a batch of a thousand rows on a busy server is cut short",
    ),
    (
        "transaction_timeout",
        5_000,
        Severity::Warning,
        "a batch of a thousand rows on a busy server is cut short",
    ),
    (
        "lock_timeout",
        1_000,
        Severity::Warning,
        "batches fail while a month is made or dropped",
    ),
    (
        "idle_session_timeout",
        60_000,
        Severity::Info,
        "the writer has to connect again after each pause",
    ),
];

fn timeouts(settings: &Settings, role: &str) -> Vec<Finding> {
    let short = LEAST.iter().filter_map(|(name, least, severity, what)| {
        let set = number(settings, name);
        (set > 0 && set < *least).then(|| {
            Finding::new(
                Timeouts,
                *severity,
                format!("{name} is {set} ms for this user: {what}"),
                format!("ALTER ROLE {role} SET {name} = {least};\n-- or 0, for none"),
            )
        })
    });
    or_fine(short.collect(), Finding::ok(Timeouts, "none, or long enough"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severity(finding: &Finding) -> Severity {
        finding.severity
    }

    #[test]
    fn what_leaves_the_machine_is_to_be_encrypted() {
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
    fn clocks_are_compared_no_better_than_the_answer_took() {
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
    fn an_old_version_is_told() {
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
