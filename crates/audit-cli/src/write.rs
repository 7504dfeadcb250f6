//! `auditlog write`: one event from options, or many from JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use db_services::audit::{self, AuditEntry};
use db_services::client::Connection;
use diesel_async::AsyncConnection;
use indicatif::ProgressBar;
use serde_json::Value;
use uuid::Uuid;

use crate::args::{Event, Write};
use crate::database::{connect, writable};
use crate::failure::{Done, Failure, IN_PART};
use crate::output;

/// The longest line that is read, in bytes: far beyond any entry, far below the memory.
const LINE_LIMIT: usize = 16 << 20;

/// Lines that are sent together, and how many bytes they may have before they are.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;

pub(crate) async fn run(url: Option<&str>, args: Write) -> Done {
    match args.file {
        Some(file) => write_lines(url, &file).await,
        None => {
            let mut entry = entry(args.event)?;
            let id = *entry.id.get_or_insert_with(Uuid::now_v7);
            let mut conn = connect(&writable(url).await?).await?;
            let new = audit::insert_many(&mut conn, &[entry]).await?;
            println!("{} {id}", if new == 1 { "wrote" } else { "already there:" });
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn entry(event: Event) -> Result<AuditEntry, Failure> {
    let metadata = match event.metadata.as_deref().map(serde_json::from_str) {
        None => Value::Null,
        Some(Ok(object @ Value::Object(_))) => object,
        Some(Ok(_)) => return Err(Failure::usage("--metadata: expected a JSON object, {…}")),
        Some(Err(error)) => return Err(Failure::usage(format!("--metadata: {error}"))),
    };
    let mut entry = AuditEntry::new(event.action.unwrap_or_default())
        .outcome(event.outcome.unwrap_or_default())
        .metadata(metadata);
    entry.id = event.id;
    entry.created_at = event.created_at.unwrap_or(entry.created_at);
    entry.actor_id = event.actor;
    entry.actor_type = event.actor_type;
    entry.on_behalf_of = event.on_behalf_of;
    entry.tenant_id = event.tenant;
    entry.resource_type = event.resource_type;
    entry.resource_id = event.resource_id;
    entry.ip_address = event.ip;
    entry.user_agent = event.user_agent;
    entry.request_id = event.request_id;
    entry.trace_id = event.trace_id;
    entry.operation_id = event.operation_id;
    Ok(entry)
}

async fn write_lines(url: Option<&str>, file: &Path) -> Done {
    let (input, length): (Box<dyn Read>, _) = if file == Path::new("-") {
        (Box::new(std::io::stdin()), None)
    } else {
        let open = File::open(file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        let length = open
            .metadata()
            .ok()
            .filter(|data| data.is_file())
            .map(|data| data.len());
        (Box::new(open), length)
    };
    let conn = connect(&writable(url).await?).await?;
    let mut writing = Writing {
        conn,
        name: if length.is_some() {
            file.display().to_string()
        } else {
            "line".to_owned()
        },
        bar: output::progress(length, "writing"),
        ready: Vec::with_capacity(BATCH),
        ready_bytes: 0,
        written: 0,
        known: 0,
        bad: 0,
    };
    let result = writing.all(BufReader::new(input)).await;
    writing.bar.finish_and_clear();
    let summary = format!(
        "wrote {} entries, {} were there already, {} lines were bad",
        output::number(writing.written),
        output::number(writing.known),
        output::number(writing.bad)
    );
    match result {
        Ok(()) => println!("{summary}"),
        Err(Failure { .. }) => eprintln!("{summary}, the rest was not tried"),
    }
    result?;
    Ok(if writing.bad > 0 {
        ExitCode::from(IN_PART)
    } else {
        ExitCode::SUCCESS
    })
}

/// Lines on their way from a file to the database.
struct Writing {
    conn: Connection,
    /// What stands before a line's number in a message.
    name: String,
    bar: ProgressBar,
    /// Entries to be sent, with their line numbers.
    ready: Vec<(u64, AuditEntry)>,
    /// How long those lines were.
    ready_bytes: usize,
    written: u64,
    known: u64,
    bad: u64,
}

impl Writing {
    async fn all(&mut self, mut input: impl BufRead) -> Result<(), Failure> {
        for number in 1.. {
            match next_line(&mut input)? {
                Line::End => break,
                Line::TooLong => self.reject(number, &format!("longer than {} MiB", LINE_LIMIT >> 20)),
                Line::Text(bytes) => {
                    self.bar.inc(bytes.len() as u64);
                    self.take(number, &bytes);
                }
            }
            if self.ready.len() == BATCH || self.ready_bytes >= BATCH_BYTES {
                self.send().await?;
            }
        }
        self.send().await
    }

    fn take(&mut self, number: u64, bytes: &[u8]) {
        // A byte order mark may begin a file.
        let bytes = if number == 1 {
            bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
        } else {
            bytes
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match serde_json::from_slice::<AuditEntry>(bytes) {
            Ok(mut entry) => {
                // It may be sent twice: with others, and then alone.
                entry.id.get_or_insert_with(Uuid::now_v7);
                self.ready.push((number, entry));
                self.ready_bytes += bytes.len();
            }
            Err(error) => {
                // Each line is a document of its own: its place is the column alone.
                let text = error.to_string();
                let reason = text.split(" at line ").next().unwrap_or(&text);
                self.reject(number, &format!("{reason} (column {})", error.column()));
            }
        }
    }

    /// Sends what is ready. If the database rejects it, sends each entry alone, so that only the
    /// rejected ones are left out.
    async fn send(&mut self) -> Result<(), Failure> {
        let (numbers, entries): (Vec<_>, Vec<_>) = self.ready.drain(..).unzip();
        self.ready_bytes = 0;
        if let Ok(new) = insert_all(&mut self.conn, &entries).await {
            self.count(new, entries.len());
            return Ok(());
        }
        for (number, entry) in numbers.into_iter().zip(entries) {
            match audit::insert_many(&mut self.conn, std::slice::from_ref(&entry)).await {
                Ok(new) => self.count(new, 1),
                Err(error) => {
                    // Does the database still answer? If not, the line is not to blame.
                    audit::latest(&mut self.conn, 1).await?;
                    self.reject(number, &error.to_string());
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, new: usize, of: usize) {
        self.written += new as u64;
        self.known += (of - new) as u64;
    }

    fn reject(&mut self, number: u64, reason: &str) {
        self.bad += 1;
        self.bar.suspend(|| eprintln!("{}:{number}: {reason}", self.name));
    }
}

/// Inserts all entries of a batch or, on an error, none, so that they can be counted when they are sent
/// again one by one.
async fn insert_all(conn: &mut Connection, entries: &[AuditEntry]) -> Result<usize, Failure> {
    Ok(match conn {
        Connection::Postgres(conn) => {
            AsyncConnection::transaction(conn, async |conn| audit::insert_many(conn, entries).await).await?
        }
        // A batch is one transaction there.
        Connection::Sqlite(conn) => audit::insert_many(conn, entries).await?,
    })
}

enum Line {
    Text(Vec<u8>),
    TooLong,
    End,
}

/// Reads a line with its end; of one beyond the limit nothing is kept.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let limit = LINE_LIMIT as u64 + 1;
    if input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(Line::End);
    }
    if line.len() <= LINE_LIMIT || line.ends_with(b"\n") {
        return Ok(Line::Text(line));
    }
    while !line.ends_with(b"\n") {
        line.clear();
        if input.by_ref().take(1 << 16).read_until(b'\n', &mut line)? == 0 {
            break;
        }
    }
    Ok(Line::TooLong)
}
