//! Which schemas live on which master.
//!
//! As in Phabricator there is one partition unless several masters say otherwise, and then every
//! schema has one home. A disabled master keeps its list but stands in nobody's way: that is how
//! one master replaces another.

use crate::databases::Draft;
use crate::locate::Place;
use crate::node::quoted;
use crate::reader::{Given, Reader, Section};

/// The partition of schemas that no list names.
const DEFAULT: &str = "default";

/// The longest schema name of MySQL and MariaDB, in characters.
const SCHEMA_MAX: usize = 64;

/// Checks the partitions, and says whether there are several.
pub(crate) fn check(reader: &mut Reader<'_>, root: &Section<'_>, drafts: &[Draft<'_>]) -> bool {
    for draft in drafts {
        check_list(reader, draft);
    }
    let masters: Vec<&Draft<'_>> = drafts.iter().filter(|draft| draft.is_master()).collect();
    let is_partitioned =
        masters.len() > 1 && masters.iter().any(|master| !master.partition.is_absent());
    if is_partitioned {
        check_presence(reader, root, &masters);
        check_homes(reader, &masters);
    } else {
        check_single(reader, &masters);
    }
    is_partitioned
}

/// What can be said of one list alone.
fn check_list(reader: &mut Reader<'_>, draft: &Draft<'_>) {
    if draft.is_replica() && !draft.partition.is_absent() {
        let message = "found on a replica, expected only on masters; a replica has its master's";
        reader.reject(draft.section.at("partition").key(), message);
        return;
    }
    let Given::Value(list) = &draft.partition else { return };
    for (nth, (place, schema)) in list.iter().enumerate() {
        if !is_schema(schema) {
            let found = quoted(schema);
            let message = format!("found {found}, expected a schema name, prefix_* or \"default\"");
            reader.reject(place.clone(), message);
        } else if list.iter().take(nth).any(|(_, earlier)| earlier == schema) {
            let message = format!("found {} a second time, expected it once", quoted(schema));
            reader.reject(place.clone(), message);
        }
    }
}

fn is_schema(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    let is_fine = |c: char| !c.is_control() && !matches!(c, '*' | '/' | '\\');
    !name.trim().is_empty() && name.chars().all(is_fine) && name.chars().count() <= SCHEMA_MAX
}

/// Every master of a partitioned configuration has a list, and one of them the default.
fn check_presence(reader: &mut Reader<'_>, root: &Section<'_>, masters: &[&Draft<'_>]) {
    let mut has_default = false;
    for master in masters {
        match &master.partition {
            Given::Value(list) => has_default |= list.iter().any(|(_, name)| name == DEFAULT),
            Given::Broken => has_default = true,
            Given::Absent => {
                has_default = true;
                let expected = "a list of schemas, as other masters have one";
                reader.missing(&master.section, "partition", expected);
            }
        }
    }
    if !has_default {
        let message = "found several partitions but no \"default\", expected one master to list it";
        reader.reject(root.at("databases"), message);
    }
}

/// No schema has two homes.
fn check_homes(reader: &mut Reader<'_>, masters: &[&Draft<'_>]) {
    let mut homes: Vec<(&Place, &str)> = Vec::new();
    for master in masters.iter().filter(|master| master.is_enabled()) {
        let Given::Value(list) = &master.partition else { continue };
        for (place, schema) in list {
            let other = homes.iter().find(|(_, other)| do_meet(schema, other));
            if let Some((home, other)) = other {
                let other =
                    if other == schema { String::new() } else { format!(" as {}", quoted(other)) };
                let message = format!(
                    "found {}, which lives on {home} already{other}, expected each schema in one \
                     partition",
                    quoted(schema)
                );
                reader.reject(place.clone(), message);
            }
        }
        homes.extend(list.iter().map(|(_, schema)| (master.place(), schema.as_str())));
    }
}

/// Some schema belongs to both entries.
pub(crate) fn do_meet(a: &str, b: &str) -> bool {
    match (a.strip_suffix('*'), b.strip_suffix('*')) {
        (None, None) => a == b,
        (Some(prefix), None) => b != DEFAULT && b.starts_with(prefix),
        (None, Some(prefix)) => a != DEFAULT && a.starts_with(prefix),
        (Some(a), Some(b)) => a.starts_with(b) || b.starts_with(a),
    }
}

/// One partition has one enabled master.
fn check_single(reader: &mut Reader<'_>, masters: &[&Draft<'_>]) {
    let mut enabled = masters.iter().filter(|master| master.is_enabled());
    let Some(first) = enabled.next() else { return };
    for second in enabled {
        let message = format!(
            "found a second enabled master beside {}, expected one; disable it, make it a replica \
             or give every master a partition",
            first.place()
        );
        reader.reject(second.section.at("role"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_meet() {
        let cases = [
            ("a", "a", true),
            ("a", "b", false),
            ("blog_*", "blog_user", true),
            ("blog_*", "blog", false),
            ("blog_*", "blog_u*", true),
            ("blog_*", "wiki_*", false),
            ("d*", "default", false),
            ("default", "default", true),
        ];
        for (a, b, expected) in cases {
            assert_eq!(do_meet(a, b), expected, "{a} {b}");
            assert_eq!(do_meet(b, a), expected, "{b} {a}");
        }
    }
}
