//! How fast is the ancestor: Drizzle with the `postgres` driver, on Node? Optional.

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
use crate::Fallible;
use crate::clock::Sample;
use crate::place::{Place, Table};

const PACKAGE: &str = include_str!("../../node/package.json");
const PROGRAM: &str = include_str!("../../node/ancestor.mjs");

/// Installs the peer beside this program, once. The error tells why it is left out.
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

/// What the peer says of itself.
#[derive(Deserialize)]
struct Said {
    seconds: f64,
    cpu_seconds: f64,
}

/// One awaited insert after the other.
pub(crate) fn single(place: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    run(place, rows, 1).boxed()
}

/// Batches of 1,000 rows.
pub(crate) fn batch(place: &Place, rows: usize) -> BoxFuture<'_, Fallible<Sample>> {
    run(place, rows, BATCH).boxed()
}

/// Blocks of single inserts into the project's table, by a process that waits for each block's order.
pub(crate) struct Blocks {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Killed when dropped.
    _process: Child,
}

impl Blocks {
    pub(crate) fn start(url: &str) -> Fallible<Self> {
        let mut process = Command::new("node")
            .args(["ancestor.mjs", "blocks", "audit_logs"])
            .env("DATABASE_URL", url)
            .current_dir(dir()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the ancestor has no pipes".into());
        };
        Ok(Self {
            orders,
            answers: BufReader::new(answers).lines(),
            _process: process,
        })
    }

    /// Inserts these rows, and returns the seconds that it took by the peer's own clock.
    pub(crate) async fn insert(&mut self, rows: Range<usize>) -> Fallible<f64> {
        self.orders
            .write_all(format!("{} {}\n", rows.start, rows.end).as_bytes())
            .await?;
        let answer = self.answers.next_line().await?.ok_or("the ancestor ended")?;
        Ok(serde_json::from_str::<Said>(&answer)?.seconds)
    }
}

async fn run(place: &Place, rows: usize, batch: usize) -> Fallible<Sample> {
    let fresh = place.fresh(Table::Conventional).await?;
    // A runtime that compiles as it runs needs longer to be warm.
    let warm_up = if batch == 1 { WARM_UP * 3 } else { WARM_UP * 20 };
    let done = Command::new("node")
        .arg("ancestor.mjs")
        .args([warm_up, rows, batch].map(|number| number.to_string()))
        // Not as an argument: a named server's URL may hold a password.
        .env("DATABASE_URL", &fresh.url)
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
    let said: Said = serde_json::from_slice(&done.stdout)?;
    fresh.settle(warm_up + rows).await?;
    let [elapsed, cpu] = [said.seconds, said.cpu_seconds].map(Duration::from_secs_f64);
    Ok(Sample { rows, elapsed, cpu })
}
