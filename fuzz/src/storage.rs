//! A database in memory, with the runtime to use it.

use db_services::client::Database;
use tokio::runtime::Runtime;

pub struct Storage {
    pub runtime: Runtime,
    pub database: Database,
}

impl Storage {
    /// The table is empty.
    pub fn migrated() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let database = Database::from_url("sqlite::memory:").unwrap();
        runtime.block_on(database.migrate()).unwrap();
        Self { runtime, database }
    }
}
