//! What MariaDB's own tests send hides no write from us.
//!
//! Every case of its `main` suite is run, and each statement is overheard on the wire, as its client
//! sent it: with its delimiters resolved, in its character set, with its comments. Those that are
//! no writes for `sql::classify` in any of the readings that failsoft considers are then asked of
//! servers with `read_only`, by an account without special rights: in each `sql_mode` that changes
//! how a text is read, and in each character set that does. What a server refuses for being a write
//! is a mistake.
//!
//! Servers say so before they look for tables, so that it does not matter that there are none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sql::{Dialect, Effects, Kind, classify};
use testkit::{Flavor, Options, ROOT, Server, conn, execute, flavors};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::run::{Verdict, judge, judge_all};
use super::source::Source;
use super::tap::{Heard, Statement, UNSAFE};

/// How many different statements have to be asked.
const LEAST: usize = 10_000;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);
const USER: &str = "oracle";

/// How a server is to read a statement.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Reading {
    charset: String,
    sql_mode: &'static str,
}

/// Whether the charset has characters whose second byte looks like ASCII; failsoft takes one that
/// it does not know for such a one.
fn is_unsafe(charset: &str) -> bool {
    charset.is_empty() || charset == "gb18030" || UNSAFE.iter().any(|(name, _)| *name == charset)
}

/// Whether failsoft may send it to a replica: whatever the session's `sql_mode`, it reads no write.
fn may_go_to_a_replica(sql: &[u8], charset: &str) -> bool {
    [(false, false), (true, false), (false, true), (true, true)].iter().all(
        |&(ansi_quotes, no_backslash_escapes)| {
            let unsafe_charset = is_unsafe(charset);
            let dialect = Dialect { ansi_quotes, no_backslash_escapes, unsafe_charset };
            let statement = classify(sql, dialect);
            !matches!(statement.class.kind, Kind::Write | Kind::LockingRead)
                && !statement.effects.intersects(Effects::UNKNOWN_FUNCTION.union(Effects::KILL))
        },
    )
}

/// The ways to read a statement that may differ.
fn readings(charset: &str, sql: &[u8], flavor: Flavor) -> Vec<Reading> {
    let has = |byte: u8| sql.contains(&byte);
    let mut modes = vec![""];
    if has(b'"') {
        modes.push("ANSI_QUOTES");
    }
    if has(b'\\') {
        modes.push("NO_BACKSLASH_ESCAPES");
    }
    if has(b'"') && has(b'\\') {
        modes.push("ANSI_QUOTES,NO_BACKSLASH_ESCAPES");
    }
    if sql.windows(2).any(|pair| pair[1] == b'(' && pair[0].is_ascii_whitespace()) {
        modes.push("IGNORE_SPACE");
    }
    // It has statements of its own, and reads the letters of others as ever.
    let is_read = classify(sql, Dialect::default()).class.kind == Kind::Read;
    if flavor == Flavor::MariaDb && !is_read {
        modes.push("ORACLE");
    }
    let mut charsets = vec![if charset.is_empty() { "utf8mb4" } else { charset }];
    if !sql.is_ascii() {
        charsets.extend(UNSAFE.iter().map(|(name, _)| *name));
        charsets.extend((flavor == Flavor::MySql).then_some("gb18030"));
    }
    let all = charsets.iter().flat_map(|charset| {
        modes.iter().map(|sql_mode| Reading { charset: (*charset).to_owned(), sql_mode })
    });
    all.filter(|reading| may_go_to_a_replica(sql, &reading.charset)).collect()
}

/// A server with `read_only`, and a session of an account without special rights.
struct Oracle {
    server: Server,
    session: Option<(Reading, Conn)>,
}

impl Oracle {
    async fn start(flavor: Flavor) -> Self {
        let server = Server::start(flavor, Options::default()).await.unwrap();
        let mut root = conn(server.port(), ROOT.user, ROOT.pass, None).await.unwrap();
        for statement in [
            "CREATE DATABASE test",
            "CREATE USER oracle IDENTIFIED BY 'oracle'",
            "GRANT ALL PRIVILEGES ON test.* TO oracle",
            "SET GLOBAL read_only = ON",
        ] {
            execute(&mut root, statement).await;
        }
        Self { server, session: None }
    }

    /// A session in which statements are read so; none where this server knows no such way.
    async fn session(&mut self, reading: &Reading) -> Option<Conn> {
        if let Some((last, session)) = self.session.take()
            && last == *reading
        {
            return Some(session);
        }
        let mut session = conn(self.server.port(), USER, USER, Some("test")).await.unwrap();
        let limit = match self.server.flavor() {
            Flavor::MariaDb => "max_statement_time = 2",
            Flavor::MySql => "max_execution_time = 2000",
        };
        let Reading { charset, sql_mode } = reading;
        let set = format!("SET {limit}, sql_mode = '{sql_mode}', NAMES {charset}");
        session.query_drop(set).await.ok()?;
        Some(session)
    }

    /// Whether it refuses a statement for being a write.
    async fn refuses(&mut self, reading: &Reading, sql: &[u8]) -> bool {
        let Some(mut session) = self.session(reading).await else { return false };
        let outcome = tokio::time::timeout(PATIENCE, session.query_drop(sql)).await;
        let statement = classify(sql, Dialect::default());
        let leaves_nothing = statement.class.kind == Kind::Read && statement.effects.is_empty();
        match outcome {
            Ok(Err(mysql_async::Error::Server(error))) => {
                if leaves_nothing {
                    self.session = Some((reading.clone(), session));
                }
                let is_read_only = error.code == 1290 && error.message.contains("read-only");
                is_read_only || matches!(error.code, 1792 | 1836)
            }
            Ok(Ok(())) if leaves_nothing => {
                self.session = Some((reading.clone(), session));
                false
            }
            _ => false,
        }
    }
}

/// Asks a server of one flavour; the mistakes, and how often it was asked.
async fn ask(flavor: Flavor, heard: Arc<BTreeSet<Statement>>) -> (Vec<String>, usize) {
    let mut oracle = Oracle::start(flavor).await;
    let mut questions = BTreeSet::new();
    for (charset, sql) in heard.iter() {
        for reading in readings(charset, sql, flavor) {
            questions.insert((reading, sql));
        }
    }
    let mut mistakes = Vec::new();
    for (reading, sql) in &questions {
        if oracle.refuses(reading, sql).await {
            let Reading { charset, sql_mode } = reading;
            let text = String::from_utf8_lossy(sql);
            mistakes.push(format!("{flavor}, {charset}, '{sql_mode}': {text}"));
        }
    }
    println!("{flavor}: asked {} times", questions.len());
    (mistakes, questions.len())
}

#[test]
#[ignore = "takes a quarter of an hour: make suite-test"]
fn nothing_that_mariadbs_own_tests_send_hides_a_write() {
    let Some(source) = Source::find() else { return };
    let cases = source.all_cases().into_iter().map(|case| case.completed(&source)).collect();
    let heard = Heard::default();
    let verdicts = judge_all(&source, cases, async |bench: &mut _, case: &_| {
        judge::overheard(bench, case, &heard).await
    });
    let passed = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Passed)).count();
    let heard = heard.take();
    let reads = heard.iter().filter(|(charset, sql)| may_go_to_a_replica(sql, charset)).count();
    println!(
        "{} cases, of which {passed} pass, send {} different statements; {reads} may go to a replica",
        verdicts.len(),
        heard.len()
    );
    let heard = Arc::new(heard);
    let asking = flavors().into_iter().map(|flavor| ask(flavor, Arc::clone(&heard)));
    let answers =
        Runtime::new().unwrap().block_on(async { asking.collect::<JoinSet<_>>().join_all().await });
    let mut mistakes = Vec::new();
    for (wrong, asked) in answers {
        // Whoever names some cases has few.
        assert!(verdicts.len() < 500 || asked >= LEAST, "only {asked} questions");
        mistakes.extend(wrong);
    }
    assert!(
        mistakes.is_empty(),
        "{} writes called reads:\n{}",
        mistakes.len(),
        mistakes.join("\n")
    );
}
