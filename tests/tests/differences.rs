//! One test per difference from a direct connection that random sessions found
//! (`tests/differential`).
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use failsoft_tests::{Stack, behind_a_link, cut};
use raw::{Wire, com};
use testkit::{Cut, Direction, FaultProxy, Flavor, Frame, Login, RawClient, capability, flavors};

/// The kind of reply that statements have.
const ROWS: raw::Kind = raw::Kind::Results;

/// What tells what charsets a session has.
const CHARSETS: &str = "SELECT @@character_set_client, @@character_set_results, \
                        @@collation_connection, @@collation_database";

/// Two sessions of the same kind, one of them through failsoft.
struct Both {
    direct: Wire,
    proxied: Wire,
}

impl Both {
    async fn login(stack: &Stack, more: u32) -> Self {
        let direct = Wire::login(stack.pair.master.port(), more).await;
        Self { direct, proxied: Wire::login(stack.failsoft.port(), more).await }
    }

    /// Has both run a statement, and hear the same.
    async fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.ask(com::QUERY, sql.as_bytes()).await
    }

    /// Has both send a command that is answered as a statement is, and hear the same.
    async fn ask(&mut self, code: u8, rest: &[u8]) -> Vec<Frame> {
        let expected = self.direct.ask(code, rest, ROWS).await;
        let seen = self.proxied.ask(code, rest, ROWS).await;
        let shown = |frames: &[Frame]| frames.iter().map(raw::show).collect::<Vec<_>>();
        let what = String::from_utf8_lossy(rest);
        assert_eq!(shown(&expected), shown(&seen), "command {code}: {what}");
        expected
    }

    /// Has both send a command with a reply of one packet, and hear the same.
    async fn ask_one(&mut self, code: u8, rest: &[u8]) {
        let expected = self.direct.ask(code, rest, raw::Kind::One).await;
        let seen = self.proxied.ask(code, rest, raw::Kind::One).await;
        assert_eq!(expected, seen, "command {code}");
    }

    /// Has the one lose its server, with nothing in flight.
    async fn lose_server(&mut self, link: &FaultProxy) {
        self.ask(com::PING, b"").await;
        cut(link).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_character_set_that_came_from_a_schema_is_restored() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        let latin = "CREATE DATABASE app_latin CHARACTER SET latin1 COLLATE latin1_german2_ci";
        both.direct.query(latin).await;
        // The connection's collation becomes that of the schema of this moment.
        both.query("USE app_latin").await;
        both.query("SET CHARACTER SET utf8mb4").await;
        both.query("USE app").await;
        both.lose_server(&link).await;
        both.query(CHARSETS).await;
        both.query("SELECT DATABASE()").await;
        both.query("SET CHARACTER SET latin1").await;
        both.ask(com::INIT_DB, b"app_latin").await;
        both.lose_server(&link).await;
        both.query(CHARSETS).await;
        both.query("SELECT DATABASE()").await;
        // A schema that was dropped meanwhile is nothing to stumble over.
        both.query("SET CHARACTER SET utf8mb4").await;
        both.query("USE app").await;
        both.direct.query("DROP DATABASE app_latin").await;
        both.lose_server(&link).await;
        both.query("SELECT DATABASE()").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_character_set_from_before_there_was_a_schema_is_restored() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let login = Login::new("app", "app-pass");
        let direct = Wire::login_as(stack.pair.master.port(), &login).await;
        let proxied = Wire::login_as(stack.failsoft.port(), &login).await;
        let mut both = Both { direct, proxied };
        let latin = "CREATE DATABASE app_latin CHARACTER SET latin1 COLLATE latin1_german2_ci";
        both.direct.query(latin).await;
        both.query("SET CHARACTER SET utf8mb4").await;
        both.query("USE app_latin").await;
        both.lose_server(&link).await;
        both.query(CHARSETS).await;
        both.query("SELECT DATABASE()").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_before_or_after_a_reset_is_restored_as_such() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        let latin = "CREATE DATABASE app_latin CHARACTER SET latin1 COLLATE latin1_german2_ci";
        both.direct.query(latin).await;
        both.query("USE app_latin").await;
        both.query(CHARSETS).await;
        // The schema's collation is the server's own after a reset, until a schema is chosen.
        both.ask(com::RESET_CONNECTION, b"").await;
        both.query(CHARSETS).await;
        both.lose_server(&link).await;
        both.query(CHARSETS).await;
        both.query("USE app_latin").await;
        both.query(CHARSETS).await;
        both.lose_server(&link).await;
        both.query(CHARSETS).await;
        both.direct.query("DROP DATABASE app_latin").await;
        both.lose_server(&link).await;
        both.query("SELECT DATABASE()").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_null_keeps_the_type_that_it_had() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        // More often than settings are remembered.
        for _ in 0..70 {
            both.query("SET @text = 'text', @whole = 7").await;
            both.query("SET @text = NULL").await;
            both.query("SET @whole = null, @text = NULL").await;
        }
        both.query("SET @never = NULL, @mixed = 1.5").await;
        both.query("SET @mixed = NULL, @never = 1").await;
        let all = "SELECT @text, @whole, @never, @mixed";
        both.query(all).await;
        both.lose_server(&link).await;
        both.query(all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_of_a_prepared_set_has_its_type() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        for wire in [&mut both.direct, &mut both.proxied] {
            wire.prepare("SET @prepared = 'only'").await;
        }
        both.lose_server(&link).await;
        both.query("SELECT @prepared").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_whose_server_is_lost_is_answered_as_one() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        for more in [0, capability::DEPRECATE_EOF] {
            let mut both = Both::login(&stack, more).await;
            for option in [[1, 0], [0, 0]] {
                both.query("SELECT 1").await;
                link.cut_after(Direction::ToServer, 0, Cut::Reset);
                both.ask_one(com::SET_OPTION, &option).await;
                both.query("SELECT 1; SELECT 2").await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_restored_as_it_was_read() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        both.query("SET NAMES latin1, sql_mode = 'NO_BACKSLASH_ESCAPES'").await;
        both.ask(com::QUERY, b"SET @letter = '\xe4', @slash = 'a\\b'").await;
        both.query("SET NAMES utf8mb4, sql_mode = ''").await;
        both.lose_server(&link).await;
        both.query("SELECT @letter, @slash, COLLATION(@letter)").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_prepared_again_as_it_was_read() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        let text = r#"SELECT "a\\b", COLLATION('x')"#;
        let (first, _) = both.direct.prepare(text).await;
        let (second, _) = both.proxied.prepare(text).await;
        both.direct.query("CREATE TABLE gone (id INT)").await;
        let _dropped = both.proxied.prepare("SELECT * FROM gone").await;
        both.direct.query("DROP TABLE gone").await;
        both.query("SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'").await;
        both.query("SET NAMES utf8mb4 COLLATE utf8mb4_bin").await;
        both.lose_server(&link).await;
        let expected = both.direct.ask(com::STMT_EXECUTE, &raw::execution(first, 0), ROWS).await;
        let seen = both.proxied.ask(com::STMT_EXECUTE, &raw::execution(second, 0), ROWS).await;
        assert_eq!(expected, seen, "{flavor}");
        both.query("SELECT @@sql_mode, @@collation_connection").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_tracks_is_told_after_an_error_as_well() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        for more in [0, capability::DEPRECATE_EOF] {
            let mut both = Both::login(&stack, capability::SESSION_TRACK | more).await;
            both.query("SET session_track_transaction_info = 'CHARACTERISTICS'").await;
            both.query("BEGIN").await;
            // It ends the transaction, and fails; and its OK would have told of that.
            let failed = both.query("CREATE TABLE t (id INT)").await;
            assert_eq!(failed[0].error().map(|error| error.0), Some(1050), "{failed:?}");
            both.query("SELECT 1").await;
            both.query("SET autocommit = 0").await;
            both.query("SELECT * FROM t").await;
            both.query("SELECT nope").await;
            both.query("DO 1").await;
            // MySQL tells of less where it was asked for something between.
            both.query("SET autocommit = 1, session_track_transaction_info = 'STATE'").await;
            both.query("COMMIT AND CHAIN").await;
            both.query("SELEC 1").await;
            both.query("SET @io = 'hey'").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_after_an_error_that_left_doubt_is_told() {
    const TELLS: u32 = capability::SESSION_TRACK | capability::DEPRECATE_EOF;
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        // Nothing was open, so there is nothing to doubt.
        let mut wire = Wire::login(stack.failsoft.port(), TELLS).await;
        for failing in ["CREATE TABLE t (a INT)", "SELEC 1"] {
            assert!(wire.query(failing).await[0].is_err(), "{failing}");
            cut(&link).await;
            assert!(!wire.query("SELECT 1").await[0].is_err(), "{flavor}, {failing}");
        }
        for (id, is_in_flight) in [(2, false), (3, true)] {
            let mut wire = Wire::login(stack.failsoft.port(), TELLS).await;
            assert!(wire.query("BEGIN").await[0].is_ok());
            let insert = format!("INSERT INTO t VALUES ({id}, 'kept')");
            assert!(wire.query(insert).await[0].is_ok());
            assert!(wire.query("CREATE TABLE t (a INT)").await[0].is_err());
            let told = if is_in_flight {
                link.cut_after(Direction::ToClient, 0, Cut::Reset);
                wire.query("INSERT INTO t VALUES (4, 'unknown')").await
            } else {
                cut(&link).await;
                wire.query("COMMIT").await
            };
            let expected = if is_in_flight { 1180 } else { 1053 };
            let (code, _, text) = told[0].error().unwrap();
            assert_eq!(code, expected, "{flavor}: {text}");
            assert!(is_in_flight || text.contains("what is known of its transaction"), "{text}");
            assert!(wire.is_closed().await, "{flavor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_of_user_ends_what_the_servers_end() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        for port in [stack.pair.master.port(), stack.failsoft.port()] {
            let mut right = Login::new("app", "app-pass");
            right.schema = Some("app".to_owned());
            let wrong = Login { pass: "wrong".to_owned(), collation: 8, ..right.clone() };
            let mut client = RawClient::logged_in(port, &right).await;
            for sql in ["SET @a = 1, NAMES latin1", "BEGIN", "INSERT INTO t VALUES (2, 'lost')"] {
                assert!(client.query(sql).await.unwrap()[0].is_ok(), "{sql}");
            }
            let told = client.change_user(&wrong).await.unwrap();
            assert_eq!(told.error().map(|error| error.0), Some(1045), "{flavor}, {told:?}");
            if flavor == Flavor::MySql {
                client.query("DO 1").await.unwrap_err();
                continue;
            }
            let state = "SELECT @a, DATABASE(), @@character_set_client, COUNT(*) FROM t";
            let frames = client.query(state).await.unwrap();
            assert_eq!(frames[6].payload, b"\xfb\x03app\x07utf8mb4\x011", "{frames:?}");
            // A reset goes back to what the refused login asked for.
            client.command(com::RESET_CONNECTION, b"").await.unwrap();
            assert!(client.read().await.unwrap().is_ok());
            let frames = client.query("SELECT @@character_set_client").await.unwrap();
            assert_eq!(frames[3].payload, b"\x06latin1", "{frames:?}");
            assert!(client.change_user(&right).await.unwrap().is_ok());
            for code in [1045, 1045, 1047, 1047] {
                let told = client.change_user(&wrong).await.unwrap();
                assert_eq!(told.error().map(|error| error.0), Some(code), "port {port}");
            }
            let told = client.change_user(&right).await.unwrap();
            assert_eq!(told.error().map(|error| error.0), Some(1047));
            assert!(client.query("DO 1").await.unwrap()[0].is_ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_of_a_change_of_user_and_not_only_of_the_other_user() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let mut seen = Vec::new();
        for port in [stack.pair.master.port(), stack.failsoft.port()] {
            let mut login = Login::new("app", "app-pass");
            login.schema = Some("app".to_owned());
            let mut client = RawClient::logged_in(port, &login).await;
            for sql in [
                "CREATE TABLE child (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id))",
                "INSERT INTO child VALUES (1)",
            ] {
                assert!(client.query(sql).await.unwrap()[0].is_ok(), "{sql}");
            }
            assert!(client.change_user(&login).await.unwrap().is_ok());
            // MySQL 9.7 allows it to a connection that never was another user's, and only to that.
            seen.push(client.query("REPLACE INTO t VALUES (1, 'new')").await.unwrap());
            client.query("DROP TABLE child").await.unwrap();
        }
        assert_eq!(seen[0], seen[1], "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_names_no_statement_names_none_that_was_prepared_by_a_query() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        for id in 1..4 {
            let mut proxied = Wire::login(stack.failsoft.port(), 0).await;
            // It has an id of the server's, of which no reply tells.
            let preparing = "PREPARE quietly FROM 'INSERT INTO t VALUES (2, ''not asked for'')'";
            assert!(proxied.query(preparing).await[0].is_ok(), "{flavor}");
            let told = proxied.ask(com::STMT_EXECUTE, &raw::execution(id, 0), ROWS).await;
            assert_eq!(told[0].error().map(|error| error.0), Some(1243), "{flavor}: {told:?}");
            assert_eq!(proxied.value("SELECT COUNT(*) FROM t").await, "1", "{flavor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_in_doubt_is_not_taken_for_certain_after_a_reset() {
    const DOUBTFUL: &str = "SELECT nope; USE app_other";
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut root = Wire::login(stack.pair.master.port(), 0).await;
        root.query("CREATE DATABASE app_other").await;
        root.query("CREATE TABLE app_other.t (id INT PRIMARY KEY, v TEXT)").await;
        for is_lost_first in [false, true] {
            let mut wire = Wire::login(stack.failsoft.port(), 0).await;
            assert!(wire.query(DOUBTFUL).await[0].is_err(), "{flavor}");
            if is_lost_first {
                cut(&link).await;
            }
            let told = wire.ask(com::RESET_CONNECTION, b"", raw::Kind::One).await;
            if !is_lost_first {
                assert!(told[0].is_ok(), "{flavor}: {told:?}");
                assert_eq!(wire.value("SELECT DATABASE()").await, "app", "{flavor}");
                cut(&link).await;
            }
            let told = match told[0].error() {
                None => wire.query("INSERT INTO t VALUES (7, 'anywhere')").await,
                Some(_) => told,
            };
            let (code, _, text) = told[0].error().unwrap();
            assert_eq!(code, 1053, "{flavor}: {text}");
            assert!(wire.is_closed().await, "{flavor}");
        }
        // What is chosen after that is certain.
        let mut wire = Wire::login(stack.failsoft.port(), 0).await;
        assert!(wire.query(DOUBTFUL).await[0].is_err(), "{flavor}");
        assert!(wire.query("USE app").await[0].is_ok(), "{flavor}");
        assert!(wire.ask(com::RESET_CONNECTION, b"", raw::Kind::One).await[0].is_ok());
        cut(&link).await;
        assert_eq!(wire.value("SELECT DATABASE()").await, "app", "{flavor}");
        assert_eq!(root.value("SELECT COUNT(*) FROM app_other.t").await, "0", "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_of_user_keeps_no_schema_that_is_in_doubt() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let mut right = Login::new("app", "app-pass");
        right.schema = Some("app".to_owned());
        let wrong = Login { pass: "wrong".to_owned(), ..right.clone() };
        let mut client = RawClient::logged_in(stack.failsoft.port(), &right).await;
        let told = client.query("USE app_nowhere; SELECT 1").await.unwrap();
        assert!(told[0].is_err(), "{flavor}: {told:?}");
        let told = client.change_user(&wrong).await.unwrap();
        assert_eq!(told.error().map(|error| error.0), Some(1045), "{flavor}, {told:?}");
        client.query("SELECT DATABASE()").await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_parameters_travel_without_those_of_attributes() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let greeting = RawClient::connect(stack.failsoft.port()).await.unwrap().greeting;
        if greeting.capabilities & raw::QUERY_ATTRIBUTES == 0 {
            continue;
        }
        for flags in [0, 8] {
            let mut both = Both::login(&stack, raw::QUERY_ATTRIBUTES).await;
            let ids = [both.direct.prepare("SELECT ?, ?").await.0];
            assert_eq!(both.proxied.prepare("SELECT ?, ?").await.0, ids[0], "{flavor}");
            let execution = |rest: &[u8]| [&raw::execution(ids[0], flags), rest].concat();
            // Two parameters and an attribute, then the parameters alone.
            let first = execution(b"\x03\0\x01\x01\0\0\x02\0\0\x01\0\x01a\x07\x08\0\x09");
            let later = execution(b"\x02\0\0\x0a\x0b\0");
            both.ask(com::STMT_EXECUTE, &first).await;
            both.ask(com::STMT_EXECUTE, &later).await;
            both.lose_server(&link).await;
            both.ask(com::STMT_EXECUTE, &later).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_statement_left_is_lost_until_another_takes_its_place() {
    const FOUND: &str = "SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 0";
    // What leaves something, what is between the loss and the question, and whether it is lost still.
    let cases = [
        ("SELECT nope", vec![], "SHOW WARNINGS", true),
        ("SELECT nope", vec!["INIT_DB"], "SHOW WARNINGS", true),
        ("SELECT nope", vec!["INIT_DB", "PING"], "SHOW ERRORS", true),
        ("SELECT nope", vec!["SELECT v FROM t"], "SHOW WARNINGS", false),
        ("SELECT nope", vec!["SELECT nothing"], "SHOW WARNINGS", false),
        ("SELECT nope", vec!["INSERT INTO t SELECT * FROM t WHERE FALSE"], "SHOW WARNINGS", false),
        (FOUND, vec!["SET @a = 1"], "SELECT FOUND_ROWS()", true),
        (FOUND, vec!["INIT_DB"], "SELECT FOUND_ROWS()", true),
        (FOUND, vec!["SELECT v FROM t"], "SELECT FOUND_ROWS()", false),
        ("UPDATE t SET v = CONCAT(v, '.')", vec!["SET @a = 1"], "SELECT ROW_COUNT()", false),
    ];
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        for (leaving, between, question, is_lost) in &cases {
            let mut both = Both::login(&stack, 0).await;
            both.query(leaving).await;
            both.lose_server(&link).await;
            for step in between {
                let (code, rest): (u8, &[u8]) = match *step {
                    "INIT_DB" => (com::INIT_DB, b"app"),
                    "PING" => (com::PING, b""),
                    statement => (com::QUERY, statement.as_bytes()),
                };
                // Some tell how many warnings there were.
                for wire in [&mut both.direct, &mut both.proxied] {
                    wire.ask(code, rest, ROWS).await;
                }
            }
            if *is_lost {
                let told = both.proxied.query(question).await;
                let told = told[0].error().map(|error| error.0);
                assert_eq!(told, Some(1053), "{flavor}: {leaving} {between:?} {question}");
            } else {
                both.query(question).await;
            }
        }
        // In MariaDB a statement without a table leaves warnings as they are.
        let mut both = Both::login(&stack, 0).await;
        both.query("SELECT nope").await;
        both.lose_server(&link).await;
        both.query("SELECT 1").await;
        let left = both.direct.query("SHOW WARNINGS").await;
        let told = both.proxied.query("SHOW WARNINGS").await;
        let is_lost = told[0].error().is_some_and(|error| error.0 == 1053);
        assert!(is_lost || left == told, "{flavor}: {left:?} {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_an_execution_that_was_refused_are_known() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        let text = "INSERT INTO t SELECT ?, 'x' FROM t WHERE FALSE";
        let (first, second) =
            (both.direct.prepare(text).await.0, both.proxied.prepare(text).await.0);
        both.lose_server(&link).await;
        both.query("START TRANSACTION READ ONLY").await;
        for types in [&b"\x01\x03\0"[..], b"\0"] {
            let mut replies = Vec::new();
            for (wire, id) in [(&mut both.direct, first), (&mut both.proxied, second)] {
                let execution = [&raw::execution(id, 0), &b"\0"[..], types, b"\x07\0\0\0"].concat();
                replies.push(wire.ask(com::STMT_EXECUTE, &execution, ROWS).await);
            }
            assert_eq!(replies[0], replies[1], "{flavor}");
            both.query("COMMIT").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_another_changes_is_restored_as_it_was() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        both.query("SET max_join_size = 1000000").await;
        both.query("SET sql_big_selects = DEFAULT").await;
        both.query("SET max_join_size = 1000000").await;
        both.lose_server(&link).await;
        both.query("SELECT @@max_join_size, @@sql_big_selects").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_id_that_a_query_gave_is_lost_with_its_server() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut both = Both::login(&stack, 0).await;
        both.query("SELECT LAST_INSERT_ID(7)").await;
        both.query("SELECT LAST_INSERT_ID()").await;
        both.lose_server(&link).await;
        let told = both.proxied.query("INSERT INTO t VALUES (LAST_INSERT_ID(), 'child')").await;
        assert_eq!(told[0].error().map(|error| error.0), Some(1053), "{flavor}: {told:?}");
    }
}

/// MariaDB answers `INSERT … RETURNING` with rows, and says nothing of the insert id.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_id_that_came_with_rows_is_lost_with_its_server() {
    if !flavors().contains(&Flavor::MariaDb) {
        return;
    }
    let (stack, link) = behind_a_link(Flavor::MariaDb).await;
    let mut session = Wire::login(stack.failsoft.port(), 0).await;
    session.query("CREATE TABLE counted (id INT PRIMARY KEY AUTO_INCREMENT)").await;
    session.query("INSERT INTO counted VALUES (NULL), (NULL) RETURNING id").await;
    assert_eq!(session.value("SELECT LAST_INSERT_ID()").await, "1");
    cut(&link).await;
    let told = session.query("INSERT INTO t VALUES (LAST_INSERT_ID(), 'child')").await;
    assert_eq!(told[0].error().map(|error| error.0), Some(1053), "{told:?}");
}

/// The statement is known by the client's id of it, whatever its server calls it.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_id_is_given_by_the_statement_that_was_executed() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = Wire::login(stack.failsoft.port(), 0).await;
        let (_, _) = session.prepare("SELECT 1").await;
        let (gives, _) = session.prepare("SELECT LAST_INSERT_ID(7)").await;
        cut(&link).await;
        // On the new connection it is the first.
        let execution = [&gives.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat();
        let reply = session.ask(com::STMT_EXECUTE, &execution, ROWS).await;
        assert!(!reply[0].is_err(), "{flavor}: {reply:?}");
        cut(&link).await;
        let told = session.query("INSERT INTO t VALUES (LAST_INSERT_ID(), 'child')").await;
        assert_eq!(told[0].error().map(|error| error.0), Some(1053), "{flavor}: {told:?}");
    }
}
