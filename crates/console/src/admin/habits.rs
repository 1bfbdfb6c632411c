//! What clients ask by themselves, before a person types anything: variables, warnings, schemas.
//!
//! Command lines ask little, drivers and graphical programs a lot. They are answered as a server would
//! that has no tables, so that they come to the prompt.

use super::answer::{Answer, Table};

/// Variables that clients ask for.
const VARIABLES: &[(&str, &str)] = &[
    ("auto_increment_increment", "1"),
    ("autocommit", "1"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_database", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("default_storage_engine", "InnoDB"),
    ("hostname", ""),
    ("init_connect", ""),
    ("interactive_timeout", "28800"),
    ("license", "Apache-2.0 OR MIT"),
    ("lower_case_table_names", "0"),
    ("max_allowed_packet", "67108864"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("protocol_version", "10"),
    ("sql_mode", "STRICT_TRANS_TABLES"),
    ("sql_safe_updates", "0"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("transaction_read_only", "0"),
    ("tx_isolation", "REPEATABLE-READ"),
    ("tx_read_only", "0"),
    ("version", ""),
    ("version_comment", "failsoft's admin console; SHOW HELP lists what it knows"),
    ("version_compile_os", "Linux"),
    ("wait_timeout", "28800"),
];

/// Lists that are empty here, with their columns.
const EMPTY: &[(&[&str], &[&str])] = &[
    (&["WARNINGS"], &["Level", "Code", "Message"]),
    (&["ERRORS"], &["Level", "Code", "Message"]),
    (&["TABLES"], &["Tables_in_failsoft"]),
    (&["FULL", "TABLES"], &["Tables_in_failsoft", "Table_type"]),
    (&["TABLE", "STATUS"], &["Name", "Engine", "Rows", "Comment"]),
    (&["STATUS"], &["Variable_name", "Value"]),
    (&["GLOBAL", "STATUS"], &["Variable_name", "Value"]),
    (&["SESSION", "STATUS"], &["Variable_name", "Value"]),
    (&["ENGINES"], &["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"]),
    (&["PLUGINS"], &["Name", "Status", "Type", "Library", "License"]),
    (&["COLLATION"], &["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen"]),
    (&["CHARACTER", "SET"], &["Charset", "Description", "Default collation", "Maxlen"]),
    (&["CHARSET"], &["Charset", "Description", "Default collation", "Maxlen"]),
    (&["EVENTS", "FROM"], &["Db", "Name"]),
    (&["PROCEDURE", "STATUS"], &["Db", "Name", "Type"]),
    (&["FUNCTION", "STATUS"], &["Db", "Name", "Type"]),
    (&["TRIGGERS"], &["Trigger", "Event", "Table"]),
    (&["MASTER", "STATUS"], &["File", "Position"]),
    (&["REPLICA", "STATUS"], &["Replica_IO_State"]),
    (&["SLAVE", "STATUS"], &["Slave_IO_State"]),
];

/// What of the client's own connection it may ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection<'a> {
    pub(super) id: u32,
    pub(super) user: &'a str,
    pub(super) version: &'a str,
    pub(super) host: &'a str,
}

/// Answers what clients ask by themselves; none where it is something else.
pub(super) fn answer(text: &str, connection: Connection<'_>) -> Option<Answer> {
    let text = strip_comments(text);
    let text = text.trim().trim_end_matches(';').trim();
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match first.to_ascii_uppercase().as_str() {
        "SET" if means_read_only(rest) => {
            let text = "read-only mode is switched by SET READ_ONLY = ON and SET READ_ONLY = OFF, \
                        each with FOR PARTITION and a name, or without";
            Some(Answer::error(1064, text))
        }
        "SET" | "USE" | "BEGIN" | "COMMIT" | "ROLLBACK" | "START" => Some(Answer::Done),
        "SELECT" => select(rest, connection),
        "SHOW" => show(rest, connection),
        _ => None,
    }
}

/// Whether somebody seems to want read-only mode on or off, in words that are not ours: to say OK would be a
/// lie. Drivers say that their own transactions only read.
fn means_read_only(rest: &str) -> bool {
    let rest = rest.to_ascii_lowercase();
    let others = rest.replace("transaction_read_only", "").replace("tx_read_only", "");
    others.contains("read_only") || others.contains("readonly")
}

/// A statement without the comments in front of it: drivers put their names there.
pub(super) fn without_leading_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix("/*").and_then(|comment| comment.split_once("*/")) {
            Some((_, rest)) => text = rest,
            None => return text,
        }
    }
}

fn strip_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

fn show(rest: &str, connection: Connection<'_>) -> Option<Answer> {
    let upper = rest.to_ascii_uppercase();
    let keys: Vec<&str> = upper.split_whitespace().collect();
    let keys = match keys.as_slice() {
        ["SESSION" | "GLOBAL" | "LOCAL", rest @ ..] if rest.first() == Some(&"VARIABLES") => rest,
        all => all,
    };
    match keys {
        ["VARIABLES", ..] => Some(variables(rest, connection).into()),
        ["DATABASES" | "SCHEMAS", ..] => {
            Some(Table::new(&["Database"], vec![vec![Some("failsoft".to_owned())]]).into())
        }
        keys => {
            let (_, columns) = EMPTY.iter().find(|(known, _)| keys.starts_with(known))?;
            Some(Table::new(columns, Vec::new()).into())
        }
    }
}

/// `SHOW VARIABLES`, of which those that a pattern after LIKE names; of several after WHERE those that the
/// text has.
fn variables(rest: &str, connection: Connection<'_>) -> Table {
    let pattern = rest.split_once("LIKE ").or_else(|| rest.split_once("like "));
    let pattern = pattern.map(|(_, pattern)| pattern.trim().trim_matches(['\'', '"']));
    let condition = rest.split_once("WHERE ").or_else(|| rest.split_once("where "));
    let is_wanted = |name: &str| match (pattern, condition) {
        (Some(pattern), _) => is_like(name, pattern),
        (None, Some((_, condition))) => condition.to_ascii_lowercase().contains(name),
        (None, None) => true,
    };
    let rows = VARIABLES.iter().filter(|(name, _)| is_wanted(name));
    let rows = rows.map(|(name, _)| vec![Some((*name).to_owned()), value(name, connection)]);
    Table::new(&["Variable_name", "Value"], rows.collect())
}

/// Whether a name is like a pattern with `%` in it; `_` stands for itself as well.
fn is_like(name: &str, pattern: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase().replace('\\', "");
    let mut parts = pattern.split('%');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn value(name: &str, connection: Connection<'_>) -> Option<String> {
    match name {
        "version" => Some(connection.version.to_owned()),
        "hostname" => Some(connection.host.to_owned()),
        name => {
            let known = VARIABLES.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        }
    }
}

/// `SELECT` of variables, of what a connection knows of itself, and of literals.
fn select(rest: &str, connection: Connection<'_>) -> Option<Answer> {
    let upper = rest.to_ascii_uppercase();
    let end = [" LIMIT ", " FROM DUAL"].iter().filter_map(|word| upper.find(word)).min();
    let list = rest.get(..end.unwrap_or(rest.len()))?;
    let (mut names, mut row) = (Vec::new(), Vec::new());
    for item in list.split(',').map(str::trim) {
        let (expression, name) = alias(item);
        names.push(name.to_owned());
        row.push(evaluate(expression, connection)?);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match row.into_iter().collect::<Result<Vec<_>, String>>() {
        Ok(row) => Some(Table::new(&names, vec![row]).into()),
        Err(unknown) => Some(Answer::error(1193, format!("Unknown system variable '{unknown}'"))),
    }
}

/// An expression, and what its column is called.
fn alias(item: &str) -> (&str, &str) {
    let upper = item.to_ascii_uppercase();
    match upper.rfind(" AS ") {
        Some(at) => {
            let name = item.get(at + 4..).unwrap_or_default().trim();
            (item.get(..at).unwrap_or_default().trim(), name.trim_matches(['`', '\'', '"']))
        }
        None => (item, item),
    }
}

/// The value of an expression that is known, or the name of a variable that is not; none for what is no
/// such expression.
fn evaluate(
    expression: &str,
    connection: Connection<'_>,
) -> Option<Result<Option<String>, String>> {
    if let Some(name) = expression.strip_prefix("@@") {
        let name = name.to_ascii_lowercase();
        let name = ["session.", "global.", "local."]
            .iter()
            .find_map(|scope| name.strip_prefix(scope))
            .unwrap_or(&name)
            .to_owned();
        return Some(value(&name, connection).map(Some).ok_or(name));
    }
    let plain = expression.trim_matches(['\'', '"']);
    let is_literal = plain.len() + 2 == expression.len()
        || (!expression.is_empty() && expression.bytes().all(|byte| byte.is_ascii_digit()));
    let value = match expression.to_ascii_uppercase().as_str() {
        "DATABASE()" | "SCHEMA()" => None,
        "USER()" | "CURRENT_USER()" | "CURRENT_USER" => Some(connection.user.to_owned()),
        "VERSION()" => Some(connection.version.to_owned()),
        "CONNECTION_ID()" => Some(connection.id.to_string()),
        _ if is_literal => Some(plain.to_owned()),
        _ => return None,
    };
    Some(Ok(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> String {
        let connection = Connection { id: 7, user: "me", version: "8.4.0-f", host: "app001" };
        match answer(text, connection) {
            None => "?".to_owned(),
            Some(Answer::Done) => "OK".to_owned(),
            Some(Answer::Error { code, .. }) => code.to_string(),
            Some(Answer::Table(table)) => table.to_string(),
        }
    }

    #[test]
    fn what_clients_ask_at_connect() {
        let table = [
            (
                "select @@version_comment limit 1",
                "@@version_comment\nfailsoft's admin console; SHOW HELP lists what it knows\n",
            ),
            (
                "SELECT @@version, @@session.tx_isolation AS `iso`",
                "@@version|iso\n8.4.0-f|REPEATABLE-READ\n",
            ),
            (
                "/* mysql-connector-j */SELECT  @@session.auto_increment_increment AS auto_increment_increment, @@wait_timeout AS wait_timeout",
                "auto_increment_increment|wait_timeout\n1|28800\n",
            ),
            ("SELECT @@no_such_thing", "1193"),
            ("SELECT DATABASE(), USER() FROM DUAL", "DATABASE()|USER()\nNULL|me\n"),
            ("SELECT CONNECTION_ID()", "CONNECTION_ID()\n7\n"),
            ("SELECT 1", "1\n1\n"),
            ("SELECT 'keep alive'", "'keep alive'\nkeep alive\n"),
            (
                "SHOW VARIABLES LIKE 'lower_case_%'",
                "Variable_name|Value\nlower_case_table_names|0\n",
            ),
            (
                "SHOW SESSION VARIABLES LIKE 'sql_mode'",
                "Variable_name|Value\nsql_mode|STRICT_TRANS_TABLES\n",
            ),
            (
                "SHOW VARIABLES WHERE Variable_name = 'time_zone' OR Variable_name = 'version'",
                "Variable_name|Value\ntime_zone|SYSTEM\nversion|8.4.0-f\n",
            ),
            ("SHOW DATABASES", "Database\nfailsoft\n"),
            ("SHOW FULL TABLES FROM `failsoft`", "Tables_in_failsoft|Table_type\n"),
            ("show warnings", "Level|Code|Message\n"),
            ("SET NAMES utf8mb4", "OK"),
            ("SET autocommit=1", "OK"),
            ("SET SESSION TRANSACTION READ ONLY", "OK"),
            ("set session transaction_read_only=1", "OK"),
            ("SET READ_ONLY ON", "1064"),
            ("SET GLOBAL read_only = 1", "1064"),
            ("SET @@global.super_read_only = 1", "1064"),
            ("SET READONLY = ON", "1064"),
            ("USE failsoft", "OK"),
            ("SELECT * FROM t", "?"),
            ("SELECT a, b", "?"),
            ("INSERT INTO t VALUES (1)", "?"),
            ("SELECT", "?"),
            ("", "?"),
        ];
        for (text, expected) in table {
            assert_eq!(asked(text), expected, "{text}");
        }
    }

    #[test]
    fn patterns() {
        let table = [
            ("version", "version", true),
            ("version", "version_comment", false),
            ("version_comment", "version%", true),
            ("version_comment", "%comment", true),
            ("version_comment", "%sio%com%", true),
            ("version", "%", true),
            ("version", "x%", false),
        ];
        for (name, pattern, expected) in table {
            assert_eq!(is_like(name, pattern), expected, "{name} {pattern}");
        }
    }
}
