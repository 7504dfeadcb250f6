//! `auditlog completions` and `auditlog man`: what is installed beside the command.

use crate::fixture::CliFixture;
use crate::matrix::verbs_of_the_command;

#[test]
fn the_completions_of_each_shell_name_the_verbs() {
    let cli = CliFixture::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, out, err) = cli.run(&["completions", shell]);
        assert_eq!((code, &*err), (0, ""), "{shell}");
        for word in ["list", "move-default", "oldest-first"] {
            assert!(out.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(cli.run(&["completions", "tcsh"]).0, 2);
}

/// The shell reads the script, and completes a word with it.
#[test]
fn bash_completes_a_verb() {
    let cli = CliFixture::new();
    let (_, script, _) = cli.run(&["completions", "bash"]);
    std::fs::write(cli.dir.path().join("auditlog.bash"), script).unwrap();
    let complete = "set -eu; . ./auditlog.bash; COMP_WORDS=(auditlog ret); COMP_CWORD=1; \
                    _auditlog auditlog ret auditlog; echo \"${COMPREPLY[*]}\"";
    let shell = std::process::Command::new("bash")
        .args(["-c", complete])
        .current_dir(&cli.dir)
        .output();
    // Not every machine has bash.
    let Ok(output) = shell else { return };
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        "retention",
        "{:?}",
        output.stderr
    );
}

#[test]
fn each_verb_has_a_manual_page() {
    let cli = CliFixture::new();
    let (code, out, err) = cli.run(&["man"]);
    assert_eq!((code, &*err), (0, ""));
    assert!(
        out.contains(".TH auditlog 1") && out.contains("auditlog\\-list(1)"),
        "{out}"
    );
    std::fs::create_dir(cli.dir.path().join("pages")).unwrap();
    let (code, _, err) = cli.run(&["man", "--out-dir", "pages"]);
    assert_eq!(code, 0, "{err}");
    for verb in verbs_of_the_command() {
        let name = format!("pages/auditlog-{}.1", verb.replace(' ', "-"));
        let page = std::fs::read_to_string(cli.dir.path().join(&name)).unwrap();
        assert!(page.contains("Exit codes: 0"), "{name}: {page}");
        let words: Vec<_> = verb.split(' ').collect();
        assert_eq!(cli.run(&[&["man"], &words[..]].concat()).1, page, "{verb}");
    }
    assert_eq!(cli.run(&["man", "nonsense"]).0, 2);
    let (code, _, err) = cli.run(&["man", "--out-dir", "absent"]);
    assert!(
        code == 3 && err.contains("cannot write absent/auditlog.1"),
        "{err}"
    );
}
