//! A file that the command reads, or standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{CliError, Context};

/// A file of lines, or standard input.
pub(crate) struct Input {
    pub(crate) reader: Box<dyn Read + Send>,
    /// Its name in messages, before a line's number.
    pub(crate) name: String,
    /// Its size, if it is a file.
    pub(crate) bytes: Option<u64>,
}

impl Input {
    /// Opens a file, or standard input if the path is `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            if stdin_is_closed() {
                return Err(CliError::new(
                    "standard input is closed: redirect it from a file or a pipe",
                ));
            }
            return Ok(Self {
                reader: Box::new(std::io::stdin()),
                name: "line".to_owned(),
                bytes: None,
            });
        }
        let name = path.display().to_string();
        let open = || -> std::io::Result<_> {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            match metadata.is_dir() {
                true => Err(std::io::ErrorKind::IsADirectory.into()),
                false => Ok((file, metadata)),
            }
        };
        let (file, metadata) = open().context(|| name.clone())?;
        Ok(Self {
            reader: Box::new(file),
            name,
            bytes: Some(metadata.len()).filter(|_| metadata.is_file()),
        })
    }
}

/// Whether the command was started without a standard input (`<&-`). Rust then opens the null device, for reading and
/// writing, and an empty input would look like a file that was written in full. A null device that the caller has opened
/// in this way is refused too.
fn stdin_is_closed() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::MetadataExt;
        let device = |file: std::io::Result<File>| Some(file.ok()?.metadata().ok()?.rdev());
        let stdin = std::io::stdin();
        let opened = stdin.as_fd().try_clone_to_owned().map(File::from);
        let is_null = device(opened).is_some_and(|it| device(File::open("/dev/null")) == Some(it));
        let flags = rustix::fs::fcntl_getfl(&stdin);
        is_null && flags.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::RDWR))
    }
    #[cfg(not(unix))]
    false
}
