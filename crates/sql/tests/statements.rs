//! Runs the classifier over `statements.tsv`.

use sql::{Dialect, classify};

/// Which settings a dialect's letter stands for.
fn dialect(letters: &str) -> Dialect {
    assert!(letters == "-" || letters.chars().all(|letter| "anu".contains(letter)), "{letters}");
    Dialect {
        ansi_quotes: letters.contains('a'),
        no_backslash_escapes: letters.contains('n'),
        unsafe_charset: letters.contains('u'),
    }
}

/// The bytes of a statement as the table writes them: `⏎` is a newline, `⇥` a tab, `␀` a NUL, and
/// `‹a0›` the byte of that number.
#[expect(clippy::unwrap_used, reason = "a mistake in the table fails the test")]
fn bytes(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = shown.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '⏎' => bytes.push(b'\n'),
            '⇥' => bytes.push(b'\t'),
            '␀' => bytes.push(0),
            '‹' => {
                let digits: String = rest.by_ref().take_while(|letter| *letter != '›').collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

#[test]
fn every_statement_of_the_table() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (row, line) in include_str!("statements.tsv").lines().zip(1..) {
        if row.starts_with('#') || row.is_empty() {
            continue;
        }
        let [kind, effects, because, letters, statement] = row.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("statements.tsv:{line}: expected five columns separated by tabs")
        };
        let got = classify(&bytes(statement), dialect(letters));
        let got = format!("{}\t{}\t{}", got.class.kind.name(), got.effects, got.class.because);
        if got != format!("{kind}\t{effects}\t{because}") {
            wrong.push(format!("statements.tsv:{line}: {got}\t{letters}\t{statement}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 500, "only {count} statements");
}
