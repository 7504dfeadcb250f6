//! Writes a month's rows to an archive.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt;

use super::digest::{HashingStream, LineDigest, hex};
use super::{FORMAT, MANIFEST_SUFFIX, Manifest, VerifiedArchive};
use crate::postgres::{Number, postgres};
use crate::retention::PlannedPartition;
use crate::{ArchiveProblem, OpsError};

/// Rows are read in slices of a day, so that the server sorts a day's rows at a time instead of a month's.
const SLICE_SECS: i64 = 86_400;

/// Writes a month to an archive in a directory, which it creates if necessary. Calls `progress` with the
/// number of rows written. An existing archive of the same rows is replaced by an equal one.
///
/// The connection's user must be the table's owner or an auditor; a user who cannot see every row is
/// refused. Files are written and compressed on the calling thread.
///
/// # Errors
/// When the partition is not a month, the database refuses, a file cannot be written, or another process is
/// writing to the directory. An incomplete file stays under a name that ends with `.partial`.
///
/// # Cancel safety
/// As with an error.
pub async fn write(
    conn: &mut Connection,
    month: &PlannedPartition,
    dir: &Path,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<VerifiedArchive, OpsError> {
    let conn = postgres(conn)?;
    let (Some(name), Some(from), Some(to)) = (&month.month, month.from_epoch, month.to_epoch) else {
        let partition = month.name.clone();
        return Err(OpsError::archive(dir, ArchiveProblem::NotMonthly { partition }));
    };
    fs::create_dir_all(dir).map_err(OpsError::file(dir))?;
    let stem = format!("audit_logs_{}", name.replace(' ', "_"));
    // One process at a time: two would write to the same file.
    let lock = File::open(dir).map_err(OpsError::file(dir))?;
    lock.try_lock()
        .map_err(|_| OpsError::archive(dir, ArchiveProblem::Locked))?;
    let partial = dir.join(format!("{stem}.partial"));
    let mut output = Output::create(&partial)?;
    let mut transaction = conn.build_transaction().repeatable_read().read_only();
    transaction
        .run(async |conn: &mut AsyncPgConnection| read(conn, from, to, &mut output, progress).await)
        .await?;
    let written = output.finish()?;

    let digest = written.lines.digest;
    let stem = format!("{stem}.{}", hex(&digest[..8]));
    let path = dir.join(format!("{stem}.ndjson.gz"));
    fs::rename(&partial, &path).map_err(OpsError::file(&path))?;
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
    let manifest_path = dir.join(format!("{stem}{MANIFEST_SUFFIX}"));
    write_manifest(&manifest, &manifest_path, &partial)?;
    // A rename is durable once its directory is synced.
    lock.sync_all().map_err(OpsError::file(dir))?;
    Ok(VerifiedArchive {
        manifest,
        manifest_path,
        path,
        digest,
        file_sha256: written.file_sha256,
    })
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Reads the rows with a time in `[from, to)`, in seconds since 1970, in one snapshot.
async fn read(
    conn: &mut AsyncPgConnection,
    from: i64,
    to: i64,
    output: &mut Output,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), OpsError> {
    conn.batch_execute("SET LOCAL timezone = 'UTC'").await?;
    let sees_all = diesel::sql_query(
        "SELECT (NOT row_security_active('audit_logs') OR pg_has_role(audit_role('auditor'), 'USAGE'))::int::bigint AS value",
    );
    if sees_all.get_result::<Number>(conn).await?.value == 0 {
        return Err(OpsError::IncompleteView);
    }
    let mut begin = from;
    while begin < to {
        let end = to.min(begin + SLICE_SECS);
        let lines = diesel::sql_query(
            "SELECT row_to_json(a)::text AS line FROM audit_logs a \
             WHERE created_at >= to_timestamp($1) AND created_at < to_timestamp($2) ORDER BY created_at, id",
        )
        .bind::<BigInt, _>(begin)
        .bind::<BigInt, _>(end);
        let mut lines = lines.load_stream::<Line>(conn).await?;
        while let Some(Line { line }) = lines.try_next().await? {
            output.add(line.as_bytes())?;
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
    path: PathBuf,
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
    fn create(path: &Path) -> Result<Self, OpsError> {
        let file = open_private(path).map_err(OpsError::file(path))?;
        let file = GzEncoder::new(HashingStream::new(BufWriter::new(file)), Compression::default());
        Ok(Self {
            path: path.to_owned(),
            lines: LineDigest::new(),
            file,
        })
    }

    fn add(&mut self, line: &[u8]) -> Result<(), OpsError> {
        self.lines.add(line);
        let written = self
            .file
            .write_all(line)
            .and_then(|()| self.file.write_all(b"\n"));
        written.map_err(OpsError::file(&self.path))
    }

    fn finish(self) -> Result<Written, OpsError> {
        let Self { path, lines, file } = self;
        let mut hashed = file.finish().map_err(OpsError::file(&path))?;
        hashed
            .flush()
            .and_then(|()| hashed.inner.get_ref().sync_all())
            .map_err(OpsError::file(&path))?;
        Ok(Written {
            lines,
            file_bytes: hashed.bytes,
            file_sha256: hashed.sha256(),
        })
    }
}

fn write_manifest(manifest: &Manifest, path: &Path, partial: &Path) -> Result<(), OpsError> {
    let text = serde_json::to_string_pretty(manifest)
        .map_err(|error| OpsError::archive(path, ArchiveProblem::Manifest(error)))?;
    let write = || {
        let mut file = open_private(partial)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(partial, path)
    };
    write().map_err(OpsError::file(path))
}

/// Creates or truncates a file that only this user may read.
fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
