//! An archive's files are new, private, and never written through a link or where others could replace them.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use audit_ops::archive::{self, Trust, VerifiedArchive};
use audit_ops::{ArchiveProblem, OpsError};
use db_services::client::Database;
use tempfile::TempDir;

use crate::archive::{planned, write};
use crate::retention::aged;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn files(archived: &VerifiedArchive) -> [&PathBuf; 2] {
    [&archived.path, &archived.manifest_path]
}

/// The names are those of the archive and of its former temporary file.
#[tokio::test(flavor = "multi_thread")]
async fn neither_a_link_nor_a_prepared_file_receives_an_archive() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let first = write(&db, &parts[0], dir.path()).await.unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "evidence").unwrap();
    let before = files(&first).map(|path| fs::read(path).unwrap());
    let partial = dir
        .path()
        .join(format!("audit_logs_{}.partial", first.manifest.month));
    for path in [&partial, &first.path, &first.manifest_path] {
        let _ = fs::remove_file(path);
        symlink(&victim, path).unwrap();
        let again = write(&db, &parts[0], dir.path()).await.unwrap();
        assert_eq!(
            fs::read(&victim).unwrap(),
            b"evidence",
            "through {}",
            path.display()
        );
        assert_eq!(again.path, first.path);

        // A file that another process has open, and that everybody may read.
        let _ = fs::remove_file(path);
        fs::write(path, "prepared").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        let mut opened = fs::File::open(path).unwrap();
        write(&db, &parts[0], dir.path()).await.unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut opened, &mut text).unwrap();
        assert_eq!(text, "prepared", "{}", path.display());
        let _ = fs::remove_file(&partial);
    }
    for path in files(&first) {
        let found = fs::symlink_metadata(path).unwrap();
        assert!(found.is_file(), "{}", path.display());
        assert_eq!(found.mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read(&first.path).unwrap(), before[0], "the same rows");
    archive::check(&first.manifest_path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_which_others_could_replace_an_archive_is_refused() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let is_root = fs::metadata(dir.path()).unwrap().uid() == 0;
    let set = |mode| fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
    for (mode, accepted) in [
        (0o777, false),
        (0o770, false),
        (0o702, false),
        (0o2775, false),
        (0o1777, is_root),
        (0o755, true),
        (0o700, true),
    ] {
        set(mode);
        match write(&db, &parts[0], dir.path()).await {
            Ok(archived) => {
                assert!(accepted, "{mode:o}");
                for path in files(&archived) {
                    fs::remove_file(path).unwrap();
                }
            }
            Err(OpsError::Archive { path, source }) => {
                assert!(matches!(source, ArchiveProblem::Unprotected), "{source}");
                assert!(!accepted && path == dir.path(), "{mode:o}");
            }
            Err(error) => panic!("{mode:o}: {error}"),
        }
        assert_eq!(names(dir.path()), [""; 0], "{mode:o}");
    }
    // Its owner could read what root gives it, and replace the rest.
    if chown(dir.path(), Some(65_534), Some(65_534)).is_ok() && is_root {
        let error = write(&db, &parts[0], dir.path()).await.unwrap_err();
        assert!(
            matches!(
                &error,
                OpsError::Archive {
                    source: ArchiveProblem::Unprotected,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

/// A user who may rename a directory can put another one in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_below_one_that_others_may_write_to_is_refused() {
    let ((db, parts), root) = (aged(14).await, TempDir::new().unwrap());
    let root = root.path().canonicalize().unwrap();
    let dir = root.join("open").join("private").join("archives");
    let open = root.join("open");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    write(&db, &parts[0], &dir).await.unwrap();
    let before = names(&dir);
    symlink(&dir, root.join("link")).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o775)).unwrap();
    for dir in [&dir, &root.join("link")] {
        match write(&db, &parts[0], dir).await.unwrap_err() {
            OpsError::Archive {
                path,
                source: ArchiveProblem::Unprotected,
            } => assert_eq!(path, open),
            other => panic!("{other}"),
        }
    }
    assert_eq!(names(&dir), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_directory_is_private() {
    let ((db, parts), parent) = (aged(14).await, TempDir::new().unwrap());
    let dir = parent.path().join("backups").join("audit");
    write(&db, &parts[0], &dir).await.unwrap();
    for dir in [&dir, dir.parent().unwrap()] {
        assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_archive_is_removed() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let month = planned(&db, &parts[0]).await;
    let writer = Database::from_url(&format!("{}?options=-c%20role%3Daudit_writer", db.url)).unwrap();
    let failed = archive::write(
        &mut writer.connection().await.unwrap(),
        &month,
        dir.path(),
        &mut |_| {},
    )
    .await;
    assert!(matches!(failed, Err(OpsError::IncompleteView)));
    assert_eq!(names(dir.path()), [""; 0]);

    // What killed processes left, also those of older versions.
    let name = month.month.clone().unwrap();
    for left in [
        format!("audit_logs_{name}.partial"),
        format!("audit_logs_{name}.0f.partial"),
    ] {
        fs::write(dir.path().join(left), "killed").unwrap();
    }
    fs::write(dir.path().join("audit_logs_2001-01.partial"), "of another month").unwrap();
    let archived = write(&db, &parts[0], dir.path()).await.unwrap();
    let mut expected = vec!["audit_logs_2001-01.partial".to_owned()];
    expected.extend(files(&archived).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()));
    expected.sort();
    assert_eq!(names(dir.path()), expected);
}

/// A value of a row is in the server's message.
#[tokio::test(flavor = "multi_thread")]
async fn no_control_character_of_an_archive_is_in_an_error() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let mut archived = write(&db, &parts[0], dir.path()).await.unwrap();
    archived.manifest.from_time = "\u{1b}[2J".to_owned();
    let accepted = Trust::Operator("for the test".to_owned());
    let error = archive::restore(&mut db.connection().await, &archived, &accepted, &mut |_| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(r"\u{1b}[2J") && !error.contains('\u{1b}'),
        "{error:?}"
    );
}
