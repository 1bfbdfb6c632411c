//! A statement without its values: what logs, ledgers and lists of statements may show.
//!
//! Every literal becomes `?`, a list of them `?, …`, rows of such lists `(…), …`; comments go, and
//! blanks become one. Names and words stay as they were written. Two statements that differ only in
//! what they were given have the same digest, and no digest shows what a user entered.

use crate::Dialect;
use crate::lexer::Lexer;
use crate::token::{Token, TokenKind};

/// What stands for the rest of a list, or of a text that is too long.
const MORE: &str = "…";

/// How much of a text is looked at, in bytes: the lists of a large one get no longer in its digest.
const LOOKED_AT: usize = 64 * 1024;

/// The digest of a packet's text, of `most` bytes and the mark of what was left out at most.
///
/// The text may be any bytes; what is not UTF-8 is replaced. Executable comments count as SQL.
///
/// ```
/// use sql::{Dialect, digest};
///
/// let text = b"INSERT INTO t /* why */ VALUES (1, 'one'), (2, 'two')";
/// assert_eq!(digest(text, Dialect::default(), 200), "INSERT INTO t VALUES (?, …), …");
/// ```
#[must_use]
pub fn digest(sql: &[u8], dialect: Dialect, most: usize) -> String {
    let mut lexer = Lexer::new(sql.get(..LOOKED_AT).unwrap_or(sql), dialect, u32::MAX);
    let mut text = Text { out: String::new(), glue: true, open: Vec::new() };
    loop {
        let token = lexer.token();
        if token.kind == TokenKind::End {
            return text.out;
        }
        text.push(&token);
        if text.out.len() > most {
            let end = (0..=most).rev().find(|at| text.out.is_char_boundary(*at)).unwrap_or(0);
            text.out.truncate(end);
            text.out.push_str(MORE);
            return text.out;
        }
    }
}

/// The digest as far as it is written.
struct Text {
    out: String,
    /// Nothing goes between what is written and the next token.
    glue: bool,
    /// Where the open parentheses are.
    open: Vec<usize>,
}

impl Text {
    fn push(&mut self, token: &Token<'_>) {
        let spaced = match token.kind {
            TokenKind::Mark(b',' | b')' | b';' | b'.') => false,
            // A call has no blank before its parenthesis, a list of columns has one.
            TokenKind::Mark(b'(') => !token.is_glued || self.out.ends_with(','),
            _ => !self.glue,
        };
        if spaced && !self.out.is_empty() {
            self.out.push(' ');
        }
        self.glue = matches!(token.kind, TokenKind::Mark(b'(' | b'.') | TokenKind::System);
        match token.kind {
            TokenKind::Text | TokenKind::Number => self.push_value(),
            TokenKind::Word if token.text.first().is_some_and(u8::is_ascii_digit) => {
                self.push_value();
            }
            TokenKind::Variable => {
                self.out.push('@');
                self.out.push_str(&String::from_utf8_lossy(token.text));
            }
            _ => self.push_as_it_is(token),
        }
    }

    fn push_as_it_is(&mut self, token: &Token<'_>) {
        match token.kind {
            TokenKind::Mark(b'(') => self.open.push(self.out.len()),
            TokenKind::Mark(b')') => {
                self.out.push(')');
                self.shorten_rows();
                return;
            }
            _ => {}
        }
        // A name may have anything in it; a digest is one line.
        let text = String::from_utf8_lossy(token.text);
        self.out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }

    /// A value, or nothing but the mark of more where one is listed already.
    fn push_value(&mut self) {
        let listed = self.out.strip_suffix(", ").filter(|list| list.ends_with('?'));
        let longer = self.out.strip_suffix(", ").filter(|list| list.ends_with("?, …"));
        if let Some(len) = longer.map(str::len) {
            self.out.truncate(len);
        } else if listed.is_some() {
            self.out.push_str(MORE);
        } else {
            self.out.push('?');
        }
    }

    /// A row like the one before it goes.
    fn shorten_rows(&mut self) {
        let Some(start) = self.open.pop() else { return };
        let (before, row) = self.out.split_at(start);
        if !matches!(row, "(?)" | "(?, …)") {
            return;
        }
        let first = format!("{row}, ");
        let len = match before.strip_suffix(", ") {
            Some(rows) if rows.ends_with(&format!("{first}{MORE}")) => rows.len(),
            Some(_) if before.ends_with(&first) => {
                self.out.truncate(start);
                self.out.push_str(MORE);
                return;
            }
            _ => return,
        };
        self.out.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_names_stay() {
        let table = [
            ("select 1", "select ?"),
            (
                "SELECT  a.b,`c d` FROM t\n\tWHERE x='it''s' AND y > -1.5e3",
                "SELECT a.b, `c d` FROM t WHERE x = ? AND y > - ?",
            ),
            (
                "SELECT COUNT(*) FROM t WHERE id IN (1,2,3)",
                "SELECT COUNT(*) FROM t WHERE id IN (?, …)",
            ),
            ("SELECT COUNT(*) FROM t WHERE id IN (7)", "SELECT COUNT(*) FROM t WHERE id IN (?)"),
            ("INSERT INTO t(a,b) VALUES (1,2),(3,4),(5,6)", "INSERT INTO t(a, b) VALUES (?, …), …"),
            ("INSERT INTO t VALUES (1),(2)", "INSERT INTO t VALUES (?), …"),
            (
                "INSERT INTO t VALUES (1,NOW()),(2,NOW())",
                "INSERT INTO t VALUES (?, NOW()), (?, NOW())",
            ),
            ("SELECT 0xdeadbeef, x'00', _utf8'a', N'b'", "SELECT ?, x ?, _utf8 ?, N ?"),
            ("SET @a = 'b', @@sql_mode = 'ANSI'", "SET @a = ?, @@sql_mode = ?"),
            ("ALTER USER u@'%' IDENTIFIED BY 'secret'", "ALTER USER u @'%' IDENTIFIED BY ?"),
            ("/* who */ UPDATE t SET a=? -- why\nWHERE b=\"c\"", "UPDATE t SET a = ? WHERE b = ?"),
            (
                "INSERT /*!50000 IGNORE */ INTO t VALUES (1); COMMIT",
                "INSERT IGNORE INTO t VALUES (?); COMMIT",
            ),
            ("SELECT 'unclosed", "SELECT ?"),
            ("SELECT `a\nb\u{1b}[2J`", "SELECT `a b [2J`"),
            ("", ""),
            ("/* nothing */", ""),
            (")))", ")))"),
        ];
        let wrong: Vec<_> = table
            .iter()
            .map(|(sql, expected)| (sql, expected, digest(sql.as_bytes(), Dialect::default(), 500)))
            .filter(|(_, expected, found)| found != *expected)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_is_a_value_is_up_to_the_session() {
        let ansi = Dialect { ansi_quotes: true, ..Dialect::default() };
        assert_eq!(digest(br#"SELECT "a""#, ansi, 99), r#"SELECT "a""#);
        let raw = Dialect { no_backslash_escapes: true, ..Dialect::default() };
        assert_eq!(digest(br"SELECT '\', b", raw, 99), "SELECT ?, b");
    }

    #[test]
    fn a_long_one_ends_where_a_letter_does() {
        let text = "SELECT `größe`, b FROM t";
        for most in 0..text.len() {
            let short = digest(text.as_bytes(), Dialect::default(), most);
            let kept = short.strip_suffix(MORE).unwrap();
            assert!(text.starts_with(kept) && kept.len() <= most, "{most}: {short}");
        }
        assert_eq!(digest(text.as_bytes(), Dialect::default(), text.len()), text);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(bytes: Vec<u8>) {
            let short = digest(&bytes, Dialect::default(), 64);
            proptest::prop_assert!(short.len() <= 64 + MORE.len());
        }
    }
}
