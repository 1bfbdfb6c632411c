//! Clients that compress: by zlib and Zstandard, over plain connections and TLS.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use std::io::Write;
use std::process::{Command, Stdio};

use failsoft_tests::{PATIENCE, Stack, cut, installed_clients, is_error, outcome};
use mysql_async::prelude::Queryable;
use mysql_async::{Compression, Conn, OptsBuilder};
use raw::{CALM, Handmade, Kind, Wire, com};
use testkit::{
    APP, Direction, Failsoft, FaultProxy, Mask, Pair, RawClient, capability, execute, flavors,
    query_one,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// `CLIENT_COMPRESS`.
const COMPRESS: u32 = 1 << 5;

async fn compressed(port: u16) -> Conn {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(APP.user))
        .pass(Some(APP.pass))
        .db_name(Some("app"))
        .prefer_socket(false)
        .compression(Some(Compression::default()));
    Conn::new(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_compresses_well_takes_few_bytes() {
    for flavor in flavors() {
        let mut stack = Stack::start_with(flavor, CALM).await;
        let link = FaultProxy::start(stack.failsoft.port()).await;
        let mut session = compressed(link.port()).await;
        execute(&mut session, "CREATE TABLE big (id INT PRIMARY KEY, v LONGTEXT)").await;
        let text = "failsoft ".repeat(2 << 20);
        session.exec_drop("INSERT INTO big VALUES (1, ?)", (&text,)).await.unwrap();
        let back: String = query_one(&mut session, "SELECT v FROM big").await;
        assert!(back == text, "{flavor}: {} of {} bytes", back.len(), text.len());
        let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
                    SELECT i, REPEAT('x', 5000) FROM n";
        let many: Vec<(u32, String)> = session.query(rows).await.unwrap();
        assert_eq!((many.len(), many[899].0, many[7].1.len()), (900, 900, 5000));
        for direction in [Direction::ToServer, Direction::ToClient] {
            let bytes = link.bytes(direction);
            println!("{flavor}: {direction:?} {bytes} bytes for {} and more", text.len());
            assert!(bytes > 1000 && bytes < 2 << 20, "{flavor}: {direction:?} {bytes}");
        }
        // What does not compress passes as it is.
        let noise: Vec<u8> = session
            .exec_first("SELECT CAST(REPEAT(RANDOM_BYTES(1000), 3) AS BINARY)", ())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(noise.len(), 3000);
        assert!(outcome(&mut session, "SELECT nothing").await.starts_with("1054/"));
        // A compressed session survives its master as any other.
        stack.pair.wait_synced().await.unwrap();
        stack.pair.master.kill().unwrap();
        assert_eq!(query_one::<u64>(&mut session, "SELECT LENGTH(v) FROM big").await, 9 << 21);
        let refused = outcome(&mut session, "DELETE FROM big").await;
        assert!(is_error(&refused, 1290, "HY000"), "{refused}");
        session.disconnect().await.unwrap();
    }
}

/// The command lines of both makers, with every way that they know.
#[tokio::test(flavor = "multi_thread")]
async fn command_lines_compress() {
    let (zlib, zstd) = ("--compression-algorithms=zlib", "--compression-algorithms=zstd");
    let (both, level) = ("--compression-algorithms=zlib,zstd", "--zstd-compression-level=19");
    for flavor in flavors() {
        let stack = Stack::start_with(flavor, CALM).await;
        for client in installed_clients() {
            let choices: &[&[&str]] = match client.ends_with("mysql/mysql") {
                true => &[&[zlib], &[zstd], &[both], &[zstd, level, "--ssl-mode=DISABLED"]],
                false => &[&["--compress"], &["--compress", "--skip-ssl"]],
            };
            for arguments in choices {
                let link = FaultProxy::start(stack.failsoft.port()).await;
                let sql = "SELECT LENGTH(REPEAT('long', 1000000)); SELECT REPEAT('x', 100000); \
                           SELECT CONCAT('from ', v) FROM t; SELECT nothing";
                let mut command = Command::new(&client);
                command
                    .args(["--no-defaults", "-h127.0.0.1", "-uapp", "-papp-pass", "--batch"])
                    .args(*arguments)
                    .args(client.ends_with("mysql/mysql").then_some("--get-server-public-key"))
                    .args([format!("-P{}", link.port()), "app".to_owned()])
                    .args(["-e", sql])
                    .stdin(Stdio::null());
                let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
                let output = output.unwrap();
                let out = String::from_utf8_lossy(&output.stdout);
                let err = String::from_utf8_lossy(&output.stderr);
                let name = client.display();
                assert!(out.contains("4000000\n"), "{name} {arguments:?}: {err}");
                assert!(out.contains(&"x".repeat(100_000)), "{name} {arguments:?}: {err}");
                assert!(out.contains("from one\n"), "{name} {arguments:?}: {err}");
                assert!(err.contains("ERROR 1054 (42S22)"), "{name} {arguments:?}: {err}");
                let bytes = link.bytes(Direction::ToClient);
                assert!(bytes < 50_000, "{name} {arguments:?}: not compressed, {bytes} bytes");
                println!("{flavor}: {name} {arguments:?}");
            }
        }
    }
}

/// Long statements and files from clients that number their packets by the frames.
#[tokio::test(flavor = "multi_thread")]
async fn command_lines_compress_what_is_long() {
    for flavor in flavors() {
        long_by_command_lines(&Stack::start_with(flavor, CALM).await).await;
    }
}

/// The same where packets are numbered anew on their way, and compressed on both sides: the server
/// lacks DEPRECATE_EOF.
#[tokio::test(flavor = "multi_thread")]
async fn command_lines_compress_what_is_rewritten() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let old = Mask::start(pair.master.port(), capability::DEPRECATE_EOF.into()).await;
        let databases = format!(
            "databases: [{{host: 127.0.0.1, port: {}, role: master, compress: true}}]\n{CALM}",
            old.port()
        );
        let failsoft = Failsoft::config(&[]).with(&databases).start().await;
        long_by_command_lines(&Stack::with_table(failsoft, pair).await).await;
    }
}

async fn long_by_command_lines(stack: &Stack) {
    let flavor = stack.pair.flavor();
    let mut session = stack.session().await;
    execute(&mut session, "CREATE TABLE loaded (id INT, v TEXT)").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.tsv");
    let lines: String = (0..100_000).map(|id| format!("{id}\t{}\n", "v".repeat(40))).collect();
    std::fs::write(&file, lines).unwrap();
    let long = format!("SELECT LENGTH('{}') AS length;\n", "x".repeat(17 << 20));
    let sql = format!(
        "{long}LOAD DATA LOCAL INFILE '{}' INTO TABLE loaded;\nSELECT COUNT(*) FROM loaded;\n\
             DELIMITER //\nTRUNCATE TABLE loaded; SELECT 1; LOAD DATA LOCAL INFILE '{}' INTO TABLE \
             loaded; SELECT 'twice', COUNT(*) FROM loaded//\nDELIMITER ;\n\
             TRUNCATE TABLE loaded;\n",
        file.display(),
        file.display()
    );
    for client in installed_clients() {
        let is_mysql = client.ends_with("mysql/mysql");
        let way = if is_mysql { "--compression-algorithms=zlib" } else { "--compress" };
        let mut command = Command::new(&client);
        command
            .args(["--no-defaults", "-h127.0.0.1", "-uapp", "-papp-pass", "--batch", way])
            .args(["--local-infile=1", "--max-allowed-packet=64M"])
            .args(is_mysql.then_some("--get-server-public-key"))
            .args([format!("-P{}", stack.failsoft.port()), "app".to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let sql = sql.clone();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        let name = client.display();
        assert!(out.contains("17825792\n"), "{flavor} {name}: {out} {err}");
        assert!(out.contains("100000\n"), "{flavor} {name}: {out} {err}");
        assert!(out.contains("twice\t100000\n"), "{flavor} {name}: {out} {err}");
    }
}

/// Connections to servers compress where that is configured, and everything works over them.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_servers_compress() {
    for flavor in flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let link = FaultProxy::start(pair.master.port()).await;
        let databases = format!(
            "databases: [{{host: 127.0.0.1, port: {}, role: master, compress: true}}]\n\
             health: {{interval: 10m, threshold: 5, timeout: 10s}}\ntls: {{servers: off}}",
            link.port()
        );
        let failsoft = Failsoft::config(&[]).with(&databases).start().await;
        let stack = Stack::with_table(failsoft, pair).await;
        let mut session = stack.session().await;
        for statement in ["SET @a = 1", "SET @b = 2", "SET NAMES latin1", "SET @c = @a + @b"] {
            execute(&mut session, statement).await;
        }
        for _ in 0..2 {
            let before = [Direction::ToServer, Direction::ToClient].map(|way| link.bytes(way));
            let long = "failsoft ".repeat(1 << 20);
            let back: String = session.exec_first("SELECT ?", (&long,)).await.unwrap().unwrap();
            assert_eq!(back.len(), long.len());
            let sum: i64 = query_one(&mut session, "SELECT @a + @b * 10 + @c * 100").await;
            assert_eq!(sum, 321);
            for (way, before) in [Direction::ToServer, Direction::ToClient].into_iter().zip(before)
            {
                let bytes = link.bytes(way) - before;
                assert!(bytes > 1000 && bytes < 1 << 20, "{flavor}: {way:?} {bytes}");
            }
            // The state is given to a fresh connection in one go.
            cut(&link).await;
        }
        let rows = load_data(&stack).await;
        assert_eq!(rows, 50_000, "{flavor}");
        unanswered(&stack).await;
        assert!(outcome(&mut session, "SELECT nothing").await.starts_with("1054/"));
    }
}

/// Commands that no server answers, in a transaction that must not be lost by them.
async fn unanswered(stack: &Stack) {
    let mut wire = Wire::login(stack.failsoft.port(), 0).await;
    wire.query("BEGIN").await;
    wire.query("INSERT INTO t VALUES (2, 'open')").await;
    for _ in 0..3 {
        let (id, _) = wire.prepare("SELECT ?").await;
        let id = id.to_le_bytes();
        let part = [&id[..], &[0, 0], b"long data"].concat();
        wire.client.command(com::STMT_SEND_LONG_DATA, &part).await.unwrap();
        wire.client.command(com::STMT_SEND_LONG_DATA, &part).await.unwrap();
        let execute = [&id[..], &[0, 1, 0, 0, 0, 0, 1, 252, 0]].concat();
        let rows = wire.ask(com::STMT_EXECUTE, &execute, Kind::Results).await;
        assert_eq!(rows[3].payload[2..], *b"\x12long datalong data");
        wire.client.command(com::STMT_CLOSE, &id).await.unwrap();
        assert_eq!(wire.value("SELECT COUNT(*) FROM t WHERE v = 'open'").await, "1");
    }
    assert!(wire.query("COMMIT").await[0].is_ok());
    assert_eq!(wire.value("SELECT COUNT(*) FROM t WHERE v = 'open'").await, "1");
}

/// A file goes to the server in the middle of a command.
async fn load_data(stack: &Stack) -> u64 {
    let lines: Vec<u8> =
        (100..50_100).flat_map(|id| format!("{id}\tloaded\n").into_bytes()).collect();
    let mut wire = Wire::login(stack.failsoft.port(), capability::LOCAL_FILES).await;
    let load = b"LOAD DATA LOCAL INFILE 'x' INTO TABLE t";
    wire.client.command(com::QUERY, load).await.unwrap();
    let asks = wire.client.read().await.unwrap();
    assert_eq!(asks.payload[0], 0xfb, "{:?}", asks.error());
    wire.client.sequence = asks.sequence.wrapping_add(1);
    wire.client.send(&lines).await.unwrap();
    wire.client.send(b"").await.unwrap();
    let end = wire.reply(Kind::One).await;
    assert!(end[0].is_ok(), "{:?}", end[0].error());
    let count = wire.value("SELECT COUNT(*) FROM t WHERE v = 'loaded'").await;
    count.parse().unwrap()
}

/// Frames that lie end their own session and no other.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_lie_end_the_session() {
    for flavor in flavors().into_iter().take(1) {
        let stack = Stack::start_with(flavor, CALM).await;
        let mut other = stack.session().await;
        let lies: &[&[u8]] = &[
            // Announces 16 MiB and holds rubbish.
            &[9, 0, 0, 0, 0xff, 0xff, 0xff, 0x78, 0x9c, 1, 2, 3, 4, 5, 6, 7],
            // Announces one byte and holds more.
            &[12, 0, 0, 0, 1, 0, 0, 0x78, 0x9c, 0x4b, 0x4c, 0x4a, 0x06, 0, 2, 0x4d, 1, 0x27],
            // A frame for which the rest never comes.
            &[0xff, 0xff, 0xff, 0, 0, 0, 0, 1],
        ];
        for lie in lies {
            let mut client = RawClient::connect(stack.failsoft.port()).await.unwrap();
            let login = Handmade::native(&client);
            let login = Handmade { capabilities: login.capabilities | COMPRESS, ..login };
            client.send(&login.payload()).await.unwrap();
            assert!(client.read().await.unwrap().is_ok());
            client.stream.write_all(lie).await.unwrap();
            client.stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.expect("an end").unwrap();
            assert!(rest.len() < 500, "{}", rest.escape_ascii());
        }
        execute(&mut other, "SELECT 1").await;
    }
}
