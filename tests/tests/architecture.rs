//! The table of crates in `docs/architecture.md` is what the workspace is made of.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a crate uses, tests aside: of ours, and of others.
#[derive(Debug, Default, Eq, PartialEq)]
struct Uses {
    ours: BTreeSet<String>,
    others: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The rows of the table, by crate.
fn documented() -> BTreeMap<String, Uses> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let head = "| crate | in one sentence | uses of ours | uses of others |";
    let lines = text.lines().skip_while(|line| *line != head).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, sentence, ours, others] = cells[..] else { panic!("four cells: {line}") };
        assert!(sentence.ends_with('.'), "a sentence: {line}");
        (name.to_owned(), Uses { ours: names(ours), others: names(others) })
    });
    rows.collect()
}

/// `a, b`, or a dash for none.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split(", ").filter(|name| *name != "–").map(str::to_owned).collect()
}

/// What cargo says of the crates below `crates/`.
fn built() -> BTreeMap<String, Uses> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(|package| word(&package["name"])).collect();
    let place = root().join("crates");
    let crates = packages.iter().filter(|package| {
        Path::new(package["manifest_path"].as_str().unwrap()).starts_with(&place)
    });
    let uses = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        // Dependencies of tests and build scripts have a kind.
        let names = dependencies.filter(|one| one["kind"].is_null()).map(|one| word(&one["name"]));
        let (ours, others) = names.partition(|name| ours.contains(name));
        Uses { ours, others }
    };
    crates.map(|package| (word(&package["name"]), uses(package))).collect()
}

/// A set as the table writes it.
fn cell(names: &BTreeSet<String>) -> String {
    match names.is_empty() {
        true => "–".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

#[test]
fn the_table_of_crates_is_true() {
    let (documented, built) = (documented(), built());
    let nothing = Uses::default();
    let mut wrong = Vec::new();
    for (name, uses) in &built {
        let said = documented.get(name);
        if said != Some(uses) {
            let said = said.unwrap_or(&nothing);
            wrong.push(format!(
                "{name}\n  documented: | {} | {} |\n  built:      | {} | {} |",
                cell(&said.ours),
                cell(&said.others),
                cell(&uses.ours),
                cell(&uses.others)
            ));
        }
    }
    wrong.extend(
        documented
            .keys()
            .filter(|name| !built.contains_key(*name))
            .map(|name| format!("{name}: documented, and not there")),
    );
    assert!(
        wrong.is_empty(),
        "docs/architecture.md differs from the workspace. A dependency is a decision: take it back, \
         or write it down.\n{}",
        wrong.join("\n")
    );
}

/// What the table is for, said once more in a way that a careless edit of it does not survive.
#[test]
fn the_planes_share_only_what_they_must() {
    let built = built();
    let has = |user: &str, used: &str| {
        let uses = &built[user];
        uses.ours.contains(used) || uses.others.contains(used)
    };
    let forbidden = [
        ("proxy", "control"),
        ("proxy", "config"),
        ("proxy", "mysql_async"),
        ("control", "proxy"),
        ("control", "config"),
        ("console", "proxy"),
        ("wire", "policy"),
        ("wire", "tokio"),
        ("sql", "wire"),
        ("policy", "tokio"),
        ("policy", "tracing"),
        ("config", "tokio"),
    ];
    let wrong: Vec<_> = forbidden.iter().filter(|(user, used)| has(user, used)).collect();
    assert!(wrong.is_empty(), "these must not depend on each other: {wrong:?}");
}
