//! The manifest beside an exported file.

use std::path::{Path, PathBuf};

use db_services::audit::feed::Position;
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Context};

/// The only format of manifests.
const FORMAT: &str = "auditlog-export-1";

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
        path.push(".manifest.json");
        path.into()
    }

    pub(crate) fn text(&self) -> Result<Vec<u8>, CliError> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads where the export of this manifest ended.
    ///
    /// # Errors
    /// When the file cannot be read or is no manifest.
    pub(crate) fn last_position(path: &Path) -> Result<Position, CliError> {
        let name = || format!("{} is no manifest of an export", path.display());
        let text = std::fs::read(path).context(|| path.display().to_string())?;
        let manifest: Self = serde_json::from_slice(&text).context(name)?;
        if manifest.format != FORMAT {
            return Err(CliError::new(format!("{}: its format is not {FORMAT}", name())));
        }
        manifest.last_position.parse().context(name)
    }
}
