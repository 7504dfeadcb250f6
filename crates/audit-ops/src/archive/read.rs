//! Finds archives, and checks that each matches its manifest.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::digest::LineDigest;
use super::rows::Row;
use super::{FORMAT, LINES_SUFFIX, MANIFEST_SUFFIX, Manifest, VerifiedArchive};
use crate::error::{MAX_TEXT, is_harmful};
use crate::hashing::{HashingStream, hex};
use crate::{ArchiveProblem, OpsError};

/// The longest line: far longer than any row, and far smaller than the memory.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// Finds the manifests at a path: those of all archives of a directory in the order of their names, the manifest that
/// belongs to a file with lines, or the path itself. A manifest that belongs to a file with lines may be missing:
/// [`check`] reports it.
///
/// # Errors
/// When the path cannot be read, or is a directory without archives.
pub fn manifests(path: &Path) -> Result<Vec<PathBuf>, OpsError> {
    let is_dir = fs::metadata(path).map_err(OpsError::file(path))?.is_dir();
    let found: BTreeSet<PathBuf> = if is_dir {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(OpsError::file(path))?;
        entries
            .into_iter()
            .filter_map(|entry| manifest_of(&entry.path()))
            .collect()
    } else {
        let manifest = manifest_of(path).unwrap_or_else(|| path.to_owned());
        BTreeSet::from([manifest])
    };
    if found.is_empty() {
        let suffix = MANIFEST_SUFFIX;
        return Err(OpsError::archive(path, ArchiveProblem::Missing { suffix }));
    }
    Ok(found.into_iter().collect())
}

/// The manifest of the archive that a file is part of.
fn manifest_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy();
    if name.ends_with(MANIFEST_SUFFIX) {
        return Some(path.to_owned());
    }
    let stem = name.strip_suffix(LINES_SUFFIX)?;
    Some(path.with_file_name(format!("{stem}{MANIFEST_SUFFIX}")))
}

/// Reads an archive to its end and compares it with its manifest. Pipes and devices are refused, not waited for.
///
/// Check each of the [`manifests`] of a directory: an error says nothing about the next one.
///
/// # Errors
/// When a file cannot be read, or does not match the manifest.
pub fn check(manifest_path: &Path) -> Result<VerifiedArchive, OpsError> {
    let manifest = read_manifest(manifest_path)?;
    // Use only the file name: the archive may have been moved, and must not refer to another directory.
    let name = Path::new(&manifest.file).file_name().unwrap_or_default();
    check_lines(manifest_path, &manifest_path.with_file_name(name))
}

/// The same for a file with lines under any name.
pub(super) fn check_lines(manifest_path: &Path, path: &Path) -> Result<VerifiedArchive, OpsError> {
    let (manifest, path) = (read_manifest(manifest_path)?, path.to_owned());
    let mut lines = Lines::open(&path)?;
    while let Some(row) = lines.next_row(true)? {
        if let Row::Single(row) = row {
            for value in row.long {
                value.verify(&mut lines)?;
            }
        }
    }
    let read = lines.finish()?;
    if let Some((figure, found, expected)) = read.difference(&manifest) {
        let problem = ArchiveProblem::Mismatch {
            figure,
            found,
            expected,
        };
        return Err(OpsError::archive(&path, problem));
    }
    Ok(VerifiedArchive {
        manifest,
        manifest_path: manifest_path.to_owned(),
        path,
        digest: read.lines.digest,
        file_sha256: read.file_sha256,
        columns: read.columns,
    })
}

fn read_manifest(path: &Path) -> Result<Manifest, OpsError> {
    let mut text = String::new();
    let file = open(path)?.take(MAX_MANIFEST + 1);
    BufReader::new(file)
        .read_to_string(&mut text)
        .map_err(OpsError::file(path))?;
    if text.len() as u64 > MAX_MANIFEST {
        let error = io::Error::new(io::ErrorKind::InvalidData, "it is too large for a manifest");
        return Err(OpsError::file(path)(error));
    }
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| OpsError::archive(path, ArchiveProblem::Manifest(error)))?;
    verify_texts(&manifest).map_err(|problem| OpsError::archive(path, problem))?;
    if manifest.format != FORMAT {
        let problem = ArchiveProblem::Format {
            found: manifest.format,
            supported: FORMAT,
        };
        return Err(OpsError::archive(path, problem));
    }
    Ok(manifest)
}

/// The largest manifest that is read, in bytes. This version writes less than 1 KiB.
const MAX_MANIFEST: u64 = 64 << 10;

/// Refuses texts that would change a terminal which shows them, or the ledger.
fn verify_texts(manifest: &Manifest) -> Result<(), ArchiveProblem> {
    for (field, text) in [
        ("format", &manifest.format),
        ("month", &manifest.month),
        ("from_time", &manifest.from_time),
        ("to_time", &manifest.to_time),
        ("digest", &manifest.digest),
        ("sha256", &manifest.sha256),
        ("file", &manifest.file),
        ("file_sha256", &manifest.file_sha256),
        ("made_at", &manifest.made_at),
    ] {
        if text.len() > MAX_TEXT || text.chars().any(is_harmful) {
            return Err(ArchiveProblem::Text { field });
        }
    }
    Ok(())
}

/// Opens a regular file: to open a pipe waits for its other end, and a device may never end.
fn open(path: &Path) -> Result<File, OpsError> {
    let open = || {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        File::open(path)
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpsError::archive(path, ArchiveProblem::Absent),
        _ => OpsError::file(path)(error),
    })
}

/// The lines of an archive, read one by one.
pub(super) struct Lines {
    path: PathBuf,
    input: BufReader<MultiGzDecoder<BufReader<HashingStream<File>>>>,
    digest: LineDigest,
    line: Vec<u8>,
    /// A row that was read and not taken.
    pending: Option<Row>,
    /// The columns of the first row, which all rows have.
    columns: Option<Vec<String>>,
}

/// What a file had that was read to its end.
pub(super) struct Figures {
    lines: LineDigest,
    file_bytes: u64,
    file_sha256: [u8; 32],
    columns: Vec<String>,
}

impl Figures {
    /// The first figure that is not the manifest's: its name, what it is, and the manifest's.
    pub(super) fn difference(&self, manifest: &Manifest) -> Option<(&'static str, String, String)> {
        let figures = [
            ("file_sha256", hex(&self.file_sha256), &manifest.file_sha256),
            (
                "file_bytes",
                self.file_bytes.to_string(),
                &manifest.file_bytes.to_string(),
            ),
            ("rows", self.lines.rows.to_string(), &manifest.rows.to_string()),
            ("bytes", self.lines.bytes.to_string(), &manifest.bytes.to_string()),
            ("sha256", hex(&self.lines.sha256()), &manifest.sha256),
            ("digest", hex(&self.lines.digest), &manifest.digest),
        ];
        figures
            .into_iter()
            .find(|(_, found, expected)| found != *expected)
            .map(|(figure, found, expected)| (figure, found, expected.clone()))
    }
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, OpsError> {
        let file = open(path)?;
        let input = BufReader::new(MultiGzDecoder::new(BufReader::new(HashingStream::new(file))));
        Ok(Self {
            path: path.to_owned(),
            input,
            digest: LineDigest::new(),
            line: Vec::new(),
            pending: None,
            columns: None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next row; none after the last. One that is not a plain row stays for the next call, unless it may be
    /// returned.
    pub(super) fn next_row(&mut self, may_be_single: bool) -> Result<Option<Row>, OpsError> {
        let row = match self.pending.take() {
            Some(row) => Some(row),
            None => self.read_row()?,
        };
        match row {
            Some(single @ Row::Single(_)) if !may_be_single => {
                self.pending = Some(single);
                Ok(None)
            }
            row => Ok(row),
        }
    }

    /// Whether a row was read and not taken.
    pub(super) fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The next line, which must be a row.
    fn read_row(&mut self) -> Result<Option<Row>, OpsError> {
        let Some(line) = self.read_line()? else {
            return Ok(None);
        };
        let row = Row::of(line).map_err(ArchiveProblem::Line);
        let (row, columns) = row.map_err(|problem| OpsError::archive(&self.path, problem))?;
        if *self.columns.get_or_insert_with(|| columns.clone()) != columns {
            return Err(OpsError::archive(&self.path, ArchiveProblem::RowColumns));
        }
        self.digest.add_row(&self.line);
        Ok(Some(row))
    }

    /// The next line, where the piece of a long value is due; none after the last.
    pub(super) fn next_piece(&mut self) -> Result<Option<&str>, OpsError> {
        if self.read_line()?.is_none() {
            return Ok(None);
        }
        self.digest.add_piece(&self.line);
        Ok(std::str::from_utf8(&self.line).ok())
    }

    /// The next line without its newline; none after the last.
    fn read_line(&mut self) -> Result<Option<&str>, OpsError> {
        self.line.clear();
        let damaged = |error| OpsError::archive(&self.path, ArchiveProblem::Damaged(error));
        let read = (&mut self.input)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut self.line);
        if read.map_err(damaged)? == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            let problem = match self.line.len() as u64 + 1 == MAX_LINE_BYTES {
                true => "a line is too long",
                false => "the last line is not terminated",
            };
            return Err(damaged(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        let line = std::str::from_utf8(&self.line);
        line.map(Some)
            .map_err(|error| damaged(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// What was read. Call it after the last line.
    pub(super) fn finish(self) -> Result<Figures, OpsError> {
        let mut file = self.input.into_inner().into_inner();
        // Include bytes that follow the compressed data.
        io::copy(&mut file.by_ref(), &mut io::sink()).map_err(OpsError::file(&self.path))?;
        let hashed = file.into_inner();
        Ok(Figures {
            lines: self.digest,
            file_bytes: hashed.bytes,
            file_sha256: hashed.sha256(),
            columns: self.columns.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
