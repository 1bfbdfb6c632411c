//! What of a session can be given to another server.

use std::collections::HashMap;

use policy::partition::Place;
use sql::{Class, Dialect, Effects, Kind, Statement};
use wire::capabilities::Capabilities;

use super::note::SETTINGS;

/// The state of a session that failsoft keeps, so that any server can be given it.
#[derive(Debug)]
pub(crate) struct Carried {
    /// The current schema; empty for none.
    pub(crate) schema: Vec<u8>,
    /// A server had that schema.
    pub(crate) schema_is_known: bool,
    /// What the session set, in the order in which it has to be set again.
    pub(crate) settings: Vec<Setting>,
    /// Statements prepared through the binary protocol, by failsoft's id.
    pub(crate) prepared: HashMap<u32, Prepared>,
    /// `COM_RESET_CONNECTION` was sent: MySQL then has its own collation in place of the login's.
    pub(crate) was_reset: bool,
    /// `COM_CHANGE_USER` was sent: MariaDB then has forgotten CLIENT_IGNORE_SPACE.
    pub(crate) user_was_changed: bool,
    /// `COM_SET_OPTION`, once the client sent it.
    pub(crate) multi_statements: Option<bool>,
    /// The statement that the last preparation made, if it made one.
    pub(crate) latest: Option<u32>,
    /// The last id given out.
    last_prepared: u32,
    /// CLIENT_DEPRECATE_EOF was agreed on.
    pub(crate) deprecate_eof: bool,
    /// The statements' character set has characters whose second byte looks like ASCII.
    pub(crate) unsafe_charset: bool,
}

/// A `SET` of the session's.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The statement.
    pub(crate) sql: Vec<u8>,
    /// What it sets.
    names: Vec<String>,
    /// It sets literals, which depend on nothing.
    literal: bool,
}

/// A statement prepared through the binary protocol.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its text.
    pub(crate) sql: Vec<u8>,
    /// The current schema when it was prepared, which it keeps; empty for none.
    pub(crate) schema: Vec<u8>,
    /// What it does.
    pub(crate) statement: Statement,
    /// The partition that it belongs to.
    pub(crate) place: Place,
    /// The number of its parameters.
    pub(crate) parameters: u16,
    /// The types that the client sent last, with the byte before them that says that they follow.
    pub(crate) types: Vec<u8>,
    /// The server connection that has seen those types, by the server's id of it.
    pub(crate) types_known_to: Option<(usize, u32)>,
    /// Data for its parameters went to the server.
    pub(crate) has_long_data: bool,
    /// Data for its parameters could not be delivered: it must not be executed without.
    pub(crate) long_data_lost: bool,
    /// A cursor may be open for it.
    pub(crate) has_cursor: bool,
}

/// How many `SET`s are remembered. Pools set a dozen things over and over, with literals, of which
/// the latest is kept.
pub(crate) const MOST_SETTINGS: usize = 64;

/// How many bytes of them.
const MOST_SETTINGS_BYTES: usize = 64 * 1024;

/// The character sets in which a backslash or a quote can be the second byte of a character, and
/// their collations' ids.
const UNSAFE_CHARSETS: &[(&str, &[u16])] = &[
    ("big5", &[1, 84]),
    ("sjis", &[13, 88]),
    ("cp932", &[95, 96]),
    ("gbk", &[28, 87]),
    ("gb18030", &[248, 249, 250]),
];

impl Carried {
    pub(crate) fn new(capabilities: Capabilities, collation: u16, schema: Vec<u8>) -> Self {
        Self {
            schema,
            schema_is_known: false,
            settings: Vec::new(),
            prepared: HashMap::new(),
            was_reset: false,
            multi_statements: None,
            latest: None,
            user_was_changed: false,
            last_prepared: 0,
            deprecate_eof: capabilities.contains(Capabilities::DEPRECATE_EOF),
            unsafe_charset: is_unsafe(collation),
        }
    }

    /// As after `COM_CHANGE_USER`. Ids of statements are not given out again, so that one that is
    /// gone is not taken for another.
    pub(crate) fn change_user(
        &mut self,
        capabilities: Capabilities,
        collation: u16,
        schema: Vec<u8>,
    ) {
        *self = Self {
            user_was_changed: true,
            multi_statements: self.multi_statements,
            last_prepared: self.last_prepared,
            ..Self::new(capabilities, collation, schema)
        };
    }

    /// As after `COM_RESET_CONNECTION`: the schema stays.
    pub(crate) fn reset(&mut self, collation: u16) {
        self.unsafe_charset = is_unsafe(collation);
        self.settings.clear();
        self.prepared.clear();
        self.was_reset = true;
    }

    /// Takes note of a `SET` that succeeded; false when there are too many to remember.
    pub(crate) fn set(&mut self, sql: &[u8], dialect: Dialect) -> bool {
        let assignments = sql::assignments(sql, dialect);
        self.note_charset(&assignments);
        let names: Vec<String> = assignments.iter().map(|a| a.name.clone()).collect();
        // A literal makes what was set before irrelevant, unless something between them depends on
        // it (`SET @x = 1`, `SET @y = @x`, `SET @x = 2`): that needs it all in order.
        let literal = !names.is_empty() && assignments.iter().all(|a| a.value_is_literal);
        if literal {
            let mut at = 0;
            let last_relative = self.settings.iter().rposition(|old| !old.literal);
            let free = last_relative.map_or(0, |last| last + 1);
            self.settings.retain(|old| {
                at += 1;
                at <= free || !old.names.iter().all(|name| names.contains(name))
            });
        }
        let bytes: usize = self.settings.iter().map(|setting| setting.sql.len()).sum();
        if self.settings.len() >= MOST_SETTINGS || bytes + sql.len() > MOST_SETTINGS_BYTES {
            return false;
        }
        self.settings.push(Setting { sql: sql.to_vec(), names, literal });
        true
    }

    fn note_charset(&mut self, assignments: &[sql::Assignment]) {
        for assignment in assignments {
            if !matches!(
                assignment.name.as_str(),
                "names" | "character set" | "charset" | "character_set_client"
            ) {
                continue;
            }
            self.unsafe_charset = match &assignment.value {
                Some(value) => UNSAFE_CHARSETS.iter().any(|(n, _)| value.eq_ignore_ascii_case(n)),
                None => true,
            };
        }
    }

    /// Remembers a statement that was prepared; yields failsoft's id of it.
    pub(crate) fn add_prepared(&mut self, sql: Vec<u8>, statement: Statement, n: u16) -> u32 {
        self.last_prepared = self.last_prepared.wrapping_add(1).max(1);
        let prepared = Prepared {
            sql,
            schema: self.schema.clone(),
            statement,
            place: Place::Anywhere,
            parameters: n,
            types: Vec::new(),
            types_known_to: None,
            has_long_data: false,
            long_data_lost: false,
            has_cursor: false,
        };
        self.prepared.insert(self.last_prepared, prepared);
        self.latest = Some(self.last_prepared);
        self.last_prepared
    }

    /// The id that the next prepared statement will have.
    pub(crate) fn next_prepared(&self) -> u32 {
        self.last_prepared.wrapping_add(1).max(1)
    }
}

fn is_unsafe(collation: u16) -> bool {
    // MariaDB's collations without padding have the ids of those with it, and 1024 more.
    let collation = if collation & !0xff == 0x400 { collation & 0xff } else { collation };
    UNSAFE_CHARSETS.iter().any(|(_, ids)| ids.contains(&collation))
}

/// Classifies a statement so that no setting of the server that we may not know of can hide a
/// write: where quotes or backslashes could mean two things, the worse reading counts.
///
/// `no_backslash_escapes` is what the server said last; the default of a server not yet reached is
/// not known.
pub(crate) fn classify(sql: &[u8], unsafe_charset: bool, no_backslash_escapes: bool) -> Statement {
    let dialect = Dialect { ansi_quotes: false, no_backslash_escapes, unsafe_charset };
    let likely = sql::classify(sql, dialect);
    if likely.class.kind == Kind::Write {
        return likely;
    }
    let quotes = sql.contains(&b'"');
    let backslashes = sql.contains(&b'\\');
    let mut worst = likely;
    for (ansi_quotes, flip) in [(true, false), (false, true), (true, true)] {
        if (ansi_quotes && !quotes) || (flip && !backslashes) {
            continue;
        }
        let dialect = Dialect {
            ansi_quotes,
            no_backslash_escapes: no_backslash_escapes != flip,
            unsafe_charset,
        };
        let other = sql::classify(sql, dialect);
        if severity(other.class.kind) > severity(worst.class.kind) {
            worst = other;
        }
    }
    let effects = likely.effects | worst.effects;
    // The lock against writes on replicas is a setting: what could lift it for a function that may
    // write is a write.
    let unlocks = effects.contains(Effects::SEVERAL)
        && effects.intersects(SETTINGS)
        && effects.contains(Effects::UNKNOWN_FUNCTION);
    if unlocks {
        worst.class = Class { kind: Kind::Write, because: "SET before a stored function" };
    }
    Statement { class: worst.class, effects }
}

/// How much harm the wrong reading of a statement could do.
fn severity(kind: Kind) -> u8 {
    match kind {
        Kind::Read => 0,
        Kind::Session => 1,
        Kind::Begin | Kind::Commit | Kind::Rollback => 2,
        Kind::OwnRead => 3,
        Kind::LockingRead => 4,
        Kind::Write => 5,
    }
}

/// A statement of failsoft's own making, for commands that are not SQL.
pub(crate) fn command_statement(kind: Kind, because: &'static str) -> Statement {
    Statement { class: Class { kind, because }, effects: Effects::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried() -> Carried {
        Carried::new(Capabilities::CARRIED, 45, Vec::new())
    }

    fn settings(statements: &[&str]) -> Vec<String> {
        let mut carried = carried();
        for sql in statements {
            assert!(carried.set(sql.as_bytes(), Dialect::default()), "{sql}");
        }
        carried.settings.iter().map(|s| String::from_utf8(s.sql.clone()).unwrap()).collect()
    }

    #[test]
    fn the_latest_literal_is_kept() {
        let kept = settings(&["SET a = 1", "SET b = 2", "SET a = 3"]);
        assert_eq!(kept, ["SET b = 2", "SET a = 3"]);
    }

    #[test]
    fn what_depends_on_the_past_keeps_it() {
        let relative = "SET sql_mode = CONCAT(@@sql_mode, ',ANSI')";
        assert_eq!(settings(&["SET sql_mode = ''", relative]), ["SET sql_mode = ''", relative]);
        assert_eq!(settings(&[relative, "SET sql_mode = ''"]), [relative, "SET sql_mode = ''"]);
        let order = ["SET @x = 1", "SET @y = @x", "SET @x = 2"];
        assert_eq!(settings(&order), order);
        assert_eq!(
            settings(&["SET @y = @x", "SET @x = 1", "SET @x = 2"]),
            ["SET @y = @x", "SET @x = 2"]
        );
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut carried = carried();
        for n in 0..MOST_SETTINGS {
            assert!(carried.set(format!("SET @v{n} = 1").as_bytes(), Dialect::default()));
        }
        assert!(!carried.set(b"SET @one_more = 1", Dialect::default()));
    }

    #[test]
    fn character_sets_that_hide_quotes_are_noticed() {
        let mut carried = carried();
        for (sql, expected) in
            [("SET NAMES gbk", true), ("SET NAMES utf8mb4", false), ("SET NAMES 'sjis'", true)]
        {
            carried.set(sql.as_bytes(), Dialect::default());
            assert_eq!(carried.unsafe_charset, expected, "{sql}");
        }
        assert!(Carried::new(Capabilities::NONE, 28, Vec::new()).unsafe_charset);
    }

    #[test]
    fn the_worse_reading_counts() {
        // In ANSI mode the backslash is a letter of a name, and a second statement follows.
        let hidden = br#"SELECT "\"; DELETE FROM t; -- ""#;
        assert_eq!(classify(hidden, false, false).class.kind, Kind::Write);
        let hidden = br"SELECT '\'; DELETE FROM t; -- '";
        assert_eq!(classify(hidden, false, false).class.kind, Kind::Write);
        assert_eq!(classify(br#"SELECT "a", 'it\'s'"#, false, false).class.kind, Kind::Read);
    }
}
