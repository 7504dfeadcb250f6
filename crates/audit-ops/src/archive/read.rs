//! Is an archive what its manifest says?

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::sums::{LineSums, Summed, hex};
use super::{Archived, FORMAT, MANIFEST, Manifest};
use crate::OpsError;

/// Finds the manifests at a path: all of a directory by name, the one of a file with lines, or the file
/// itself.
///
/// # Errors
/// When there is no such path, or no manifest there.
pub fn manifests(path: &Path) -> Result<Vec<PathBuf>, OpsError> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let found: Vec<PathBuf> = if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let paths = entries
            .map_err(OpsError::file(path))?
            .into_iter()
            .map(|entry| entry.path());
        let mut paths: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(MANIFEST))
            .collect();
        paths.sort();
        paths
    } else if let Some(stem) = name.strip_suffix(".ndjson.gz") {
        vec![path.with_file_name(format!("{stem}{MANIFEST}"))]
    } else {
        vec![path.to_owned()]
    };
    if found.is_empty() {
        return Err(OpsError::archive(
            path,
            format!("there is no archive here (a file that ends with {MANIFEST})"),
        ));
    }
    Ok(found)
}

/// Reads an archive to its end and compares it with its manifest.
///
/// # Errors
/// When a file cannot be read, or is not what the manifest says.
pub fn check(manifest_path: &Path) -> Result<Archived, OpsError> {
    let text = fs::read_to_string(manifest_path).map_err(OpsError::file(manifest_path))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| OpsError::archive(manifest_path, error.to_string()))?;
    if manifest.format != FORMAT {
        let reason = format!(
            "its format is {:?}, this version knows {FORMAT:?}",
            manifest.format
        );
        return Err(OpsError::archive(manifest_path, reason));
    }
    // A name alone: the archive may have been moved, and must not lead elsewhere.
    let name = Path::new(&manifest.file).file_name().unwrap_or_default();
    let path = manifest_path.with_file_name(name);
    let mut lines = Lines::open(&path)?;
    while lines.next()?.is_some() {}
    let (sums, file_bytes, file_sha256) = lines.finish()?;
    for (what, told, found) in [
        ("file_sha256", manifest.file_sha256.clone(), hex(&file_sha256)),
        (
            "file_bytes",
            manifest.file_bytes.to_string(),
            file_bytes.to_string(),
        ),
        ("rows", manifest.rows.to_string(), sums.rows.to_string()),
        ("bytes", manifest.bytes.to_string(), sums.bytes.to_string()),
        ("sha256", manifest.sha256.clone(), hex(&sums.sha256())),
        ("digest", manifest.digest.clone(), hex(&sums.digest)),
    ] {
        if told != found {
            let reason =
                format!("it was changed, or is damaged: {what} is {found}, its manifest says {told}");
            return Err(OpsError::archive(&path, reason));
        }
    }
    Ok(Archived {
        manifest,
        manifest_path: manifest_path.to_owned(),
        path,
        digest: sums.digest,
        file_sha256,
    })
}

/// The lines of an archive, as they are read.
pub(super) struct Lines {
    path: PathBuf,
    input: BufReader<MultiGzDecoder<BufReader<Summed<File>>>>,
    sums: LineSums,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, OpsError> {
        let file = File::open(path).map_err(OpsError::file(path))?;
        let input = BufReader::new(MultiGzDecoder::new(BufReader::new(Summed::new(file))));
        Ok(Self {
            path: path.to_owned(),
            input,
            sums: LineSums::new(),
            line: Vec::new(),
        })
    }

    /// The next line, without its end; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<&str>, OpsError> {
        self.line.clear();
        let read = self.input.read_until(b'\n', &mut self.line);
        if read.map_err(|error| OpsError::archive(&self.path, format!("it is damaged: {error}")))? == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            return Err(OpsError::archive(
                &self.path,
                "it is damaged: its last line has no end",
            ));
        }
        self.sums.add(&self.line);
        let line = std::str::from_utf8(&self.line);
        line.map(Some)
            .map_err(|error| OpsError::archive(&self.path, format!("it is damaged: {error}")))
    }

    /// The digest of the lines so far.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.sums.digest
    }

    /// The sums of the lines, and size and sum of the file, once all lines were read.
    fn finish(self) -> Result<(LineSums, u64, [u8; 32]), OpsError> {
        let mut file = self.input.into_inner().into_inner();
        // What might follow the compressed data belongs to the file's sum.
        std::io::copy(&mut file.by_ref(), &mut std::io::sink()).map_err(OpsError::file(&self.path))?;
        let summed = file.into_inner();
        Ok((self.sums, summed.bytes, summed.sha256()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    /// An archive of two lines, and its manifest's path.
    fn archive(dir: &TempDir, change: impl FnOnce(&mut Manifest)) -> PathBuf {
        let mut sums = LineSums::new();
        let mut file = GzEncoder::new(Summed::new(Vec::new()), Compression::fast());
        for line in ["{\"n\":1}", "{\"n\":2}"] {
            sums.add(line.as_bytes());
            file.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let file = file.finish().unwrap();
        let name = "audit_logs_2024-01.0.ndjson.gz";
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            month: "2024-01".to_owned(),
            from_time: "2024-01-01T00:00:00Z".to_owned(),
            to_time: "2024-02-01T00:00:00Z".to_owned(),
            rows: sums.rows,
            digest: hex(&sums.digest),
            bytes: sums.bytes,
            sha256: hex(&sums.sha256()),
            file: name.to_owned(),
            file_bytes: file.bytes,
            file_sha256: hex(&file.sha256()),
            made_at: "2026-11-25T00:00:00Z".to_owned(),
        };
        change(&mut manifest);
        fs::write(dir.path().join(name), &file.inner).unwrap();
        let path = dir.path().join(format!("audit_logs_2024-01.0{MANIFEST}"));
        fs::write(&path, serde_json::to_string(&manifest).unwrap()).unwrap();
        path
    }

    fn refusal(path: &Path) -> String {
        check(path).map(|_| ()).unwrap_err().to_string()
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
        for (what, change) in changes {
            let said = refusal(&archive(&dir, |manifest| change(manifest, &other)));
            assert!(said.contains(what), "{what}: {said}");
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
    fn a_manifest_leads_nowhere_else() {
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
