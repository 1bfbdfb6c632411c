//! Looks through a statement for names in the place of a table.
//!
//! No grammar is followed, only what says that a table comes next: a keyword, or a comma in a list
//! of tables. Each parenthesis has its own list, since a derived table has a query of its own.

use std::borrow::Cow;

use super::Touched;
use crate::Dialect;
use crate::cursor::Cursor;
use crate::extract::unquote;
use crate::token::{Token, TokenKind};

/// Words that may stand between a keyword and the table that it announces.
const BETWEEN: &[&str] = &[
    "DELAYED",
    "EXISTS",
    "HIGH_PRIORITY",
    "IF",
    "IGNORE",
    "INTO",
    "LATERAL",
    "LOW_PRIORITY",
    "NOT",
    "TABLE",
];

/// Words that no table is named, unquoted: where one was expected, none comes.
const NO_NAMES: &[&str] = &["AS", "FROM", "SELECT", "SET", "USING", "VALUES", "WHERE", "WITH"];

/// Words behind which a comma announces no table.
const ENDS: &[&str] = &[
    "EXCEPT",
    "GROUP",
    "HAVING",
    "INTERSECT",
    "LIMIT",
    "ORDER",
    "RETURNING",
    "SET",
    "UNION",
    "VALUES",
    "WHERE",
    "WINDOW",
];

/// The verbs that name a table at once.
pub(super) const VERBS: &[&str] = &["DELETE", "INSERT", "REPLACE", "UPDATE"];

/// What kind of name comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A table, or what lives in a schema like one.
    Table,
    /// What a `DELETE` of several tables deletes from: `t`, `t.*`, `b.t`; without a schema it is
    /// perhaps an alias.
    Target,
}

/// What is known of one level of parentheses.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// A comma announces another table.
    is_list: bool,
    /// A query began here, so that `FROM` belongs to it and not to a function.
    is_query: bool,
    /// Among common table expressions.
    is_naming: bool,
}

/// A look through a packet.
pub(super) struct Walk<'a, 'v> {
    pub(super) cursor: Cursor<'a>,
    dialect: Dialect,
    visit: &'v mut dyn FnMut(Touched<'a>),
    level: Level,
    outer: Vec<Level>,
    /// A name of this kind comes next.
    pub(super) expected: Option<Place>,
    /// The common table expressions, which are no tables.
    expressions: Vec<&'a [u8]>,
    /// `DELETE` named no target before `FROM`: what comes after it are tables, unless `USING`
    /// follows.
    deletes: bool,
    /// There was one without a schema.
    may_touch_current: bool,
    /// The statement brings a current schema of its own.
    pub(super) has_schema: bool,
    /// `ALTER`: `RENAME` is followed by a table.
    pub(super) alters: bool,
    /// `LOAD`: `INTO` is followed by a table.
    pub(super) loads: bool,
    /// The packet is the text of a `PREPARE`.
    is_text: bool,
}

impl<'a, 'v> Walk<'a, 'v> {
    pub(super) fn new(
        sql: &'a [u8],
        dialect: Dialect,
        counted: u32,
        visit: &'v mut dyn FnMut(Touched<'a>),
    ) -> Self {
        Self {
            cursor: Cursor::new(sql, dialect, counted),
            dialect,
            visit,
            level: Level::default(),
            outer: Vec::new(),
            expected: None,
            expressions: Vec::new(),
            deletes: false,
            may_touch_current: false,
            has_schema: false,
            alters: false,
            loads: false,
            is_text: false,
        }
    }

    /// Looks through the literal at hand, if it is one, as a statement. What is prepared in text
    /// cannot prepare something itself.
    pub(super) fn text_of_statement(&mut self) {
        let token = self.cursor.token;
        if token.kind != TokenKind::Text || self.is_text {
            return;
        }
        let text = unquote(token, self.dialect);
        let mut visit = |one: Touched<'_>| (self.visit)(one.into_owned());
        let walk = Walk::new(&text, self.dialect, u32::MAX, &mut visit);
        Walk { is_text: true, ..walk }.packet();
    }

    /// Looks through all statements; returns how many executable comments there are.
    pub(super) fn packet(mut self) -> u32 {
        loop {
            while self.cursor.accept_mark(b';') {}
            if self.cursor.is_at_last_end() {
                return self.cursor.comments();
            }
            self.statement();
            self.end_statement();
        }
    }

    fn end_statement(&mut self) {
        if std::mem::take(&mut self.may_touch_current) {
            self.touch_current();
        }
        while !self.cursor.is_at_end() {
            self.cursor.bump();
        }
        self.level = Level::default();
        self.outer.clear();
        self.expressions.clear();
        self.expected = None;
        (self.deletes, self.has_schema, self.alters, self.loads) = (false, false, false, false);
    }

    /// Looks through the rest of the statement.
    pub(super) fn rest(&mut self) {
        while !self.cursor.is_at_end() {
            match self.expected {
                Some(place) => self.reference(place),
                None => self.step(),
            }
        }
    }

    /// A table is expected at the token at hand.
    fn reference(&mut self, place: Place) {
        let token = self.cursor.token;
        if token.is_mark(b'(') {
            self.open(Level { is_list: true, ..Level::default() });
        } else if token.is_mark(b'{') {
            // `{ OJ a LEFT JOIN b … }`
            self.cursor.bump();
            self.cursor.bump();
        } else if is_any(token, BETWEEN) {
            self.cursor.bump();
        } else if is_name(token) && !is_any(token, NO_NAMES) {
            self.name(place);
        } else {
            self.expected = None;
        }
    }

    /// Takes note of the name at hand, which may have a schema in front.
    pub(super) fn name(&mut self, place: Place) {
        self.expected = None;
        if !is_name(self.cursor.token) {
            return;
        }
        let first = self.cursor.bump();
        // The lexer takes `.2020` for a number.
        let is_number = self.cursor.token.is_glued
            && self.cursor.token.kind == TokenKind::Number
            && self.cursor.token.text.starts_with(b".");
        if is_number {
            self.cursor.bump();
            return self.touch(first);
        }
        if !self.cursor.accept_mark(b'.') {
            return self.touch_unqualified(first, place);
        }
        let second = self.cursor.bump();
        if second.is_mark(b'*') && place == Place::Target {
            return;
        }
        self.touch(first);
        while self.cursor.accept_mark(b'.') {
            self.cursor.bump();
        }
    }

    fn touch_unqualified(&mut self, name: Token<'a>, place: Place) {
        let is_function = name.is_word("JSON_TABLE") && self.cursor.token.is_mark(b'(');
        let is_expression = self.expressions.iter().any(|e| e.eq_ignore_ascii_case(name.bare()));
        if place == Place::Target || is_function || is_expression || name.is_word("DUAL") {
            return;
        }
        match self.deletes {
            true => self.may_touch_current = true,
            false => self.touch_current(),
        }
    }

    pub(super) fn touch_current(&mut self) {
        if !self.has_schema {
            (self.visit)(Touched::Current);
        }
    }

    pub(super) fn touch(&mut self, schema: Token<'a>) {
        let schema = self.text(schema);
        (self.visit)(Touched::Schema(schema));
    }

    pub(super) fn touch_by_use(&mut self, schema: Token<'a>) {
        let schema = self.text(schema);
        (self.visit)(Touched::Use(schema));
    }

    /// A name without its quotes.
    fn text(&self, name: Token<'a>) -> Cow<'a, [u8]> {
        let bare = name.bare();
        let is_plain = bare.iter().all(|byte| !matches!(byte, b'`' | b'"' | b'\\'));
        if is_plain { Cow::Borrowed(bare) } else { Cow::Owned(unquote(name, self.dialect)) }
    }

    /// Goes past the `(` at hand.
    fn open(&mut self, level: Level) {
        self.outer.push(std::mem::replace(&mut self.level, level));
        self.cursor.bump();
    }

    fn close(&mut self) {
        self.level = self.outer.pop().unwrap_or_default();
        self.expected = None;
        self.cursor.bump();
    }

    /// Goes past the `(` at hand, if it is one.
    pub(super) fn accept_open(&mut self) {
        if self.cursor.token.is_mark(b'(') {
            self.open(Level::default());
        }
    }

    /// Goes past a token where no table is expected.
    fn step(&mut self) {
        let token = self.cursor.token;
        match token.kind {
            TokenKind::Mark(b'(') => self.open(Level::default()),
            TokenKind::Mark(b')') => self.close(),
            TokenKind::Mark(b',') => {
                self.cursor.bump();
                self.expected = self.level.is_list.then_some(Place::Table);
                if self.level.is_naming {
                    self.note_expression();
                }
            }
            TokenKind::Word => self.word(token),
            TokenKind::Name => self.chain(),
            _ => {
                self.cursor.bump();
            }
        }
    }

    /// Goes past `a`, `a.b` or `a.b.c`; before `(` the first of two names is a function's schema.
    fn chain(&mut self) {
        let first = self.cursor.bump();
        let mut names = 1;
        while self.cursor.accept_mark(b'.') {
            self.cursor.bump();
            names += 1;
        }
        if names > 1 && self.cursor.token.is_mark(b'(') {
            self.touch(first);
        }
    }

    /// The name at hand is perhaps one of a common table expression.
    fn note_expression(&mut self) {
        if is_name(self.cursor.token) {
            self.expressions.push(self.cursor.token.bare());
        }
    }

    fn word(&mut self, word: Token<'a>) {
        let is = |name: &str| word.is_word(name);
        let last = self.cursor.last();
        if is("SELECT") {
            self.cursor.bump();
            self.level = Level { is_query: true, ..Level::default() };
        } else if is("WITH") {
            self.cursor.bump();
            self.cursor.accept("RECURSIVE");
            self.level.is_naming = true;
            self.note_expression();
        } else if is("FROM") {
            self.from(last);
        } else if is("JOIN") || is("STRAIGHT_JOIN") {
            self.cursor.bump();
            // `USE INDEX FOR JOIN (…)`, `SELECT STRAIGHT_JOIN …`
            let is_join = if is("JOIN") { !last.is_word("FOR") } else { self.level.is_list };
            self.expected = is_join.then_some(Place::Table);
        } else if is_any(word, VERBS) {
            self.verb(word, last);
        } else if is_any(word, ENDS) {
            self.cursor.bump();
            self.level.is_list &= last.is_word("FOR");
        } else {
            self.minor_word(word, last);
        }
    }

    fn from(&mut self, last: Token<'a>) {
        // `FOR PORTION OF p FROM …`, `FOR SYSTEM_TIME FROM …`
        let is_range = self.cursor.before().is_word("OF") || last.is_word("SYSTEM_TIME");
        // `EXTRACT(YEAR FROM …)`, `TRIM(… FROM …)`
        let is_argument = !self.outer.is_empty() && !self.level.is_query;
        self.cursor.bump();
        if is_range || is_argument {
            return;
        }
        self.level.is_list = true;
        self.expected = Some(Place::Table);
    }

    /// `UPDATE`, `DELETE`, `INSERT` or `REPLACE`, where they are verbs.
    pub(super) fn verb(&mut self, word: Token<'a>, last: Token<'a>) {
        self.cursor.bump();
        let is_clause = ["FOR", "KEY", "ON", "OR"].iter().any(|other| last.is_word(other));
        if is_clause {
            return;
        }
        self.level.is_naming = false;
        if word.is_word("UPDATE") {
            self.level.is_list = true;
            self.expected = Some(Place::Table);
        } else if word.is_word("DELETE") {
            self.level.is_list = true;
            self.targets();
        } else if !self.cursor.token.is_mark(b'(') {
            // Else it is the function of that name.
            self.expected = Some(Place::Table);
        }
    }

    /// What stands between `DELETE` and `FROM`.
    fn targets(&mut self) {
        self.deletes = true;
        while !self.cursor.is_at_end() && !self.cursor.token.is_word("FROM") {
            match is_name(self.cursor.token) && !is_any(self.cursor.token, BETWEEN) {
                true => {
                    self.deletes = false;
                    self.name(Place::Target);
                }
                false => drop(self.cursor.bump()),
            }
        }
    }

    fn minor_word(&mut self, word: Token<'a>, last: Token<'a>) {
        let is = |name: &str| word.is_word(name);
        if is("TABLE") || is("REFERENCES") {
            self.cursor.bump();
            self.level.is_list = false;
            self.expected = Some(Place::Table);
        } else if is("INTO") {
            self.cursor.bump();
            self.level.is_list = false;
            self.expected = self.loads.then_some(Place::Table);
        } else if is("USING") {
            self.cursor.bump();
            if self.deletes && self.outer.is_empty() && !self.cursor.token.is_mark(b'(') {
                (self.deletes, self.may_touch_current) = (false, false);
                self.expected = Some(Place::Table);
            }
        } else if is("FOR") {
            self.for_what(last);
        } else if is("RENAME") && self.alters {
            self.rename();
        } else if is("NEXTVAL") || is("LASTVAL") || is("SETVAL") {
            self.cursor.bump();
            self.expected = self.cursor.token.is_mark(b'(').then_some(Place::Table);
        } else {
            self.chain();
        }
    }

    /// `FOR UPDATE OF a, b` names tables once more; `NEXT VALUE FOR a.b` a sequence.
    fn for_what(&mut self, last: Token<'a>) {
        let before = self.cursor.before();
        let is_sequence =
            last.is_word("VALUE") && (before.is_word("NEXT") || before.is_word("PREVIOUS"));
        self.cursor.bump();
        let locks = self.cursor.token.is_word("UPDATE") || self.cursor.token.is_word("SHARE");
        self.level.is_list &= !locks;
        self.expected = is_sequence.then_some(Place::Table);
    }

    /// `ALTER TABLE … RENAME TO a.b`, but not `RENAME COLUMN a TO b`.
    fn rename(&mut self) {
        const PARTS: &[&str] = &["COLUMN", "CONSTRAINT", "INDEX", "KEY"];
        self.cursor.bump();
        if is_any(self.cursor.token, PARTS) {
            return;
        }
        self.cursor.accept_any(&["TO", "AS"]);
        self.cursor.accept_mark(b'=');
        self.expected = Some(Place::Table);
    }
}

/// Whether a token can be a name. In double quotes it is one or a literal, as `sql_mode` has it; in
/// the place of a name only the first makes sense.
pub(super) fn is_name(token: Token<'_>) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Name)
        || (token.kind == TokenKind::Text && token.text.starts_with(b"\""))
}

pub(super) fn is_any(token: Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| token.is_word(word))
}
