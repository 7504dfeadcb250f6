//! How this workspace creates files: new ones, for their owner alone, and never through a link. Not a public API.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// In a URI, everything but these characters is encoded.
const IN_URI: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// Returns the URI under which SQLite opens a file, with options such as `mode=ro`. diesel takes names in UTF-8 alone:
/// any other name, with the characters that UTF-8 does not have replaced, can be that of another file.
pub fn sqlite_uri(path: &Path, options: &str) -> String {
    format!("{}?{options}", uri(path))
}

/// The URI of a file.
pub(crate) fn uri(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // SQLite reads two slashes as the beginning of a host's name, which must be empty.
    let host = if path.is_absolute() { "//" } else { "" };
    let encoded = percent_encode(path.as_os_str().as_encoded_bytes(), IN_URI);
    format!("file:{host}{encoded}")
}

/// Opens files for reading and writing; those that are created may be read by their owner alone.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a file that only this user may read. Fails if anything has the name already, a link included.
pub fn create_private(path: &Path) -> io::Result<File> {
    private().create_new(true).open(path)
}

/// The same for the owner of its directory: the service must be able to open what root has created in its
/// directory. Only root may give files away, and nobody else has to. Root cannot in some containers, where no other
/// user does the writing.
pub(crate) fn create_for_owner(path: &Path) -> io::Result<File> {
    let file = create_private(path)?;
    #[cfg(unix)]
    if let Some(Ok(owner)) = path.parent().map(std::fs::metadata) {
        use std::os::unix::fs::{MetadataExt, fchown};
        let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
    }
    Ok(file)
}

/// Creates an empty file for the owner of its directory, unless something has its name. True if it was created.
///
/// The file gets its name after it was closed. To close a file ends all locks that the process holds on it
/// (fcntl(2)), also those of an SQLite connection that another thread has opened by that name meanwhile.
pub(crate) fn create_empty(path: &Path) -> io::Result<bool> {
    create_empty_by(path, |unnamed, path| std::fs::hard_link(unnamed, path))
}

fn create_empty_by(path: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<bool> {
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    // Not a longer form of the name: that may be as long as the file system allows.
    let unnamed = path.with_file_name(format!("{}.new", uuid::Uuid::new_v4().simple()));
    drop(create_for_owner(&unnamed)?);
    let linked = link(&unnamed, path);
    std::fs::remove_file(&unnamed)?;
    let is_created = match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => create_unclosed(path),
        linked => linked,
    };
    match is_created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        created => created.map(|()| true),
    }
}

/// For file systems without hard links. The file stays open as long as the process lives, so that no locks are lost.
fn create_unclosed(path: &Path) -> io::Result<()> {
    create_for_owner(path).map(std::mem::forget)
}

/// Creates a directory, with those above it, that only this user may read; one that exists is left as it is. The names
/// of new directories are synced.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    let is_absent = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let absent: Vec<_> = dir.ancestors().take_while(is_absent).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    absent
        .into_iter()
        .filter_map(Path::parent)
        .try_for_each(sync_names)
}

/// Syncs the names in a directory. One that this user may not read cannot be synced: it is left to the kernel.
pub fn sync_names(dir: &Path) -> io::Result<()> {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
}

/// True of an error that passes without a change to the file: a lack of memory or file descriptors, or of the device.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    /// EIO, ENOMEM, ENFILE and EMFILE, which have these numbers on Linux, the BSDs and macOS.
    const CODES: [i32; 4] = [5, 12, 23, 24];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// True if nobody but root and the owner of a file, which was created in or below a directory, can replace what is in the
/// directory: it belongs to one of them, and neither its group nor others may write to it, or it belongs to root and is
/// sticky, as /tmp is.
#[cfg(unix)]
pub fn is_protected(dir: &Metadata, created: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let user = created.uid();
    let is_sticky = dir.mode() & 0o1000 != 0 && dir.uid() == 0;
    (dir.uid() == user || dir.uid() == 0) && (dir.mode() & 0o022 == 0 || is_sticky)
}

/// True: there are no modes.
#[cfg(not(unix))]
pub fn is_protected(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_created_once_and_under_its_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.db");
        assert!(create_empty(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::write(&path, "content").unwrap();
        assert!(!create_empty(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        assert!(create_empty(&dir.path().join("absent").join("audit.db")).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn an_empty_file_is_created_on_file_systems_without_hard_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.db");
        let without_links = |_: &Path, _: &Path| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(create_empty_by(&path, without_links).unwrap());
        assert!(!create_empty_by(&path, without_links).unwrap());
        let meanwhile = |_: &Path, path: &Path| {
            std::fs::write(path, "content")?;
            Err(io::Error::from(io::ErrorKind::Unsupported))
        };
        let other = dir.path().join("other.db");
        assert!(!create_empty_by(&other, meanwhile).unwrap());
        assert_eq!(std::fs::read(&other).unwrap(), b"content");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
