//! As which user does a private server run? PostgreSQL refuses to run as root.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::SetupError;

/// The user to run as: this process's own, or another when this is root.
#[derive(Clone, Copy)]
pub(crate) struct Account(Option<(u32, u32)>);

impl Account {
    /// Chooses the user by the owner of a directory that this process has just made.
    pub(crate) fn choose(made: &Path) -> Result<Self, SetupError> {
        let step = SetupError::start("asking who owns its directory");
        if std::fs::metadata(made).map_err(step)?.uid() != 0 {
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

    /// Gives a directory to the user, closed to all others.
    pub(crate) fn own(self, dir: &Path) -> Result<(), SetupError> {
        self.give(dir, 0o700)
    }

    /// Gives a file to the user, closed to all others.
    pub(crate) fn own_file(self, file: &Path) -> Result<(), SetupError> {
        self.give(file, 0o600)
    }

    fn give(self, path: &Path, mode: u32) -> Result<(), SetupError> {
        let step = SetupError::start("giving its directory or a file in it to another user");
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(&step)?;
        self.0.map_or(Ok(()), |(uid, gid)| {
            chown(path, Some(uid), Some(gid)).map_err(&step)
        })
    }

    /// Prepares a command that runs as the user in a directory, unmoved by the caller's settings.
    pub(crate) fn command(self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).env_remove("PGDATA").env("LC_ALL", "C");
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}
