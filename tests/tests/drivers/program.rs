//! A driver's program that runs: what it says, and the steps at which it waits for us.

use std::collections::BTreeMap;
use std::process::Stdio;

use failsoft_tests::PATIENCE;
use testkit::APP;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::list::Driver;

/// What a program said of each step; a step that it said twice has both, in order.
pub(crate) type Said = BTreeMap<String, String>;

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    pub(crate) driver: Driver,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// The step at which it waits; `None` when it is through.
    waits_at: Option<String>,
    pub(crate) said: Said,
}

impl Program {
    /// Starts one part of a driver's program against a server on loopback.
    pub(crate) fn start(driver: Driver, part: &str, port: u16, load_file: &str) -> Self {
        let mut command = Command::from(driver.command());
        command.arg(part).kill_on_drop(true);
        command.env("DB_HOST", "127.0.0.1").env("DB_PORT", port.to_string());
        command.env("DB_USER", APP.user).env("DB_PASS", APP.pass);
        command.env("DB_NAME", driver.schema()).env("LOAD_FILE", load_file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", driver.name));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let lines = BufReader::new(output).lines();
        Self { driver, child, input, lines, waits_at: None, said: Said::new() }
    }

    /// Reads what it says, up to the next step at which it waits, or to its end.
    pub(crate) async fn read(&mut self) {
        self.waits_at = None;
        while let Some(line) = self.line().await {
            match line.strip_prefix("ready ") {
                Some(step) => return self.waits_at = Some(step.to_owned()),
                None => self.note(&line),
            }
        }
        self.end().await;
    }

    async fn line(&mut self) -> Option<String> {
        let line = timeout(2 * PATIENCE, self.lines.next_line()).await;
        let name = self.driver.name;
        let line = line.unwrap_or_else(|_| panic!("{name} says no more: {:?}", self.said));
        line.expect("text")
    }

    /// Whether it waits at this step, or went on from it and was not read since.
    pub(crate) fn waits_at(&self, step: &str) -> bool {
        self.waits_at.as_deref() == Some(step)
    }

    /// Lets it go on.
    pub(crate) async fn release(&mut self) {
        self.input.write_all(b"go\n").await.unwrap_or_else(|error| {
            panic!("{} ended early: {error}: {:?}", self.driver.name, self.said)
        });
    }

    fn note(&mut self, line: &str) {
        let (step, value) = line.split_once('\t').unwrap_or(("noise", line));
        let said = self.said.entry(step.to_owned()).or_default();
        if !said.is_empty() {
            said.push_str(" ; ");
        }
        said.push_str(value);
    }

    async fn end(&mut self) {
        let mut complaint = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut complaint).await.unwrap();
        }
        let status = self.child.wait().await.unwrap();
        if !status.success() {
            self.said.insert("end".to_owned(), format!("{status}: {}", complaint.trim()));
        }
    }
}
