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
        digest.add_row(line.as_bytes());
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
        ("format", |m, _| m.format = "auditlog-archive/1".to_owned()),
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
fn a_line_of_any_length_takes_bounded_memory() {
    let dir = TempDir::new().unwrap();
    let manifest = archive(&dir, |_| {});
    let path = check(&manifest).unwrap().path;
    let mut file = GzEncoder::new(Vec::new(), Compression::fast());
    let (piece, beyond) = ([b'x'; 1 << 16], MAX_LINE_BYTES / (1 << 16) + 1);
    (0..beyond).for_each(|_| file.write_all(&piece).unwrap());
    file.write_all(b"\n").unwrap();
    fs::write(&path, file.finish().unwrap()).unwrap();
    match check(&manifest).map(|_| ()).unwrap_err() {
        OpsError::Archive {
            source: ArchiveProblem::Damaged(error),
            ..
        } => assert_eq!(error.to_string(), "a line is too long"),
        other => panic!("{other}"),
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

/// To open a pipe waits for its other end. A device may never end.
#[cfg(unix)]
#[test]
fn a_pipe_or_device_under_the_name_of_an_archive_is_refused() {
    let dir = TempDir::new().unwrap();
    let manifest = archive(&dir, |_| {});
    let lines = check(&manifest).unwrap().path;
    for path in [&lines, &manifest] {
        for make in [["mkfifo", ""], ["ln", "-s"]] {
            let whole = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            let mut command = std::process::Command::new(make[0]);
            if make[1] == "-s" {
                command.args(["-s", "/dev/zero"]);
            }
            assert!(command.arg(path).status().unwrap().success());
            match check(&manifest).map(|_| ()) {
                Err(OpsError::File { path: found, source }) => {
                    assert_eq!(&found, path);
                    assert!(source.to_string().contains("not a regular file"), "{source}");
                }
                other => panic!("{other:?}"),
            }
            fs::remove_file(path).unwrap();
            fs::write(path, whole).unwrap();
        }
    }
    check(&manifest).unwrap();
}

#[test]
fn a_manifest_with_control_characters_is_refused_and_not_shown() {
    let dir = TempDir::new().unwrap();
    type Field = fn(&mut Manifest) -> &mut String;
    let fields: [(&str, Field); 9] = [
        ("format", |m| &mut m.format),
        ("month", |m| &mut m.month),
        ("from_time", |m| &mut m.from_time),
        ("to_time", |m| &mut m.to_time),
        ("digest", |m| &mut m.digest),
        ("sha256", |m| &mut m.sha256),
        ("file", |m| &mut m.file),
        ("file_sha256", |m| &mut m.file_sha256),
        ("made_at", |m| &mut m.made_at),
    ];
    for (name, field) in fields {
        for hostile in [
            "\u{1b}[2J",
            "\r",
            "\n",
            "\u{9b}m",
            "\u{202e}",
            "\0",
            &"x".repeat(256),
        ] {
            let problem = problem(&archive(&dir, |manifest| field(manifest).push_str(hostile)));
            assert!(
                problem.contains(name) && !problem.contains(hostile),
                "{problem:?}"
            );
        }
    }
    let long = archive(&dir, |_| {});
    fs::write(&long, " ".repeat(1 << 20)).unwrap();
    assert!(matches!(check(&long), Err(OpsError::File { .. })));
}

#[test]
fn every_archive_of_a_directory_is_checked_although_the_first_is_bad() {
    let dir = TempDir::new().unwrap();
    let good = archive(&dir, |_| {});
    for name in ["audit_logs_2023-01.0", "audit_logs_2023-02.\u{1b}[2J"] {
        fs::write(dir.path().join(format!("{name}{MANIFEST_SUFFIX}")), "{}").unwrap();
    }
    let found: Vec<_> = manifests(dir.path())
        .unwrap()
        .iter()
        .map(|path| check(path))
        .collect();
    let messages: Vec<_> = found
        .iter()
        .filter_map(|found| found.as_ref().err())
        .map(ToString::to_string)
        .collect();
    assert_eq!((found.len(), messages.len()), (3, 2));
    assert!(
        messages[1].contains("2023-02.\\u{1b}[2J.manifest"),
        "{messages:?}"
    );
    assert_eq!(found[2].as_ref().unwrap().manifest_path, good);
}

#[test]
fn either_file_of_an_archive_is_reported_if_the_other_is_missing() {
    let dir = TempDir::new().unwrap();
    let manifest = archive(&dir, |_| {});
    let lines = check(&manifest).unwrap().path;
    for (removed, kept) in [(&manifest, &lines), (&lines, &manifest)] {
        let whole = fs::read(removed).unwrap();
        fs::remove_file(removed).unwrap();
        for path in [dir.path(), kept] {
            let found = manifests(path).unwrap();
            assert_eq!(found, std::slice::from_ref(&manifest));
            match check(&manifest).map(|_| ()).unwrap_err() {
                OpsError::Archive {
                    path,
                    source: ArchiveProblem::Absent,
                } => assert_eq!(&path, removed),
                other => panic!("{other}"),
            }
        }
        assert!(matches!(manifests(removed), Err(OpsError::File { .. })));
        fs::write(removed, whole).unwrap();
    }
    check(&manifest).unwrap();
}
