//! A private PostgreSQL server: its data directory, its start and its stop.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;
use uuid::Uuid;

use crate::os_user::OsUser;
use crate::sql::execute;
use crate::supervisor::Supervisor;
use crate::{SetupError, binaries};

/// How long a server may take to accept connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The port in the name of the socket of a server without TCP.
const SOCKET_PORT: u16 = 5432;

/// The settings of every server. The caller's settings override them.
const DEFAULTS: [(&str, &str); 4] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "200"),
    ("timezone", "UTC"),
];

/// The superuser needs no password; every other role must give its password.
const PASSWORDS: &str = "local all postgres trust\nlocal all all scram-sha-256\n\
                         host all postgres samehost trust\nhost all all samehost scram-sha-256\n";

/// The configuration of a server.
#[derive(Default)]
pub(crate) struct ClusterConfig<'a> {
    /// The directory in which its data directory is created, instead of its own directory.
    pub(crate) data_in: Option<&'a Path>,
    /// Settings in addition to the defaults, or instead of them.
    pub(crate) settings: &'a [(&'a str, &'a str)],
    /// True if roles other than the superuser must give their password.
    pub(crate) passwords: bool,
    /// True if it also listens on a TCP port of 127.0.0.1.
    pub(crate) tcp: bool,
}

/// A private server. Ends with this value and with the process that holds it.
pub(crate) struct Cluster {
    /// Dropped before the directory is removed.
    supervisor: Mutex<Supervisor>,
    /// The directory of its socket and log, and by default of its data.
    home: TempDir,
    data: PathBuf,
    user: OsUser,
    port: u16,
}

impl Cluster {
    /// Creates and starts a server. Returns when it accepts connections.
    pub(crate) fn start(config: &ClusterConfig) -> Result<Self, SetupError> {
        let bin = binaries::find()?;
        // Not below TMPDIR: the path of a socket is limited to about a hundred bytes.
        let home = tempfile::Builder::new()
            .prefix("db-test-")
            .tempdir_in("/tmp")
            .map_err(SetupError::start("creating its directory"))?;
        let user = OsUser::choose(home.path())?;
        user.own(home.path())?;
        let data = create_data(&bin, user, home.path(), config)?;
        let port = if config.tcp { free_port()? } else { SOCKET_PORT };
        let listen = [
            ("port", &*port.to_string()),
            ("listen_addresses", if config.tcp { "127.0.0.1" } else { "" }),
        ];
        let settings = DEFAULTS.iter().chain(&listen).chain(config.settings);
        let settings = settings.map(|(name, value)| format!("{name}={value}"));
        let supervisor = Supervisor::start(user, &bin, home.path(), &data, settings)?;
        let cluster = Self {
            supervisor: Mutex::new(supervisor),
            home,
            data,
            user,
            port,
        };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The connection URL of one of its databases, for a user with or without a password.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        let socket = self.home.path().display().to_string();
        let port = if self.port == SOCKET_PORT {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        format!(
            "postgres://{user}@{}{port}/{database}",
            utf8_percent_encode(&socket, NON_ALPHANUMERIC)
        )
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Writes a file to the data directory, readable for the server's user only.
    pub(crate) fn put(&self, file: &str, content: &str) -> Result<(), SetupError> {
        let path = self.data.join(file);
        std::fs::write(&path, content).map_err(SetupError::start("writing a file to its data directory"))?;
        self.user.own_file(&path)
    }

    /// Stops the server with a signal, `QUIT` or `INT`. Returns when it has ended.
    pub(crate) fn stop(&self, signal: &str) -> Result<(), SetupError> {
        self.send(signal)
    }

    /// Starts the server unless it runs. Returns when it accepts connections.
    pub(crate) fn start_again(&self) -> Result<(), SetupError> {
        self.send("start")?;
        self.wait_until_ready()
    }

    fn send(&self, command: &str) -> Result<(), SetupError> {
        self.supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(command)
    }

    /// The socket exists shortly before the server listens on it. `postmaster.pid` says when the server is
    /// ready, but may be left over from an earlier server until the socket exists.
    fn wait_until_ready(&self) -> Result<(), SetupError> {
        let socket = self.home.path().join(format!(".s.PGSQL.{}", self.port));
        let is_ready = || {
            let state = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            socket.exists() && state.lines().any(|line| line.starts_with("ready"))
        };
        let begun = Instant::now();
        while !is_ready() {
            let log = std::fs::read(self.home.path().join("log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            // Read before checking for the socket: a refused client is logged as FATAL too.
            let failed = ["FATAL", "PANIC", "shut down"]
                .iter()
                .any(|word| log.contains(word));
            let failed = failed && !socket.exists();
            if failed || begun.elapsed() > START_TIMEOUT {
                return Err(SetupError::Ended(log.trim().to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        execute(&self.url("postgres", "postgres"), "SELECT 1".to_owned())
    }
}

/// Finds a free port of 127.0.0.1, below the range that the operating system assigns to connections, so
/// that it stays free while the server is stopped.
fn free_port() -> Result<u16, SetupError> {
    loop {
        let port = 10_000 + (Uuid::new_v4().as_u128() % 22_000) as u16;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(SetupError::start("finding a free port")(error)),
        }
    }
}

/// Creates the data directory. An error leaves nothing behind.
fn create_data(bin: &Path, user: OsUser, home: &Path, config: &ClusterConfig) -> Result<PathBuf, SetupError> {
    if let Some(dir) = config.data_in {
        user.own(dir)?;
    }
    let step = SetupError::start("creating its data directory");
    let data = std::path::absolute(config.data_in.unwrap_or(home).join("data")).map_err(&step)?;
    // It must be new, because it is removed at the end.
    std::fs::create_dir(&data).map_err(&step)?;
    let initialized = initialize(bin, user, home, &data, config.passwords);
    if initialized.is_err() {
        let _ = std::fs::remove_dir_all(&data);
    }
    initialized.map(|()| data)
}

fn initialize(bin: &Path, user: OsUser, home: &Path, data: &Path, passwords: bool) -> Result<(), SetupError> {
    user.own(data)?;
    let initdb = user
        .command(&bin.join("initdb"), home)
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .args(["--no-instructions", "-D"])
        .arg(data)
        .output()
        .map_err(SetupError::start("initdb"))?;
    if !initdb.status.success() {
        let detail = String::from_utf8_lossy(&initdb.stderr).trim().to_owned();
        return Err(SetupError::Start {
            step: "initdb",
            detail,
        });
    }
    if passwords {
        std::fs::write(data.join("pg_hba.conf"), PASSWORDS)
            .map_err(SetupError::start("writing pg_hba.conf"))?;
    }
    Ok(())
}
