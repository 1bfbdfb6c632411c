//! The documentation says what there is: every metric, error, path and command has its place, links
//! lead somewhere, and examples are accepted.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use failsoft_tests::READ_ONLY;
use policy::mode::Reason;
use policy::session::Pins;
use telemetry::METRICS;
use telemetry::table::{LOGIN_RESULTS, OTHER_REFUSALS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of the repository, by its path from the root.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page for readers, by its path from the root.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    pages.extend(below("docs", ".md"));
    pages.sort();
    pages
}

/// Every file below a folder whose name ends like this, by its path from the root.
fn below(folder: &str, end: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false if path.ends_with(end) => files.push(path),
                false => {}
            }
        }
    }
    files
}

/// Fails with everything that is missing.
fn assert_none(what: &str, missing: &[String]) {
    assert!(missing.is_empty(), "{what}:\n{}", missing.join("\n"));
}

/// The lines of `page` that lack one of `wanted`.
fn missing(page: &str, wanted: impl IntoIterator<Item = String>) -> Vec<String> {
    let text = read(page);
    wanted.into_iter().filter(|one| !text.contains(one.as_str())).collect()
}

#[test]
fn every_metric_has_its_row() {
    let rows = METRICS.iter().map(|(name, help, labels)| {
        let labels = match labels.is_empty() {
            true => "–".to_owned(),
            false => labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", "),
        };
        format!("| `{name}` | {labels} | {help} |")
    });
    assert_none("rows missing in docs/operating.md", &missing("docs/operating.md", rows));
    let known: BTreeSet<_> = METRICS.iter().map(|(name, ..)| *name).collect();
    for page in pages() {
        let text = read(&page);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named = words.filter(|w| w.starts_with("failsoft_") && *w != "failsoft_");
        let gone: Vec<_> = named.filter(|name| !known.contains(name)).map(str::to_owned).collect();
        assert_none(&format!("{page} names metrics that do not exist"), &gone);
    }
}

#[test]
fn every_value_of_a_label_is_explained() {
    let values = OTHER_REFUSALS.iter().chain(LOGIN_RESULTS).map(|value| format!("`{value}`"));
    assert_none("missing in docs/operating.md", &missing("docs/operating.md", values));
    let reasons = Reason::ALL.iter().map(|reason| format!("\n### `{reason}`\n"));
    let pins = Pins::ALL.iter().map(|(_, name, words)| format!("\n| `{name}` | {words}"));
    let wanted = reasons.chain(pins);
    assert_none("missing in docs/read-only-mode.md", &missing("docs/read-only-mode.md", wanted));
}

/// The numbers and states that `refusal.rs` makes errors of.
fn refusals() -> BTreeSet<(String, String)> {
    let source = read("crates/proxy/src/refusal.rs");
    let calls = source.split("ClientError::new(").skip(1);
    let errors = calls.map(|call| {
        let mut arguments = call.split(',').map(str::trim);
        let (number, state) = (arguments.next().unwrap(), arguments.next().unwrap());
        assert!(number.parse::<u16>().is_ok(), "a number: {number}");
        let state = state.strip_prefix("b\"").and_then(|rest| rest.strip_suffix('"'));
        (number.to_owned(), state.unwrap().to_owned())
    });
    errors.collect()
}

/// The numbers and states in the table of errors.
fn documented_errors() -> BTreeSet<(String, String)> {
    let text = read("docs/errors.md");
    let table = text.split("\n## All errors\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next().filter(|number| number.parse::<u16>().is_ok())?;
        Some((number.to_owned(), cells.next()?.to_owned()))
    });
    rows.collect()
}

#[test]
fn the_errors_are_those_of_the_code() {
    let made = refusals();
    assert!(made.len() > 10, "{made:?}");
    assert_eq!(documented_errors(), made, "left: docs/errors.md, right: refusal.rs");
}

#[test]
fn the_sentence_of_1290_stands_to_the_letter() {
    let opening =
        format!("| 1290 | HY000 | `{READ_ONLY} (failsoft: partition default is read-only: ");
    for page in ["README.md", "docs/read-only-mode.md"] {
        assert_none(page, &missing(page, [format!("ERROR 1290 (HY000): {READ_ONLY} (failsoft: ")]));
    }
    assert_none("docs/errors.md", &missing("docs/errors.md", [opening]));
}

#[test]
fn every_path_is_listed() {
    let sources = ["web", "resources", "verdicts", "actions", "stream", "pages"];
    let sources = sources.map(|name| read(&format!("crates/console/src/{name}.rs"))).concat();
    let paths: BTreeSet<_> = sources
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| text.starts_with('/') && !text.contains(' ') && !text.contains("/assets/"))
        .map(|path| path.replace("{server}", "db002:3306").replace("{id}", "1073741825"))
        .collect();
    assert!(paths.len() > 25, "{paths:?}");
    let (api, others): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| path.starts_with("/api/"));
    assert_none("missing in docs/api.md", &missing("docs/api.md", api));
    let others = others.into_iter().map(|path| format!("`{path}`"));
    assert_none("missing in docs/operating.md", &missing("docs/operating.md", others));
}

#[test]
fn every_statement_of_the_admin_port_is_listed() {
    let rows = console::admin::COMMANDS
        .iter()
        .map(|(statement, does)| format!("\n| `{}` | {does} |", statement.replace('|', "\\|")));
    assert_none("rows missing in docs/admin-port.md", &missing("docs/admin-port.md", rows));
}

/// Every configuration that is delivered is accepted.
#[test]
fn delivered_configurations_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let variable = |name: &str| match name.ends_with("_FILE") {
        true => Some(secret.to_str().unwrap().to_owned()),
        false => Some("secret".to_owned()),
    };
    let folders = ["deploy/examples", "deploy/compose", "deploy/debian"];
    let files = folders.iter().flat_map(|folder| below(folder, ".yaml"));
    let mut texts: Vec<_> = files.map(|path| (read(&path), path)).collect();
    assert!(texts.len() >= 9, "{texts:?}");
    let manifest = "deploy/kubernetes/failsoft.yaml";
    texts.push((in_config_map(&read(manifest)), manifest.to_owned()));
    for (text, path) in texts {
        if let Err(error) = config::Config::parse(&path, &text, &variable) {
            panic!("{error}");
        }
    }
}

/// The configuration in a manifest: what is indented below its name.
fn in_config_map(manifest: &str) -> String {
    let mut lines =
        manifest.lines().skip_while(|line| !line.trim().starts_with("failsoft.yaml: |"));
    let head = lines.next().unwrap();
    let indent = head.len() - head.trim_start().len() + 2;
    let inner = lines.take_while(|line| line.is_empty() || line.starts_with(&" ".repeat(indent)));
    inner.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect()
}

#[test]
fn every_command_and_option_is_listed() {
    let source = read("crates/failsoft/src/cli.rs");
    let body = source.split("enum Command {").nth(1).unwrap().split("\n}").next().unwrap();
    let commands: Vec<String> = body
        .lines()
        .filter_map(|line| line.trim().split_once('('))
        .map(|(name, _)| kebab(name))
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    let rows = commands.iter().map(|name| format!("\n| `failsoft {name}"));
    assert_none("rows missing in docs/operating.md", &missing("docs/operating.md", rows));
    let options = source
        .split("#[arg(")
        .skip(1)
        .filter(|rest| rest.split(")]").next().is_some_and(|arguments| arguments.contains("long")));
    let options = options.map(|rest| {
        let field = rest.split("pub(crate) ").nth(1).unwrap().split(':').next().unwrap();
        format!("--{}", field.replace('_', "-"))
    });
    // `run` is documented with the short form of its only option.
    let options: Vec<_> = options.filter(|option| option != "--config").collect();
    assert!(options.len() > 5, "{options:?}");
    assert_none("options missing in docs/operating.md", &missing("docs/operating.md", options));
}

/// `ReadOnly` as `read-only`.
fn kebab(name: &str) -> String {
    let mut word = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// The fenced blocks of a language, in all pages, with the page.
fn blocks(language: &str) -> Vec<(String, String)> {
    let opening = format!("```{language}\n");
    let mut blocks = Vec::new();
    for page in pages() {
        let text = read(&page);
        let found = text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap());
        blocks.extend(found.map(|block| (page.clone(), block.to_owned())));
    }
    blocks
}

#[test]
fn configurations_are_accepted() {
    let blocks = blocks("yaml");
    let of_readme: Vec<_> = blocks.iter().filter(|(page, _)| page == "README.md").collect();
    assert_eq!(of_readme.len(), 1);
    assert_eq!(of_readme[0].1.lines().count(), 5, "five lines");
    for (page, block) in &blocks {
        if let Err(error) = config::Config::parse(page, block, &|_| Some("secret".to_owned())) {
            panic!("{page}:\n{block}\n{error}");
        }
    }
}

/// A page without what stands in code, where brackets are no links.
fn prose(text: &str) -> String {
    let mut prose = String::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 0 {
            prose.extend(part.split('`').step_by(2));
        }
    }
    prose
}

/// The targets of the links of a page.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The anchors that headings make, as forges do.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        if in_code || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.insert(kept.collect::<String>().replace(' ', "-"));
    }
    anchors
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        let file = root().join(&page);
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            let there = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !there {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
    assert_none("broken links", &broken);
}

#[test]
fn every_page_is_reached() {
    let index = links(&read("docs/README.md"));
    let decisions = links(&read("docs/decisions/README.md"));
    let orphans = pages().into_iter().filter_map(|page| {
        let name = page.strip_prefix("docs/")?;
        let listed = match name.strip_prefix("decisions/") {
            Some(decision) if decision != "README.md" => decisions.iter().any(|l| l == decision),
            _ => name == "README.md" || index.iter().any(|link| link == name),
        };
        (!listed).then_some(page)
    });
    assert_none("pages that no index lists", &orphans.collect::<Vec<_>>());
}

/// The tests that stand for the situations are there: `file::function`.
#[test]
fn tests_that_are_named_exist() {
    let page = read("docs/reliability.md");
    let code = page.split('`').skip(1).step_by(2);
    let named: Vec<_> = code.filter_map(|name| name.split_once("::")).collect();
    assert!(named.len() > 50, "{named:?}");
    let sources = [below("tests/tests", ".rs"), below("crates", ".rs")].concat();
    let has = |file: &str, function: &str| {
        let is_it = |path: &&String| path.ends_with(&format!("/{file}.rs"));
        let head = format!("fn {function}(");
        sources.iter().filter(is_it).any(|path| read(path).contains(&head))
    };
    let gone = named.iter().filter(|(file, function)| !has(file, function));
    let gone: Vec<_> = gone.map(|(file, function)| format!("{file}::{function}")).collect();
    assert_none("named in docs/reliability.md, and not there", &gone);
}
