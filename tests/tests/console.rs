//! The console in a browser, as a person sees it: a headless Chromium, steered by
//! `tests/console/browser.py`.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use failsoft_tests::{PATIENCE, Stack, outcome};
use serde_json::{Value, json};
use testkit::{ADMIN_TOKEN, Flavor, flavors};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A browser with one page. Dropping it ends its input, upon which the program closes the browser: killed, it
/// would leave that behind.
struct Browser {
    _child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// A program of Debian's.
fn program(name: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/bin").join(name);
    path.is_file().then_some(path)
}

impl Browser {
    /// None where there is no Chromium; in CI there has to be one.
    async fn start() -> Option<Self> {
        let python = testkit::cache_dir().join("drivers/bin/python");
        let found = program("chromium").zip(program("chromedriver")).filter(|_| python.is_file());
        let Some((chromium, driver)) = found else {
            assert!(env::var_os("CI").is_none(), "there is no chromium; scripts/setup.sh drivers");
            println!("skipped: there is no chromium; scripts/setup.sh drivers installs it");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("console/browser.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([chromium, driver])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut browser = Self { _child: child, input, lines: BufReader::new(output).lines() };
        browser.answer("start").await;
        Some(browser)
    }

    async fn answer(&mut self, what: &str) -> Value {
        let line = tokio::time::timeout(3 * PATIENCE, self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("no answer to {what}")).unwrap();
        let line = line.unwrap_or_else(|| panic!("the browser ended at {what}"));
        match line.split_once(' ') {
            None if line == "ok" => Value::Null,
            Some(("ok", answer)) => serde_json::from_str(answer).unwrap(),
            _ => panic!("{what}: {line}"),
        }
    }

    /// Has the browser do something: its name, and its arguments.
    async fn ask(&mut self, order: Value) -> Value {
        let line = format!("{order}\n");
        self.input.write_all(line.as_bytes()).await.unwrap();
        self.answer(&line).await
    }

    async fn wait(&mut self, selector: &str, text: &str) {
        self.ask(json!(["wait_text", selector, text])).await;
    }

    async fn click(&mut self, selector: &str) {
        self.ask(json!(["click", selector])).await;
    }

    /// Nothing is there but what everybody can read, and reach with a keyboard.
    async fn assert_accessible(&mut self, page: &str) {
        for scheme in ["dark", "light"] {
            self.ask(json!(["scheme", scheme])).await;
            assert_eq!(self.ask(json!(["contrast"])).await, json!([]), "{page}, {scheme}");
        }
        assert_eq!(self.ask(json!(["nameless"])).await, json!([]), "{page}");
        for width in [1280, 390] {
            self.ask(json!(["size", width, 900])).await;
            let overflow = self.ask(json!(["overflow"])).await;
            assert!(overflow.as_i64().unwrap() <= 0, "{page}, {width} wide: {overflow}");
        }
        self.ask(json!(["size", 1280, 900])).await;
    }

    /// Keeps pictures of the page where `FAILSOFT_TEST_SHOTS` names a folder.
    async fn keep_pictures(&mut self, name: &str) {
        let Some(folder) = env::var_os("FAILSOFT_TEST_SHOTS") else { return };
        for (kind, width) in [("wide", 1280), ("narrow", 390)] {
            for scheme in ["light", "dark"] {
                self.ask(json!(["scheme", scheme])).await;
                self.ask(json!(["size", width, 900])).await;
                let file = Path::new(&folder).join(format!("{name}-{kind}-{scheme}.png"));
                self.ask(json!(["shot", file])).await;
            }
        }
        self.ask(json!(["scheme", "light"])).await;
        self.ask(json!(["size", 1280, 900])).await;
    }
}

fn url(stack: &Stack, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", stack.failsoft.http_port())
}

/// Gives the order of a button, and waits for what is said of it.
async fn order(browser: &mut Browser, button: &str, token: Option<&str>, said: &str) {
    browser.click(button).await;
    if let Some(token) = token {
        browser.ask(json!(["type", "#order [name=token]", token])).await;
    }
    browser.click("#order button.main").await;
    browser.wait("#told", said).await;
}

/// Scenario: at 3 a.m. somebody looks at the page while the master dies.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_of_a_lost_master_without_being_asked() {
    let Some(mut browser) = Browser::start().await else { return };
    let mut stack = Stack::start(flavors()[0]).await;
    let mut session = stack.session().await;
    assert_eq!(outcome(&mut session, "INSERT INTO t VALUES (2, 'two')").await, "ok");
    browser.ask(json!(["open", url(&stack, "/")])).await;
    let loaded = browser.ask(json!(["reload_count"])).await;
    browser.wait(".partition", "Read-write: statements go to master").await;
    browser.keep_pictures("read-write").await;
    // What is opened stays open while the page changes.
    browser.click(".partition details summary").await;

    stack.pair.master.kill().unwrap();
    browser.wait(".partition", "Read-only since").await;
    browser.wait(".partition", "(severed): master 127.0.0.1:").await;
    browser.wait(".partition", "Reads are served by 127.0.0.1:").await;
    browser.wait("tr.bad", "Failed").await;
    browser.wait("ol.events", "is unhealthy").await;
    let refused = outcome(&mut session, "INSERT INTO t VALUES (3, 'three')").await;
    assert!(refused.starts_with("1290/"), "{refused}");
    let title = browser.ask(json!(["title"])).await;
    assert!(title.as_str().unwrap().starts_with("read-only · Overview · failsoft on "), "{title}");
    browser.wait(".partition details[open] button", "Read-only on").await;
    browser.assert_accessible("lost master").await;
    browser.keep_pictures("master-lost").await;

    stack.pair.master.start_again().await.unwrap();
    browser.wait(".partition", "Read-write: statements go to master").await;
    assert_eq!(browser.ask(json!(["reload_count"])).await, loaded, "it was loaded anew");
    assert_eq!(browser.ask(json!(["complaints"])).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_given_with_the_token_and_refused_without() {
    let Some(mut browser) = Browser::start().await else { return };
    let stack = Stack::start(flavors()[0]).await;
    browser.ask(json!(["open", url(&stack, "/")])).await;
    browser.click(".partition details summary").await;
    let on = ".partition button[data-words*=' on?']";
    let off = ".partition button[data-words*=' off?']";
    order(&mut browser, on, Some("wrong"), "the token is wrong").await;
    browser.wait("ol.events", "was refused to 127.0.0.1:").await;
    stack.wait_mode("read-write", "").await;
    order(&mut browser, on, Some(ADMIN_TOKEN), "Done.").await;
    browser.wait(".partition", "(config): switched on by an operator").await;
    // The token is known from now on.
    order(&mut browser, off, None, "Done.").await;
    browser.wait(".partition", "Read-write").await;
    let replica = format!("button[data-order*='{}/disable']", stack.pair.replica.port());
    order(&mut browser, &replica, None, "Done.").await;
    browser.wait("tr.off", "disabled").await;
    browser.ask(json!(["open", url(&stack, "/events?origin=operator")])).await;
    browser.wait("ol.events", "switched read-only mode of partition default on").await;
    browser.wait("ol.events", "disabled server 127.0.0.1:").await;
    browser.assert_accessible("events").await;
    assert_eq!(browser.ask(json!(["complaints"])).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_given_from_the_keyboard_alone() {
    let Some(mut browser) = Browser::start().await else { return };
    let stack = Stack::start(Flavor::MariaDb).await;
    browser.ask(json!(["open", url(&stack, "/configuration")])).await;
    browser.ask(json!(["press", "TAB"])).await;
    assert_eq!(browser.ask(json!(["focused"])).await, json!("Skip to the content"));
    browser.ask(json!(["press", "ENTER", "TAB", "TAB"])).await;
    assert_eq!(browser.ask(json!(["focused"])).await, json!("Reload the configuration"));
    browser.ask(json!(["press", "ENTER", ADMIN_TOKEN, "ENTER"])).await;
    browser.wait("#told", "Done: nothing is different.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_statements_are_seen_and_a_session_is_ended() {
    let Some(mut browser) = Browser::start().await else { return };
    let stack = Stack::start_with(Flavor::MariaDb, "slow_statement: 100ms").await;
    let mut session = stack.session().await;
    assert_eq!(outcome(&mut session, "BEGIN").await, "ok");
    assert_eq!(outcome(&mut session, "UPDATE t SET v = 'secret' WHERE id = 1").await, "ok");
    let mut other = stack.session().await;
    assert_eq!(outcome(&mut other, "SELECT SLEEP(0.2)").await, "ok");
    assert_eq!(outcome(&mut other, "CREATE TEMPORARY TABLE mine (a INT)").await, "ok");
    browser.ask(json!(["open", url(&stack, "/sessions")])).await;
    browser.wait("tbody", "in transaction").await;
    browser.wait("tbody", "temporary_table").await;
    browser.assert_accessible("sessions").await;
    browser.keep_pictures("sessions").await;
    order(&mut browser, "tbody tr:first-child button", Some(ADMIN_TOKEN), "Done.").await;
    browser.wait("h2", "1 session").await;
    assert_eq!(outcome(&mut session, "COMMIT").await, "closed");
    assert_eq!(outcome(&mut other, "SELECT v FROM t WHERE id = 1").await, "ok");

    browser.ask(json!(["open", url(&stack, "/statements")])).await;
    browser.wait(".statements", "UPDATE t SET v = ? WHERE id = ?").await;
    browser.wait("main", "SELECT SLEEP(?)").await;
    let shown = browser.ask(json!(["text", "main"])).await;
    assert!(!shown.as_str().unwrap().contains("secret"), "{shown}");
    browser.assert_accessible("statements").await;
    browser.keep_pictures("statements").await;
    browser.ask(json!(["type", "[name=explain]", "SELECT 1 FOR UPDATE\n"])).await;
    browser.wait(".lines", "locking read").await;
    browser.wait(".lines", "goes to master 127.0.0.1:").await;
    assert_eq!(browser.ask(json!(["complaints"])).await, json!([]));
}

/// While somebody reads the question the page goes on changing: what is done is what was asked.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_is_what_was_asked() {
    let Some(mut browser) = Browser::start().await else { return };
    let stack = Stack::start(Flavor::MariaDb).await;
    let mut meant = stack.session().await;
    assert_eq!(outcome(&mut meant, "BEGIN").await, "ok");
    assert_eq!(outcome(&mut meant, "SELECT 1").await, "ok");
    browser.ask(json!(["open", url(&stack, "/sessions")])).await;
    browser.wait("tbody", "in transaction").await;
    browser.click("tbody tr:first-child button").await;
    // Others come, and one of them is where the first row was.
    let mut busy = stack.session().await;
    let busy = tokio::spawn(async move { outcome(&mut busy, "SELECT SLEEP(20)").await });
    browser.wait("tbody tr:first-child", "running").await;
    browser.ask(json!(["type", "#order [name=token]", ADMIN_TOKEN])).await;
    browser.click("#order button.main").await;
    browser.wait("#told", "Done.").await;
    assert_eq!(outcome(&mut meant, "SELECT 1").await, "closed");
    assert_eq!(busy.await.unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_essentials_need_no_script() {
    let Some(mut browser) = Browser::start().await else { return };
    let mut stack = Stack::start(Flavor::MariaDb).await;
    browser.ask(json!(["scripts_off"])).await;
    browser.ask(json!(["open", url(&stack, "/")])).await;
    stack.pair.master.kill().unwrap();
    // It loads itself anew.
    browser.wait(".partition", "Read-only since").await;
    browser.wait("main", "Without a script this page reloads itself").await;
}
