//! The contenders: the audit writer and its baselines. Each has a function that creates a database, warms
//! up and measures a sample.
//!
//! Contenders that insert single rows build each event within the measured time, and so do the audit
//! writer and the bare statement. The other bulk baselines get rows that were built before, which is to
//! their advantage.

pub(crate) mod ancestor;
pub(crate) mod audit_writer;
pub(crate) mod batches;
pub(crate) mod sea_orm;
pub(crate) mod single;
pub(crate) mod sqlx;
pub(crate) mod statement;

use futures_util::future::BoxFuture;

use crate::Result;
use crate::clock::{Sample, Stopwatch};
use crate::server::BenchServer;

/// Inserts before the measurement: connections are open then, statements prepared, code warm.
pub(crate) const WARM_UP: usize = 100;

/// A contender's turn.
pub(crate) type Turn = for<'a> fn(&'a BenchServer, usize) -> BoxFuture<'a, Result<Sample>>;

/// A contender that inserts one row in a call.
pub(crate) trait Single: Send {
    fn insert(&mut self, nth: usize) -> impl Future<Output = Result<()>> + Send;
}

/// Measures single inserts, one after the other. The first ones are the warm-up.
pub(crate) async fn one_by_one(rows: usize, mut inserter: impl Single) -> Result<Sample> {
    for nth in 0..WARM_UP {
        inserter.insert(nth).await?;
    }
    let watch = Stopwatch::start();
    for nth in WARM_UP..WARM_UP + rows {
        inserter.insert(nth).await?;
    }
    Ok(watch.sample(rows))
}
