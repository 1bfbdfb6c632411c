//! Where failsoft itself listens, and that nothing else is there.

use std::path::PathBuf;

use crate::address::Address;
use crate::databases::Draft;
use crate::locate::Place;
use crate::model::{Admin, Listen};
use crate::node::{Node, quoted};
use crate::reader::{Given, Reader, Section, one_of};
use crate::settings::{Kind, setting};
use crate::values::address_or_off;

/// The keys of the admin token.
const TOKEN: [&str; 3] = ["token", "token_env", "token_file"];

/// The longest path of a Unix socket that Linux takes, in bytes.
const SOCKET_MAX: usize = 107;

/// An address of failsoft's own.
#[derive(Debug)]
struct Own {
    /// Where the file says so, or would.
    place: Place,
    /// The file does not say so.
    is_default: bool,
    listen: Listen,
}

impl Own {
    fn address(&self) -> Option<Address> {
        match &self.listen {
            Listen::Tcp(text) => Address::parse(text),
            Listen::Unix(_) => None,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self.address(), other.address()) {
            (Some(a), Some(b)) => a.overlaps(&b),
            (None, None) => self.listen == other.listen,
            _ => false,
        }
    }
}

/// Reads `listen` and `admin`, and checks that no address is used twice, be it by a database.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    databases: &[Draft<'_>],
) -> (Vec<Listen>, Option<Admin>) {
    let section = &reader.section(root, "admin");
    let mut own = listen(reader, root);
    let listen: Vec<Listen> = own.iter().map(|own| own.listen.clone()).collect();
    let http = admin_address(reader, section, "http", &mut own);
    let mysql = admin_address(reader, section, "mysql", &mut own);
    let token = reader.secret(section, TOKEN);
    if matches!(&token, Given::Value(token) if token.expose().is_empty()) {
        reader.reject(section.at("token"), "found an empty text, expected a token");
    }
    if token.is_absent() {
        check_loopback(reader, section, [("http", &http), ("mysql", &mysql)]);
    }
    check_own(reader, &own);
    check_databases(reader, &own, databases);
    let written = |address: Option<Address>| address.map(|address| address.to_string());
    let admin = match (http, mysql) {
        (Some(http), Some(mysql)) => {
            Some(Admin { http: written(http), mysql: written(mysql), token: token.value() })
        }
        _ => None,
    };
    (listen, admin)
}

fn listen(reader: &mut Reader<'_>, root: &Section<'_>) -> Vec<Own> {
    let texts = reader.texts(root, "listen");
    let is_default = texts.is_absent();
    let texts = match texts {
        Given::Value(texts) => texts,
        Given::Broken => Vec::new(),
        Given::Absent => {
            let default = setting("listen").map(|setting| setting.default.to_owned());
            default.into_iter().map(|text| (root.at("listen"), text)).collect()
        }
    };
    let mut own = Vec::new();
    for (place, text) in texts {
        match text.strip_prefix("unix:") {
            Some(path) if is_socket(path) => {
                own.push(Own { place, is_default, listen: Listen::Unix(PathBuf::from(path)) });
            }
            Some(path) => {
                let found = quoted(path);
                let message = format!(
                    "found the socket {found}, expected an absolute path of at most {SOCKET_MAX} \
                     bytes"
                );
                reader.reject(place, message);
            }
            None if Address::parse(&text).is_some() => {
                own.push(Own { place, is_default, listen: Listen::Tcp(text) });
            }
            None => reader.mismatch(place, &Node::Text(text), Kind::Listens),
        }
    }
    own
}

fn is_socket(path: &str) -> bool {
    path.starts_with('/') && path.len() <= SOCKET_MAX && !path.contains(char::is_control)
}

fn admin_address(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    own: &mut Vec<Own>,
) -> Option<Option<Address>> {
    let found = reader.read_or_default(section, key, address_or_off);
    if let Some(Some(address)) = &found {
        own.push(Own {
            place: section.at(key),
            is_default: section.find(key).is_none(),
            listen: Listen::Tcp(address.to_string()),
        });
    }
    found
}

/// Without a token, who can reach an admin address must be on this machine.
fn check_loopback(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    addresses: [(&str, &Option<Option<Address>>); 2],
) {
    for (key, address) in addresses {
        if let Some(Some(address)) = address
            && !address.is_loopback()
        {
            let message = format!(
                "found \"{address}\", which is not on loopback, expected {} beside it",
                one_of(&TOKEN)
            );
            reader.reject(section.at(key), message);
        }
    }
}

fn check_own(reader: &mut Reader<'_>, own: &[Own]) {
    for (nth, second) in own.iter().enumerate() {
        let Some(first) = own.iter().take(nth).find(|first| first.overlaps(second)) else {
            continue;
        };
        // A default cannot be blamed: the file says nothing there.
        let (blamed, other) = if second.is_default { (first, second) } else { (second, first) };
        let default = if other.is_default { ", by default" } else { "" };
        let message = format!(
            "found \"{}\", where {} (\"{}\"{default}) listens already, expected another address",
            blamed.listen, other.place, other.listen
        );
        reader.reject(blamed.place.clone(), message);
    }
}

fn check_databases(reader: &mut Reader<'_>, own: &[Own], databases: &[Draft<'_>]) {
    for own in own {
        let Some(address) = own.address() else { continue };
        for draft in databases {
            let Some(server) = draft.address().filter(|server| address.is_reached_as(server))
            else {
                continue;
            };
            if own.is_default {
                let message = format!(
                    "found {server}, where failsoft itself listens ({}, by default), expected \
                     another server, or another {}",
                    own.place, own.place
                );
                reader.reject(draft.section.at("host"), message);
            } else {
                let message = format!(
                    "found \"{address}\", which is {}, expected an address of failsoft's own",
                    draft.place()
                );
                reader.reject(own.place.clone(), message);
            }
        }
    }
}
