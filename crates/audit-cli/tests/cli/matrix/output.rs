//! Standard output and standard error that cannot be written.

use std::fs::OpenOptions;
use std::process::Stdio;

use super::{Condition, Ran, VERBS, Verb, World, check};

fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn closed_pipe() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

fn run_to(world: &World, verb: &Verb, stdout: Stdio, stderr: Stdio) -> Ran {
    let (_dir, mut command) = world.command(verb, &world.url);
    Ran::of(command.stdout(stdout).stderr(stderr))
}

#[test]
fn each_verb_has_its_usual_exit_code() {
    let world = World::new();
    for verb in VERBS {
        let ran = world.run(verb);
        assert_eq!(ran.code, Some(verb.usual), "{}: {ran:?}", verb.name);
        let is_silent = verb.name == "migrate --revert";
        assert_eq!(ran.out.is_empty(), is_silent, "{}: {ran:?}", verb.name);
    }
}

#[test]
fn no_full_disk_hides_that_output_is_incomplete() {
    let world = World::new();
    check(Condition::FullDisk, |verb| {
        run_to(&world, verb, full_disk(), Stdio::piped())
    });
}

#[test]
fn an_exit_code_survives_a_reader_that_goes_away() {
    let world = World::new();
    check(Condition::ClosedPipe, |verb| {
        run_to(&world, verb, closed_pipe(), Stdio::piped())
    });
}

#[test]
fn an_exit_code_survives_a_standard_error_on_a_full_disk() {
    let world = World::new();
    check(Condition::FullErrors, |verb| {
        run_to(&world, verb, Stdio::piped(), full_disk())
    });
}
