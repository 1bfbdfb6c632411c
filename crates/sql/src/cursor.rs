//! A place in a packet, with the token that stands there.

use crate::Dialect;
use crate::lexer::Lexer;
use crate::scan::Scan;
use crate::token::{Token, TokenKind, Trail};

/// Reads a packet token by token.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    lexer: Lexer<'a>,
    /// The token at hand.
    pub(crate) token: Token<'a>,
    /// What came before it.
    trail: Trail,
}

impl<'a> Cursor<'a> {
    /// Stands on the first token of `sql`. `counted` has a bit for each executable comment.
    pub(crate) fn new(sql: &'a [u8], dialect: Dialect, counted: u32) -> Self {
        let mut lexer = Lexer::new(sql, dialect, counted);
        let token = lexer.token();
        Self { lexer, token, trail: Trail::START }
    }

    /// How many executable comments were met so far.
    pub(crate) fn comments(&self) -> u32 {
        self.lexer.comments()
    }

    /// Whether something was met that servers read in different ways.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.lexer.is_ambiguous()
    }

    /// The token before the one at hand.
    pub(crate) fn last(&self) -> Token<'a> {
        self.lexer.token_at(self.trail.last)
    }

    /// The token before that.
    pub(crate) fn before(&self) -> Token<'a> {
        self.lexer.token_at(self.trail.before)
    }

    /// Whether the token before the one at hand is a word or a quoted name.
    pub(crate) fn follows_name(&self) -> bool {
        self.trail.follows_name
    }

    /// How many parentheses are open.
    pub(crate) fn depth(&self) -> u32 {
        self.trail.depth
    }

    /// Goes on to the next token and returns the one left behind.
    pub(crate) fn bump(&mut self) -> Token<'a> {
        self.trail.push(self.lexer.start(), &self.token);
        std::mem::replace(&mut self.token, self.lexer.token())
    }

    /// Hands the token at hand to `scan` and goes on to the next.
    pub(crate) fn feed(&mut self, scan: &mut Scan) -> Token<'a> {
        scan.feed(self);
        self.bump()
    }

    /// Hands the rest of the statement to `scan`, as far as it can matter.
    pub(crate) fn feed_rest(&mut self, scan: &mut Scan) {
        while !self.is_at_end() {
            scan.feed(self);
            if scan.is_waiting() {
                self.bump();
            } else {
                self.trail.push(self.lexer.start(), &self.token);
                self.token = self.lexer.skim(&mut self.trail);
            }
        }
    }

    /// Goes past the word `word` if it stands here.
    pub(crate) fn accept(&mut self, word: &str) -> bool {
        let is_here = self.token.is_word(word);
        if is_here {
            self.bump();
        }
        is_here
    }

    /// Goes past the mark `mark` if it stands here.
    pub(crate) fn accept_mark(&mut self, mark: u8) -> bool {
        let is_here = self.token.is_mark(mark);
        if is_here {
            self.bump();
        }
        is_here
    }

    /// Goes past one of `words` if it stands here.
    pub(crate) fn accept_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.accept(word))
    }

    /// Whether the statement ends here.
    pub(crate) fn is_at_end(&self) -> bool {
        self.token.ends_statement()
    }

    /// Whether the packet ends here.
    pub(crate) fn is_at_last_end(&self) -> bool {
        self.token.kind == TokenKind::End
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Cursor;
    use crate::Dialect;
    use crate::scan::{Found, Scan};

    /// What a look through each statement finds, and whether the text is ambiguous.
    fn found(sql: &[u8], feed_rest: impl Fn(&mut Cursor<'_>, &mut Scan)) -> (Vec<Found>, bool) {
        let mut cursor = Cursor::new(sql, Dialect::default(), u32::MAX);
        let mut all = Vec::new();
        while !cursor.is_at_last_end() {
            let mut scan = Scan::of_names(&cursor);
            feed_rest(&mut cursor, &mut scan);
            all.push(scan.finish());
            cursor.accept_mark(b';');
        }
        (all, cursor.is_ambiguous())
    }

    fn skimming(cursor: &mut Cursor<'_>, scan: &mut Scan) {
        cursor.feed_rest(scan);
    }

    fn one_by_one(cursor: &mut Cursor<'_>, scan: &mut Scan) {
        while !cursor.is_at_end() {
            cursor.feed(scan);
        }
    }

    #[test]
    fn skimming_misses_nothing_in_the_table() {
        for row in include_str!("../tests/statements.tsv").lines() {
            let sql = row.rsplit('\t').next().unwrap_or_default().as_bytes();
            assert_eq!(found(sql, skimming), found(sql, one_by_one), "{row}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn skimming_misses_nothing(pieces in prop::collection::vec(prop::sample::select(vec![
            "select", "for", "update", "share", "in", "into", "insert", "get_lock", "now", "f", "as",
            "(", "(", ")", ".", ",", ";", " ", " ", "1", "1.", "1e5", "0x", "'a'", "`now`", "\"b\"",
            "@", "@@", "@v", ":=", "/*x*/", "/*!", "*/", "-- \n", "é", "next", "value", "session",
            "identity", "with", "*", "-", "=", "\\N",
        ]), 0..20)) {
            let sql = pieces.concat().into_bytes();
            prop_assert_eq!(found(&sql, skimming), found(&sql, one_by_one));
        }
    }
}
