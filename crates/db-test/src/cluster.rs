//! How does a private PostgreSQL start, stop, and surely end?

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;
use uuid::Uuid;

use crate::account::Account;
use crate::keeper::Keeper;
use crate::sql::execute;
use crate::{SetupError, binaries};

/// How long a server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(60);

/// In the name of the socket of a server without TCP.
const SOCKET_PORT: u16 = 5432;

/// What every server is started with; of a setting given twice the later one counts.
const DEFAULTS: [(&str, &str); 4] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "200"),
    ("timezone", "UTC"),
];

/// The superuser enters as before; every other role must know its password.
const PASSWORDS: &str = "local all postgres trust\nlocal all all scram-sha-256\n\
                         host all postgres samehost trust\nhost all all samehost scram-sha-256\n";

/// What a server is to be like.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// The directory in which its data directory is made, instead of its own.
    pub(crate) data_in: Option<&'a Path>,
    /// Settings beyond the defaults, or against them.
    pub(crate) settings: &'a [(&'a str, &'a str)],
    /// Whether roles other than the superuser must give their password.
    pub(crate) passwords: bool,
    /// Whether it listens on a TCP port of 127.0.0.1, too.
    pub(crate) tcp: bool,
}

/// A private server. Ends with this value and with the process that holds it.
pub(crate) struct Cluster {
    /// Before the directory, so that it ends before the directory is removed.
    keeper: Mutex<Keeper>,
    /// Its socket and its log, and its data unless that lies elsewhere.
    home: TempDir,
    data: PathBuf,
    account: Account,
    port: u16,
}

impl Cluster {
    /// Makes and starts a server; returns when it accepts connections.
    pub(crate) fn start(plan: &Plan) -> Result<Self, SetupError> {
        let bin = binaries::find()?;
        // Not below TMPDIR: a socket's path may have about a hundred bytes.
        let home = tempfile::Builder::new()
            .prefix("db-test-")
            .tempdir_in("/tmp")
            .map_err(SetupError::start("making its directory"))?;
        let account = Account::choose(home.path())?;
        account.own(home.path())?;
        let data = make_data(&bin, account, home.path(), plan)?;
        let port = if plan.tcp { free_port()? } else { SOCKET_PORT };
        let listen = [
            ("port", &*port.to_string()),
            ("listen_addresses", if plan.tcp { "127.0.0.1" } else { "" }),
        ];
        let settings = DEFAULTS.iter().chain(&listen).chain(plan.settings);
        let settings = settings.map(|(name, value)| format!("{name}={value}"));
        let keeper = Keeper::start(account, &bin, home.path(), &data, settings)?;
        let cluster = Self {
            keeper: Mutex::new(keeper),
            home,
            data,
            account,
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

    /// Puts a file into the data directory, for the server's user only.
    pub(crate) fn put(&self, file: &str, content: &str) -> Result<(), SetupError> {
        let path = self.data.join(file);
        std::fs::write(&path, content)
            .map_err(SetupError::start("putting a file into its data directory"))?;
        self.account.own_file(&path)
    }

    /// Ends the server with a signal, `QUIT` or `INT`; returns when it has ended.
    pub(crate) fn stop(&self, signal: &str) -> Result<(), SetupError> {
        self.order(signal)
    }

    /// Starts the server unless it runs; returns when it accepts connections.
    pub(crate) fn start_again(&self) -> Result<(), SetupError> {
        self.order("start")?;
        self.wait_until_ready()
    }

    fn order(&self, order: &str) -> Result<(), SetupError> {
        self.keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .order(order)
    }

    /// The socket appears a moment before the server listens on it; the word in `postmaster.pid`, which
    /// may be that of an earlier server until then, when it accepts connections.
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
            // Read before the socket is looked for: what a client is refused is FATAL, too.
            let failed = ["FATAL", "PANIC", "shut down"]
                .iter()
                .any(|word| log.contains(word));
            let failed = failed && !socket.exists();
            if failed || begun.elapsed() > START_LIMIT {
                return Err(SetupError::Ended(log.trim().to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        execute(&self.url("postgres", "postgres"), "SELECT 1".to_owned())
    }
}

/// Finds a port of 127.0.0.1 that nobody listens on: below those that the operating system gives to
/// connections, so that it is still free when the server has stopped for a while.
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

/// Makes the data directory, or nothing.
fn make_data(bin: &Path, account: Account, home: &Path, plan: &Plan) -> Result<PathBuf, SetupError> {
    if let Some(dir) = plan.data_in {
        account.own(dir)?;
    }
    let step = SetupError::start("making its data directory");
    let data = std::path::absolute(plan.data_in.unwrap_or(home).join("data")).map_err(&step)?;
    // It must be new: in the end it is removed.
    std::fs::create_dir(&data).map_err(&step)?;
    let filled = fill(bin, account, home, &data, plan.passwords);
    if filled.is_err() {
        let _ = std::fs::remove_dir_all(&data);
    }
    filled.map(|()| data)
}

fn fill(bin: &Path, account: Account, home: &Path, data: &Path, passwords: bool) -> Result<(), SetupError> {
    account.own(data)?;
    let made = account
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
    if !made.status.success() {
        let detail = String::from_utf8_lossy(&made.stderr).trim().to_owned();
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
