//! How often the directory is listed, and how many files are looked at in one go.

use super::*;

fn names(count: usize) -> Vec<&'static str> {
    (0..count).map(|n| &*format!("{n:05}").leak()).collect()
}

#[test]
fn a_directory_is_listed_once_however_many_orphans_are_in_it() {
    let files = names(800)
        .into_iter()
        .zip(1..)
        .map(|(name, seq)| (name, DiskFile::new("here", singles([seq]))));
    let mut world = World::new(files);
    world.wait(Duration::ZERO);
    assert_eq!(world.drain(), (1..=800).collect::<Vec<_>>());
    assert_eq!((world.did("list"), world.did("adopt")), (1, 800));
    world.wait(SCAN);
    assert_eq!(world.did("list"), 2);
}

#[test]
fn requests_wait_for_a_few_looks_at_the_files_of_another_database() {
    let files = names(1_000)
        .into_iter()
        .map(|name| (name, DiskFile::new("elsewhere", singles([1]))));
    let mut world = World::with(files, |config| config.max_looks = 10);
    let mut before = 0;
    for n in 1..=90 {
        assert!(world.append(&singles([n]))[0].is_ok());
        let looked = world.did("adopt");
        assert!(looked - before <= 10, "{looked}");
        before = looked;
        world.wait(Duration::from_millis(9));
    }
    world.ask(vec![SpoolRequest::Read]);
    assert!(
        world
            .replies
            .iter()
            .all(|reply| !matches!(reply, SpoolReply::Read(_))),
        "what was not looked at may hold entries"
    );
    for _ in 0..10 {
        world.wait(Duration::from_millis(10));
    }
    assert_eq!((world.did("adopt"), world.did("list")), (1_000, 1));
    let is_end = |reply: &SpoolReply<TestRow>| matches!(reply, SpoolReply::Read(None));
    assert!(world.replies.iter().any(is_end));
    world.wait(SCAN);
    assert_eq!(world.did("adopt"), 1_000, "each once");
}
