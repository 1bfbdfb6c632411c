//! Which kind of server, and where its program is on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use crate::NotFound;

/// A family of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// MariaDB, 10.5 or later.
    MariaDb,
    /// Oracle MySQL, 8.0.23 or later, and what is made from it.
    MySql,
}

/// How to find one flavour's server.
struct Search {
    /// Environment variable that holds a command with arguments; it wins.
    variable: &'static str,
    /// Names to look for on the path.
    names: &'static [&'static str],
    /// Launcher in the cache folder, put there by `scripts/setup.sh`.
    launcher: Option<&'static str>,
}

const MARIADB: Search =
    Search { variable: "FAILSOFT_TEST_MARIADBD", names: &["mariadbd", "mysqld"], launcher: None };
const MYSQL: Search =
    Search { variable: "FAILSOFT_TEST_MYSQLD", names: &["mysqld"], launcher: Some("mysql/mysqld") };

/// Where servers are installed although an ordinary user's path does not say so.
const SYSTEM_FOLDERS: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/bin"];

/// A server's program, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    flavor: Flavor,
    command: Vec<OsString>,
    version: String,
}

impl Flavor {
    /// Every flavour.
    #[must_use]
    pub const fn all() -> [Self; 2] {
        [Self::MariaDb, Self::MySql]
    }

    /// Finds the server's program: the environment's command, then the path, then the cache folder.
    ///
    /// A `mysqld` that says it is MariaDB counts as MariaDB, and only as that. Runs the candidates
    /// with `--version`.
    ///
    /// # Errors
    /// There is none on this machine.
    pub fn find(self) -> Result<Program, NotFound> {
        let search = self.search();
        if let Some(command) = env::var_os(search.variable).filter(|value| !value.is_empty()) {
            let words = command.to_string_lossy();
            let command = words.split_whitespace().map(OsString::from).collect();
            return self.check(command).ok_or_else(|| NotFound {
                flavor: self,
                looked_for: format!("the command in {}, `{words}`", search.variable),
            });
        }
        search
            .candidates()
            .into_iter()
            .find_map(|path| self.check(vec![path.into_os_string()]))
            .ok_or_else(|| search.not_found(self))
    }

    const fn search(self) -> Search {
        match self {
            Self::MariaDb => MARIADB,
            Self::MySql => MYSQL,
        }
    }

    /// The program, if it runs and is of this flavour.
    fn check(self, command: Vec<OsString>) -> Option<Program> {
        let (name, arguments) = command.split_first()?;
        let output = Command::new(name).args(arguments).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version_in(&text)?.to_owned();
        let flavor = if text.contains("MariaDB") { Self::MariaDb } else { Self::MySql };
        (output.status.success() && flavor == self).then_some(Program { flavor, command, version })
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        })
    }
}

impl Search {
    fn candidates(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = self.names.iter().flat_map(|name| on_path(name)).collect();
        found.extend(self.launcher());
        found.retain(|path| path.is_file());
        found
    }

    fn launcher(&self) -> Option<PathBuf> {
        Some(cache_dir().join(self.launcher?))
    }

    fn not_found(&self, flavor: Flavor) -> NotFound {
        let names = self.names.join(" and ");
        let launcher = self.launcher().map(|path| format!(", for {}", path.display()));
        let looked_for = format!(
            "{names} on the path and in {}{}, and for a command in {}",
            SYSTEM_FOLDERS.join(", "),
            launcher.unwrap_or_default(),
            self.variable,
        );
        NotFound { flavor, looked_for }
    }
}

impl Program {
    /// The flavour it is of.
    #[must_use]
    pub const fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Its version, as it gives it: `10.11.6-MariaDB`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The command and its leading arguments.
    #[must_use]
    pub fn command(&self) -> &[OsString] {
        &self.command
    }

    /// The folder that the program lies in, where it is named by a path.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let path = Path::new(self.command.first()?);
        path.canonicalize().ok()?.parent().map(Path::to_path_buf)
    }
}

/// Where downloaded servers and templates are kept: `FAILSOFT_CACHE`, or `failsoft` in the user's
/// cache folder, or in the temporary folder of a user who has no home.
#[must_use]
pub fn cache_dir() -> PathBuf {
    let given = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given("FAILSOFT_CACHE")
        .or_else(|| given("HOME").map(|home| home.join(".cache/failsoft")))
        .unwrap_or_else(|| env::temp_dir().join("failsoft-cache"))
}

/// Every file of this name on the path and in the system's folders.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .filter(|file| file.is_file())
        .collect()
}

/// The word after `Ver` in what a server says about itself.
fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace().skip_while(|&word| word != "Ver").nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_that_servers_print() {
        let rows = [
            (
                "mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)",
                Some("10.11.6-MariaDB-0+deb12u1"),
            ),
            ("/x/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", Some("9.7.4-2")),
            ("command not found", None),
            ("", None),
        ];
        for (text, version) in rows {
            assert_eq!(version_in(text), version, "{text}");
        }
    }

    #[test]
    fn a_program_of_another_flavour_is_not_taken() {
        let echo = |text: &str| {
            ["sh", "-c"]
                .map(OsString::from)
                .into_iter()
                .chain([OsString::from(format!("echo '{text}'"))])
                .collect::<Vec<_>>()
        };
        let mariadb = echo("mysqld  Ver 10.11.6-MariaDB for Linux");
        assert_eq!(Flavor::MySql.check(mariadb.clone()), None);
        assert!(Flavor::MariaDb.check(mariadb).is_some());
        assert_eq!(Flavor::MariaDb.check(echo("mysqld  Ver 9.7.4-2 for Linux")), None);
    }

    #[test]
    fn says_where_it_looked() {
        let error = MYSQL.not_found(Flavor::MySql).to_string();
        for part in ["MySQL", "mysqld", "FAILSOFT_TEST_MYSQLD", "setup.sh"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
