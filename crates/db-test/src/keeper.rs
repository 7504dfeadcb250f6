//! Who ends a private server when the process that wanted it is gone?
//!
//! A shell that runs the server as its child and reads orders from standard input, which the
//! operating system closes when the process ends in whatever way.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::SetupError;
use crate::account::Account;

/// Answers each order with a line when it is carried out; at the end of the orders, ends the server
/// and removes what is left of it. It outlives an answer that nobody reads, hence the trap.
const SCRIPT: &str = r#"
trap '' PIPE
bin=$1 home=$2 data=$3 server=
shift 3
start() {
    rm -f "$home"/.s.PGSQL.*
    : >"$home/log"
    "$bin/postgres" -D "$data" -k "$home" "$@" >"$home/log" 2>&1 </dev/null &
    server=$!
}
stop() {
    if [ -n "$server" ]; then
        kill "-$1" "$server"
        wait "$server"
    fi
    server=
}
runs() {
    [ -n "$server" ] || return
    # One that is about to end, or to recover, is given the time to do so.
    while [ -e "$data/postmaster.pid" ]; do
        grep -q '^ready' "$data/postmaster.pid" && return
        sleep 0.02
    done
    wait "$server"
    return 1
}
start "$@"
while read -r order; do
    case $order in
    start) runs || start "$@" ;;
    *) stop "$order" ;;
    esac
    echo done
done
stop QUIT
rm -rf "$home" "$data"
"#;

/// The shell. Dropping it ends the server and waits until nothing is left.
pub(crate) struct Keeper {
    shell: Child,
    orders: Option<ChildStdin>,
    answers: Option<BufReader<ChildStdout>>,
}

impl Keeper {
    /// Starts the server with these settings. In a process group of its own, so that Ctrl-C does
    /// not end it before the tests.
    pub(crate) fn start(
        account: Account,
        bin: &Path,
        home: &Path,
        data: &Path,
        settings: impl Iterator<Item = String>,
    ) -> Result<Self, SetupError> {
        let mut shell = account
            .command(Path::new("/bin/sh"), home)
            .args(["-c", SCRIPT, "keeper"])
            .args([bin, home, data])
            .args(settings.flat_map(|setting| ["-c".to_owned(), setting]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(SetupError::start("its keeper"))?;
        let (orders, answers) = (shell.stdin.take(), shell.stdout.take().map(BufReader::new));
        Ok(Self {
            shell,
            orders,
            answers,
        })
    }

    /// Has `start` done, or ends the server with the signal named; returns when that is done.
    pub(crate) fn order(&mut self, order: &str) -> Result<(), SetupError> {
        let (Some(orders), Some(answers)) = (&mut self.orders, &mut self.answers) else {
            return Ok(());
        };
        let failed = SetupError::start("an order to its keeper");
        writeln!(orders, "{order}").map_err(&failed)?;
        let mut answer = String::new();
        answers.read_line(&mut answer).map_err(&failed)?;
        if answer.is_empty() {
            Err(failed(std::io::ErrorKind::UnexpectedEof.into()))
        } else {
            Ok(())
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shell.wait();
    }
}
