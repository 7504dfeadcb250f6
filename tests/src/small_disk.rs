//! A small file system, which a test can fill or make read-only.
//!
//! It is a tmpfs of a few MiB, mounted by a shell that unmounts it when the test process ends, even if
//! that is killed. Root mounts it for all processes. Other users mount it in a user name space of the
//! shell (user_namespaces(7)), and reach it through `/proc/<shell>/root`. SQLite resolves that link to a
//! directory where nothing is mounted, so its tests run again in a process inside such a name space:
//! [`rerun_in_name_space`].

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// Mounts the file system, then executes commands and replies to each with a line. At the end of its input
/// it unmounts lazily, because a process may still have a file open.
const SCRIPT: &str = r#"
trap '' PIPE
mount -t tmpfs -o "size=$2m,mode=0777" small "$1" || exit 1
echo done
while read -r option; do
    mount -o "remount,bind,$option" "$1" && echo done
done
umount -l "$1"
rmdir "$1"
"#;

/// The command that makes a user the root of a name space.
const NAME_SPACE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// Set in a process inside such a name space.
const WITHIN: &str = "WITHIN_A_NAME_SPACE";

/// Runs a test of this program again inside a name space, if a file system can be mounted only there.
/// Returns true if the test ran there and passed.
pub fn rerun_in_name_space(test: &str) -> bool {
    if std::env::var_os(WITHIN).is_some() || SmallDisk::try_mount(&["sh"], 1).is_some() {
        return false;
    }
    let mut again = Command::new(NAME_SPACE[0]);
    again
        .args(&NAME_SPACE[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(WITHIN, "1");
    let output = again
        .output()
        .expect("cannot run unshare: run this test as root, or install util-linux");
    let printed = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{test}: {printed}{error}"
    );
    true
}

/// A file system of a few MiB.
pub struct SmallDisk {
    path: PathBuf,
    shell: Child,
    replies: BufReader<ChildStdout>,
    /// The directory on which it is mounted.
    _mount_point: TempDir,
}

impl SmallDisk {
    /// Mounts a file system. The test fails if the user may not, because it would show nothing.
    pub fn mount(mebibytes: u32) -> Self {
        let own_name_space = [&NAME_SPACE[..], &["sh"]].concat();
        Self::try_mount(&["sh"], mebibytes).or_else(|| Self::try_mount(&own_name_space, mebibytes)).expect(
            "cannot mount a small file system: run this test as root, or where user name spaces are allowed",
        )
    }

    fn try_mount(program: &[&str], mebibytes: u32) -> Option<Self> {
        let mount_point = tempfile::Builder::new()
            .prefix("small-disk-")
            .tempdir_in("/tmp")
            .unwrap();
        let mut shell = Command::new(program[0])
            .args(&program[1..])
            .args(["-c", SCRIPT, "small-disk"])
            .arg(mount_point.path())
            .arg(mebibytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut replies = BufReader::new(shell.stdout.take()?);
        let mut reply = String::new();
        if replies.read_line(&mut reply).ok()? == 0 {
            let _ = shell.wait();
            return None;
        }
        let root = if program.len() > 1 {
            format!("/proc/{}/root", shell.id())
        } else {
            String::new()
        };
        let path = PathBuf::from(format!("{root}{}", mount_point.path().display()));
        Some(Self {
            path,
            shell,
            replies,
            _mount_point: mount_point,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it except for about this number of bytes. A second call starts again.
    pub fn fill_but(&self, free: usize) {
        self.free();
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        while ballast.write_all(&[0; 4 << 10]).is_ok() {}
        let full = ballast.metadata().unwrap().len();
        ballast.set_len(full.saturating_sub(free as u64)).unwrap();
    }

    /// Frees the space that [`fill_but`](Self::fill_but) took.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Makes it read-only, for root as well.
    pub fn forbid_writing(&mut self) {
        self.remount("ro");
    }

    pub fn allow_writing(&mut self) {
        self.remount("rw");
    }

    fn remount(&mut self, option: &str) {
        writeln!(self.shell.stdin.as_mut().unwrap(), "{option}").unwrap();
        let mut reply = String::new();
        assert!(
            self.replies.read_line(&mut reply).unwrap() > 0,
            "remounting with {option} failed"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
