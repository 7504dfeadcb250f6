//! How does a month get into an archive?

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

use super::sums::{LineSums, Summed, hex};
use super::{Archived, FORMAT, MANIFEST, Manifest};
use crate::OpsError;
use crate::pg::{Number, postgres};
use crate::retention::PlannedMonth;

/// Rows are read in slices of this length, in seconds: the server then sorts a day's rows at a time, not
/// a month's.
const SLICE: i64 = 86_400;

/// Writes a month to an archive in a directory, which is made if it is not there, and tells how many
/// rows were written so far. An archive of the same rows that is there already is replaced by its equal.
///
/// The connection's user must be the table's owner or an auditor: who is shown some rows only is refused.
/// Files are written and compressed on the calling thread.
///
/// # Errors
/// When the database refuses, a file cannot be written, or another process writes into the directory.
/// What was begun stays, under a name that ends with `.partial`.
///
/// # Cancel safety
/// As with an error.
pub async fn write(
    conn: &mut Connection,
    month: &PlannedMonth,
    dir: &Path,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<Archived, OpsError> {
    let conn = postgres(conn)?;
    let (Some(name), Some(from), Some(to)) = (&month.month, month.from_epoch, month.to_epoch) else {
        return Err(OpsError::archive(
            dir,
            format!("{} is not a whole month", month.partition),
        ));
    };
    fs::create_dir_all(dir).map_err(OpsError::file(dir))?;
    let stem = format!("audit_logs_{}", name.replace(' ', "_"));
    // One process at a time: two would write into one file.
    let held = File::open(dir).map_err(OpsError::file(dir))?;
    held.try_lock()
        .map_err(|_| OpsError::archive(dir, "another process writes an archive into it"))?;
    let partial = dir.join(format!("{stem}.partial"));
    let mut output = Output::create(&partial)?;
    let mut transaction = conn.build_transaction().repeatable_read().read_only();
    transaction
        .run(async |conn: &mut AsyncPgConnection| read(conn, from, to, &mut output, told).await)
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
    let manifest_path = dir.join(format!("{stem}{MANIFEST}"));
    write_manifest(&manifest, &manifest_path, &partial)?;
    // A rename is safe once its directory is.
    held.sync_all().map_err(OpsError::file(dir))?;
    Ok(Archived {
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
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<(), OpsError> {
    conn.batch_execute("SET LOCAL timezone = 'UTC'").await?;
    let sees_all = diesel::sql_query(
        "SELECT (NOT row_security_active('audit_logs') OR pg_has_role(audit_role('auditor'), 'USAGE'))::int::bigint AS value",
    );
    if sees_all.get_result::<Number>(conn).await?.value == 0 {
        return Err(OpsError::PartlySeen);
    }
    let mut begin = from;
    while begin < to {
        let end = to.min(begin + SLICE);
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
                told(output.lines.rows);
            }
        }
        begin = end;
    }
    told(output.lines.rows);
    Ok(())
}

/// A file of compressed lines that is being written.
struct Output {
    path: PathBuf,
    lines: LineSums,
    file: GzEncoder<Summed<BufWriter<File>>>,
}

/// What was written.
struct Written {
    lines: LineSums,
    file_bytes: u64,
    file_sha256: [u8; 32],
}

impl Output {
    fn create(path: &Path) -> Result<Self, OpsError> {
        let file = private(path).map_err(OpsError::file(path))?;
        let file = GzEncoder::new(Summed::new(BufWriter::new(file)), Compression::default());
        Ok(Self {
            path: path.to_owned(),
            lines: LineSums::new(),
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
        let mut summed = file.finish().map_err(OpsError::file(&path))?;
        summed
            .flush()
            .and_then(|()| summed.inner.get_ref().sync_all())
            .map_err(OpsError::file(&path))?;
        Ok(Written {
            lines,
            file_bytes: summed.bytes,
            file_sha256: summed.sha256(),
        })
    }
}

fn write_manifest(manifest: &Manifest, path: &Path, partial: &Path) -> Result<(), OpsError> {
    let text =
        serde_json::to_string_pretty(manifest).map_err(|error| OpsError::archive(path, error.to_string()))?;
    let write = || {
        let mut file = private(partial)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(partial, path)
    };
    write().map_err(OpsError::file(path))
}

/// Opens an empty file to write, for this user alone.
fn private(path: &Path) -> std::io::Result<File> {
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
