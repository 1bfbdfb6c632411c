//! mysql_async of Rust. Run as `driver-mysql-async plain|fault|version`; prints lines of
//! `step<TAB>value`, see ../README.md.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of the tests, where a panic is the report"
)]

use std::{env, fs, io};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, IsolationLevel, OptsBuilder, Row, Statement, TxOpts, Value};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

type Done<T> = Result<T, Error>;

const TEXT: &str = "ä€😀";
const READ: &str = "SELECT v FROM t WHERE id < ?";

#[tokio::main]
async fn main() {
    match env::args().nth(1).as_deref() {
        Some("plain") => plain().await,
        Some("fault") => fault().await,
        _ => println!("{}", version()),
    }
}

/// Its version, which stands in the lock file only.
fn version() -> String {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let text = fs::read_to_string(lock).unwrap();
    let package = text.split("name = \"mysql_async\"\nversion = \"").nth(1).unwrap();
    package.split('"').next().unwrap().to_owned()
}

async fn session(password: Option<&str>) -> Done<Conn> {
    let var = |name| env::var(name).unwrap();
    let options = OptsBuilder::default()
        .ip_or_hostname(var("DB_HOST"))
        .tcp_port(var("DB_PORT").parse().unwrap())
        .user(Some(var("DB_USER")))
        .pass(Some(password.map_or_else(|| var("DB_PASS"), str::to_owned)))
        .db_name(Some(var("DB_NAME")))
        .prefer_socket(false);
    Conn::new(options).await
}

fn say(step: &str, value: &str) {
    println!("{step}\t{}", value.replace('\n', "\\n"));
}

fn wait(step: &str) {
    println!("ready {step}");
    assert_ne!(io::stdin().read_line(&mut String::new()).unwrap(), 0, "nobody answers");
}

fn shown(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let values = (0..row.len()).map(|at| format!("{:?}", row.as_ref(at).unwrap()));
        values.collect::<Vec<_>>().join(", ")
    };
    rows.iter().map(row).collect::<Vec<_>>().join(" ; ")
}

fn told<T>(result: Done<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(Error::Server(error)) => format!("{} {} {}", error.code, error.state, error.message),
        Err(error) => error.to_string(),
    }
}

/// Number and state of an error; or that there is none.
fn failure<T>(result: Done<T>) -> String {
    match result {
        Err(Error::Server(error)) => format!("{}/{}", error.code, error.state),
        other => told(other),
    }
}

fn step(name: &str, result: Done<String>) {
    say(name, &result.unwrap_or_else(|error| format!("failed: {error}")));
}

async fn plain() {
    say("wrong password", &told(session(Some("wrong")).await));
    let one = &mut session(None).await.unwrap();
    say("connect", "ok");
    step("types, text", text(one).await);
    step("types, prepared", prepared(one).await);
    step("parameters", parameters(one).await);
    step("utf8mb4", utf8mb4(one).await);
    step("transaction", transaction(one).await);
    step("last id", last_id(one).await);
    step("CALL", call(one).await);
    step("temporary table", temporary(one).await);
    step("variables", variables(one).await);
    let twice = told(one.query_drop("INSERT INTO auto (v) VALUES ('committed')").await);
    let nowhere = told(one.query_drop("SELECT * FROM nowhere").await);
    say("1062, 1146", &format!("{twice} ; {nowhere}"));
    step("LOAD DATA", load(one).await);
    step("20 MB", blob(one).await);
}

async fn text(one: &mut Conn) -> Done<String> {
    Ok(shown(&one.query("SELECT * FROM kinds ORDER BY id").await?))
}

async fn prepared(one: &mut Conn) -> Done<String> {
    Ok(shown(&one.exec("SELECT * FROM kinds WHERE id > ? ORDER BY id", (0,)).await?))
}

async fn parameters(one: &mut Conn) -> Done<String> {
    one.exec_drop("INSERT INTO params VALUES (?, ?, ?, ?)", (42, TEXT, Value::NULL, 1.5)).await?;
    Ok(shown(&one.query("SELECT * FROM params").await?))
}

async fn blob(one: &mut Conn) -> Done<String> {
    let blob: Vec<u8> = (0..=255).cycle().take(20 << 20).collect();
    one.exec_drop("INSERT INTO blobs VALUES (1, ?)", (&blob,)).await?;
    let back: Vec<u8> = one.query_first("SELECT b FROM blobs").await?.unwrap();
    Ok(format!("{} {}", back.len(), if back == blob { "same" } else { "other" }))
}

async fn utf8mb4(one: &mut Conn) -> Done<String> {
    let statement = "SELECT ?, CHAR_LENGTH(?), HEX(?)";
    let row: (String, i64, String) = one.exec_first(statement, (TEXT, TEXT, TEXT)).await?.unwrap();
    Ok(format!("{} {} {}", row.0, row.1, row.2))
}

async fn transaction(one: &mut Conn) -> Done<String> {
    let mut options = TxOpts::new();
    options.with_isolation_level(Some(IsolationLevel::ReadCommitted));
    let mut kept = one.start_transaction(options).await?;
    kept.query_drop("INSERT INTO auto (v) VALUES ('committed')").await?;
    kept.commit().await?;
    let mut undone = one.start_transaction(TxOpts::default()).await?;
    undone.query_drop("INSERT INTO auto (v) VALUES ('rolled back')").await?;
    undone.rollback().await?;
    let count = "SELECT COUNT(*) FROM auto WHERE v = ?";
    let kept: i64 = one.exec_first(count, ("committed",)).await?.unwrap();
    let undone: i64 = one.exec_first(count, ("rolled back",)).await?.unwrap();
    Ok(format!("{kept} {undone}"))
}

async fn last_id(one: &mut Conn) -> Done<String> {
    one.query_drop("INSERT INTO auto (v) VALUES ('id')").await?;
    let given = one.last_insert_id().unwrap_or(0);
    let asked: u64 = one.query_first("SELECT LAST_INSERT_ID()").await?.unwrap();
    Ok(format!("{given} {asked}"))
}

async fn call(one: &mut Conn) -> Done<String> {
    let mut result = one.query_iter("CALL several(7)").await?;
    let mut results = Vec::new();
    while !result.is_empty() || results.is_empty() {
        let rows: Vec<String> = result.map(|row| row.get(0).unwrap()).await?;
        results.push(rows.join(","));
    }
    Ok(results.join(" | "))
}

async fn temporary(one: &mut Conn) -> Done<String> {
    one.query_drop("CREATE TEMPORARY TABLE mine (a INT)").await?;
    one.query_drop("INSERT INTO mine VALUES (1), (2)").await?;
    Ok(one.query_first("SELECT COUNT(*) FROM mine").await?.unwrap())
}

async fn variables(one: &mut Conn) -> Done<String> {
    one.query_drop("SET SESSION group_concat_max_len = 12345").await?;
    one.query_drop("SET @x = 'x'").await?;
    let statement = "SELECT @@group_concat_max_len, @x";
    let (length, x): (i64, String) = one.query_first(statement).await?.unwrap();
    Ok(format!("{length} {x}"))
}

async fn load(one: &mut Conn) -> Done<String> {
    let name = env::var("LOAD_FILE").unwrap();
    let file = File::open(&name).await.unwrap();
    one.set_infile_handler(async move { Ok(Box::pin(ReaderStream::new(file)) as _) });
    one.query_drop(format!(
        "LOAD DATA LOCAL INFILE '{name}' INTO TABLE loaded FIELDS TERMINATED BY ','"
    ))
    .await?;
    Ok(one.query_first("SELECT COUNT(*) FROM loaded").await?.unwrap())
}

async fn fault() {
    let mut unsure = session(None).await.unwrap();
    unsure.query_drop("SELECT 1").await.unwrap();
    wait("answer");
    let told = unsure.query_drop("INSERT INTO fault VALUES ('answered')").await;
    say("answer lost", &failure(told));
    let (mut reader, mut other) = (session(None).await.unwrap(), session(None).await.unwrap());
    reader.query_drop("SET @mark = 'kept'").await.unwrap();
    let statement = reader.prep(READ).await.unwrap();
    read_prepared(&mut reader, &statement).await.unwrap();
    let mut torn = other.start_transaction(TxOpts::default()).await.unwrap();
    torn.query_drop("INSERT INTO fault VALUES ('torn')").await.unwrap();
    unsure.query_drop("SELECT 1").await.unwrap();
    wait("kill");
    let sleeping = "INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')";
    say("write in flight", &failure(unsure.query_drop(sleeping).await));
    step("read", read(&mut reader).await);
    step("prepared read", read_prepared(&mut reader, &statement).await);
    let refused = reader.query_drop("INSERT INTO fault VALUES ('refused')").await;
    say("write", &failure(refused));
    say("transaction", &failure(torn.query_drop("SELECT COUNT(*) FROM fault").await));
    // Its own `commit` consumes the transaction.
    say("COMMIT", &failure(torn.query_drop("COMMIT").await));
    say("ROLLBACK", &failure(torn.rollback().await));
    wait("back");
    let again = reader.query_drop("INSERT INTO fault VALUES ('again')").await;
    say("write again", &failure(again));
    say(
        "write again",
        &failure(other.query_drop("INSERT INTO fault VALUES ('again, torn')").await),
    );
}

async fn read(reader: &mut Conn) -> Done<String> {
    let statement = "SELECT v, @mark FROM t WHERE id = 1";
    let (value, mark): (String, String) = reader.query_first(statement).await?.unwrap();
    Ok(format!("{value} {mark}"))
}

async fn read_prepared(reader: &mut Conn, statement: &Statement) -> Done<String> {
    Ok(reader.exec_first(statement, (2,)).await?.unwrap())
}
