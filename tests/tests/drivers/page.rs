//! The tables of `docs/drivers.md`: written by a run, or held against one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::list::{DRIVERS, Driver};

/// The cells of each driver, by its name.
pub(crate) type Cells = BTreeMap<&'static str, Vec<String>>;

/// How the page is written anew.
const HOW: &str = "FAILSOFT_WRITE_DOCS=1 make drivers-test";

/// A table of the page, with the rows of this run.
pub(crate) struct Table {
    /// What stands in the comment before it.
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Cells,
}

impl Table {
    /// The text of a driver's row, without and with its version.
    fn row(&self, driver: &Driver, version: &str) -> Option<String> {
        let cells = self.rows.get(driver.name)?;
        Some(format!("| {} | {version} | {} |", driver.name, cells.join(" | ")))
    }

    /// The table with the rows of this run; others as they were.
    fn text(&self, old: &str, versions: &BTreeMap<&str, String>) -> String {
        let mut text = format!("| driver | version | {} |\n", self.columns.join(" | "));
        text.push_str(&"| --- ".repeat(self.columns.len() + 2));
        text.push_str("|\n");
        for driver in DRIVERS {
            let version = versions.get(driver.name).map_or("", String::as_str);
            let row = self.row(driver, version);
            if let Some(row) = row.or_else(|| row_of(old, driver).map(str::to_owned)) {
                text.push_str(&row);
                text.push('\n');
            }
        }
        text
    }

    /// The rows that are not those of the page; versions may differ.
    fn differences(&self, page: &str) -> Vec<String> {
        let old = self.part(page);
        let differ = DRIVERS.iter().filter_map(|driver| {
            let written = row_of(old, driver).unwrap_or_default();
            let version = written.split(" | ").nth(1).unwrap_or_default();
            let row = self.row(driver, version)?;
            (row != written).then(|| format!("  the page: {written}\n  this run: {row}"))
        });
        differ.collect()
    }

    /// What the page has between this table's comments.
    fn part<'a>(&self, page: &'a str) -> &'a str {
        let after = page.split(&self.opening()).nth(1);
        after.and_then(|rest| rest.split(CLOSING).next()).expect("the table's comments")
    }

    fn opening(&self) -> String {
        format!("<!-- drivers: {} -->\n", self.name)
    }
}

const CLOSING: &str = "<!-- end -->";

fn row_of<'a>(table: &'a str, driver: &Driver) -> Option<&'a str> {
    let begin = format!("| {} | ", driver.name);
    table.lines().find(|line| line.starts_with(&begin))
}

/// Writes the tables to the page if that was asked for (`FAILSOFT_WRITE_DOCS=1`), or tells how they
/// differ from it.
pub(crate) fn write_or_compare(tables: &[Table], versions: &BTreeMap<&str, String>) -> Vec<String> {
    let mut page = fs::read_to_string(path()).unwrap();
    if env::var_os("FAILSOFT_WRITE_DOCS").is_some() {
        for table in tables {
            let old = table.part(&page);
            let [old, new] = [old, &table.text(old, versions)]
                .map(|rows| format!("{}{rows}{CLOSING}", table.opening()));
            page = page.replace(&old, &new);
        }
        fs::write(path(), page).unwrap();
        return Vec::new();
    }
    let differ: Vec<_> = tables.iter().flat_map(|table| table.differences(&page)).collect();
    match differ.is_empty() {
        true => differ,
        false => vec![format!("docs/drivers.md is out of date; {HOW}:\n{}", differ.join("\n"))],
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/drivers.md")
}

/// The cells of both flavours in one, where they differ with both.
pub(crate) fn merged(flavors: Vec<Cells>) -> Cells {
    let mut flavors = flavors.into_iter();
    let mut all = flavors.next().unwrap_or_default();
    for other in flavors {
        for (name, cells) in other {
            let merged = all.entry(name).or_insert_with(|| cells.clone());
            for (one, two) in merged.iter_mut().zip(cells) {
                if *one != two {
                    *one = format!("{one} / {two}");
                }
            }
        }
    }
    all
}

#[test]
fn a_cell_that_differs_is_told_and_a_version_is_not() {
    let driver = &DRIVERS[0];
    let rows = |cell: &str| Cells::from([(driver.name, vec![cell.to_owned()])]);
    let table = |cell| Table { name: "x", columns: vec!["step"], rows: rows(cell) };
    let versions = BTreeMap::from([(driver.name, "1.0".to_owned())]);
    let page = format!("{}{}{CLOSING}", table("").opening(), table("=").text("", &versions));
    assert_eq!(table("=").differences(&page), [""; 0]);
    assert_eq!(table("=").differences(&page.replace("1.0", "2.0")), [""; 0]);
    let told = table("fails").differences(&page);
    assert!(told[0].contains("| 1.0 | = |") && told[0].contains("| 1.0 | fails |"), "{told:?}");
}
