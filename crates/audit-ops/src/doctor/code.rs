//! What is looked at, and which controls does it touch? The codes, which never change their meaning.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $check:literal, [$($control:literal),*];)*) => {
        /// Which check it is. Codes keep their meaning; `docs/doctor.md` explains each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs)] // what each stands for is its own text, below
        pub enum Code { $($name),* }

        impl Code {
            /// Every code, in the order of a report.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it is printed.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What is looked at.
            pub fn check(self) -> &'static str {
                match self { $(Self::$name => $check),* }
            }

            /// The requirements that it touches: SOC 2 (2017), ISO/IEC 27001:2022, PCI DSS 4.0.1, HIPAA
            /// (45 CFR) and NIST SP 800-53 Rev. 5.
            pub fn controls(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($control),*]),* }
            }
        }
    };
}

codes! {
    // Tried.
    RowUpdate = "ROW_UPDATE", "a stored row cannot be changed",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    RowDelete = "ROW_DELETE", "a stored row cannot be deleted",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    Forgery = "FORGERY", "recorded_at and tx_id are the database's own",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-8", "NIST AU-9", "NIST AU-10"];
    TenantRead = "TENANT_READ", "a tenant's rows are seen by no other",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "HIPAA 164.312(b)", "NIST AU-9(4)"];
    PartitionAccess = "PARTITION_ACCESS", "no partition is reached past the table",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    CreateTable = "CREATE_TABLE", "this user cannot make tables beside the trail",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "NIST AU-9"];
    OwnerStatements = "OWNER_STATEMENTS", "the trail cannot be emptied, altered or taken apart",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    Writable = "WRITABLE", "entries can be written where this user may write",
        ["SOC 2 CC7.2", "ISO 27001 A.8.15", "PCI DSS 10.7.2", "HIPAA 164.312(b)", "NIST AU-5", "NIST AU-12"];

    // Who.
    User = "USER", "this user has no power over the trail",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9(4)"];
    Membership = "MEMBERSHIP", "this user has the roles it needs and no others",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "NIST AU-9(4)"];
    Roles = "ROLES", "writer, reader, auditor and maintainer are there",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "NIST AU-9(4)"];
    Grants = "GRANTS", "rights on the trail are those of its roles and no others",
        ["SOC 2 CC6.3", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    RowSecurity = "ROW_SECURITY", "row security is on, its policies as they were made",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "HIPAA 164.312(b)", "NIST AU-9(4)"];

    // What is built.
    Migrations = "MIGRATIONS", "the tables are those of this version",
        ["SOC 2 CC7.1", "ISO 27001 A.8.15", "NIST AU-12"];
    Triggers = "TRIGGERS", "every partition has the triggers that refuse change, always on",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    StrangeTriggers = "STRANGE_TRIGGERS", "no other trigger or rule acts on the trail",
        ["SOC 2 CC7.1", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9", "NIST AU-12"];
    Functions = "FUNCTIONS", "the owner's functions are as they were made",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "PCI DSS 10.3.4", "NIST AU-9"];
    Indexes = "INDEXES", "the indexes are there and valid",
        ["SOC 2 CC7.2", "PCI DSS 10.4.1", "NIST AU-7"];
    MonthsAhead = "MONTHS_AHEAD", "months are made ahead",
        ["SOC 2 CC7.2", "ISO 27001 A.8.15", "PCI DSS 10.5.1", "NIST AU-4", "NIST AU-11"];
    DefaultPartition = "DEFAULT_PARTITION", "the default partition is there, and empty",
        ["ISO 27001 A.8.15", "PCI DSS 10.5.1", "NIST AU-4", "NIST AU-11"];
    StrayTables = "STRAY_TABLES", "no part of the trail lies beside it, none was made by hand",
        ["ISO 27001 A.8.15", "PCI DSS 10.5.1", "NIST AU-9", "NIST AU-11"];

    // Where it runs.
    ServerVersion = "SERVER_VERSION", "the server's version is supported",
        ["SOC 2 CC7.1", "NIST AU-12"];
    Tls = "TLS", "this connection is encrypted where it leaves the machine",
        ["SOC 2 CC6.7", "PCI DSS 10.3.2", "HIPAA 164.312(e)(1)", "NIST AU-9"];
    HostRules = "HOST_RULES", "the server asks for TLS and for a proof of identity",
        ["SOC 2 CC6.6", "SOC 2 CC6.7", "PCI DSS 10.3.2", "NIST AU-9"];
    Clock = "CLOCK", "the clocks here and on the server agree",
        ["SOC 2 CC7.2", "PCI DSS 10.6.1", "NIST AU-8"];
    Durability = "DURABILITY", "what is committed survives a crash",
        ["SOC 2 CC7.2", "ISO 27001 A.8.15", "PCI DSS 10.3.3", "HIPAA 164.312(b)", "NIST AU-4", "NIST AU-9"];
    ReplicaMode = "REPLICA_MODE", "triggers are not switched off for this session",
        ["SOC 2 CC6.8", "ISO 27001 A.8.15", "PCI DSS 10.3.2", "NIST AU-9"];
    ServerLog = "SERVER_LOG", "the server's log does not repeat audit rows",
        ["SOC 2 CC6.1", "PCI DSS 10.3.1", "NIST AU-9"];
    Timeouts = "TIMEOUTS", "no timeout cuts the writer short",
        ["SOC 2 CC7.2", "PCI DSS 10.7.2", "NIST AU-5"];
    Pooler = "POOLER", "a connection keeps its session",
        ["SOC 2 CC7.2", "PCI DSS 10.7.2", "NIST AU-5", "NIST AU-12"];

    // On SQLite.
    SqliteFile = "SQLITE_FILE", "only its user may write and read the file",
        ["SOC 2 CC6.1", "ISO 27001 A.8.15", "PCI DSS 10.3.1", "PCI DSS 10.3.2", "HIPAA 164.312(b)", "NIST AU-9"];
    SqliteJournal = "SQLITE_JOURNAL", "readers and the writer do not wait for each other",
        ["SOC 2 CC7.2", "NIST AU-4"];
}
