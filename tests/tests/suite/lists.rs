//! The lists in `tests/suite`.

use super::case::Case;

/// Cases that run with the other tests, each with options of `mariadb-test`.
const SELECTED: &str = include_str!("../../suite/selected.txt");
/// Cases that pass directly and cannot pass through failsoft, each with the reason.
const CANNOT: &str = include_str!("../../suite/cannot.txt");

/// The lines of a list that say something.
fn lines(list: &str) -> impl Iterator<Item = &str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The selection.
pub(crate) fn selected() -> Vec<Case> {
    lines(SELECTED).map(Case::new).collect()
}

/// The names of the cases that cannot pass, and why.
pub(crate) fn cannot() -> Vec<(&'static str, &'static str)> {
    let split = |line: &'static str| line.split_once(char::is_whitespace);
    let parsed =
        lines(CANNOT).map(|line| split(line).unwrap_or_else(|| panic!("no reason: {line}")));
    parsed.map(|(name, reason)| (name, reason.trim())).collect()
}
