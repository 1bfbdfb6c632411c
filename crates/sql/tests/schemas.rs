//! Runs the search for schemas over `schemas.tsv`.

use sql::{Dialect, Touched, touched};

/// What a packet touches, once each: names, `.` for the current schema, `>name` for `USE`.
fn shown(sql: &str, dialect: Dialect) -> String {
    let mut all: Vec<String> = Vec::new();
    touched(sql.as_bytes(), dialect, |one| {
        let one = match one {
            Touched::Current => ".".to_owned(),
            Touched::Schema(name) => String::from_utf8_lossy(&name).into_owned(),
            Touched::Use(name) => format!(">{}", String::from_utf8_lossy(&name)),
        };
        if !all.contains(&one) {
            all.push(one);
        }
    });
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

#[test]
fn every_packet_of_the_table() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (row, line) in include_str!("schemas.tsv").lines().zip(1..) {
        if row.starts_with('#') || row.is_empty() {
            continue;
        }
        let Some((expected, sql)) = row.split_once('\t') else {
            panic!("schemas.tsv:{line}: expected two columns separated by a tab")
        };
        let got = shown(sql, Dialect::default());
        if got != expected {
            wrong.push(format!("schemas.tsv:{line}: {got}\t{sql}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 180, "only {count} packets");
}

#[test]
fn what_is_quoted_decides_nothing() {
    for text in [r#"'it\'s from b.t'"#, r#""it\"s from b.t""#, r#"'"', "' from b.t", '"'"#] {
        assert_eq!(shown(&format!("INSERT INTO t VALUES ({text})"), Dialect::default()), ".");
    }
}

#[test]
fn double_quotes_are_names_in_either_mode() {
    let ansi = Dialect { ansi_quotes: true, ..Dialect::default() };
    for dialect in [Dialect::default(), ansi] {
        assert_eq!(shown(r#"SELECT * FROM "b"."t" WHERE x = "c.d""#, dialect), "b");
    }
}
