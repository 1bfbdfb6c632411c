//! Looks through a statement for what makes it more than its verb says.
//!
//! A [`Scan`] is fed the tokens that follow the verb. It knows no grammar, only neighbours: `FOR`
//! before `UPDATE`, a name before `(`, `INTO` before a variable. A word right after a point is a
//! name, whatever it says.

use crate::cursor::Cursor;
use crate::functions::{self, Call};
use crate::tables::{self, Marker, OWN_VARIABLES};
use crate::token::{Token, TokenKind};
use crate::{Class, Effects, Kind};

/// What was found, with the words that gave it away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// It writes.
    pub(crate) write: Option<&'static str>,
    /// It takes locks.
    pub(crate) lock: Option<&'static str>,
    /// It depends on what its session did on its server before.
    pub(crate) own: Option<&'static str>,
    /// What it does to the session.
    pub(crate) effects: Effects,
    /// It has a value that is another one elsewhere or later.
    pub(crate) varies: bool,
    /// It has a `SELECT`, which may read tables.
    pub(crate) query: bool,
    /// It names a user variable.
    pub(crate) variable: bool,
}

impl Found {
    /// The most severe of what was found.
    pub(crate) fn class(&self) -> Option<Class> {
        let class = |kind| move |because| Class { kind, because };
        self.write
            .map(class(Kind::Write))
            .or_else(|| self.lock.map(class(Kind::LockingRead)))
            .or_else(|| self.own.map(class(Kind::OwnRead)))
    }
}

/// What the next token decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// `INTO`: a variable, or a file.
    Into,
    /// A verb that is also a function: `INSERT(…)`, `REPLACE(…)`.
    Verb(&'static str),
    /// `name(`: a call, unless a query follows.
    Call,
    /// `@@`: the scope or the name of a system variable.
    System,
    /// `@@scope`: a point.
    SystemPoint,
    /// `@@scope.`: the name.
    SystemName,
}

/// A look through a statement, token by token.
#[derive(Debug)]
pub(crate) struct Scan {
    found: Found,
    pending: Pending,
    /// How many parentheses were open at the start.
    depth: u32,
    /// Among the names of common table expressions, which look like calls: `WITH a (n) AS …`.
    is_naming: bool,
}

impl Scan {
    /// Starts at the token at hand.
    pub(crate) fn new(cursor: &Cursor<'_>) -> Self {
        Self {
            found: Found::default(),
            pending: Pending::Nothing,
            depth: cursor.depth(),
            is_naming: false,
        }
    }

    /// Starts at the token behind `WITH`.
    pub(crate) fn of_names(cursor: &Cursor<'_>) -> Self {
        Self { is_naming: true, ..Self::new(cursor) }
    }

    /// Whether the token at hand is in no parentheses but those around the scan.
    pub(crate) fn is_outside(&self, cursor: &Cursor<'_>) -> bool {
        cursor.depth() <= self.depth
    }

    /// Whether the next token matters, whatever it is.
    pub(crate) fn is_waiting(&self) -> bool {
        self.pending != Pending::Nothing
    }

    /// Takes the token at hand.
    pub(crate) fn feed(&mut self, cursor: &Cursor<'_>) {
        let token = cursor.token;
        if self.is_waiting() && self.settle(token) {
            return;
        }
        match token.kind {
            TokenKind::Word if tables::may_tell(token.text) => self.word(cursor),
            TokenKind::Mark(b'(') if cursor.follows_name() => self.call(cursor),
            TokenKind::Assign => {
                note(&mut self.found.own, ":=");
                self.found.effects |= Effects::USER_VARIABLE;
                self.found.varies = true;
            }
            TokenKind::Variable => self.found.variable = true,
            TokenKind::System => self.pending = Pending::System,
            _ => {}
        }
    }

    /// Ends the scan.
    pub(crate) fn finish(mut self) -> Found {
        self.settle(Token::END);
        self.found
    }

    /// Decides what was pending. Whether the token is used up by that.
    fn settle(&mut self, token: Token<'_>) -> bool {
        let is_name = matches!(token.kind, TokenKind::Word | TokenKind::Name);
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Into if token.kind == TokenKind::Variable => {
                note(&mut self.found.own, "INTO @variable");
                self.found.effects |= Effects::USER_VARIABLE;
            }
            Pending::Into => note(&mut self.found.write, "INTO"),
            Pending::Verb(verb) if !token.is_mark(b'(') => note(&mut self.found.write, verb),
            Pending::Call
                if !["SELECT", "WITH", "VALUES"].iter().any(|verb| token.is_word(verb)) =>
            {
                self.found.effects |= Effects::UNKNOWN_FUNCTION;
                self.found.varies = true;
            }
            Pending::System if is_name && is_scope(token) => {
                self.pending = Pending::SystemPoint;
                return true;
            }
            Pending::SystemPoint if token.is_mark(b'.') => {
                self.pending = Pending::SystemName;
                return true;
            }
            Pending::System | Pending::SystemName if is_name => {
                self.system_variable(token.bare());
                return true;
            }
            _ => {}
        }
        false
    }

    fn word(&mut self, cursor: &Cursor<'_>) {
        let Some((word, marker)) = tables::marker(cursor.token.text) else { return };
        let last = cursor.last();
        let is_name = cursor.token.is_glued && last.is_mark(b'.');
        match marker {
            Marker::Sequence(_) if !is_name => {}
            Marker::Sequence(Kind::LockingRead) => note(&mut self.found.lock, word),
            Marker::Sequence(_) => note(&mut self.found.own, word),
            _ if is_name => {}
            Marker::Query => {
                self.is_naming &= !self.is_outside(cursor);
                self.found.query |= *word == "SELECT";
                self.found.varies |= *word == "TABLE";
            }
            Marker::Write if *word == "UPDATE" && last.is_word("FOR") => {
                note(&mut self.found.lock, "FOR UPDATE");
            }
            Marker::Write => note(&mut self.found.write, word),
            Marker::VerbOrFunction => self.pending = Pending::Verb(word),
            Marker::Into => self.pending = Pending::Into,
            Marker::Share if last.is_word("FOR") => note(&mut self.found.lock, "FOR SHARE"),
            Marker::Share if last.is_word("IN") => {
                note(&mut self.found.lock, "LOCK IN SHARE MODE");
            }
            Marker::Value if last.is_word("NEXT") => note(&mut self.found.lock, "NEXT VALUE FOR"),
            Marker::Value if last.is_word("PREVIOUS") => {
                note(&mut self.found.own, "PREVIOUS VALUE FOR");
            }
            Marker::Share | Marker::Value => {}
            Marker::FoundRows => self.found.effects |= Effects::CALC_FOUND_ROWS,
            Marker::Clock => self.found.varies = true,
        }
    }

    /// The token at hand is `(`, and a name stands before it.
    fn call(&mut self, cursor: &Cursor<'_>) {
        let [before, last] = [cursor.before(), cursor.last()];
        if before.is_mark(b'.') {
            self.pending = Pending::Call;
            return;
        }
        let is_glued = cursor.token.is_glued;
        let is_quoted = last.kind == TokenKind::Name;
        // Control characters look like digits to the index.
        let is_plain = !is_quoted || !last.bare().iter().any(u8::is_ascii_control);
        let Some((name, call)) = functions::find(last.bare()).filter(|_| is_plain) else {
            let is_named = self.is_naming && self.is_outside(cursor);
            if !is_named && !is_before_names(before) {
                self.pending = Pending::Call;
            }
            return;
        };
        match call {
            Call::Pure => {}
            Call::Keyword if !is_quoted => {}
            Call::Varies => {
                self.found.varies = true;
                if *name == "CONNECTION_ID" {
                    self.found.effects |= Effects::CONNECTION_ID;
                }
            }
            Call::Glued if is_glued && !is_quoted => {}
            Call::GluedVaries if is_glued && !is_quoted => self.found.varies = true,
            Call::Keyword | Call::Glued | Call::GluedVaries => self.pending = Pending::Call,
            Call::Own => {
                note(&mut self.found.own, name);
                self.found.varies = true;
            }
            Call::Lock(effects) => {
                note(&mut self.found.lock, name);
                self.found.effects |= *effects;
                self.found.varies = true;
            }
        }
    }

    fn system_variable(&mut self, name: &[u8]) {
        let own = OWN_VARIABLES.iter().find(|own| own.as_bytes().eq_ignore_ascii_case(name));
        if let Some(own) = own {
            note(&mut self.found.own, own);
            self.found.varies = true;
        }
        self.found.varies |= name.eq_ignore_ascii_case(b"timestamp");
        if name.eq_ignore_ascii_case(b"pseudo_thread_id") {
            self.found.effects |= Effects::CONNECTION_ID;
        }
    }
}

/// Keeps the first of what gives a statement away.
fn note(slot: &mut Option<&'static str>, because: &'static str) {
    slot.get_or_insert(because);
}

/// Whether no call can stand behind `token`, but names can: `AS t (a, b)`, `(SELECT …) t (a, b)`,
/// `'$' COLUMNS (…)`.
fn is_before_names(token: Token<'_>) -> bool {
    matches!(token.kind, TokenKind::Text | TokenKind::Number | TokenKind::Mark(b')'))
        || token.is_word("AS")
}

fn is_scope(token: Token<'_>) -> bool {
    ["GLOBAL", "SESSION", "LOCAL", "PERSIST", "PERSIST_ONLY"]
        .iter()
        .any(|scope| token.text.eq_ignore_ascii_case(scope.as_bytes()))
}
