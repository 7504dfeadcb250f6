//! A private PgBouncer in front of a server.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use tempfile::TempDir;

use crate::{Server, SetupError, TIMEOUT};

/// Ends the pooler when its standard input is closed, which happens when the test ends, even if it is killed.
const SCRIPT: &str = r#""$1" "$2" >"$3" 2>&1 </dev/null & pid=$!; read -r _; kill -TERM $pid; wait $pid"#;

/// A private PgBouncer on a Unix socket, in front of one server. Ends with this value.
pub struct Bouncer {
    shell: Child,
    dir: TempDir,
    database: String,
}

impl Bouncer {
    /// Starts it in `session` or `transaction` mode in front of a database of a server, with a login for the
    /// superuser and one for `app`, whose password is `pw`. Returns when it accepts connections.
    ///
    /// # Errors
    /// When PgBouncer is not installed, or does not start.
    pub fn start(server: &Server, url: &str, mode: &str, sessions: u32) -> Result<Self, SetupError> {
        let dir = tempfile::Builder::new()
            .prefix("bouncer-")
            .tempdir_in("/tmp")
            .map_err(failed)?;
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        let behind = socket_directory(&server.url("postgres"));
        let at = dir.path().display();
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {at}\n\
             auth_type = trust\nauth_file = {at}/users\npool_mode = {mode}\ndefault_pool_size = {sessions}\n",
            behind.display(),
            server.port()
        );
        write(&dir, "ini", &settings)?;
        write(&dir, "users", "\"postgres\" \"\"\n\"app\" \"pw\"\n")?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "bouncer"]).arg(binary()?);
        shell.args(["ini", "log"].map(|name| dir.path().join(name)));
        // Only the server's user may use the server's socket.
        let owner = std::fs::metadata(&behind).map_err(failed)?;
        if std::fs::metadata(dir.path()).map_err(failed)?.uid() == 0 {
            chown(dir.path(), Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
            shell.uid(owner.uid()).gid(owner.gid());
        }
        let shell = shell.current_dir(dir.path()).stdin(Stdio::piped()).spawn();
        let bouncer = Self {
            shell: shell.map_err(failed)?,
            dir,
            database,
        };
        bouncer.wait_until_ready()?;
        Ok(bouncer)
    }

    /// The socket exists before PgBouncer listens on it.
    fn wait_until_ready(&self) -> Result<(), SetupError> {
        let begun = Instant::now();
        while UnixStream::connect(self.dir.path().join(".s.PGSQL.6432")).is_err() {
            if begun.elapsed() > TIMEOUT {
                let log = std::fs::read_to_string(self.dir.path().join("log"));
                return Err(SetupError::Bouncer(log.unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The URL of the database for `postgres` or `app`.
    pub fn url(&self, user: &str) -> String {
        let socket = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{socket}:6432/{}", self.database)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn write(dir: &TempDir, name: &str, content: &str) -> Result<(), SetupError> {
    let path = dir.path().join(name);
    std::fs::write(&path, content).map_err(failed)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).map_err(failed)
}

/// The socket directory in a URL whose host is that directory, percent-encoded.
fn socket_directory(url: &str) -> PathBuf {
    let host = url.rsplit('@').next().and_then(|place| place.split('/').next());
    let decoded = percent_decode_str(host.unwrap_or_default()).decode_utf8_lossy();
    PathBuf::from(decoded.into_owned())
}

fn binary() -> Result<PathBuf, SetupError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = dirs
        .map(|dir| dir.join("pgbouncer"))
        .find(|path| Path::is_file(path));
    found.ok_or_else(|| SetupError::Bouncer("it is not installed: run scripts/setup pgbouncer".to_owned()))
}

fn failed(error: std::io::Error) -> SetupError {
    SetupError::Bouncer(error.to_string())
}
