//! What servers say of the packets in `crates/sql/tests/schemas.tsv`: whatever schema they miss is
//! one that the table has.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests print what they count, and panic"
)]

use std::collections::BTreeSet;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use testkit::{Options, ROOT, Server, conn, execute, flavors};

/// Packets that would disturb the server, or that it can only read with more around them.
const NOT_RUN: &[&str] =
    &["KILL 5", "CHANGE MASTER", "FLUSH TABLES WITH READ LOCK", "PREPARE s FROM @v"];

/// The columns that the table's statements use.
const COLUMNS: &str =
    "id INT, a INT, c INT, d INT, i INT, k INT, m INT, x INT, y INT, z INT, doc JSON, s TEXT";

/// What a server does not find: a schema, and perhaps a table in it.
///
/// Reads 1049, `Unknown database 'b'`; 1146, `Table 'b.t' doesn't exist`; 1305, `FUNCTION b.f does
/// not exist`.
fn missing(code: u16, error: &str) -> Option<(String, Option<String>)> {
    let name = match code {
        1049 | 1146 => error.split('\'').nth(1)?,
        1305 => error.split(' ').nth(1)?,
        _ => return None,
    };
    match name.split_once('.') {
        // Functions without a schema are not looked for.
        Some(("app", _)) if code == 1305 => None,
        Some((schema, table)) => Some((schema.to_owned(), Some(table.to_owned()))),
        None => (code == 1049).then(|| (name.to_owned(), None)),
    }
}

async fn root(server: &Server, schema: Option<&str>) -> Conn {
    conn(server.port(), ROOT.user, ROOT.pass, schema).await.unwrap()
}

/// The schemas that a server misses for a packet, one after another, as it is given them; `None` if
/// it cannot read the packet.
async fn missed(server: &Server, packet: &str) -> Option<BTreeSet<String>> {
    let mut helper = root(server, None).await;
    for schema in ["app", "b", "c", "d", "b`c"] {
        let drop = format!("DROP DATABASE IF EXISTS `{}`", schema.replace('`', "``"));
        execute(&mut helper, &drop).await;
    }
    execute(&mut helper, "CREATE DATABASE app").await;
    let mut named = BTreeSet::new();
    for _ in 0..12 {
        // Statements may leave locks behind, and another schema.
        let mut session = root(server, Some("app")).await;
        let Err(mysql_async::Error::Server(error)) = session.query_drop(packet).await else {
            break;
        };
        session.disconnect().await.unwrap();
        if error.code == 1064 {
            return None;
        }
        let Some((schema, table)) = missing(error.code, &error.message) else { break };
        let name = format!("`{}`", schema.replace('`', "``"));
        named.insert(schema);
        execute(&mut helper, &format!("CREATE DATABASE IF NOT EXISTS {name}")).await;
        if let Some(table) = table {
            // It is perhaps no table that is missing, but a routine.
            let make = format!("CREATE TABLE {name}.`{table}` ({COLUMNS})");
            let is_routine = error.code == 1305;
            if is_routine || helper.query_drop(make).await.is_err() {
                break;
            }
        }
    }
    Some(named)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_miss_no_schema_that_was_not_seen() {
    let mut servers = Vec::new();
    for flavor in flavors() {
        servers.push(Server::start(flavor, Options::default()).await.unwrap());
    }
    let table = include_str!("../../crates/sql/tests/schemas.tsv");
    let rows = table.lines().filter(|row| !row.starts_with('#'));
    let rows = rows.filter_map(|row| row.split_once('\t'));
    let (mut wrong, mut confirmed, mut count) = (Vec::new(), 0, 0);
    for (expected, packet) in rows {
        if NOT_RUN.iter().any(|not| packet.starts_with(not)) {
            continue;
        }
        let expected: BTreeSet<String> = expected
            .split(' ')
            .filter(|one| *one != "-")
            .map(|one| if one == "." { "app" } else { one.trim_start_matches('>') }.to_owned())
            .collect();
        let mut all: Option<BTreeSet<String>> = None;
        for server in &servers {
            if let Some(named) = missed(server, packet).await {
                all.get_or_insert_default().extend(named);
            }
        }
        match all {
            None => wrong.push(format!("no server reads {packet}")),
            Some(named) if !named.is_subset(&expected) => {
                wrong.push(format!("servers miss {named:?} for {packet}"));
            }
            Some(named) => confirmed += usize::from(named == expected),
        }
        count += 1;
    }
    println!("{confirmed} of {count} packets: servers miss all that they touch, and nothing else");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(confirmed > 100, "{confirmed}");
}
