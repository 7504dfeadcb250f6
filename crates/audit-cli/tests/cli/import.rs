//! `auditlog import`.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::fixture::CliFixture;

fn sample() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cloudtrail");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect()
}

#[test]
fn an_import_stores_every_event_once() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let files = sample();
        let mut arguments = vec!["import", "cloudtrail"];
        arguments.extend(files.iter().map(|path| path.to_str().unwrap()));
        let (code, out, err) = cli.run(&arguments);
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (
                0,
                "imported 52 events, 0 already stored, 0 rejected, 0 files not read to the end\n",
                ""
            )
        );
        let first = cli.rows();
        let (code, out, _) = cli.run(&arguments);
        assert_eq!(
            (code, out.as_str()),
            (
                0,
                "imported 0 events, 52 already stored, 0 rejected, 0 files not read to the end\n"
            )
        );
        assert_eq!(cli.rows(), first, "a second import changes nothing");
        let denied: Vec<_> = first.iter().filter(|row| row["outcome"] == "denied").collect();
        assert_eq!(denied.len(), 1);
        assert!(first.iter().all(|row| row["tenant_id"] == "123837392027"
            && row["created_at"].as_str().unwrap().starts_with("2023-07-10")));
        let failed = first.iter().filter(|row| row["outcome"] == "failure").count();
        let with_code = first
            .iter()
            .filter(|row| row["metadata"].get("errorCode").is_some())
            .count();
        assert_eq!(failed + denied.len(), with_code);
    }
}

/// Its months are none that a writer may create.
#[test]
fn a_writers_import_of_old_events_fills_the_default_partition() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let url = cli.postgres.as_ref().unwrap().url();
    let url = format!("{url}?options=-c%20role%3Daudit_writer");
    let files = sample();
    let mut arguments = vec!["--database-url", &url, "import", "cloudtrail"];
    arguments.extend(files.iter().map(|path| path.to_str().unwrap()));
    let (code, out, err) = cli.run(&arguments);
    assert!(
        code == 0 && out.starts_with("imported 52 events, 0 already stored, 0 rejected"),
        "{out}{err}"
    );
    assert_eq!(err.matches("could not be created").count(), 1, "{err}");
    assert!(
        err.contains("a writer may not create the partition of 2023-07"),
        "{err}"
    );
    let (_, partitions, _) = cli.run(&["partitions", "list", "--json"]);
    assert!(!partitions.contains("2023"), "{partitions}");
    assert_eq!(cli.rows().len(), 52);
}

/// An event as CloudTrail logs it, with further members.
fn event(number: u32, more: &str) -> String {
    format!(
        r#"{{"eventID":"5ec0c7e5-7f9d-4c4c-8b9e-{number:012}","eventTime":"2023-07-10T11:42:18Z",
            "eventSource":"signin.amazonaws.com","eventName":"ConsoleLogin"{more}}}"#
    )
}

#[test]
fn no_event_is_lost_beside_malformed_ones_or_behind_the_end_of_a_log() {
    let cli = CliFixture::new();
    let import = |file: &str, content: &[u8]| {
        std::fs::write(cli.dir.path().join(file), content).unwrap();
        cli.run(&["import", "cloudtrail", file])
    };
    let log = |events: &[String]| format!("{{\"Records\":[{}]}}", events.join(","));
    let joined = [log(&[event(1, "")]), log(&[event(2, ""), event(3, "")])].concat();
    let (code, out, err) = import("joined.json", joined.as_bytes());
    assert!(code == 0 && out.starts_with("imported 3 events"), "{out}{err}");

    let malformed = log(&[
        event(4, ""),
        "{\"eventID\":\"\u{1}".to_owned() + "\"}",
        event(5, ""),
    ]);
    let (code, out, _) = import("malformed.json", malformed.as_bytes());
    assert!(
        code == 1 && out.starts_with("imported 2 events") && out.contains("1 rejected"),
        "{out}"
    );

    let cut = log(&[event(6, ""), event(7, "")]);
    let (code, out, err) = import("cut.json", &cut.as_bytes()[..cut.len() - 1]);
    assert!(code == 1 && out.starts_with("imported 2 events"), "{out}");
    assert!(
        out.contains("1 file not read to the end") && err.contains("cut off"),
        "{out}{err}"
    );

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(log(&[event(8, "")]).as_bytes()).unwrap();
    let mut altered = encoder.finish().unwrap();
    let name = altered
        .windows(12)
        .position(|bytes| bytes == b"ConsoleLogin")
        .unwrap();
    altered[name] = b'X';
    let (code, out, err) = import("altered.json.gz", &altered);
    assert!(
        code == 1 && out.contains("1 file not read to the end"),
        "{out}{err}"
    );
    assert!(err.contains("corrupt gzip"), "{err}");
}

#[test]
fn a_number_that_f64_cannot_hold_changes_nothing_else() {
    let cli = CliFixture::new();
    let more = r#","userIdentity":{"type":"Root","arn":"arn:root","x":1E400},"responseElements":{"ConsoleLogin":"Failure","x":1E400}"#;
    let file = cli.dir.path().join("log.json");
    std::fs::write(&file, format!("{{\"Records\":[{}]}}", event(1, more))).unwrap();
    assert_eq!(cli.run(&["import", "cloudtrail", "log.json"]).0, 0);
    let (_, out, _) = cli.run(&["list", "--json"]);
    for part in [r#""actor_id":"arn:root""#, r#""outcome":"failure""#, "1E400"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn an_import_creates_the_partitions_it_needs() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    assert_eq!(
        cli.run(&["import", "cloudtrail", sample()[0].to_str().unwrap()])
            .0,
        0
    );
    let default_partition_is_empty = "DO $$ BEGIN ASSERT (SELECT count(*) FROM audit_logs_default) = 0; \
                  ASSERT (SELECT count(*) FROM audit_logs_2023_07) = 26; END $$";
    cli.execute(default_partition_is_empty);
}

#[test]
fn compressed_files_are_imported_and_broken_ones_reported() {
    let cli = CliFixture::new();
    let whole = std::fs::read(&sample()[0]).unwrap();
    let gz = cli.dir.path().join("trail.json.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(std::fs::File::create(&gz).unwrap(), flate2::Compression::fast());
    encoder.write_all(&whole).unwrap();
    encoder.finish().unwrap();
    let broken = cli.dir.path().join("broken.json");
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let odd = cli.dir.path().join("odd.json");
    std::fs::write(&odd, r#"{"Records":[{"eventID":"no uuid"},7]}"#).unwrap();
    let (code, out, err) = cli.run(&[
        "import",
        "cloudtrail",
        gz.to_str().unwrap(),
        broken.to_str().unwrap(),
        odd.to_str().unwrap(),
        "absent.json",
    ]);
    assert_eq!(code, 1);
    assert!(
        out.contains("imported 26 events,") && out.contains("2 rejected, 2 files not read to the end"),
        "{out}"
    );
    for reason in [
        "broken.json: the file is cut off",
        "odd.json: record 1: ",
        "odd.json: record 2: not an object",
        "absent.json: No such file",
    ] {
        assert!(err.contains(reason), "{reason}: {err}");
    }
}
