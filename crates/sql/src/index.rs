//! Looks words up in a table, whatever their case, without allocating.
//!
//! An [`Index`] is a hash table that the compiler builds from a sorted table of words: a lookup
//! costs one hash of the word and usually one comparison. [`Index::may_hold`] is cheaper still and
//! turns most words away by their length, first and last letter.

/// The longest word that any table has.
const LONGEST: usize = 40;

/// A hash table over the words of a table.
#[derive(Debug)]
pub(crate) struct Index<const SLOTS: usize> {
    /// The place in the table plus one; 0 is a free slot.
    slots: [u16; SLOTS],
    /// By length: the first and last letters that words of this length have, one bit for each pair.
    ends: [u64; LONGEST],
}

impl<const SLOTS: usize> Index<SLOTS> {
    /// Builds the index of `table`. Does not compile if the table is more than half of the slots,
    /// or has a word that is too long.
    #[expect(clippy::indexing_slicing, reason = "runs in the compiler, which checks the bounds")]
    pub(crate) const fn new<T>(table: &[(&str, T)]) -> Self {
        assert!(SLOTS.is_power_of_two() && table.len() * 2 <= SLOTS);
        let mut index = Self { slots: [0; SLOTS], ends: [0; LONGEST] };
        let mut place = 0;
        let mut id = 0;
        while place < table.len() {
            let word = table[place].0.as_bytes();
            let mut slot = hash(word) % SLOTS;
            while index.slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            id += 1;
            index.slots[slot] = id;
            index.ends[word.len()] |= ends(word[0], word[word.len() - 1]);
            place += 1;
        }
        index
    }

    /// Whether a word of this length, and with such first and last letters, is in the table. A few
    /// other words pass, too.
    #[inline]
    pub(crate) fn may_hold(&self, word: &[u8]) -> bool {
        match (word, self.ends.get(word.len())) {
            ([first, .., last], Some(pairs)) => pairs & ends(*first, *last) != 0,
            ([only], Some(pairs)) => pairs & ends(*only, *only) != 0,
            _ => false,
        }
    }

    /// The row of `table`, the one that the index was built from, whose word is `word`.
    pub(crate) fn row<'t, T>(
        &self,
        table: &'t [(&'static str, T)],
        word: &[u8],
    ) -> Option<&'t (&'static str, T)> {
        if !self.may_hold(word) {
            return None;
        }
        let mut slot = hash(word) % SLOTS;
        loop {
            let id = usize::from(*self.slots.get(slot)?);
            let row = table.get(id.checked_sub(1)?)?;
            if is_same(row.0.as_bytes(), word) {
                return Some(row);
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

/// Whether a word of a table is `word` in some case. What is compared are letters, digits and
/// underscores, in which case is one bit.
#[inline]
fn is_same(known: &[u8], word: &[u8]) -> bool {
    if known.len() != word.len() {
        return false;
    }
    if let (Some(a), Some(b), Some(c), Some(d)) =
        (known.first_chunk(), word.first_chunk(), known.last_chunk(), word.last_chunk())
    {
        let is_end_same = four(a) == four(b) && four(c) == four(d);
        return is_end_same && (word.len() <= 8 || known.eq_ignore_ascii_case(word));
    }
    known.eq_ignore_ascii_case(word)
}

/// Four bytes of a word, whatever their case.
const fn four(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes) | 0x2020_2020
}

/// The bit of a word's first and last letter, whatever their case.
#[inline]
const fn ends(first: u8, last: u8) -> u64 {
    1 << (((first & 31) as u32 * 5 + (last & 31) as u32) % 64)
}

/// Upper and lower case hash alike.
#[inline]
const fn hash(word: &[u8]) -> usize {
    let hash = match (word.first_chunk(), word.last_chunk()) {
        (Some(first), Some(last)) => {
            four(first).wrapping_mul(0x9e37_79b1)
                ^ four(last).wrapping_mul(0x85eb_ca77).rotate_left(15)
        }
        _ => match word {
            [a] => (*a | 0x20) as u32,
            [a, b] => ((*a | 0x20) as u32) << 8 | (*b | 0x20) as u32,
            [a, b, c] => {
                ((*a | 0x20) as u32) << 16 | ((*b | 0x20) as u32) << 8 | (*c | 0x20) as u32
            }
            _ => 0,
        },
    };
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0xc2b2_ae3d);
    (hash >> 13) as usize ^ word.len()
}

#[cfg(test)]
mod tests {
    use super::Index;

    const TABLE: &[(&str, u8)] = &[("ALTER", 1), ("BEGIN", 2), ("BENCH", 3)];
    const INDEX: Index<8> = Index::new(TABLE);

    #[test]
    fn finds_words_whatever_their_case() {
        for (word, value) in [("alter", 1), ("Begin", 2), ("BENCH", 3)] {
            assert_eq!(INDEX.row(TABLE, word.as_bytes()).map(|row| row.1), Some(value));
        }
    }

    #[test]
    fn knows_what_it_has_not() {
        for word in ["", "ALTE", "AXTER", "BEGIM", "ALTERS", "ALT R", "\u{1}LTER", &"A".repeat(100)]
        {
            assert!(INDEX.row(TABLE, word.as_bytes()).is_none(), "{word}");
        }
    }
}
