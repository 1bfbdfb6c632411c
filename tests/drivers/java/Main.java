// MariaDB Connector/J of Java. Run as `run.sh plain|fault|version`; prints lines of
// `step<TAB>value`, see ../README.md.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.Driver;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;

class Main {
    static final String TEXT = "ä€😀";
    static final String READ = "SELECT v FROM t WHERE id < ?";
    static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));
    static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    interface Action {
        void run() throws SQLException;
    }

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "plain" -> plain();
            case "fault" -> fault();
            default -> {
                Driver driver = DriverManager.getDriver("jdbc:mariadb://x");
                OUT.println(driver.getMajorVersion() + "." + driver.getMinorVersion());
            }
        }
    }

    static Connection session(String password) throws SQLException {
        String url = "jdbc:mariadb://" + System.getenv("DB_HOST") + ":" + System.getenv("DB_PORT") + "/"
            + System.getenv("DB_NAME");
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("DB_USER"));
        properties.setProperty("password", password);
        properties.setProperty("useServerPrepStmts", "true");
        properties.setProperty("allowLocalInfile", "true");
        // The full login of caching_sha2_password without TLS.
        properties.setProperty("allowPublicKeyRetrieval", "true");
        return DriverManager.getConnection(url, properties);
    }

    static Connection session() throws SQLException {
        return session(System.getenv("DB_PASS"));
    }

    static void say(String step, String value) {
        OUT.print(step + "\t" + value.replace("\n", "\\n") + "\n");
        OUT.flush();
    }

    static void await(String step) throws Exception {
        OUT.print("ready " + step + "\n");
        OUT.flush();
        if (INPUT.readLine() == null) {
            throw new IllegalStateException("nobody answers");
        }
    }

    static void step(String name, Callable<String> action) {
        try {
            say(name, action.call());
        } catch (Exception error) {
            say(name, "failed: " + error);
        }
    }

    static String told(Action action) {
        try {
            action.run();
            return "ok";
        } catch (SQLException error) {
            // It adds the id of the connection, and where it is.
            String text = error.getMessage().replaceAll("\\(conn=-?\\d+\\) |\\(port=\\d+\\)", "");
            return error.getErrorCode() + " " + error.getSQLState() + " " + text;
        }
    }

    /** Number, state and class of an error; or that there is none. */
    static String failure(Action action) {
        try {
            action.run();
            return "ok";
        } catch (SQLException error) {
            return error.getErrorCode() + "/" + error.getSQLState() + " (" + error.getClass().getSimpleName() + ")";
        }
    }

    static void run(Connection one, String sql) throws SQLException {
        try (Statement statement = one.createStatement()) {
            statement.execute(sql);
        }
    }

    static List<List<String>> rows(ResultSet result) throws SQLException {
        List<List<String>> rows = new ArrayList<>();
        int columns = result.getMetaData().getColumnCount();
        while (result.next()) {
            List<String> row = new ArrayList<>();
            for (int at = 1; at <= columns; at++) {
                Object value = result.getObject(at);
                row.add(value instanceof byte[] bytes ? Arrays.toString(bytes) : String.valueOf(value));
            }
            rows.add(row);
        }
        return rows;
    }

    static List<List<String>> query(Connection one, String sql) throws SQLException {
        try (Statement statement = one.createStatement()) {
            return rows(statement.executeQuery(sql));
        }
    }

    static List<List<String>> prepared(Connection one, String sql, Object... arguments) throws SQLException {
        try (PreparedStatement statement = one.prepareStatement(sql)) {
            for (int at = 0; at < arguments.length; at++) {
                statement.setObject(at + 1, arguments[at]);
            }
            return statement.execute() ? rows(statement.getResultSet()) : List.of();
        }
    }

    static void plain() throws Exception {
        say("wrong password", told(() -> session("wrong")));
        Connection one = session();
        say("connect", "ok");
        step("types, text", () -> query(one, "SELECT * FROM kinds ORDER BY id").toString());
        step("types, prepared", () -> prepared(one, "SELECT * FROM kinds WHERE id > ? ORDER BY id", 0).toString());
        step("parameters", () -> {
            prepared(one, "INSERT INTO params VALUES (?, ?, ?, ?)", 42, TEXT, null, 1.5);
            return query(one, "SELECT * FROM params").toString();
        });
        step("utf8mb4", () -> String.join(" ", prepared(one, "SELECT ?, CHAR_LENGTH(?), HEX(?)", TEXT, TEXT, TEXT).get(0)));
        step("transaction", () -> transaction(one));
        step("last id", () -> lastId(one));
        step("CALL", () -> call(one));
        step("temporary table", () -> {
            run(one, "CREATE TEMPORARY TABLE mine (a INT)");
            run(one, "INSERT INTO mine VALUES (1), (2)");
            return query(one, "SELECT COUNT(*) FROM mine").get(0).get(0);
        });
        step("variables", () -> {
            run(one, "SET SESSION group_concat_max_len = 12345");
            run(one, "SET @x = 'x'");
            return String.join(" ", query(one, "SELECT @@group_concat_max_len, @x").get(0));
        });
        say("1062, 1146", told(() -> run(one, "INSERT INTO auto (v) VALUES ('committed')")) + " ; "
            + told(() -> query(one, "SELECT * FROM nowhere")));
        step("LOAD DATA", () -> {
            String file = System.getenv("LOAD_FILE");
            run(one, "LOAD DATA LOCAL INFILE '" + file + "' INTO TABLE loaded FIELDS TERMINATED BY ','");
            return query(one, "SELECT COUNT(*) FROM loaded").get(0).get(0);
        });
        step("20 MB", () -> blob(one));
    }

    static String blob(Connection one) throws SQLException {
        byte[] blob = new byte[20 << 20];
        for (int at = 0; at < blob.length; at++) {
            blob[at] = (byte) at;
        }
        prepared(one, "INSERT INTO blobs VALUES (1, ?)", (Object) blob);
        try (Statement statement = one.createStatement()) {
            ResultSet result = statement.executeQuery("SELECT b FROM blobs");
            result.next();
            byte[] back = result.getBytes(1);
            return back.length + (Arrays.equals(back, blob) ? " same" : " other");
        }
    }

    static String transaction(Connection one) throws SQLException {
        one.setAutoCommit(false);
        run(one, "INSERT INTO auto (v) VALUES ('committed')");
        one.commit();
        run(one, "INSERT INTO auto (v) VALUES ('rolled back')");
        one.rollback();
        one.setAutoCommit(true);
        String count = "SELECT COUNT(*) FROM auto WHERE v = ?";
        return prepared(one, count, "committed").get(0).get(0) + " " + prepared(one, count, "rolled back").get(0).get(0);
    }

    static String lastId(Connection one) throws SQLException {
        try (Statement statement = one.createStatement()) {
            statement.executeUpdate("INSERT INTO auto (v) VALUES ('id')", Statement.RETURN_GENERATED_KEYS);
            String given = rows(statement.getGeneratedKeys()).get(0).get(0);
            return given + " " + query(one, "SELECT LAST_INSERT_ID()").get(0).get(0);
        }
    }

    static String call(Connection one) throws SQLException {
        List<String> results = new ArrayList<>();
        try (Statement statement = one.createStatement()) {
            boolean hasRows = statement.execute("CALL several(7)");
            while (hasRows || statement.getUpdateCount() != -1) {
                if (hasRows) {
                    List<String> first = new ArrayList<>();
                    rows(statement.getResultSet()).forEach(row -> first.add(row.get(0)));
                    results.add(String.join(",", first));
                }
                hasRows = statement.getMoreResults();
            }
        }
        return String.join(" | ", results);
    }

    static void fault() throws Exception {
        Connection unsure = session();
        query(unsure, "SELECT 1");
        await("answer");
        say("answer lost", failure(() -> run(unsure, "INSERT INTO fault VALUES ('answered')")));
        Connection reader = session(), torn = session();
        run(reader, "SET @mark = 'kept'");
        PreparedStatement again = reader.prepareStatement(READ);
        again.setInt(1, 2);
        rows(again.executeQuery());
        torn.setAutoCommit(false);
        run(torn, "INSERT INTO fault VALUES ('torn')");
        query(unsure, "SELECT 1");
        await("kill");
        String sleeping = "INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')";
        say("write in flight", failure(() -> run(unsure, sleeping)));
        step("read", () -> String.join(" ", query(reader, "SELECT v, @mark FROM t WHERE id = 1").get(0)));
        step("prepared read", () -> rows(again.executeQuery()).get(0).get(0));
        say("write", failure(() -> run(reader, "INSERT INTO fault VALUES ('refused')")));
        say("transaction", failure(() -> query(torn, "SELECT COUNT(*) FROM fault")));
        say("COMMIT", failure(torn::commit));
        say("ROLLBACK", failure(torn::rollback));
        torn.setAutoCommit(true);
        await("back");
        say("write again", failure(() -> run(reader, "INSERT INTO fault VALUES ('again')")));
        say("write again", failure(() -> run(torn, "INSERT INTO fault VALUES ('again, torn')")));
    }
}
