//! What a session set is so after a change of servers: every variable that can be set, on both
//! flavours.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::collections::BTreeMap;

use failsoft_tests::{NOT_SETTINGS, Stack, behind_a_link, cut, outcome, reload};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use testkit::{Failsoft, flavors, query_one};

/// What no session is given a second time: what concerns its next write only, or takes a session for
/// a replica's. Setting them ties a session to its server.
const TIED: &[&str] = &["insert_id", "pseudo_slave_mode", "pseudo_replica_mode"];

/// The lock against writes that failsoft puts on replicas.
const LOCK: &[&str] = &["transaction_read_only", "tx_read_only"];

type Variables = BTreeMap<String, String>;

async fn variables(session: &mut Conn) -> Result<Variables, mysql_async::Error> {
    let rows: Vec<Row> = session.query("SHOW SESSION VARIABLES").await?;
    let text = |value: Value| value.as_sql(true).trim_matches('\'').to_owned();
    let pairs = rows.into_iter().map(|row| {
        let mut values = row.unwrap().into_iter().map(text);
        (values.next().unwrap(), values.next().unwrap())
    });
    Ok(pairs.filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str())).collect())
}

/// Statements that may set a variable to something else.
fn changes(name: &str, value: &str) -> Vec<String> {
    let values: Vec<String> = match value {
        "ON" => vec!["OFF".to_owned()],
        "OFF" => vec!["ON".to_owned()],
        "YES" | "NO" | "" => Vec::new(),
        number if number.parse::<i64>().is_ok() => {
            let number: i64 = number.parse().unwrap();
            [number / 2, number.saturating_add(1024), number.saturating_sub(1), 1]
                .map(|n| n.to_string())
                .to_vec()
        }
        _ => [
            "'utf8mb3'",
            "'latin1'",
            "'latin1_german1_ci'",
            "'sv_SE'",
            "'+03:00'",
            "'SERIALIZABLE'",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    values.iter().map(|value| format!("SET SESSION {name} = {value}")).collect()
}

/// The statements of which each sets a variable of its own to something else.
async fn working_changes(session: &mut Conn) -> Vec<(String, String)> {
    let before = variables(session).await.unwrap();
    let mut working = Vec::new();
    for (name, value) in &before {
        for change in changes(name, value) {
            if outcome(session, &change).await != "ok" {
                continue;
            }
            let after: Option<Row> = session
                .query_first(format!("SHOW SESSION VARIABLES LIKE '{name}'"))
                .await
                .unwrap_or_default();
            let is_new = after.and_then(|row| row.get::<String, _>(1)).is_some_and(|v| v != *value);
            assert!(session.reset().await.unwrap());
            if is_new {
                working.push((name.clone(), change));
                break;
            }
        }
    }
    working
}

/// A session that changed one variable.
struct Changed {
    name: String,
    change: String,
    session: Conn,
}

/// Compares every session with a direct one that ran the same statement; those whose state was lost,
/// and who were told so, are left out from then on.
async fn compare(stack: &Stack, port: u16, sessions: Vec<Changed>, ours: &[&str]) -> Vec<Changed> {
    let mut kept = Vec::new();
    let mut wrong = Vec::new();
    for Changed { name, change, mut session } in sessions {
        let mut direct = stack.direct(port).await;
        if outcome(&mut direct, &change).await != "ok" {
            // A replica refuses what counts the events that it skips.
            assert_eq!(name, "sql_slave_skip_counter", "{change}");
            continue;
        }
        let expected = variables(&mut direct).await.unwrap();
        direct.disconnect().await.unwrap();
        let seen = match variables(&mut session).await {
            Ok(seen) => seen,
            Err(error) => {
                let named = error.to_string().contains("the values of its session variables");
                if !named || !TIED.contains(&name.as_str()) {
                    wrong.push(format!("{change}: {error}"));
                }
                continue;
            }
        };
        for (other, value) in expected.iter().filter(|(other, _)| !ours.contains(&other.as_str())) {
            let other_seen = seen.get(other);
            if other_seen != Some(value) {
                wrong.push(format!("{change}: {other} is {other_seen:?}, not {value}"));
            }
        }
        kept.push(Changed { name, change, session });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    kept
}

/// A session for each variable that can be changed, which has done so.
async fn changed_sessions(stack: &Stack) -> Vec<Changed> {
    let flavor = stack.pair.flavor();
    let mut direct = stack.direct(stack.pair.master.port()).await;
    let changes = working_changes(&mut direct).await;
    direct.disconnect().await.unwrap();
    assert!(changes.len() > 60, "{flavor}: {changes:?}");
    println!("{flavor}: {} variables", changes.len());
    let mut sessions = Vec::new();
    for (name, change) in changes {
        let mut session = stack.session().await;
        assert_eq!(outcome(&mut session, &change).await, "ok", "{change}");
        sessions.push(Changed { name, change, session });
    }
    sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_variable_goes_with_its_session() {
    for flavor in flavors() {
        let (mut stack, link) = behind_a_link(flavor).await;
        let (master, replica) = (stack.pair.master.port(), stack.pair.replica.port());
        let sessions = changed_sessions(&stack).await;
        cut(&link).await;
        let sessions = compare(&stack, master, sessions, &[]).await;
        stack.pair.master.kill().unwrap();
        // On a replica failsoft's own lock against writes is on.
        let sessions = compare(&stack, replica, sessions, LOCK).await;
        stack.pair.master.start_again().await.unwrap();
        let mut sessions = sessions;
        for changed in &mut sessions {
            // Each core remembers for a moment that the master could not be reached.
            while query_one::<u16>(&mut changed.session, "SELECT @@port").await != master {
                tokio::task::yield_now().await;
            }
        }
        let sessions = compare(&stack, master, sessions, &[]).await;
        assert!(sessions.len() > 60, "{flavor}");
    }
}

/// The server is changed by a reload after a promotion, there and back.
#[tokio::test(flavor = "multi_thread")]
async fn every_session_variable_goes_to_a_new_master() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut sessions = changed_sessions(&stack).await;
        for _ in 0..2 {
            stack.pair.promote().await.unwrap();
            let (master, replica) = (stack.pair.master.port(), stack.pair.replica.port());
            let config = Failsoft::config(&[("master", master), ("replica", replica)]);
            reload(&stack.failsoft, &config).await;
            for changed in &mut sessions {
                if TIED.contains(&changed.name.as_str()) {
                    continue;
                }
                let port = query_one::<u16>(&mut changed.session, "SELECT @@port").await;
                assert_eq!(port, master, "{flavor}: {}", changed.change);
            }
            sessions = compare(&stack, master, sessions, &[]).await;
        }
        assert!(sessions.len() > 60, "{flavor}");
    }
}
