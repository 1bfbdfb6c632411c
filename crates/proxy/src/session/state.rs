//! What of a session can be given to another server.

use std::collections::HashMap;

use policy::partition::Place;
use sql::{Class, Dialect, Effects, Kind, Statement};

use super::note::SETTINGS;
use super::settings::{Setting, Settings};

/// What of a session's state a server that it holds has been given, apart from the schema and what was
/// prepared. Two sessions whose states are equal are the same to it: what is set is set by the same
/// texts in the same order.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    /// The `SET`s, with the schema in which each was set where that matters.
    settings: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    was_reset: bool,
    /// The schema was chosen after them, where that matters.
    chose_last: bool,
}

/// The state of a session that failsoft keeps, so that any server can be given it.
#[derive(Debug)]
pub(crate) struct Carried {
    /// The current schema; empty for none.
    pub(crate) schema: Vec<u8>,
    /// A server had that schema.
    pub(crate) schema_is_known: bool,
    /// A packet that failed, or could not be read to its end, may have chosen another schema.
    pub(crate) schema_is_doubtful: bool,
    /// What the session set.
    pub(crate) settings: Settings,
    /// The schema was chosen after all that was set and after a reset, which change what comes with
    /// it.
    pub(crate) schema_came_last: bool,
    /// Statements prepared through the binary protocol, by failsoft's id.
    pub(crate) prepared: HashMap<u32, Prepared>,
    /// `COM_RESET_CONNECTION` was sent: MySQL then has its own collation in place of the login's.
    pub(crate) was_reset: bool,
    /// `COM_CHANGE_USER` was sent, which servers have to be told.
    pub(crate) user_was_changed: bool,
    /// `COM_SET_OPTION`, once the client sent it.
    pub(crate) multi_statements: Option<bool>,
    /// The statement that the last preparation made, if it made one.
    pub(crate) latest: Option<u32>,
    /// The last id given out.
    last_prepared: u32,
    /// How often something was set or prepared.
    events: u64,
    /// The statements' character set has characters whose second byte looks like ASCII.
    pub(crate) unsafe_charset: bool,
}

/// A statement prepared through the binary protocol.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its text.
    pub(crate) sql: Vec<u8>,
    /// Its place among all that was set and prepared.
    pub(crate) at: u64,
    /// The current schema when it was prepared, which it keeps; empty for none.
    pub(crate) schema: Vec<u8>,
    /// What it does.
    pub(crate) statement: Statement,
    /// How its text was to be read when it was prepared.
    pub(crate) dialect: Dialect,
    /// The partition that it belongs to, in the configuration of this number.
    pub(crate) place: Place,
    pub(crate) generation: u64,
    /// The number of its parameters.
    pub(crate) parameters: u16,
    /// The types of its parameters that the client sent last, two bytes each.
    pub(crate) types: Vec<u8>,
    /// Data for its parameters went to the server.
    pub(crate) has_long_data: bool,
    /// Data for its parameters could not be delivered: it must not be executed without.
    pub(crate) long_data_lost: bool,
    /// A cursor may be open for it.
    pub(crate) has_cursor: bool,
}

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
    pub(crate) fn new(collation: u16, schema: Vec<u8>) -> Self {
        Self {
            schema,
            schema_is_known: false,
            schema_is_doubtful: false,
            settings: Settings::default(),
            schema_came_last: false,
            prepared: HashMap::new(),
            was_reset: false,
            multi_statements: None,
            latest: None,
            user_was_changed: false,
            last_prepared: 0,
            events: 0,
            unsafe_charset: is_unsafe(collation),
        }
    }

    /// As after `COM_CHANGE_USER`. Ids of statements are not given out again, so that one that is
    /// gone is not taken for another.
    pub(crate) fn change_user(&mut self, collation: u16, schema: Vec<u8>) {
        *self = Self {
            user_was_changed: true,
            multi_statements: self.multi_statements,
            last_prepared: self.last_prepared,
            events: self.events + 1,
            ..Self::new(collation, schema)
        };
    }

    /// As after `COM_RESET_CONNECTION`: the schema stays.
    pub(crate) fn reset(&mut self, collation: u16) {
        self.unsafe_charset = is_unsafe(collation);
        self.settings.clear();
        self.schema_came_last = false;
        self.prepared.clear();
        self.was_reset = true;
        self.events += 1;
    }

    /// Takes note that the session chose a schema.
    pub(crate) fn choose_schema(&mut self, schema: Vec<u8>) {
        self.schema = schema;
        self.schema_is_known = true;
        self.schema_is_doubtful = false;
        self.schema_came_last = true;
        self.events += 1;
    }

    /// Takes note of a `COM_SET_OPTION`.
    pub(crate) const fn choose_option(&mut self, multi_statements: bool) {
        self.multi_statements = Some(multi_statements);
        self.events += 1;
    }

    /// Another number whenever the state may be another.
    pub(crate) const fn version(&self) -> u64 {
        self.events
    }

    /// The state as it is compared with others.
    pub(crate) fn state(&self) -> State {
        let settings = self.settings.iter();
        State {
            settings: settings.map(|each| (each.sql.clone(), each.schema.clone())).collect(),
            was_reset: self.was_reset,
            chose_last: self.has_to_choose_last(),
        }
    }

    /// Whether this is the session's state. That of a session with an option is nobody else's.
    pub(crate) fn is_in(&self, state: &State) -> bool {
        let set = state.settings.iter().map(|(sql, schema)| (sql, schema));
        self.multi_statements.is_none()
            && self.was_reset == state.was_reset
            && self.has_to_choose_last() == state.chose_last
            && self.settings.iter().map(|each| (&each.sql, &each.schema)).eq(set)
    }

    /// Whether a server that was given all else has to be told the schema once more.
    pub(crate) fn has_to_choose_last(&self) -> bool {
        self.schema_came_last && (self.was_reset || self.settings.depend_on_schemas())
    }

    /// Whether something was set that depends on there being no schema yet.
    pub(crate) fn began_without_schema(&self) -> bool {
        let mut schemas = self.settings.iter().filter_map(|setting| setting.schema.as_deref());
        self.schema_is_known && schemas.next().is_some_and(<[u8]>::is_empty)
    }

    /// The statements that have to be prepared in their turn, as they came, and where among the
    /// settings: those that were prepared when texts were read otherwise than they are now, and those
    /// that set a variable, which MariaDB gives a type when they are prepared (seen on 10.11).
    pub(crate) fn prepared_in_turn(&self) -> Vec<(u64, u32)> {
        let last = self.settings.last_reading();
        let in_turn = |prepared: &Prepared| {
            prepared.at < last || prepared.statement.effects.intersects(SETTINGS)
        };
        let all = self.prepared.iter().filter(|(_, prepared)| in_turn(prepared));
        let mut all: Vec<_> = all.map(|(id, prepared)| (prepared.at, *id)).collect();
        all.sort_unstable();
        all
    }

    /// Takes note of a `SET` that succeeded; false when there are too many to remember.
    pub(crate) fn set(&mut self, sql: &[u8], dialect: Dialect) -> bool {
        let assignments = sql::assignments(sql, dialect);
        self.note_charset(&assignments);
        self.events += 1;
        let setting = Setting::new(sql, &assignments, self.events, &self.schema);
        self.schema_came_last &= setting.schema.is_none();
        let prepared = &self.prepared;
        self.settings.add(setting, &|| prepared.values().map(|prepared| prepared.at).collect())
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
                Some(value) if value.eq_ignore_ascii_case("default") => true,
                Some(value) => UNSAFE_CHARSETS.iter().any(|(n, _)| value.eq_ignore_ascii_case(n)),
                None => true,
            };
        }
    }

    /// Remembers a statement that was prepared; yields failsoft's id of it.
    pub(crate) fn add_prepared(&mut self, sql: Vec<u8>, statement: Statement, n: u16) -> u32 {
        self.last_prepared = self.last_prepared.wrapping_add(1).max(1);
        self.events += 1;
        let prepared = Prepared {
            dialect: Dialect::default(),
            sql,
            at: self.events,
            schema: self.schema.clone(),
            statement,
            place: Place::Anywhere,
            generation: 0,
            parameters: n,
            types: Vec::new(),
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
        Carried::new(45, Vec::new())
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
        assert!(Carried::new(28, Vec::new()).unsafe_charset);
    }

    #[test]
    fn sessions_that_set_the_same_are_the_same() {
        let texts = |texts: &[&str]| {
            let mut carried = carried();
            for text in texts {
                assert!(carried.set(text.as_bytes(), Dialect::default()));
            }
            carried
        };
        let one = texts(&["SET NAMES utf8mb4", "SET autocommit = 0"]);
        assert!(texts(&["SET NAMES utf8mb4", "SET autocommit = 0"]).is_in(&one.state()));
        let others = [
            texts(&[]),
            texts(&["SET NAMES utf8mb4"]),
            texts(&["SET autocommit = 0", "SET NAMES utf8mb4"]),
            texts(&["SET NAMES utf8mb4", "SET autocommit = 1"]),
        ];
        for other in &others {
            assert!(!other.is_in(&one.state()) && !one.is_in(&other.state()), "{other:?}");
        }
        let mut reset = carried();
        let before = reset.version();
        reset.reset(45);
        assert!(reset.version() > before && !reset.is_in(&State::default()));
        assert!(carried().is_in(&State::default()));
        let mut with_option = carried();
        with_option.choose_option(false);
        assert!(!with_option.is_in(&State::default()), "the option has to be set");
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
