//! A file under its name in the directory: whether others still find it there, and whether its bytes can be read.

use std::fs::File;
use std::io;
use std::path::Path;

use super::lock::{Identity, verify_regular};

/// Bytes that are read together.
const BLOCK: usize = 64 << 10;

/// An open file, as it is when it is opened and as long as it is to be.
pub(super) struct Place {
    file: File,
    identity: Identity,
    /// It is at least this long.
    length: u64,
    max_length: u64,
}

/// What a name in the directory means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    AsItWas,
    Removed,
    Replaced,
    CutOff,
}

impl Place {
    /// The file of this name. It is cut off when it is shorter than it was, or than this if it was longer.
    pub(super) fn of(path: &Path, max_length: u64) -> io::Result<Self> {
        verify_regular(path)?;
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            file,
            identity: Identity::of(&metadata),
            length: metadata.len().min(max_length),
            max_length,
        })
    }

    /// Looks whether the name still means this file.
    pub(super) fn look(&mut self, path: &Path) -> io::Result<Placed> {
        let found = match std::fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Placed::Removed),
            Err(error) => return Err(error),
        };
        if Identity::of(&found) != self.identity {
            return Ok(Placed::Replaced);
        }
        if found.len() < self.length {
            return Ok(Placed::CutOff);
        }
        self.length = found.len().min(self.max_length);
        Ok(Placed::AsItWas)
    }

    /// This process has made the file shorter.
    pub(super) fn accept_length(&mut self) {
        if let Ok(found) = self.file.metadata() {
            self.length = found.len().min(self.max_length);
        }
    }

    /// True if the file is shorter than it was.
    pub(super) fn is_cut_off(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.len() < self.length)
    }

    /// Reads every byte of the file. An error if a read fails.
    pub(super) fn read_through(&self) -> io::Result<()> {
        read_through(&self.file)
    }

    /// Reads every byte of the file of this name, if there is one.
    pub(super) fn read_through_any(path: &Path) -> io::Result<()> {
        verify_regular(path)?;
        match File::open(path) {
            Ok(file) => read_through(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

fn read_through(file: &File) -> io::Result<()> {
    #[cfg(test)]
    hook::run()?;
    let (mut buffer, mut at) = (vec![0; BLOCK], 0);
    loop {
        match read_at(file, &mut buffer, at) {
            Ok(0) => return Ok(()),
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Lets a test act in place of the disk when a file is read through.
#[cfg(test)]
pub(super) mod hook {
    use std::cell::RefCell;
    use std::io;

    type Hook = Box<dyn FnMut() -> io::Result<()>>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Runs this before each file that this thread reads through.
    pub(in super::super) fn set(hook: impl FnMut() -> io::Result<()> + 'static) {
        HOOK.set(Some(Box::new(hook)));
    }

    pub(in super::super) fn clear() {
        HOOK.set(None);
    }

    pub(super) fn run() -> io::Result<()> {
        HOOK.with_borrow_mut(|hook| hook.as_mut().map_or(Ok(()), |hook| hook()))
    }
}
