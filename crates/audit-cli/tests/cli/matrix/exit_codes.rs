//! The exit codes in the help of each verb, and a way into each of them.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Ran, Session, World};
use crate::fixture::CliFixture;
use crate::matrix::verbs::verbs_of_the_command;

/// The state in which a verb is called.
#[derive(Clone, Copy)]
enum Before {
    /// On PostgreSQL, nothing.
    Nothing,
    /// On PostgreSQL, this SQL.
    Sql(&'static str),
    /// Nothing listens at the database's port.
    NoServer,
    /// In the directory, this file has this content.
    File(&'static str, &'static str),
    /// The directory of the spool has no quarantine.
    NoQuarantine,
    /// The file of the spool was found to be damaged.
    DamagedSpool,
    /// No key for digests is set.
    NoKey,
    /// On SQLite, the file has this mode.
    SqliteMode(u32),
    /// On SQLite, entries of a writer are missing.
    Missing,
}

use Before::{DamagedSpool, File, Missing, NoKey, NoQuarantine, NoServer, Nothing, Sql, SqliteMode};

/// The words of a verb, an exit code, and how it ends with that.
const WAYS: &[(&str, i32, Before, &str)] = &[
    ("migrate", 0, Nothing, "migrate"),
    ("migrate", 2, Nothing, "migrate --force"),
    ("migrate", 3, NoServer, "migrate"),
    ("write", 0, Nothing, "write lines.ndjson"),
    (
        "write",
        1,
        File("lines.ndjson", "{\"action\":\"a\"}\n{}\n"),
        "write lines.ndjson",
    ),
    ("write", 2, Nothing, "write"),
    ("write", 3, NoServer, "write lines.ndjson"),
    ("import cloudtrail", 0, Nothing, "import cloudtrail log.json"),
    (
        "import cloudtrail",
        1,
        File("log.json", "{\"Records\":[{}]}"),
        "import cloudtrail log.json",
    ),
    ("import cloudtrail", 2, Nothing, "import cloudtrail"),
    ("import cloudtrail", 3, NoServer, "import cloudtrail log.json"),
    ("list", 0, Nothing, "list"),
    ("list", 2, Nothing, "list --limit 0"),
    ("list", 3, NoServer, "list"),
    ("show", 0, Nothing, "show 018f3a2e-7b1c-7def-8000-000000000001"),
    ("show", 1, Nothing, "show 018f3a2e-7b1c-7def-8000-00000000000f"),
    ("show", 2, Nothing, "show one"),
    ("show", 3, NoServer, "show 018f3a2e-7b1c-7def-8000-000000000001"),
    ("stats", 0, Nothing, "stats"),
    ("stats", 2, Nothing, "stats --top 0"),
    ("stats", 3, NoServer, "stats"),
    ("tail", 0, Nothing, "tail"),
    ("tail", 2, Nothing, "tail -n x"),
    ("tail", 3, NoServer, "tail"),
    ("export", 0, Nothing, "export"),
    ("export", 1, Nothing, "export --limit 1"),
    ("export", 2, Nothing, "export --position p"),
    ("export", 3, File("rows.csv", ""), "export --out rows.csv"),
    ("verify writers", 0, Nothing, "verify writers"),
    ("verify writers", 1, Missing, "verify writers"),
    ("verify writers", 2, Nothing, "verify writers --nonsense"),
    ("verify writers", 3, NoServer, "verify writers"),
    ("actions", 0, Nothing, "actions --used --since 2100-01"),
    ("actions", 1, Nothing, "actions --used"),
    ("actions", 2, Nothing, "actions --since 2026-01"),
    ("actions", 3, NoServer, "actions --used"),
    ("hash", 0, Nothing, "hash alice"),
    ("hash", 2, Nothing, "hash"),
    ("hash", 3, NoKey, "hash alice"),
    ("spool status", 0, NoQuarantine, "spool --dir spool status"),
    ("spool status", 1, Nothing, "spool --dir spool status"),
    ("spool status", 2, Nothing, "spool --dir spool status --nonsense"),
    ("spool status", 3, Nothing, "spool --dir absent status"),
    (
        "spool replay",
        0,
        NoQuarantine,
        "spool --dir spool replay --any-target",
    ),
    (
        "spool replay",
        1,
        DamagedSpool,
        "spool --dir spool replay --any-target",
    ),
    ("spool replay", 2, Nothing, "spool --dir spool replay --nonsense"),
    (
        "spool replay",
        3,
        NoServer,
        "spool --dir spool replay --any-target",
    ),
    ("spool quarantine", 0, Nothing, "spool --dir spool quarantine"),
    (
        "spool quarantine",
        1,
        Nothing,
        "spool --dir spool quarantine --retry",
    ),
    (
        "spool quarantine",
        2,
        Nothing,
        "spool --dir spool quarantine --any-target",
    ),
    (
        "spool quarantine",
        3,
        NoServer,
        "spool --dir spool quarantine --retry",
    ),
    ("partitions list", 0, Nothing, "partitions list"),
    ("partitions list", 2, Nothing, "partitions list --nonsense"),
    ("partitions list", 3, NoServer, "partitions list"),
    ("partitions ensure", 0, Nothing, "partitions ensure"),
    (
        "partitions ensure",
        2,
        Nothing,
        "partitions ensure --from yesterday",
    ),
    ("partitions ensure", 3, NoServer, "partitions ensure"),
    ("partitions move-default", 0, Nothing, "partitions move-default"),
    (
        "partitions move-default",
        1,
        Sql("INSERT INTO audit_logs (created_at, action) VALUES ('infinity', 'x')"),
        "partitions move-default",
    ),
    (
        "partitions move-default",
        2,
        Nothing,
        "partitions move-default --nonsense",
    ),
    ("partitions move-default", 3, NoServer, "partitions move-default"),
    ("retention plan", 0, Nothing, "retention plan --keep 13months"),
    ("retention plan", 2, Nothing, "retention plan"),
    ("retention plan", 3, NoServer, "retention plan --keep 13months"),
    (
        "retention apply",
        0,
        Nothing,
        "retention apply --keep 13months --yes",
    ),
    (
        "retention apply",
        1,
        Sql("SELECT audit_logs_ensure_partitions(now() - interval '15 months')"),
        "retention apply --keep 12months --max-months 1 --yes",
    ),
    (
        "retention apply",
        2,
        Nothing,
        "retention apply --keep 1months --yes",
    ),
    (
        "retention apply",
        3,
        NoServer,
        "retention apply --keep 13months --yes",
    ),
    ("retention ledger", 0, Nothing, "retention ledger"),
    ("retention ledger", 2, Nothing, "retention ledger --nonsense"),
    ("retention ledger", 3, NoServer, "retention ledger"),
    ("hold add", 0, Nothing, "hold add --everything --reason r"),
    ("hold add", 2, Nothing, "hold add --reason r"),
    ("hold add", 3, NoServer, "hold add --everything --reason r"),
    ("hold list", 0, Nothing, "hold list"),
    ("hold list", 2, Nothing, "hold list --nonsense"),
    ("hold list", 3, NoServer, "hold list"),
    ("hold release", 0, Nothing, "hold release {hold} --reason r"),
    ("hold release", 2, Nothing, "hold release one --reason r"),
    ("hold release", 3, Nothing, "hold release 4711 --reason r"),
    ("restore", 0, Nothing, "restore kept --accept test"),
    (
        "restore",
        1,
        File("kept/x.manifest.json", "{}"),
        "restore --check kept",
    ),
    ("restore", 2, Nothing, "restore"),
    ("restore", 3, NoServer, "restore kept"),
    ("completions", 0, Nothing, "completions elvish"),
    ("completions", 2, Nothing, "completions tcsh"),
    ("man", 0, Nothing, "man"),
    ("man", 2, Nothing, "man nonsense"),
    ("man", 3, Nothing, "man --out-dir absent"),
    ("doctor", 0, SqliteMode(0o600), "doctor"),
    ("doctor", 1, SqliteMode(0o666), "doctor"),
    ("doctor", 2, SqliteMode(0o644), "doctor"),
    ("doctor", 3, NoServer, "doctor"),
];

/// The exit codes that the help of these words states.
fn stated(cli: &CliFixture, words: &str) -> BTreeSet<i32> {
    let arguments: Vec<&str> = words.split(' ').chain(["--help"]).collect();
    let (_, out, _) = cli.run(&arguments);
    let text = out
        .split_once("Exit codes: ")
        .unwrap_or_default()
        .1
        .replace('\n', " ");
    text.split(", ")
        .filter_map(|part| part.split(' ').next()?.parse().ok())
        .collect()
}

#[test]
fn the_help_of_each_verb_states_the_exit_codes_that_are_tried_here() {
    let cli = CliFixture::new();
    for words in verbs_of_the_command() {
        let tried: BTreeSet<i32> = WAYS
            .iter()
            .filter(|way| way.0 == words)
            .map(|way| way.1)
            .collect();
        assert_eq!(stated(&cli, &words), tried, "{words}");
    }
}

/// Calls a verb in a new directory, on a database of its own if the way changes it.
fn run(shared: &World, (_, _, before, arguments): (&str, i32, Before, &str)) -> Ran {
    let own = match before {
        Sql(sql) => {
            let world = World::new();
            Session::open(&world.url).batch(sql);
            Some(world)
        }
        _ => None,
    };
    let world = own.as_ref().unwrap_or(shared);
    let url = match before {
        NoServer => "postgres://u@127.0.0.1:1/d",
        Missing | SqliteMode(_) => "sqlite://audit.db",
        _ => &world.url,
    };
    let (dir, mut command) = world.command_with(arguments, url);
    match before {
        File(name, content) => std::fs::write(dir.path().join(name), content).unwrap(),
        NoQuarantine => std::fs::remove_file(dir.path().join("spool/quarantine.sqlite")).unwrap(),
        DamagedSpool => {
            for entry in std::fs::read_dir(dir.path().join("spool")).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().unwrap() == "spool" {
                    std::fs::rename(&path, path.with_extension("damaged")).unwrap();
                }
            }
        }
        NoKey => _ = command.env_remove("AUDIT_HASH_KEY"),
        SqliteMode(mode) => migrated_file(dir.path(), mode),
        Missing => {
            let cli = CliFixture::with_missing_entries();
            std::fs::copy(cli.dir.path().join("audit.db"), dir.path().join("audit.db")).unwrap();
        }
        _ => {}
    }
    Ran::of(&mut command)
}

fn migrated_file(dir: &Path, mode: u32) {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let path = dir.join("audit.db");
    std::fs::copy(cli.dir.path().join("audit.db"), &path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn each_verb_ends_with_each_exit_code_that_its_help_states() {
    let world = World::new();
    let wrong: Vec<String> = WAYS
        .iter()
        .filter_map(|way| {
            let ran = run(&world, *way);
            (ran.code != Some(way.1)).then(|| format!("{}: expected {}: {ran:?}", way.3, way.1))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
