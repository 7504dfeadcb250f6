//! The operating system user of a private server, because PostgreSQL refuses to run as root.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::SetupError;

/// The user to run as: that of this process, or another one if this process runs as root.
#[derive(Clone, Copy)]
pub(crate) struct OsUser(Option<(u32, u32)>);

impl OsUser {
    /// Chooses the user. The owner of `created`, a new directory of this process, shows if it runs as root.
    pub(crate) fn choose(created: &Path) -> Result<Self, SetupError> {
        let step = SetupError::start("asking who owns its directory");
        if std::fs::metadata(created).map_err(step)?.uid() != 0 {
            return Ok(Self(None));
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let ids = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        ids("postgres")
            .or_else(|| ids("nobody"))
            .map(|ids| Self(Some(ids)))
            .ok_or(SetupError::NoUser)
    }

    /// Makes the user the owner of a directory, without access for others.
    pub(crate) fn own(self, dir: &Path) -> Result<(), SetupError> {
        self.change_owner(dir, 0o700)
    }

    /// Makes the user the owner of a file, without access for others.
    pub(crate) fn own_file(self, file: &Path) -> Result<(), SetupError> {
        self.change_owner(file, 0o600)
    }

    fn change_owner(self, path: &Path, mode: u32) -> Result<(), SetupError> {
        let step = SetupError::start("changing the owner of its directory or of a file in it");
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(&step)?;
        self.0.map_or(Ok(()), |(uid, gid)| {
            chown(path, Some(uid), Some(gid)).map_err(&step)
        })
    }

    /// Prepares a command that runs as the user in a directory, with the locale C.
    pub(crate) fn command(self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).env_remove("PGDATA").env("LC_ALL", "C");
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}
