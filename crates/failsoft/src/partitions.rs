//! The partitions of a configuration: which server and which schema belongs to which.

use std::sync::Arc;

use config::{Config, Database, Role};
use policy::partition::{DEFAULT, Homes};

/// The partitions, `default` first.
pub(crate) struct Partitions {
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) homes: Homes,
    /// The partition of each database, in the order of the configuration.
    pub(crate) of_databases: Vec<usize>,
}

impl Partitions {
    /// A partition is an enabled master, its replicas, and the disabled masters whose schemas it
    /// has taken over. Disabled masters whose schemas nobody has are partitions too, without a
    /// master.
    pub(crate) fn of(config: &Config) -> Self {
        let groups = groups(&config.databases);
        let list = |group: &Vec<usize>| {
            let first = group.first().and_then(|at| config.databases.get(*at));
            first.map(|database| database.partition.clone()).unwrap_or_default()
        };
        let mut of_databases = vec![0; config.databases.len()];
        let group_of = |key: &str| {
            let has_key = |at: &usize| config.databases.get(*at).is_some_and(|d| d.key() == key);
            groups.iter().position(|group| group.iter().any(has_key))
        };
        for (partition, database) in of_databases.iter_mut().zip(&config.databases) {
            let key = database.master.clone().unwrap_or_else(|| database.key());
            *partition = group_of(&key).unwrap_or(0);
        }
        let lists: Vec<_> = groups.iter().map(list).collect();
        let names = match lists.len() {
            0 | 1 => vec![DEFAULT.into()],
            _ => lists.iter().map(|list| name(list)).collect(),
        };
        Self { names, homes: Homes::new(&lists), of_databases }
    }
}

/// The places of the masters of each partition; first the one whose list says which schemas it has.
fn groups(databases: &[Database]) -> Vec<Vec<usize>> {
    let masters = |disabled| {
        let listed = databases.iter().enumerate();
        listed.filter(move |(_, d)| d.role == Role::Master && d.disabled == disabled)
    };
    let mut groups: Vec<Vec<usize>> = masters(false).map(|(at, _)| vec![at]).collect();
    for (at, database) in masters(true) {
        let has_taken_over = |group: &Vec<usize>| {
            let first = group.first().and_then(|first| databases.get(*first));
            // Without a list there is one partition.
            database.partition.is_empty()
                || first.is_some_and(|first| first.shares_schemas_with(database))
        };
        match groups.iter().position(has_taken_over).and_then(|group| groups.get_mut(group)) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    let has_default = |group: &Vec<usize>| {
        let mut lists = group.iter().filter_map(|at| databases.get(*at)).map(|d| &d.partition);
        lists.any(|list| list.iter().any(|schema| schema == DEFAULT))
    };
    // Stable: beside that, the order of the file.
    groups.sort_by_key(|group| !has_default(group));
    groups
}

/// What a partition is called: after the first of its schemas, or `default`.
fn name(list: &[String]) -> Arc<str> {
    let is_default = list.iter().any(|schema| schema == DEFAULT);
    let first = list.first().filter(|_| !is_default);
    first.map_or_else(|| DEFAULT.into(), |schema| schema.as_str().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name: hosts` of each partition.
    fn shown(databases: &str) -> String {
        let text = format!("defaults: {{user: app, pass: x}}\ndatabases:\n{databases}");
        let config = Config::parse("test.yaml", &text, &|_| None).unwrap();
        let partitions = Partitions::of(&config);
        let hosts = |partition| {
            let all = config.databases.iter().zip(&partitions.of_databases);
            let here = all.filter(|(_, of)| **of == partition).map(|(d, _)| d.host.as_str());
            here.collect::<Vec<_>>().join(" ")
        };
        let names = partitions.names.iter().enumerate();
        names.map(|(at, name)| format!("{name}: {}", hosts(at))).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn databases_have_partitions() {
        let table = [
            ("- {host: a, role: master}\n- {host: r, role: replica}", "default: a r"),
            ("- {host: a, role: master, partition: [x]}", "default: a"),
            (
                "- {host: a, role: master}\n- {host: b, role: master, disabled: true}",
                "default: a b",
            ),
            (
                "- {host: b, role: master, partition: [\"blog_*\", wiki]}\n\
                 - {host: r, role: replica, master: b}\n\
                 - {host: a, role: master, partition: [x, default]}\n\
                 - {host: s, role: replica, master: \"a:3306\"}",
                "default: a s, blog_*: b r",
            ),
            (
                "- {host: o, role: master, partition: [default], disabled: true}\n\
                 - {host: a, role: master, partition: [default]}\n\
                 - {host: r, role: replica, master: o}",
                "default: o a r",
            ),
            (
                "- {host: a, role: master, partition: [default]}\n\
                 - {host: b, role: master, partition: [blog], disabled: true}\n\
                 - {host: r, role: replica, master: b}",
                "default: a, blog: b r",
            ),
        ];
        for (databases, expected) in table {
            assert_eq!(shown(databases), expected, "{databases}");
        }
    }
}
