//! sqlx of Rust. Run as `run.sh plain|fault|version`; prints lines of `step<TAB>value`, see
//! ../README.md.

use std::{env, io};

use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Either, Error, Executor, Row};

type Done<T> = Result<T, Error>;

const TEXT: &str = "ä€😀";
const READ: &str = "SELECT v FROM t WHERE id < ?";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    match env::args().nth(1).as_deref() {
        Some("plain") => plain().await,
        Some("fault") => fault().await,
        _ => println!("{}", version()),
    }
}

/// Its version, which stands in the lock file only.
fn version() -> &'static str {
    let lock = include_str!("Cargo.lock");
    let package = lock.split("name = \"sqlx\"\nversion = \"").nth(1).unwrap();
    package.split('"').next().unwrap()
}

async fn session(password: Option<&str>) -> Done<MySqlConnection> {
    let var = |name| env::var(name).unwrap();
    MySqlConnectOptions::new()
        .host(&var("DB_HOST"))
        .port(var("DB_PORT").parse().unwrap())
        .username(&var("DB_USER"))
        .password(password.unwrap_or(&var("DB_PASS")))
        .database(&var("DB_NAME"))
        .connect()
        .await
}

fn say(step: &str, value: &str) {
    println!("{step}\t{}", value.replace('\n', "\\n"));
}

fn wait(step: &str) {
    println!("ready {step}");
    assert_ne!(io::stdin().read_line(&mut String::new()).unwrap(), 0, "nobody answers");
}

/// The bytes of each value as they came, whatever their type.
fn shown(rows: &[MySqlRow]) -> String {
    let value = |row: &MySqlRow, at| {
        let value: Option<Vec<u8>> = row.get_unchecked(at);
        value.map_or("NULL".to_owned(), |bytes| bytes.escape_ascii().to_string())
    };
    let row = |row: &MySqlRow| {
        let values = row.columns().iter().map(|column| value(row, column.ordinal()));
        values.collect::<Vec<_>>().join(", ")
    };
    rows.iter().map(row).collect::<Vec<_>>().join(" ; ")
}

fn told<T>(result: Done<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

/// Number and state of an error; or that there is none.
fn failure<T>(result: Done<T>) -> String {
    if let Err(Error::Database(error)) = &result {
        let error = error.downcast_ref::<MySqlDatabaseError>();
        return format!("{}/{}", error.number(), error.code().unwrap_or_default());
    }
    told(result)
}

fn step(name: &str, result: Done<String>) {
    say(name, &result.unwrap_or_else(|error| format!("failed: {error}")));
}

/// Executes a statement that is prepared, as all are that are not asked for otherwise.
async fn execute(one: &mut MySqlConnection, statement: &'static str) -> Done<u64> {
    Ok(sqlx::query(statement).execute(one).await?.last_insert_id())
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
    let twice = told(execute(one, "INSERT INTO auto (v) VALUES ('committed')").await);
    let nowhere = told(execute(one, "SELECT * FROM nowhere").await);
    say("1062, 1146", &format!("{twice} ; {nowhere}"));
    step("LOAD DATA", load().await);
    step("20 MB", blob(one).await);
}

async fn text(one: &mut MySqlConnection) -> Done<String> {
    Ok(shown(&one.fetch_all(sqlx::raw_sql("SELECT * FROM kinds ORDER BY id")).await?))
}

async fn prepared(one: &mut MySqlConnection) -> Done<String> {
    let query = sqlx::query("SELECT * FROM kinds WHERE id > ? ORDER BY id").bind(0);
    Ok(shown(&query.fetch_all(one).await?))
}

async fn parameters(one: &mut MySqlConnection) -> Done<String> {
    let insert = sqlx::query("INSERT INTO params VALUES (?, ?, ?, ?)");
    insert.bind(42).bind(TEXT).bind(None::<i32>).bind(1.5).execute(&mut *one).await?;
    Ok(shown(&one.fetch_all("SELECT * FROM params").await?))
}

async fn blob(one: &mut MySqlConnection) -> Done<String> {
    let blob: Vec<u8> = (0..=255).cycle().take(20 << 20).collect();
    sqlx::query("INSERT INTO blobs VALUES (1, ?)").bind(&blob).execute(&mut *one).await?;
    let back: Vec<u8> = sqlx::query_scalar("SELECT b FROM blobs").fetch_one(one).await?;
    Ok(format!("{} {}", back.len(), if back == blob { "same" } else { "other" }))
}

async fn utf8mb4(one: &mut MySqlConnection) -> Done<String> {
    let query = sqlx::query("SELECT ?, CHAR_LENGTH(?), HEX(?)").bind(TEXT).bind(TEXT).bind(TEXT);
    let row = query.fetch_one(one).await?;
    let (text, length): (String, i32) = (row.get_unchecked(0), row.get_unchecked(1));
    Ok(format!("{text} {length} {}", row.get_unchecked::<String, _>(2)))
}

async fn transaction(one: &mut MySqlConnection) -> Done<String> {
    let mut kept = one.begin().await?;
    execute(&mut kept, "INSERT INTO auto (v) VALUES ('committed')").await?;
    kept.commit().await?;
    let mut undone = one.begin().await?;
    execute(&mut undone, "INSERT INTO auto (v) VALUES ('rolled back')").await?;
    undone.rollback().await?;
    let count = || sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM auto WHERE v = ?");
    let kept = count().bind("committed").fetch_one(&mut *one).await?;
    let undone = count().bind("rolled back").fetch_one(one).await?;
    Ok(format!("{kept} {undone}"))
}

async fn last_id(one: &mut MySqlConnection) -> Done<String> {
    let given = execute(one, "INSERT INTO auto (v) VALUES ('id')").await?;
    let asked: u64 = sqlx::query_scalar("SELECT LAST_INSERT_ID()").fetch_one(one).await?;
    Ok(format!("{given} {asked}"))
}

async fn call(one: &mut MySqlConnection) -> Done<String> {
    let all: Vec<_> = one.fetch_many(sqlx::raw_sql("CALL several(7)")).try_collect().await?;
    let mut results = vec![Vec::<String>::new()];
    for next in all {
        match next {
            Either::Left(_) => results.push(Vec::new()),
            Either::Right(row) => results.last_mut().unwrap().push(row.get_unchecked(0)),
        }
    }
    results.pop();
    Ok(results.iter().map(|rows| rows.join(",")).collect::<Vec<_>>().join(" | "))
}

async fn temporary(one: &mut MySqlConnection) -> Done<String> {
    execute(one, "CREATE TEMPORARY TABLE mine (a INT)").await?;
    execute(one, "INSERT INTO mine VALUES (1), (2)").await?;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM mine").fetch_one(one).await?;
    Ok(count.to_string())
}

async fn variables(one: &mut MySqlConnection) -> Done<String> {
    execute(one, "SET SESSION group_concat_max_len = 12345").await?;
    execute(one, "SET @x = 'x'").await?;
    let row = one.fetch_one("SELECT CAST(@@group_concat_max_len AS CHAR), @x").await?;
    let [length, x] = [0, 1].map(|at| row.get_unchecked::<String, _>(at));
    Ok(format!("{length} {x}"))
}

/// On a connection of its own, which may not be of use after it.
async fn load() -> Done<String> {
    let name = env::var("LOAD_FILE").unwrap();
    let load =
        format!("LOAD DATA LOCAL INFILE '{name}' INTO TABLE loaded FIELDS TERMINATED BY ','");
    let one = &mut session(None).await?;
    one.execute(sqlx::raw_sql(AssertSqlSafe(load))).await?;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM loaded").fetch_one(one).await?;
    Ok(count.to_string())
}

async fn fault() {
    let mut unsure = session(None).await.unwrap();
    execute(&mut unsure, "SELECT 1").await.unwrap();
    wait("answer");
    let told = execute(&mut unsure, "INSERT INTO fault VALUES ('answered')").await;
    say("answer lost", &failure(told));
    let (mut reader, mut other) = (session(None).await.unwrap(), session(None).await.unwrap());
    execute(&mut reader, "SET @mark = 'kept'").await.unwrap();
    read_prepared(&mut reader).await.unwrap();
    let mut torn = other.begin().await.unwrap();
    execute(&mut torn, "INSERT INTO fault VALUES ('torn')").await.unwrap();
    execute(&mut unsure, "SELECT 1").await.unwrap();
    wait("kill");
    let sleeping = "INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')";
    say("write in flight", &failure(execute(&mut unsure, sleeping).await));
    step("read", read(&mut reader).await);
    step("prepared read", read_prepared(&mut reader).await);
    let refused = execute(&mut reader, "INSERT INTO fault VALUES ('refused')").await;
    say("write", &failure(refused));
    say("transaction", &failure(execute(&mut torn, "DELETE FROM fault").await));
    // Its own `commit` consumes the transaction.
    say("COMMIT", &failure(torn.execute(sqlx::raw_sql("COMMIT")).await));
    say("ROLLBACK", &failure(torn.rollback().await));
    wait("back");
    let again = execute(&mut reader, "INSERT INTO fault VALUES ('again')").await;
    say("write again", &failure(again));
    let again = execute(&mut other, "INSERT INTO fault VALUES ('again, torn')").await;
    say("write again", &failure(again));
}

async fn read(reader: &mut MySqlConnection) -> Done<String> {
    let row = reader.fetch_one("SELECT v, @mark FROM t WHERE id = 1").await?;
    let [value, mark] = [0, 1].map(|at| row.get_unchecked::<String, _>(at));
    Ok(format!("{value} {mark}"))
}

async fn read_prepared(reader: &mut MySqlConnection) -> Done<String> {
    sqlx::query_scalar(READ).bind(2).fetch_one(reader).await
}
