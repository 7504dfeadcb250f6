//! The example application in headless Chromium: signs in wrongly and rightly, changes skills, looks at the trail.
//!
//! `just test-browser` installs what is needed, and runs it. A screenshot of the trail is left in `target/tmp`.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use db_services::audit::{self, AuditWriter};
use db_services::client::Database;
use demo_app::{DEMO_USERS, Store, router};
use thirtyfour::common::log::LoggingPrefsLogLevel;
use thirtyfour::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(60);
const REMEDY: &str = "`scripts/setup chromium` installs Chromium and its driver";

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_shows_what_the_user_does_and_what_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let address = start_application(directory.path()).await;
    let (driver_url, _process) = start_driver().await;
    let browser = WebDriver::new(driver_url, capabilities().unwrap())
        .await
        .unwrap_or_else(|error| panic!("Chromium does not start: {error}; {REMEDY}"));
    let visited =
        browser.run_and_quit(|browser| async move { visit(&browser, &format!("http://{address}")).await });
    visited.await.unwrap();
}

async fn visit(browser: &WebDriver, site: &str) -> WebDriverResult<()> {
    browser.goto(site).await?;
    assert_eq!(browser.title().await?, "Sign in · Skills");

    sign_in(browser, "carol", "a wrong password").await?;
    let refused = browser.query(By::Css(".error")).first().await?.text().await?;
    assert!(refused.contains("wrong"), "{refused}");

    // A member changes a form, to delete the skill of another user.
    sign_in(browser, "bob", password("bob")).await?;
    let form = browser
        .query(By::Css("form[action='/skills/postgresql/delete']"))
        .first()
        .await?;
    browser
        .execute(
            "arguments[0].action = '/skills/rust/delete'",
            vec![form.to_json()?],
        )
        .await?;
    form.find(By::Tag("button")).await?.click().await?;
    let refused = browser.query(By::Css(".error")).first().await?.text().await?;
    assert_eq!(refused, "the skill is another user's");
    browser.goto(format!("{site}/skills")).await?;
    sign_out(browser).await?;

    sign_in(browser, "carol", password("carol")).await?;
    assert!(
        browser
            .query(By::Css(".user"))
            .first()
            .await?
            .text()
            .await?
            .contains("carol · acme")
    );
    let cookie = browser.get_named_cookie("demo_session").await?;
    assert_eq!(
        (cookie.http_only, cookie.same_site),
        (Some(true), Some(SameSite::Strict))
    );

    // Create. The name is shown as it is.
    let form = browser.query(By::Css("form[action='/skills']")).first().await?;
    form.find(By::Name("name")).await?.send_keys("<b>Go</b>").await?;
    form.find(By::Tag("button")).await?.click().await?;
    let created = browser.query(By::LinkText("<b>Go</b>")).first().await?;

    // Change.
    created.click().await?;
    let form = browser
        .query(By::Css("main form[action^='/skills/']"))
        .first()
        .await?;
    let level = form.find(By::Name("level")).await?;
    level.clear().await?;
    level.send_keys("5").await?;
    form.find(By::Tag("button")).await?.click().await?;

    // Merge.
    let form = browser
        .query(By::Css("form[action='/skills/merge']"))
        .first()
        .await?;
    form.find(By::Css("[name=from] [value=postgres]"))
        .await?
        .click()
        .await?;
    form.find(By::Css("[name=into] [value=postgresql]"))
        .await?
        .click()
        .await?;
    form.find(By::Tag("button")).await?.click().await?;
    browser.query(By::Id("postgres")).wait_until_gone().await?;
    assert!(browser.query(By::Id("postgresql")).exists().await?);

    // Delete.
    browser
        .query(By::Css("form[action='/skills/rust/delete'] button"))
        .first()
        .await?
        .click()
        .await?;
    browser.query(By::Id("rust")).wait_until_gone().await?;
    assert_eq!(browser.find_all(By::Css("tbody tr")).await?.len(), 2);

    browser.find(By::LinkText("Audit trail")).await?.click().await?;
    browser.query(By::Css(".trail")).first().await?;
    assert_trail(browser).await?;
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-app.png");
    browser.screenshot(&screenshot).await?;

    sign_out(browser).await?;
    browser.goto(format!("{site}/trail")).await?;
    assert_eq!(browser.title().await?, "Sign in · Skills");

    // The two refusals are errors to the browser, and the only ones.
    let faults = browser
        .browser_log()
        .await?
        .into_iter()
        .map(|entry| entry.message);
    let faults: Vec<_> = faults
        .filter(|message| !message.contains("401") && !message.contains("403"))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
    Ok(())
}

fn password(name: &str) -> &'static str {
    DEMO_USERS.iter().find(|user| user.0 == name).unwrap().3
}

async fn sign_out(browser: &WebDriver) -> WebDriverResult<()> {
    browser
        .find(By::Css("form[action='/sign-out'] button"))
        .await?
        .click()
        .await?;
    browser
        .query(By::Css("form[action='/sign-in']"))
        .first()
        .await
        .map(drop)
}

async fn sign_in(browser: &WebDriver, name: &str, password: &str) -> WebDriverResult<()> {
    let form = browser.query(By::Css("form[action='/sign-in']")).first().await?;
    form.find(By::Name("name")).await?.send_keys(name).await?;
    form.find(By::Name("password")).await?.send_keys(password).await?;
    form.find(By::Tag("button")).await?.click().await
}

async fn assert_trail(browser: &WebDriver) -> WebDriverResult<()> {
    let expected = [
        ("success", "admin.delete_skill", "carol", "skill rust"),
        ("success", "admin.merge_skills", "carol", "skill postgresql"),
        ("success", "skill.update", "carol", "skill "),
        ("success", "skill.create", "carol", "skill "),
        ("success", "auth.login", "carol", "user carol"),
        ("success", "auth.logout", "bob", "user bob"),
        ("denied", "admin.delete_skill", "bob", "skill rust"),
        ("success", "auth.login", "bob", "user bob"),
        ("failure", "auth.login_failed", "anonymous", "user carol"),
        ("success", "demo.seed", "demo-app", "tenant acme"),
    ];
    let rows = browser.find_all(By::Css(".trail tbody tr")).await?;
    assert_eq!(rows.len(), expected.len());
    for (row, (outcome, action, actor, resource)) in rows.iter().zip(expected) {
        let mut cells = Vec::new();
        for cell in row.find_all(By::Tag("td")).await? {
            cells.push(cell.text().await?);
        }
        assert_eq!(
            (&*cells[1], &*cells[2], &*cells[3]),
            (outcome, action, actor),
            "{cells:?}"
        );
        assert!(cells[4].starts_with(resource), "{cells:?}");
        assert_eq!(
            cells[5],
            if action == "demo.seed" { "" } else { "127.0.0.1" },
            "{cells:?}"
        );
    }
    let update = rows[2].text().await?;
    for part in [r#""path":"/level""#, r#""from":3"#, r#""to":5"#] {
        assert!(update.contains(part), "{update}");
    }
    Ok(())
}

/// Starts the application on a port of its own.
async fn start_application(directory: &Path) -> SocketAddr {
    let url = format!("sqlite://{}", directory.join("demo-app.db").display());
    let database = Database::from_url(&url).unwrap();
    let store = Store::open(database.clone()).await.unwrap();
    let (writer, guard) = AuditWriter::builder(database).start().unwrap();
    audit::install(writer).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router(store, TaskTracker::new()).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move {
        let _guard = guard;
        axum::serve(listener, service).await
    });
    address
}

/// Starts Chromium's driver on a port of its own; returns its URL and the process, which ends when it is dropped.
async fn start_driver() -> (String, Child) {
    let mut process = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("chromedriver cannot be run: {error}; {REMEDY}"));
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let port = timeout(LIMIT, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.rsplit_once("successfully on port ") {
                return port.trim_end_matches('.').to_owned();
            }
        }
        panic!("chromedriver has ended before it named its port")
    });
    let port = port.await.unwrap();
    // Keeps its standard output open.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (format!("http://127.0.0.1:{port}"), process)
}

fn capabilities() -> WebDriverResult<thirtyfour::ChromeCapabilities> {
    let mut wanted = DesiredCapabilities::chrome();
    wanted.set_headless()?;
    // The only pages are those of this test. Chromium's sandbox refuses to run as root, as in a container.
    wanted.set_no_sandbox()?;
    wanted.set_disable_dev_shm_usage()?;
    wanted.add_arg("--window-size=1200,860")?;
    wanted.set_browser_log_level(LoggingPrefsLogLevel::Severe)?;
    Ok(wanted)
}
