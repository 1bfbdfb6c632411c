//! A piece of a statement, and the trail of those before it.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword or an unquoted name.
    Word,
    /// A quoted name, with its quotes.
    Name,
    /// A literal in quotes, with its quotes.
    Text,
    /// A number.
    Number,
    /// A user variable without its `@`: a word or something quoted. Also the host of an account.
    Variable,
    /// The `@@` of a system variable.
    System,
    /// Punctuation: one byte.
    Mark(u8),
    /// `:=`.
    Assign,
    /// The end of the packet.
    End,
}

/// A piece of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a [u8],
    /// Whether nothing, not even a comment, separates it from the token before.
    pub(crate) is_glued: bool,
}

impl Token<'_> {
    /// The end of the packet.
    pub(crate) const END: Self = Self { kind: TokenKind::End, text: &[], is_glued: false };

    /// Whether this is the unquoted word `word`, in either case.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether this is the punctuation mark `mark`.
    #[inline]
    pub(crate) fn is_mark(&self, mark: u8) -> bool {
        self.kind == TokenKind::Mark(mark)
    }

    /// Whether a statement ends before this token.
    #[inline]
    pub(crate) fn ends_statement(&self) -> bool {
        matches!(self.kind, TokenKind::End | TokenKind::Mark(b';'))
    }
}

impl<'a> Token<'a> {
    /// A name without its quotes. A quote inside stays doubled.
    pub(crate) fn bare(&self) -> &'a [u8] {
        match self.text {
            [b'`' | b'"' | b'\'', inner @ .., _] => inner,
            other => other,
        }
    }
}

/// Where the tokens before the one at hand are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trail {
    /// Where the token before began.
    pub(crate) last: usize,
    /// Where the one before that began.
    pub(crate) before: usize,
    /// Whether the token before is a word or a quoted name.
    pub(crate) follows_name: bool,
    /// How many parentheses are open.
    pub(crate) depth: u32,
}

impl Trail {
    /// Nothing was before.
    pub(crate) const START: Self =
        Self { last: usize::MAX, before: usize::MAX, follows_name: false, depth: 0 };

    /// Goes past the token that began at `start`.
    #[inline]
    pub(crate) fn pass(&mut self, start: usize) {
        self.before = self.last;
        self.last = start;
    }

    /// Goes past `token`, which began at `start`.
    pub(crate) fn push(&mut self, start: usize, token: &Token<'_>) {
        self.pass(start);
        self.follows_name = matches!(token.kind, TokenKind::Word | TokenKind::Name);
        match token.kind {
            TokenKind::Mark(b'(') => self.depth += 1,
            TokenKind::Mark(b')') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}
