//! Definitions of columns that clients do not get twice, or not at all, where their server changes.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use failsoft_tests::{Stack, behind_a_link, cut};
use raw::{CALM, Kind, Wire, app_login, com, execution, show};
use testkit::{Failsoft, Flavor, Frame, Login, Mask, Pair, capability, flavors};

/// The logins that leave definitions out, with EOF packets and without.
fn logins(flavor: Flavor) -> [Login; 2] {
    [0, capability::DEPRECATE_EOF].map(|more| match flavor {
        Flavor::MariaDb => app_login(more, capability::CACHE_METADATA),
        Flavor::MySql => app_login(more | capability::OPTIONAL_METADATA, 0),
    })
}

async fn execute(wire: &mut Wire, id: u32) -> Vec<Frame> {
    wire.ask(com::STMT_EXECUTE, &execution(id, 0), Kind::Results).await
}

/// Packets, readable, without their numbers.
fn shown(frames: &[Frame]) -> Vec<String> {
    let unnumbered = |frame: &Frame| show(&Frame { sequence: 0, ..frame.clone() });
    frames.iter().map(unnumbered).collect()
}

/// Packets are numbered one after another.
fn in_order(frames: &[Frame]) -> bool {
    frames.iter().zip(1..).all(|(frame, number)| frame.sequence == number)
}

/// The reply to an execution with all definitions, as a client that has not got them before has it.
async fn complete(port: u16, login: &Login, sql: &str) -> Vec<String> {
    let plain = Login { extended: 0, ..login.clone() };
    let mut wire = Wire::login_as(port, &plain).await;
    let (id, _) = wire.prepare(sql).await;
    let mut frames = execute(&mut wire, id).await;
    frames[0].payload.push(1);
    shown(&frames)
}

/// MariaDB takes for known what it sent when failsoft prepared a statement again. The client was
/// not there, and is given it with the next execution; and after that it has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_the_definitions_of_a_statement_that_was_prepared_again() {
    const SQL: &str = "SELECT * FROM t WHERE id = 1";
    for flavor in flavors().into_iter().filter(|flavor| *flavor == Flavor::MariaDb) {
        let (stack, link) = behind_a_link(flavor).await;
        let master = stack.pair.master.port();
        let mut direct = Wire::login(master, 0).await;
        for login in logins(flavor) {
            let mut wire = Wire::login_as(stack.failsoft.port(), &login).await;
            let (id, _) = wire.prepare(SQL).await;
            let left_out = execute(&mut wire, id).await;
            assert_eq!(left_out[0].payload, b"\x02\0");
            cut(&link).await;
            let first = execute(&mut wire, id).await;
            assert_eq!(shown(&first), complete(master, &login, SQL).await);
            assert!(in_order(&first), "{first:?}");
            assert_eq!(execute(&mut wire, id).await, left_out);
            // Another table, of which the client has seen nothing; and back.
            for change in
                ["ADD COLUMN more INT", "MODIFY v VARCHAR(7)", "DROP COLUMN more, MODIFY v TEXT"]
            {
                let altered = direct.query(format!("ALTER TABLE t {change}")).await;
                assert!(altered[0].is_ok(), "{altered:?}");
                cut(&link).await;
                let first = execute(&mut wire, id).await;
                assert_eq!(shown(&first), complete(master, &login, SQL).await, "{change}");
                assert!(in_order(&first), "{first:?}");
                let again = execute(&mut wire, id).await;
                assert_eq!(again[0].payload[1], 0, "{change}: {again:?}");
                assert_eq!(again.last().unwrap().payload, first.last().unwrap().payload);
            }
            // Statements are prepared at once where texts were read otherwise before. The table
            // changes after that, and it is the server that sends other definitions.
            wire.query("SET sql_mode = 'ANSI_QUOTES'").await;
            cut(&link).await;
            assert!(!wire.query("SELECT 1").await[0].is_err());
            direct.query("ALTER TABLE t MODIFY v VARCHAR(9)").await;
            let first = shown(&execute(&mut wire, id).await);
            assert_eq!(first[..3], complete(master, &login, SQL).await[..3]);
            assert_eq!(execute(&mut wire, id).await[0].payload[1], 0);
            direct.query("ALTER TABLE t MODIFY v TEXT").await;
        }
    }
}

/// The same with a cursor, whose definitions MariaDB sends always, and without one after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_a_statement_that_was_prepared_again_has_its_definitions() {
    for flavor in flavors().into_iter().filter(|flavor| *flavor == Flavor::MariaDb) {
        let (stack, link) = behind_a_link(flavor).await;
        for login in logins(flavor) {
            let mut seen = Vec::new();
            for port in [stack.pair.master.port(), stack.failsoft.port()] {
                let mut wire = Wire::login_as(port, &login).await;
                let (id, _) = wire.prepare("SELECT * FROM t").await;
                cut(&link).await;
                let mut frames =
                    wire.ask(com::STMT_EXECUTE, &execution(id, 1), Kind::Results).await;
                let all = [id.to_le_bytes(), 9_u32.to_le_bytes()].concat();
                frames.extend(wire.ask(com::STMT_FETCH, &all, Kind::Rows).await);
                frames.extend(wire.ask(com::STMT_RESET, &id.to_le_bytes(), Kind::One).await);
                frames.extend(execute(&mut wire, id).await);
                seen.push(frames);
            }
            assert_eq!(seen[0], seen[1], "{flavor}");
        }
    }
}

/// On a connection of its own, too, a session that wants no definitions gets none.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_definitions_has_none_after_a_loss() {
    for flavor in flavors().into_iter().filter(|flavor| *flavor == Flavor::MySql) {
        let (stack, link) = behind_a_link(flavor).await;
        for login in logins(flavor) {
            let mut seen = Vec::new();
            for port in [stack.pair.master.port(), stack.failsoft.port()] {
                let mut wire = Wire::login_as(port, &login).await;
                let (id, _) = wire.prepare("SELECT * FROM t").await;
                let mut frames = wire.query("SET resultset_metadata = NONE").await;
                cut(&link).await;
                frames.extend(wire.query("SELECT * FROM t; SELECT 2").await);
                cut(&link).await;
                frames.extend(execute(&mut wire, id).await);
                frames.extend(wire.query("SET resultset_metadata = FULL").await);
                cut(&link).await;
                frames.extend(execute(&mut wire, id).await);
                seen.push(frames);
            }
            assert_eq!(shown(&seen[0]), shown(&seen[1]));
        }
    }
}

/// A server that cannot leave definitions out sends them all, and the client is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_leave_definitions_out_is_made_up_for() {
    const SQL: &str = "SELECT id, v FROM t";
    for flavor in flavors() {
        let eof = u64::from(capability::DEPRECATE_EOF);
        let flag = match flavor {
            Flavor::MariaDb => u64::from(capability::CACHE_METADATA) << 32,
            Flavor::MySql => capability::OPTIONAL_METADATA.into(),
        };
        for hidden in [flag, flag | eof] {
            let pair = Pair::start(flavor).await.unwrap();
            let old = Mask::start(pair.master.port(), hidden).await;
            let databases = [("master", old.port()), ("replica", pair.replica.port())];
            let failsoft = Failsoft::config(&databases).with(CALM).start().await;
            let stack = Stack::with_table(failsoft, pair).await;
            for login in logins(flavor) {
                let master = stack.pair.master.port();
                let mut direct = Wire::login_as(master, &login).await;
                let mut wire = Wire::login_as(stack.failsoft.port(), &login).await;
                for sql in ["SELECT * FROM t", "SELECT 1; DO 1; SELECT 2", "DO 1", "SELECT nope"] {
                    assert_eq!(direct.query(sql).await, wire.query(sql).await, "{flavor}: {sql}");
                }
                let (id, mut seen) = wire.prepare(SQL).await;
                let (_, mut expected) = direct.prepare(SQL).await;
                for frames in [&mut seen, &mut expected] {
                    frames[0].payload[1..5].fill(0);
                }
                assert_eq!(seen, expected, "{flavor}");
                for _ in 0..2 {
                    let frames = execute(&mut wire, id).await;
                    assert!(in_order(&frames), "{frames:?}");
                    assert_eq!(frames[0].payload, b"\x02\x01", "{flavor}");
                    let mut fresh =
                        Wire::login_as(master, &Login { extended: 0, ..login.clone() }).await;
                    let (id, _) = fresh.prepare(SQL).await;
                    assert_eq!(shown(&execute(&mut fresh, id).await)[1..], shown(&frames)[1..]);
                }
            }
        }
    }
}
