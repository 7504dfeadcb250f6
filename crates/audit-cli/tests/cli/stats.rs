//! `auditlog stats`.

use crate::fixture::CliFixture;
use crate::trail::assert_snapshot;

#[test]
fn plain_lines_and_json_have_the_same_counts_on_both_databases() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        let arguments = [
            "stats",
            "--time-zone",
            "Europe/Berlin",
            "--every",
            "1d",
            "--by",
            "actor",
            "--by",
            "ip",
        ];
        let (code, out, err) = cli.run(&arguments);
        assert_eq!((code, &*err), (0, ""));
        assert_snapshot("stats-plain.txt", &out);
        let (code, out, err) = cli.run(&[&arguments[..], &["--json"]].concat());
        assert_eq!((code, &*err), (0, ""));
        assert_snapshot("stats.json", &out);
    }
}

/// In Berlin, 2026-10-25 has 25 hours: 22:00Z of the day before until 23:00Z.
#[test]
fn days_are_those_of_the_zone_when_its_clocks_are_set() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        for (zone, every, expected) in [
            (
                "Europe/Berlin",
                "1d",
                "2026-10-23T22:00:00Z 1, 2026-10-24T22:00:00Z 2, 2026-10-25T23:00:00Z 1",
            ),
            ("UTC", "1d", "2026-10-24T00:00:00Z 2, 2026-10-25T00:00:00Z 2"),
            (
                "Europe/Berlin",
                "1w",
                "2026-10-18T22:00:00Z 3, 2026-10-25T23:00:00Z 1",
            ),
            ("Europe/Berlin", "1mo", "2026-09-30T22:00:00Z 4"),
            (
                "Asia/Kolkata",
                "1h",
                "2026-10-24T21:30:00Z 2, 2026-10-25T22:30:00Z 1, 2026-10-25T23:30:00Z 1",
            ),
        ] {
            let (code, out, err) = cli.run(&["stats", "--time-zone", zone, "--every", every]);
            assert_eq!(code, 0, "{err}");
            let bars = out.lines().filter_map(|line| line.strip_prefix("time\t"));
            let bars: Vec<_> = bars.map(|line| line.replace('\t', " ")).collect();
            assert_eq!(bars.join(", "), expected, "{zone} {every}");
        }
    }
}

#[test]
fn values_are_counted_up_to_the_limit_and_as_the_query_says() {
    for cli in CliFixture::on_both().map(CliFixture::with_trail) {
        for (arguments, expected) in [
            (&["--top", "1"][..], "action\tauth.login\t2"),
            (&["outcome:denied"], "action\tauth.login\t1"),
            (
                &["-action:auth.*", "--by", "tenant"],
                "tenant\tacme\t1\ntenant\tglobex\t1",
            ),
            (&["actor:nobody"], "entries\t\t0"),
        ] {
            let (code, out, err) = cli.run(&[&["stats"], arguments].concat());
            assert!(
                code == 0 && out.trim_end().ends_with(expected),
                "{arguments:?}: {out}{err}"
            );
        }
        for invalid in [
            ["--by", "metadata"],
            ["--every", "7s"],
            ["--top", "-1"],
            ["--by", "'; DROP TABLE audit_logs; --"],
        ] {
            assert_eq!(cli.run(&[&["stats"], &invalid[..]].concat()).0, 2, "{invalid:?}");
        }
    }
}

#[test]
fn a_chart_counts_beyond_the_bound() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute_sqlite(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) \
         INSERT INTO audit_logs (action) SELECT 'x' FROM n",
    );
    let (code, out, err) = cli.run(&["stats", "--every", "1d"]);
    assert!(code == 0 && out.contains("entries\t\t12000"), "{out}{err}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_bar_charts_that_fit() {
    use crate::terminal::run_on_terminal;
    let cli = CliFixture::new().with_trail();
    for columns in [80, 160] {
        let arguments = [
            "stats",
            "--time-zone",
            "Europe/Berlin",
            "--by",
            "actor",
            "--by",
            "tenant",
            "--top",
            "2",
        ];
        let (code, shown) = run_on_terminal(&cli, columns, &arguments);
        assert_eq!(code, 0, "{shown}");
        assert_snapshot(&format!("stats-{columns}.txt"), &shown);
    }
}
