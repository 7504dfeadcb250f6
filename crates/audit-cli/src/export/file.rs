//! Where an export may be written to.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use audit_ops::unfinished::{Existing, Unfinished};

use crate::error::{CliError, Context};

/// Creates the file that becomes the one of this path.
pub(crate) fn create(to: &Path) -> Result<(Unfinished, fs::File), CliError> {
    Unfinished::create_alone(directory(to), &name(to)).context(|| to.display().to_string())
}

/// Gives a file the name of this path.
pub(crate) fn rename(unfinished: Unfinished, to: &Path, existing: Existing) -> Result<(), CliError> {
    let name = to.file_name().unwrap_or_default();
    unfinished
        .rename(name, existing)
        .context(|| to.display().to_string())
}

/// Writes a text, and syncs it.
pub(crate) fn write(mut file: fs::File, text: &[u8], to: &Path) -> Result<(), CliError> {
    let written = file.write_all(text).and_then(|()| file.sync_all());
    written.context(|| to.display().to_string())
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The directory of a file.
pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// An error unless a file may be exported to this path.
pub(crate) fn ensure_free(path: &Path, existing: Existing) -> Result<(), CliError> {
    let shown = path.display();
    // Rust takes `dir/` and `dir/.` for `dir`.
    let is_name = path.file_name().is_some_and(|name| {
        path.as_os_str()
            .as_encoded_bytes()
            .ends_with(name.as_encoded_bytes())
    });
    if !is_name {
        return Err(CliError::usage(format!("{shown} is not the name of a file")));
    }
    match (fs::symlink_metadata(path), existing) {
        (Err(error), _) if error.kind() == ErrorKind::NotFound => Ok(()),
        (Err(error), _) => Err(error).context(|| shown.to_string()),
        (Ok(found), Existing::Replaced) if found.is_file() => Ok(()),
        (Ok(found), _) if !found.is_file() => Err(CliError::new(format!(
            "{shown} exists and is no regular file: name another, or export to standard output"
        ))),
        (Ok(_), _) => Err(CliError::new(format!(
            "{shown} exists: name another file, or replace it with --force"
        ))),
    }
}
