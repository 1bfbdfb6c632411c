//! What is a write is decided by servers, not by opinion.
//!
//! Every statement of `corpus/`, in several disguises, and a `SET` and a `SELECT` of every session
//! variable, is run by an account without special rights
//!
//! - on a server with `read_only`: what it refuses for that reason has to be a write or a locking
//!   read for `sql::classify` too, and what it runs although we call it a write has to be among
//!   [`STRICTER`], which says why;
//! - on a writable server, if it is neither a write nor a locking read for us: it must not leave a
//!   trace in the binary log.
//!
//! The only statements that are refused and that we call reads are those with a stored function:
//! whether one writes cannot be seen in the text, and the server decides. `sql` marks them as such,
//! except where a view calls the function, which cannot be seen either ([`HIDDEN`]).
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sql::{Dialect, Effects, Kind, Statement, classify};
use testkit::{Flavor, Options, ROOT, Server, conn, execute, flavors, query_one};

/// The statements, one a line.
const CORPUS: &[&str] = &[
    include_str!("../corpus/reads.sql"),
    include_str!("../corpus/locking.sql"),
    include_str!("../corpus/writes.sql"),
    include_str!("../corpus/session.sql"),
];

/// How many different statements each flavour has to be asked.
const LEAST: usize = 2_000;
/// How many of them, in percent, must be run or be refused for being writes. The others are not of
/// this flavour, or need rights that only an administrator has.
const LEAST_DECISIVE: usize = 60;
/// How long one statement may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What we do not send to a replica although a server with `read_only` runs it, by the words that
/// decided, and why.
const STRICTER: &[(&str, &str)] = &[
    ("ANALYZE TABLE", "changes statistics, and is refused where it would be logged"),
    ("BACKUP", "holds up the server's other sessions"),
    ("BEGIN of a block", "its statements are not looked at"),
    ("CACHE", "changes the server's caches for everybody"),
    ("CALL", "what the procedure does cannot be seen"),
    ("CHECK", "may mark a table as corrupt, or upgrade it"),
    ("CREATE TEMPORARY", "the table must be where its session's writes are"),
    ("DO with a stored function", "nothing but the effect of such a call can be wanted"),
    ("DROP TEMPORARY", "the table is where its session's writes are"),
    ("EXECUTE", "what was prepared is not remembered here"),
    ("EXECUTE IMMEDIATE", "what it runs may be in a variable"),
    ("FLUSH", "is for the server that it was meant for; some of it is logged"),
    ("FOR SHARE", "locks rows that a write is to follow"),
    ("FOR UPDATE", "locks rows, if it reads any; pools probe for read-only servers with it"),
    ("GET_LOCK", "a lock is one only if everybody asks the same server"),
    ("INSERT", "the table may be a temporary one, but that cannot be seen"),
    ("INTO", "writes a file on the server"),
    ("LOAD INDEX", "changes the server's caches for everybody"),
    ("LOCK IN SHARE MODE", "locks rows that a write is to follow"),
    ("RELEASE_ALL_LOCKS", "goes where the lock was taken"),
    ("RELEASE_LOCK", "goes where the lock was taken"),
    ("REPAIR", "changes the table's files"),
    ("RESET", "is for the server that it was meant for"),
    ("UPDATE", "names a clause of ANALYZE TABLE, if what stands before that is executed"),
    ("XA", "a prepared transaction outlives its session"),
    ("executable comments", "without what is in them the statement is another one"),
    ("unknown statement", "what is not known is a write"),
];

/// What opens the comments that cut a statement in two.
const CUT: &str = "/*!50000 ";

/// What opens a comment that only MariaDB executes.
const MARIADB_ONLY: &str = "/*M! ";

/// A view that calls a function that writes.
const HIDDEN: &str = "v_write";

/// What a server had to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// It ran.
    Allowed,
    /// Refused because it would write.
    Refused,
    /// Failed for another reason, which says nothing.
    Undecided,
}

/// A server with something to read and to write, and the account that is asked.
struct Oracle {
    server: Server,
    root: Conn,
    session: Option<Conn>,
}

const USER: &str = "oracle";

impl Oracle {
    async fn start(flavor: Flavor) -> Self {
        let server = Server::start(flavor, Options::default()).await.unwrap();
        let mut root = conn(server.port(), ROOT.user, ROOT.pass, Some("app")).await.unwrap();
        for statement in SETUP {
            execute(&mut root, statement).await;
        }
        let own: &[&str] = match flavor {
            Flavor::MariaDb => &["CREATE SEQUENCE s"],
            Flavor::MySql => &["CREATE TABLE s (next_val INT)"],
        };
        for statement in own {
            execute(&mut root, statement).await;
        }
        Self { server, root, session: None }
    }

    /// Runs a statement as the application would.
    async fn ask(&mut self, statement: &str, keeps_session: bool) -> Verdict {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => conn(self.server.port(), USER, USER, Some("app")).await.unwrap(),
        };
        let outcome = tokio::time::timeout(PATIENCE, session.query_drop(statement)).await;
        match outcome.unwrap_or_else(|_| panic!("`{statement}` takes for ever")) {
            Ok(()) => {
                self.session = keeps_session.then_some(session);
                Verdict::Allowed
            }
            Err(mysql_async::Error::Server(error)) => {
                let is_refused = match error.code {
                    1290 => error.message.contains("read-only"),
                    1792 | 1836 => true,
                    _ => false,
                };
                if is_refused { Verdict::Refused } else { Verdict::Undecided }
            }
            Err(_) => Verdict::Undecided,
        }
    }

    /// What the binary log has so far.
    async fn log_position(&mut self) -> String {
        let variable = match self.server.flavor() {
            Flavor::MariaDb => "SELECT @@gtid_binlog_pos",
            Flavor::MySql => "SELECT @@gtid_executed",
        };
        query_one(&mut self.root, variable).await
    }

    /// The statements to ask it: distinct, in the corpus' order.
    async fn statements(&mut self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut statements = Vec::new();
        let lines = CORPUS.iter().flat_map(|file| file.lines());
        let mut all: Vec<String> = lines.flat_map(disguises).collect();
        let names: Vec<(String, String)> = self.root.query("SHOW SESSION VARIABLES").await.unwrap();
        for (name, _) in names {
            all.push(format!("SELECT @@{name}"));
            all.push(format!("SET SESSION {name} = @@session.{name}"));
            all.push(format!("SET @@{name} = DEFAULT"));
        }
        for statement in all {
            if seen.insert(statement.clone()) {
                statements.push(statement);
            }
        }
        statements
    }
}

/// What the corpus works on.
const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b VARCHAR(50))",
    "CREATE TABLE u (id INT PRIMARY KEY, a INT, KEY i (a))",
    "CREATE TABLE w (id INT PRIMARY KEY, a INT, b VARCHAR(50))",
    "CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM",
    "CREATE TABLE `select` (`update` INT, `delete` INT, `insert` INT, `into` INT)",
    "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')",
    "INSERT INTO u VALUES (1, 1), (2, 3)",
    "INSERT INTO m VALUES (1)",
    "CREATE VIEW v AS SELECT a FROM t",
    "CREATE DATABASE app_other",
    "CREATE DATABASE app_drop",
    "CREATE FUNCTION f_read(x INT) RETURNS INT DETERMINISTIC RETURN x + 1",
    "CREATE FUNCTION f_write(x INT) RETURNS INT MODIFIES SQL DATA \
     BEGIN INSERT INTO u VALUES (x + 1000, x) ON DUPLICATE KEY UPDATE a = x; RETURN x; END",
    "CREATE VIEW v_write AS SELECT f_write(a) FROM t",
    "CREATE PROCEDURE p_read() SELECT 1",
    "CREATE PROCEDURE p_write() INSERT INTO t (a) VALUES (1)",
    "CREATE PROCEDURE p_out(OUT x INT) SET x = 1",
    "CREATE TRIGGER tr BEFORE UPDATE ON u FOR EACH ROW SET NEW.a = 1",
    "CREATE USER oracle IDENTIFIED BY 'oracle'",
    "GRANT ALL PRIVILEGES ON app.* TO oracle",
    "GRANT ALL PRIVILEGES ON `app\\_%`.* TO oracle",
    "GRANT CREATE USER, FILE, PROCESS, RELOAD, REPLICATION CLIENT, SHOW DATABASES ON *.* TO oracle",
];

/// One statement as different people would write it.
fn disguises(statement: &str) -> Vec<String> {
    let mut all = vec![
        statement.to_owned(),
        statement.to_lowercase(),
        statement.replace(' ', "\n\t"),
        statement.replace(' ', "/* x' */"),
        format!("/* UPDATE */ {statement};"),
        format!("SELECT 1; {statement}"),
    ];
    if !statement.contains("*/") {
        all.push(format!("/*! {statement} */"));
        all.push(format!("/*!99999 SELECT 1 */ {statement}"));
        all.push(format!("{MARIADB_ONLY}{statement} */"));
    }
    let verb = statement.split(' ').next().unwrap_or_default();
    let (head, tail) = statement.split_at(verb.len());
    all.push(format!("{CUT}{head} */{tail}"));
    all.push(format!("{head} {CUT}{tail}*/"));
    if ["SELECT", "TABLE", "VALUES", "WITH"].contains(&verb) {
        all.push(format!("({statement})"));
        all.push(format!("SELECT * FROM ({statement}) disguise"));
        all.push(format!("SELECT 1 UNION ({statement})"));
        all.push(format!("CREATE TEMPORARY TABLE n AS {statement}"));
        all.push(format!("INSERT INTO w {statement}"));
    }
    if ["SELECT", "TABLE", "VALUES", "WITH", "INSERT", "REPLACE", "UPDATE", "DELETE"]
        .contains(&verb)
    {
        for prefix in ["EXPLAIN", "EXPLAIN FORMAT=JSON", "DESC", "EXPLAIN ANALYZE", "ANALYZE"] {
            all.push(format!("{prefix} {statement}"));
        }
        all.push(format!("SET STATEMENT max_statement_time=10 FOR {statement}"));
        all.push(format!("{head} /*+ MAX_EXECUTION_TIME(10000) */{tail}"));
    }
    all
}

/// Whether a statement must not be sent to a replica.
fn is_for_master(statement: Statement) -> bool {
    matches!(statement.class.kind, Kind::Write | Kind::LockingRead)
}

/// Whether the next statement is not affected by this one.
fn keeps_session(statement: Statement) -> bool {
    statement.class.kind == Kind::Read && statement.effects.is_empty()
}

/// What was found on one server.
#[derive(Default)]
struct Report {
    verdicts: BTreeMap<(&'static str, Verdict), usize>,
    stricter: BTreeMap<&'static str, usize>,
    functions: usize,
    mistakes: Vec<String>,
}

impl Report {
    fn add(&mut self, sql: &str, ours: Statement, verdict: Verdict) {
        let Statement { class, effects } = ours;
        *self.verdicts.entry((class.kind.name(), verdict)).or_default() += 1;
        match verdict {
            Verdict::Refused if is_for_master(ours) => {}
            Verdict::Refused if effects.contains(Effects::UNKNOWN_FUNCTION) => self.functions += 1,
            Verdict::Refused if sql.contains(HIDDEN) => self.functions += 1,
            Verdict::Refused => {
                self.mistakes.push(format!("a write is called a {}: {sql}", class.kind.name()));
            }
            Verdict::Allowed if is_for_master(ours) => {
                // With an executable comment it is judged by the worse of what it may be.
                let is_cut = sql.contains(CUT) || sql.contains(MARIADB_ONLY);
                let because = if is_cut { "executable comments" } else { class.because };
                *self.stricter.entry(because).or_default() += 1;
                if !STRICTER.iter().any(|(other, _)| *other == because) {
                    self.mistakes.push(format!("{:?} is not justified: {sql}", class.because));
                }
            }
            Verdict::Allowed | Verdict::Undecided => {}
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.verdicts.iter().filter(|((_, other), _)| *other == verdict).map(|(_, n)| n).sum()
    }

    fn print(&self, flavor: Flavor) {
        let [allowed, refused, undecided] =
            [Verdict::Allowed, Verdict::Refused, Verdict::Undecided]
                .map(|verdict| self.count(verdict));
        println!(
            "{flavor}: {} statements: {allowed} run, {refused} refused, {undecided} undecided; \
             {} refused for what a stored function does",
            allowed + refused + undecided,
            self.functions
        );
        for kind in Kind::ALL {
            let counts = [Verdict::Allowed, Verdict::Refused, Verdict::Undecided]
                .map(|verdict| self.verdicts.get(&(kind.name(), verdict)).copied().unwrap_or(0));
            println!(
                "  {:<14}{:>6} run{:>6} refused{:>6} undecided",
                kind.name(),
                counts[0],
                counts[1],
                counts[2]
            );
        }
        for (because, count) in &self.stricter {
            let why =
                STRICTER.iter().find(|(other, _)| other == because).map_or("", |(_, why)| why);
            println!("  stricter than the server: {count:>4} × {because}: {why}");
        }
    }
}

/// The part of the test that runs on a writable server.
async fn nothing_but_writes_is_logged(oracle: &mut Oracle, statements: &[String]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut asked = 0;
    let mut before = oracle.log_position().await;
    for sql in statements {
        let ours = classify(sql.as_bytes(), Dialect::default());
        let may_call = ours.effects.contains(Effects::UNKNOWN_FUNCTION) || sql.contains(HIDDEN);
        if is_for_master(ours) || may_call {
            continue;
        }
        oracle.ask(sql, keeps_session(ours)).await;
        let after = oracle.log_position().await;
        if after != before {
            mistakes.push(format!("a {} is logged: {sql}", ours.class.kind.name()));
        }
        before = after;
        asked += 1;
    }
    println!(
        "{}: {asked} statements that we call no writes are not logged",
        oracle.server.flavor()
    );
    mistakes
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_agree_on_what_is_a_write() {
    let flavors = flavors();
    let mut needed = BTreeSet::new();
    for &flavor in &flavors {
        let mut oracle = Oracle::start(flavor).await;
        let statements = oracle.statements().await;
        let logged = nothing_but_writes_is_logged(&mut oracle, &statements).await;
        assert!(logged.is_empty(), "{flavor}:\n{}", logged.join("\n"));

        oracle.session = None;
        execute(&mut oracle.root, "SET GLOBAL read_only = ON").await;
        let mut report = Report::default();
        for sql in &statements {
            let ours = classify(sql.as_bytes(), Dialect::default());
            let verdict = oracle.ask(sql, keeps_session(ours)).await;
            report.add(sql, ours, verdict);
        }
        report.print(flavor);
        needed.extend(report.stricter.keys().copied());
        assert!(report.mistakes.is_empty(), "{flavor}:\n{}", report.mistakes.join("\n"));
        assert!(statements.len() >= LEAST, "{flavor}: only {} statements", statements.len());
        let decisive = statements.len() - report.count(Verdict::Undecided);
        assert!(
            decisive * 100 >= statements.len() * LEAST_DECISIVE,
            "{flavor}: {decisive} decisive"
        );
    }
    if flavors.len() == Flavor::all().len() {
        let idle: Vec<_> =
            STRICTER.iter().filter(|(because, _)| !needed.contains(because)).collect();
        assert!(idle.is_empty(), "exceptions that no statement needs any more: {idle:?}");
    }
}
