//! The checks: the code of each, what it verifies, and the controls that it relates to.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $check:literal, [$($control:literal),*];)*) => {
        /// The code of a check. A code never changes its meaning; `docs/doctor.md` explains each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs)] // `check` says what each verifies
        pub enum Code { $($name),* }

        impl Code {
            /// Every code, in the order of a report.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it is printed.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What the check verifies.
            pub fn check(self) -> &'static str {
                match self { $(Self::$name => $check),* }
            }

            /// The requirements that it relates to: SOC 2 (2017), ISO/IEC 27001:2022, PCI DSS 4.0.1, HIPAA
            /// (45 CFR) and NIST SP 800-53 Rev. 5.
            pub fn controls(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($control),*]),* }
            }
        }
    };
}

codes! {
    // Statements that are tried.
    RowUpdate = "ROW_UPDATE", "a stored row cannot be changed",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    RowDelete = "ROW_DELETE", "a stored row cannot be deleted",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    Forgery = "FORGERY", "only the database sets recorded_at and tx_id",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-8", "NIST AU-9", "NIST AU-10"];
    TenantRead = "TENANT_READ", "no tenant sees another tenant's rows",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "HIPAA 164.312(b)", "NIST AU-9(4)"];
    PartitionAccess = "PARTITION_ACCESS", "partitions cannot be accessed directly",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    CreateTable = "CREATE_TABLE", "this user cannot create tables in the trail's schema",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "NIST AU-9"];
    OwnerStatements = "OWNER_STATEMENTS", "the trail cannot be truncated, altered or dropped",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    Writable = "WRITABLE", "a user with the right to write can write",
        ["SOC 2 CC7.2", "ISO 27001 A.8.15", "PCI DSS 10.7.2", "HIPAA 164.312(b)", "NIST AU-5", "NIST AU-12"];

    // Roles and rights.
    User = "USER", "this user cannot remove the trail's protection",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9(4)"];
    Membership = "MEMBERSHIP", "this user has the roles it needs and no others",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "NIST AU-9(4)"];
    Roles = "ROLES", "the roles writer, reader, auditor and maintainer exist, without excess rights or members",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "NIST AU-9(4)"];
    Grants = "GRANTS", "only the trail's roles have rights on it",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    RowSecurity = "ROW_SECURITY", "row security is on and its policies are unchanged",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "HIPAA 164.312(b)", "NIST AU-9(4)"];

    // Tables, triggers and functions.
    Migrations = "MIGRATIONS", "the database has the migrations of this version",
        ["SOC 2 CC7.1", "ISO 27001 A.8.15", "NIST AU-12"];
    Triggers = "TRIGGERS", "every partition has the append-only triggers, always enabled",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    OtherTriggers = "OTHER_TRIGGERS", "the trail has no other triggers or rules",
        ["SOC 2 CC7.1", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9", "NIST AU-12"];
    Tables = "TABLES", "tables, columns and constraints are unchanged and belong to the owner",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "PCI DSS 10.3.4", "NIST AU-9"];
    Functions = "FUNCTIONS", "the trail's functions are unchanged",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "PCI DSS 10.3.4", "NIST AU-9"];
    Indexes = "INDEXES", "the indexes exist and are valid",
        ["SOC 2 CC7.2", "PCI DSS 10.4.1", "NIST AU-7"];
    UpcomingPartitions = "UPCOMING_PARTITIONS", "partitions exist for the coming months",
        ["SOC 2 CC7.2", "ISO 27001 A.8.15", "PCI DSS 10.5.1", "NIST AU-4", "NIST AU-11"];
    DefaultPartition = "DEFAULT_PARTITION", "the default partition exists and is empty",
        ["ISO 27001 A.8.15", "PCI DSS 10.5.1", "NIST AU-4", "NIST AU-11"];
    UnattachedTables = "UNATTACHED_TABLES", "every monthly table is attached, and none was created manually",
        ["ISO 27001 A.8.15", "PCI DSS 10.5.1", "NIST AU-9", "NIST AU-11"];

    Continuity = "CONTINUITY", "no month, ledger entry or hold is missing, and nothing is dated in the future",
        ["SOC 2 CC7.2", "ISO 27001 A.8.15", "PCI DSS 10.5.1", "NIST AU-8", "NIST AU-9", "NIST AU-11"];
    Dependents = "DEPENDENTS", "no view, publication or other object depends on the trail",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    Settings = "SETTINGS", "no setting of the database or of a role changes the trail",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "NIST AU-9"];
    Locks = "LOCKS", "no other session stops the trail's readers and writers with a lock",
        ["SOC 2 CC7.2", "PCI DSS 10.7.2", "NIST AU-5"];
    PreparedTransactions = "PREPARED_TRANSACTIONS", "no prepared transaction holds locks on the trail",
        ["SOC 2 CC7.2", "PCI DSS 10.7.2", "NIST AU-5"];
    IdleTransactions = "IDLE_TRANSACTIONS", "no session that is idle in a transaction holds locks on the trail",
        ["SOC 2 CC7.2", "PCI DSS 10.7.2", "NIST AU-5"];
    Allowed = "ALLOWED", "what the operator allows in addition is listed",
        ["SOC 2 CC7.1", "ISO 27001 A.8.15", "NIST AU-9"];

    // Server and session.
    ServerVersion = "SERVER_VERSION", "the server's version is supported",
        ["SOC 2 CC7.1", "NIST AU-12"];
    Tls = "TLS", "a connection to another machine is encrypted",
        ["SOC 2 CC6.7", "PCI DSS 10.3.2", "HIPAA 164.312(e)(1)", "NIST AU-9"];
    HostRules = "HOST_RULES", "the server requires TLS and authentication",
        ["SOC 2 CC6.6", "SOC 2 CC6.7", "PCI DSS 10.3.2", "NIST AU-9"];
    Clock = "CLOCK", "this machine's clock and the server's agree",
        ["SOC 2 CC7.2", "PCI DSS 10.6.1", "NIST AU-8"];
    Durability = "DURABILITY", "commits survive a crash",
        ["SOC 2 CC7.2", "ISO 27001 A.8.15", "PCI DSS 10.3.3", "HIPAA 164.312(b)", "NIST AU-4", "NIST AU-9"];
    ReplicaMode = "REPLICA_MODE", "triggers are enabled in this session",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "NIST AU-9"];
    ServerLog = "SERVER_LOG", "the server's log does not contain audit rows",
        ["SOC 2 CC6.1", "PCI DSS 10.3.1", "NIST AU-9"];
    Timeouts = "TIMEOUTS", "no timeout interrupts the writer",
        ["SOC 2 CC7.2", "PCI DSS 10.7.2", "NIST AU-5"];
    Pooler = "POOLER", "each connection keeps its session",
        ["SOC 2 CC7.2", "PCI DSS 10.7.2", "NIST AU-5", "NIST AU-12"];

    // SQLite.
    SqliteFile = "SQLITE_FILE", "only its owner may read and write the file",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    SqliteJournal = "SQLITE_JOURNAL", "readers and the writer do not block each other",
        ["SOC 2 CC7.2", "NIST AU-4"];
}
