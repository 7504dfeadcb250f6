//! The manifest beside an exported file.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use audit_ops::hashing::{HashingStream, hex};
use audit_ops::unfinished::Existing;
use db_services::audit::feed::Position;
use serde::{Deserialize, Serialize};

use super::file;
use crate::error::{CliError, Context};

/// The only format of manifests.
const FORMAT: &str = "auditlog-export-1";

/// How the name of a manifest ends.
const SUFFIX: &str = ".manifest.json";

/// The most bytes of a manifest that are read. A position may have a megabyte.
const MAX_BYTES: u64 = 16 << 20;

/// What an exported file holds, and where the next one goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: String,
    pub(crate) file: String,
    /// As the file lies on the disk.
    pub(crate) file_bytes: u64,
    pub(crate) file_sha256: String,
    /// None if the file is not compressed.
    pub(crate) compression: Option<String>,
    /// The format of its lines.
    pub(crate) lines: String,
    pub(crate) rows: u64,
    /// Of the lines, before they were compressed.
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) query: String,
    /// The identity of the database, as the feed knows it.
    pub(crate) database: Option<String>,
    pub(crate) first_position: String,
    pub(crate) last_position: String,
    /// Under which name the last position is saved in the database, after the file has its name.
    pub(crate) position_name: Option<String>,
    /// Whether `--limit` ended the export before the last entry.
    pub(crate) has_more: bool,
    pub(crate) began_at: String,
    pub(crate) ended_at: String,
    pub(crate) made_by: String,
}

impl Manifest {
    pub(crate) fn format() -> String {
        FORMAT.to_owned()
    }

    /// The path of the manifest of a file.
    pub(crate) fn path(file: &Path) -> PathBuf {
        let mut path = file.as_os_str().to_owned();
        path.push(SUFFIX);
        path.into()
    }

    pub(crate) fn text(&self) -> Result<Vec<u8>, CliError> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// An error unless an export may write its manifest to this path: nothing is there, or the manifest of an export
    /// that has not ended.
    ///
    /// # Errors
    /// When something else is there.
    pub(crate) fn ensure_free(path: &Path, existing: Existing) -> Result<(), CliError> {
        file::ensure_free(path, Existing::Replaced)?;
        let is_replaced = existing == Existing::Replaced;
        match path.exists() && !is_replaced && Self::read(path).is_err() {
            true => Err(CliError::new(format!(
                "{} exists and is no manifest of an export: name another file, or replace it with --force",
                path.display()
            ))),
            false => Ok(()),
        }
    }

    fn read(path: &Path) -> Result<Self, CliError> {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
        read.context(|| path.display().to_string())?;
        let manifest: Self = serde_json::from_slice(&text).context(|| not_one(path))?;
        match manifest.format == FORMAT {
            true => Ok(manifest),
            false => Err(CliError::new(format!(
                "{}: its format is not {FORMAT}",
                not_one(path)
            ))),
        }
    }

    /// Reads where the export of this manifest ended. Its file has to lie beside it: an export that is killed may leave a
    /// manifest whose file never got its name, and to go on behind that would lose the entries.
    ///
    /// # Errors
    /// When the file cannot be read or is no manifest, or when the exported file is not there or is another one.
    pub(crate) fn last_position(path: &Path) -> Result<Position, CliError> {
        let manifest = Self::read(path)?;
        let position = manifest.last_position.parse().context(|| not_one(path))?;
        let exported = manifest.exported(path);
        let shown = exported.display();
        match manifest.is_of(&exported) {
            Ok(true) => Ok(position),
            Ok(false) => Err(CliError::new(format!(
                "{shown} is not the file of {}: its export was killed, or one of them was replaced since; go on behind \
                 another one, or from --position",
                path.display()
            ))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(CliError::new(format!(
                "{shown} does not exist: if its export was killed, its entries are in no file, so repeat it; if it was moved, \
                 put it beside its manifest, or go on from --position"
            ))),
            Err(error) => Err(error).context(|| shown.to_string()),
        }
    }

    /// The file beside its manifest. Both may have been renamed.
    fn exported(&self, path: &Path) -> PathBuf {
        // FILE.manifest.json, whatever characters FILE has.
        let renamed = path.with_extension("").with_extension("");
        match renamed.exists() {
            true => renamed,
            false => path.with_file_name(&self.file),
        }
    }

    fn is_of(&self, exported: &Path) -> io::Result<bool> {
        let file = File::open(exported)?;
        if file.metadata()?.len() != self.file_bytes {
            return Ok(false);
        }
        let mut hashed = HashingStream::new(file);
        io::copy(&mut hashed, &mut io::sink())?;
        Ok(hex(&hashed.sha256()) == self.file_sha256)
    }
}

fn not_one(path: &Path) -> String {
    format!("{} is no manifest of an export", path.display())
}
