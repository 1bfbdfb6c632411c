//! `SET` in all its forms.
//!
//! [`read`] goes through the items of a `SET` and hands each to its caller; [`classify`] and
//! `extract::assignments` both use it, so that there is one grammar.

use crate::cursor::Cursor;
use crate::scan::{Found, Scan};
use crate::tables::{SPENT_VARIABLES, TRANSACTION_VARIABLES};
use crate::token::{Token, TokenKind};
use crate::{Class, Effects, Kind, Statement, statement};

/// How far an assignment reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `SET x`, which is the session.
    Unsaid,
    /// `SET @@x`, which is the session, but for the transaction's variables.
    System,
    /// `SESSION`, `LOCAL`.
    Session,
    /// `GLOBAL`, `PERSIST`, `PERSIST_ONLY`.
    Global,
}

/// What an item of a `SET` assigns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// A system variable.
    System(Token<'a>),
    /// A user variable.
    User(Token<'a>),
    /// `NAMES`, with the collation that is named.
    Names(Option<Token<'a>>),
    /// `CHARACTER SET`.
    CharacterSet,
    /// `TRANSACTION`, with what it sets as the values of two variables.
    Transaction { isolation: Option<&'static str>, read_only: Option<&'static str> },
    /// `ROLE`.
    Role,
    /// Something that is not the session's: a password, a default role, or not known.
    Other(&'static str),
}

/// The right side of an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    /// Its first token.
    pub(crate) first: Token<'a>,
    /// Whether there is no other.
    pub(crate) is_single: bool,
    /// Whether it is a literal, with a sign or a character set perhaps.
    pub(crate) is_literal: bool,
    /// What its expression does.
    pub(crate) found: Found,
}

/// One item of a `SET`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) scope: Scope,
    pub(crate) value: Value<'a>,
}

/// Classifies a `SET` behind that word.
pub(crate) fn classify(cursor: &mut Cursor<'_>, depth: u8) -> Statement {
    let mut whole = Statement::new(Kind::Session, "SET", Effects::NONE);
    // A server answers with an error.
    if cursor.is_at_end() {
        return whole;
    }
    let for_statement = cursor.accept("STATEMENT");
    let is_understood = read(cursor, for_statement, |item| whole = whole.and(judge(&item)));
    if !is_understood {
        return whole.and(Statement::new(Kind::Write, NOT_KNOWN, Effects::NONE));
    }
    if for_statement { for_one(cursor, whole, depth) } else { whole }
}

/// The rest of a `SET STATEMENT`: the settings end with the statement they are for, but their
/// values are evaluated before it.
fn for_one(cursor: &mut Cursor<'_>, settings: Statement, depth: u8) -> Statement {
    cursor.bump();
    let inner = statement::nested(cursor, depth + 1);
    let effects = inner.effects | settings.effects.intersection(Effects::UNKNOWN_FUNCTION);
    match settings.class.kind {
        Kind::Session => Statement { effects, ..inner },
        _ => Statement { class: inner.class.or_worse(settings.class), effects },
    }
}

/// What one item says of the statement.
fn judge(item: &Item<'_>) -> Statement {
    let found = item.value.found;
    let mut effects = found.effects | assigned(item);
    if found.lock.is_some() || found.write.is_some() {
        effects |= Effects::UNKNOWN_FUNCTION;
    }
    let class = match (item.scope, item.target) {
        (_, Target::Other(because)) => Class { kind: Kind::Write, because },
        (Scope::Global, _) => Class { kind: Kind::Write, because: "SET GLOBAL" },
        _ => Class { kind: Kind::Session, because: "SET" },
    };
    Statement { class: found.class().map_or(class, |worse| class.or_worse(worse)), effects }
}

/// What is changed, and whether it can be changed again elsewhere.
fn assigned(item: &Item<'_>) -> Effects {
    if item.scope == Scope::Global {
        return Effects::NONE;
    }
    let is_opaque = item.value.found.varies;
    let set = if is_opaque { Effects::SET_OPAQUE } else { Effects::SET };
    match item.target {
        Target::Other(_) => Effects::NONE,
        Target::User(_) if is_opaque => Effects::SET_OPAQUE | Effects::USER_VARIABLE,
        Target::Transaction { .. } if item.scope != Scope::Session => Effects::SET_ONCE,
        Target::System(name) => {
            let name = name.bare();
            if item.scope == Scope::System && is_among(TRANSACTION_VARIABLES, name) {
                Effects::SET_ONCE
            } else if is_among(SPENT_VARIABLES, name) {
                Effects::SET_OPAQUE
            } else if name.eq_ignore_ascii_case(b"autocommit") {
                set | Effects::AUTOCOMMIT
            } else {
                set
            }
        }
        _ => set,
    }
}

fn is_among(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name))
}

/// Hands every item to `each`. Stops at the end of the statement, before the `FOR` of a
/// `SET STATEMENT`, or where it does not understand: then it returns false.
pub(crate) fn read<'a>(
    cursor: &mut Cursor<'a>,
    for_statement: bool,
    mut each: impl FnMut(Item<'a>),
) -> bool {
    loop {
        let Some(item) = read_item(cursor, for_statement) else { return false };
        each(item);
        if !cursor.accept_mark(b',') {
            let is_for = for_statement && cursor.token.is_word("FOR");
            return is_for || (!for_statement && cursor.is_at_end());
        }
    }
}

fn read_item<'a>(cursor: &mut Cursor<'a>, for_statement: bool) -> Option<Item<'a>> {
    let scope = if cursor.accept_any(&["GLOBAL", "PERSIST", "PERSIST_ONLY"]) {
        Scope::Global
    } else if cursor.accept_any(&["SESSION", "LOCAL"]) {
        Scope::Session
    } else {
        Scope::Unsaid
    };
    if scope == Scope::Unsaid
        && let Some(item) = read_special(cursor)
    {
        return Some(item);
    }
    if cursor.accept("TRANSACTION") {
        return Some(read_transaction(cursor, scope));
    }
    let (target, scope) = read_target(cursor, scope)?;
    if !matches!(cursor.token.kind, TokenKind::Mark(b'=') | TokenKind::Assign) {
        return None;
    }
    cursor.bump();
    Some(Item { target, scope, value: read_value(cursor, for_statement) })
}

/// Two words of a transaction's characteristic, and what variable they set to what.
const CHARACTERISTICS: [(&str, &str, Characteristic); 6] = [
    ("READ", "UNCOMMITTED", Characteristic::Isolation("READ-UNCOMMITTED")),
    ("READ", "COMMITTED", Characteristic::Isolation("READ-COMMITTED")),
    ("REPEATABLE", "READ", Characteristic::Isolation("REPEATABLE-READ")),
    ("LEVEL", "SERIALIZABLE", Characteristic::Isolation("SERIALIZABLE")),
    ("READ", "ONLY", Characteristic::ReadOnly("ON")),
    ("READ", "WRITE", Characteristic::ReadOnly("OFF")),
];

#[derive(Clone, Copy, Debug)]
enum Characteristic {
    Isolation(&'static str),
    ReadOnly(&'static str),
}

/// What follows `TRANSACTION`: the characteristics, to the end of the statement.
fn read_transaction<'a>(cursor: &mut Cursor<'a>, scope: Scope) -> Item<'a> {
    let (mut isolation, mut read_only) = (None, None);
    let mut last = Token::END;
    while !cursor.is_at_end() {
        let token = cursor.bump();
        let known = CHARACTERISTICS
            .iter()
            .find(|(first, second, _)| last.is_word(first) && token.is_word(second));
        match known.map(|(.., characteristic)| *characteristic) {
            Some(Characteristic::Isolation(level)) => isolation = Some(level),
            Some(Characteristic::ReadOnly(value)) => read_only = Some(value),
            None => {}
        }
        last = token;
    }
    let value = Value { first: last, is_single: false, is_literal: true, found: Found::default() };
    Item { target: Target::Transaction { isolation, read_only }, scope, value }
}

/// The items that are no assignments.
fn read_special<'a>(cursor: &mut Cursor<'a>) -> Option<Item<'a>> {
    let item = |target, value| Some(Item { target, scope: Scope::Unsaid, value });
    if cursor.accept("NAMES") {
        let mut value = read_one(cursor);
        let collation = cursor.accept("COLLATE").then(|| cursor.bump());
        value.is_literal &= !cursor.token.is_mark(b'=');
        return item(Target::Names(collation), value);
    }
    if cursor.accept("CHARSET") {
        return item(Target::CharacterSet, read_one(cursor));
    }
    if cursor.accept_any(&["CHARACTER", "CHAR"]) {
        let target = if cursor.accept("SET") { Target::CharacterSet } else { UNKNOWN };
        return item(target, read_one(cursor));
    }
    if cursor.accept("ROLE") {
        return item(Target::Role, read_rest(cursor));
    }
    let others = [
        ("PASSWORD", "SET PASSWORD"),
        ("DEFAULT", "SET DEFAULT ROLE"),
        ("RESOURCE", "SET RESOURCE GROUP"),
    ];
    let because =
        others.iter().find(|(word, _)| cursor.token.is_word(word)).map(|(_, why)| *why)?;
    item(Target::Other(because), read_rest(cursor))
}

/// What a `SET` is called that is not understood.
const NOT_KNOWN: &str = "SET of something unknown";
const UNKNOWN: Target<'static> = Target::Other(NOT_KNOWN);

/// The left side of an assignment.
fn read_target<'a>(cursor: &mut Cursor<'a>, said: Scope) -> Option<(Target<'a>, Scope)> {
    let mut scope = said;
    match cursor.token.kind {
        TokenKind::Variable if said == Scope::Unsaid => {
            return Some((Target::User(cursor.bump()), scope));
        }
        TokenKind::System if said == Scope::Unsaid => {
            cursor.bump();
            scope = Scope::System;
        }
        _ => {}
    }
    let mut name = read_name(cursor)?;
    let mut is_dotted = cursor.accept_mark(b'.');
    if is_dotted && scope == Scope::System {
        let is = |word| name.text.eq_ignore_ascii_case(word);
        if is(b"SESSION") || is(b"LOCAL") {
            scope = Scope::Session;
        } else if is(b"GLOBAL") || is(b"PERSIST") || is(b"PERSIST_ONLY") {
            scope = Scope::Global;
        } else {
            return Some((UNKNOWN, scope)).filter(|_| read_name(cursor).is_some());
        }
        name = read_name(cursor)?;
        is_dotted = cursor.accept_mark(b'.');
    }
    // A variable of a component or a key cache, or a column in a trigger. And a name with other
    // letters may have a blank in it that only the server sees.
    if is_dotted || !name.text.is_ascii() {
        if is_dotted {
            read_name(cursor)?;
        }
        return Some((UNKNOWN, scope));
    }
    Some((Target::System(name), scope))
}

fn read_name<'a>(cursor: &mut Cursor<'a>) -> Option<Token<'a>> {
    matches!(cursor.token.kind, TokenKind::Word | TokenKind::Name).then(|| cursor.bump())
}

/// An expression, up to the comma or the end.
fn read_value<'a>(cursor: &mut Cursor<'a>, for_statement: bool) -> Value<'a> {
    let mut scan = Scan::new(cursor);
    let first = cursor.token;
    let mut count = 0;
    let mut is_plain = true;
    let mut has_from = false;
    let mut last = first;
    while !cursor.is_at_end() {
        let is_outside = scan.is_outside(cursor);
        if is_outside && cursor.token.is_mark(b',') {
            break;
        }
        if is_outside && for_statement && cursor.token.is_word("FOR") {
            break;
        }
        last = cursor.feed(&mut scan);
        is_plain &= !matches!(last.kind, TokenKind::Variable | TokenKind::System);
        has_from |= last.is_word("FROM");
        count += 1;
    }
    let mut found = scan.finish();
    // What tables hold is not the same later; a query without any is an expression like others.
    found.varies |= found.query && has_from;
    let is_literal = match count {
        1 => is_plain && !matches!(first.kind, TokenKind::Mark(_)),
        2 => is_sign(first) && last.kind == TokenKind::Number || is_introduced(first, last),
        _ => false,
    };
    Value { first, is_single: count == 1, is_literal: is_literal && !found.varies, found }
}

fn is_sign(token: Token<'_>) -> bool {
    token.is_mark(b'-') || token.is_mark(b'+')
}

/// `_utf8mb4'a'`, `x'00'`
fn is_introduced(first: Token<'_>, second: Token<'_>) -> bool {
    first.kind == TokenKind::Word && second.kind == TokenKind::Text
}

/// One token.
fn read_one<'a>(cursor: &mut Cursor<'a>) -> Value<'a> {
    let is_here = !cursor.is_at_end();
    let first = if is_here { cursor.bump() } else { Token::END };
    Value { first, is_single: is_here, is_literal: is_here, found: Found::default() }
}

/// Everything to the end of the statement, commas too.
fn read_rest<'a>(cursor: &mut Cursor<'a>) -> Value<'a> {
    let first = cursor.token;
    let mut scan = Scan::new(cursor);
    let mut count = 0;
    while !cursor.is_at_end() {
        cursor.feed(&mut scan);
        count += 1;
    }
    Value { first, is_single: count == 1, is_literal: true, found: scan.finish() }
}
