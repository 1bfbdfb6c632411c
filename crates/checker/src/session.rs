//! One client: runs its scripts, believes what it is told, and writes it down.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use tokio::time::sleep;

use crate::field::Field;
use crate::promise::{Meaning, Outcome};
use crate::reads::{self, Memory, mark};
use crate::script::{Author, Script, Statement, Way};
use crate::trial::{After, Asked, Role, Trial};
use crate::unit::{Line, Unit};
use crate::wire::{self, Heard};

/// The pause between two attempts to log in while failsoft is down.
const LOGIN_PAUSE: Duration = Duration::from_millis(20);
/// How long failsoft may keep a client out while nobody stops it.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// How a session behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// The port it connects to.
    pub port: u16,
    /// What its scripts are drawn from.
    pub seed: u64,
    /// The mean pause between two units.
    pub think: Duration,
}

/// A client's session, over all its connections.
struct Session {
    field: Arc<Field>,
    habits: Habits,
    author: Author,
    connection: Option<Conn>,
    /// Which life of failsoft the connection was made in.
    generation: u64,
    /// An error was heard after which the connection may end.
    may_close: bool,
    memory: Memory,
    units: u64,
}

/// Runs the session of this number until the field is over.
pub(crate) async fn run(field: Arc<Field>, number: u64, habits: Habits) {
    let author = Author::new(number, habits.seed);
    let mut session = Session {
        field,
        habits,
        author,
        connection: None,
        generation: 0,
        may_close: false,
        memory: Memory::default(),
        units: 0,
    };
    while !session.field.is_over() {
        let script = session.author.draw();
        session.unit(script).await;
        for _ in 0..session.author.rng().u8(1..4) {
            session.read().await;
        }
        session.think().await;
    }
    if let Some(connection) = session.connection.take() {
        // It may have been closed by failsoft.
        drop(connection.disconnect().await);
    }
}

impl Session {
    /// Runs a unit to its end and enters it in the books.
    async fn unit(&mut self, script: Script) {
        let mut trial = Trial::default();
        let mut lines = Vec::new();
        let mut after = After::Done;
        for statement in &script.statements {
            let heard = self.say(statement, &mut lines).await;
            after = self.conclude(&mut trial, statement, &heard, &lines);
            if after != After::Next {
                break;
            }
            if self.field.is_idle() {
                self.pause().await;
            }
        }
        let was_broken_off = after != After::Next;
        self.clean_up(after, &mut lines).await;
        if was_broken_off && script.leaves_state {
            self.hang_up().await;
        }
        let (told, verdict) = trial.conclude(script.steps.len());
        self.units += 1;
        let unit = Unit {
            session: self.author.session(),
            number: self.units,
            form: script.form,
            steps: script.steps,
            never: script.never,
            counted: script.counted,
            told,
            verdict,
            lines,
        };
        self.memory.note(&unit);
        self.field.books().enter(unit);
    }

    /// What follows from an answer; a broken promise is recorded.
    fn conclude(
        &self,
        trial: &mut Trial,
        statement: &Statement,
        heard: &Heard,
        lines: &[Line],
    ) -> After {
        if let Some(what) = unexpected(statement, heard) {
            self.report(&what, lines);
        }
        match trial.hear(&statement.asked, heard.results, &heard.outcome) {
            Ok(after) => after,
            Err(what) => {
                self.report(&what, lines);
                // Whatever it was, nobody knows what became of the statement.
                let closed = trial.hear(&statement.asked, heard.results, &Outcome::Closed);
                closed.unwrap_or(After::Reconnect)
            }
        }
    }

    /// Leaves the session as a careful application would.
    async fn clean_up(&mut self, after: After, lines: &mut Vec<Line>) {
        match after {
            After::Next | After::Done => {}
            After::Reconnect => self.hang_up().await,
            After::RollBack { told } => {
                if told && self.author.rng().u8(0..3) == 0 {
                    self.commit_in_vain(lines).await;
                }
                let heard = self.say(&plain("ROLLBACK", Role::Rollback), lines).await;
                let asked = plain("ROLLBACK", Role::Rollback).asked;
                match Trial::default().hear(&asked, heard.results, &heard.outcome) {
                    Ok(After::Next) => {}
                    Ok(_) => self.hang_up().await,
                    Err(what) => {
                        self.report(&what, lines);
                        self.hang_up().await;
                    }
                }
            }
        }
    }

    /// COMMIT after 1213 never answers OK.
    async fn commit_in_vain(&mut self, lines: &mut Vec<Line>) {
        let heard = self.say(&plain("COMMIT", Role::Commit), lines).await;
        match heard.outcome {
            Outcome::Error { code: 1213, .. } | Outcome::Closed => {}
            outcome if outcome.promise().is_some_and(|promise| promise.may_close) => {}
            outcome => {
                let what = format!("COMMIT after a lost transaction: {}", outcome.words());
                self.report(&what, lines);
            }
        }
    }

    /// Reads, and looks at what came.
    async fn read(&mut self) {
        let session = self.author.session();
        let read = reads::draw(self.author.rng(), session, &self.memory);
        let mut lines = Vec::new();
        let before = self.field.master();
        let heard = self.say(&read.statement, &mut lines).await;
        let master = (before == self.field.master()).then_some(before & 0xffff_ffff);
        let is_whole = heard.outcome == Outcome::Ok;
        let checked = read.check(&heard.rows, is_whole, master, &self.memory);
        match (reads::may_end(&heard.outcome), &checked) {
            (Err(what), _) => self.report(&what, &lines),
            (_, Err(what)) => self.report(what, &lines),
            _ => {}
        }
        {
            let mut books = self.field.books();
            match (is_whole, checked) {
                (true, Ok(Some(server))) => {
                    *books.reads.entry(server).or_default() += 1;
                    *books.read_by.entry(session).or_default() += 1;
                }
                _ => *books.read_errors.entry(short(&heard.outcome)).or_default() += 1,
            }
        }
        let ends = heard.outcome.promise().is_some_and(|promise| promise.may_close);
        if heard.outcome == Outcome::Closed && !read.is_long() {
            self.may_have_closed(&lines);
        }
        if heard.outcome == Outcome::Closed || ends || checked_out(&heard.outcome) {
            self.hang_up().await;
        }
    }

    /// Sends a statement and writes down how it ended.
    async fn say(&mut self, statement: &Statement, lines: &mut Vec<Line>) -> Heard {
        self.log_in().await;
        let sent = self.field.now();
        let Some(connection) = self.connection.as_mut() else {
            return Heard { outcome: Outcome::Closed, results: 0, rows: Vec::new(), changed: 0 };
        };
        let heard = wire::run(connection, statement).await;
        let answered = self.field.now();
        lines.push(Line { sent, answered, text: words_of(statement), heard: words(&heard) });
        {
            let mut books = self.field.books();
            books.took(answered - sent, &statement.text);
            if let Outcome::Error { .. } = heard.outcome {
                let weather = books.weather;
                let (times, first) = books.errors.entry(short(&heard.outcome)).or_default();
                *times += 1;
                if *times == 1 {
                    *first = format!("{weather}: {}", lines.last().map(show).unwrap_or_default());
                }
            }
        }
        if heard.outcome == Outcome::Closed && statement.asked.role != Role::Read {
            self.may_have_closed(lines);
        }
        if heard.outcome != Outcome::Closed {
            self.may_close = heard.outcome.promise().is_some_and(|promise| promise.may_close);
        }
        heard
    }

    /// A connection may end when failsoft does, or after an error that says so.
    fn may_have_closed(&self, lines: &[Line]) {
        let excused = self.may_close || self.field.is_cutting();
        if !excused && self.generation == self.field.generation() {
            self.report("the connection ended without a word", lines);
        }
    }

    fn report(&self, what: &str, lines: &[Line]) {
        self.field.broken(|| {
            let session = self.author.session();
            let mut text = format!("session {session}: {what}");
            for line in lines {
                text.push_str(&format!("\n    {}", show(line)));
            }
            text
        });
    }

    async fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(tokio::time::timeout(Duration::from_secs(1), connection.disconnect()).await);
        }
    }

    /// Makes sure of a connection, and sets what reads look for.
    async fn log_in(&mut self) {
        let began = self.field.now();
        while self.connection.is_none() {
            let generation = self.field.generation();
            match self.try_log_in().await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    (self.generation, self.may_close) = (generation, false);
                    self.field.books().logins += 1;
                }
                Err(outcome) => {
                    let was_up =
                        generation.is_multiple_of(2) && generation == self.field.generation();
                    // What a driver asks first may be lost, or cut in the midst of its answer.
                    let excused = outcome.promise().is_some_and(|promise| {
                        promise.code == 1053 || promise.meaning == Meaning::Interrupted
                    });
                    if was_up && !excused {
                        self.report(&format!("login: {}", outcome.words()), &[]);
                    }
                    if self.field.now() - began > LOGIN_LIMIT {
                        self.report("no login within the limit", &[]);
                        return;
                    }
                    sleep(LOGIN_PAUSE).await;
                }
            }
        }
    }

    async fn try_log_in(&self) -> Result<Conn, Outcome> {
        let mut connection = wire::log_in(self.habits.port).await?;
        let session = self.author.session();
        let value = mark(session);
        for text in [format!("SET @me = {session}"), format!("SET lock_wait_timeout = {value}")] {
            let heard = wire::run(&mut connection, &plain(&text, Role::SetUp)).await;
            if heard.outcome != Outcome::Ok {
                return Err(heard.outcome);
            }
        }
        Ok(connection)
    }

    /// Some pause around the usual one.
    async fn think(&mut self) {
        if self.field.is_idle() {
            return self.pause().await;
        }
        let share = self.author.rng().f64() * 2.0;
        sleep(self.habits.think.mul_f64(share)).await;
    }

    /// A pause that servers who are told so do not bear.
    async fn pause(&mut self) {
        let millis = self.author.rng().u64(1_000..2_500);
        sleep(Duration::from_millis(millis)).await;
    }
}

/// A statement line for people.
pub(crate) fn show(line: &Line) -> String {
    let (sent, took) = (line.sent.as_secs_f64(), line.answered - line.sent);
    format!("{sent:10.3} +{:.3} {} -> {}", took.as_secs_f64(), line.text, line.heard)
}

/// What an OK must not say.
fn unexpected(statement: &Statement, heard: &Heard) -> Option<String> {
    if heard.outcome != Outcome::Ok {
        return None;
    }
    if let Some(changes) = statement.changes.filter(|&changes| changes != heard.changed) {
        return Some(format!("{} rows changed instead of {changes}", heard.changed));
    }
    let answers = statement.answers.as_ref()?;
    let answered: Vec<_> = heard.rows.iter().map(|row| reads::text(row, 0)).collect();
    (answered != [answers.clone()]).then(|| format!("{answered:?} instead of {answers}"))
}

/// Whether a connection is of no more use after this.
const fn checked_out(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Late | Outcome::Malformed(_))
}

fn words(heard: &Heard) -> String {
    let rows = heard.rows.len();
    format!("{} ({} results, {rows} rows)", heard.outcome.words(), heard.results)
}

fn words_of(statement: &Statement) -> String {
    match &statement.way {
        Way::Text => statement.text.clone(),
        Way::Binary(parameters) => {
            let parameters: Vec<_> = parameters.iter().map(|value| value.as_sql(true)).collect();
            format!("{} <- {}", statement.text, parameters.join(", "))
        }
        Way::File(lines) => format!("{} <- {}", statement.text, lines.replace('\n', ";")),
    }
}

/// An outcome as a row of the report: number, state, and whose it is.
fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Error { code, state, text } => {
            let promise = outcome.promise();
            let whose = promise.map_or("never promised", |promise| {
                if promise.ours { "failsoft's" } else { "a server's" }
            });
            let says: String =
                text.chars().take_while(|&c| c != ':' && c != '(').take(40).collect();
            format!("{code}/{state} {whose}: {says}")
        }
        Outcome::Malformed(_) => "malformed".to_owned(),
        other => other.words(),
    }
}

fn plain(text: &str, role: Role) -> Statement {
    let marks = vec![usize::from(role == Role::Commit)];
    let asked = Asked { role, marks, commits_first: false };
    Statement { text: text.to_owned(), way: Way::Text, asked, answers: None, changes: None }
}
