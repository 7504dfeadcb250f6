//! Input that is read on a thread of its own.
//!
//! Reading standard input or a pipe blocks for as long as nobody writes to it. Entries that were read before must
//! not wait for that.

use std::io;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// The name of the thread.
const THREAD: &str = "auditlog-input";

/// The items of an input, in chunks.
pub(crate) struct Feed<T> {
    chunks: mpsc::Receiver<io::Result<Vec<T>>>,
}

impl<T: Send + 'static> Feed<T> {
    /// Calls `read` for one chunk after the other until it returns an error or, at the end of the input, an empty
    /// one. At most one chunk is read in advance.
    pub(crate) fn start(mut read: impl FnMut() -> io::Result<Vec<T>> + Send + 'static) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(1);
        // Not one of tokio's threads: the runtime would wait for it at the end.
        std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || {
                loop {
                    let chunk = read();
                    let is_last = chunk.as_ref().map_or(true, Vec::is_empty);
                    if sender.blocking_send(chunk).is_err() || is_last {
                        return;
                    }
                }
            })?;
        Ok(Self { chunks })
    }

    /// What [`next`](Self::next) returns; none if that takes longer than until this time.
    pub(crate) async fn next_by(&mut self, at: Option<Instant>) -> Option<io::Result<Option<Vec<T>>>> {
        match at {
            None => Some(self.next().await),
            Some(at) => timeout_at(at, self.next()).await.ok(),
        }
    }

    /// The next chunk; none at the end of the input. Dropping the future loses nothing.
    async fn next(&mut self) -> io::Result<Option<Vec<T>>> {
        match self.chunks.recv().await {
            Some(chunk) => chunk.map(|items| Some(items).filter(|items| !items.is_empty())),
            None => Err(io::Error::other("the thread that reads the input has ended")),
        }
    }
}
