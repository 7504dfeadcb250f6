//! A server that becomes silent after it has answered: it, or a proxy in between, has stopped.

use db_test::{Network, Proxy};

use super::{Ran, Session, TIMEOUT, VERBS, Verb, World};

/// How many answers of each connection arrive: the login, those that make it ready, and those within the work.
const ANSWERS: [u64; 5] = [1, 3, 8, 10, 12];

/// What the command says of the phase in which the server became silent.
const SAYS: [&str; 3] = [
    "the server did not answer within ",
    "the server accepted the connection and did not answer within 10s",
    "no answer within 30s",
];

#[test]
fn no_verb_waits_without_a_bound_for_a_server_that_became_silent() {
    let world = World::new();
    let silent: Vec<Proxy> = ANSWERS
        .iter()
        .map(|answers| {
            let proxy = Proxy::to(&world.url).unwrap();
            proxy.set(Network::SilentAfter(*answers)).unwrap();
            proxy
        })
        .collect();
    let run = |proxy: &Proxy, verb: &Verb| {
        let settings = "connect_timeout=10&options=-c%20statement_timeout%3D10s";
        world.run_at(verb, &format!("{}?{settings}", proxy.url()))
    };
    let ran: Vec<(&Verb, Ran)> = std::thread::scope(|scope| {
        let run = &run;
        let all = silent
            .iter()
            .flat_map(|proxy| VERBS.iter().map(move |verb| (proxy, verb)));
        let threads: Vec<_> = all
            .map(|(proxy, verb)| scope.spawn(move || (verb, run(proxy, verb))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let noticed = |ran: &Ran| ran.code == Some(3) && SAYS.iter().any(|text| ran.err.contains(text));
    // With enough answers a verb ends as usual.
    let wrong: Vec<String> = ran
        .iter()
        .filter(|(verb, ran)| !noticed(ran) && ran.code != Some(verb.usual))
        .map(|(verb, ran)| format!("{}: {ran:?}", verb.name))
        .collect();
    assert!(wrong.is_empty(), "within {TIMEOUT:?}:\n{}", wrong.join("\n"));
    let count = ran.iter().filter(|(_, ran)| noticed(ran)).count();
    assert!(count > VERBS.len() * 3, "only {count} met the silence");
}

#[test]
fn a_statement_that_takes_too_long_is_ended_by_the_server_with_the_remedy() {
    let world = World::new();
    let sleep = "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NEW; END $$";
    let trigger =
        "CREATE TRIGGER sleep BEFORE INSERT ON audit_legal_holds FOR EACH ROW EXECUTE FUNCTION sleep()";
    Session::open(&world.url).batch(&format!("{sleep}; {trigger}"));
    let hold = VERBS.iter().find(|verb| verb.name == "hold add").unwrap();
    let ran = world.run_at(
        hold,
        &format!("{}?options=-c%20statement_timeout%3D500", world.url),
    );
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let said = "due to statement timeout (statement_timeout in the URL sets another limit";
    assert!(ran.err.contains(said), "{ran:?}");
    let ran = world.run(hold);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
