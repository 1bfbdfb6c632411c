//! Two masters with schemas of their own: statements go where their schemas are, none spans both,
//! and each partition degrades alone.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use failsoft_tests::{PATIENCE, READ_ONLY, is_error, outcome, write_until_ok};
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn};
use raw::{Kind, Wire, com};
use testkit::{
    APP, Failsoft, Flavor, Login, Pair, ROOT, conn, execute, flavors, query_one, wait_until,
};

/// The schemas of the default partition, which nothing lists.
const MAIN: [&str; 2] = ["app", "app_main"];
/// Those of the partition `app_blog`, by its name and by its prefix.
const BLOG: [&str; 2] = ["app_blog", "app_wiki_en"];

/// Two replicating pairs with failsoft in front of them.
struct Partitions {
    failsoft: Failsoft,
    main: Pair,
    blog: Pair,
}

impl Partitions {
    /// Each schema has the table `t (id INT PRIMARY KEY, port INT)` with one row that says on which
    /// master it was made.
    async fn start(flavor: Flavor) -> Self {
        let (main, blog) = tokio::try_join!(Pair::start(flavor), Pair::start(flavor)).unwrap();
        for (pair, schemas) in [(&main, MAIN), (&blog, BLOG)] {
            let port = pair.master.port();
            let mut direct = conn(port, APP.user, APP.pass, None).await.unwrap();
            // Every server of the sandbox has it, and here it has one home.
            if !schemas.contains(&"app") {
                execute(&mut direct, "DROP DATABASE app").await;
            }
            for schema in schemas {
                let make = [
                    format!("CREATE DATABASE IF NOT EXISTS {schema}"),
                    format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, port INT)"),
                    format!("INSERT INTO {schema}.t VALUES (1, {port})"),
                ];
                for statement in make {
                    execute(&mut direct, &statement).await;
                }
            }
            direct.disconnect().await.unwrap();
            pair.wait_synced().await.unwrap();
        }
        let [main_port, blog_port] = [main.master.port(), blog.master.port()];
        let yaml = format!(
            "databases:\n\
             - {{host: 127.0.0.1, port: {blog_port}, role: master, partition: [app_blog, \"app_wiki_*\"]}}\n\
             - {{host: 127.0.0.1, port: {}, role: replica, master: \"127.0.0.1:{blog_port}\"}}\n\
             - {{host: 127.0.0.1, port: {main_port}, role: master, partition: [default]}}\n\
             - {{host: 127.0.0.1, port: {}, role: replica, master: \"127.0.0.1:{main_port}\"}}\n",
            blog.replica.port(),
            main.replica.port(),
        );
        let failsoft = Failsoft::config(&[]).with(&yaml).start().await;
        let partitions = Self { failsoft, main, blog };
        for name in ["default", "app_blog"] {
            partitions.wait_mode(name, "read-write").await;
        }
        partitions
    }

    async fn wait_mode(&self, partition: &str, words: &str) {
        wait_until(PATIENCE, &format!("{partition} {words}"), || async {
            let (_, body) = self.failsoft.http_get(&format!("/rw?partition={partition}")).await;
            body.contains(words)
        })
        .await;
    }

    async fn session(&self, schema: Option<&str>) -> Conn {
        self.failsoft.conn(schema).await.unwrap()
    }

    /// The port of the master that the table's row was made on.
    fn ports(&self) -> [u16; 2] {
        [self.main.master.port(), self.blog.master.port()]
    }

    async fn metric(&self, series: &str) -> f64 {
        let (_, body) = self.failsoft.http_get("/metrics").await;
        body.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }
}

/// Fails unless this is the refusal of a statement that two partitions would have to run.
fn assert_refused(refused: &str, words: &[&str]) {
    assert!(is_error(refused, 1235, "42000"), "{refused}");
    assert!(refused.contains("nothing was executed"), "{refused}");
    for word in words {
        assert!(refused.contains(word), "{word} in {refused}");
    }
}

const SPANS: &[&str] = &["touches partitions default and app_blog;"];
const LEAVES_MAIN: &[&str] = &["belongs to partition app_blog", "cannot leave partition default"];
const LEAVES_BLOG: &[&str] = &["belongs to partition default", "cannot leave partition app_blog"];

#[tokio::test(flavor = "multi_thread")]
async fn statements_go_where_their_schemas_are() {
    for flavor in flavors() {
        let partitions = Partitions::start(flavor).await;
        by_schema_and_qualifier(&partitions).await;
        across(&partitions).await;
        tied(&partitions).await;
        carried(&partitions).await;
        prepared(&partitions).await;
        prepared_in_text(&partitions).await;
        left_behind(&partitions).await;
        by_command(&partitions).await;
        stored_programs(&partitions).await;
        let (_, body) = partitions.failsoft.http_get("/rw").await;
        assert!(body.starts_with("read-write"), "{body}");
        let refused = "failsoft_statements_refused_total{reason=\"partitions\"}";
        let counted = |partition| {
            format!(
                "failsoft_statements_total{{class=\"read\",partition=\"{partition}\",target=\"master\"}}"
            )
        };
        for series in [refused, &counted("default"), &counted("app_blog")] {
            wait_until(PATIENCE, series, || async { partitions.metric(series).await > 0.0 }).await;
        }
    }
}

async fn by_schema_and_qualifier(partitions: &Partitions) {
    let [main, blog] = partitions.ports();
    // The schema of the login, if any; a question; which master answers.
    let table = [
        (None, "SELECT @@port", main),
        (Some("app"), "SELECT @@port", main),
        (Some("app_blog"), "SELECT @@port", blog),
        (Some("app_wiki_en"), "SELECT port FROM t", blog),
        (Some("app_main"), "SELECT port FROM t", main),
        (None, "SELECT port FROM app_blog.t", blog),
        (None, "SELECT port FROM app_main.t", main),
        (Some("app"), "SELECT @@port FROM `app_wiki_en`.`t`", blog),
        (Some("app_blog"), "SELECT @@port FROM app_main.t", main),
        (Some("app_blog"), "SELECT x.port FROM app_wiki_en.t AS x JOIN t USING (id)", blog),
        (Some("app"), "WITH t AS (SELECT * FROM app_blog.t) SELECT port FROM t", blog),
        (Some("app_blog"), "SELECT @@port FROM information_schema.tables LIMIT 1", blog),
        (Some("app"), "SELECT @@port FROM information_schema.tables LIMIT 1", main),
    ];
    for (schema, question, port) in table {
        let mut session = partitions.session(schema).await;
        // From wherever the session is.
        for _ in 0..2 {
            let answer = query_one::<u16>(&mut session, question).await;
            assert_eq!(answer, port, "{schema:?} {question}");
            query_one::<u16>(&mut session, "SELECT port FROM app_main.t").await;
            query_one::<u16>(&mut session, "SELECT port FROM app_blog.t").await;
        }
    }
    // Without a schema it is as on a server without one.
    let mut session = partitions.session(None).await;
    let none = outcome(&mut session, "SELECT * FROM t").await;
    assert!(is_error(&none, 1046, "3D000"), "{none}");
}

async fn across(partitions: &Partitions) {
    let mut session = partitions.session(Some("app")).await;
    let spanning = [
        "SELECT * FROM t JOIN app_blog.t AS u USING (id)",
        "INSERT INTO t SELECT id + 100, port FROM app_blog.t",
        "INSERT INTO t VALUES (100, 0); INSERT INTO app_blog.t VALUES (100, 0)",
        "INSERT INTO app_main.t VALUES (100, 0); USE app_blog",
        "RENAME TABLE t TO app_wiki_en.u",
    ];
    for statement in spanning {
        assert_refused(&outcome(&mut session, statement).await, SPANS);
    }
    assert!(session.prep(spanning[0]).await.is_err());
    for schema in MAIN.iter().chain(&BLOG) {
        let count = format!("SELECT COUNT(*) FROM {schema}.t");
        assert_eq!(query_one::<u8>(&mut session, &count).await, 1, "nothing was executed");
    }
}

async fn tied(partitions: &Partitions) {
    let [main, blog] = partitions.ports();
    let mut session = partitions.session(Some("app")).await;
    execute(&mut session, "BEGIN").await;
    execute(&mut session, "INSERT INTO t VALUES (2, 0)").await;
    for statement in ["INSERT INTO app_blog.t VALUES (2, 0)", "USE app_blog"] {
        let refused = outcome(&mut session, statement).await;
        assert_refused(&refused, LEAVES_MAIN);
        assert!(refused.contains("its open transaction"), "{refused}");
    }
    // The transaction is as it was.
    assert_eq!(query_one::<u8>(&mut session, "SELECT COUNT(*) FROM t").await, 2);
    execute(&mut session, "COMMIT").await;
    execute(&mut session, "USE app_blog").await;
    assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, blog);
    execute(&mut session, "DELETE FROM app.t WHERE id = 2").await;

    // A transaction is wherever its first statement is, and ends there.
    execute(&mut session, "SET autocommit = 0").await;
    execute(&mut session, "UPDATE app.t SET id = 7").await;
    assert_refused(&outcome(&mut session, "SELECT * FROM t").await, LEAVES_MAIN);
    assert_eq!(query_one::<u16>(&mut session, "SELECT @@port").await, main);
    execute(&mut session, "ROLLBACK").await;
    assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, blog);
    assert_eq!(query_one::<u8>(&mut session, "SELECT id FROM t").await, 1);
    execute(&mut session, "SET autocommit = 1").await;

    execute(&mut session, "CREATE TEMPORARY TABLE tt (a INT)").await;
    let refused = outcome(&mut session, "SELECT * FROM app.t").await;
    assert_refused(&refused, LEAVES_BLOG);
    assert!(refused.contains("its temporary tables"), "{refused}");
    execute(&mut session, "INSERT INTO tt VALUES (1)").await;
}

async fn carried(partitions: &Partitions) {
    let [main, blog] = partitions.ports();
    let mut session = partitions.session(Some("app")).await;
    execute(&mut session, "SET @here = 'carried', time_zone = '+05:00'").await;
    let question = "SELECT CONCAT(@here, @@time_zone, port) FROM";
    for (table, port) in [("t", main), ("app_blog.t", blog), ("app_main.t", main)] {
        let answer = query_one::<String>(&mut session, &format!("{question} {table}")).await;
        assert_eq!(answer, format!("carried+05:00{port}"));
    }
    for (schema, port) in [("app_blog", blog), ("app_main", main), ("app_wiki_en", blog)] {
        execute(&mut session, &format!("USE {schema}")).await;
        let answer = query_one::<String>(&mut session, &format!("{question} t")).await;
        assert_eq!(answer, format!("carried+05:00{port}"));
        assert_eq!(query_one::<String>(&mut session, "SELECT DATABASE()").await, schema);
    }
    // What a server remembers of a session is asked where it is, though the schema is elsewhere.
    execute(&mut session, "UPDATE app.t SET port = port WHERE id IN (1, 2)").await;
    assert_eq!(query_one::<i8>(&mut session, "SELECT ROW_COUNT()").await, 0);
    // A schema that is nowhere.
    let unknown = outcome(&mut session, "USE app_wiki_none").await;
    assert!(is_error(&unknown, 1049, "42000"), "{unknown}");
    assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, blog);
    // A schema that came with others is known as well, whether they failed or not.
    session.query_drop("USE app_main; SET @a = 1").await.unwrap();
    assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, main);
    let mut session = partitions.session(Some("app")).await;
    let failed = outcome(&mut session, "USE app_blog; SELECT nope").await;
    assert!(is_error(&failed, 1054, "42S22"), "{failed}");
    assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, blog);
}

async fn prepared(partitions: &Partitions) {
    let [main, blog] = partitions.ports();
    let mut session = partitions.session(Some("app")).await;
    let here = session.prep("SELECT port FROM t WHERE id = ?").await.unwrap();
    let there = session.prep("SELECT port FROM app_blog.t WHERE id = ?").await.unwrap();
    let write = session.prep("UPDATE app_blog.t SET port = port WHERE id = ?").await.unwrap();
    for _ in 0..2 {
        let ports: [Option<u16>; 2] = [
            session.exec_first(&here, (1,)).await.unwrap(),
            session.exec_first(&there, (1,)).await.unwrap(),
        ];
        assert_eq!(ports, [Some(main), Some(blog)]);
        session.exec_drop(&write, (1,)).await.unwrap();
    }
    execute(&mut session, "BEGIN").await;
    let refused = session.exec_drop(&write, (1,)).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to partition app_blog"), "{refused}");
    execute(&mut session, "ROLLBACK").await;
    session.exec_drop(&write, (1,)).await.unwrap();
    // A statement keeps the schema that it was prepared in.
    execute(&mut session, "USE app_wiki_en").await;
    for _ in 0..2 {
        assert_eq!(session.exec_first(&here, (1,)).await.unwrap(), Some(main));
        assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, blog);
    }
}

async fn prepared_in_text(partitions: &Partitions) {
    let [main, blog] = partitions.ports();
    let mut session = partitions.session(Some("app")).await;
    execute(&mut session, "PREPARE s FROM 'SELECT port FROM app_blog.t WHERE id = 1'").await;
    assert_eq!(query_one::<u16>(&mut session, "EXECUTE s").await, blog);
    let refused = outcome(&mut session, "SELECT port FROM t").await;
    assert_refused(&refused, LEAVES_BLOG);
    let mut session = partitions.session(Some("app")).await;
    query_one::<u16>(&mut session, "SELECT port FROM app_blog.t").await;
    execute(&mut session, "PREPARE s FROM 'SELECT port FROM t WHERE id = 1'").await;
    assert_eq!(query_one::<u16>(&mut session, "EXECUTE s").await, main);
}

/// The last insert id is on its server, whatever the current schema, and does not go along.
async fn left_behind(partitions: &Partitions) {
    let mut session = partitions.session(Some("app_blog")).await;
    execute(&mut session, "CREATE TABLE app.n (id INT AUTO_INCREMENT PRIMARY KEY, a INT)").await;
    execute(&mut session, "INSERT INTO app.n VALUES (41, 0)").await;
    execute(&mut session, "INSERT INTO app.n (a) VALUES (1)").await;
    assert_eq!(session.last_insert_id(), Some(42));
    assert_eq!(query_one::<u8>(&mut session, "SELECT LAST_INSERT_ID()").await, 42);
    query_one::<u16>(&mut session, "SELECT port FROM t").await;
    let lost = outcome(&mut session, "SELECT LAST_INSERT_ID()").await;
    assert!(is_error(&lost, 1053, "08S01") && lost.contains("LAST_INSERT_ID"), "{lost}");
    assert_eq!(outcome(&mut session, "SELECT 1").await, "closed");
}

async fn by_command(partitions: &Partitions) {
    let [main, blog] = partitions.ports();
    let mut login = Login::new(APP.user, APP.pass);
    login.schema = Some("app".to_owned());
    let mut wire = Wire::login_as(partitions.failsoft.port(), &login).await;
    for (schema, port) in [("app_blog", blog), ("app_main", main), ("app_wiki_en", blog)] {
        let frames = wire.ask(com::INIT_DB, schema.as_bytes(), Kind::One).await;
        assert!(frames[0].is_ok(), "{schema}: {:?}", frames[0].error());
        assert_eq!(wire.value("SELECT port FROM t").await, port.to_string());
        // While the session is in the other partition.
        for other in ["app", "app_blog"] {
            wire.query(format!("SELECT * FROM {other}.t")).await;
            let frames = wire.ask(com::FIELD_LIST, b"t\0", Kind::Rows).await;
            assert!(!frames[0].is_err(), "{schema}: {:?}", frames[0].error());
        }
    }
    let mut session = partitions.session(Some("app")).await;
    assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, main);
    let there = ChangeUserOpts::new().with_db_name(Some("app_blog".to_owned()));
    session.change_user(there).await.unwrap();
    assert_eq!(query_one::<u16>(&mut session, "SELECT port FROM t").await, blog);
}

/// A trigger runs in the schema of its table, and servers tell of going there and back. Of the
/// session's schema that says nothing, where the server does not have it.
async fn stored_programs(partitions: &Partitions) {
    let port = partitions.blog.master.port();
    let mut root = conn(port, ROOT.user, ROOT.pass, None).await.unwrap();
    for schema in BLOG {
        let name = format!("{schema}.before_insert");
        let sql = format!(
            "CREATE TRIGGER {name} BEFORE INSERT ON {schema}.t FOR EACH ROW SET NEW.port = 7"
        );
        execute(&mut root, &sql).await;
    }
    let mut session = partitions.session(Some("app_blog")).await;
    let insert = session.prep("INSERT INTO t VALUES (?, 0)").await.unwrap();
    execute(&mut session, "USE app").await;
    session.exec_drop(&insert, (900,)).await.unwrap();
    for statement in
        ["INSERT INTO app_blog.t VALUES (901, 0)", "INSERT INTO app_wiki_en.t VALUES (902, 0)"]
    {
        execute(&mut session, statement).await;
        let schema: Option<String> = query_one(&mut session, "SELECT DATABASE()").await;
        assert_eq!(schema.as_deref(), Some("app"), "{statement}");
    }
    execute(&mut session, "INSERT INTO t VALUES (903, 0)").await;
    let mut at = Vec::new();
    for (schema, sql) in [
        ("app", "SELECT COUNT(*) FROM app.t WHERE id = 903 AND port = 0"),
        ("app_blog", "SELECT COUNT(*) FROM app_blog.t WHERE id IN (900, 901) AND port = 7"),
        ("app_wiki_en", "SELECT COUNT(*) FROM app_wiki_en.t WHERE id = 902 AND port = 7"),
    ] {
        at.push((schema, query_one::<i64>(&mut session, sql).await));
    }
    assert_eq!(at, [("app", 1), ("app_blog", 2), ("app_wiki_en", 1)]);
    for schema in BLOG {
        execute(&mut root, &format!("DROP TRIGGER {schema}.before_insert")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_degrades_alone() {
    for flavor in flavors() {
        let mut partitions = Partitions::start(flavor).await;
        let mut main = partitions.session(Some("app")).await;
        let mut blog = partitions.session(Some("app_blog")).await;
        let mut torn = partitions.session(Some("app_blog")).await;
        execute(&mut main, "INSERT INTO t VALUES (2, 0)").await;
        execute(&mut blog, "INSERT INTO t VALUES (2, 0)").await;
        execute(&mut torn, "BEGIN").await;
        execute(&mut torn, "INSERT INTO t VALUES (3, 0)").await;
        partitions.blog.wait_synced().await.unwrap();
        partitions.blog.master.kill().unwrap();

        let refused = outcome(&mut blog, "INSERT INTO t VALUES (4, 0)").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");
        let sentence = format!("{READ_ONLY} (failsoft: partition app_blog is read-only: ");
        assert!(refused.contains(&sentence), "{refused}");
        assert_eq!(query_one::<u8>(&mut blog, "SELECT COUNT(*) FROM t").await, 2);
        execute(&mut main, "INSERT INTO t VALUES (3, 0)").await;
        // Either session meets the same in the other's partition.
        let refused = outcome(&mut main, "INSERT INTO app_blog.t VALUES (4, 0)").await;
        assert!(refused.contains(&sentence), "{refused}");
        assert_eq!(query_one::<u8>(&mut main, "SELECT COUNT(*) FROM app_blog.t").await, 2);
        execute(&mut blog, "INSERT INTO app.t VALUES (4, 0)").await;
        // The transaction is lost with its master, wherever the next statement belongs.
        let lost = outcome(&mut torn, "INSERT INTO app.t VALUES (5, 0)").await;
        assert!(is_error(&lost, 1213, "40001"), "{lost}");
        let lost = outcome(&mut torn, "COMMIT").await;
        assert!(is_error(&lost, 1213, "40001"), "{lost}");
        execute(&mut torn, "ROLLBACK").await;
        execute(&mut torn, "INSERT INTO app.t VALUES (5, 0)").await;

        blog_is_shown_as_lost(&partitions).await;
        execute(&mut main, "INSERT INTO t VALUES (6, 0)").await;
        // Also for sessions that begin now.
        let mut late = partitions.session(Some("app_wiki_en")).await;
        assert_eq!(query_one::<u8>(&mut late, "SELECT COUNT(*) FROM t").await, 1);
        execute(&mut late, "INSERT INTO app.t VALUES (7, 0)").await;

        partitions.blog.master.start_again().await.unwrap();
        for (id, session) in [(5, &mut blog), (6, &mut main), (7, &mut torn), (8, &mut late)] {
            write_until_ok(session, &format!("INSERT INTO app_blog.t VALUES ({id}, 0)")).await;
        }
        let ids = "SELECT GROUP_CONCAT(id ORDER BY id) FROM";
        let in_main = query_one::<String>(&mut blog, &format!("{ids} app.t")).await;
        let in_blog = query_one::<String>(&mut main, &format!("{ids} app_blog.t")).await;
        assert_eq!((in_main.as_str(), in_blog.as_str()), ("1,2,3,4,5,6,7", "1,2,5,6,7,8"));
        both_lost(&mut partitions, &mut main).await;
    }
}

/// One session reads from both replicas, and writes to both masters once they are back.
async fn both_lost(partitions: &mut Partitions, session: &mut Conn) {
    partitions.main.wait_synced().await.unwrap();
    partitions.blog.wait_synced().await.unwrap();
    partitions.main.master.kill().unwrap();
    partitions.blog.master.kill().unwrap();
    for (schema, partition, rows) in [("app", "default", 7), ("app_blog", "app_blog", 6)] {
        let refused = outcome(session, &format!("DELETE FROM {schema}.t")).await;
        assert!(refused.contains(&format!("partition {partition} is read-only: ")), "{refused}");
        let count = format!("SELECT COUNT(*) FROM {schema}.t");
        assert_eq!(query_one::<u8>(session, &count).await, rows);
    }
    partitions.main.master.start_again().await.unwrap();
    write_until_ok(session, "INSERT INTO t VALUES (100, 0)").await;
    let refused = outcome(session, "INSERT INTO app_blog.t VALUES (100, 0)").await;
    assert!(is_error(&refused, 1290, "HY000"), "{refused}");
    partitions.blog.master.start_again().await.unwrap();
    write_until_ok(session, "INSERT INTO app_blog.t VALUES (100, 0)").await;
}

/// The verdicts, the status and the metrics tell one partition from the other.
async fn blog_is_shown_as_lost(partitions: &Partitions) {
    partitions.wait_mode("app_blog", "severed").await;
    let (status, _) = partitions.failsoft.http_get("/rw?partition=app_blog").await;
    assert_eq!(status, 503);
    let (status, _) = partitions.failsoft.http_get("/rw?partition=default").await;
    assert_eq!(status, 200);
    let (_, page) = partitions.failsoft.http_get("/").await;
    assert!(page.contains("master of default") && page.contains("replica of app_blog"), "{page}");
    let (_, body) = partitions.failsoft.http_get("/api/v1/status").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let modes: Vec<_> = body["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{} {}", p["name"].as_str().unwrap(), p["mode"].as_str().unwrap()))
        .collect();
    assert_eq!(modes, ["default read-write", "app_blog read-only"]);
    let severed = |partition| {
        format!("failsoft_partition_mode{{partition=\"{partition}\",reason=\"severed\"}}")
    };
    let modes = [
        partitions.metric(&severed("app_blog")).await,
        partitions.metric(&severed("default")).await,
    ];
    assert_eq!(modes.map(|mode| mode > 0.5), [true, false]);
}
