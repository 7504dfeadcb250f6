//! The verbs, and that they are those of the command.

use std::collections::BTreeSet;

use crate::fixture::CliFixture;

/// A way to call the command.
pub(crate) struct Verb {
    /// Its words, and an option that makes it another one.
    pub(crate) name: &'static str,
    /// Its arguments, separated by spaces. `{hold}` is the number of an active hold.
    pub(crate) arguments: &'static str,
    /// Its exit code in the world of these tests.
    pub(crate) usual: i32,
}

const fn verb(name: &'static str, arguments: &'static str) -> Verb {
    Verb {
        name,
        arguments,
        usual: 0,
    }
}

pub(crate) const VERBS: &[Verb] = &[
    verb("migrate", "migrate"),
    verb("migrate --status", "migrate --status"),
    // The trail has entries.
    Verb {
        usual: 3,
        ..verb("migrate --revert", "migrate --revert")
    },
    verb("write --action", "write --action x"),
    verb("write", "write lines.ndjson"),
    verb("import cloudtrail", "import cloudtrail log.json"),
    verb("list", "list"),
    verb("show", "show 018f3a2e-7b1c-7def-8000-000000000001"),
    verb("stats", "stats"),
    verb("tail", "tail"),
    verb("export", "export"),
    verb("export --out", "export --out rows.csv --format csv --position p"),
    verb("verify writers", "verify writers"),
    verb("actions", "actions"),
    // Nothing declares the actions of the trail.
    Verb {
        usual: 1,
        ..verb("actions --used", "actions --used")
    },
    verb("hash", "hash alice"),
    verb("completions", "completions elvish"),
    verb("man", "man list"),
    // The directory has a quarantine.
    Verb {
        usual: 1,
        ..verb("spool status", "spool --dir spool status")
    },
    Verb {
        usual: 1,
        ..verb("spool replay", "spool --dir spool replay --any-target")
    },
    verb("spool quarantine", "spool --dir spool quarantine"),
    verb(
        "spool quarantine --retry",
        "spool --dir spool quarantine --retry --any-target",
    ),
    verb("partitions list", "partitions list"),
    verb(
        "partitions ensure",
        "partitions ensure --from 2001-01 --to 2001-01",
    ),
    verb("partitions move-default", "partitions move-default"),
    verb("retention plan", "retention plan --keep 13months"),
    verb("retention apply", "retention apply --keep 13months --yes"),
    verb("retention ledger", "retention ledger"),
    verb("hold add", "hold add --tenant nobody --reason r"),
    verb("hold list", "hold list"),
    verb("hold release", "hold release {hold} --reason r"),
    verb("restore", "restore kept --accept test"),
    verb("restore --check", "restore --check kept"),
    // The login is a superuser.
    Verb {
        usual: 1,
        ..verb("doctor", "doctor")
    },
];

impl Verb {
    pub(crate) fn first_word(&self) -> &'static str {
        self.name.split(' ').next().unwrap()
    }

    /// Its words without an option.
    pub(crate) fn words(&self) -> &'static str {
        self.name.split(" --").next().unwrap()
    }
}

/// The names below `Commands:` in the help of these words.
fn subcommands(cli: &CliFixture, words: &[String]) -> Vec<String> {
    let arguments: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let (code, out, err) = cli.run(&arguments);
    assert_eq!(code, 0, "{err}");
    out.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The words of each verb that the help names.
pub(crate) fn verbs_of_the_command() -> BTreeSet<String> {
    let cli = CliFixture::new();
    let (mut found, mut open) = (BTreeSet::new(), vec![Vec::new()]);
    while let Some(words) = open.pop() {
        let below = subcommands(&cli, &words);
        if below.is_empty() {
            found.insert(words.join(" "));
        }
        open.extend(below.into_iter().map(|name| [words.clone(), vec![name]].concat()));
    }
    found
}

#[test]
fn each_verb_of_the_command_has_a_row() {
    let rows: BTreeSet<String> = VERBS.iter().map(|verb| verb.words().to_owned()).collect();
    let found = verbs_of_the_command();
    assert!(found.len() > 15, "{found:?}");
    assert_eq!(rows, found);
}
