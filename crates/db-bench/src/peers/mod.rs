//! What is measured beside what? A function for each contender: a fresh database, a warm-up, a sample.
//!
//! Who inserts one by one builds each event within its time, and so do the audit writer's producer and
//! the bare statement. The other bulk peers are handed their rows ready-made, to their advantage.

pub(crate) mod batches;
pub(crate) mod node;
pub(crate) mod ours;
pub(crate) mod sea_orm;
pub(crate) mod single;
pub(crate) mod sqlx;
pub(crate) mod statement;

use futures_util::future::BoxFuture;

use crate::Fallible;
use crate::clock::{Sample, Stopwatch};
use crate::place::Place;

/// Inserts before the time begins: connections open, statements prepared, code warm.
pub(crate) const WARM_UP: usize = 100;

/// A contender's turn.
pub(crate) type Turn = for<'a> fn(&'a Place, usize) -> BoxFuture<'a, Fallible<Sample>>;

/// Who inserts one row in a call.
pub(crate) trait Single: Send {
    fn insert(&mut self, nth: usize) -> impl Future<Output = Fallible<()>> + Send;
}

/// Awaits one call after the other. The first ones are the warm-up.
pub(crate) async fn one_by_one(rows: usize, mut who: impl Single) -> Fallible<Sample> {
    for nth in 0..WARM_UP {
        who.insert(nth).await?;
    }
    let watch = Stopwatch::start();
    for nth in WARM_UP..WARM_UP + rows {
        who.insert(nth).await?;
    }
    Ok(watch.sample(rows))
}
