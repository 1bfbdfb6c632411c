//! The lexer and all that reads statements: whatever the bytes, nothing panics, a write in front is
//! not hidden by what follows it, and a comment in front changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sql::{Dialect, Kind};

fuzz_target!(|input: (u8, &[u8])| {
    let (bits, text) = input;
    let dialect = Dialect {
        ansi_quotes: bits & 1 != 0,
        no_backslash_escapes: bits & 2 != 0,
        unsafe_charset: bits & 4 != 0,
    };
    let plain = sql::classify(text, dialect);
    let commented = sql::classify(&[b"/* a comment */ ", text].concat(), dialect);
    assert_eq!(plain.class.kind, commented.class.kind);
    let after_write = sql::classify(&[b"DELETE FROM t; ", text].concat(), dialect);
    assert_eq!(after_write.class.kind, Kind::Write);
    sql::assignments(text, dialect);
    sql::use_target(text, dialect);
    sql::kill_target(text, dialect);
    sql::mentions_user_variable(text, dialect);
    sql::touched(text, dialect, |_| ());
    assert!(sql::digest(text, dialect, 100).len() < 104);
});
