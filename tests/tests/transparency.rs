//! With a healthy server, whatever works directly works through failsoft: the same script is run on
//! a connection to the master and on a session of failsoft's, and what comes back is compared.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests measure, print their figures, and panic"
)]

mod raw;

use std::fs;
use std::time::Duration;

use failsoft_tests::{PATIENCE, Stack, outcome};
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn, Row};
use raw::{
    CALM, Handmade, Kind, QUERY_ATTRIBUTES, STMT_BULK, Wire, app_login, com, execution,
    lenenc_bytes, show,
};
use testkit::{
    Failsoft, Flavor, Frame, Login, Mask, Pair, RawClient, capability, execute, flavors, query_one,
    wait_until,
};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

/// Statements whose replies have to be the server's to the byte. They leave nothing behind.
const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "SELECT NULL",
    "SELECT 1, 'two', 3.0, 4e0, NULL, TRUE, 0x41, b'1'",
    "SELECT 18446744073709551615, -9223372036854775808, 1.5e300, 99999999999999999999.5",
    "SELECT DATE '2020-02-29', TIME '-838:59:59', TIMESTAMP '1999-12-31 23:59:59.999999'",
    "SELECT '', ' ', '\\0\\n\\'', \"quoted\", _latin1 X'E4', _binary 'x'",
    "SELECT 'ä€😀' AS `spalte ä`, CHAR_LENGTH('ä€😀')",
    "SELECT @@version_comment LIMIT 1",
    "/* comment */ SELECT /*!40000 2 */",
    "-- a line\nSELECT 3",
    "# another\nSELECT 4",
    "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 DESC",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT * FROM n",
    "SELECT 1;",
    "SELECT 1; SELECT 2, 3; SELECT 'last'",
    "SELECT 1; DO 0; SELECT 2; SET @x = 1; SELECT @x",
    "SELECT 1; SELECT nothing FROM nowhere; SELECT 3",
    "FOR row IN (SELECT 1 AS i UNION SELECT 2) DO SELECT row.i; END FOR",
    "CREATE TABLE kinds (id INT PRIMARY KEY AUTO_INCREMENT, ti TINYINT, tu TINYINT UNSIGNED, \
     si SMALLINT, mi MEDIUMINT, bi BIGINT, bu BIGINT UNSIGNED, de DECIMAL(30,10), fl FLOAT, \
     dou DOUBLE, bit1 BIT(1), bit9 BIT(9), ch CHAR(10), vc VARCHAR(200), bin BINARY(4), \
     vb VARBINARY(20), tx TEXT, bl BLOB, en ENUM('a','b'), se SET('x','y','z'), da DATE, \
     ti0 TIME, ti6 TIME(6), dt DATETIME, dt6 DATETIME(6), ts TIMESTAMP NULL, ye YEAR, js JSON)",
    "INSERT INTO kinds (ti, tu, si, mi, bi, bu, de, fl, dou) VALUES \
     (-128, 255, -32768, -8388608, -9223372036854775808, 18446744073709551615, \
     -12345678901234567890.0123456789, 1.5, -2.5e-300)",
    "INSERT INTO kinds (bit1, bit9, ch, vc, bin, vb, tx, bl, en, se) VALUES \
     (1, 257, 'char', 'v', 'b', X'00FF', 'text', X'000102FEFF', 'b', 'x,z')",
    "INSERT INTO kinds (da, ti0, ti6, dt, dt6, ts, ye, js) VALUES ('2020-02-29', '-100:00:01', \
     '23:59:59.123456', '1000-01-01 00:00:00', '9999-12-31 23:59:59.999999', \
     '2001-02-03 04:05:06', 2155, '{\"a\": [1, null, \"ä\"]}')",
    "INSERT INTO kinds () VALUES ()",
    "SELECT LAST_INSERT_ID()",
    "SELECT ROW_COUNT()",
    "SELECT * FROM kinds ORDER BY id",
    "SELECT * FROM kinds WHERE FALSE",
    "SELECT COUNT(*), SUM(id), MIN(vc), GROUP_CONCAT(id ORDER BY id) FROM kinds",
    "UPDATE kinds SET ti = 5 WHERE id < 3",
    "UPDATE kinds SET ti = 5 WHERE id < 3",
    "UPDATE kinds SET ti = 5 WHERE id > 1000",
    "SELECT ROW_COUNT()",
    "DELETE FROM kinds WHERE id = 4",
    "INSERT INTO kinds (ti) VALUES (1), (2), (3)",
    "SELECT LAST_INSERT_ID()",
    "INSERT INTO kinds (id) VALUES (LAST_INSERT_ID(77))",
    "SELECT SQL_CALC_FOUND_ROWS id FROM kinds ORDER BY id LIMIT 2",
    "SELECT FOUND_ROWS()",
    "INSERT INTO kinds (id) VALUES (1)",
    "INSERT IGNORE INTO kinds (id) VALUES (1), (501)",
    "SHOW WARNINGS",
    "SELECT 1",
    "SHOW COUNT(*) WARNINGS",
    "REPLACE INTO kinds (id, ti) VALUES (1, 2), (502, 3)",
    "INSERT INTO kinds (id, ti) VALUES (1, 4) ON DUPLICATE KEY UPDATE ti = 9",
    "INSERT INTO kinds (ti) VALUES (1000)",
    "SHOW ERRORS",
    "SELECT CAST('12x' AS SIGNED), 1/0",
    "SHOW WARNINGS",
    "SELECT * FROM nowhere",
    "SELEC 1",
    "SELECT nothing FROM kinds",
    "INSERT INTO kinds (id) VALUES ()",
    "SELECT * FROM other.kinds",
    "DROP TABLE nowhere",
    "DROP TABLE IF EXISTS nowhere",
    "SHOW WARNINGS LIMIT 1",
    "USE nowhere",
    "USE app",
    "SELECT DATABASE()",
    "SHOW CREATE TABLE kinds",
    "DESCRIBE kinds",
    "SHOW COLUMNS FROM kinds LIKE 't%'",
    "SHOW VARIABLES LIKE 'sql_mode'",
    "SHOW TABLES",
    "CREATE TABLE parent (id INT PRIMARY KEY) ENGINE=InnoDB",
    "CREATE TABLE child (id INT, FOREIGN KEY (id) REFERENCES parent (id)) ENGINE=InnoDB",
    "INSERT INTO child VALUES (1)",
    "START TRANSACTION",
    "INSERT INTO parent VALUES (1)",
    "SAVEPOINT one",
    "INSERT INTO parent VALUES (2)",
    "ROLLBACK TO SAVEPOINT one",
    "ROLLBACK TO SAVEPOINT nothing",
    "SELECT * FROM parent FOR UPDATE",
    "RELEASE SAVEPOINT one",
    "COMMIT",
    "SET autocommit = 0",
    "INSERT INTO parent VALUES (3)",
    "ROLLBACK",
    "SET autocommit = 1",
    "START TRANSACTION READ ONLY",
    "INSERT INTO parent VALUES (4)",
    "COMMIT AND CHAIN",
    "ROLLBACK AND NO CHAIN",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "BEGIN",
    "SELECT * FROM parent",
    "ROLLBACK",
    "CREATE TEMPORARY TABLE temporary (a INT)",
    "INSERT INTO temporary VALUES (1), (2)",
    "SELECT * FROM temporary",
    "DROP TEMPORARY TABLE temporary",
    "SET @a = 1, @b := 'two'",
    "SELECT @a, @b, @nothing",
    "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    "SELECT \"id\", '\\' FROM \"kinds\" LIMIT 1",
    "SET SESSION sql_mode = DEFAULT",
    "SET time_zone = '+05:00'",
    "SELECT FROM_UNIXTIME(0)",
    "SET time_zone = 'nowhere'",
    "SET NAMES latin1",
    "SELECT _utf8mb4 'ä', @@character_set_results",
    "SET NAMES gbk",
    "SELECT 'x', @@character_set_client",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SELECT @@collation_connection",
    "SET NAMES nothing",
    "SET NAMES utf8mb4",
    "SET no_such_variable = 1",
    "SET GLOBAL max_connections = 100",
    "SET SESSION max_execution_time = 1000",
    "CREATE VIEW seen AS SELECT id, vc FROM kinds",
    "SELECT * FROM seen LIMIT 2",
    "CREATE PROCEDURE three(IN n INT, OUT o INT, INOUT io VARCHAR(20)) BEGIN SELECT n; \
     SELECT n, 'second' UNION SELECT n + 1, 'row'; SET o = n * 2, io = CONCAT(io, '!'); END",
    "SET @io = 'hey'",
    "CALL three(21, @o, @io)",
    "SELECT @o, @io",
    "CALL three(1)",
    "CALL nothing()",
    "CALL three(1, @o, @io); SELECT 'after'",
    "CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n",
    "SELECT twice(4)",
    "PREPARE p FROM 'SELECT ? + 1'",
    "EXECUTE p USING @a",
    "DEALLOCATE PREPARE p",
    "EXECUTE p",
    "SELECT GET_LOCK('transparency', 0)",
    "SELECT IS_FREE_LOCK('transparency'), RELEASE_LOCK('transparency'), RELEASE_LOCK('nothing')",
    "LOCK TABLES kinds WRITE",
    "SELECT * FROM parent",
    "UNLOCK TABLES",
    "HANDLER kinds OPEN",
    "HANDLER kinds READ FIRST",
    "HANDLER kinds CLOSE",
    "CHECKSUM TABLE parent",
    "ANALYZE TABLE parent",
    "EXPLAIN SELECT * FROM parent WHERE id = 1",
    "SELECT SLEEP(0), BENCHMARK(1, 1)",
    "DO SLEEP(0)",
    "SELECT 1 INTO @into",
    "SELECT id FROM kinds ORDER BY id INTO @into",
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'ours', MYSQL_ERRNO = 30001",
    "ALTER TABLE kinds ADD COLUMN more INT",
    "TRUNCATE TABLE child",
    "XA START 'x'",
    "XA END 'x'",
    "XA ROLLBACK 'x'",
    "KILL 4294967295",
    "GRANT SELECT ON app.* TO nobody_at_all",
    "FLUSH TABLES",
    "",
    " ",
    ";",
    "\0",
    "SELECT 1 FROM",
    "SELECT 'open",
    "SELECT /* open",
    "SELECT REPEAT('r', 100000)",
    "DROP FUNCTION twice",
    "DROP PROCEDURE three",
    "DROP VIEW seen",
    "DROP TABLE child, parent, kinds",
];

/// What came back, in order, each piece with what it answers.
type Transcript = Vec<(String, Vec<Frame>)>;

/// Runs a script and keeps what comes back.
struct Recorder {
    wire: Wire,
    transcript: Transcript,
}

impl Recorder {
    fn new(wire: Wire) -> Self {
        Self { wire, transcript: Vec::new() }
    }

    async fn query(&mut self, sql: &str) {
        let frames = self.wire.query(sql).await;
        self.transcript.push((sql.to_owned(), frames));
    }

    async fn ask(&mut self, what: &str, code: u8, rest: &[u8], kind: Kind) {
        let mut frames = self.wire.ask(code, rest, kind).await;
        forget_id(kind, &mut frames);
        self.transcript.push((what.to_owned(), frames.into_iter().map(without_giver).collect()));
    }

    /// The id of a statement that was prepared.
    async fn prepare(&mut self, sql: &str) -> u32 {
        let (id, mut frames) = self.wire.prepare(sql).await;
        forget_id(Kind::Prepared, &mut frames);
        self.transcript.push((format!("prepare {sql}"), frames));
        id
    }

    async fn execute(&mut self, id: u32, flags: u8, rest: &[u8]) {
        let command = [&execution(id, flags), rest].concat();
        self.ask("execute", com::STMT_EXECUTE, &command, Kind::Results).await;
    }
}

/// Statement ids are a server's own affair.
fn forget_id(kind: Kind, frames: &mut [Frame]) {
    if matches!(kind, Kind::Prepared) && frames[0].is_ok() {
        frames[0].payload[1..5].fill(0);
    }
}

/// The server's function that missed a statement (1243), and its id of the statement (1421).
fn without_giver(mut frame: Frame) -> Frame {
    for (error, mark) in [(b"\xff\xdb\x04", &b" given to "[..]), (b"\xff\x8d\x05", b" (")] {
        let at = frame.payload.windows(mark.len()).position(|window| window == mark);
        if let Some(at) = at.filter(|_| frame.payload.starts_with(error)) {
            frame.payload.truncate(at);
        }
    }
    frame
}

/// Every difference between two transcripts, each shown once and short.
fn differences(what: &str, direct: &Transcript, through: &Transcript) -> String {
    let mut report = String::new();
    assert_eq!(direct.len(), through.len(), "{what}: the scripts took different ways");
    for ((asked, expected), (_, got)) in direct.iter().zip(through) {
        if expected == got {
            continue;
        }
        let asked: String = asked.chars().take(80).collect();
        let at = expected.iter().zip(got).position(|(a, b)| a != b);
        let at = at.unwrap_or_else(|| expected.len().min(got.len()));
        let shown = |frames: &[Frame]| frames.get(at).map_or_else(|| "nothing".to_owned(), show);
        let (expected, got) = (shown(expected), shown(got));
        report +=
            &format!("{what}: `{asked}`, packet {at}\n  direct   {expected}\n  failsoft {got}\n");
    }
    report
}

/// Runs a script on the master and through failsoft, with each choice of capabilities; all that
/// differs.
async fn compare<S>(stack: &Stack, what: &str, choices: &[(&str, u32)], script: S) -> String
where
    S: AsyncFn(&mut Recorder, u32),
{
    let logins: Vec<_> = choices.iter().map(|(name, more)| (*name, app_login(*more, 0))).collect();
    compare_as(stack, what, &logins, script).await
}

/// The same with these logins.
async fn compare_as<S>(stack: &Stack, what: &str, logins: &[(&str, Login)], script: S) -> String
where
    S: AsyncFn(&mut Recorder, u32),
{
    let mut report = String::new();
    for (name, login) in logins {
        let mut transcripts = Vec::new();
        for port in [stack.pair.master.port(), stack.failsoft.port()] {
            let mut recorder = Recorder::new(Wire::login_as(port, login).await);
            script(&mut recorder, login.capabilities).await;
            transcripts.push(recorder.transcript);
        }
        let [direct, through] = transcripts.try_into().unwrap();
        let what = format!("{}, {what}, {name}", stack.pair.flavor());
        report += &differences(&what, &direct, &through);
        println!("{what}: {} replies compared", direct.len());
    }
    report
}

/// The capabilities that shape replies.
fn choices(flavor: Flavor) -> Vec<(&'static str, u32)> {
    let eof = capability::DEPRECATE_EOF;
    let mut choices = vec![
        ("plain", 0),
        ("DEPRECATE_EOF", eof),
        ("SESSION_TRACK", eof | capability::SESSION_TRACK),
        ("FOUND_ROWS", capability::FOUND_ROWS),
    ];
    if flavor == Flavor::MySql {
        choices.push(("QUERY_ATTRIBUTES", QUERY_ATTRIBUTES | capability::SESSION_TRACK));
    }
    choices
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_the_servers_to_the_byte() {
    let mut report = String::new();
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        let choices = choices(flavor);
        report += &compare(&stack, "statements", &choices, statements).await;
        report += &compare(&stack, "statements twice", &choices[..4], twice).await;
        report += &compare(&stack, "prepared", &choices, prepared).await;
        report += &compare(&stack, "cursors", &choices, cursors).await;
        report += &compare(&stack, "commands", &choices, commands).await;
        for &(what, code, rest, kind) in FIRST {
            let script = async |r: &mut Recorder, _: u32| {
                r.ask(what, code, rest, kind).await;
                r.query("SELECT DATABASE(); SELECT 2").await;
            };
            report += &compare(&stack, what, &choices[..3], script).await;
        }
        if flavor == Flavor::MySql {
            let choice = [("attributes", QUERY_ATTRIBUTES)];
            report += &compare(&stack, "two attributes", &choice, attributes).await;
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// Definitions of columns are there where the server sends them, and left out where it leaves them
/// out: of prepared statements whose definitions the client has, or of all that is asked.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_left_out_where_the_server_leaves_them_out() {
    let mut report = String::new();
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        let logins = [("plain", 0), ("DEPRECATE_EOF", capability::DEPRECATE_EOF)];
        let logins = logins.map(|(name, more)| match flavor {
            Flavor::MariaDb => (name, app_login(more, capability::CACHE_METADATA)),
            Flavor::MySql => (name, app_login(more | capability::OPTIONAL_METADATA, 0)),
        });
        report += &compare_as(&stack, "statements", &logins, statements).await;
        report += &compare_as(&stack, "statements twice", &logins, twice).await;
        report += &compare_as(&stack, "prepared", &logins, prepared).await;
        report += &compare_as(&stack, "cursors", &logins, cursors).await;
        report += &compare_as(&stack, "commands", &logins, commands).await;
        report += &compare_as(&stack, "altered", &logins, altered).await;
        if flavor == Flavor::MySql {
            report += &compare_as(&stack, "without any", &logins, without_definitions).await;
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// A table becomes another between executions, with and without a cursor.
async fn altered(r: &mut Recorder, _: u32) {
    r.query("CREATE TABLE other (id INT, v VARCHAR(10))").await;
    r.query("INSERT INTO other VALUES (1, 'one'), (2, 'two')").await;
    let id = r.prepare("SELECT * FROM other WHERE id < ?").await;
    let mut with_types = true;
    for change in ["MODIFY v TEXT", "ADD COLUMN w INT", "DROP COLUMN v", "MODIFY id BIGINT"] {
        for flags in [0, 0, 1, 0] {
            r.execute(id, flags, &parameters(&[number(3)], with_types)).await;
            with_types = false;
            if flags == 1 {
                let all = [id.to_le_bytes(), 9_u32.to_le_bytes()].concat();
                r.ask("fetch", com::STMT_FETCH, &all, Kind::Rows).await;
            }
        }
        r.query(&format!("ALTER TABLE other {change}")).await;
        let fresh = r.prepare("SELECT * FROM other").await;
        r.execute(fresh, 0, &[]).await;
        r.query("SET NAMES latin1").await;
        r.execute(fresh, 0, &[]).await;
        r.query("SET NAMES utf8mb4").await;
    }
    r.query("DROP TABLE other").await;
}

/// A client of MySQL's that does not want definitions.
async fn without_definitions(r: &mut Recorder, capabilities: u32) {
    r.query("SET resultset_metadata = NONE").await;
    statements(r, capabilities).await;
    twice(r, capabilities).await;
    prepared(r, capabilities).await;
    cursors(r, capabilities).await;
    r.ask("fields", com::FIELD_LIST, b"t\0", Kind::Rows).await;
    r.query("SET resultset_metadata = FULL").await;
    r.query("SELECT * FROM t").await;
    r.query("SET resultset_metadata = NONE").await;
    r.ask("reset connection", com::RESET_CONNECTION, b"", Kind::One).await;
    r.query("SELECT * FROM t").await;
}

/// What a client agreed on it gets, also from a server that has less than others of its version: the
/// same bytes as from one that has it all. Clients that did not agree on it get theirs as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lacks_what_was_agreed_on_is_made_up_for() {
    let mut report = String::new();
    let eof = capability::DEPRECATE_EOF;
    for flavor in flavors() {
        for hidden in [eof, eof | capability::SESSION_TRACK] {
            let pair = Pair::start(flavor).await.expect("a pair");
            let old = Mask::start(pair.master.port(), hidden.into()).await;
            let databases = [("master", old.port()), ("replica", pair.replica.port())];
            let failsoft = Failsoft::config(&databases).with(CALM).start().await;
            let stack = Stack::with_table(failsoft, pair).await;
            let choices = [("plain", 0), ("DEPRECATE_EOF", eof)];
            report += &compare(&stack, "statements", &choices, statements).await;
            report += &compare(&stack, "statements twice", &choices[1..], twice).await;
            report += &compare(&stack, "prepared", &choices, prepared).await;
            report += &compare(&stack, "cursors", &choices, cursors).await;
            report += &compare(&stack, "commands", &choices, commands).await;
            let with_files = [("files", eof | capability::LOCAL_FILES)];
            report += &compare(&stack, "files", &with_files, files).await;
            for &length in LENGTHS {
                let mut wire = Wire::login(stack.failsoft.port(), eof).await;
                as_text(&mut wire, length).await;
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// A session goes from a server that has DEPRECATE_EOF to one that has not, with its statements.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_at_a_server_that_has_less() {
    let eof = capability::DEPRECATE_EOF;
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.expect("a pair");
        let old = Mask::start(pair.replica.port(), eof.into()).await;
        let databases = [("master", pair.master.port()), ("replica", old.port())];
        let failsoft = Failsoft::config(&databases).start().await;
        let mut stack = Stack::with_table(failsoft, pair).await;
        let mut transcripts = Vec::new();
        let mut moved = Recorder::new(Wire::login(stack.failsoft.port(), eof).await);
        let statement = moved.prepare("SELECT id, v, ? FROM t").await;
        moved.execute(statement, 0, &parameters(&[number(5)], true)).await;
        stack.pair.master.kill().unwrap();
        let mut direct = Recorder::new(Wire::login(stack.pair.replica.port(), eof).await);
        let again = direct.prepare("SELECT id, v, ? FROM t").await;
        direct.execute(again, 0, &parameters(&[number(5)], true)).await;
        for (recorder, id) in [(&mut direct, again), (&mut moved, statement)] {
            recorder.query("SELECT * FROM t; SELECT 1").await;
            recorder.execute(id, 0, &parameters(&[number(6)], false)).await;
            recorder.execute(id, 1, &parameters(&[number(7)], false)).await;
            let all = [id.to_le_bytes(), 9_u32.to_le_bytes()].concat();
            recorder.ask("fetch", com::STMT_FETCH, &all, Kind::Rows).await;
            transcripts.push(recorder.transcript.clone());
        }
        let report = differences(&flavor.to_string(), &transcripts[0], &transcripts[1]);
        assert!(report.is_empty(), "\n{report}");
    }
}

async fn statements(recorder: &mut Recorder, capabilities: u32) {
    let none = if capabilities & QUERY_ATTRIBUTES != 0 { "\0\x01" } else { "" };
    for sql in STATEMENTS {
        recorder.query(&format!("{none}{sql}")).await;
    }
}

/// Every statement by text, and then prepared.
async fn twice(r: &mut Recorder, _: u32) {
    for sql in STATEMENTS {
        r.query(sql).await;
        let id = r.prepare(sql).await;
        let is_prepared = r.transcript.last().is_some_and(|(_, frames)| is_prepared(frames));
        if is_prepared {
            r.execute(id, 0, &[]).await;
            r.wire.client.command(com::STMT_CLOSE, &id.to_le_bytes()).await.unwrap();
        }
    }
    r.query("DROP TABLE IF EXISTS child, parent, kinds").await;
}

/// MySQL answers some of what it cannot prepare with an ordinary OK packet.
fn is_prepared(frames: &[Frame]) -> bool {
    frames[0].is_ok() && matches!(frames[0].payload.len(), 12 | 13)
}

/// A parameter's type and value.
type Parameter = (u8, Option<Vec<u8>>);

/// The parameters of an execution.
fn parameters(values: &[Parameter], with_types: bool) -> Vec<u8> {
    let mut bytes = vec![0; values.len().div_ceil(8)];
    for (at, (_, value)) in values.iter().enumerate() {
        bytes[at / 8] |= u8::from(value.is_none()) << (at % 8);
    }
    bytes.push(u8::from(with_types));
    if with_types {
        bytes.extend(values.iter().flat_map(|(kind, _)| [*kind, 0]));
    }
    bytes.extend(values.iter().filter_map(|(_, value)| value.clone()).flatten());
    bytes
}

const LONGLONG: u8 = 8;
const TEXT: u8 = 0xfd;
const BLOB: u8 = 0xfc;

fn number(value: i64) -> Parameter {
    (LONGLONG, Some(value.to_le_bytes().to_vec()))
}

fn text(value: &str) -> Parameter {
    (TEXT, Some(lenenc_bytes(value.as_bytes())))
}

/// Prepared statements. A client that agreed on query attributes may leave them out here.
async fn prepared(recorder: &mut Recorder, capabilities: u32) {
    let r = recorder;
    let none = if capabilities & QUERY_ATTRIBUTES != 0 { "\0\x01" } else { "" };
    for sql in STATEMENTS.iter().filter(|sql| sql.contains("kinds (") || sql.contains("three(IN")) {
        r.query(&format!("{none}{sql}")).await;
    }
    let all = r.prepare("SELECT * FROM kinds ORDER BY id").await;
    r.execute(all, 0, &[]).await;
    let echo = r.prepare("SELECT ?, ?, ? + 1").await;
    r.execute(echo, 0, &parameters(&[number(-1), text("x"), number(1)], true)).await;
    r.execute(echo, 0, &parameters(&[number(-2), text(""), number(i64::MAX)], false)).await;
    r.execute(echo, 0, &parameters(&[(LONGLONG, None), (TEXT, None), number(3)], false)).await;
    r.execute(echo, 0, &parameters(&[text("now"), number(7), text("1.5")], true)).await;
    r.execute(echo, 0, &parameters(&[text("again"), number(8), text("")], false)).await;
    let insert = r.prepare("INSERT INTO kinds (id, tx) VALUES (?, ?)").await;
    r.execute(insert, 0, &parameters(&[number(900), text("ä")], true)).await;
    r.execute(insert, 0, &parameters(&[number(900), text("twice")], false)).await;
    r.execute(insert, 0, &parameters(&[number(901), (TEXT, None)], false)).await;
    for (at, piece) in [(1_u16, &b"long "[..]), (1, b"data"), (0, b"902"), (7, b"no such one")] {
        let long = [&insert.to_le_bytes()[..], &at.to_le_bytes(), piece].concat();
        r.wire.client.command(com::STMT_SEND_LONG_DATA, &long).await.unwrap();
        if at == 0 {
            let types = [0, 1, BLOB, 0, BLOB, 0];
            r.execute(insert, 0, &types).await;
        }
    }
    r.execute(insert, 0, &parameters(&[number(903), text("after a wrong index")], true)).await;
    r.ask("reset", com::STMT_RESET, &insert.to_le_bytes(), Kind::One).await;
    r.execute(insert, 0, &parameters(&[number(904), text("after a reset")], true)).await;
    let call = r.prepare("CALL three(?, ?, ?)").await;
    let arguments = [number(4), (LONGLONG, None), text("io")];
    r.execute(call, 0, &parameters(&arguments, true)).await;
    r.execute(call, 0, &parameters(&arguments, false)).await;
    // MySQL answers this one with an OK packet in place of what it prepared.
    r.prepare("SET GLOBAL max_connections = 100").await;
    for sql in ["SELEC", "SELECT * FROM nowhere", "SELECT 1; SELECT 2", "", "LOCK TABLES t READ"] {
        r.prepare(sql).await;
    }
    for sql in ["SET @p = 5", "BEGIN", "DELETE FROM kinds WHERE id = 904", "ROLLBACK", "DO 1"] {
        let id = r.prepare(sql).await;
        r.execute(id, 0, &[]).await;
        r.wire.client.command(com::STMT_CLOSE, &id.to_le_bytes()).await.unwrap();
    }
    r.query(&format!("{none}ALTER TABLE kinds ADD COLUMN later INT DEFAULT 1")).await;
    r.execute(all, 0, &[]).await;
    r.query(&format!("{none}DROP TABLE kinds")).await;
    r.execute(all, 0, &[]).await;
    r.query(&format!("{none}DROP PROCEDURE three")).await;
    many_prepared(r).await;
    let unknown = 0x7fff_fff0_u32;
    r.execute(unknown, 0, &[]).await;
    r.ask("reset unknown", com::STMT_RESET, &unknown.to_le_bytes(), Kind::One).await;
    let fetch = [unknown.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    r.ask("fetch unknown", com::STMT_FETCH, &fetch, Kind::Rows).await;
    r.wire.client.command(com::STMT_CLOSE, &unknown.to_le_bytes()).await.unwrap();
    let long = [&unknown.to_le_bytes()[..], &[0, 0], b"nobody's"].concat();
    r.wire.client.command(com::STMT_SEND_LONG_DATA, &long).await.unwrap();
    r.execute(echo, 0, &parameters(&[text("in"), number(0), text("step")], true)).await;
}

/// Many at a time, executed out of order, every other one closed right after.
async fn many_prepared(r: &mut Recorder) {
    let mut ids = Vec::new();
    for n in 0..150_u32 {
        ids.push(r.prepare(&format!("SELECT ? + {n}")).await);
    }
    for n in (0..150).rev() {
        r.execute(ids[n], 0, &parameters(&[number(1000)], true)).await;
        if n % 2 == 0 {
            r.wire.client.command(com::STMT_CLOSE, &ids[n].to_le_bytes()).await.unwrap();
        }
    }
    for n in (1..150).step_by(2) {
        r.execute(ids[n], 0, &parameters(&[number(2000)], false)).await;
    }
}

async fn cursors(recorder: &mut Recorder, capabilities: u32) {
    let r = recorder;
    let none = if capabilities & QUERY_ATTRIBUTES != 0 { "\0\x01" } else { "" };
    let ten = "SELECT id, v FROM t UNION ALL SELECT 2, 'b' UNION ALL SELECT 3, NULL UNION ALL \
               SELECT 4, REPEAT('d', 70000) UNION ALL SELECT 5, 'e'";
    let (one, two) = (r.prepare(ten).await, r.prepare("SELECT ? UNION ALL SELECT 2").await);
    let fetch = |id: u32, rows: u32| [id.to_le_bytes(), rows.to_le_bytes()].concat();
    r.execute(one, 1, &[]).await;
    r.execute(two, 1, &parameters(&[number(1)], true)).await;
    for (id, rows) in [(one, 2), (two, 1), (one, 1)] {
        r.ask("fetch", com::STMT_FETCH, &fetch(id, rows), Kind::Rows).await;
    }
    r.query(&format!("{none}SELECT 'between'")).await;
    for (id, rows) in [(one, 100), (one, 1), (two, 1), (two, 1)] {
        r.ask("fetch on", com::STMT_FETCH, &fetch(id, rows), Kind::Rows).await;
    }
    r.execute(one, 1, &[]).await;
    r.ask("reset", com::STMT_RESET, &one.to_le_bytes(), Kind::One).await;
    r.ask("fetch after reset", com::STMT_FETCH, &fetch(one, 1), Kind::Rows).await;
    let write = r.prepare("INSERT INTO t VALUES (77, 'c')").await;
    r.execute(write, 1, &[]).await;
    r.query(&format!("{none}DELETE FROM t WHERE id = 77")).await;
    let empty = r.prepare("SELECT * FROM t WHERE FALSE").await;
    r.execute(empty, 1, &[]).await;
    r.ask("fetch nothing", com::STMT_FETCH, &fetch(empty, 5), Kind::Rows).await;
    // MariaDB says of rows that are sent while a cursor of the procedure is open that a cursor is.
    let procedure = "CREATE OR REPLACE PROCEDURE shows () BEGIN DECLARE c CURSOR FOR SELECT 1; \
                     OPEN c; SELECT 2; CLOSE c; SELECT 3; END";
    r.query(&format!("{none}{procedure}")).await;
    let call = r.prepare("CALL shows()").await;
    for flags in [0, 1] {
        r.execute(call, flags, &[]).await;
    }
}

async fn commands(recorder: &mut Recorder, capabilities: u32) {
    let r = recorder;
    let none = if capabilities & QUERY_ATTRIBUTES != 0 { "\0\x01" } else { "" };
    r.query(&format!("{none}SELECT 'a server is held now'")).await;
    r.ask("ping", com::PING, b"", Kind::One).await;
    r.ask("init nowhere", com::INIT_DB, b"nowhere", Kind::One).await;
    r.ask("init app", com::INIT_DB, b"app", Kind::One).await;
    r.ask("init information_schema", com::INIT_DB, b"information_schema", Kind::One).await;
    r.query(&format!("{none}SELECT DATABASE()")).await;
    r.ask("init app", com::INIT_DB, b"app", Kind::One).await;
    r.ask("fields", com::FIELD_LIST, b"t\0", Kind::Rows).await;
    r.ask("some fields", com::FIELD_LIST, b"t\0v%", Kind::Rows).await;
    r.ask("no fields", com::FIELD_LIST, b"nowhere\0", Kind::Rows).await;
    r.ask("option off", com::SET_OPTION, &[1, 0], Kind::One).await;
    r.query(&format!("{none}SELECT 1; SELECT 2")).await;
    r.ask("option on", com::SET_OPTION, &[0, 0], Kind::One).await;
    r.query(&format!("{none}SELECT 1; SELECT 2")).await;
    r.ask("option 7", com::SET_OPTION, &[7, 0], Kind::One).await;
    // MySQL 9 has given the command up; failsoft understands it for all servers.
    if r.wire.client.greeting.version.contains("MariaDB") {
        r.ask("kill nobody", com::PROCESS_KILL, &u32::MAX.to_le_bytes(), Kind::One).await;
    }
    let text = r.wire.ask(com::STATISTICS, b"", Kind::One).await;
    assert!(text[0].payload.starts_with(b"Uptime: "), "{}", show(&text[0]));
    let echo = r.prepare("SELECT ?").await;
    r.execute(echo, 0, &parameters(&[number(1)], true)).await;
    for sql in ["SET @a = 1, sql_mode = ''", "CREATE TEMPORARY TABLE tt (a INT)", "BEGIN"] {
        r.query(&format!("{none}{sql}")).await;
    }
    r.ask("reset connection", com::RESET_CONNECTION, b"", Kind::One).await;
    for sql in ["SELECT @a, @@sql_mode, DATABASE()", "SELECT * FROM tt", "SELECT 1; SELECT 2"] {
        r.query(&format!("{none}{sql}")).await;
    }
    r.prepare("SELECT 'after the reset'").await;
    r.ask("ping", com::PING, b"", Kind::One).await;
}

/// Commands that may be the first of a session, which holds no server then.
const FIRST: &[(&str, u8, &[u8], Kind)] = &[
    ("ping first", com::PING, b"", Kind::One),
    ("init first", com::INIT_DB, b"app", Kind::One),
    ("wrong init first", com::INIT_DB, b"nowhere", Kind::One),
    ("option first", com::SET_OPTION, &[1, 0], Kind::One),
    ("wrong option first", com::SET_OPTION, &[9, 0], Kind::One),
    ("reset connection first", com::RESET_CONNECTION, b"", Kind::One),
    ("fields first", com::FIELD_LIST, b"t\0", Kind::Rows),
    ("prepare first", com::STMT_PREPARE, b"SELECT ?", Kind::Prepared),
    ("execute first", com::STMT_EXECUTE, &[9, 0, 0, 64, 0, 1, 0, 0, 0], Kind::Results),
    ("fetch first", com::STMT_FETCH, &[9, 0, 0, 64, 1, 0, 0, 0], Kind::Rows),
    ("reset statement first", com::STMT_RESET, &[9, 0, 0, 64], Kind::One),
];

/// `COM_QUERY` and `COM_STMT_EXECUTE` with two attributes (MySQL).
async fn attributes(r: &mut Recorder, _: u32) {
    let two = b"\x02\x01\x02\x01\x08\x00\x01n\xfe\x00\x01s\x2a\0\0\0\0\0\0\0";
    for sql in
        ["SELECT 1; SELECT 2", "INSERT INTO t VALUES (88, 'q')", "DELETE FROM t WHERE id = 88"]
    {
        let payload = [&two[..], sql.as_bytes()].concat();
        r.ask(sql, com::QUERY, &payload, Kind::Results).await;
    }
    let id = r.prepare("SELECT ? + 1").await;
    let one = b"\x02\x00\x01\x08\x00\x00\xfe\x00\x01s\x29\0\0\0\0\0\0\0\x03abc";
    r.execute(id, 8, one).await;
    let again = b"\x02\x00\x00\x28\0\0\0\0\0\0\0\x03xyz";
    r.execute(id, 8, again).await;
    let none = b"\x01\x00\x01\x08\x00\x00\x27\0\0\0\0\0\0\0";
    r.execute(id, 8, none).await;
}

/// Lengths around those at which a packet needs one frame more.
const LENGTHS: &[usize] = &[0xff_fffe, 0xff_ffff, 0x100_0000, 0x100_0001, 0x1ff_fffe, 0x200_0000];

/// Letters in an order that repeats itself only after an odd number of them.
fn letters(length: usize) -> Vec<u8> {
    let pattern = (0..2_367).map(|at| b'a' + u8::try_from((at / 7 + at % 13) % 26).unwrap());
    let mut letters = pattern.collect::<Vec<_>>().repeat(length / 2_367 + 1);
    letters.truncate(length);
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_any_length_pass() {
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        for eof in [0, capability::DEPRECATE_EOF] {
            let mut wire = Wire::login(stack.failsoft.port(), eof).await;
            for &length in LENGTHS {
                as_text(&mut wire, length).await;
                as_parameter(&mut wire, length).await;
                assert_eq!(wire.value("SELECT 'in step'").await, "in step", "{length}");
            }
            as_long_data(&mut wire, 20 << 20).await;
            println!("{flavor}: {} lengths", LENGTHS.len());
        }
    }
}

/// A statement of just this length whose result is a row nearly as long.
async fn as_text(wire: &mut Wire, length: usize) {
    let around = "SELECT ''".len() + 1;
    let value = letters(length - around);
    let sql = [b"SELECT '", &value[..], b"'"].concat();
    let frames = wire.query(&sql).await;
    check_row(&frames, &value, "text");
    let first = u8::try_from(length / 0xff_ffff + 1).unwrap();
    let in_order = frames.iter().zip(first..).all(|(frame, n)| frame.sequence == n);
    assert!(in_order, "{length}: the reply goes on from #{}", frames[0].sequence);
}

/// An execution of just this length.
async fn as_parameter(wire: &mut Wire, length: usize) {
    let (id, _) = wire.prepare("SELECT CONCAT(?, '') AS c, LENGTH(?)").await;
    let value = letters(if length < (1 << 24) + 33 { length - 28 } else { length - 33 });
    let values = [(BLOB, Some(lenenc_bytes(&value))), (LONGLONG, Some(vec![7; 8]))];
    let command = [execution(id, 0), parameters(&values, true)].concat();
    assert_eq!(command.len() + 1, length, "the test's arithmetic");
    let frames = wire.ask(com::STMT_EXECUTE, &command, Kind::Results).await;
    check_row(&frames, &value, "parameter");
    wire.client.command(com::STMT_CLOSE, &id.to_le_bytes()).await.unwrap();
}

/// A parameter in pieces, one of them longer than a frame, stored and read back.
async fn as_long_data(wire: &mut Wire, length: usize) {
    let create = wire.query("CREATE TABLE IF NOT EXISTS blobs (b LONGBLOB)").await;
    assert!(create[0].is_ok(), "{:?}", create[0].error());
    let (id, _) = wire.prepare("INSERT INTO blobs VALUES (?)").await;
    let value = letters(length);
    for piece in [&value[..10], &value[10..length - 100], &value[length - 100..]] {
        let command = [&id.to_le_bytes()[..], &[0, 0], piece].concat();
        wire.client.command(com::STMT_SEND_LONG_DATA, &command).await.unwrap();
    }
    let command = [execution(id, 0), vec![0, 1, BLOB, 0]].concat();
    let frames = wire.ask(com::STMT_EXECUTE, &command, Kind::Results).await;
    assert!(frames[0].is_ok(), "{:?}", frames[0].error());
    check_row(&wire.query("SELECT b FROM blobs").await, &value, "long data");
    assert!(wire.query("DROP TABLE blobs").await[0].is_ok());
}

/// The value is in the reply's row, which begins in the packet that has its length in front.
fn check_row(frames: &[Frame], value: &[u8], what: &str) {
    let what = format!("{what} of {} bytes", value.len());
    assert!(!frames[0].is_err(), "{what}: {:?}", frames[0].error());
    let marked = lenenc_bytes(value);
    let offset = |frame: &Frame| {
        let beginning = &frame.payload[..frame.payload.len().min(32)];
        beginning.windows(9).position(|window| window == &marked[..9])
    };
    let found = frames.iter().enumerate().find_map(|(at, frame)| Some((at, offset(frame)?)));
    let (at, offset) = found.unwrap_or_else(|| panic!("{what}: no row"));
    let row: Vec<&[u8]> = frames[at..].iter().map(|frame| &*frame.payload).collect();
    assert!(row.concat()[offset..].starts_with(&marked), "{what}: it came back otherwise");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_may_come_in_any_pieces() {
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        let one = frame(&[com::QUERY], b"SELECT 'cut', 1");
        for cut in 1..one.len() {
            for piece in [&one[..cut], &one[cut..]] {
                wire.client.stream.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(wire.reply(Kind::Results).await.len(), 6, "cut at {cut}");
        }
        for byte in &one {
            wire.client.stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(wire.reply(Kind::Results).await.len(), 6, "byte by byte");
        many_at_once(&mut wire).await;
        // The last command of a burst may be incomplete.
        let burst = [&one[..], &one[..7]].concat();
        wire.client.stream.write_all(&burst).await.unwrap();
        assert_eq!(wire.reply(Kind::Results).await.len(), 6, "before the half one");
        wire.client.stream.write_all(&one[7..]).await.unwrap();
        assert_eq!(wire.reply(Kind::Results).await.len(), 6, "the half one");
        after_each_other(&stack, &mut wire).await;
    }
}

/// A whole packet of sequence 0.
fn frame(command: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(command.len() + rest.len()).unwrap().to_le_bytes();
    [&length[..3], &[0], command, rest].concat()
}

/// Fifty queries in one write, some of them wrong, are answered in their order.
async fn many_at_once(wire: &mut Wire) {
    let mut burst = Vec::new();
    for n in 0..50 {
        let sql = if n % 7 == 6 { format!("SELECT wrong{n}") } else { format!("SELECT {n}") };
        burst.extend(frame(&[com::QUERY], sql.as_bytes()));
        burst.extend(frame(&[com::PING], b""));
    }
    wire.client.stream.write_all(&burst).await.unwrap();
    for n in 0..50_u32 {
        let frames = wire.reply(Kind::Results).await;
        if n % 7 == 6 {
            let (code, _, message) = frames[0].error().unwrap();
            assert!(code == 1054 && message.contains(&format!("wrong{n}")), "{n}: {message}");
        } else {
            assert_eq!(frames[3].payload[1..], *n.to_string().as_bytes());
        }
        assert!(wire.reply(Kind::One).await[0].is_ok(), "ping {n}");
    }
}

/// A statement is prepared, given data, executed, fetched from and closed in one write.
async fn after_each_other(stack: &Stack, wire: &mut Wire) {
    let (last, _) = wire.prepare("SELECT 0").await;
    let id = (last + 1).to_le_bytes();
    let long = [&id[..], &[0, 0], b"a long one"].concat();
    let execute = [execution(last + 1, 0), vec![0, 1, BLOB, 0]].concat();
    let burst = [
        frame(&[com::STMT_PREPARE], b"SELECT CONCAT(?, '!')"),
        frame(&[com::STMT_SEND_LONG_DATA], &long),
        frame(&[com::STMT_EXECUTE], &execute),
        frame(&[com::STMT_CLOSE], &id),
        frame(&[com::STMT_EXECUTE], &execute),
        frame(&[com::INIT_DB], b"app"),
    ]
    .concat();
    wire.client.stream.write_all(&burst).await.unwrap();
    assert!(wire.reply(Kind::Prepared).await[0].is_ok());
    let frames = wire.reply(Kind::Results).await;
    assert!(frames[3].payload.ends_with(b"\x0ba long one!"), "{}", show(&frames[3]));
    assert_eq!(wire.reply(Kind::Results).await[0].error().unwrap().0, 1243);
    assert!(wire.reply(Kind::One).await[0].is_ok());
    if stack.pair.flavor() == Flavor::MariaDb {
        // MariaDB's connectors do not wait for the id: -1 is the statement prepared last.
        for (sql, expected) in [("SELECT 'the last'", 0), ("SELEC", 1243)] {
            let execute = frame(&[com::STMT_EXECUTE], &execution(u32::MAX, 0));
            let burst = [frame(&[com::STMT_PREPARE], sql.as_bytes()), execute].concat();
            wire.client.stream.write_all(&burst).await.unwrap();
            assert_eq!(wire.reply(Kind::Prepared).await[0].is_err(), expected != 0);
            let frames = wire.reply(Kind::Results).await;
            assert_eq!(frames[0].error().map_or(0, |error| error.0), expected, "{sql}");
        }
    }
}

/// Megabytes of memory that failsoft's process holds.
fn resident(stack: &Stack) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", stack.failsoft.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// How much failsoft may grow, megabytes, while a hundred times that goes through it.
const GROWTH: u64 = 8;

/// A million rows of digits; what `{row}` says of each number `n`.
fn million(row: &str) -> String {
    let digits = (1..10).map(|digit| format!(" UNION ALL SELECT {digit}")).collect::<String>();
    let ten = format!("(SELECT 0 AS i{digits})");
    format!(
        "SELECT {row} FROM (SELECT a.i + 10 * b.i + 100 * c.i + 1000 * d.i + 10000 * e.i + \
         100000 * f.i AS n FROM {ten} a, {ten} b, {ten} c, {ten} d, {ten} e, {ten} f) AS numbers"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_and_files_need_no_memory() {
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        let eof = capability::DEPRECATE_EOF;
        let mut wire = Wire::login(stack.failsoft.port(), eof | capability::LOCAL_FILES).await;
        assert_eq!(wire.value("SELECT 'warm'").await, "warm");
        let before = resident(&stack);
        let mut most = before;
        wire.client.command(com::QUERY, million("n").as_bytes()).await.unwrap();
        let (mut rows, mut sum) = (0_u64, 0_u64);
        loop {
            let frame = wire.client.read().await.unwrap();
            match frame.payload[0] {
                0xfe => break,
                length if usize::from(length) + 1 == frame.payload.len() && length < 7 => {
                    rows += 1;
                    sum += String::from_utf8(frame.payload[1..].to_vec())
                        .unwrap()
                        .parse::<u64>()
                        .unwrap();
                }
                _ => {}
            }
        }
        assert_eq!(sum, 499_999_500_000, "{flavor}: {rows} packets");
        most = most.max(resident(&stack));
        // Some 800 MB for a client that does not read at first, and then leaves in the middle.
        let wide = million("RPAD(n, 800, 'x')");
        wire.client.command(com::QUERY, wide.as_bytes()).await.unwrap();
        wire.client.read().await.unwrap();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            most = most.max(resident(&stack));
        }
        for row in 0..200_000 {
            wire.client.read().await.unwrap();
            if row % 10_000 == 0 {
                most = most.max(resident(&stack));
            }
        }
        drop(wire);
        println!("{flavor}: {before} MB before, {most} MB at most");
        assert!(most < before + GROWTH, "{flavor}: {before} MB before, {most} MB at most");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_client_are_loaded() {
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        let mut report = String::new();
        let choices = [("plain", 0), ("DEPRECATE_EOF", capability::DEPRECATE_EOF)];
        let choices = choices.map(|(name, more)| (name, more | capability::LOCAL_FILES));
        report += &compare(&stack, "files", &choices, files).await;
        report += &compare(&stack, "no files", &[("without", 0)], no_files).await;
        let mut root = stack.root(stack.pair.master.port()).await;
        execute(&mut root, "SET GLOBAL local_infile = 0").await;
        report += &compare(&stack, "refused files", &choices, no_files).await;
        execute(&mut root, "SET GLOBAL local_infile = 1").await;
        assert!(report.is_empty(), "\n{report}");
        let before = resident(&stack);
        let loaded = through_a_driver(&stack).await;
        let after = resident(&stack);
        println!("{flavor}: {loaded} rows loaded, {before} MB before, {after} MB after");
        assert!(after < before + GROWTH, "{before} MB before, {after} MB after");
    }
}

const LOAD: &str = "LOAD DATA LOCAL INFILE 'any' INTO TABLE loaded FIELDS TERMINATED BY ','";

async fn files(r: &mut Recorder, _: u32) {
    r.query("CREATE TABLE loaded (a INT PRIMARY KEY, b VARCHAR(10))").await;
    let long: String = (100..60_000).map(|n| format!("{n},{n}\n")).collect();
    let (first, second) = long.split_at(100_000);
    let pieces: [(&str, &[&str]); 6] = [
        ("two pieces", &["1,one\n2,t", "wo\n"]),
        ("empty", &[]),
        ("another at once", &["3,three\n"]),
        ("wrong", &["1,twice\nx,not a number\n4\n"]),
        ("one byte", &["5"]),
        ("long", &[first, second]),
    ];
    for (what, pieces) in pieces {
        r.ask(what, com::QUERY, LOAD.as_bytes(), Kind::Results).await;
        for piece in pieces {
            r.wire.client.send(piece.as_bytes()).await.unwrap();
        }
        r.wire.client.send(b"").await.unwrap();
        let frames = r.wire.reply(Kind::Results).await;
        r.transcript.push((format!("{what}, loaded"), frames));
        r.query("SHOW WARNINGS").await;
        r.query("SELECT COUNT(*), SUM(a) FROM loaded").await;
    }
    let twice = format!("SELECT 1; {LOAD}; SELECT 2");
    r.ask("among others", com::QUERY, twice.as_bytes(), Kind::Results).await;
    r.wire.client.send(b"-1,minus\n").await.unwrap();
    r.wire.client.send(b"").await.unwrap();
    let frames = r.wire.reply(Kind::Results).await;
    r.transcript.push(("among others, loaded".to_owned(), frames));
    r.query("DROP TABLE loaded").await;
}

async fn no_files(r: &mut Recorder, _: u32) {
    r.query("CREATE TABLE loaded (a INT PRIMARY KEY, b VARCHAR(10))").await;
    r.query(LOAD).await;
    r.query("DROP TABLE loaded").await;
}

/// Loads a file of 60 MB; the rows that arrived.
async fn through_a_driver(stack: &Stack) -> u64 {
    let mut session = stack.session().await;
    execute(&mut session, "CREATE TABLE loaded (a LONGBLOB)").await;
    let file: &'static [u8] =
        Vec::leak(letters(60 << 20).chunks(4096).collect::<Vec<_>>().join(&b'\n'));
    session.set_infile_handler(async move { Ok(Box::pin(ReaderStream::new(file)) as _) });
    execute(&mut session, "LOAD DATA LOCAL INFILE 'x' INTO TABLE loaded").await;
    let rows = query_one::<u64>(&mut session, "SELECT COUNT(*) FROM loaded").await;
    assert_eq!(rows, 60 << 8);
    execute(&mut session, "DROP TABLE loaded").await;
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_cannot_tell() {
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        // MySQL answers a few of them otherwise the first time.
        as_a_driver_sees(&mut stack.direct(stack.pair.master.port()).await).await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        let mut through = stack.session().await;
        let expected = as_a_driver_sees(&mut direct).await;
        let seen = as_a_driver_sees(&mut through).await;
        for (expected, seen) in expected.iter().zip(&seen) {
            assert_eq!(seen, expected, "{flavor}");
        }
        assert_eq!(seen.len(), expected.len());
        println!("{flavor}: {} outcomes are equal", seen.len());
        other_logins(&stack, &mut through).await;
        kills_by_id(&stack).await;
        what_is_no_command(&stack).await;
        if flavor == Flavor::MariaDb {
            bulk_execution(&stack).await;
        }
    }
}

/// Statements by text and by the binary protocol, as mysql_async gives their outcomes.
async fn as_a_driver_sees(conn: &mut Conn) -> Vec<String> {
    let mut seen = Vec::new();
    for sql in STATEMENTS.iter().filter(|sql| !sql.contains("DROP ") && !sql.contains("XA ")) {
        seen.push(outcomes(conn, sql).await);
        // MySQL answers the preparation of the last of these with something that is none.
        if !sql.contains(';') && !sql.trim().is_empty() && !sql.contains("SET GLOBAL") {
            let result: Result<Vec<Row>, _> = conn.exec(*sql, ()).await;
            seen.push(format!("prepared `{sql}`: {result:?}, {}", conn.affected_rows()));
        }
    }
    for sql in STATEMENTS.iter().filter(|sql| sql.starts_with("DROP ") && !sql.contains("nowhere"))
    {
        seen.push(outcomes(conn, sql).await);
    }
    seen
}

/// All results of a statement with their columns, or its error.
async fn outcomes(conn: &mut Conn, sql: &str) -> String {
    let mut text = format!("`{sql}`:");
    let mut result = match conn.query_iter(sql).await {
        Ok(result) => result,
        Err(error) => return format!("{text} {error:?}"),
    };
    loop {
        text += &format!(" {:?}", result.columns());
        match result.collect::<Row>().await {
            Ok(rows) => text += &format!(" {rows:?}"),
            Err(error) => return format!("{text} {error:?}"),
        }
        let (rows, id, warnings) =
            (result.affected_rows(), result.last_insert_id(), result.warnings());
        text += &format!(" {rows} {id:?} {warnings} {};", result.info());
        if result.is_empty() {
            return text;
        }
    }
}

/// `COM_RESET_CONNECTION` and `COM_CHANGE_USER`.
async fn other_logins(stack: &Stack, session: &mut Conn) {
    execute(session, "SET @a = 1").await;
    assert!(session.reset().await.unwrap());
    assert_eq!(query_one::<Option<i64>>(session, "SELECT @a").await, None);
    execute(session, "CREATE TEMPORARY TABLE gone (a INT)").await;
    let options = ChangeUserOpts::new().with_db_name(Some("information_schema".to_owned()));
    session.change_user(options).await.unwrap();
    assert_eq!(query_one::<String>(session, "SELECT DATABASE()").await, "information_schema");
    assert_eq!(outcome(session, "SELECT * FROM app.gone").await.split('/').next(), Some("1146"));
    assert_eq!(query_one::<i64>(session, "SELECT COUNT(*) FROM app.t").await, 1);
    let mut other = stack.session().await;
    other.change_user(ChangeUserOpts::new().with_db_name(None)).await.unwrap();
    assert_eq!(query_one::<Option<String>>(&mut other, "SELECT DATABASE()").await, None);
}

/// The id that a session sees is the one that it can be killed by.
async fn kills_by_id(stack: &Stack) {
    let (mut victim, mut killer) = (stack.session().await, stack.session().await);
    let id = query_one::<u64>(&mut victim, "SELECT CONNECTION_ID()").await;
    let sleep = tokio::spawn(async move {
        let end = outcome(&mut victim, "SELECT COUNT(*), SLEEP(100) FROM t, t AS u").await;
        (victim, end)
    });
    let asleep = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE id = {id} AND info LIKE '%SLEEP%'"
    );
    wait_until(PATIENCE, "a statement that sleeps", || async {
        let mut direct = stack.direct(stack.pair.master.port()).await;
        query_one::<u64>(&mut direct, &asleep).await == 1
    })
    .await;
    execute(&mut killer, &format!("KILL QUERY {id}")).await;
    let (mut victim, _) = sleep.await.unwrap();
    assert_eq!(query_one::<u64>(&mut victim, "SELECT CONNECTION_ID()").await, id);
}

/// As the contract has it, what is no command ends the session with an error of its own.
async fn what_is_no_command(stack: &Stack) {
    for (what, payload, code) in [("unknown", &b"\x77abc"[..], 1047), ("empty", b"", 1835)] {
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        assert_eq!(wire.value("SELECT 1").await, "1");
        wire.client.sequence = 0;
        wire.client.send(payload).await.unwrap();
        let (got, state, _) = wire.reply(Kind::One).await[0].error().unwrap();
        assert_eq!((got, state.as_str()), (code, "08S01"), "{what}");
        assert!(wire.is_closed().await, "{what}");
    }
    // What makes no sense through a proxy is refused, and the session goes on.
    let mut wire = Wire::login(stack.failsoft.port(), 0).await;
    for code in [0x12, 0x15, 0x1e] {
        let frames = wire.ask(code, &[0; 20], Kind::One).await;
        assert_eq!(frames[0].error().unwrap().0, 1047, "{code:#x}");
    }
    assert_eq!(wire.value("SELECT 'still here'").await, "still here");
}

/// MariaDB's `COM_STMT_BULK_EXECUTE`: three rows in one command.
async fn bulk_execution(stack: &Stack) {
    let mut client = RawClient::connect(stack.failsoft.port()).await.unwrap();
    let login = Handmade {
        schema: Some("app".to_owned()),
        extended: STMT_BULK,
        ..Handmade::native(&client)
    };
    client.send(&login.payload()).await.unwrap();
    assert!(client.read().await.unwrap().is_ok());
    let mut wire = Wire::new(client, 0);
    let (id, _) = wire.prepare("INSERT INTO t VALUES (?, ?)").await;
    let mut command = [&id.to_le_bytes()[..], &[128, 0], &[LONGLONG, 0, TEXT, 0]].concat();
    for (n, text) in [(501_u64, Some("bulk")), (502, None), (503, Some(""))] {
        command.push(0);
        command.extend(n.to_le_bytes());
        match text {
            Some(text) => command.extend([&[0], &*lenenc_bytes(text.as_bytes())].concat()),
            None => command.push(1),
        }
    }
    let frames = wire.ask(com::STMT_BULK_EXECUTE, &command, Kind::Results).await;
    assert!(frames[0].is_ok(), "{:?}", frames[0].error());
    let values = "SELECT GROUP_CONCAT(id, COALESCE(v, 'NULL') ORDER BY id) FROM t WHERE id > 500";
    assert_eq!(wire.value(values).await, "501bulk,502NULL,503");
}
