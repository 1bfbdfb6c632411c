//! What holds for all statements: none panics, and what does not matter changes nothing.

use std::hint::black_box;

use proptest::prelude::*;
use sql::{
    Dialect, Effects, Kind, Statement, Touched, assignments, classify, kill_target, touched,
    use_target,
};

/// The rows of the table that are read in the plain dialect and have neither comments nor quotes,
/// so that their blanks can be changed at will.
fn plain_rows() -> Vec<&'static str> {
    include_str!("statements.tsv")
        .lines()
        .filter(|row| !row.starts_with('#'))
        .filter_map(|row| row.split('\t').collect::<Vec<_>>().try_into().ok())
        .filter(|[_, _, _, dialect, _]: &[&str; 5]| *dialect == "-")
        .map(|[_, _, _, _, statement]| statement)
        .filter(|statement| statement.chars().all(|letter| !"⏎⇥␀‹#/-'\"`\\".contains(letter)))
        .collect()
}

/// All rows of the table in the plain dialect, without bytes that need an escape.
fn ascii_rows() -> Vec<&'static str> {
    include_str!("statements.tsv")
        .lines()
        .filter(|row| !row.starts_with('#') && row.is_ascii())
        .filter_map(|row| row.split('\t').collect::<Vec<_>>().try_into().ok())
        .filter(|[_, _, _, dialect, _]: &[&str; 5]| *dialect == "-")
        .map(|[_, _, _, _, statement]| statement)
        .collect()
}

fn plain(sql: &str) -> Statement {
    classify(sql.as_bytes(), Dialect::default())
}

fn any_dialect() -> impl Strategy<Value = Dialect> {
    any::<[bool; 3]>().prop_map(|[ansi_quotes, no_backslash_escapes, unsafe_charset]| Dialect {
        ansi_quotes,
        no_backslash_escapes,
        unsafe_charset,
    })
}

/// The packets of the table of schemas that can be read without executable comments.
fn schema_rows() -> Vec<&'static str> {
    include_str!("schemas.tsv")
        .lines()
        .filter(|row| !row.starts_with('#'))
        .filter_map(|row| row.split_once('\t').map(|(_, sql)| sql))
        .filter(|sql| !sql.chars().any(|letter| "/#'\"".contains(letter)))
        .collect()
}

/// What a packet touches, with names in lower case.
fn schemas(sql: &str) -> Vec<String> {
    let mut all = Vec::new();
    touched(sql.as_bytes(), Dialect::default(), |one| {
        all.push(match one {
            Touched::Current => ".".to_owned(),
            Touched::Schema(name) => String::from_utf8_lossy(&name).to_lowercase(),
            Touched::Use(name) => format!(">{}", String::from_utf8_lossy(&name).to_lowercase()),
        });
    });
    all
}

/// Pieces that make text which nearly is SQL.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "SELECT",
        "SET",
        "FOR",
        "UPDATE",
        "INTO",
        "EXPLAIN",
        "ANALYZE",
        "STATEMENT",
        "WITH",
        "GLOBAL",
        "@",
        "@@",
        "session",
        ".",
        ",",
        ";",
        "(",
        ")",
        "=",
        ":=",
        "'",
        "\"",
        "`",
        "\\",
        "/*",
        "/*!",
        "/*!50000",
        "/*M!",
        "/*+",
        "*/",
        "--",
        "-- ",
        "#",
        "\n",
        " ",
        "1",
        "1e",
        "0x",
        "\\N",
        "\0",
        "a",
        "é",
        "f",
        "NAMES",
        "BEGIN",
        "KILL",
        "USE",
        "TRANSACTION",
        "AND",
        "COUNT",
        "HANDLER",
        "FROM",
        "JOIN",
        "TABLE",
        "DELETE",
        "USING",
        "CREATE",
        "SHOW",
        "a.b",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat().into_bytes())
}

/// A statement cut into words: a blank goes where one was.
fn with_blanks(sql: &str, blank: &str) -> String {
    sql.replace(' ', blank)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), pieces()], dialect in any_dialect()) {
        let statement = classify(&bytes, dialect);
        prop_assert!(!statement.class.because.is_empty());
        black_box((assignments(&bytes, dialect), use_target(&bytes, dialect), kill_target(&bytes, dialect)));
        touched(&bytes, dialect, |one| drop(black_box(one)));
    }

    #[test]
    fn schemas_do_not_depend_on_case_and_blanks(
        sql in prop::sample::select(schema_rows()),
        blank in prop::sample::select(vec!["  ", "\n", "/* FROM x.y */", " /**/ ", " -- x.y\n"]),
    ) {
        prop_assert_eq!(schemas(&sql.to_uppercase()), schemas(sql), "{}", sql);
        prop_assert_eq!(schemas(&with_blanks(sql, blank)), schemas(sql), "{}", sql);
        prop_assert_eq!(schemas(&sql.replace('.', " . ")), schemas(sql), "{}", sql);
    }

    #[test]
    fn schemas_of_several_statements_add_up(
        one in prop::sample::select(schema_rows()),
        two in prop::sample::select(schema_rows()),
    ) {
        // A routine runs to the end of the packet.
        prop_assume!(!["CREATE", "ALTER"].iter().any(|verb| one.starts_with(verb)));
        let sum = [schemas(one), schemas(two)].concat();
        prop_assert_eq!(schemas(&format!("{one};{two}")), sum, "{};{}", one, two);
    }

    #[test]
    fn literals_touch_no_schema(text in "[a-zA-Z@:=;()*/#. -]{0,40}") {
        let in_quotes = format!("SELECT '{text}', \"{text}\"");
        prop_assert_eq!(schemas(&in_quotes), Vec::<String>::new(), "{}", in_quotes);
    }

    #[test]
    fn case_does_not_matter(sql in prop::sample::select(ascii_rows()), flips in any::<u64>()) {
        let flipped: String = sql
            .char_indices()
            // NULL is spelled \N, in upper case only, and executable comments have their M so.
            .map(|(at, letter)| match flips >> (at % 64) & 1 {
                _ if at > 0 && b"\\*".contains(&sql.as_bytes()[at - 1]) => letter,
                0 => letter.to_ascii_uppercase(),
                _ => letter.to_ascii_lowercase(),
            })
            .collect();
        prop_assert_eq!(plain(&flipped), plain(sql), "{}", flipped);
    }

    #[test]
    fn blanks_and_comments_do_not_matter(
        sql in prop::sample::select(plain_rows()),
        blank in prop::sample::select(vec![
            "  ", "\n", "\t", "\r\n", "\x0b", "/**/", " /* FOR UPDATE */ ", "/* ; it's */", " -- x'\n",
            "#\"\n", "/*+ x */", "--\n",
        ]),
    ) {
        let spread = with_blanks(sql, blank);
        prop_assert_eq!(plain(&spread), plain(sql), "{}", spread);
        let around = format!("{blank}{sql}{blank}");
        prop_assert_eq!(plain(&around), plain(sql), "{}", around);
    }

    #[test]
    fn a_write_is_a_write_behind_anything_complete(
        sql in prop::sample::select(plain_rows()),
        write in prop::sample::select(vec!["DELETE FROM t", "DROP TABLE t", "SELECT 1 INTO OUTFILE 'x'"]),
    ) {
        let both = plain(&format!("{sql};{write}"));
        prop_assert_eq!(both.class.kind, Kind::Write);
        let both = plain(&format!("{write};{sql}"));
        prop_assert_eq!(both.class.kind, Kind::Write);
    }

    #[test]
    fn statements_add_up(one in prop::sample::select(plain_rows()), two in prop::sample::select(plain_rows())) {
        // An unknown statement or a routine may run to the end of the packet.
        let [first, second] = [plain(one), plain(two)];
        prop_assume!(!matches!(first.class.because, "unknown statement" | "BEGIN of a block" | "CREATE"));
        prop_assume!(!one.trim_matches([' ', ';']).is_empty() && !two.trim_matches([' ', ';']).is_empty());
        let both = plain(&format!("{one};{two}"));
        prop_assert_eq!(both.effects, first.effects | second.effects | Effects::SEVERAL);
        let place = |kind| Kind::ALL.iter().position(|other| *other == kind);
        prop_assert_eq!(place(both.class.kind), place(first.class.kind).max(place(second.class.kind)));
    }

    #[test]
    fn quoted_text_never_matters(text in "[a-zA-Z@:=;()*/# -]{0,40}") {
        prop_assert_eq!(plain(&format!("SELECT '{text}'")), plain("SELECT 1"));
        prop_assert_eq!(plain(&format!("SELECT `{text}`")), plain("SELECT 1"));
        prop_assert_eq!(plain(&format!("SELECT \"{text}\"")), plain("SELECT 1"));
    }

    #[test]
    fn an_executable_comment_never_hides_what_it_does(
        sql in prop::sample::select(plain_rows()),
        opening in prop::sample::select(vec!["/*!", "/*!50000 ", "/*!999999 ", "/*M! ", "/*M!100100 "]),
    ) {
        let place = |statement: Statement| Kind::ALL.iter().position(|kind| *kind == statement.class.kind);
        let commented = plain(&format!("{opening}{sql} */"));
        prop_assert!(place(commented) >= place(plain(sql)), "{opening}{sql}");
        prop_assert!(commented.effects.contains(plain(sql).effects));
    }
}
