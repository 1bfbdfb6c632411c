//! Reads out what a session has to remember, or to translate, of a statement that was classified.
//!
//! These run on few statements, so they may allocate. They read executable comments as executed.

use crate::Dialect;
use crate::cursor::Cursor;
use crate::set::{self, Item, Scope, Target};
use crate::token::{Token, TokenKind};

/// One assignment of a `SET` that can be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// What is assigned, in lower case and without quotes: `sql_mode`, `names`, `character set`,
    /// `role`, `@user_variable`. `SET NAMES … COLLATE …` also gives `collation_connection`, and
    /// `SET TRANSACTION` what it sets of `transaction_isolation` and `transaction_read_only`, which
    /// is also what their older names `tx_…` become.
    pub name: String,
    /// What kind of value it is.
    pub kind: ValueKind,
    /// The value without its quotes, if it is one literal or name.
    pub value: Option<String>,
}

/// What the value of an assignment is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `NULL`.
    Null,
    /// A text in quotes. The character set, and what quotes and backslashes mean, say which text.
    Text,
    /// Another literal or a name, which is the same whatever was set before.
    Plain,
    /// An expression, which may depend on all that was set before.
    Expression,
}

/// Whose end a `KILL` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillTarget {
    /// A connection.
    Connection(u64),
    /// What a connection is running.
    Query(u64),
    /// Something else: a user's connections, a query id, an expression, or not the packet's only
    /// statement.
    Other,
}

/// The assignments to the session of all `SET`s of a packet, in their order.
#[must_use]
pub fn assignments(sql: &[u8], dialect: Dialect) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    each_statement(sql, dialect, |cursor| {
        if cursor.accept("SET") && !cursor.token.is_word("STATEMENT") {
            set::read(cursor, false, |item| push(&mut assignments, &item, dialect));
        }
    });
    assignments
}

/// Adds what one item assigns to the session.
fn push(assignments: &mut Vec<Assignment>, item: &Item<'_>, dialect: Dialect) {
    let value = item.value;
    let plain = (value.is_single && value.is_literal).then(|| text(value.first, dialect));
    let kind = match item.target {
        Target::Transaction { .. } => ValueKind::Plain,
        _ => kind(&value),
    };
    let mut push =
        |name: String, value: Option<String>| assignments.push(Assignment { name, kind, value });
    match item.target {
        _ if item.scope == Scope::Global => {}
        Target::Other(_) => {}
        Target::System(name) => push(canonical(text(name, dialect).to_lowercase()), plain),
        Target::User(name) => push(format!("@{}", text(name, dialect).to_lowercase()), plain),
        Target::CharacterSet => push("character set".to_owned(), plain),
        Target::Role => push("role".to_owned(), plain),
        Target::Names(collation) => {
            push("names".to_owned(), plain);
            if let Some(collation) = collation {
                push("collation_connection".to_owned(), Some(text(collation, dialect)));
            }
        }
        Target::Transaction { isolation, read_only } => {
            let variables = [(ISOLATION, isolation), (READ_ONLY, read_only)];
            for (name, value) in variables {
                if let Some(value) = value {
                    push(name.to_owned(), Some(value.to_owned()));
                }
            }
        }
    }
}

fn kind(value: &set::Value<'_>) -> ValueKind {
    match (value.is_literal, value.first.kind) {
        (false, _) => ValueKind::Expression,
        (true, TokenKind::Text) => ValueKind::Text,
        // A character set before the quotes.
        (true, TokenKind::Word) if !value.is_single => ValueKind::Text,
        (true, _) if value.first.is_word("NULL") => ValueKind::Null,
        (true, _) => ValueKind::Plain,
    }
}

const ISOLATION: &str = "transaction_isolation";
const READ_ONLY: &str = "transaction_read_only";

/// A system variable's name, the newer one where it has two.
fn canonical(name: String) -> String {
    match name.as_str() {
        "tx_isolation" => ISOLATION.to_owned(),
        "tx_read_only" => READ_ONLY.to_owned(),
        _ => name,
    }
}

fn text(token: Token<'_>, dialect: Dialect) -> String {
    String::from_utf8_lossy(&unquote(token, dialect)).into_owned()
}

/// A token's text without its quotes, and with what was escaped in it.
pub(crate) fn unquote(token: Token<'_>, dialect: Dialect) -> Vec<u8> {
    let [quote @ (b'\'' | b'"' | b'`'), inner @ .., _] = token.text else {
        return token.text.to_vec();
    };
    let has_escapes = *quote == b'\''
        || (*quote == b'"' && !dialect.ansi_quotes && token.kind != TokenKind::Name);
    let escape = (has_escapes && !dialect.no_backslash_escapes).then_some(b'\\');
    let mut plain = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(byte) = rest.next() {
        if byte == quote {
            rest.next();
            plain.push(*byte);
        } else if Some(*byte) == escape {
            plain.extend(rest.next().into_iter().flat_map(|byte| unescape(*byte)));
        } else {
            plain.push(*byte);
        }
    }
    plain
}

/// What a byte after a backslash stands for. `\%` and `\_` keep their backslash.
fn unescape(byte: u8) -> Vec<u8> {
    match byte {
        b'0' => vec![0],
        b'b' => vec![8],
        b'n' => vec![b'\n'],
        b'r' => vec![b'\r'],
        b't' => vec![b'\t'],
        b'Z' => vec![26],
        b'%' | b'_' => vec![b'\\', byte],
        other => vec![other],
    }
}

/// The schema that a packet's last `USE` names, without quotes.
#[must_use]
pub fn use_target(sql: &[u8], dialect: Dialect) -> Option<Vec<u8>> {
    let mut target = None;
    each_statement(sql, dialect, |cursor| {
        if cursor.accept("USE") && matches!(cursor.token.kind, TokenKind::Word | TokenKind::Name) {
            target = Some(unquote(cursor.bump(), dialect));
        }
    });
    target
}

/// Whether a packet mentions a user variable.
#[must_use]
pub fn mentions_user_variable(sql: &[u8], dialect: Dialect) -> bool {
    let mut found = false;
    each_statement(sql, dialect, |cursor| {
        while !cursor.is_at_end() {
            found |= cursor.bump().kind == TokenKind::Variable;
        }
    });
    found
}

/// Whether a packet asks for the last insert id: `LAST_INSERT_ID`, `@@identity` and the like.
#[must_use]
pub fn mentions_insert_id(sql: &[u8], dialect: Dialect) -> bool {
    let mut found = false;
    each_statement(sql, dialect, |cursor| {
        let mut is_system = false;
        while !cursor.is_at_end() {
            let token = cursor.bump();
            let named = ["IDENTITY", "INSERT_ID"].iter().any(|word| token.is_word(word));
            found |= token.is_word("LAST_INSERT_ID") || (is_system && named);
            // `@@session.identity`: the name is the last of its words.
            let scope = ["SESSION", "LOCAL"].iter().any(|word| token.is_word(word));
            is_system =
                token.kind == TokenKind::System || (is_system && (scope || token.is_mark(b'.')));
        }
    });
    found
}

/// Whose end a `KILL` asks for; `None` if there is no `KILL` in the packet.
#[must_use]
pub fn kill_target(sql: &[u8], dialect: Dialect) -> Option<KillTarget> {
    let mut target = None;
    let mut statements = 0;
    each_statement(sql, dialect, |cursor| {
        statements += 1;
        if cursor.accept("KILL") {
            target = Some(read_kill(cursor));
        }
    });
    if statements > 1 { target.map(|_| KillTarget::Other) } else { target }
}

fn read_kill(cursor: &mut Cursor<'_>) -> KillTarget {
    cursor.accept_any(&["HARD", "SOFT"]);
    let is_query = cursor.accept("QUERY");
    if !is_query {
        cursor.accept("CONNECTION");
    }
    let token = cursor.bump();
    if token.kind != TokenKind::Number || !cursor.is_at_end() {
        return KillTarget::Other;
    }
    match str::from_utf8(token.text).ok().and_then(|digits| digits.parse().ok()) {
        Some(id) if is_query => KillTarget::Query(id),
        Some(id) => KillTarget::Connection(id),
        None => KillTarget::Other,
    }
}

/// Calls `each` at the start of every statement.
fn each_statement<'a>(sql: &'a [u8], dialect: Dialect, mut each: impl FnMut(&mut Cursor<'a>)) {
    let mut cursor = Cursor::new(sql, dialect, u32::MAX);
    loop {
        while cursor.accept_mark(b';') {}
        if cursor.is_at_last_end() {
            return;
        }
        each(&mut cursor);
        while !cursor.is_at_end() {
            cursor.bump();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Assignment, KillTarget};
    use super::{assignments, kill_target, mentions_insert_id, mentions_user_variable, use_target};
    use crate::{Dialect, ValueKind};

    const PLAIN: Dialect =
        Dialect { ansi_quotes: false, no_backslash_escapes: false, unsafe_charset: false };

    /// `name=value`, `name='value` if it is a text, `name~` if it is an expression.
    fn shown(sql: &str, dialect: Dialect) -> String {
        let show = |a: &Assignment| {
            let sign = match a.kind {
                ValueKind::Null | ValueKind::Plain => "=",
                ValueKind::Text => "='",
                ValueKind::Expression => "~",
            };
            format!("{}{sign}{}", a.name, a.value.as_deref().unwrap_or("…"))
        };
        assignments(sql.as_bytes(), dialect).iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn assignments_are_read_out() {
        let cases = [
            ("SET sql_mode = 'ANSI'", "sql_mode='ANSI"),
            ("set SESSION Sql_Mode := \"ANSI,\"\"X\"", "sql_mode='ANSI,\"X"),
            (
                "SET @@session.`wait_timeout`=10, @@autocommit = OFF",
                "wait_timeout=10 autocommit=OFF",
            ),
            ("SET @@local.time_zone='+00:00', LOCAL x=1, @@y=-1", "time_zone='+00:00 x=1 y=…"),
            ("SET GLOBAL a=1, @@global.b=2, @@persist.c=3, SESSION d=4", "d=4"),
            ("SET NAMES utf8mb4", "names=utf8mb4"),
            (
                "SET NAMES 'utf8mb4' COLLATE utf8mb4_bin, @a=1",
                "names='utf8mb4 collation_connection='utf8mb4_bin @a=1",
            ),
            ("SET NAMES DEFAULT", "names=DEFAULT"),
            ("SET CHARACTER SET 'latin1'", "character set='latin1"),
            ("SET CHARSET latin1", "character set=latin1"),
            ("SET CHAR SET latin1", "character set=latin1"),
            ("SET @A = 'x\\'y\\n', @`B``c`=2, @'d'=3", "@a='x'y\n @b`c=2 @d=3"),
            ("SET @a = @b, @c = CONCAT('a', 'b'), @d = @@sql_mode", "@a~… @c~… @d~…"),
            ("SET sql_mode = CONCAT(@@sql_mode, ',ANSI')", "sql_mode~…"),
            ("SET @a = _utf8mb4'a', @b = x'00', @c = (1)", "@a='… @b='… @c~…"),
            ("SET @a = NOW(), @b = CURRENT_TIMESTAMP, @c = (SELECT 1)", "@a~… @b~… @c~…"),
            ("SET TRANSACTION READ ONLY", "transaction_read_only=ON"),
            (
                "SET SESSION TRANSACTION ISOLATION LEVEL read committed, READ WRITE",
                "transaction_isolation=READ-COMMITTED transaction_read_only=OFF",
            ),
            (
                "SET TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
                "transaction_isolation=SERIALIZABLE transaction_read_only=ON",
            ),
            ("SET tx_isolation = 'SERIALIZABLE'", "transaction_isolation='SERIALIZABLE"),
            ("SET GLOBAL TRANSACTION READ ONLY", ""),
            ("SET @a = NULL, @b = 'NULL', @c = -1", "@a=NULL @b='NULL @c=…"),
            ("SET ROLE admin", "role=admin"),
            ("SET ROLE 'a', 'b'", "role='…"),
            ("SET PASSWORD = 'x'", ""),
            ("SET STATEMENT a=1 FOR SELECT 1", ""),
            ("SET a=1; SELECT 2; SET b=3;", "a=1 b=3"),
            ("/*!40101 SET NAMES utf8 */;", "names=utf8"),
            ("SELECT 1", ""),
            ("SET", ""),
            ("SET a", ""),
            ("SET a=", "a~…"),
            ("SET a.b = 1, c = 2", "c=2"),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(sql, PLAIN), expected, "{sql}");
        }
    }

    #[test]
    fn the_dialect_decides_what_is_quoted() {
        let ansi = Dialect { ansi_quotes: true, ..PLAIN };
        assert_eq!(shown(r#"SET "sql_mode" = ANSI"#, ansi), "sql_mode=ANSI");
        let no_escapes = Dialect { no_backslash_escapes: true, ..PLAIN };
        assert_eq!(shown(r"SET @a = 'b\', @c = 1", no_escapes), r"@a='b\ @c=1");
    }

    #[test]
    fn schemas_are_read_out() {
        for (sql, expected) in [
            ("USE shop", Some("shop")),
            ("use/**/`a``b` ;", Some("a`b")),
            ("USE a; USE b", Some("b")),
            ("SELECT 1", None),
            ("USE", None),
        ] {
            let target = use_target(sql.as_bytes(), PLAIN);
            assert_eq!(target.as_deref(), expected.map(str::as_bytes), "{sql}");
        }
    }

    #[test]
    fn user_variables_are_seen() {
        for (sql, expected) in [
            ("SELECT @a", true),
            ("SELECT 1; SELECT b FROM t WHERE c = @`d`", true),
            ("SELECT @@a, @@session.b", false),
            ("SELECT 'a@b', `c@d` -- @e", false),
            ("", false),
        ] {
            assert_eq!(mentions_user_variable(sql.as_bytes(), PLAIN), expected, "{sql}");
        }
    }

    #[test]
    fn insert_ids_are_seen() {
        for (sql, expected) in [
            ("SELECT last_insert_id()", true),
            ("INSERT INTO t VALUES (LAST_INSERT_ID (), 1)", true),
            ("SELECT @@identity", true),
            ("SELECT 1; SELECT @@session . insert_id", true),
            ("SELECT @@local.last_insert_id", true),
            ("SELECT identity FROM repository_identity WHERE note = '@@identity'", false),
            ("SELECT @@sql_mode, identity, insert_id FROM t", false),
        ] {
            assert_eq!(mentions_insert_id(sql.as_bytes(), PLAIN), expected, "{sql}");
        }
    }

    #[test]
    fn kills_are_read_out() {
        for (sql, expected) in [
            ("KILL 5", Some(KillTarget::Connection(5))),
            ("kill connection 5;", Some(KillTarget::Connection(5))),
            ("KILL HARD CONNECTION 18446744073709551615", Some(KillTarget::Connection(u64::MAX))),
            ("KILL QUERY 7", Some(KillTarget::Query(7))),
            ("KILL SOFT QUERY 7", Some(KillTarget::Query(7))),
            ("KILL QUERY ID 7", Some(KillTarget::Other)),
            ("KILL USER app", Some(KillTarget::Other)),
            ("KILL CONNECTION_ID()", Some(KillTarget::Other)),
            ("KILL 1 + 1", Some(KillTarget::Other)),
            ("KILL 0x10", Some(KillTarget::Other)),
            ("KILL 18446744073709551616", Some(KillTarget::Other)),
            ("KILL 5; SELECT 1", Some(KillTarget::Other)),
            ("KILL", Some(KillTarget::Other)),
            ("SELECT 1", None),
        ] {
            assert_eq!(kill_target(sql.as_bytes(), PLAIN), expected, "{sql}");
        }
    }
}
