//! One statement: its verb, and how the rest is read on.
//!
//! Every function here starts after the words it is named after and stops at the `;` or the end of
//! the packet; [`classify`] sees to that.

use crate::cursor::Cursor;
use crate::scan::{Found, Scan};
use crate::tables::{self, BLOCK_WORDS, Verb};
use crate::token::TokenKind;
use crate::{Class, Effects, Kind, Statement, set};

/// How deep statements may stand in front of statements: `EXPLAIN ANALYZE SET STATEMENT … FOR …`.
const DEEPEST: u8 = 4;

/// What of a statement's inside stays with it when it is explained but not run.
const EXPLAINED: Effects = Effects::UNKNOWN_FUNCTION.union(Effects::USER_VARIABLE);

/// Classifies the statement that starts here, and stops behind it.
pub(crate) fn classify(cursor: &mut Cursor<'_>) -> Statement {
    let statement = nested(cursor, 0);
    while !cursor.is_at_end() {
        cursor.bump();
    }
    statement
}

/// Classifies a statement that may stand behind another.
pub(crate) fn nested(cursor: &mut Cursor<'_>, depth: u8) -> Statement {
    let is_parenthesized = cursor.token.is_mark(b'(');
    while cursor.accept_mark(b'(') {}
    let verb = if cursor.token.kind == TokenKind::Word && depth < DEEPEST {
        tables::verb(cursor.token.text)
    } else {
        None
    };
    match verb {
        Some((name, verb @ (Verb::Query | Verb::With))) => {
            cursor.bump();
            let is_naming = *verb == Verb::With;
            let scan = if is_naming { Scan::of_names(cursor) } else { Scan::new(cursor) };
            query(cursor, scan, Kind::Read, name)
        }
        Some((name, verb)) if !is_parenthesized => {
            cursor.bump();
            by_verb(cursor, name, *verb, depth)
        }
        _ => block(cursor, UNKNOWN_STATEMENT),
    }
}

fn by_verb(cursor: &mut Cursor<'_>, name: &'static str, verb: Verb, depth: u8) -> Statement {
    match verb {
        Verb::Fixed(kind, effects) => fixed(cursor, kind, name, effects),
        Verb::Query | Verb::With => query(cursor, Scan::new(cursor), Kind::Read, name),
        Verb::Analyze => analyze(cursor, depth),
        Verb::Begin => begin(cursor),
        Verb::Call => call(cursor),
        Verb::Commit => commit(cursor),
        Verb::Create => create(cursor),
        Verb::Do => evaluate(cursor),
        Verb::Drop => drop_object(cursor),
        Verb::Execute => execute(cursor),
        Verb::Explain => explain(cursor, name, depth),
        Verb::Flush => flush(cursor),
        Verb::Handler => handler(cursor),
        Verb::Load => load(cursor),
        Verb::Lock => lock(cursor),
        Verb::Release if cursor.token.is_word("SAVEPOINT") => {
            fixed(cursor, Kind::Session, "RELEASE SAVEPOINT", Effects::NONE)
        }
        Verb::Release => block(cursor, UNKNOWN_STATEMENT),
        Verb::Rollback => rollback(cursor),
        Verb::Set => set::classify(cursor, depth),
        Verb::Show => show(cursor),
        Verb::Start => start(cursor),
    }
}

/// Looks through the rest of the statement.
fn rest(cursor: &mut Cursor<'_>) -> Found {
    let mut scan = Scan::new(cursor);
    cursor.feed_rest(&mut scan);
    scan.finish()
}

/// Whether one of the statement's remaining words is `word`; goes to the end.
fn rest_has(cursor: &mut Cursor<'_>, word: &str) -> bool {
    let mut has = false;
    while !cursor.is_at_end() {
        has |= cursor.bump().is_word(word);
    }
    has
}

/// A statement whose kind does not depend on what follows.
fn fixed(cursor: &mut Cursor<'_>, kind: Kind, because: &'static str, more: Effects) -> Statement {
    let found = rest(cursor);
    // In a write a name before `(` is a table as often as a function.
    Statement::new(kind, because, more | found.effects.without(Effects::UNKNOWN_FUNCTION))
}

/// A query, of which `kind` and `because` are the best that can be said.
fn query(cursor: &mut Cursor<'_>, mut scan: Scan, kind: Kind, because: &'static str) -> Statement {
    cursor.feed_rest(&mut scan);
    let found = scan.finish();
    let class = Class { kind, because };
    let class = found.class().map_or(class, |worse| class.or_worse(worse));
    Statement { class, effects: found.effects }
}

/// Something with statements inside, or something unknown: it may run to the end of the packet.
fn block(cursor: &mut Cursor<'_>, because: &'static str) -> Statement {
    let mut effects = Effects::NONE;
    let mut scan = Scan::new(cursor);
    while !cursor.is_at_last_end() {
        let token = cursor.feed(&mut scan);
        if token.is_mark(b';') && !cursor.is_at_last_end() {
            effects |= Effects::SEVERAL;
        }
        for (word, effect) in BLOCK_WORDS {
            if token.is_word(word) {
                effects |= *effect;
            }
        }
    }
    // What is unknown anyway need not be said of each call.
    let found = scan.finish().effects.without(Effects::UNKNOWN_FUNCTION);
    Statement::new(Kind::Write, because, effects | found)
}

/// A definition of something with statements inside, which do not run now.
fn definition(cursor: &mut Cursor<'_>, because: &'static str) -> Statement {
    let several = block(cursor, because).effects.intersection(Effects::SEVERAL);
    Statement::new(Kind::Write, because, several | Effects::IMPLICIT_COMMIT)
}

fn analyze(cursor: &mut Cursor<'_>, depth: u8) -> Statement {
    if ["TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"]
        .iter()
        .any(|word| cursor.token.is_word(word))
    {
        return fixed(cursor, Kind::Write, "ANALYZE TABLE", Effects::IMPLICIT_COMMIT);
    }
    skip_format(cursor);
    nested(cursor, depth + 1)
}

/// Goes past `FORMAT = name`.
fn skip_format(cursor: &mut Cursor<'_>) -> bool {
    let has_format = cursor.accept("FORMAT");
    if has_format && cursor.accept_mark(b'=') {
        cursor.bump();
    }
    has_format
}

fn begin(cursor: &mut Cursor<'_>) -> Statement {
    cursor.accept("WORK");
    if cursor.is_at_end() {
        return Statement::new(Kind::Begin, "BEGIN", Effects::BEGIN);
    }
    block(cursor, "BEGIN of a block")
}

fn call(cursor: &mut Cursor<'_>) -> Statement {
    let found = rest(cursor);
    let assigns = if found.variable { Effects::USER_VARIABLE } else { Effects::NONE };
    Statement::new(Kind::Write, "CALL", found.effects | assigns | Effects::UNKNOWN_FUNCTION)
}

fn commit(cursor: &mut Cursor<'_>) -> Statement {
    let chained = if ends_in_chain(cursor) { Effects::BEGIN } else { Effects::NONE };
    Statement::new(Kind::Commit, "COMMIT", Effects::COMMIT | chained)
}

fn rollback(cursor: &mut Cursor<'_>) -> Statement {
    cursor.accept("WORK");
    if cursor.token.is_word("TO") {
        return fixed(cursor, Kind::Session, "ROLLBACK TO", Effects::NONE);
    }
    let chained = if ends_in_chain(cursor) { Effects::BEGIN } else { Effects::NONE };
    Statement::new(Kind::Rollback, "ROLLBACK", Effects::ROLLBACK | chained)
}

/// Reads `WORK AND [NO] CHAIN [NO] RELEASE`. Whether a new transaction follows the old one.
fn ends_in_chain(cursor: &mut Cursor<'_>) -> bool {
    let mut chains = false;
    let mut negated = false;
    while !cursor.is_at_end() {
        let token = cursor.bump();
        chains |= token.is_word("CHAIN") && !negated;
        negated = token.is_word("NO");
    }
    chains
}

fn create(cursor: &mut Cursor<'_>) -> Statement {
    if cursor.accept("OR") {
        cursor.accept("REPLACE");
    }
    if cursor.accept("TEMPORARY") {
        return fixed(cursor, Kind::Write, "CREATE TEMPORARY", Effects::TEMP_TABLE);
    }
    // Before the word for a routine there may be its definer, and for a view more than that.
    const ROUTINES: [&str; 5] = ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"];
    const OTHERS: [&str; 5] = ["TABLE", "VIEW", "INDEX", "USER", "ROLE"];
    while !cursor.is_at_end() && !OTHERS.iter().any(|word| cursor.token.is_word(word)) {
        let token = cursor.bump();
        if ROUTINES.iter().any(|word| token.is_word(word)) {
            return definition(cursor, "CREATE");
        }
    }
    fixed(cursor, Kind::Write, "CREATE", Effects::IMPLICIT_COMMIT)
}

fn drop_object(cursor: &mut Cursor<'_>) -> Statement {
    if cursor.accept("TEMPORARY") {
        return fixed(cursor, Kind::Write, "DROP TEMPORARY", Effects::TEMP_TABLE);
    }
    if cursor.accept("PREPARE") {
        return fixed(cursor, Kind::Session, "DROP PREPARE", Effects::NONE);
    }
    let is_schema = cursor.accept_any(&["DATABASE", "SCHEMA"]);
    let schema = if is_schema { Effects::DROP_SCHEMA } else { Effects::NONE };
    fixed(cursor, Kind::Write, "DROP", Effects::IMPLICIT_COMMIT | schema)
}

fn evaluate(cursor: &mut Cursor<'_>) -> Statement {
    let statement = query(cursor, Scan::new(cursor), Kind::Read, "DO");
    if statement.effects.contains(Effects::UNKNOWN_FUNCTION) {
        return statement.and(Statement::new(
            Kind::Write,
            "DO with a stored function",
            Effects::NONE,
        ));
    }
    statement
}

fn execute(cursor: &mut Cursor<'_>) -> Statement {
    if cursor.accept("IMMEDIATE") {
        // Its text may be a SET or a USE, and what it sets stays.
        let effects = Effects::UNKNOWN_FUNCTION.union(Effects::SET_OPAQUE);
        return fixed(cursor, Kind::Write, "EXECUTE IMMEDIATE", effects);
    }
    fixed(cursor, Kind::Write, "EXECUTE", Effects::UNKNOWN_FUNCTION)
}

fn explain(cursor: &mut Cursor<'_>, name: &'static str, depth: u8) -> Statement {
    let mut runs = false;
    let mut own = None;
    loop {
        if cursor.accept("ANALYZE") {
            runs = true;
        } else if cursor.accept("INTO") {
            cursor.bump();
            own = Some(Statement::new(Kind::OwnRead, "INTO @variable", Effects::USER_VARIABLE));
        } else if cursor.accept("FOR") {
            // A connection and its id, or a schema and its name.
            cursor.bump();
            cursor.bump();
        } else if !skip_format(cursor) && !cursor.accept_any(&["EXTENDED", "PARTITIONS"]) {
            break;
        }
    }
    let mut statement = Statement::new(Kind::Read, name, Effects::NONE);
    if runs || is_explainable(cursor) {
        let inner = nested(cursor, depth + 1);
        // Servers refuse to explain a write, or a read that locks, where they would refuse to run it.
        let is_refused = matches!(inner.class.kind, Kind::Write | Kind::LockingRead);
        let class = if is_refused { inner.class } else { statement.class };
        let effects = inner.effects.intersection(EXPLAINED);
        statement = if runs { inner } else { Statement { class, effects } };
    }
    own.map_or(statement, |own| statement.and(own))
}

/// Whether a statement stands here that can be explained, rather than the name of a table.
fn is_explainable(cursor: &Cursor<'_>) -> bool {
    const VERBS: [&str; 8] =
        ["DELETE", "INSERT", "REPLACE", "SELECT", "TABLE", "UPDATE", "VALUES", "WITH"];
    cursor.token.is_mark(b'(') || VERBS.iter().any(|verb| cursor.token.is_word(verb))
}

fn flush(cursor: &mut Cursor<'_>) -> Statement {
    let mut locks = Effects::NONE;
    while !cursor.is_at_end() {
        let token = cursor.bump();
        if token.is_word("LOCK") || token.is_word("EXPORT") {
            locks = Effects::LOCK_TABLES;
        }
    }
    Statement::new(Kind::Write, "FLUSH", Effects::IMPLICIT_COMMIT | locks)
}

fn handler(cursor: &mut Cursor<'_>) -> Statement {
    cursor.bump();
    while cursor.accept_mark(b'.') {
        cursor.bump();
    }
    if cursor.accept("READ") {
        return query(cursor, Scan::new(cursor), Kind::OwnRead, "HANDLER READ");
    }
    fixed(cursor, Kind::Session, "HANDLER", Effects::HANDLER)
}

fn load(cursor: &mut Cursor<'_>) -> Statement {
    if cursor.token.is_word("INDEX") {
        return fixed(cursor, Kind::Write, "LOAD INDEX", Effects::IMPLICIT_COMMIT);
    }
    cursor.accept_any(&["DATA", "XML"]);
    cursor.accept_any(&["LOW_PRIORITY", "CONCURRENT"]);
    let local = if cursor.token.is_word("LOCAL") { Effects::LOCAL_INFILE } else { Effects::NONE };
    let found = rest(cursor);
    let assigns = if found.variable { Effects::USER_VARIABLE } else { Effects::NONE };
    Statement::new(Kind::Write, "LOAD", local | assigns)
}

fn lock(cursor: &mut Cursor<'_>) -> Statement {
    const LOCKS: Effects = Effects::LOCK_TABLES.union(Effects::IMPLICIT_COMMIT);
    if !cursor.accept_any(&["TABLES", "TABLE"]) {
        return fixed(cursor, Kind::Write, "LOCK", LOCKS);
    }
    if rest_has(cursor, "WRITE") {
        return Statement::new(Kind::Write, "LOCK TABLES … WRITE", LOCKS);
    }
    Statement::new(Kind::Session, "LOCK TABLES … READ", LOCKS)
}

fn show(cursor: &mut Cursor<'_>) -> Statement {
    // SHOW COUNT(*) WARNINGS
    if cursor.accept("COUNT") {
        while matches!(cursor.token.kind, TokenKind::Mark(b'(' | b'*' | b')')) {
            cursor.bump();
        }
    }
    const OWN: [(&str, &str); 4] = [
        ("ERRORS", "SHOW ERRORS"),
        ("PROFILE", "SHOW PROFILE"),
        ("PROFILES", "SHOW PROFILES"),
        ("WARNINGS", "SHOW WARNINGS"),
    ];
    let own = OWN.iter().find(|(word, _)| cursor.token.is_word(word)).map(|(_, because)| *because);
    let found = rest(cursor);
    let mut statement = Statement::new(Kind::Read, "SHOW", found.effects);
    if let Some(because) = own.or(found.own) {
        statement = statement.and(Statement::new(Kind::OwnRead, because, Effects::NONE));
    }
    if let Some(because) = found.lock {
        statement = statement.and(Statement::new(Kind::LockingRead, because, Effects::NONE));
    }
    statement
}

/// What decided of a statement that is not known.
pub const UNKNOWN_STATEMENT: &str = "unknown statement";

/// What decided of a transaction that is to read only.
pub const START_READ_ONLY: &str = "START TRANSACTION READ ONLY";

fn start(cursor: &mut Cursor<'_>) -> Statement {
    if !cursor.accept("TRANSACTION") {
        return fixed(cursor, Kind::Write, "START", Effects::IMPLICIT_COMMIT);
    }
    let (mut write, mut only) = (false, false);
    while !cursor.is_at_end() {
        let word = cursor.bump();
        write |= word.is_word("WRITE");
        only |= word.is_word("ONLY");
    }
    let (kind, because) = match (write, only) {
        (true, _) => (Kind::Write, "START TRANSACTION READ WRITE"),
        (false, true) => (Kind::Begin, START_READ_ONLY),
        (false, false) => (Kind::Begin, "START TRANSACTION"),
    };
    Statement::new(kind, because, Effects::BEGIN)
}
