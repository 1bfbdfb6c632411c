//! Whether the configuration changed on disk.
//!
//! The files' metadata are looked at, once a second. That is cheap, needs no kernel interface that
//! network and overlay file systems lack, and sees every way in which a file can become another:
//! written in place, replaced by a rename, or behind a symbolic link that now leads elsewhere, as
//! Kubernetes does it with the folder that all files of a ConfigMap are in.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use config::Config;

/// What the files were like, and whether they are at rest.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When they were read.
    read: Vec<Option<u128>>,
    /// At the last look, where that was different.
    other: Option<Vec<Option<u128>>>,
}

impl Seen {
    pub(crate) fn new(read: Vec<Option<u128>>) -> Self {
        Self { read, other: None }
    }

    /// Takes a look in; whether the files are others than those that were read, and at rest: a file
    /// that is being written may be a good one of which the end is missing.
    pub(crate) fn is_other(&mut self, now: Vec<Option<u128>>) -> bool {
        if now == self.read {
            self.other = None;
            return false;
        }
        if self.other.as_ref() == Some(&now) {
            *self = Self::new(now);
            return true;
        }
        self.other = Some(now);
        false
    }
}

/// What the file and those that it names are like; none for one that is not there.
pub(crate) fn look(file: &Path, config: &Config) -> Vec<Option<u128>> {
    let named = config.files.iter().map(AsRef::as_ref);
    std::iter::once(file)
        .chain(named)
        .map(|path| path.metadata().ok().map(|it| print(&it)))
        .collect()
}

/// A number that another file, or another content, would not have.
fn print(metadata: &Metadata) -> u128 {
    let mut hasher = DefaultHasher::new();
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    (metadata.dev(), metadata.size(), seconds, nanos, metadata.ctime_nsec()).hash(&mut hasher);
    u128::from(metadata.ino()) << 64 | u128::from(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_counts_once_it_is_at_rest() {
        // what each look finds, whether it is time to read it
        let looks = "aabbbcdeeaab";
        let expected = "---+----+-+-";
        let mut seen = Seen::new(vec![Some(u128::from(b'a'))]);
        let found: String = looks
            .bytes()
            .map(|look| if seen.is_other(vec![Some(look.into())]) { '+' } else { '-' })
            .collect();
        assert_eq!(found, expected, "{looks}");
    }

    #[test]
    fn every_way_of_changing_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = "defaults: {user: app, pass_file: pass}\ndatabases: [{host: a, role: master}]\n";
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("failsoft.yaml"), text).unwrap();
            fs::write(at(version).join("pass"), version).unwrap();
        }
        symlink("one", at("data")).unwrap();
        symlink("data/failsoft.yaml", at("failsoft.yaml")).unwrap();
        symlink("data/pass", at("pass")).unwrap();
        let config = Config::load(&at("failsoft.yaml")).unwrap();
        let mut before = Vec::new();
        let mut is_new = |what: &str| {
            let now = look(&at("failsoft.yaml"), &config);
            assert_ne!(now, before, "{what}");
            assert_eq!(now, look(&at("failsoft.yaml"), &config), "{what}: and nothing else");
            assert_eq!(now.len(), 2);
            before = now;
        };
        is_new("the first look");
        // As Kubernetes does it.
        symlink("two", at("next")).unwrap();
        fs::rename(at("next"), at("data")).unwrap();
        is_new("a link that leads elsewhere");
        fs::write(at("two/failsoft.yaml"), format!("{text}threads: 2\n")).unwrap();
        is_new("written in place");
        fs::write(at("other"), text).unwrap();
        fs::rename(at("other"), at("two/failsoft.yaml")).unwrap();
        is_new("renamed over it");
        fs::write(at("two/pass"), "three").unwrap();
        is_new("a file that it names");
        fs::remove_file(at("data")).unwrap();
        is_new("gone");
    }
}
