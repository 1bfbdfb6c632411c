//! One case: what it wants of its server, and who logs in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::source::{Source, read};

/// What the server has in any case, so that it need not be started anew for it.
const ALWAYS_ON: &[&str] = &["--loose-sequence", "--loose-enable-partition"];

/// One case of the suite.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// Options of `mariadb-test`, as `--ps-protocol`.
    pub(crate) options: Vec<String>,
    /// Options its server is started with.
    pub(crate) server: Vec<String>,
    /// Who it logs in as, and with which password: failsoft has to know them.
    pub(crate) accounts: BTreeMap<String, String>,
}

impl Case {
    /// From a line of a list: a name, then options.
    pub(crate) fn new(line: &str) -> Self {
        let mut words = line.split_whitespace().map(ToOwned::to_owned);
        Self { name: words.next().unwrap_or_default(), options: words.collect(), ..Self::default() }
    }

    /// With what its files say of servers and accounts.
    pub(crate) fn completed(mut self, source: &Source) -> Self {
        let mut seen = Vec::new();
        let mut logins = BTreeMap::new();
        self.read(source, &source.script(&self.name), &mut seen, &mut logins);
        logins.remove("root");
        let mut known = Vec::new();
        self.server.retain(|option| {
            let is_new = !known.contains(option) && !ALWAYS_ON.contains(&option.as_str());
            known.push(option.clone());
            is_new
        });
        self.accounts = logins.into_iter().map(|(name, given)| (name, usual(given))).collect();
        self
    }

    fn read(
        &mut self,
        source: &Source,
        path: &Path,
        seen: &mut Vec<PathBuf>,
        logins: &mut BTreeMap<String, Vec<String>>,
    ) {
        if seen.iter().any(|known| known == path) {
            return;
        }
        seen.push(path.to_owned());
        for suffix in ["opt", "master.opt"] {
            self.server.extend(options_beside(path, suffix, source));
        }
        for line in read(path).lines() {
            let line = line.trim().trim_start_matches("--").trim_start();
            if let Some(included) = after(line, "source").and_then(|name| source.resolve(name)) {
                self.read(source, &included, seen, logins);
            }
            if let Some((name, pass)) = login(line) {
                logins.entry(name).or_default().push(pass);
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.options.iter().try_for_each(|option| write!(f, " {option}"))
    }
}

/// The options in `NAME.opt` or `NAME-master.opt` beside a script.
fn options_beside(script: &Path, suffix: &str, source: &Source) -> Vec<String> {
    let stem = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let separator = if suffix == "opt" { '.' } else { '-' };
    let text = read(&script.with_file_name(format!("{stem}{separator}{suffix}")));
    let folder = source.folder().to_string_lossy().into_owned();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(words)
        .map(|word| word.replace("$MYSQL_TEST_DIR", &folder))
        .collect()
}

/// The words of a line as a shell sees them, where quotes hold blanks together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', Some('"')) => word.get_or_insert_default().extend(letters.next()),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, Some(opened)) if letter == opened => quote = None,
            (_, None) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What follows a word of the script's language, without the delimiter.
fn after<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = line.split_at_checked(word.len())?;
    if !start.eq_ignore_ascii_case(word) {
        return None;
    }
    rest.starts_with(|c: char| c.is_whitespace() || c == '(')
        .then(|| rest.trim().trim_end_matches(';').trim())
}

/// The user and the password of a line that logs in: `connect (name, host, user, password, …)`,
/// `change_user user, password`, or a command with `--user=user` and perhaps `--password=password`.
fn login(line: &str) -> Option<(String, String)> {
    if after(line, "exec").is_some() {
        let option = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let user = option("--user=").or_else(|| option("-u")).filter(|user| is_name(user))?;
        let pass = option("--password=").or_else(|| option("-p")).unwrap_or_default();
        return Some((user.to_owned(), pass.to_owned()));
    }
    let (arguments, skipped) = match after(line, "connect") {
        Some(arguments) => (arguments.trim_start_matches('('), 2),
        None => (after(line, "change_user")?, 0),
    };
    let mut words = arguments.split(',').skip(skipped).map(|word| {
        word.trim().trim_matches(|c| matches!(c, '"' | '\'' | '`' | ')' | ';')).trim().to_owned()
    });
    let user = words.next().filter(|user| is_name(user))?;
    Some((user, words.next().unwrap_or_default()))
}

fn is_name(user: &str) -> bool {
    !user.is_empty() && !user.contains(['$', '"', '\''])
}

/// The password that is given most often; others are there to be refused.
fn usual(given: Vec<String>) -> String {
    let count = |pass: &String| given.iter().filter(|other| *other == pass).count();
    given.iter().max_by_key(|pass| count(pass)).cloned().unwrap_or_default()
}
