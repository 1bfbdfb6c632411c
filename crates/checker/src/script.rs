//! What sessions do: units of every form, drawn from a seed.

use fastrand::Rng;
use mysql_async::Value;

use crate::trial::{Asked, Role};
use crate::unit::Row;

/// Rows of a session start at its number times this.
pub const ROWS_EACH: u64 = 100_000_000;

/// How a statement is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// As a query.
    Text,
    /// Prepared and executed, with these parameters.
    Binary(Vec<Value>),
    /// As a query that asks for a file, which has this in it.
    File(String),
}

/// One statement of a script.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What is sent.
    pub text: String,
    /// How.
    pub way: Way,
    /// What its answer says about the unit.
    pub asked: Asked,
    /// The one value that it has to answer with.
    pub answers: Option<String>,
    /// How many rows it has to say that it changed.
    pub changes: Option<u64>,
}

/// A unit that is going to be run.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its kind of writes.
    pub form: &'static str,
    /// Its statements in their order.
    pub statements: Vec<Statement>,
    /// The rows of each step.
    pub steps: Vec<Vec<Row>>,
    /// Rows that it takes back itself.
    pub never: Vec<Row>,
    /// Whether its steps count.
    pub counted: bool,
    /// What stays behind in the session when it is broken off: a temporary table, autocommit.
    pub leaves_state: bool,
}

/// Draws the scripts of one session.
#[derive(Clone, Debug)]
pub struct Author {
    session: u64,
    rows: u64,
    rng: Rng,
}

/// A way to draw a script.
type Draw = fn(&mut Author) -> Script;

/// The forms of units, and how often each is drawn.
const FORMS: &[(&str, u32, Draw)] = &[
    ("INSERT", 4, Author::insert),
    ("INSERT of several rows", 2, Author::insert_rows),
    ("prepared INSERT, binary", 4, Author::prepared),
    ("prepared INSERT, text", 1, Author::prepared_as_text),
    ("transaction", 6, Author::transaction),
    ("transaction, rolled back", 2, Author::rolled_back),
    ("transaction with a savepoint", 1, Author::savepoint),
    ("transaction ended by DDL", 1, Author::implicit_commit),
    ("autocommit off", 3, Author::autocommit_off),
    ("several statements in a packet", 2, Author::packet),
    ("transaction in a packet", 1, Author::packet_transaction),
    ("procedure", 1, Author::procedure),
    ("procedure with a transaction", 1, Author::whole_procedure),
    ("function that writes", 1, Author::function),
    ("LOAD DATA LOCAL", 1, Author::load_data),
    ("through a temporary table", 1, Author::temporary_table),
];

/// The tables and routines that scripts use; each is one statement.
#[must_use]
pub fn schema() -> Vec<String> {
    [
        "CREATE TABLE writes (seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
         session BIGINT NOT NULL, id BIGINT NOT NULL, v VARCHAR(40) NOT NULL, KEY (session, id))",
        "CREATE TABLE counters (session BIGINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL)",
        "CREATE TABLE facts (id INT NOT NULL PRIMARY KEY, v VARCHAR(100) NOT NULL)",
        "CREATE PROCEDURE put_two(s BIGINT, a BIGINT, b BIGINT) BEGIN \
         INSERT INTO writes (session, id, v) VALUES (s, a, CONCAT('w', a)); \
         INSERT INTO writes (session, id, v) VALUES (s, b, CONCAT('w', b)); END",
        "CREATE PROCEDURE put_whole(s BIGINT, a BIGINT, b BIGINT) BEGIN START TRANSACTION; \
         INSERT INTO writes (session, id, v) VALUES (s, a, CONCAT('w', a)); \
         UPDATE counters SET n = n + 1 WHERE session = s; \
         INSERT INTO writes (session, id, v) VALUES (s, b, CONCAT('w', b)); COMMIT; END",
        "CREATE FUNCTION put_one(s BIGINT, a BIGINT) RETURNS BIGINT MODIFIES SQL DATA BEGIN \
         INSERT INTO writes (session, id, v) VALUES (s, a, CONCAT('w', a)); RETURN a; END",
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Author {
    /// Draws for the session of this number.
    #[must_use]
    pub fn new(session: u64, seed: u64) -> Self {
        let rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(session));
        Self { session, rows: 0, rng }
    }

    /// The dice, for what else the session decides.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The session's number.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.session
    }

    /// The next script.
    pub fn draw(&mut self) -> Script {
        let all = FORMS.iter().map(|(_, weight, _)| weight).sum();
        let mut at = self.rng.u32(0..all);
        for (form, weight, draw) in FORMS {
            if at < *weight {
                return Script { form, ..draw(self) };
            }
            at -= weight;
        }
        self.insert()
    }

    fn row(&mut self) -> Row {
        self.rows += 1;
        self.session * ROWS_EACH + self.rows
    }

    fn some_rows(&mut self) -> Vec<Row> {
        (0..self.rng.usize(1..5)).map(|_| self.row()).collect()
    }

    fn values(&self, rows: &[Row]) -> String {
        let values = rows.iter().map(|row| format!("({}, {row}, 'w{row}')", self.session));
        values.collect::<Vec<_>>().join(", ")
    }

    fn insert_text(&self, rows: &[Row]) -> String {
        format!("INSERT INTO writes (session, id, v) VALUES {}", self.values(rows))
    }

    /// An INSERT that performs so many steps by itself.
    fn insert_of(&self, rows: &[Row], marks: usize) -> Statement {
        let count = u64::try_from(rows.len()).ok();
        Statement { changes: count, ..write(self.insert_text(rows), &[marks]) }
    }

    /// An INSERT or an addition to the counter, within a transaction.
    fn within(&mut self, rows: &[Row]) -> Vec<Statement> {
        let mut statements: Vec<_> = rows.chunks(2).map(|rows| self.insert_of(rows, 0)).collect();
        let count = format!("UPDATE counters SET n = n + 1 WHERE session = {}", self.session);
        statements.push(Statement { changes: Some(1), ..write(count, &[0]) });
        if self.rng.bool() {
            let [first, ..] = rows else { return statements };
            let text =
                format!("SELECT v FROM writes WHERE session = {} AND id = {first}", self.session);
            let answers = Some(format!("w{first}"));
            statements.push(Statement { answers, ..statement(text, Role::Read, &[0]) });
        }
        statements
    }

    fn insert(&mut self) -> Script {
        let row = self.row();
        Script::of(vec![self.insert_of(&[row], 1)], vec![vec![row]])
    }

    fn insert_rows(&mut self) -> Script {
        let rows = self.some_rows();
        Script::of(vec![self.insert_of(&rows, 1)], vec![rows])
    }

    fn prepared(&mut self) -> Script {
        let row = self.row();
        let text = "INSERT INTO writes (session, id, v) VALUES (?, ?, ?)".to_owned();
        let way = Way::Binary(vec![self.session.into(), row.into(), format!("w{row}").into()]);
        let insert = Statement { way, changes: Some(1), ..write(text, &[1]) };
        Script::of(vec![insert], vec![vec![row]])
    }

    fn prepared_as_text(&mut self) -> Script {
        let row = self.row();
        let statements = vec![
            set_up(
                "PREPARE w FROM 'INSERT INTO writes (session, id, v) VALUES (?, ?, ?)'".to_owned(),
            ),
            set_up(format!("SET @session = {}, @id = {row}, @v = 'w{row}'", self.session)),
            Statement {
                changes: Some(1),
                ..write("EXECUTE w USING @session, @id, @v".to_owned(), &[1])
            },
            set_up("DEALLOCATE PREPARE w".to_owned()),
        ];
        Script { leaves_state: true, ..Script::of(statements, vec![vec![row]]) }
    }

    fn begin(&mut self) -> Statement {
        match self.rng.u8(0..3) {
            0 => set_up("BEGIN".to_owned()),
            1 => set_up("START TRANSACTION".to_owned()),
            // Servers that are read-only refuse it.
            _ => write("START TRANSACTION READ WRITE".to_owned(), &[0]),
        }
    }

    fn transaction(&mut self) -> Script {
        let rows = self.some_rows();
        let mut statements = vec![self.begin()];
        statements.extend(self.within(&rows));
        statements.push(commit("COMMIT"));
        Script { counted: true, ..Script::of(statements, vec![rows]) }
    }

    fn rolled_back(&mut self) -> Script {
        let rows = self.some_rows();
        let mut statements = vec![self.begin()];
        statements.extend(self.within(&rows));
        statements.push(statement("ROLLBACK".to_owned(), Role::Rollback, &[0]));
        Script { counted: true, ..Script::of(statements, vec![rows]) }
    }

    fn savepoint(&mut self) -> Script {
        let (kept, taken) = (self.row(), self.row());
        let mut statements = vec![self.begin()];
        statements.extend(self.within(&[kept]));
        statements.push(set_up("SAVEPOINT here".to_owned()));
        statements.push(self.insert_of(&[taken], 0));
        statements.push(set_up("ROLLBACK TO SAVEPOINT here".to_owned()));
        statements.push(commit("COMMIT"));
        let script = Script::of(statements, vec![vec![kept]]);
        Script { never: vec![taken], counted: true, ..script }
    }

    fn implicit_commit(&mut self) -> Script {
        let rows = self.some_rows();
        let mut statements = vec![self.begin()];
        statements.extend(self.within(&rows));
        // Commits what is open, and changes nothing.
        let ddl = commit("DROP TABLE IF EXISTS never_there");
        statements
            .push(Statement { asked: Asked { commits_first: true, ..ddl.asked.clone() }, ..ddl });
        Script { counted: true, ..Script::of(statements, vec![rows]) }
    }

    fn autocommit_off(&mut self) -> Script {
        let rows = self.some_rows();
        let mut statements = vec![set_up("SET autocommit = 0".to_owned())];
        statements.extend(self.within(&rows));
        match self.rng.u8(0..3) {
            0 => statements.push(commit("SET autocommit = 1")),
            1 => statements.extend([commit("COMMIT"), set_up("SET autocommit = 1".to_owned())]),
            _ => statements.extend([
                statement("ROLLBACK".to_owned(), Role::Rollback, &[0]),
                set_up("SET autocommit = 1".to_owned()),
            ]),
        }
        Script { counted: true, leaves_state: true, ..Script::of(statements, vec![rows]) }
    }

    fn packet(&mut self) -> Script {
        let steps: Vec<Vec<Row>> = (0..3).map(|_| vec![self.row()]).collect();
        let texts: Vec<_> = steps.iter().map(|rows| self.insert_text(rows)).collect();
        Script::of(vec![write(texts.join("; "), &[1, 1, 1])], steps)
    }

    fn packet_transaction(&mut self) -> Script {
        let rows = [self.row(), self.row()];
        let [a, b] = rows.map(|row| self.insert_text(&[row]));
        let packet = write(format!("BEGIN; {a}; {b}; COMMIT"), &[0, 0, 0, 1]);
        Script::of(vec![packet], vec![rows.to_vec()])
    }

    fn procedure(&mut self) -> Script {
        let (a, b) = (self.row(), self.row());
        let call = write(format!("CALL put_two({}, {a}, {b})", self.session), &[2]);
        Script::of(vec![call], vec![vec![a], vec![b]])
    }

    fn whole_procedure(&mut self) -> Script {
        let (a, b) = (self.row(), self.row());
        let call = write(format!("CALL put_whole({}, {a}, {b})", self.session), &[1]);
        Script { counted: true, ..Script::of(vec![call], vec![vec![a, b]]) }
    }

    fn function(&mut self) -> Script {
        let row = self.row();
        let text = format!("SELECT put_one({}, {row})", self.session);
        let call = Statement { answers: Some(row.to_string()), ..write(text, &[1]) };
        Script::of(vec![call], vec![vec![row]])
    }

    fn load_data(&mut self) -> Script {
        let rows = self.some_rows();
        let lines = rows.iter().map(|row| format!("{},{row},w{row}\n", self.session)).collect();
        let text = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE writes FIELDS TERMINATED BY ',' \
                    (session, id, v)";
        let changes = u64::try_from(rows.len()).ok();
        let load = Statement { way: Way::File(lines), changes, ..write(text.to_owned(), &[1]) };
        Script::of(vec![load], vec![rows])
    }

    fn temporary_table(&mut self) -> Script {
        let rows = self.some_rows();
        let count = u64::try_from(rows.len()).ok();
        let values = self.values(&rows);
        let statements = vec![
            write(
                "CREATE TEMPORARY TABLE scratch (session BIGINT, id BIGINT, v VARCHAR(40))"
                    .to_owned(),
                &[0],
            ),
            write(format!("INSERT INTO scratch VALUES {values}"), &[0]),
            Statement {
                changes: count,
                ..write(
                    "INSERT INTO writes (session, id, v) SELECT session, id, v FROM scratch"
                        .to_owned(),
                    &[1],
                )
            },
            write("DROP TEMPORARY TABLE scratch".to_owned(), &[0]),
        ];
        Script { leaves_state: true, ..Script::of(statements, vec![rows]) }
    }
}

impl Script {
    fn of(statements: Vec<Statement>, steps: Vec<Vec<Row>>) -> Self {
        let never = Vec::new();
        Self { form: "", statements, steps, never, counted: false, leaves_state: false }
    }
}

fn statement(text: String, role: Role, marks: &[usize]) -> Statement {
    let asked = Asked { role, marks: marks.to_vec(), commits_first: false };
    Statement { text, way: Way::Text, asked, answers: None, changes: None }
}

fn write(text: String, marks: &[usize]) -> Statement {
    statement(text, Role::Write, marks)
}

fn commit(text: &str) -> Statement {
    statement(text.to_owned(), Role::Commit, &[1])
}

fn set_up(text: String) -> Statement {
    statement(text, Role::SetUp, &[0])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let texts = |seed| {
            let mut author = Author::new(3, seed);
            let scripts = (0..50).flat_map(move |_| author.draw().statements);
            scripts.map(|statement| statement.text).collect::<Vec<_>>()
        };
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
    }

    #[test]
    fn every_form_is_drawn_and_every_row_once() {
        let mut author = Author::new(2, 1);
        let (mut forms, mut rows) = (HashSet::new(), HashSet::new());
        for _ in 0..1_000 {
            let script = author.draw();
            let steps = script.steps.len();
            let marks: usize =
                script.statements.iter().flat_map(|statement| &statement.asked.marks).sum();
            let ends_in_rollback =
                script.statements.iter().any(|one| one.asked.role == Role::Rollback);
            assert!(marks == steps || ends_in_rollback, "{script:?}");
            for row in script.steps.iter().flatten().chain(&script.never) {
                assert!(rows.insert(*row), "row {row} twice");
            }
            forms.insert(script.form);
        }
        assert_eq!(forms.len(), FORMS.len());
    }
}
