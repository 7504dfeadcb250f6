//! The search for the PostgreSQL binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SetupError;

/// Finds the directory that holds `initdb` and `postgres`: the one that `PG_BIN_DIR` names, or else
/// one on PATH, one of Debian's or Homebrew's (newest version first), or that of `pg_config`.
pub(crate) fn find() -> Result<PathBuf, SetupError> {
    match std::env::var_os("PG_BIN_DIR") {
        Some(dir) if !dir.is_empty() => named(dir.into()),
        _ => installed(),
    }
}

/// Never falls back to another directory: the suite would silently run on another version.
fn named(dir: PathBuf) -> Result<PathBuf, SetupError> {
    if holds_server(&dir) {
        Ok(dir)
    } else {
        Err(SetupError::BinDir(dir))
    }
}

fn installed() -> Result<PathBuf, SetupError> {
    on_path()
        .into_iter()
        .chain(versions("/usr/lib/postgresql", "bin"))
        .chain(homebrew("/opt/homebrew/opt"))
        .chain(homebrew("/usr/local/opt"))
        .chain(pg_config())
        .find(|dir| holds_server(dir))
        .ok_or(SetupError::NoBinaries)
}

fn holds_server(dir: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| dir.join(name).is_file())
}

/// The directories of every `initdb` on PATH, links resolved: Debian links it away from `postgres`.
fn on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|dir| dir.join("initdb").canonicalize().ok())
        .filter_map(|initdb| initdb.parent().map(Path::to_path_buf))
        .collect()
}

fn versions(root: &str, below: &str) -> Vec<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut found: Vec<_> = entries(root)
        .into_iter()
        .filter(|path| version(path).is_some())
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(version(path)));
    found.into_iter().map(|path| path.join(below)).collect()
}

fn homebrew(root: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = entries(root)
        .into_iter()
        .filter(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with("postgresql"))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|path| path.join("bin")).collect()
}

fn entries(root: &str) -> Vec<PathBuf> {
    std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_directory_is_used_or_reported_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let of = || named(dir.path().to_owned());
        std::fs::write(dir.path().join("initdb"), "").unwrap();
        let refused = of().unwrap_err().to_string();
        assert!(
            refused.contains("PG_BIN_DIR") && refused.contains(&dir.path().display().to_string()),
            "{refused}"
        );
        std::fs::write(dir.path().join("postgres"), "").unwrap();
        assert_eq!(of().unwrap(), dir.path());
    }
}
