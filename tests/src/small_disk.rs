//! How does a test get a disk that is soon full, or that cannot be written to?
//!
//! A file system in memory (tmpfs) of a few MiB, held by a shell that takes it down when the test's
//! process ends in whatever way. Root mounts it where everybody sees it. Anybody else mounts it in a
//! name space of the shell's own (user_namespaces(7)), and reaches it through `/proc/<shell>/root`.
//! SQLite follows that link to where nothing is mounted: its tests run again in a process that is
//! within such a name space, [`ran_in_a_name_space`].

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// Mounts, then carries out orders until they end, each answered with a line. Unmounts lazily: who
/// still has a file open there must not keep it.
const SCRIPT: &str = r#"
trap '' PIPE
mount -t tmpfs -o "size=$2m,mode=0777" small "$1" || exit 1
echo done
while read -r order; do
    mount -o "remount,bind,$order" "$1" && echo done
done
umount -l "$1"
rmdir "$1"
"#;

/// What makes a user the root of a name space.
const NAME_SPACE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// Set for a test that runs in one.
const WITHIN: &str = "WITHIN_A_NAME_SPACE";

/// Runs a test of this program again, within a name space, if only there a file system may be mounted.
/// True if it did, and passed.
pub fn ran_in_a_name_space(test: &str) -> bool {
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
        .expect("unshare is there: run this test as root, or install util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test}: {said}{error}"
    );
    true
}

/// A file system of a few MiB.
pub struct SmallDisk {
    path: PathBuf,
    shell: Child,
    answers: BufReader<ChildStdout>,
    /// What it is mounted on.
    _place: TempDir,
}

impl SmallDisk {
    /// Mounts one; where neither way is open the test fails and says so, rather than show nothing.
    pub fn mount(mebibytes: u32) -> Self {
        let own_name_space = [&NAME_SPACE[..], &["sh"]].concat();
        Self::try_mount(&["sh"], mebibytes).or_else(|| Self::try_mount(&own_name_space, mebibytes)).expect(
            "a small file system must be mounted: run this test as root, or where user name spaces are allowed",
        )
    }

    fn try_mount(program: &[&str], mebibytes: u32) -> Option<Self> {
        let place = tempfile::Builder::new()
            .prefix("small-disk-")
            .tempdir_in("/tmp")
            .unwrap();
        let mut shell = Command::new(program[0])
            .args(&program[1..])
            .args(["-c", SCRIPT, "small-disk"])
            .arg(place.path())
            .arg(mebibytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut answers = BufReader::new(shell.stdout.take()?);
        let mut answer = String::new();
        if answers.read_line(&mut answer).ok()? == 0 {
            let _ = shell.wait();
            return None;
        }
        let root = if program.len() > 1 {
            format!("/proc/{}/root", shell.id())
        } else {
            String::new()
        };
        let path = PathBuf::from(format!("{root}{}", place.path().display()));
        Some(Self {
            path,
            shell,
            answers,
            _place: place,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it up, but for about this many bytes. A second call begins anew.
    pub fn fill_but(&self, free: usize) {
        self.free();
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        while ballast.write_all(&[0; 4 << 10]).is_ok() {}
        let full = ballast.metadata().unwrap().len();
        ballast.set_len(full.saturating_sub(free as u64)).unwrap();
    }

    /// Gives back the room that [`fill_but`](Self::fill_but) took.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Allows nothing but reading, also to root.
    pub fn forbid_writing(&mut self) {
        self.order("ro");
    }

    pub fn allow_writing(&mut self) {
        self.order("rw");
    }

    fn order(&mut self, order: &str) {
        writeln!(self.shell.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        assert!(
            self.answers.read_line(&mut answer).unwrap() > 0,
            "{order} was refused"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
