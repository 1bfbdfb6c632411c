//! One test per bug, named after what went wrong.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod raw;

use failsoft_tests::write_until_ok;
use failsoft_tests::{PATIENCE, Stack, behind_a_link, behind_a_link_with, cut, is_error, outcome};
use mysql_async::prelude::Queryable;
use raw::{Handmade, Kind, QUERY_ATTRIBUTES, STMT_BULK, Wire, com};
use testkit::{Cut, Direction, Flavor, Login, Mode, RawClient};
use testkit::{execute, flavors, query_one, wait_until};
use tokio_util::io::ReaderStream;

async fn rows(stack: &Stack) -> Vec<i32> {
    let mut direct = stack.direct(stack.pair.master.port()).await;
    direct.query("SELECT id FROM t ORDER BY id").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_sets_and_writes_is_not_run_again_to_restore_the_session() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'once'); SET @x = 1").await;
        cut(&link).await;
        let told = outcome(&mut session, "SELECT @x").await;
        assert!(is_error(&told, 1053, "08S01"), "{told}");
        assert_eq!(rows(&stack).await, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_calls_a_function_which_writes_is_not_sent_again() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "CREATE TABLE calls (n INT)").await;
        let function = "CREATE FUNCTION f (n INT) RETURNS INT MODIFIES SQL DATA BEGIN \
                        INSERT INTO calls VALUES (n); RETURN n; END";
        execute(&mut session, function).await;
        let statements = ["SET @a = f(0)", "BEGIN; SELECT f(1); COMMIT", "SELECT f(2)"];
        for statement in statements {
            let mut session = stack.session().await;
            execute(&mut session, "SELECT 1").await;
            link.cut_after(Direction::ToClient, 0, Cut::Reset);
            let told = outcome(&mut session, statement).await;
            assert!(is_error(&told, 1180, "08007"), "{statement}: {told}");
            execute(&mut session, "SELECT 1").await;
        }
        // Only the answers were cut off, so each call comes to its end, once.
        let calls = || async {
            let mut direct = stack.direct(stack.pair.master.port()).await;
            direct.query::<i32, _>("SELECT n FROM calls ORDER BY n").await.unwrap()
        };
        wait_until(PATIENCE, "three calls", || async { calls().await.len() >= 3 }).await;
        assert_eq!(calls().await, [0, 1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_prepared_in_one_schema_is_not_prepared_again_in_another() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        for statement in ["CREATE DATABASE app_two", "CREATE TABLE app_two.t LIKE app.t"] {
            execute(&mut session, statement).await;
        }
        let mut direct = stack.direct(stack.pair.master.port()).await;
        for session in [&mut direct, &mut session] {
            let read = session.prep("SELECT COUNT(*) FROM t").await.unwrap();
            let write = session.prep("INSERT INTO t VALUES (?, '')").await.unwrap();
            execute(session, "USE app_two").await;
            cut(&link).await;
            let before: Option<i32> = session.exec_first(&read, ()).await.unwrap();
            session.exec_drop(&write, (before.unwrap() + 10,)).await.unwrap();
            let after: Option<i32> = session.exec_first(&read, ()).await.unwrap();
            assert_eq!(after, before.map(|count| count + 1), "{flavor}");
            assert_eq!(query_one::<i32>(session, "SELECT COUNT(*) FROM t").await, 0, "{flavor}");
            assert_eq!(query_one::<String>(session, "SELECT DATABASE()").await, "app_two");
        }
        assert_eq!(rows(&stack).await, [1, 11, 12], "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_transaction_is_not_committed_by_other_words() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        for commit in ["SET autocommit = 1", "BEGIN", "COMMIT; ROLLBACK", "CREATE TABLE x (a INT)"]
        {
            let mut session = stack.session().await;
            execute(&mut session, "SET autocommit = 0").await;
            execute(&mut session, "INSERT INTO t VALUES (2, 'lost')").await;
            cut(&link).await;
            let told = outcome(&mut session, commit).await;
            assert!(is_error(&told, 1213, "40001"), "{commit}: {told}");
            assert_eq!(outcome(&mut session, "ROLLBACK").await, "ok");
            assert_eq!(rows(&stack).await, [1], "{commit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_in_disguise_whose_answer_is_lost_is_not_called_rolled_back() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let commits =
            ["SET autocommit = 1", "LOCK TABLES t READ", "COMMIT; SELECT LAST_INSERT_ID()"];
        for (id, commit) in (2..).zip(commits) {
            let mut session = stack.session().await;
            execute(&mut session, "SET autocommit = 0").await;
            execute(&mut session, &format!("INSERT INTO t VALUES ({id}, 'x')")).await;
            link.cut_after(Direction::ToClient, 0, Cut::Reset);
            let told = outcome(&mut session, commit).await;
            assert!(is_error(&told, 1180, "08007"), "{commit}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_does_not_hide_whether_a_transaction_is_open() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        // Opened before the error, in the same packet.
        let mut session = stack.session().await;
        let opened = "BEGIN; INSERT INTO t VALUES (2, 'lost'); SELECT nope";
        assert!(outcome(&mut session, opened).await.starts_with("1054/"));
        cut(&link).await;
        // 1053 where the connection was cut before failsoft knew what the error left behind.
        let told = outcome(&mut session, "COMMIT").await;
        let honest = is_error(&told, 1213, "40001") || is_error(&told, 1053, "08S01");
        assert!(honest, "{told}");
        // Ended by the statement that failed: DDL commits first.
        let mut session = stack.session().await;
        execute(&mut session, "BEGIN").await;
        execute(&mut session, "INSERT INTO t VALUES (3, 'kept')").await;
        assert!(outcome(&mut session, "CREATE TABLE t (a INT)").await.starts_with("1050/"));
        execute(&mut session, "SELECT 1").await;
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let told = outcome(&mut session, "INSERT INTO t VALUES (4, 'unknown')").await;
        assert!(is_error(&told, 1180, "08007"), "not called rolled back: {told}");
        assert_eq!(rows(&stack).await[..2], [1, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_chosen_by_a_packet_that_fails_is_not_forgotten() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "CREATE DATABASE app_b").await;
        execute(&mut session, "CREATE TABLE app_b.t (id INT, v TEXT)").await;
        let failed = outcome(&mut session, "USE app_b; SELECT nope").await;
        assert!(failed.starts_with("1054/"), "{failed}");
        cut(&link).await;
        // 1053 where the connection was cut before failsoft knew what the error left behind.
        let told = outcome(&mut session, "INSERT INTO t VALUES (9, 'b')").await;
        assert!(told == "ok" || is_error(&told, 1053, "08S01"), "{told}");
        let mut direct = stack.direct(stack.pair.master.port()).await;
        let there: u64 = query_one(&mut direct, "SELECT COUNT(*) FROM app_b.t").await;
        assert_eq!(there, u64::from(told == "ok"), "{told}");
        assert_eq!(rows(&stack).await, [1], "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_insert_id_is_not_written_as_zero() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "CREATE TABLE auto (id INT PRIMARY KEY AUTO_INCREMENT)").await;
        for statement in [
            "INSERT INTO t VALUES (LAST_INSERT_ID(), 'child')",
            "SELECT @@last_insert_id",
            "SELECT @@identity",
            "SELECT ROW_COUNT(), LAST_INSERT_ID()",
        ] {
            let mut session = stack.session().await;
            execute(&mut session, "INSERT INTO auto VALUES ()").await;
            cut(&link).await;
            let told = outcome(&mut session, statement).await;
            assert!(is_error(&told, 1053, "08S01"), "{statement}: {told}");
            assert!(told.contains("LAST_INSERT_ID()"), "{told}");
        }
        // Lost while the question is on its way, it is the same loss.
        let mut session = stack.session().await;
        execute(&mut session, "INSERT INTO auto VALUES ()").await;
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let told = outcome(&mut session, "SELECT LAST_INSERT_ID()").await;
        assert!(is_error(&told, 1053, "08S01") && told.contains("LAST_INSERT_ID()"), "{told}");
        let mut session = stack.session().await;
        execute(&mut session, "SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1").await;
        cut(&link).await;
        let told = outcome(&mut session, "SELECT FOUND_ROWS()").await;
        assert!(is_error(&told, 1053, "08S01"), "{told}");
        assert_eq!(rows(&stack).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_a_procedure_set_is_not_read_as_null() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "CREATE PROCEDURE p () SET @hidden = 7").await;
        execute(&mut session, "CALL p()").await;
        cut(&link).await;
        execute(&mut session, "SELECT 'a@b', @@port").await;
        let told = outcome(&mut session, "SELECT @hidden").await;
        assert!(is_error(&told, 1053, "08S01"), "{told}");
        assert!(told.contains("the user variables that its procedures may have set"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_query_attributes_is_given_its_state_again() {
    for flavor in flavors().into_iter().filter(|flavor| *flavor == Flavor::MySql) {
        let (mut stack, link) = behind_a_link(flavor).await;
        let mut wire = Wire::login(stack.failsoft.port(), QUERY_ATTRIBUTES).await;
        // No attributes, in one set.
        let ask = |sql: &str| [&[0, 1], sql.as_bytes()].concat();
        assert!(wire.query(ask("SET @a = 'kept'")).await[0].is_ok());
        cut(&link).await;
        let rows = wire.query(ask("SELECT @a")).await;
        assert!(rows.iter().any(|frame| frame.payload == b"\x04kept"), "{:?}", rows[0].error());
        stack.pair.master.kill().unwrap();
        let rows = wire.query(ask("SELECT @a")).await;
        assert!(rows.iter().any(|frame| frame.payload == b"\x04kept"), "{:?}", rows[0].error());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_set_with_parameters_does_not_break_the_session() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        session.exec_drop("SET @a = ?", (7,)).await.unwrap();
        assert_eq!(query_one::<i64>(&mut session, "SELECT @a").await, 7);
        cut(&link).await;
        let told = outcome(&mut session, "SELECT @a").await;
        assert!(is_error(&told, 1053, "08S01"), "{told}");
        assert_eq!(stack.failsoft.http_get("/rw").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_schema_does_not_lock_the_session_out() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "CREATE DATABASE app_c").await;
        execute(&mut session, "USE app_c").await;
        execute(&mut session, "DROP DATABASE app_c").await;
        cut(&link).await;
        assert_eq!(query_one::<Option<String>>(&mut session, "SELECT DATABASE()").await, None);
        execute(&mut session, "USE app").await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'back')").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_schema_does_not_make_the_master_unreachable() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let mut session = stack.failsoft.conn(Some("mysql")).await.unwrap();
        let told = outcome(&mut session, "SELECT 1").await;
        assert!(is_error(&told, 1044, "42000"), "{told}");
        let (code, text) = stack.failsoft.http_get("/rw").await;
        assert_eq!(code, 200, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preparing_a_write_in_read_only_mode_is_refused_in_our_words() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        stack.pair.master.kill().unwrap();
        match session.prep("INSERT INTO t VALUES (?, ?)").await {
            Err(mysql_async::Error::Server(error)) => {
                assert_eq!(error.code, 1290, "{}", error.message);
                assert!(error.message.contains("(failsoft: partition default"), "{error}");
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
        execute(&mut session, "SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_variable_does_not_keep_a_session_on_its_replica_for_good() {
    for flavor in flavors() {
        let mut stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        stack.pair.master.kill().unwrap();
        execute(&mut session, "SELECT @r := 1").await;
        stack.pair.master.start_again().await.unwrap();
        let mut fresh = stack.session().await;
        write_until_ok(&mut fresh, "INSERT INTO t VALUES (2, 'fresh')").await;
        let told = outcome(&mut session, "INSERT INTO t VALUES (3, 'x')").await;
        assert!(is_error(&told, 1053, "08S01"), "{told}");
        assert!(told.contains("its user variables; nothing was executed"), "{told}");
        assert_eq!(rows(&stack).await, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_file_is_not_taken_for_commands_when_the_server_is_lost() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut login = Login::new("app", "app-pass");
        login.capabilities |= testkit::capability::LOCAL_FILES;
        let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
        client.command(0x03, b"LOAD DATA LOCAL INFILE 'x' INTO TABLE app.t").await.unwrap();
        let asked = client.read().await.unwrap();
        assert_eq!(asked.payload[0], 0xfb, "{asked:?}");
        cut(&link).await;
        // Each line would be a command if it were read as one.
        client.send(b"\x03INSERT INTO app.t VALUES (66, 'from the file')").await.unwrap();
        client.send(b"\x03INSERT INTO app.t VALUES (67, 'from the file')").await.unwrap();
        client.send(b"").await.unwrap();
        let told = client.read().await.unwrap();
        assert_eq!(told.error().map(|error| error.0), Some(1180), "{told:?}");
        let frames = client.query("SELECT 41 + 1").await.unwrap();
        assert!(frames.iter().any(|frame| frame.payload == b"\x0242"), "{frames:?}");
        assert_eq!(rows(&stack).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_servers_refuse_for_its_own_sake_does_not_make_the_master_unreachable() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let long = "x".repeat(200);
        // utf8mb3_general_ci has no room for the face, and ucs2_general_ci is none for clients.
        for (name, collation) in [("app\u{1f601} ", 33), (long.as_str(), 33), ("app", 35)] {
            let mut login = Login::new("app", "app-pass");
            login.schema = Some(name.to_owned());
            login.collation = collation;
            let mut direct = RawClient::connect(stack.pair.master.port()).await.unwrap();
            let expected = direct.login(&login).await.unwrap().error();
            let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
            client.command(0x03, b"SELECT 1").await.unwrap();
            let told = client.read().await.unwrap().error();
            assert_eq!(told, expected, "{flavor}: {name}");
            let (code, text) = stack.failsoft.http_get("/rw").await;
            assert_eq!(code, 200, "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_whether_a_transaction_is_open_does_not_change_row_count() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "SET autocommit = 0").await;
        assert!(outcome(&mut session, "SELECT nope").await.starts_with("1054/"));
        assert_eq!(query_one::<i64>(&mut session, "SELECT ROW_COUNT()").await, -1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_statement_id_is_among_the_servers_warnings() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let login = Login::new("app", "app-pass");
        for port in [stack.pair.master.port(), stack.failsoft.port()] {
            let mut client = RawClient::logged_in(port, &login).await;
            // Statement 1 is there on the server, and closed on the client's side.
            client.command(0x16, b"SELECT 1").await.unwrap();
            let id = client.read().await.unwrap().payload[1..5].to_vec();
            client.read().await.unwrap();
            client.read().await.unwrap();
            client.command(0x19, &id).await.unwrap();
            client.command(0x17, &[&id[..], &[0, 1, 0, 0, 0]].concat()).await.unwrap();
            let told = client.read().await.unwrap();
            assert_eq!(told.error().map(|error| error.0), Some(1243), "{told:?}");
            let frames = client.query("SHOW ERRORS").await.unwrap();
            let row = frames.iter().any(|frame| frame.payload.starts_with(b"\x05Error\x041243"));
            assert!(row, "{frames:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_user_forgets_that_spaces_were_to_be_ignored() {
    const IGNORE_SPACE: u32 = 1 << 8;
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let mut seen = Vec::new();
        for port in [stack.pair.master.port(), stack.failsoft.port()] {
            let mut login = Login::new("app", "app-pass");
            login.capabilities |= IGNORE_SPACE;
            let mut client = RawClient::logged_in(port, &login).await;
            let before = client.query("SELECT @@sql_mode").await.unwrap();
            assert!(before[3].payload.windows(12).any(|window| window == b"IGNORE_SPACE"));
            let answer = client.change_user(&login).await.unwrap();
            assert!(answer.is_ok(), "{:?}", answer.error());
            seen.push(client.query("SELECT @@sql_mode").await.unwrap());
        }
        assert_eq!(seen[0], seen[1], "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_before_a_change_of_user_is_not_taken_for_one_of_after() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let login = Login::new("app", "app-pass");
        let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
        let mut ids = Vec::new();
        for statement in [b"DELETE FROM app.t", b"SELECT 1 + 1     "] {
            client.command(0x16, statement).await.unwrap();
            ids.push(client.read().await.unwrap().payload[1..5].to_vec());
            if statement.starts_with(b"SELECT") {
                client.read().await.unwrap();
                client.read().await.unwrap();
            }
            assert!(client.change_user(&login).await.unwrap().is_ok());
        }
        assert_ne!(ids[0], ids[1], "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_without_a_server_does_not_forget_that_quotes_are_of_names() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let login = Login::new("app", "app-pass");
        let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
        let set = client.query("SET sql_mode = 'ANSI_QUOTES'").await.unwrap();
        cut(&link).await;
        client.command(0x0e, b"").await.unwrap();
        assert_eq!(client.read().await.unwrap(), set[0], "{flavor}");
    }
}

/// Perl's DBI ends a transaction by switching autocommit on, and takes no notice when that fails:
/// refused, it left the session with autocommit off, where nobody commits.
#[tokio::test(flavor = "multi_thread")]
async fn autocommit_is_switched_on_once_the_loss_is_known() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "SET autocommit = 0").await;
        execute(&mut session, "INSERT INTO t VALUES (2, 'lost')").await;
        cut(&link).await;
        let told = outcome(&mut session, "COMMIT").await;
        assert!(is_error(&told, 1213, "40001"), "{told}");
        assert_eq!(outcome(&mut session, "SET autocommit = 1").await, "ok");
        assert_eq!(outcome(&mut session, "ROLLBACK").await, "ok");
        execute(&mut session, "INSERT INTO t VALUES (3, 'committed')").await;
        assert_eq!(rows(&stack).await, [1, 3]);
    }
}

/// MariaDB before 11.0 greets with 5.5.5 before its version, and Connector/Python chooses a
/// collation by what comes first: one that only MySQL 8 has.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_the_greeting_is_the_servers_to_the_letter() {
    for flavor in flavors() {
        let stack = Stack::start(flavor).await;
        let direct = RawClient::connect(stack.pair.master.port()).await.unwrap();
        let through = RawClient::connect(stack.failsoft.port()).await.unwrap();
        assert_eq!(through.greeting.version, direct.greeting.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_user_leaves_the_variables_that_a_server_leaves() {
    // What a change of user leaves of the session: every variable, but for those of the connection.
    let variables = "SELECT VARIABLE_NAME, VARIABLE_VALUE \
                     FROM performance_schema.session_variables \
                     WHERE VARIABLE_NAME NOT IN ('pseudo_thread_id', 'timestamp', 'rand_seed1', \
                     'rand_seed2', 'statement_id') ORDER BY VARIABLE_NAME";
    let of_mariadb = variables.replace("performance_schema", "information_schema");
    for flavor in flavors() {
        let sql = if flavor == Flavor::MySql { variables } else { &of_mariadb };
        let stack = Stack::start(flavor).await;
        for collation in [63, 8, 33, 45, 255] {
            let mut seen = Vec::new();
            for port in [stack.pair.master.port(), stack.failsoft.port()] {
                let mut login = Login::new("app", "app-pass");
                login.collation = collation;
                login.schema = Some("app".to_owned());
                let mut client = RawClient::logged_in(port, &login).await;
                client
                    .query("SET @@session.sql_mode = '', character_set_client = latin1")
                    .await
                    .unwrap();
                assert!(client.change_user(&login).await.unwrap().is_ok());
                let rows = client.query(sql).await.unwrap();
                let text: Vec<_> =
                    rows.iter().map(|row| row.payload.escape_ascii().to_string()).collect();
                seen.push(text);
            }
            let pairs = seen[0].iter().zip(&seen[1]);
            let wrong: Vec<_> = pairs.filter(|(direct, through)| direct != through).collect();
            assert!(wrong.is_empty(), "{flavor}, collation {collation}: {wrong:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_a_bulk_execution_travel() {
    for flavor in flavors().into_iter().filter(|flavor| *flavor == Flavor::MariaDb) {
        let (stack, link) = behind_a_link(flavor).await;
        let mut client = RawClient::connect(stack.failsoft.port()).await.unwrap();
        let schema = Some("app".to_owned());
        let login = Handmade { schema, extended: STMT_BULK, ..Handmade::native(&client) };
        client.send(&login.payload()).await.unwrap();
        assert!(client.read().await.unwrap().is_ok());
        let mut wire = Wire::new(client, 0);
        let (id, _) = wire.prepare("INSERT INTO t VALUES (?, ?)").await;
        let row = |id: i32| [&[0][..], &id.to_le_bytes(), &[0, 4], b"bulk"].concat();
        let (types, with_types) = ([3, 0, 253, 0], [128, 0]);
        let first = [&id.to_le_bytes()[..], &with_types, &types, &row(2)].concat();
        let second = [&id.to_le_bytes()[..], &[0, 0], &row(3), &row(4)].concat();
        // By the other command, which relies on the types that came with the first.
        let third = [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0, 0, 0], &[5, 0, 0, 0, 4], b"last"];
        for (command, rest) in [
            (com::STMT_BULK_EXECUTE, first),
            (com::STMT_BULK_EXECUTE, second),
            (com::STMT_EXECUTE, third.concat()),
        ] {
            let end = wire.ask(command, &rest, Kind::Results).await;
            assert!(end[0].is_ok(), "{:?}", end[0].error());
            cut(&link).await;
        }
        assert_eq!(rows(&stack).await, [1, 2, 3, 4, 5]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_the_servers_refuse_is_told_so() {
    for flavor in flavors() {
        let users = "users: [{name: app, pass: app-pass}, {name: stranger, pass: known-here-only}]";
        let stack = Stack::start_with(flavor, users).await;
        let mut login = Login::new("stranger", "known-here-only");
        login.schema = None;
        let mut direct = RawClient::connect(stack.pair.master.port()).await.unwrap();
        let (code, state, _) = direct.login(&login).await.unwrap().error().unwrap();
        assert_eq!((code, state.as_str()), (1045, "28000"));
        for statement in ["SELECT 1", "DELETE FROM app.t"] {
            let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
            client.command(0x03, statement.as_bytes()).await.unwrap();
            let (code, state, text) = client.read().await.unwrap().error().unwrap();
            assert_eq!((code, state.as_str()), (1045, "28000"), "{flavor}: {statement}: {text}");
            assert!(text.contains("'stranger'@"), "{text}");
        }
        let (code, text) = stack.failsoft.http_get("/rw").await;
        assert_eq!(code, 200, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_at_its_limit_is_no_lost_master() {
    for flavor in flavors() {
        let users = "users: [{name: app, pass: app-pass}, {name: limited, pass: few}]";
        let stack = Stack::start_with(flavor, users).await;
        let mut root = stack.root(stack.pair.master.port()).await;
        execute(&mut root, "CREATE USER limited IDENTIFIED BY 'few' WITH MAX_USER_CONNECTIONS 1")
            .await;
        let mut sessions = Vec::new();
        for expected in [None, Some(1226)] {
            let login = Login::new("limited", "few");
            let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
            client.command(0x03, b"DO 1").await.unwrap();
            let told = client.read().await.unwrap().error();
            assert_eq!(told.as_ref().map(|(code, ..)| *code), expected, "{flavor}: {told:?}");
            sessions.push(client);
        }
        let (code, text) = stack.failsoft.http_get("/rw").await;
        assert_eq!(code, 200, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_password_may_be_a_nul() {
    for flavor in flavors() {
        let users = "users: [{name: app, pass: app-pass}, {name: bare, pass: \"\"}]";
        let stack = Stack::start_with(flavor, users).await;
        // As MySQL's own clients send it, which then want OK and nothing before it.
        for answer in [vec![], vec![0]] {
            let mut client = RawClient::connect(stack.failsoft.port()).await.unwrap();
            let login = Handmade {
                user: "bare".to_owned(),
                answer,
                plugin: Some("caching_sha2_password".to_owned()),
                ..Handmade::native(&client)
            };
            client.send(&login.payload()).await.unwrap();
            let mut frame = client.read().await.unwrap();
            if frame.payload[0] == 0xfe {
                client.send(&[0]).await.unwrap();
                frame = client.read().await.unwrap();
            }
            assert!(frame.is_ok(), "{flavor}: {:?}", frame.payload);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_failed_is_the_end_of_its_transaction_for_all_but_another() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        for (id, begin) in (2..).step_by(2).zip(["BEGIN", "SET autocommit = 0"]) {
            let mut session = stack.session().await;
            execute(&mut session, begin).await;
            execute(&mut session, "INSERT INTO t VALUES (100, 'lost')").await;
            cut(&link).await;
            // Drivers that know that it is over send no ROLLBACK. One that only repeats its COMMIT
            // must not hear that nothing was left to do.
            for statement in ["COMMIT", "COMMIT", "SET @a = 1", "COMMIT", "SELECT 1", "COMMIT"] {
                let told = outcome(&mut session, statement).await;
                let expected = if statement == "COMMIT" { "1213/40001" } else { "ok" };
                assert!(told.starts_with(expected), "{begin}, {statement}: {told}");
            }
            execute(&mut session, &format!("INSERT INTO t VALUES ({id}, 'after')")).await;
            execute(&mut session, "COMMIT").await;
            // What is read begins a transaction where autocommit is off, which can be committed.
            execute(&mut session, begin).await;
            execute(&mut session, &format!("INSERT INTO t VALUES ({}, 'unknown')", id + 1)).await;
            link.cut_after(Direction::ToClient, 0, Cut::Reset);
            let [first, second] =
                [outcome(&mut session, "COMMIT").await, outcome(&mut session, "COMMIT").await];
            assert!(is_error(&first, 1180, "08007"), "{begin}: {first}");
            assert_eq!(first, second, "{begin}");
            assert!(query_one::<i32>(&mut session, "SELECT COUNT(*) FROM t").await > 1);
            let third = outcome(&mut session, "COMMIT").await;
            let expected = if begin == "BEGIN" { &first } else { "ok" };
            assert_eq!(third, expected, "{begin}");
            assert_eq!(outcome(&mut session, "ROLLBACK").await, "ok");
            assert_eq!(outcome(&mut session, "COMMIT").await, "ok");
        }
        assert_eq!(rows(&stack).await, [1, 2, 3, 4, 5]);
    }
}

/// The checks take longer to decide than servers are tried for one statement, so a read that had
/// waited for a hung master all that time was told that no server answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_hung_master_left_waiting_is_answered_by_the_replica() {
    let decided_late = "health: {interval: 300ms, threshold: 12, timeout: 1s}\nconnect_timeout: 1s";
    for flavor in flavors() {
        let mut stack = Stack::start_with(flavor, decided_late).await;
        let mut session = stack.session().await;
        execute(&mut session, "SELECT 1").await;
        stack.pair.master.pause().unwrap();
        for statement in ["SELECT v FROM t WHERE id = 1", "BEGIN"] {
            assert_eq!(outcome(&mut session, statement).await, "ok", "{flavor}: {statement}");
        }
        stack.pair.master.resume().unwrap();
    }
}

/// The client was told that it can restart its transaction, and found the connection closed when it
/// rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_transaction_is_told_and_then_the_lost_state() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link(flavor).await;
        let mut session = stack.session().await;
        execute(&mut session, "PREPARE p FROM 'SELECT 1'").await;
        execute(&mut session, "BEGIN").await;
        link.cut_after(Direction::ToClient, 0, Cut::Reset);
        let told = outcome(&mut session, "INSERT INTO t VALUES (2, 'undone')").await;
        assert!(is_error(&told, 1213, "40001"), "{told}");
        let told = outcome(&mut session, "COMMIT").await;
        assert!(is_error(&told, 1053, "08S01"), "{told}");
        assert!(told.contains("its prepared statements"), "{told}");
        assert_eq!(outcome(&mut session, "SELECT 1").await, "closed");
        assert_eq!(rows(&stack).await, [1]);
    }
}

/// Time for servers was used up by the master twice: first it did not prepare a statement again,
/// then it did not let the session in. The client was told that no server answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_takes_all_the_time_leaves_some_for_the_replica() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link_with(flavor, "connect_timeout: 1s").await;
        let (mut reader, mut writer) = (stack.session().await, stack.session().await);
        let read = reader.prep("SELECT v FROM t WHERE id = ?").await.unwrap();
        let write = writer.prep("INSERT INTO t VALUES (?, 'never')").await.unwrap();
        cut(&link).await;
        // On new connections, on which the statements are not prepared.
        execute(&mut reader, "SELECT 1").await;
        execute(&mut writer, "SELECT 1").await;
        link.freeze();
        link.set_mode(Mode::Blackhole).await;
        let seen: Option<String> = reader.exec_first(&read, (1,)).await.unwrap();
        assert_eq!(seen.as_deref(), Some("one"), "{flavor}");
        match writer.exec_drop(&write, (2,)).await {
            Err(mysql_async::Error::Server(error)) => {
                assert_eq!(error.code, 1290, "{flavor}: {}", error.message);
            }
            other => panic!("{flavor}: {other:?}"),
        }
        link.thaw();
        assert_eq!(rows(&stack).await, [1], "{flavor}");
    }
}

/// The answer to LOAD DATA LOCAL was cut off in the middle, and an error written into it: the client
/// took that for the rest, and waited for ever for the answer to its next statement.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_into_the_answer_to_a_file() {
    const LOAD: &str = "LOAD DATA LOCAL INFILE 'x' INTO TABLE loaded (a)";
    for flavor in flavors() {
        let (stack, link) = behind_a_link_with(flavor, "tls: {servers: off}").await;
        let mut direct = stack.direct(stack.pair.master.port()).await;
        execute(&mut direct, "CREATE TABLE loaded (a INT)").await;
        let mut answers = [0; 3];
        for bytes in 0..70 {
            let mut session = stack.session().await;
            execute(&mut session, "SELECT 1").await;
            let file = Box::pin(ReaderStream::new(&b"1\n2\n"[..]));
            session.set_infile_handler(async move { Ok(file as _) });
            link.cut_after(Direction::ToClient, bytes, Cut::Close);
            let told = outcome(&mut session, LOAD).await;
            let next = tokio::time::timeout(PATIENCE, outcome(&mut session, "SELECT 2")).await;
            let next =
                next.unwrap_or_else(|_| panic!("{flavor}, {bytes} bytes: {told}, and stuck"));
            let (at, goes_on) = match told.as_str() {
                // The cut came later.
                "ok" => (0, next.as_str()),
                "closed" => (1, "closed"),
                error if is_error(error, 1180, "08007") => (2, "ok"),
                other => panic!("{flavor}, {bytes} bytes: {other}"),
            };
            assert_eq!(next, goes_on, "{flavor}, {bytes} bytes: {told}");
            answers[at] += 1;
        }
        assert!(answers[1] > 0 && answers[2] > 0, "{flavor}: {answers:?}");
    }
}

/// A server that hangs up says why, and was taken to answer the statement that came meanwhile: the
/// client got an error numbered 0, which drivers call packets out of order.
#[tokio::test(flavor = "multi_thread")]
async fn a_farewell_is_not_taken_for_an_answer() {
    for flavor in flavors() {
        let (stack, link) = behind_a_link_with(flavor, "tls: {servers: off}").await;
        for bytes in 0..4 {
            let login = Login::new("app", "app-pass");
            let mut client = RawClient::logged_in(stack.failsoft.port(), &login).await;
            client.query("SELECT 1").await.unwrap();
            // MySQL answers that it cannot read the statement.
            link.cut_after(Direction::ToServer, bytes, Cut::HalfClose);
            let frames = client.query("SELECT 41 + 1").await.unwrap();
            let numbers: Vec<_> = frames.iter().map(|frame| frame.sequence).collect();
            assert_eq!(numbers, [1, 2, 3, 4, 5], "{flavor}, {bytes} bytes: {frames:?}");
            assert!(frames.iter().any(|frame| frame.payload == b"\x0242"), "{frames:?}");
        }
    }
}
