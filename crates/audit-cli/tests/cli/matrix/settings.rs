//! Sessions with settings that change how PostgreSQL reads literals, and how it prints values.

use super::{Ran, Session, World, server};

/// A server, a database, a user or a URL can have them.
const SETTINGS: [&str; 9] = [
    "standard_conforming_strings=off",
    "datestyle=SQL,DMY",
    // Its abbreviation IST is read as the time of Israel.
    "timezone=Asia/Kolkata",
    "intervalstyle=sql_standard",
    "quote_all_identifiers=on",
    "transform_null_equals=on",
    "bytea_output=escape",
    "array_nulls=off",
    "extra_float_digits=-15",
];

/// The URL for sessions with these settings.
fn with_settings(url: &str) -> String {
    let options: Vec<String> = SETTINGS
        .iter()
        .map(|setting| format!("-c%20{}", setting.replace('=', "%3D").replace(',', "%2C")))
        .collect();
    format!("{url}?options={}", options.join("%20"))
}

fn run(world: &World, arguments: &str, url: &str) -> Ran {
    Ran::of(&mut world.command_with(arguments, url).1)
}

/// The lines that only one of two commands printed.
fn differences<'a>(usual: &'a Ran, ran: &'a Ran) -> Vec<&'a str> {
    let lines = |ran: &'a Ran| ran.out.lines().chain(ran.err.lines());
    let only = |a, b| lines(a).filter(move |line| !lines(b).any(|other| other == *line));
    only(usual, ran).chain(only(ran, usual)).collect()
}

#[test]
fn no_setting_of_a_session_changes_what_a_verb_does_or_prints() {
    let world = World::new();
    let unusual = with_settings(&world.url);
    let in_effect = "SELECT (current_setting('standard_conforming_strings') = 'off')::int::bigint AS value";
    assert_eq!(Session::open(&unusual).number(in_effect), 1);
    let applied = run(&world, "retention apply --keep 13months --yes", &unusual);
    assert!(
        applied.code == Some(0) && applied.out.starts_with("dropped "),
        "{applied:?}"
    );
    for (arguments, expected) in [
        ("list --json", "\"action\":\"row\""),
        ("verify writers --json", ""),
        ("actions --used --json", "\"undeclared\""),
        ("partitions list --json", "T00:00:00Z"),
        ("retention plan --keep 6months --json", "\"drop\""),
        ("retention ledger --json", "Z\"}"),
        ("hold list --json", "Z\""),
        ("doctor", "PARTITIONS"),
    ] {
        let [usual, ran] = [&world.url, &unusual].map(|url| run(&world, arguments, url));
        assert!(usual.out.contains(expected), "{arguments}: {usual:?}");
        assert_eq!(differences(&usual, &ran), [""; 0], "{arguments}");
    }
}

#[test]
fn a_trail_that_was_migrated_with_unusual_settings_is_the_same() {
    let name = "unusual_settings";
    Session::open(&server().url("postgres")).batch(&format!("CREATE DATABASE {name}"));
    let world = World::new();
    let url = server().url(name);
    let unusual = with_settings(&url);
    let migrated = run(&world, "migrate", &unusual);
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    // Without an S, which is what an unescaped \S means.
    let held = run(&world, "hold add --tenant nobody --reason 4711", &url);
    assert_eq!(held.code, Some(0), "{held:?}");
    // The doctor compares the functions with those of this version.
    let usual = run(&world, "doctor", &server().migrated().unwrap());
    assert_eq!(differences(&usual, &run(&world, "doctor", &url)), [""; 0]);
}
