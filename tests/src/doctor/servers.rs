//! The doctor finds faults of the server, in any of its databases.

use audit_ops::doctor::{Code, Finding, Options, Severity};
use db_test::Server;

use super::fixture::{findings, of};
use crate::tls::fixture::{Authority, EITHER, TlsServer};

async fn superusers(server: &Server, code: Code) -> Vec<Finding> {
    of(
        &findings(&server.url("postgres"), &Options::default()).await,
        code,
    )
}

#[tokio::test]
async fn unsafe_durability_settings_and_host_rules_are_found() {
    let server = Server::start(&[]).unwrap_or_else(|error| panic!("{error}"));
    let durability = superusers(&server, Code::Durability).await;
    for setting in ["fsync", "full_page_writes"] {
        let this = durability
            .iter()
            .find(|finding| finding.found.starts_with(setting))
            .unwrap();
        assert_eq!(this.severity, Severity::Critical, "{durability:#?}");
    }
    for (line, severity, says) in [
        (
            "host all all 0.0.0.0/0 trust",
            Severity::Critical,
            "admits anybody on the network without a password",
        ),
        (
            "host all all 10.0.0.0/8 scram-sha-256",
            Severity::Warning,
            "admits unencrypted connections",
        ),
        (
            "local all all trust",
            Severity::Warning,
            "admits anybody on this machine without a password",
        ),
        ("local all all md5", Severity::Warning, "as MD5"),
    ] {
        // The check reads the file; the server itself only at a reload.
        server
            .put("pg_hba.conf", &format!("local all postgres peer\n{line}\n"))
            .unwrap();
        let rules = superusers(&server, Code::HostRules).await;
        assert_eq!(
            (rules.len(), rules[0].severity),
            (1, severity),
            "{line}: {rules:#?}"
        );
        assert!(
            rules[0].found.contains("(line 2)") && rules[0].found.contains(says),
            "{line}: {rules:#?}"
        );
    }
    let good = "local all postgres peer\nhostssl all all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";
    server.put("pg_hba.conf", good).unwrap();
    let rules = superusers(&server, Code::HostRules).await;
    assert_eq!((rules.len(), rules[0].severity), (1, Severity::Ok), "{rules:#?}");
}

#[tokio::test]
async fn encryption_and_a_missing_trail_are_found() {
    let authority = Authority::new("authority");
    let server = TlsServer::encrypted(&authority.sign(&["db.test"]), EITHER).await;
    for (options, says) in [("sslmode=require", "TLSv1."), ("sslmode=disable", "loopback")] {
        let found = findings(&server.url("db.test", options), &Options::default()).await;
        let tls = of(&found, Code::Tls);
        assert!(
            tls[0].severity == Severity::Ok && tls[0].found.contains(says),
            "{options}: {tls:#?}"
        );
        let migrations = of(&found, Code::Migrations);
        assert_eq!(migrations[0].severity, Severity::Critical, "{migrations:#?}");
    }
}
