//! A private PgBouncer in front of a server.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use db_services::client::Database;
use db_test::Server;
use tempfile::TempDir;

use crate::attacks::fixture::connect;
use crate::support::wait_for;

/// Ends the pooler when its standard input is closed, which happens when the test ends, even if it is killed.
const SCRIPT: &str = r#""$1" "$2" >"$3" 2>&1 </dev/null & pid=$!; read -r _; kill -TERM $pid; wait $pid"#;

/// A private PgBouncer on a Unix socket, in front of one server.
pub struct Bouncer {
    shell: Child,
    dir: TempDir,
    database: String,
}

impl Bouncer {
    /// Starts it in `session` or `transaction` mode in front of a database of a server, with a login for the
    /// superuser and one for `app`, whose password is `pw`.
    pub async fn start(server: &Server, url: &str, mode: &str, sessions: u32) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bouncer-")
            .tempdir_in("/tmp")
            .unwrap();
        let database = url.rsplit_once('/').unwrap().1.to_owned();
        let behind = socket_directory(&server.url("postgres"));
        let at = dir.path().display();
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {at}\n\
             auth_type = trust\nauth_file = {at}/users\npool_mode = {mode}\ndefault_pool_size = {sessions}\n",
            behind.display(),
            server.port()
        );
        write(&dir, "ini", settings.as_bytes());
        write(&dir, "users", b"\"postgres\" \"\"\n\"app\" \"pw\"\n");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "bouncer"]).arg(binary());
        shell.args(["ini", "log"].map(|name| dir.path().join(name)));
        // Only the server's user may use the server's socket.
        let owner = std::fs::metadata(&behind).unwrap();
        if std::fs::metadata(dir.path()).unwrap().uid() == 0 {
            chown(dir.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
            shell.uid(owner.uid()).gid(owner.gid());
        }
        let shell = shell
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let bouncer = Self { shell, dir, database };
        // The socket exists before PgBouncer listens on it.
        let socket = bouncer.dir.path().join(".s.PGSQL.6432");
        wait_for("PgBouncer", async || UnixStream::connect(&socket).is_ok()).await;
        bouncer
    }

    /// The URL of the database for `postgres` or `app`.
    pub fn url(&self, user: &str) -> String {
        let socket = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{socket}:6432/{}", self.database)
    }

    pub fn database(&self, user: &str) -> Database {
        Database::from_url(&self.url(user)).unwrap()
    }

    pub async fn client(&self, user: &str) -> tokio_postgres::Client {
        connect(&self.url(user)).await
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}

fn write(dir: &TempDir, name: &str, content: &[u8]) {
    let path = dir.path().join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(content).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
}

/// The socket directory in a URL whose host is that directory, percent-encoded.
fn socket_directory(url: &str) -> PathBuf {
    let host = url.rsplit_once('@').unwrap().1.split('/').next().unwrap();
    let mut bytes = Vec::new();
    let mut rest = host.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [a, b, tail @ ..]) => {
                let hex = [*a, *b];
                (
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap(),
                    tail,
                )
            }
            (byte, tail) => (*byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    PathBuf::from(String::from_utf8(bytes).unwrap())
}

fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = dirs
        .map(|dir| dir.join("pgbouncer"))
        .find(|path| Path::is_file(path));
    found.expect("pgbouncer is not installed: run scripts/setup pgbouncer")
}
