//! Who reads and writes the spool files? A thread of its own, so that a slow disk holds up nobody.
//!
//! What waits for the disk together is synced together: one commit for all appends and removals that
//! have gathered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use db_schema::NewAuditLog;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use super::file::{self, SpoolFile};
use super::{Quarantine, SpoolError, codec, files};
use crate::audit::writer::Rows;

/// How often orphans are looked for.
const SCAN_EVERY: Duration = Duration::from_secs(30);

/// How long removals wait for an append to share its sync. Removals that a crash undoes are
/// replayed, and found stored.
const REMOVALS_WAIT: Duration = Duration::from_millis(100);

/// Requests that share one sync at the most.
const GROUP: usize = 64;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SpoolId {
    file: u32,
    id: i64,
}

#[cfg(test)]
impl SpoolId {
    pub(crate) const SOME: Self = Self { file: 1, id: 1 };
}

/// What the thread says.
pub(crate) enum Answer {
    /// A batch is synced, or why it is not.
    Appended { token: u64, result: Result<SpoolId, String> },
    /// The oldest batches that are not to be skipped and fit one statement, if there are any.
    Oldest(Option<(Vec<SpoolId>, Vec<NewAuditLog>)>),
    /// A refused row is kept and synced, or why it is not.
    SetAside { token: u64, sqlstate: Option<String>, result: Result<(), String> },
    /// An orphan was found: there is something to replay.
    Adopted,
}

enum Request {
    Append { token: u64, rows: Rows },
    Remove(SpoolId),
    Oldest { skip: Vec<SpoolId> },
    SetAside { token: u64, rows: Rows, reason: String, sqlstate: Option<String> },
}

/// The writer's end of the thread. The thread ends when this is dropped; then the answers end.
pub(crate) struct Spool {
    requests: mpsc::Sender<Request>,
}

impl Spool {
    /// Makes the writer's file and starts the thread.
    pub(crate) fn start(
        dir: &Path,
        writer: Uuid,
        target: String,
        limit: u64,
        answers: UnboundedSender<Answer>,
    ) -> Result<Self, SpoolError> {
        make_private(dir).map_err(|error| SpoolError::at(dir, error))?;
        let own = SpoolFile::create(dir, &writer.to_string(), &target)?;
        let (requests, incoming) = mpsc::channel();
        let thread = Thread {
            dir: dir.to_owned(),
            target,
            limit,
            answers,
            files: BTreeMap::from([(0, own)]),
            own: 0,
            newest: 0,
            removals: BTreeMap::new(),
        };
        std::thread::Builder::new()
            .name("audit-spool".to_owned())
            .spawn(move || thread.run(&incoming))
            .map_err(|error| SpoolError::at(dir, error))?;
        Ok(Self { requests })
    }

    /// Asks to append a batch; answered by `Appended`.
    pub(crate) fn append(&self, token: u64, rows: Rows) {
        self.ask(Request::Append { token, rows });
    }

    /// Asks to remove a batch, soon.
    pub(crate) fn remove(&self, id: SpoolId) {
        self.ask(Request::Remove(id));
    }

    /// Asks for the oldest batches, those that are being dealt with left out; answered by `Oldest`.
    pub(crate) fn oldest(&self, skip: Vec<SpoolId>) {
        self.ask(Request::Oldest { skip });
    }

    /// Asks to keep refused rows; answered by `SetAside`.
    pub(crate) fn set_aside(&self, token: u64, rows: Rows, reason: String, sqlstate: Option<String>) {
        self.ask(Request::SetAside { token, rows, reason, sqlstate });
    }

    fn ask(&self, request: Request) {
        // A thread that panicked answers no more; the worker notices by the end of the answers.
        let _ = self.requests.send(request);
    }
}

struct Thread {
    dir: PathBuf,
    /// The database that this writer's entries are for: only files with the same are adopted.
    target: String,
    /// The most bytes that the own file may hold.
    limit: u64,
    answers: UnboundedSender<Answer>,
    files: BTreeMap<u32, SpoolFile>,
    /// The key of the file that is appended to.
    own: u32,
    /// The newest key. None is used twice: what is said of a batch never hits another.
    newest: u32,
    /// Batches to be removed with the next sync, by file.
    removals: BTreeMap<u32, Vec<i64>>,
}

impl Thread {
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        self.adopt_orphans();
        loop {
            let patience = if self.removals.is_empty() { SCAN_EVERY } else { REMOVALS_WAIT };
            match requests.recv_timeout(patience) {
                Ok(first) => {
                    let group = std::iter::once(first).chain(requests.try_iter().take(GROUP - 1));
                    self.serve(group.collect());
                }
                Err(mpsc::RecvTimeoutError::Timeout) if self.removals.is_empty() => self.adopt_orphans(),
                Err(mpsc::RecvTimeoutError::Timeout) => self.flush_removals(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.flush_removals();
        // What is empty goes; what is not waits for the next writer.
        for (_, file) in std::mem::take(&mut self.files) {
            if file.batches() == 0 {
                file.remove();
            }
        }
    }

    fn serve(&mut self, group: Vec<Request>) {
        let (mut tokens, mut bodies, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for request in group {
            match request {
                Request::Append { token, rows } => {
                    tokens.push(token);
                    bodies.push((rows.len() as i64, codec::encode(&rows)));
                }
                Request::Remove(SpoolId { file, id }) => self.removals.entry(file).or_default().push(id),
                other => others.push(other),
            }
        }
        if !tokens.is_empty() {
            self.append(&tokens, &bodies);
        }
        for request in others {
            let answer = match request {
                Request::Oldest { skip } => Answer::Oldest(self.oldest(&skip)),
                Request::SetAside { token, rows, reason, sqlstate } => {
                    let result = self.keep_aside(&rows, &reason, sqlstate.as_deref());
                    Answer::SetAside { token, sqlstate, result: result.map_err(|error| error.to_string()) }
                }
                Request::Append { .. } | Request::Remove(_) => continue,
            };
            let _ = self.answers.send(answer);
        }
    }

    fn append(&mut self, tokens: &[u64], bodies: &[(i64, Vec<u8>)]) {
        let added: u64 = bodies.iter().map(|(_, body)| body.len() as u64).sum();
        let remove = self.removals.get(&self.own).map_or(&[][..], Vec::as_slice);
        let result = match self.files.get_mut(&self.own) {
            None => Err("the spool was damaged".to_owned()),
            Some(own) if own.bytes() + added > self.limit => {
                Err(format!("the spool is full: it may hold {} bytes (raise spool_bytes)", self.limit))
            }
            Some(own) => own
                .change(bodies, remove)
                .map_err(|error| not_written(own.path(), &crate::client::describe(&error))),
        };
        match result {
            Ok(ids) => {
                self.removals.remove(&self.own);
                for (&token, id) in tokens.iter().zip(ids) {
                    let _ = self
                        .answers
                        .send(Answer::Appended { token, result: Ok(SpoolId { file: self.own, id }) });
                }
            }
            Err(reason) => {
                for &token in tokens {
                    let _ = self.answers.send(Answer::Appended { token, result: Err(reason.clone()) });
                }
            }
        }
    }

    fn flush_removals(&mut self) {
        for (key, ids) in std::mem::take(&mut self.removals) {
            if let Some(file) = self.files.get_mut(&key) {
                // What stays is replayed and found stored.
                let _ = file.change(&[], &ids);
                if key != self.own && file.batches() == 0 {
                    self.files.remove(&key).into_iter().for_each(SpoolFile::remove);
                }
            }
        }
    }

    /// The oldest batches of one file: adopted files first, they are older.
    fn oldest(&mut self, skip: &[SpoolId]) -> Option<(Vec<SpoolId>, Vec<NewAuditLog>)> {
        let keys: Vec<u32> =
            self.files.keys().copied().filter(|key| *key != self.own).chain([self.own]).collect();
        for key in keys {
            loop {
                let removed = self.removals.get(&key).map_or(&[][..], Vec::as_slice);
                let skip: Vec<i64> = skip
                    .iter()
                    .filter(|known| known.file == key)
                    .map(|known| known.id)
                    .chain(removed.iter().copied())
                    .collect();
                let Some(file) = self.files.get_mut(&key) else { break };
                let stored = match file.oldest(&skip) {
                    Ok(stored) if stored.is_empty() => break,
                    Ok(stored) => stored,
                    Err(error) => {
                        log::error!("audit: {}: {error}", file.path().display());
                        self.salvage(key);
                        break;
                    }
                };
                let (rows, damaged) = codec::decode_all(stored.iter().map(|stored| &stored.body[..]));
                if !self.keep_damaged(&damaged) {
                    break;
                }
                let ids = stored.into_iter().map(|stored| stored.id);
                if !rows.is_empty() {
                    return Some((ids.map(|id| SpoolId { file: key, id }).collect(), rows));
                }
                self.removals.entry(key).or_default().extend(ids);
            }
        }
        None
    }

    fn keep_aside(
        &self,
        rows: &[NewAuditLog],
        reason: &str,
        sqlstate: Option<&str>,
    ) -> Result<(), SpoolError> {
        let mut quarantine = Quarantine::open(&self.dir)?;
        rows.iter().try_for_each(|row| quarantine.keep(row, reason, sqlstate))
    }

    /// Keeps lines that cannot be read; false if that failed, and they must stay where they are.
    fn keep_damaged(&self, lines: &[Vec<u8>]) -> bool {
        if lines.is_empty() {
            return true;
        }
        let kept = Quarantine::open(&self.dir).and_then(|mut quarantine| {
            lines.iter().try_for_each(|line| quarantine.keep_line(line, "damaged in the spool", None))
        });
        log::error!(
            "audit: {} damaged lines of the spool were set aside in {}",
            lines.len(),
            self.dir.join("quarantine.sqlite").display()
        );
        kept.map_err(|error| log::error!("audit: {error}")).is_ok()
    }

    /// Takes over the files of processes that ended without removing them.
    fn adopt_orphans(&mut self) {
        let paths = files(&self.dir, "spool").unwrap_or_else(|error| {
            log::error!("audit: {error}");
            Vec::new()
        });
        for path in paths {
            if self.files.values().any(|file| file.path() == path) {
                continue;
            }
            match SpoolFile::adopt(&path) {
                Ok(None) => {}
                Ok(Some(file)) => self.take_over(file),
                Err(error) => {
                    let aside = file::set_aside(&path);
                    log::error!("audit: {error}; it was set aside as {}", aside.display());
                }
            }
        }
    }

    fn take_over(&mut self, mut file: SpoolFile) {
        let sound = file.is_sound();
        match file.target() {
            // For another database: its own writer will come.
            Ok(target) if target != self.target => return,
            Ok(_) => {}
            Err(_) if !sound => {}
            Err(error) => return log::error!("audit: {}: {error}", file.path().display()),
        }
        if sound && file.batches() == 0 {
            return file.remove();
        }
        let key = self.next_key();
        log::warn!("audit: adopted {} with {} batches", file.path().display(), file.batches());
        self.files.insert(key, file);
        if !sound {
            self.salvage(key);
        }
        let _ = self.answers.send(Answer::Adopted);
    }

    fn next_key(&mut self) -> u32 {
        self.newest += 1;
        self.newest
    }

    /// Moves what can be read of a damaged file into the own one, and sets the file aside.
    fn salvage(&mut self, key: u32) {
        let Some(mut damaged) = self.files.remove(&key) else { return };
        let found = damaged.salvage();
        let bodies: Vec<(i64, Vec<u8>)> = found
            .into_iter()
            .map(|stored| (codec::decode(&stored.body).0.len() as i64, stored.body))
            .collect();
        let aside = damaged.set_aside();
        log::error!(
            "audit: a spool file is damaged: {} batches were read from {}",
            bodies.len(),
            aside.display()
        );
        if key == self.own {
            match SpoolFile::create(&self.dir, &Uuid::now_v7().to_string(), &self.target) {
                Ok(own) => {
                    self.own = self.next_key();
                    self.files.insert(self.own, own);
                }
                Err(error) => log::error!("audit: {error}"),
            }
            self.removals.remove(&key);
        }
        if let Some(own) = self.files.get_mut(&self.own)
            && let Err(error) = own.change(&bodies, &[])
        {
            log::error!("audit: {} batches of {} were not kept: {error}", bodies.len(), aside.display());
        }
        let _ = self.answers.send(Answer::Adopted);
    }
}

/// Why a file took nothing, and what helps. SQLite calls some failures of a full disk an I/O error.
fn not_written(path: &Path, said: &str) -> String {
    let full = ["database or disk is full", "disk I/O error"].iter().any(|known| said.starts_with(known));
    let way_out = if full { " (free space on its disk)" } else { "" };
    format!("{}: {said}{way_out}", path.display())
}

/// Makes a directory that only this user may read; one that is there is left as it is.
fn make_private(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
