//! Finds archives, and checks that each matches its manifest.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::digest::{HashingStream, LineDigest, hex};
use super::{FORMAT, MANIFEST_SUFFIX, Manifest, VerifiedArchive};
use crate::{ArchiveProblem, OpsError};

/// Finds the manifests at a path: all manifests of a directory in the order of their names, the manifest that
/// belongs to a file with lines, or the path itself.
///
/// # Errors
/// When a directory cannot be read, or has no manifest.
pub fn manifests(path: &Path) -> Result<Vec<PathBuf>, OpsError> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let found: Vec<PathBuf> = if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let paths = entries
            .map_err(OpsError::file(path))?
            .into_iter()
            .map(|entry| entry.path());
        let mut paths: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(MANIFEST_SUFFIX))
            .collect();
        paths.sort();
        paths
    } else if let Some(stem) = name.strip_suffix(".ndjson.gz") {
        vec![path.with_file_name(format!("{stem}{MANIFEST_SUFFIX}"))]
    } else {
        vec![path.to_owned()]
    };
    if found.is_empty() {
        let suffix = MANIFEST_SUFFIX;
        return Err(OpsError::archive(path, ArchiveProblem::Missing { suffix }));
    }
    Ok(found)
}

/// Reads an archive to its end and compares it with its manifest.
///
/// # Errors
/// When a file cannot be read, or does not match the manifest.
pub fn check(manifest_path: &Path) -> Result<VerifiedArchive, OpsError> {
    let text = fs::read_to_string(manifest_path).map_err(OpsError::file(manifest_path))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| OpsError::archive(manifest_path, ArchiveProblem::Manifest(error)))?;
    if manifest.format != FORMAT {
        let problem = ArchiveProblem::Format {
            found: manifest.format,
            supported: FORMAT,
        };
        return Err(OpsError::archive(manifest_path, problem));
    }
    // Use only the file name: the archive may have been moved, and must not refer to another directory.
    let name = Path::new(&manifest.file).file_name().unwrap_or_default();
    let path = manifest_path.with_file_name(name);
    let mut lines = Lines::open(&path)?;
    while lines.next()?.is_some() {}
    let (digest, file_bytes, file_sha256) = lines.finish()?;
    for (figure, expected, found) in [
        ("file_sha256", manifest.file_sha256.clone(), hex(&file_sha256)),
        (
            "file_bytes",
            manifest.file_bytes.to_string(),
            file_bytes.to_string(),
        ),
        ("rows", manifest.rows.to_string(), digest.rows.to_string()),
        ("bytes", manifest.bytes.to_string(), digest.bytes.to_string()),
        ("sha256", manifest.sha256.clone(), hex(&digest.sha256())),
        ("digest", manifest.digest.clone(), hex(&digest.digest)),
    ] {
        if expected != found {
            let problem = ArchiveProblem::Mismatch {
                figure,
                found,
                expected,
            };
            return Err(OpsError::archive(&path, problem));
        }
    }
    Ok(VerifiedArchive {
        manifest,
        manifest_path: manifest_path.to_owned(),
        path,
        digest: digest.digest,
        file_sha256,
    })
}

/// The lines of an archive, read one by one.
pub(super) struct Lines {
    path: PathBuf,
    input: BufReader<MultiGzDecoder<BufReader<HashingStream<File>>>>,
    digest: LineDigest,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, OpsError> {
        let file = File::open(path).map_err(OpsError::file(path))?;
        let input = BufReader::new(MultiGzDecoder::new(BufReader::new(HashingStream::new(file))));
        Ok(Self {
            path: path.to_owned(),
            input,
            digest: LineDigest::new(),
            line: Vec::new(),
        })
    }

    /// The next line without its newline; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<&str>, OpsError> {
        self.line.clear();
        let damaged = |error| OpsError::archive(&self.path, ArchiveProblem::Damaged(error));
        let read = self.input.read_until(b'\n', &mut self.line);
        if read.map_err(damaged)? == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the last line is not terminated");
            return Err(damaged(error));
        }
        self.digest.add(&self.line);
        let line = std::str::from_utf8(&self.line);
        line.map(Some)
            .map_err(|error| damaged(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// The digest of the lines so far.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest.digest
    }

    /// The digest of the lines, and the size and SHA-256 of the file. Call it after the last line.
    fn finish(self) -> Result<(LineDigest, u64, [u8; 32]), OpsError> {
        let mut file = self.input.into_inner().into_inner();
        // Include bytes that follow the compressed data.
        io::copy(&mut file.by_ref(), &mut io::sink()).map_err(OpsError::file(&self.path))?;
        let hashed = file.into_inner();
        Ok((self.digest, hashed.bytes, hashed.sha256()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    /// Writes an archive of two lines and returns the path of its manifest.
    fn archive(dir: &TempDir, change: impl FnOnce(&mut Manifest)) -> PathBuf {
        let mut digest = LineDigest::new();
        let mut file = GzEncoder::new(HashingStream::new(Vec::new()), Compression::fast());
        for line in ["{\"n\":1}", "{\"n\":2}"] {
            digest.add(line.as_bytes());
            file.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let file = file.finish().unwrap();
        let name = "audit_logs_2024-01.0.ndjson.gz";
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            month: "2024-01".to_owned(),
            from_time: "2024-01-01T00:00:00Z".to_owned(),
            to_time: "2024-02-01T00:00:00Z".to_owned(),
            rows: digest.rows,
            digest: hex(&digest.digest),
            bytes: digest.bytes,
            sha256: hex(&digest.sha256()),
            file: name.to_owned(),
            file_bytes: file.bytes,
            file_sha256: hex(&file.sha256()),
            made_at: "2026-11-25T00:00:00Z".to_owned(),
        };
        change(&mut manifest);
        fs::write(dir.path().join(name), &file.inner).unwrap();
        let path = dir.path().join(format!("audit_logs_2024-01.0{MANIFEST_SUFFIX}"));
        fs::write(&path, serde_json::to_string(&manifest).unwrap()).unwrap();
        path
    }

    fn problem(path: &Path) -> String {
        match check(path).map(|_| ()).unwrap_err() {
            OpsError::Archive { source, .. } => source.to_string(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_archive_is_found_by_its_directory_and_by_either_file() {
        let dir = TempDir::new().unwrap();
        assert!(manifests(dir.path()).is_err());
        let manifest = archive(&dir, |_| {});
        for path in [
            dir.path(),
            &manifest,
            &dir.path().join("audit_logs_2024-01.0.ndjson.gz"),
        ] {
            assert_eq!(manifests(path).unwrap(), std::slice::from_ref(&manifest));
        }
        assert_eq!(check(&manifest).unwrap().manifest.rows, 2);
    }

    #[test]
    fn each_figure_of_the_manifest_is_compared() {
        let dir = TempDir::new().unwrap();
        let other = "0".repeat(64);
        type Change = fn(&mut Manifest, &str);
        let changes: [(&str, Change); 7] = [
            ("format", |m, _| m.format = "auditlog-archive/2".to_owned()),
            ("rows", |m, _| m.rows = 3),
            ("bytes", |m, _| m.bytes += 1),
            ("sha256", |m, other| m.sha256 = other.to_owned()),
            ("digest", |m, other| m.digest = other.to_owned()),
            ("file_bytes", |m, _| m.file_bytes += 1),
            ("file_sha256", |m, other| m.file_sha256 = other.to_owned()),
        ];
        for (figure, change) in changes {
            let problem = problem(&archive(&dir, |manifest| change(manifest, &other)));
            assert!(problem.contains(figure), "{figure}: {problem}");
        }
    }

    #[test]
    fn no_byte_of_the_file_may_change_and_none_may_follow() {
        let dir = TempDir::new().unwrap();
        let manifest = archive(&dir, |_| {});
        let path = check(&manifest).unwrap().path;
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(check(&manifest).is_err(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(check(&manifest).is_err(), "cut at {at}");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(check(&manifest).is_err());
        fs::write(&path, &whole).unwrap();
        assert!(check(&manifest).is_ok());
    }

    #[test]
    fn a_manifest_cannot_refer_to_another_directory() {
        let dir = TempDir::new().unwrap();
        let manifest = archive(&dir, |manifest| {
            manifest.file = "../../etc/audit_logs_2024-01.0.ndjson.gz".to_owned()
        });
        assert_eq!(
            check(&manifest).unwrap().path,
            dir.path().join("audit_logs_2024-01.0.ndjson.gz")
        );
    }
}
