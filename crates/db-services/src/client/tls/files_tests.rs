use std::fs::File;
use std::process::Command;

use super::super::super::hosts::connect;
use super::super::super::test_servers::route;
use super::*;

/// Re-runs itself in a process of its own, which then opens files until it may open no more.
#[test]
fn a_process_that_can_open_no_more_files_keeps_no_incomplete_list_of_authorities() {
    const CHILD: &str = "AUDIT_TEST_AUTHORITIES";
    let Some(dir) = std::env::var_os(CHILD).map(std::path::PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        let authorities = dir.path().join("authorities");
        std::fs::create_dir(&authorities).unwrap();
        for path in [authorities.join("a.pem"), dir.path().join("b.pem")] {
            let authority = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap();
            std::fs::write(path, authority.cert.pem()).unwrap();
        }
        let name = "client::tls::files::tests::a_process_that_can_open_no_more_files_keeps_no_incomplete_list_of_authorities";
        let test = format!("ulimit -n 64; exec \"$0\" --exact {name} --nocapture");
        let output = Command::new("sh")
            .args(["-c", &test])
            .arg(std::env::current_exe().unwrap())
            .env(CHILD, dir.path())
            .env("SSL_CERT_FILE", dir.path().join("b.pem"))
            .env("SSL_CERT_DIR", authorities)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Its connections wait to be accepted.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut held: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(File::open("/dev/null").is_err(), "it may open no more");
    // One for the connection, which leaves none for a file.
    held.pop();

    let root = dir.join("b.pem");
    let named = format!("sslmode=verify-full&sslrootcert={}", root.display());
    for options in ["sslmode=verify-full", &named] {
        let Err(error) = runtime.block_on(connect(&route(&[&address], options))) else {
            panic!("connected")
        };
        let text = error.to_string();
        assert!(
            text.contains("cannot be read") && text.contains("Too many open files"),
            "{text}"
        );
        assert!(!error.is_permanent(), "{error}");
    }
    // The file can be read, and no file of the directory.
    assert!(matches!(system_authorities(), Err(Unusable::Unreadable(_))));
    drop(held);
    assert_eq!(system_authorities().unwrap().len(), 2);
    let absent = authorities(&dir.join("absent.pem"));
    assert!(matches!(absent, Err(Unusable::Wrong(_))));
}
