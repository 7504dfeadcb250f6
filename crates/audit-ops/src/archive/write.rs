//! Writes a month's rows to an archive.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use db_services::client::Connection;
use db_services::files::{create_private_dir, is_protected};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt;

use super::digest::LineDigest;
use super::prove::prove;
use super::read::check_lines;
use super::rows::is_piece;
use super::{FORMAT, LINES_SUFFIX, MANIFEST_SUFFIX, Manifest, VerifiedArchive};
use crate::hashing::{HashingStream, hex};
use crate::postgres::{Number, postgres};
use crate::retention::PlannedPartition;
use crate::session::{Work, answered, transaction};
use crate::unfinished::{self, Existing, Unfinished};
use crate::{ArchiveProblem, OpsError};

/// Rows are read in slices of a day, so that the server's temporary file has the lines of a day instead of a month.
const SLICE_SECS: i64 = 86_400;

/// Writes a month to an archive in a directory, which it creates if necessary (mode 0700). Calls `progress` with
/// the number of rows written. An existing archive of the same rows is replaced by an equal one. Then reads it again,
/// and compares the rows that it gives with those of the trail.
///
/// The connection's user must be the table's owner or an auditor; a user who cannot see every row is
/// refused. Files are written and compressed on the calling thread.
///
/// The files are created under random names (mode 0600) and renamed at the end, so neither a file nor a link that
/// exists is written to. A directory is refused if somebody else could replace them: the directory, or one of those
/// above it up to the root, belongs to another user than this one or root, or its group or others may write to it, unless it
/// belongs to root and is sticky.
///
/// # Errors
/// When the partition is not a month, the database refuses, a file cannot be written, others may write to the
/// directory or to one above it, or another process is writing to it; when what was written cannot be read again, or
/// gives other rows. No file of an incomplete or unproven archive stays; what a killed
/// process left is removed by the next archive of the month.
///
/// # Cancel safety
/// As with an error.
pub async fn write(
    conn: &mut Connection,
    month: &PlannedPartition,
    dir: &Path,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<VerifiedArchive, OpsError> {
    postgres(conn)?;
    let (Some(name), Some(from), Some(to)) = (&month.month, month.from_epoch, month.to_epoch) else {
        let partition = month.name.clone();
        return Err(OpsError::archive(dir, ArchiveProblem::NotMonthly { partition }));
    };
    create_private_dir(dir).map_err(OpsError::file(dir))?;
    // Without links: whoever can replace one must not choose where the files go.
    let place = fs::canonicalize(dir).map_err(OpsError::file(dir))?;
    let lock = lock(&place)?;
    let stem = format!("audit_logs_{}", name.replace(' ', "_"));
    remove_unfinished(&place, &stem);
    let mut output = Output::create(&place, &stem)?;
    transaction(conn, Work::Snapshot, async |conn, limit| {
        read(postgres(conn)?, (from, to), limit, &mut output, progress).await
    })
    .await?;
    let (unfinished, written) = output.finish()?;

    let digest = written.lines.digest;
    let named = format!("{stem}.{}", hex(&digest[..8]));
    let path = dir.join(format!("{named}{LINES_SUFFIX}"));
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        month: name.clone(),
        from_time: month.from_time.clone().unwrap_or_default(),
        to_time: month.to_time.clone().unwrap_or_default(),
        rows: written.lines.rows,
        digest: hex(&digest),
        bytes: written.lines.bytes,
        sha256: hex(&written.lines.sha256()),
        file: file_name(&path),
        file_bytes: written.file_bytes,
        file_sha256: hex(&written.file_sha256),
        made_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
    };
    let manifest_path = dir.join(format!("{named}{MANIFEST_SUFFIX}"));
    let unfinished_manifest = write_manifest(&manifest, &place, &stem)?;
    // Both files are complete and proven before either has its name.
    let archive = check_lines(unfinished_manifest.path(), unfinished.path())?;
    prove(conn, &archive).await?;
    rename(unfinished, &path)?;
    if let Err(error) = rename(unfinished_manifest, &manifest_path) {
        if !place.join(file_name(&manifest_path)).exists() {
            let _ = fs::remove_file(place.join(file_name(&path)));
        }
        return Err(error);
    }
    // A rename is durable once its directory is synced.
    lock.sync_all().map_err(OpsError::file(dir))?;
    Ok(VerifiedArchive {
        manifest_path,
        path,
        ..archive
    })
}

/// Opens the directory for one process at a time.
fn lock(dir: &Path) -> Result<File, OpsError> {
    let opened = File::open(dir).map_err(OpsError::file(dir))?;
    opened
        .try_lock()
        .map_err(|_| OpsError::archive(dir, ArchiveProblem::Locked))?;
    Ok(opened)
}

/// Removes what a killed process left while it wrote this month. One that stays costs space only.
fn remove_unfinished(dir: &Path, stem: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'))
            && name.ends_with(unfinished::SUFFIX)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Reads the rows with a time in `[from, to)`, in seconds since 1970, in one snapshot.
async fn read(
    conn: &mut AsyncPgConnection,
    (from, to): (i64, i64),
    limit: Duration,
    output: &mut Output,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), OpsError> {
    let may_read = diesel::sql_query(
        "SELECT has_function_privilege('audit_logs_lines(timestamptz, timestamptz)', 'EXECUTE')::int::bigint AS value",
    );
    if answered(limit, may_read.get_result::<Number>(conn)).await?.value == 0 {
        return Err(OpsError::IncompleteView);
    }
    let mut begin = from;
    while begin < to {
        let end = to.min(begin + SLICE_SECS);
        let lines = diesel::sql_query(
            "SELECT line FROM audit_logs_lines(to_timestamp($1), to_timestamp($2)) AS line",
        )
        .bind::<BigInt, _>(begin)
        .bind::<BigInt, _>(end);
        let mut lines = answered(limit, lines.load_stream::<Line>(conn)).await?;
        while let Some(Line { line }) = answered(limit, lines.try_next()).await? {
            output.add(&line)?;
            if output.lines.rows.is_multiple_of(1_000) {
                progress(output.lines.rows);
            }
        }
        begin = end;
    }
    progress(output.lines.rows);
    Ok(())
}

/// The file of compressed lines while it is being written.
struct Output {
    unfinished: Unfinished,
    lines: LineDigest,
    file: GzEncoder<HashingStream<BufWriter<File>>>,
}

/// The digests of a finished file.
struct Written {
    lines: LineDigest,
    file_bytes: u64,
    file_sha256: [u8; 32],
}

impl Output {
    /// An error if others could replace the file in its directory.
    fn create(dir: &Path, stem: &str) -> Result<Self, OpsError> {
        let (unfinished, file) = Unfinished::create(dir, stem).map_err(OpsError::file(dir))?;
        let path = unfinished.path();
        let created = file.metadata().map_err(OpsError::file(path))?;
        for dir in path.ancestors().skip(1) {
            let found = fs::metadata(dir).map_err(OpsError::file(dir))?;
            if !is_protected(&found, &created) {
                return Err(OpsError::archive(dir, ArchiveProblem::Unprotected));
            }
        }
        let file = GzEncoder::new(HashingStream::new(BufWriter::new(file)), Compression::default());
        Ok(Self {
            unfinished,
            lines: LineDigest::new(),
            file,
        })
    }

    fn add(&mut self, line: &str) -> Result<(), OpsError> {
        match is_piece(line) {
            true => self.lines.add_piece(line.as_bytes()),
            false => self.lines.add_row(line.as_bytes()),
        }
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.write_all(b"\n"));
        written.map_err(OpsError::file(self.unfinished.path()))
    }

    fn finish(self) -> Result<(Unfinished, Written), OpsError> {
        let Self {
            unfinished,
            lines,
            file,
        } = self;
        let mut hashed = file.finish().map_err(OpsError::file(unfinished.path()))?;
        hashed
            .flush()
            .and_then(|()| hashed.inner.get_ref().sync_all())
            .map_err(OpsError::file(unfinished.path()))?;
        let written = Written {
            lines,
            file_bytes: hashed.bytes,
            file_sha256: hashed.sha256(),
        };
        Ok((unfinished, written))
    }
}

fn write_manifest(manifest: &Manifest, dir: &Path, stem: &str) -> Result<Unfinished, OpsError> {
    let (unfinished, mut file) = Unfinished::create(dir, stem).map_err(OpsError::file(dir))?;
    let path = unfinished.path();
    let text = serde_json::to_string_pretty(manifest)
        .map_err(|error| OpsError::archive(path, ArchiveProblem::Manifest(error)))?;
    let mut write = || {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(OpsError::file(path))?;
    Ok(unfinished)
}

/// Gives a file the name of this path, in the directory where it is.
fn rename(unfinished: Unfinished, to: &Path) -> Result<(), OpsError> {
    let name = to.file_name().unwrap_or_default();
    unfinished
        .rename(name, Existing::Replaced)
        .map_err(OpsError::file(to))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
