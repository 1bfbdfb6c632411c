//! Where the suite lies, and its files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::{Flavor, cache_dir};

use super::case::Case;

/// The variable that names a folder with what Debian's `mariadb-test` and `mariadb-test-data` hold.
const VARIABLE: &str = "FAILSOFT_TEST_SUITE";
/// Settings of the suite's servers that are given otherwise, or make every start slower.
const NOT_TAKEN: &[&str] = &[
    "disable-getopt-prefix-matching",
    "secure-file-priv",
    "loose-performance-schema",
    "loose-ssl",
];

/// An installed suite.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The root it was unpacked to.
    root: PathBuf,
}

impl Source {
    /// Looks where the variable says, in the cache, and in the system. Says so if there is none.
    ///
    /// # Panics
    /// There is none and this is continuous integration (`CI=true`), which must not skip.
    pub(crate) fn find() -> Option<Self> {
        Flavor::MariaDb.find().ok().or_else(|| missing("MariaDB's server"))?;
        let named = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let places = [named, Some(cache_dir().join("mariadb-test/root")), Some("/".into())];
        let sources = places.into_iter().flatten().map(|root| Self { root });
        let found = { sources }.find(|source| source.program().is_file() && source.is_complete());
        found.or_else(|| missing("MariaDB's test suite"))
    }

    fn is_complete(&self) -> bool {
        self.folder().join("main").is_dir() && self.folder().join("include").is_dir()
    }

    /// The program that runs a case.
    pub(crate) fn program(&self) -> PathBuf {
        self.root.join("usr/bin/mariadb-test")
    }

    /// Libraries that came with the suite.
    pub(crate) fn libraries(&self) -> PathBuf {
        let triplet = format!("{}-linux-gnu", env::consts::ARCH);
        self.root.join("usr/lib").join(triplet)
    }

    /// The folder that the suite calls `mysql-test`.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join("usr/share/mysql/mysql-test")
    }

    /// A file of the suite, that a case or a file of it names.
    pub(crate) fn resolve(&self, name: &str) -> Option<PathBuf> {
        let folder = self.folder();
        [folder.join(name), folder.join("main").join(name)].into_iter().find(|path| path.is_file())
    }

    /// A case's script.
    pub(crate) fn script(&self, case: &str) -> PathBuf {
        self.folder().join("main").join(case).with_extension("test")
    }

    /// The output a case must have.
    pub(crate) fn result(&self, case: &str) -> PathBuf {
        self.folder().join("main").join(case).with_extension("result")
    }

    /// The arguments that the suite wants all its servers to have.
    pub(crate) fn server_arguments(&self) -> Vec<String> {
        let file = self.folder().join("include/default_mysqld.cnf");
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.lines()
            .skip_while(|line| line.trim() != "[mysqld]")
            .skip(1)
            .map(str::trim)
            .take_while(|line| !line.starts_with('['))
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .filter(|line| NOT_TAKEN.iter().all(|name| !line.starts_with(name)))
            .map(|line| match line.split_once('=') {
                Some((name, value)) => format!("--{}={}", name.trim(), value.trim()),
                None => format!("--{line}"),
            })
            .collect()
    }

    /// Every case that a server can be asked which is started once, with options; `SUITE_ONLY`
    /// chooses among them.
    pub(crate) fn all_cases(&self) -> Vec<Case> {
        let only = env::var("SUITE_ONLY").unwrap_or_default();
        let only: Vec<&str> = only.split_whitespace().collect();
        let disabled = self.disabled();
        let main = self.folder().join("main");
        let mut names: Vec<String> = fs::read_dir(&main)
            .unwrap_or_else(|error| panic!("{}: {error}", main.display()))
            .flatten()
            .filter_map(|entry| {
                entry.file_name().to_str()?.strip_suffix(".test").map(ToOwned::to_owned)
            })
            .filter(|name| only.is_empty() || only.contains(&name.as_str()))
            .filter(|name| !disabled.contains(name) && self.is_for_one_server(name))
            .collect();
        names.sort();
        let options = env::var("SUITE_OPTIONS").unwrap_or_default();
        names.into_iter().map(|name| Case::new(&format!("{name} {options}"))).collect()
    }

    fn disabled(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder().join("main/disabled.def")).unwrap_or_default();
        let listed = text.lines().filter(|line| !line.starts_with('#'));
        listed.filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    }

    /// Whether a case needs no set-up of its own, neither several servers nor a restart.
    fn is_for_one_server(&self, name: &str) -> bool {
        const SET_UP: &[&str] = &["-master.sh", ".sh", ".cnf", "-slave.opt"];
        const RESTARTS: &[&str] = &[
            "restart_mysqld",
            "shutdown_server",
            "start_mysqld",
            "kill_mysqld",
            "master-slave",
            "have_debug",
            "big_test",
        ];
        let script = read(&self.script(name));
        let beside = |suffix: &&str| self.folder().join(format!("main/{name}{suffix}")).is_file();
        !SET_UP.iter().any(beside) && !RESTARTS.iter().any(|word| script.contains(word))
    }
}

/// A file's text; the suite's files are in many character sets.
pub(crate) fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn missing<T>(what: &str) -> Option<T> {
    let told = format!("{what} is missing: run scripts/setup.sh test, or name it in {VARIABLE}");
    assert!(env::var("CI").as_deref() != Ok("true"), "{told}");
    eprintln!("skipped: {told}");
    None
}
