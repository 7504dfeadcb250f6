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
