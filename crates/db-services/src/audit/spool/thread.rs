//! The thread that reads and writes the spool files, so that a slow disk delays nobody.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use audit_core::Time;
use audit_core::spool::{SpoolConfig, SpoolReply, SpoolRequest, SpoolWorker};
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use super::SpoolError;
use super::store::Directory;
use crate::audit::row::LogRow;

/// The most requests that share one sync.
const MAX_GROUP: usize = 64;

/// The writer's end of the thread. The thread ends when this is dropped; then the replies end. They end early
/// if it panics.
pub(crate) struct Spool {
    requests: mpsc::Sender<SpoolRequest<LogRow>>,
}

impl Spool {
    /// Creates the writer's file, unless the disk is full, and starts the thread.
    pub(crate) fn start(
        dir: &Path,
        writer: Uuid,
        target: String,
        limit: u64,
        replies: UnboundedSender<SpoolReply<LogRow>>,
    ) -> Result<Self, SpoolError> {
        let directory = Directory::new(dir, Some(writer)).for_target(&target);
        let (started, mut config) = (Instant::now(), SpoolConfig::new(target, limit));
        config.writer = Some(writer);
        let worker = SpoolWorker::open(directory, config, Time::START)
            .map_err(|failure| SpoolError::at(dir, failure))?;
        let (requests, incoming) = mpsc::channel();
        std::thread::Builder::new()
            .name("audit-spool".to_owned())
            .spawn(move || run(worker, &incoming, &replies, started))
            .map_err(|error| SpoolError::at(dir, error))?;
        Ok(Self { requests })
    }

    /// Asks the thread; it answers in the order of the requests.
    pub(crate) fn send(&self, request: SpoolRequest<LogRow>) {
        // If the thread has panicked, the replies have ended.
        let _ = self.requests.send(request);
    }
}

fn run(
    mut worker: SpoolWorker<Directory>,
    requests: &mpsc::Receiver<SpoolRequest<LogRow>>,
    replies: &UnboundedSender<SpoolReply<LogRow>>,
    started: Instant,
) {
    let now = || Time::after(started.elapsed());
    loop {
        let mut answers = Vec::new();
        match requests.recv_timeout(worker.next_tick().since(now())) {
            Ok(first) => {
                let group = std::iter::once(first).chain(requests.try_iter().take(MAX_GROUP - 1));
                worker.handle(group.collect(), now(), &mut answers);
            }
            Err(RecvTimeoutError::Timeout) => worker.tick(now(), &mut answers),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        for answer in answers {
            // A writer that ended listens no more.
            let _ = replies.send(answer);
        }
    }
    worker.close();
}
