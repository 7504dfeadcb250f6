//! Baseline: the ancestor of this project, Drizzle with the `postgres` driver on Node.js. Optional.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::WARM_UP;
use super::batches::BATCH;
use crate::Result;
use crate::clock::Sample;
use crate::server::{BenchServer, Table};

const PACKAGE: &str = include_str!("../../node/package.json");
const PROGRAM: &str = include_str!("../../node/ancestor.mjs");

/// Installs it beside this program, once. The error is the reason why it is left out.
pub(crate) async fn install() -> Result<(), String> {
    let dir = dir().map_err(|error| error.to_string())?;
    if Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .await
        .is_err()
    {
        return Err("no node".to_owned());
    }
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("package.json"), PACKAGE)?;
        std::fs::write(dir.join("ancestor.mjs"), PROGRAM)
    };
    write().map_err(|error| format!("{}: {error}", dir.display()))?;
    if is_installed(&dir) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--loglevel=error",
    ]);
    match npm.current_dir(&dir).stdin(Stdio::null()).output().await {
        Ok(done) if done.status.success() && is_installed(&dir) => Ok(()),
        Ok(_) => Err("npm could not install it".to_owned()),
        Err(_) => Err("no npm".to_owned()),
    }
}

fn is_installed(dir: &Path) -> bool {
    ["drizzle-orm", "postgres"]
        .iter()
        .all(|name| dir.join("node_modules").join(name).is_dir())
}

fn dir() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("db-bench-node"))
}

/// The measurements that it prints.
#[derive(Deserialize)]
struct Timing {
    seconds: f64,
    cpu_seconds: f64,
}

/// One awaited insert after the other.
pub(crate) fn single(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    run(server, rows, 1).boxed()
}

/// Batches of 1,000 rows.
pub(crate) fn batch(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    run(server, rows, BATCH).boxed()
}

/// A process that inserts single rows into the project's table, a block for each request.
pub(crate) struct Blocks {
    requests: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    /// Killed when dropped.
    _process: Child,
}

impl Blocks {
    pub(crate) fn start(url: &str) -> Result<Self> {
        let mut process = Command::new("node")
            .args(["ancestor.mjs", "blocks", "audit_logs"])
            .env("DATABASE_URL", url)
            .current_dir(dir()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(requests), Some(replies)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the ancestor has no pipes".into());
        };
        Ok(Self {
            requests,
            replies: BufReader::new(replies).lines(),
            _process: process,
        })
    }

    /// Inserts these rows, and returns the seconds that the process measured.
    pub(crate) async fn insert(&mut self, rows: Range<usize>) -> Result<f64> {
        self.requests
            .write_all(format!("{} {}\n", rows.start, rows.end).as_bytes())
            .await?;
        let reply = self.replies.next_line().await?.ok_or("the ancestor ended")?;
        Ok(serde_json::from_str::<Timing>(&reply)?.seconds)
    }
}

async fn run(server: &BenchServer, rows: usize, batch: usize) -> Result<Sample> {
    let database = server.create_database(Table::Conventional).await?;
    // A just-in-time compiler needs longer to warm up.
    let warm_up = if batch == 1 { WARM_UP * 3 } else { WARM_UP * 20 };
    let done = Command::new("node")
        .arg("ancestor.mjs")
        .args([warm_up, rows, batch].map(|number| number.to_string()))
        // Not as an argument: a named server's URL may hold a password.
        .env("DATABASE_URL", &database.url)
        .current_dir(dir()?)
        .stdin(Stdio::null())
        .output()
        .await?;
    if !done.status.success() {
        return Err(format!(
            "the ancestor failed: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        )
        .into());
    }
    let timing: Timing = serde_json::from_slice(&done.stdout)?;
    database.verify_and_drop(warm_up + rows).await?;
    let [elapsed, cpu] = [timing.seconds, timing.cpu_seconds].map(Duration::from_secs_f64);
    Ok(Sample { rows, elapsed, cpu })
}
