//! The project's migrations, applied from their files as the diesel CLI does.

use std::path::{Path, PathBuf};

use tokio_postgres::Client;
use uuid::Uuid;

use crate::SetupError;
use crate::sql::run;

/// The PostgreSQL migrations in their order: diesel's version and the SQL.
pub(crate) struct Migrations(Vec<(String, String)>);

impl Migrations {
    pub(crate) fn read() -> Result<Self, SetupError> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/postgres");
        let failed = |error| SetupError::Migrations(root.clone(), error);
        let mut dirs: Vec<PathBuf> = std::fs::read_dir(&root)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        dirs.sort();
        let read = dirs.iter().map(|dir| {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            let version = name.split('_').next().unwrap_or_default().replace('-', "");
            Ok((
                version,
                std::fs::read_to_string(dir.join("up.sql")).map_err(failed)?,
            ))
        });
        Ok(Self(read.collect::<Result<_, _>>()?))
    }

    /// A digest of all migrations.
    pub(crate) fn digest(&self) -> Uuid {
        let all: Vec<u8> = self
            .0
            .iter()
            .flat_map(|(version, sql)| [version.as_bytes(), sql.as_bytes()].concat())
            .collect();
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &all)
    }

    /// Runs them on an empty database and records them in diesel's table.
    pub(crate) async fn apply(&self, client: &Client) -> Result<(), SetupError> {
        run(client, "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)").await?;
        for (version, sql) in &self.0 {
            run(client, &format!("BEGIN; {sql}; INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}'); COMMIT")).await?;
        }
        Ok(())
    }
}
