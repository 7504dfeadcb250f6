//! How does a private PostgreSQL start, and how does it surely end?

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{SetupError, binaries};

/// How long a server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs the server and waits for the end of standard input, which comes when the test process ends
/// in whatever way. In a process group of its own, so that Ctrl-C does not end it first.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c full_page_writes=off \
    -c max_connections=200 -c timezone=UTC >"$2/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -QUIT "$server"
wait "$server"
rm -rf "$2"
"#;

/// A running private server. Lives as long as the process that holds it.
pub(crate) struct Cluster {
    dir: PathBuf,
    keeper: Child,
}

impl Cluster {
    /// Makes and starts a server; returns when it accepts connections.
    pub(crate) fn start() -> Result<Self, SetupError> {
        let bin = binaries::find()?;
        // Not below TMPDIR: a socket's path may have about a hundred bytes.
        let dir = tempfile::Builder::new()
            .prefix("db-test-")
            .tempdir_in("/tmp")
            .map_err(SetupError::start("making its directory"))?
            .keep();
        let user = unprivileged_user(&dir)?;
        let run = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&dir).env_remove("PGDATA").env("LC_ALL", "C");
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };

        let made = run(&bin.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .args(["--no-instructions", "-D"])
            .arg(dir.join("data"))
            .output()
            .map_err(SetupError::start("initdb"))?;
        if !made.status.success() {
            let detail = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(SetupError::Start { step: "initdb", detail });
        }

        let keeper = run(Path::new("/bin/sh"))
            .args(["-c", KEEPER, "keeper"])
            .args([&bin, &dir])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(SetupError::start("its keeper"))?;
        let mut cluster = Self { dir, keeper };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The connection URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        let socket = self.dir.display().to_string();
        format!("postgres://postgres@{}/{database}", utf8_percent_encode(&socket, NON_ALPHANUMERIC))
    }

    /// The socket appears when the server listens; it may still answer "starting up" for a moment,
    /// which the first connection repeats over.
    fn wait_until_ready(&mut self) -> Result<(), SetupError> {
        let begun = Instant::now();
        while !self.dir.join(".s.PGSQL.5432").exists() {
            let log = || {
                let mut text = String::new();
                let _ = std::fs::File::open(self.dir.join("log")).map(|mut f| f.read_to_string(&mut text));
                text.trim().to_owned()
            };
            let ended = matches!(self.keeper.try_wait(), Ok(Some(_))) || log().contains("shut down");
            if ended || begun.elapsed() > START_LIMIT {
                return Err(SetupError::Ended(log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The user to run as, when this is root; the directory is given to it.
fn unprivileged_user(dir: &Path) -> Result<Option<(u32, u32)>, SetupError> {
    let step = SetupError::start("giving its directory to another user");
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(&step)?;
    if std::fs::metadata(dir).map_err(&step)?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let (uid, gid) = ids("postgres").or_else(|| ids("nobody")).ok_or(SetupError::NoUser)?;
    chown(dir, Some(uid), Some(gid)).map_err(&step)?;
    Ok(Some((uid, gid)))
}
