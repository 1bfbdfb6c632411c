//! Cuts a packet's text into tokens, as the servers' own lexers do.
//!
//! Comments yield nothing. Quoted text yields one token, so that its content cannot be mistaken for
//! SQL. The content of an executable comment (`/*!50000 … */`, `/*M! … */`) is SQL for some servers
//! and a comment for others: the caller says by a bit for each whether it counts, and asks for the
//! other readings in turn (see `packet`).
//!
//! Where two servers would cut a text differently, [`Lexer::is_ambiguous`] is true in the end, and
//! the packet counts as a write whatever else it says:
//!
//! - a comment inside an executable comment: servers that skip it disagree on where it ends;
//! - an optimizer hint with an unpaired quote: some read it as a comment, some as SQL;
//! - a byte above 127 next to a word that matters: it is a blank in some character sets;
//! - `--` before such a byte: it starts a comment if that byte is a blank;
//! - NUL outside quotes and before the end of a line comment.

use crate::Dialect;
use crate::bytes;
use crate::tables;
use crate::token::{Token, TokenKind, Trail};

/// What a byte can start. The first three are the bytes of words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Letter,
    Digit,
    /// A byte above 127, which is a letter wherever it is not half of one.
    High,
    Blank,
    /// Punctuation that is always just that.
    Mark,
    Apostrophe,
    /// What depends on the bytes that follow, or on the dialect.
    Special,
}

static STARTS: [Start; 256] = starts();

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, which checks the bounds")]
const fn starts() -> [Start; 256] {
    let mut starts = [Start::Mark; 256];
    let mut byte: u8 = 255;
    loop {
        starts[byte as usize] = match byte {
            b'\t'..=b'\r' | b' ' => Start::Blank,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => Start::Letter,
            0x80..=0xff => Start::High,
            b'0'..=b'9' => Start::Digit,
            b'\'' => Start::Apostrophe,
            b'.' | b'"' | b'`' | b'@' | b':' | b'/' | b'*' | b'-' | b'#' | b'\\' | 0 => {
                Start::Special
            }
            _ => Start::Mark,
        };
        if byte == 0 {
            return starts;
        }
        byte -= 1;
    }
}

#[inline]
fn start_of(byte: u8) -> Start {
    STARTS.get(usize::from(byte)).copied().unwrap_or(Start::Mark)
}

#[inline]
fn is_word_byte(byte: u8) -> bool {
    start_of(byte) <= Start::High
}

/// Whether a number may go on with this byte, or be no number.
fn continues_number(byte: u8) -> bool {
    byte == b'.' || is_word_byte(byte)
}

fn is_variable_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$')
}

/// How long the word at the start of a text is, and whether it has bytes above 127.
#[inline]
fn word_len(text: &[u8]) -> (usize, bool) {
    let mut seen = 0;
    let mut len = 0;
    for byte in text {
        if !is_word_byte(*byte) {
            break;
        }
        seen |= *byte;
        len += 1;
    }
    (len, !seen.is_ascii())
}

fn count_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// The tokens of a packet, one after another.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    /// Where the last token began.
    start: usize,
    dialect: Dialect,
    /// Which executable comments count, by their order, from the lowest bit.
    counted: u32,
    /// How many executable comments were met.
    comments: u32,
    /// Whether the text at hand is in an executable comment that counts.
    is_inside: bool,
    is_ambiguous: bool,
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of `sql`.
    pub(crate) fn new(sql: &'a [u8], dialect: Dialect, counted: u32) -> Self {
        let is_ambiguous = dialect.unsafe_charset && has_disguised_quote(sql);
        Self { sql, at: 0, start: 0, dialect, counted, comments: 0, is_inside: false, is_ambiguous }
    }

    /// How many executable comments were met so far.
    pub(crate) fn comments(&self) -> u32 {
        self.comments
    }

    /// Whether something was met that servers read in different ways.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }

    fn rest(&self) -> &'a [u8] {
        self.sql.get(self.at..).unwrap_or_default()
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    /// Where the last token began.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The token that begins at `start`, once more, but not whether it is glued.
    pub(crate) fn token_at(&self, start: usize) -> Token<'a> {
        let Some(rest @ [byte, ..]) = self.sql.get(start..) else { return Token::END };
        let (kind, len) = match start_of(*byte) {
            Start::Letter => (TokenKind::Word, word_len(rest).0),
            Start::Mark => (TokenKind::Mark(*byte), 1),
            _ => return Self { at: start, ..self.clone() }.token(),
        };
        Token { kind, text: rest.get(..len).unwrap_or(rest), is_glued: false }
    }

    /// The next token; [`TokenKind::End`] for ever after the last.
    pub(crate) fn token(&mut self) -> Token<'a> {
        let before = self.at;
        loop {
            let rest = self.rest();
            self.start = self.at;
            let Some(byte) = rest.first() else { return Token::END };
            let (kind, len) = match start_of(*byte) {
                Start::Blank => {
                    self.at += 1;
                    continue;
                }
                Start::Letter | Start::High => (TokenKind::Word, self.word_len(rest)),
                Start::Mark => (TokenKind::Mark(*byte), 1),
                Start::Digit => self.number(rest),
                Start::Apostrophe | Start::Special => match self.special(rest) {
                    Some((TokenKind::Variable, len)) => return self.variable(len, before),
                    Some(token) => token,
                    None => continue,
                },
            };
            let is_glued = self.at == before;
            self.at += len;
            return Token { kind, text: rest.get(..len).unwrap_or(rest), is_glued };
        }
    }

    /// Passes tokens that decide nothing, and returns the next that may, or that is not known yet:
    /// `(` after a name, a word of [`tables::MARKERS`], the end of the statement. This is where the
    /// time goes, so it does with each token as little as it can.
    pub(crate) fn skim(&mut self, passed: &mut Trail) -> Token<'a> {
        let escapes = !self.dialect.no_backslash_escapes;
        let mut trail = *passed;
        let mut at = self.at;
        let mut end = at;
        while let Some(rest) = self.sql.get(at..)
            && let Some(byte) = rest.first()
        {
            let mut follows_name = false;
            let len = match start_of(*byte) {
                Start::Blank => {
                    at += 1;
                    continue;
                }
                Start::Letter | Start::High => {
                    let (len, has_high) = word_len(rest);
                    if has_high || tables::may_tell(rest.get(..len).unwrap_or_default()) {
                        break;
                    }
                    follows_name = true;
                    len
                }
                Start::Digit => match count_digits(rest) {
                    digits if rest.get(digits).is_some_and(|byte| continues_number(*byte)) => break,
                    digits => digits,
                },
                Start::Mark => {
                    match byte {
                        b'(' if trail.follows_name => break,
                        b'(' => trail.depth += 1,
                        b')' => trail.depth = trail.depth.saturating_sub(1),
                        b';' => break,
                        _ => {}
                    }
                    1
                }
                Start::Apostrophe => bytes::quoted_len(rest, escapes).unwrap_or(rest.len()),
                Start::Special => break,
            };
            trail.pass(at);
            trail.follows_name = follows_name;
            end = at + len;
            // Most tokens have one blank behind them.
            at = end + usize::from(self.sql.get(end) == Some(&b' '));
        }
        *passed = trail;
        self.at = at;
        let token = self.token();
        Token { is_glued: token.is_glued && at == end, ..token }
    }

    /// What stands at the start of `rest`, and how long it is; `None` if it was a comment, which is
    /// skipped then.
    fn special(&mut self, rest: &'a [u8]) -> Option<(TokenKind, usize)> {
        Some(match rest {
            [b'.', b'0'..=b'9', ..] => (TokenKind::Number, fraction_len(rest, 0)),
            [b'\'', ..] => (TokenKind::Text, self.quoted_len(rest)),
            [b'"', ..] if !self.dialect.ansi_quotes => (TokenKind::Text, self.quoted_len(rest)),
            [b'"' | b'`', ..] => (TokenKind::Name, self.quoted_len(rest)),
            [b'@', b'@', ..] => (TokenKind::System, 2),
            [b'@', name @ ..] => (TokenKind::Variable, self.variable_len(name)),
            [b':', b'=', ..] => (TokenKind::Assign, 2),
            // `\N` is NULL, even if a keyword follows without a blank.
            [b'\\', b'N', ..] => (TokenKind::Number, 2),
            [byte @ (b'/' | b'*' | b'-' | b'#'), ..] if self.skip_comment(*byte) => return None,
            [0, ..] => {
                self.is_ambiguous = true;
                (TokenKind::Mark(0), 1)
            }
            [byte, ..] => (TokenKind::Mark(*byte), 1),
            [] => return None,
        })
    }

    /// The length of the word at the start of `rest`.
    #[inline]
    fn word_len(&mut self, rest: &[u8]) -> usize {
        let (len, has_high) = word_len(rest);
        if has_high {
            self.is_ambiguous |= hides_a_word(rest.get(..len).unwrap_or_default());
        }
        len
    }

    /// A number, or a name that begins with a digit. What follows a real number is a word of its
    /// own even without a blank: `1.FOR UPDATE`, `1e5FOR UPDATE`.
    #[inline]
    fn number(&mut self, rest: &[u8]) -> (TokenKind, usize) {
        let digits = count_digits(rest);
        let behind = rest.get(digits..).unwrap_or_default();
        match behind {
            [b'.', ..] => (TokenKind::Number, fraction_len(rest, digits)),
            [byte, ..] if is_word_byte(*byte) => match exponent_len(behind) {
                0 => (TokenKind::Word, self.word_len(rest)),
                exponent => (TokenKind::Number, digits + exponent),
            },
            _ => (TokenKind::Number, digits),
        }
    }

    fn quoted_len(&self, rest: &[u8]) -> usize {
        let is_name = match rest {
            [b'`', ..] => true,
            [b'"', ..] => self.dialect.ansi_quotes,
            _ => false,
        };
        bytes::quoted_len(rest, !is_name && !self.dialect.no_backslash_escapes)
            .unwrap_or(rest.len())
    }

    /// The length of a user variable's `name`, which may be quoted, have dots, or be empty.
    fn variable_len(&self, name: &[u8]) -> usize {
        match name {
            [b'\'' | b'"' | b'`', ..] => self.quoted_len(name),
            _ => name.iter().take_while(|byte| is_variable_byte(**byte)).count(),
        }
    }

    /// The variable behind the `@` that stands here.
    fn variable(&mut self, len: usize, before: usize) -> Token<'a> {
        let is_glued = self.at == before;
        self.at += 1;
        let text = self.rest().get(..len).unwrap_or_default();
        self.at += len;
        Token { kind: TokenKind::Variable, text, is_glued }
    }

    /// Skips what `byte` opens or closes; false if it is just punctuation.
    fn skip_comment(&mut self, byte: u8) -> bool {
        match (byte, self.peek(1)) {
            (b'#', _) => self.skip_line(),
            (b'-', Some(b'-')) => match self.peek(2) {
                Some(0..=b' ' | 0x7f) | None => self.skip_line(),
                Some(0x80..) => {
                    self.is_ambiguous = true;
                    return false;
                }
                _ => return false,
            },
            (b'/', Some(b'*')) => self.skip_block(),
            (b'*', Some(b'/')) if self.is_inside => {
                self.is_inside = false;
                self.at += 2;
            }
            _ => return false,
        }
        true
    }

    fn skip_line(&mut self) {
        let rest = self.rest();
        let len = bytes::find(rest, b'\n').map_or(rest.len(), |at| at + 1);
        self.is_ambiguous |= bytes::find(rest.get(..len).unwrap_or_default(), 0).is_some();
        self.at += len;
    }

    fn skip_block(&mut self) {
        self.is_ambiguous |= self.is_inside;
        match self.rest() {
            [_, _, b'!', ..] => self.skip_executable(3),
            [_, _, b'M', b'!', ..] => self.skip_executable(4),
            [_, _, b'+', ..] => {
                let hint = self.skip_past_end(3);
                self.is_ambiguous |= has_unpaired_quote(hint);
            }
            _ => {
                self.skip_past_end(2);
            }
        }
    }

    /// Enters or skips an executable comment; `opening` is the length of what opens it.
    fn skip_executable(&mut self, opening: usize) {
        let counts = self.counted.checked_shr(self.comments).is_some_and(|bits| bits & 1 == 1);
        self.comments += 1;
        if !counts {
            let content = self.skip_past_end(opening);
            self.is_ambiguous |= bytes::find_pair(content, b'/', b'*').is_some();
            return;
        }
        // A version has five or six digits; fewer are part of the content.
        let digits = count_digits(self.rest().get(opening..).unwrap_or_default());
        self.at += opening + if digits < 5 { 0 } else { digits.min(6) };
        self.is_inside = true;
    }

    /// Skips to just after `*/`. Returns what was between it and the first `opening` bytes.
    fn skip_past_end(&mut self, opening: usize) -> &'a [u8] {
        let content = self.rest().get(opening..).unwrap_or_default();
        let len = bytes::find_pair(content, b'*', b'/');
        self.at = len.map_or(self.sql.len(), |len| self.at + opening + len + 2);
        content.get(..len.unwrap_or(content.len())).unwrap_or_default()
    }
}

/// The length of a number whose point is at `point`.
fn fraction_len(rest: &[u8], point: usize) -> usize {
    let len = point + 1 + count_digits(rest.get(point + 1..).unwrap_or_default());
    len + exponent_len(rest.get(len..).unwrap_or_default())
}

/// The length of `e5`, `E-5` at the start of `text`; 0 if there is no exponent.
fn exponent_len(text: &[u8]) -> usize {
    let sign = match text {
        [b'e' | b'E', b'+' | b'-', ..] => 2,
        [b'e' | b'E', ..] => 1,
        _ => return 0,
    };
    match count_digits(text.get(sign..).unwrap_or_default()) {
        0 => 0,
        digits => sign + digits,
    }
}

/// Whether a word with bytes above 127 would mean something if they were blanks.
fn hides_a_word(word: &[u8]) -> bool {
    word.split(|byte| !byte.is_ascii()).any(tables::matters)
}

/// Whether a byte that looks like a backslash or a backtick may be half of a character.
fn has_disguised_quote(sql: &[u8]) -> bool {
    sql.windows(2).any(|pair| matches!(pair, [0x80..=0xff, b'\\' | b'`']))
}

fn has_unpaired_quote(hint: &[u8]) -> bool {
    b"'\"`".iter().any(|quote| hint.iter().filter(|byte| *byte == quote).count() % 2 == 1)
}
