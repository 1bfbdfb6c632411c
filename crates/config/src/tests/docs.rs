//! The reference, `docs/configuration.md`, agrees with the table of settings and with the reader.

use super::{env, parse};
use crate::{Config, SETTINGS};

const REFERENCE: &str = include_str!("../../../../docs/configuration.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    REFERENCE
        .split(opening.as_str())
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn every_setting_has_its_row() {
    let mut wrong = Vec::new();
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "–".to_owned(),
            words if words.contains('`') || words.contains(' ') || words == "required" => {
                words.to_owned()
            }
            value => format!("`{value}`"),
        };
        let row = format!("| `{}` | {} | {default} | {} |", setting.key, setting.kind, setting.doc);
        if !REFERENCE.contains(&row) {
            wrong.push(row);
        }
    }
    let settings = REFERENCE.split("\n## Durations and sizes\n").next().unwrap();
    let rows = settings.lines().filter(|line| line.starts_with("| `")).count();
    assert!(wrong.is_empty(), "rows missing in docs/configuration.md:\n{}", wrong.join("\n"));
    assert_eq!(rows, SETTINGS.len(), "docs/configuration.md has rows of settings that are gone");
}

/// What each setting does when the file is read again is said, by its key or for all of its section.
#[test]
fn every_setting_is_said_to_change_or_not() {
    // It has one value.
    const FIXED: [&str; 1] = ["reads"];
    let section = REFERENCE.split("\n## Reading it again\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let says = |words: &str| section.contains(&format!("`{words}`"));
    let is_said = |key: &str| {
        let key = key.trim_end_matches("_env").trim_end_matches("_file");
        let of_section = key.split_once(['.', '[']).map(|(section, _)| section);
        let last = key.strip_prefix("databases[].");
        says(key)
            || of_section.is_some_and(|it| says(&format!("{it}.*")) || (it == "users" && says(it)))
            || last.is_some_and(|last| ["host", "port", "disabled"].contains(&last) && says(last))
    };
    let keys = SETTINGS.iter().map(|setting| setting.key).filter(|key| !FIXED.contains(key));
    let missing: Vec<_> = keys.filter(|key| !is_said(key)).collect();
    assert!(missing.is_empty(), "missing in \"Reading it again\": {missing:?}");
}

#[test]
fn the_examples_are_sound() {
    let examples = blocks("yaml");
    assert_eq!(examples.len(), 2, "the minimal and the full one");
    for example in examples {
        if let Err(error) = parse(example) {
            panic!("{error}\n{example}");
        }
    }
}

#[test]
fn the_full_example_has_every_section() {
    for key in crate::settings::keys_of("") {
        let is_there = blocks("yaml")[1].lines().any(|line| line.starts_with(&format!("{key}:")));
        assert!(is_there, "{key}");
    }
}

#[test]
fn the_errors_are_real() {
    let [file] = blocks("yml")[..] else { panic!("one file with errors") };
    let [output] = blocks("text")[..] else { panic!("one output") };
    let (command, output) = output.split_once('\n').unwrap();
    assert_eq!(command, "$ failsoft check failsoft.yaml");
    let error = Config::parse("failsoft.yaml", file, &env).unwrap_err();
    assert_eq!(error.to_string(), output.trim_end());
}
