//! Finds bytes in texts, many at a time.
//!
//! The blocks are arrays, so that the compiler turns the comparison of one into a few vector
//! instructions: a literal of many megabytes is skipped at memory speed without `unsafe`. Short
//! texts go in words of eight bytes.

/// How many bytes are compared at once in a long text.
const BLOCK: usize = 64;
/// How many words of eight bytes are tried before that: most literals are short.
const WORDS: usize = 6;

/// The place of the first `a` or `b`.
#[inline]
pub(crate) fn find_either(text: &[u8], a: u8, b: u8) -> Option<usize> {
    let (words, tail) = text.as_chunks::<8>();
    let mut start = 0;
    for word in words.iter().take(WORDS) {
        if let Some(at) = find_in_word(*word, a, b) {
            return Some(start + at);
        }
        start += 8;
    }
    if words.len() <= WORDS {
        return tail.iter().position(|byte| *byte == a || *byte == b).map(|at| start + at);
    }
    find_far(text, start, a, b)
}

/// The place of the first `a` or `b` from `start` on.
fn find_far(text: &[u8], start: usize, a: u8, b: u8) -> Option<usize> {
    let (blocks, _) = text.get(start..)?.as_chunks::<BLOCK>();
    let clean = blocks
        .iter()
        .take_while(|block| {
            !block.iter().fold(false, |hit, byte| hit | (*byte == a) | (*byte == b))
        })
        .count();
    let start = start + clean * BLOCK;
    let (words, tail) = text.get(start..)?.as_chunks::<8>();
    let in_words = words
        .iter()
        .enumerate()
        .find_map(|(place, word)| find_in_word(*word, a, b).map(|at| start + place * 8 + at));
    in_words.or_else(|| {
        let start = start + words.len() * 8;
        tail.iter().position(|byte| *byte == a || *byte == b).map(|at| start + at)
    })
}

/// The place of the first `a` or `b` among eight bytes.
#[inline]
fn find_in_word(word: [u8; 8], a: u8, b: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The lowest high bit that is set marks the first byte that is zero.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let word = u64::from_le_bytes(word);
    let hits = zeros(word ^ (ONES * u64::from(a))) | zeros(word ^ (ONES * u64::from(b)));
    (hits != 0).then(|| hits.trailing_zeros() as usize / 8)
}

/// The place of the first `byte`.
pub(crate) fn find(text: &[u8], byte: u8) -> Option<usize> {
    find_either(text, byte, byte)
}

/// The place of the first `a` that is followed by `b` at once.
pub(crate) fn find_pair(text: &[u8], a: u8, b: u8) -> Option<usize> {
    let mut start = 0;
    loop {
        let at = start + find(text.get(start..)?, a)?;
        if text.get(at + 1) == Some(&b) {
            return Some(at);
        }
        start = at + 1;
    }
}

/// How long the quoted text is that starts with its quote, closing quote included; `None` if it
/// never closes. A doubled quote is a quote in the text; so is a quote after a backslash where
/// `escapes` says so.
#[inline]
pub(crate) fn quoted_len(text: &[u8], escapes: bool) -> Option<usize> {
    let quote = *text.first()?;
    let escape = if escapes { b'\\' } else { quote };
    let mut at = 1;
    loop {
        at += find_either(text.get(at..)?, quote, escape)?;
        if text.get(at) == Some(&quote) && text.get(at + 1) != Some(&quote) {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::{find, find_pair, quoted_len};

    #[test]
    fn finds_in_every_place_of_a_block() {
        for len in 0..200 {
            let mut text = vec![b'a'; len];
            assert_eq!(find(&text, b'x'), None);
            for at in 0..len {
                text[at] = b'x';
                assert_eq!(find(&text, b'x'), Some(at), "{at} of {len}");
                text[at] = b'a';
            }
        }
    }

    #[test]
    fn finds_pairs() {
        assert_eq!(find_pair(b"a**/", b'*', b'/'), Some(2));
        assert_eq!(find_pair(b"a*", b'*', b'/'), None);
        assert_eq!(find_pair(b"", b'*', b'/'), None);
    }

    #[test]
    fn measures_quoted_texts() {
        for (text, escaped, plain) in [
            (r"''", Some(2), Some(2)),
            (r"'a' b", Some(3), Some(3)),
            (r"'a''b'", Some(6), Some(6)),
            (r"'a\'b'", Some(6), Some(4)),
            (r"'a\\'", Some(5), Some(5)),
            (r"'a\", None, None),
            (r"'a", None, None),
            (r"'", None, None),
            (r"'''", None, None),
        ] {
            assert_eq!(quoted_len(text.as_bytes(), true), escaped, "{text}");
            assert_eq!(quoted_len(text.as_bytes(), false), plain, "{text}");
        }
    }
}
