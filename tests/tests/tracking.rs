//! What servers tell of changes in a session: what procedures and functions set out of sight goes
//! with the session to another connection.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use failsoft_tests::{NOT_SETTINGS, Stack, behind_a_link, cut};
use raw::Wire;
use testkit::{FaultProxy, Flavor, capability, execute, flavors};

/// What is in place for the sessions to use.
const OUT_OF_SIGHT: &[&str] = &[
    "CREATE SCHEMA other",
    "GRANT ALL ON other.* TO app@'%'",
    "GRANT ALL ON gone.* TO app@'%'",
    "CREATE PROCEDURE zone() SET time_zone = '+03:00'",
    "CREATE PROCEDURE manual() SET autocommit = 0",
    "CREATE PROCEDURE results() SET character_set_results = NULL",
    "CREATE PROCEDURE names() SET NAMES latin1",
    "CREATE PROCEDURE clock() SET timestamp = 5",
    "CREATE PROCEDURE several() BEGIN \
        SELECT 1; SET time_zone = '+04:00'; SET NAMES latin1; SELECT 2; SET time_zone = '+05:00'; \
     END",
    "CREATE PROCEDURE fails() BEGIN \
        SET time_zone = '+06:00'; SIGNAL SQLSTATE '45000'; \
     END",
    "CREATE PROCEDURE many() BEGIN \
        SET SESSION wait_timeout = 77, long_query_time = 3.5, sql_select_limit = 18446744073709551615; \
        SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE; \
        SET sql_mode = 'ANSI', lc_messages = 'de_DE', optimizer_switch = 'index_merge=off'; \
     END",
    "CREATE FUNCTION seven() RETURNS INT NO SQL BEGIN SET time_zone = '+07:00'; RETURN 7; END",
    "CREATE PROCEDURE other.elsewhere() SELECT DATABASE()",
];

/// What servers that are not the same have written.
const WRITTEN: &[&str] =
    &["gtid_binlog_pos", "gtid_binlog_state", "gtid_current_pos", "gtid_executed"];

/// A session's statements, and which servers tell of what they change, in clients' words.
struct Course {
    statements: &'static [&'static str],
    /// Only with an OK packet at the end of rows.
    needs_ok: bool,
    /// Only MySQL tells, with the next statement, of what one changed that then failed.
    needs_mysql: bool,
}

const fn course(statements: &'static [&'static str]) -> Course {
    Course { statements, needs_ok: false, needs_mysql: false }
}

const COURSES: &[Course] = &[
    course(&["CALL zone()"]),
    course(&["SET time_zone = '+01:00'", "CALL zone()"]),
    course(&["CALL zone()", "SET time_zone = '+01:00'"]),
    course(&["CALL manual()"]),
    course(&["CALL manual()", "SET autocommit = 1"]),
    course(&["CALL results()"]),
    course(&["SET NAMES utf8mb4 COLLATE utf8mb4_bin", "CALL results()"]),
    course(&["CALL results()", "SET NAMES latin1"]),
    // Character sets are put back when a procedure ends.
    course(&["SET NAMES utf8mb4 COLLATE utf8mb4_bin", "CALL names()"]),
    course(&["SET NAMES utf8mb4 COLLATE utf8mb4_bin", "CALL several()"]),
    course(&["DO seven()"]),
    course(&["INSERT INTO t VALUES (seven() + 100, 'x') ON DUPLICATE KEY UPDATE v = 'y'"]),
    Course { needs_ok: true, ..course(&["SELECT seven()"]) },
    Course { needs_mysql: true, ..course(&["SELECT seven()", "DO 1"]) },
    Course { needs_mysql: true, ..course(&["CALL fails()", "DO 1"]) },
    Course { needs_mysql: true, ..course(&["CALL fails()", "SET @a = 1"]) },
    Course { needs_mysql: true, ..course(&["CALL fails()", "SET time_zone = '+08:00'"]) },
    course(&["SELECT 1; CALL zone(); SELECT 2"]),
    course(&["CALL other.elsewhere()"]),
    course(&["SELECT 1; USE other; SELECT 2"]),
    course(&["USE other; CALL app.several()"]),
    course(&["SET sql_mode = 'ANSI_QUOTES'", "USE \"other\""]),
    course(&["CREATE SCHEMA gone", "USE gone", "DROP SCHEMA gone", "CREATE SCHEMA gone"]),
    course(&["SET SESSION session_track_system_variables = '*'", "CALL many()"]),
    course(&[
        "SET SESSION session_track_system_variables = '*'",
        "CALL many()",
        "SET NAMES latin1",
    ]),
];

/// What clients agree on; failsoft is told of changes whether they are or not.
const CLIENTS: &[u32] = &[
    capability::SESSION_TRACK | capability::DEPRECATE_EOF,
    capability::SESSION_TRACK,
    capability::DEPRECATE_EOF,
    0,
];

/// A server with what is needed, and a link to it that can be cut.
async fn stack(flavor: Flavor) -> (Stack, FaultProxy) {
    let (stack, link) = behind_a_link(flavor).await;
    let mut root = stack.root(stack.pair.master.port()).await;
    for statement in OUT_OF_SIGHT {
        execute(&mut root, statement).await;
    }
    root.disconnect().await.unwrap();
    (stack, link)
}

/// The session's schema and variables, or the error in their place.
async fn state(session: &mut Wire) -> Vec<String> {
    // Texts in one character set, whatever the session's is.
    let mut rows = Vec::new();
    for sql in ["SELECT 'schema', HEX(DATABASE())", "SHOW SESSION VARIABLES"] {
        for frame in session.query(sql).await {
            assert!(!frame.is_err(), "{sql}: {:?}", frame.error());
            let text = frame.payload.escape_ascii().to_string();
            let is_setting = !NOT_SETTINGS.iter().chain(WRITTEN).any(|name| text.contains(name));
            // Definitions and ends of rows are no state.
            let is_row = !text.contains("x03def") && frame.payload[0] != 0xfe;
            rows.extend((is_setting && is_row).then_some(text));
        }
    }
    rows
}

async fn compare(flavor: Flavor, more: u32) {
    let (stack, link) = stack(flavor).await;
    let is_told = |course: &&Course| {
        let ok = more & capability::DEPRECATE_EOF != 0;
        (ok || !course.needs_ok) && (flavor == Flavor::MySql || !course.needs_mysql)
    };
    let mut wrong = Vec::new();
    for course in COURSES.iter().filter(is_told) {
        let what = format!("{flavor} {more:#x}: {:?}", course.statements);
        let mut root = stack.root(stack.pair.master.port()).await;
        let ports = [stack.failsoft.port(), stack.pair.master.port()];
        let mut states = Vec::new();
        for port in ports {
            execute(&mut root, "DROP SCHEMA IF EXISTS gone").await;
            let mut session = Wire::login(port, more).await;
            for statement in course.statements {
                session.query(statement).await;
            }
            if port == stack.failsoft.port() {
                cut(&link).await;
            }
            states.push(state(&mut session).await);
        }
        assert!(states[0].len() > 100, "{what}");
        assert_eq!(states[0].len(), states[1].len(), "{what}");
        for (proxied, direct) in states[0].iter().zip(&states[1]) {
            if proxied != direct {
                wrong.push(format!("{what}: {proxied}, not {direct}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_out_of_sight_goes_with_its_session() {
    for flavor in flavors() {
        for more in CLIENTS {
            compare(flavor, *more).await;
        }
    }
}

/// Who did not agree on session tracking sees nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_told_to_those_who_agreed_on_it() {
    for flavor in flavors() {
        let (stack, _link) = stack(flavor).await;
        let mut root = stack.root(stack.pair.master.port()).await;
        for more in CLIENTS {
            for course in COURSES {
                let mut replies = Vec::new();
                for port in [stack.failsoft.port(), stack.pair.master.port()] {
                    execute(&mut root, "DROP SCHEMA IF EXISTS gone").await;
                    execute(&mut root, "TRUNCATE app.t").await;
                    let mut session = Wire::login(port, *more).await;
                    let mut frames = Vec::new();
                    for statement in course.statements {
                        frames.extend(session.query(statement).await);
                    }
                    // MySQL numbers statements, and tells of that too.
                    let shown = frames.iter().map(raw::show);
                    replies.push(shown.filter(|f| !f.contains("statement_id")).collect::<Vec<_>>());
                }
                let what = format!("{flavor} {more:#x}: {:?}", course.statements);
                assert_eq!(replies[0], replies[1], "{what}");
            }
        }
    }
}

/// What no server can be given ties the session to its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_is_said() {
    for flavor in flavors() {
        let (stack, link) = stack(flavor).await;
        for more in CLIENTS {
            let mut session = Wire::login(stack.failsoft.port(), *more).await;
            session.query("SET SESSION session_track_system_variables = '*'").await;
            session.query("CALL clock()").await;
            cut(&link).await;
            let (code, state, text) = session.query("SELECT 1").await[0].error().unwrap();
            assert_eq!((code, state.as_str()), (1053, "08S01"), "{flavor}: {text}");
            assert!(text.contains("the values of its session variables"), "{flavor}: {text}");
            if flavor == Flavor::MySql {
                continue;
            }
            // What MariaDB runs from a text is no stored program: nothing is put back.
            for text in ["SET NAMES latin1", "SET sql_mode = \'ANSI\'"] {
                let mut session = Wire::login(stack.failsoft.port(), *more).await;
                let run = format!("EXECUTE IMMEDIATE '{}'", text.replace('\'', "''"));
                assert!(session.query(&run).await[0].is_ok(), "{run}");
                cut(&link).await;
                let (code, _, told) = session.query("SELECT 1").await[0].error().unwrap();
                assert_eq!(code, 1053, "{run}: {told}");
            }
        }
    }
}
