//! What a session set: as few `SET`s, in their order, as give another server the same state.
//!
//! A `SET` is forgotten once a later one sets the same things, unless something between them depends
//! on it: `SET @x = 1`, `SET @y = @x`, `SET @x = 2` are all needed. So is the character set or the
//! SQL mode under which a text was read, and that under which a statement was prepared.

use sql::{Assignment, ValueKind};

/// How many `SET`s are remembered. Pools set a dozen things over and over, of which the latest is
/// kept.
pub(crate) const MOST_SETTINGS: usize = 64;

/// How many bytes of them.
const MOST_BYTES: usize = 64 * 1024;

/// What says how a text is to be read, and what a prepared statement keeps of the moment it was
/// prepared in (seen on MySQL 9.7 and MariaDB 10.11).
const READINGS: &[&str] = &[
    "names",
    "character set",
    "character_set_client",
    "character_set_connection",
    "collation_connection",
    "sql_mode",
];

/// The variables of character sets, some of which set others of them.
const CHARSETS: &[&str] = &[
    "names",
    "character set",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
];

/// The lists of variables of which one that is set changes others.
const RELATED: &[&[&str]] = &[CHARSETS, &["max_join_size", "sql_big_selects"]];

/// What the current schema changes, or what it is taken from.
const OF_SCHEMA: &[&str] = &["character set", "character_set_database", "collation_database"];

/// A `SET` of the session's.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The statement.
    pub(crate) sql: Vec<u8>,
    /// Its place among all that was set and prepared.
    pub(crate) at: u64,
    /// The current schema when it was set, empty for none, where what it sets depends on that.
    pub(crate) schema: Option<Vec<u8>>,
    /// What it sets.
    names: Vec<String>,
    needs: Needs,
}

/// What of an earlier `SET` a later one depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Needs {
    Nothing,
    /// How a text is read.
    Readings,
    /// What it sets itself: a user variable that becomes NULL keeps its type.
    Itself,
    Everything,
}

/// The settings.
#[derive(Debug, Default)]
pub(crate) struct Settings(Vec<Setting>);

impl Settings {
    /// The settings in their order.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether the schema of some moment matters to one of them.
    pub(crate) fn depend_on_schemas(&self) -> bool {
        self.0.iter().any(|setting| setting.schema.is_some())
    }

    /// Where the last of them stands that changes how a text is read.
    pub(crate) fn last_reading(&self) -> u64 {
        let mut readings = self.0.iter().filter(|setting| setting.is_reading());
        readings.next_back().map_or(0, |setting| setting.at)
    }

    /// Adds a `SET` that succeeded; false when there are too many to remember.
    ///
    /// `prepared` has the places of the statements that are prepared.
    pub(crate) fn add(&mut self, setting: Setting, prepared: &dyn Fn() -> Vec<u64>) -> bool {
        if self.has_already(&setting) {
            return true;
        }
        self.0.push(setting);
        self.forget(prepared);
        if !self.are_few() {
            // Rather forget what statements were prepared under, as most are not read otherwise.
            self.forget(&Vec::new);
        }
        let are_few = self.are_few();
        if !are_few {
            self.0.pop();
        }
        are_few
    }

    fn are_few(&self) -> bool {
        let bytes: usize = self.0.iter().map(|setting| setting.sql.len()).sum();
        self.0.len() <= MOST_SETTINGS && bytes <= MOST_BYTES
    }

    /// Whether the last that set the same was the same.
    fn has_already(&self, new: &Setting) -> bool {
        let last = self.0.iter().rev().find(|old| old.overlaps(new));
        let may = matches!(new.needs, Needs::Nothing | Needs::Readings) && new.schema.is_none();
        // Between the two the same text may have come to mean something else.
        let is_read_as =
            |old: &Setting| new.needs == Needs::Nothing || self.last_reading() < old.at;
        may && last.is_some_and(|old| old.sql == new.sql && is_read_as(old))
    }

    /// Forgets what nothing needs any more.
    fn forget(&mut self, prepared: &dyn Fn() -> Vec<u64>) {
        for at in (0..self.0.len()).rev() {
            let is_forgotten = match self.0.get(at..) {
                Some([old, later @ ..]) => old.is_overtaken(later, prepared),
                _ => false,
            };
            if is_forgotten {
                self.0.remove(at);
            }
        }
    }
}

impl Setting {
    /// A `SET` with these assignments.
    pub(crate) fn new(sql: &[u8], assignments: &[Assignment], at: u64, schema: &[u8]) -> Self {
        let names: Vec<String> = assignments.iter().map(|a| a.name.clone()).collect();
        let needs = needs(sql, assignments);
        let of_schema = names.iter().any(|name| OF_SCHEMA.contains(&name.as_str()));
        let schema = (of_schema || needs == Needs::Everything).then(|| schema.to_vec());
        Self { sql: sql.to_vec(), at, schema, names, needs }
    }

    fn is_reading(&self) -> bool {
        self.touches(READINGS)
    }

    fn touches(&self, list: &[&str]) -> bool {
        self.names.iter().any(|name| list.contains(&name.as_str()))
    }

    /// Whether both set something.
    fn overlaps(&self, other: &Self) -> bool {
        RELATED.iter().any(|list| self.touches(list) && other.touches(list))
            || self.names.iter().any(|name| other.names.contains(name))
    }

    /// Whether one of `later` sets all that this one does, and nothing up to there needs it.
    fn is_overtaken(&self, later: &[Self], prepared: &dyn Fn() -> Vec<u64>) -> bool {
        for other in later {
            if other.depends_on(self) {
                return false;
            }
            let sets_all = self.names.iter().all(|name| other.names.contains(name));
            if sets_all && other.needs != Needs::Everything {
                let between = |at: &u64| (self.at..other.at).contains(at);
                return !(self.is_reading() && prepared().iter().any(between));
            }
        }
        false
    }

    fn depends_on(&self, earlier: &Self) -> bool {
        match self.needs {
            Needs::Nothing => false,
            Needs::Readings => earlier.is_reading(),
            // What was NULL already has its type from before.
            Needs::Itself => earlier.needs != Needs::Itself && self.overlaps(earlier),
            Needs::Everything => true,
        }
    }
}

fn needs(sql: &[u8], assignments: &[Assignment]) -> Needs {
    let is_user = |assignment: &Assignment| assignment.name.starts_with('@');
    let becomes_null = |a: &Assignment| is_user(a) && a.kind == ValueKind::Null;
    // The settings' own values are in letters that are the same everywhere.
    let is_plain = |a: &Assignment| match a.kind {
        ValueKind::Null => !is_user(a),
        ValueKind::Text => !is_user(a) && sql.is_ascii() && !sql.contains(&b'\\'),
        ValueKind::Plain => true,
        ValueKind::Expression => false,
    };
    let is_literal = |a: &Assignment| is_plain(a) || a.kind == ValueKind::Text;
    match () {
        () if assignments.is_empty() => Needs::Everything,
        () if assignments.iter().all(is_plain) => Needs::Nothing,
        () if assignments.iter().all(is_literal) => Needs::Readings,
        () if assignments.iter().all(becomes_null) => Needs::Itself,
        () => Needs::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sql::Dialect;

    /// Adds statements, of which those that do not begin with `SET` are prepared; yields what is left.
    fn kept(statements: &[&str]) -> Vec<String> {
        let mut settings = Settings::default();
        let mut prepared = Vec::new();
        for (at, sql) in (1..).zip(statements) {
            if sql.starts_with("SET") {
                let assignments = sql::assignments(sql.as_bytes(), Dialect::default());
                let setting = Setting::new(sql.as_bytes(), &assignments, at, b"app");
                assert!(settings.add(setting, &|| prepared.clone()), "{sql}");
            } else {
                prepared.push(at);
            }
        }
        settings.iter().map(|s| String::from_utf8(s.sql.clone()).unwrap()).collect()
    }

    #[test]
    fn what_nothing_needs_is_forgotten() {
        let table: &[(&[&str], &[usize])] = &[
            (&["SET a = 1", "SET b = 2", "SET a = 3"], &[1, 2]),
            (&["SET a = 1", "SET b = 2", "SET a = 1"], &[0, 1]),
            (&["SET a = 1", "SET a = 2", "SET a = 1"], &[2]),
            // The one sets the other, too.
            (
                &["SET max_join_size = 7", "SET sql_big_selects = 1", "SET max_join_size = 7"],
                &[1, 2],
            ),
            (&["SET a = 1, b = 1", "SET a = 2", "SET b = 2"], &[0, 1, 2]),
            // An expression needs all that was before it.
            (&["SET sql_mode = ''", "SET sql_mode = CONCAT(@@sql_mode, ',ANSI')"], &[0, 1]),
            (&["SET sql_mode = CONCAT(@@sql_mode, ',ANSI')", "SET sql_mode = ''"], &[1]),
            (&["SET @x = 1", "SET @y = @x", "SET @x = 2"], &[0, 1, 2]),
            (&["SET @y = @x", "SET @x = 1", "SET @x = 2"], &[0, 2]),
            // A text needs the character set and the mode that it is read in.
            (&["SET NAMES latin1", "SET @x = 'a'", "SET NAMES utf8mb4"], &[0, 1, 2]),
            (&["SET NAMES latin1", "SET @x = 1", "SET NAMES utf8mb4"], &[1, 2]),
            (&["SET sql_mode = ''", "SET @x = 'a'", "SET sql_mode = 'ANSI'"], &[0, 1, 2]),
            (&["SET sql_mode = ''", "SET time_zone = '+1:00'", "SET sql_mode = 'ANSI'"], &[1, 2]),
            (&["SET @x = 'a'", "SET NAMES latin1", "SET @x = 'a'"], &[1, 2]),
            (&["SET NAMES latin1", "SET @x = 'a'", "SET NAMES latin1", "SET @x = 'a'"], &[0, 1]),
            // A variable that becomes NULL keeps its type.
            (&["SET @x = 'a'", "SET @x = NULL"], &[0, 1]),
            (&["SET @x = 'a'", "SET @x = NULL", "SET @x = NULL"], &[0, 2]),
            (&["SET @x = 'a'", "SET @x = NULL", "SET @x = 1"], &[2]),
            (&["SET @x = 'a'", "SET @x = NULL", "SET @x = 1", "SET @x = NULL"], &[2, 3]),
            // A statement was prepared under a setting.
            (&["SET sql_mode = 'ANSI'", "PREPARE", "SET sql_mode = ''"], &[0, 2]),
            (&["SET sql_mode = 'ANSI'", "PREPARE", "SET sql_mode = 'ANSI'"], &[0]),
            (&["PREPARE", "SET sql_mode = 'ANSI'", "SET sql_mode = ''"], &[2]),
            (&["SET time_zone = '+1:00'", "PREPARE", "SET time_zone = '+2:00'"], &[2]),
            // Character sets set each other.
            (&["SET NAMES utf8", "SET character_set_results = NULL", "SET NAMES utf8"], &[1, 2]),
            (&["SET CHARACTER SET utf8", "SET CHARACTER SET utf8"], &[1]),
        ];
        for (statements, expected) in table {
            let expected: Vec<_> = expected.iter().map(|at| statements[*at]).collect();
            assert_eq!(kept(statements), expected, "{statements:?}");
        }
    }

    #[test]
    fn what_is_set_over_and_over_does_not_add_up() {
        let round = [
            "SET NAMES utf8mb4",
            "SET sql_mode = 'ANSI', time_zone = '+00:00'",
            "SET @user = 'somebody'",
            "SET @off = 1",
            "PREPARE",
            "SET @off = NULL",
            "SET NAMES latin1 COLLATE latin1_bin",
        ];
        let rounds: Vec<&str> = round.iter().copied().cycle().take(7 * 200).collect();
        assert!(kept(&rounds).len() < 64, "{:?}", kept(&rounds));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut settings = Settings::default();
        let setting = |n: u64| {
            let sql = format!("SET @v{n} = 1");
            let assignments = sql::assignments(sql.as_bytes(), Dialect::default());
            Setting::new(sql.as_bytes(), &assignments, n, b"")
        };
        for n in 0..u64::try_from(MOST_SETTINGS).unwrap() {
            assert!(settings.add(setting(n), &Vec::new));
        }
        assert!(!settings.add(setting(100), &Vec::new));
        assert!(settings.add(setting(1), &Vec::new));
        assert_eq!(settings.iter().count(), MOST_SETTINGS);
    }
}
