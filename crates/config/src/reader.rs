//! Takes settings out of the tree one by one and collects whatever is wrong on the way.
//!
//! A [`Section`] is a mapping of the file whose keys were checked against the table of settings.
//! [`Reader`] reads single keys of it. A setting that is wrong is reported once, where it stands,
//! and then counts as [`Given::Broken`]: checks that need it keep quiet.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::expand::{Env, expand, is_variable, variable};
use crate::locate::{Place, Step};
use crate::node::{Entry, Node, quoted};
use crate::problem::Problem;
use crate::secret::Secret;
use crate::settings::{Kind, Setting, either, keys_of, setting};
use crate::values::{guess, nearest};

/// The longest secret that is read from a file, in bytes.
const SECRET_MAX: u64 = 64 * 1024;

/// The keys of a secret: as it is, in a variable, in a file.
pub(crate) type SecretKeys = [&'static str; 3];

/// The keys of an account's password.
pub(crate) const PASS: SecretKeys = ["pass", "pass_env", "pass_file"];

/// What the file says of a setting.
#[derive(Clone, Debug)]
pub(crate) enum Given<T> {
    /// Nothing.
    Absent,
    /// Something wrong, which was reported.
    Broken,
    /// This.
    Value(T),
}

impl<T> Given<T> {
    /// The value, if it is there and right.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A mapping of the file, or the empty one where the file has none.
#[derive(Clone, Debug)]
pub(crate) struct Section<'n> {
    /// Where it stands.
    pub(crate) place: Place,
    /// How the table of settings calls it: `databases[]`.
    name: String,
    entries: &'n [Entry],
    /// It is no mapping at all, which was reported: no use to ask for the keys it should have.
    is_broken: bool,
}

impl<'n> Section<'n> {
    /// Where a key's value stands, or would stand.
    pub(crate) fn at(&self, key: &str) -> Place {
        let nth = self.entries.iter().position(|entry| entry.key == key);
        self.place.join(Step::Key(key.to_owned(), nth))
    }

    /// The value of a key.
    pub(crate) fn find(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The row of the table for one of this section's keys.
    fn setting(&self, key: &str) -> Option<&'static Setting> {
        let found = setting(&inside(&self.name, key));
        debug_assert!(found.is_some(), "no setting {key} in {}", self.name);
        found
    }
}

/// How the table of settings calls a key of a section.
fn inside(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Something wrong, and where.
struct Finding {
    place: Place,
    message: String,
}

/// Reads settings and collects problems.
pub(crate) struct Reader<'a> {
    env: Env<'a>,
    /// Where files with relative names are.
    folder: PathBuf,
    /// The files that the text names.
    pub(crate) files: BTreeSet<PathBuf>,
    findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &str, env: Env<'a>) -> Self {
        let folder = Path::new(file).parent().map(Path::to_owned).unwrap_or_default();
        Self { env, folder, files: BTreeSet::new(), findings: Vec::new() }
    }

    /// Notes a problem: what was found, what was expected.
    pub(crate) fn reject(&mut self, place: Place, message: impl Into<String>) {
        self.findings.push(Finding { place, message: message.into() });
    }

    pub(crate) fn has_problems(&self) -> bool {
        !self.findings.is_empty()
    }

    /// All problems, with their positions in `text`.
    pub(crate) fn into_problems(self, text: &str) -> Vec<Problem> {
        let problem = |Finding { place, message }: Finding| Problem {
            position: place.find(text),
            path: place.to_string(),
            message,
        };
        self.findings.into_iter().map(problem).collect()
    }

    /// Replaces the variables in all texts.
    pub(crate) fn expand(&mut self, node: &mut Node, place: &Place) {
        match node {
            Node::Text(text) => match expand(text, self.env) {
                Ok(expanded) => *node = expanded,
                Err(message) => {
                    self.reject(place.clone(), message);
                    *node = Node::Broken;
                }
            },
            Node::List(items) => {
                for (nth, item) in items.iter_mut().enumerate() {
                    self.expand(item, &place.join(Step::Index(nth)));
                }
            }
            Node::Map(entries) => {
                for (nth, Entry { key, value }) in entries.iter_mut().enumerate() {
                    self.expand(value, &place.join(Step::Key(key.clone(), Some(nth))));
                }
            }
            _ => {}
        }
    }

    /// The file's outermost mapping.
    pub(crate) fn root<'n>(&mut self, node: &'n Node) -> Section<'n> {
        self.enter(Place::root(), "", node)
    }

    /// The mapping of a key.
    pub(crate) fn section<'n>(&mut self, parent: &Section<'n>, key: &str) -> Section<'n> {
        let name = inside(&parent.name, key);
        match parent.find(key) {
            Some(node) => self.enter(parent.at(key), &name, node),
            None => Section { place: parent.at(key), name, entries: &[], is_broken: false },
        }
    }

    /// The mappings in the list of a key.
    pub(crate) fn sections<'n>(
        &mut self,
        parent: &Section<'n>,
        key: &str,
    ) -> Given<Vec<Section<'n>>> {
        let name = inside(&parent.name, key) + "[]";
        let place = parent.at(key);
        match parent.find(key) {
            None => Given::Absent,
            Some(Node::List(items)) => {
                let element = |(nth, node)| self.enter(place.join(Step::Index(nth)), &name, node);
                Given::Value(items.iter().enumerate().map(element).collect())
            }
            Some(other) => {
                self.mismatch(place, other, Kind::Mappings);
                Given::Broken
            }
        }
    }

    fn enter<'n>(&mut self, place: Place, name: &str, node: &'n Node) -> Section<'n> {
        let Node::Map(entries) = node else {
            if *node != Node::Broken {
                let keys = keys_of(name).join(", ");
                let found = node.describe();
                self.reject(place.clone(), format!("found {found}, expected a mapping of {keys}"));
            }
            return Section { place, name: name.to_owned(), entries: &[], is_broken: true };
        };
        for (nth, entry) in entries.iter().enumerate() {
            self.check_key(&place, name, entries, (nth, entry));
        }
        Section { place, name: name.to_owned(), entries, is_broken: false }
    }

    fn check_key(
        &mut self,
        place: &Place,
        section: &str,
        entries: &[Entry],
        (nth, Entry { key, .. }): (usize, &Entry),
    ) {
        let at = place.join(Step::Key(key.clone(), Some(nth))).key();
        let known = keys_of(section);
        if !known.contains(&key.as_str()) {
            let message = match nearest(key, &known) {
                Some(near) => format!("found an unknown key (did you mean {near:?}?)"),
                None => format!("found an unknown key, expected {}", one_of(&known)),
            };
            self.reject(at, message);
        } else if entries.iter().take(nth).any(|earlier| earlier.key == *key) {
            self.reject(at, "found the key a second time, expected it once");
        }
    }

    /// Reads a key with one of the functions of [`crate::values`].
    pub(crate) fn read<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        parse: fn(&Node, Kind) -> Option<T>,
    ) -> Given<T> {
        let (Some(node), Some(setting)) = (section.find(key), section.setting(key)) else {
            return Given::Absent;
        };
        match parse(node, setting.kind) {
            Some(value) => Given::Value(value),
            None => {
                self.mismatch(section.at(key), node, setting.kind);
                Given::Broken
            }
        }
    }

    /// Reads a key, or its default from the table of settings.
    pub(crate) fn read_or_default<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        parse: fn(&Node, Kind) -> Option<T>,
    ) -> Option<T> {
        match self.read(section, key, parse) {
            Given::Value(value) => Some(value),
            Given::Broken => None,
            Given::Absent => section
                .setting(key)
                .and_then(|row| parse(&Node::Expanded(row.default.to_owned()), row.kind)),
        }
    }

    /// Reads a key that must be there.
    pub(crate) fn required<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        parse: fn(&Node, Kind) -> Option<T>,
    ) -> Option<T> {
        if section.find(key).is_none()
            && let Some(setting) = section.setting(key)
        {
            self.missing(section, key, &setting.kind.expected());
        }
        self.read(section, key, parse).value()
    }

    /// Notes that a key is not there.
    pub(crate) fn missing(&mut self, section: &Section<'_>, key: &str, expected: &str) {
        if !section.is_broken {
            self.reject(section.at(key), format!("found none, expected {expected}"));
        }
    }

    /// Reads a list of texts, or a single one, with their places.
    pub(crate) fn texts(
        &mut self,
        section: &Section<'_>,
        key: &str,
    ) -> Given<Vec<(Place, String)>> {
        let (Some(node), Some(setting)) = (section.find(key), section.setting(key)) else {
            return Given::Absent;
        };
        let place = section.at(key);
        let (texts, has_all) = match node {
            Node::List(items) => {
                let places = (0..).map(|nth| place.join(Step::Index(nth)));
                self.only_texts(items.iter().zip(places), setting.kind)
            }
            single => self.only_texts([(single, place.clone())].into_iter(), setting.kind),
        };
        if texts.is_empty() && has_all {
            self.reject(place, "found an empty list, expected at least one element");
            return Given::Broken;
        }
        if has_all { Given::Value(texts) } else { Given::Broken }
    }

    fn only_texts<'n>(
        &mut self,
        items: impl Iterator<Item = (&'n Node, Place)>,
        kind: Kind,
    ) -> (Vec<(Place, String)>, bool) {
        let mut texts = Vec::new();
        let mut has_all = true;
        for (item, place) in items {
            match item.text() {
                Some(text) => texts.push((place, text.to_owned())),
                None => {
                    has_all = false;
                    self.mismatch(place, item, kind);
                }
            }
        }
        (texts, has_all)
    }

    /// Reads the name of a file that is read; a relative one starts from the configuration file.
    pub(crate) fn file(&mut self, section: &Section<'_>, key: &str) -> Given<PathBuf> {
        let path = self.path(section, key);
        if let Given::Value(path) = &path {
            self.files.insert(path.clone());
        }
        path
    }

    /// Reads the name of a file that is written; a relative one starts from the configuration file.
    pub(crate) fn path(&mut self, section: &Section<'_>, key: &str) -> Given<PathBuf> {
        match self.read(section, key, crate::values::text) {
            Given::Value(name) => Given::Value(self.folder.join(name)),
            Given::Absent => Given::Absent,
            Given::Broken => Given::Broken,
        }
    }

    /// Reads a secret from whichever of its three keys is there.
    pub(crate) fn secret(&mut self, section: &Section<'_>, keys: SecretKeys) -> Given<Secret> {
        let mut present = keys.into_iter().filter(|key| section.find(key).is_some());
        let Some(key) = present.next() else { return Given::Absent };
        if let Some(second) = present.next() {
            let message = format!("found beside {key}, expected only {}", one_of(&keys));
            self.reject(section.at(second).key(), message);
            return Given::Broken;
        }
        let [plain, in_variable, _] = keys;
        if key == plain {
            self.plain_secret(section, key)
        } else if key == in_variable {
            self.secret_variable(section, key)
        } else {
            self.secret_file(section, key)
        }
    }

    fn plain_secret(&mut self, section: &Section<'_>, key: &str) -> Given<Secret> {
        match section.find(key) {
            None => Given::Absent,
            Some(Node::Broken) => Given::Broken,
            Some(Node::Text(text) | Node::Expanded(text)) => {
                Given::Value(Secret::new(text.clone()))
            }
            Some(other) => {
                let message = format!("found {}, expected a text in quotes", other.sort());
                self.reject(section.at(key), message);
                Given::Broken
            }
        }
    }

    fn secret_variable(&mut self, section: &Section<'_>, key: &str) -> Given<Secret> {
        let name = match section.find(key) {
            Some(Node::Broken) => return Given::Broken,
            node => node.and_then(Node::text).filter(|name| is_variable(name)),
        };
        let value = match name.map(|name| variable(name, self.env)) {
            None => Err("found no variable's name, expected one such as DB_PASS".to_owned()),
            Some(Ok(value)) if value.is_empty() => {
                Err("found an empty environment variable, expected a secret in it".to_owned())
            }
            Some(value) => value,
        };
        self.secret_or_reject(section.at(key), value)
    }

    fn secret_file(&mut self, section: &Section<'_>, key: &str) -> Given<Secret> {
        let path = match self.file(section, key) {
            Given::Value(path) => path,
            Given::Absent => return Given::Absent,
            Given::Broken => return Given::Broken,
        };
        self.secret_or_reject(section.at(key), read_secret(&path))
    }

    fn secret_or_reject(&mut self, place: Place, secret: Result<String, String>) -> Given<Secret> {
        match secret {
            Ok(secret) => Given::Value(Secret::new(secret)),
            Err(message) => {
                self.reject(place, message);
                Given::Broken
            }
        }
    }

    /// Notes that a value is not what its setting takes.
    pub(crate) fn mismatch(&mut self, place: Place, node: &Node, kind: Kind) {
        if *node == Node::Broken {
            return;
        }
        let found = match kind {
            Kind::Secret | Kind::Variable => node.sort().to_owned(),
            _ => node.describe(),
        };
        let meant = guess(node, kind).map(|guess| match kind {
            Kind::Word(_) => format!(" (did you mean {guess:?}?)"),
            _ => format!(" (did you mean {guess}?)"),
        });
        let expected = kind.expected();
        let meant = meant.unwrap_or_default();
        self.reject(place, format!("found {found}, expected {expected}{meant}"));
    }
}

/// The secret in a file, without the line's end.
fn read_secret(path: &Path) -> Result<String, String> {
    let shown = quoted(&path.display().to_string());
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(SECRET_MAX + 1).read_to_string(&mut text)).map_err(
        |error| format!("found {shown}, which cannot be read: {error}; expected a text file"),
    )?;
    let secret = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    match secret.unwrap_or(&text) {
        "" => Err(format!("found {shown} empty, expected a secret in it")),
        _ if text.len() as u64 > SECRET_MAX => {
            Err(format!("found {shown} longer than 64 KiB, expected a secret in it"))
        }
        secret => Ok(secret.to_owned()),
    }
}

/// `"a", "b" or "c"`, for texts.
pub(crate) fn either_of(texts: &[String]) -> String {
    either(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// `one of a, b, c`, for keys.
pub(crate) fn one_of(keys: &[&str]) -> String {
    format!("one of {}", keys.join(", "))
}
