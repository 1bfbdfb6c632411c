//! The servers, and the rules about several of them: masters, replicas, partitions.
//!
//! Each element of the list becomes a [`Draft`], in which whatever was wrong is missing. The rules
//! keep quiet about what they cannot know for that reason.

use crate::accounts::Accounts;
use crate::address::Address;
use crate::locate::Place;
use crate::model::{Account, Database, Role};
use crate::node::{Node, quoted};
use crate::partitions;
use crate::reader::{Given, Reader, Section, either_of};
use crate::values::{self, boolean, nearest, whole, word};

/// One server, as far as it is understood.
pub(crate) struct Draft<'n> {
    pub(crate) section: Section<'n>,
    host: Option<String>,
    port: Option<u16>,
    role: Option<Role>,
    disabled: Option<bool>,
    account: Given<Account>,
    pub(crate) partition: Given<Vec<(Place, String)>>,
    master: Given<String>,
    weight: Option<u32>,
    compress: Option<bool>,
    proxy_protocol: Option<bool>,
}

impl Draft<'_> {
    /// Where it is.
    pub(crate) fn address(&self) -> Option<Address> {
        Some(Address { host: self.host.clone()?, port: self.port? })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.section.place
    }

    pub(crate) fn is_master(&self) -> bool {
        self.role == Some(Role::Master)
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.disabled == Some(false)
    }

    pub(crate) fn is_replica(&self) -> bool {
        self.role == Some(Role::Replica)
    }

    /// The health checks need an account to log in to it.
    pub(crate) fn needs_monitor(&self) -> bool {
        self.is_enabled() && self.account.is_absent()
    }

    /// What it is in relation to others is known.
    fn is_clear(&self) -> bool {
        self.role.is_some() && self.host.is_some() && self.port.is_some()
    }
}

/// Reads the list and checks each server.
pub(crate) fn read<'n>(
    reader: &mut Reader<'_>,
    root: &Section<'n>,
    defaults: &Section<'n>,
    accounts: &Accounts,
) -> Vec<Draft<'n>> {
    let default_port = reader.read_or_default(defaults, "port", whole::<u16>);
    let sections = reader.sections(root, "databases");
    if sections.is_absent() {
        reader.missing(root, "databases", "a list of at least one server");
    }
    if matches!(&sections, Given::Value(list) if list.is_empty()) {
        reader.reject(root.at("databases"), "found an empty list, expected at least one server");
    }
    let mut drafts = Vec::new();
    for section in sections.value().unwrap_or_default() {
        let port = match reader.read(&section, "port", whole::<u16>) {
            Given::Absent => default_port,
            given => given.value(),
        };
        drafts.push(Draft {
            host: host(reader, &section),
            port,
            role: reader.required(&section, "role", word::<Role>),
            disabled: reader.read_or_default(&section, "disabled", boolean),
            account: accounts.account(reader, &section, &accounts.defaults),
            partition: reader.texts(&section, "partition"),
            master: reader.read(&section, "master", values::text),
            weight: reader.read_or_default(&section, "weight", whole::<u32>),
            compress: reader.read_or_default(&section, "compress", boolean),
            proxy_protocol: reader.read_or_default(&section, "proxy_protocol", boolean),
            section,
        });
    }
    drafts
}

fn host(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let text = section.find("host").and_then(Node::text);
    if let Some(text) = text.filter(|text| text.starts_with('/') || text.starts_with("unix:")) {
        let message = format!(
            "found {}, a Unix socket, which is not available in this version, expected a host \
             name or IP address",
            quoted(text)
        );
        reader.reject(section.at("host"), message);
        return None;
    }
    reader.required(section, "host", values::host)
}

/// Checks the servers together, and finds the master of each replica.
pub(crate) fn finish(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    drafts: Vec<Draft<'_>>,
) -> Option<Vec<Database>> {
    check_repetition(reader, &drafts);
    if !drafts.is_empty() && drafts.iter().all(|draft| draft.role == Some(Role::Replica)) {
        let message = "found no master, expected one (with disabled: true if it is out of service)";
        reader.reject(root.at("databases"), message);
    }
    let is_partitioned = partitions::check(reader, root, &drafts);
    let masters: Vec<Option<String>> =
        drafts.iter().map(|draft| master_of(reader, &drafts, draft, is_partitioned)).collect();
    drafts.into_iter().zip(masters).map(database).collect()
}

fn database((draft, master): (Draft<'_>, Option<String>)) -> Option<Database> {
    let partition = draft.partition.value().unwrap_or_default();
    Some(Database {
        host: draft.host?,
        port: draft.port?,
        role: draft.role?,
        disabled: draft.disabled?,
        account: draft.account.value(),
        partition: partition.into_iter().map(|(_, schema)| schema).collect(),
        master,
        weight: draft.weight?,
        compress: draft.compress?,
        proxy_protocol: draft.proxy_protocol?,
    })
}

/// With `login: passthrough` the servers say who may log in, so failsoft has to come to them as the
/// client.
pub(crate) fn check_passthrough(reader: &mut Reader<'_>, drafts: &[Draft<'_>]) {
    for draft in drafts.iter().filter(|draft| !draft.account.is_absent()) {
        let message =
            "found an account for this server, expected none, as login is \"passthrough\"";
        reader.reject(draft.section.place.clone(), message);
    }
}

fn check_repetition(reader: &mut Reader<'_>, drafts: &[Draft<'_>]) {
    for (nth, draft) in drafts.iter().enumerate() {
        let Some(address) = draft.address() else { continue };
        let is_same = |other: &&Draft<'_>| other.address().is_some_and(|a| a.is_same(&address));
        if let Some(first) = drafts.iter().take(nth).find(is_same) {
            let first = first.place();
            let message =
                format!("found {address}, which is {first} already, expected each server once");
            reader.reject(draft.section.at("host"), message);
        }
    }
}

/// The key of the master that a replica follows.
fn master_of(
    reader: &mut Reader<'_>,
    drafts: &[Draft<'_>],
    draft: &Draft<'_>,
    is_partitioned: bool,
) -> Option<String> {
    let place = draft.section.at("master");
    match (draft.role?, &draft.master) {
        (Role::Master, Given::Absent) => None,
        (Role::Master, _) => {
            reader.reject(place.key(), "found on a master, expected only on replicas");
            None
        }
        (Role::Replica, Given::Broken) => None,
        (Role::Replica, Given::Value(name)) => match named_master(drafts, name) {
            Ok(master) => master,
            Err(message) => {
                reader.reject(place, message);
                None
            }
        },
        (Role::Replica, Given::Absent) if is_partitioned => {
            let known = either_of(&master_keys(drafts));
            reader.missing(&draft.section, "master", &format!("{known}, as there are several"));
            None
        }
        (Role::Replica, Given::Absent) => {
            let masters = || drafts.iter().filter(|draft| draft.is_master());
            let master = masters().find(|draft| draft.is_enabled()).or_else(|| masters().next());
            master.and_then(Draft::address).map(|address| address.to_string())
        }
    }
}

fn master_keys(drafts: &[Draft<'_>]) -> Vec<String> {
    let masters = drafts.iter().filter(|draft| draft.is_master());
    masters.filter_map(Draft::address).map(|address| address.to_string()).collect()
}

/// The key of the master that `name` means, `host` or `host:port`; `None` where it may be one of
/// the servers that are not understood.
fn named_master(drafts: &[Draft<'_>], name: &str) -> Result<Option<String>, String> {
    let wanted = Address::parse(name);
    let is_meant = |draft: &&Draft<'_>| {
        let Some(address) = draft.address() else { return false };
        match &wanted {
            Some(wanted) => address.is_same(wanted),
            None => {
                let host = name.trim_start_matches('[').trim_end_matches(']').to_owned();
                address.is_same(&Address { host, port: address.port })
            }
        }
    };
    let meant: Vec<&Draft<'_>> = drafts.iter().filter(is_meant).collect();
    let known = master_keys(drafts);
    let expected = either_of(&known);
    match meant.iter().filter(|draft| draft.is_master()).collect::<Vec<_>>().as_slice() {
        [one] => Ok(one.address().map(|address| address.to_string())),
        [_, _, ..] => Err(format!("found {name:?}, which is several, expected {expected}")),
        [] if drafts.iter().any(|draft| !draft.is_clear()) || known.is_empty() => Ok(None),
        [] if !meant.is_empty() => {
            Err(format!("found {name:?}, which is a replica, expected {expected}"))
        }
        [] => {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let near = nearest(name, &known).filter(|_| known.len() > 1);
            let meant = near.map(|near| format!(" (did you mean {near:?}?)"));
            let meant = meant.unwrap_or_default();
            Err(format!("found {name:?}, which is no database, expected {expected}{meant}"))
        }
    }
}
