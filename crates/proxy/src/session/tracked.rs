//! What a server says of changes in the session that no statement shows: those that procedures and
//! functions make out of sight, and a schema that is chosen or dropped.
//!
//! What a `SET` that is carried explains is not carried twice: its text says more than a value does.

use policy::session::Pins;
use sql::{Dialect, Effects};
use wire::track::{Changes, Variable};

use super::Session;
use super::note::SETTINGS;

/// What stored programs put back when they end, so that a value from within one is not the session's.
/// Only a `SET` of its own changes these for good, and some of them change others.
const PUT_BACK: &[&str] = &[
    "character_set_client",
    "character_set_connection",
    "character_set_database",
    "collation_connection",
    "collation_database",
    "sql_mode",
];

/// What describes a connection or its last statement, and is no setting.
const NO_SETTINGS: &[&str] =
    &["error_count", "in_transaction", "last_gtid", "statement_id", "warning_count"];

/// What is spent by the next statement, or is another by then: nobody can be given it again.
const FLEETING: &[&str] = &[
    "gtid_next",
    "gtid_seq_no",
    "identity",
    "insert_id",
    "last_insert_id",
    "pseudo_replica_mode",
    "pseudo_slave_mode",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "timestamp",
];

/// What failsoft's lock against writes on a replica is made of.
const LOCK: &[&str] = &["transaction_read_only", "tx_read_only"];

/// The variables of character sets that are tracked, and the one that is NULL where its value is empty.
const CHARACTER_SETS: &str = "character_set_";
const RESULTS: &str = "character_set_results";

/// What becomes of a variable that changed.
#[derive(Debug, Eq, PartialEq)]
enum Fate {
    /// It is the session's no more than before.
    Ignored,
    /// It is carried by this statement.
    Carried(String),
    /// It pins the session.
    Pins,
}

impl Session {
    /// Takes note of the schema that the session chose on its server.
    pub(super) fn choose_schema(&mut self, schema: Vec<u8>) {
        self.carried.choose_schema(schema);
        if let Some(backend) = &mut self.backend {
            backend.in_schema = true;
        }
    }

    /// The current schema, as far as the reply to a statement tells of it.
    ///
    /// Servers write names in utf8, and take them in the client's character set: only those that are
    /// the same in all of them are of use. A procedure changes schemas while it runs, and says so in
    /// the middle.
    pub(super) fn reported_schema(&self, effects: Effects, failed: bool) -> Option<&[u8]> {
        let runs_code = effects.contains(Effects::UNKNOWN_FUNCTION);
        let is_final = !runs_code || effects.contains(Effects::SEVERAL) && !failed;
        let schema = self.reported.as_ref()?.schema.as_deref()?;
        (is_final && schema.is_ascii()).then_some(schema)
    }

    /// Takes note of what the server said of changes in its reply to a statement; yields whether
    /// failsoft's lock against writes may be among them.
    pub(super) fn note_changes(
        &mut self,
        effects: Effects,
        failed: bool,
        text: Option<&[u8]>,
    ) -> bool {
        if self.reported.is_none() {
            return false;
        }
        let chooses = effects.contains(Effects::USE);
        // Stored programs go to their own schema and back again, which servers tell of. Where the
        // connection is not in the session's schema that is not where the session is.
        let is_here = self.backend.as_ref().is_some_and(|backend| backend.in_schema);
        if let Some(schema) = self.reported_schema(effects, failed)
            && (chooses || is_here && schema != self.carried.schema)
        {
            let schema = schema.to_vec();
            self.choose_schema(schema);
        }
        let Some(changes) = self.reported.take() else { return false };
        let mut pins = self.pins;
        for variable in unexplained(&changes, effects, text, self.dialect()) {
            match fate(variable) {
                Fate::Ignored => {}
                Fate::Carried(sql) => {
                    if !self.carried.set(sql.as_bytes(), Dialect::default()) {
                        pins = pins.with(Pins::TOO_MUCH_STATE);
                    }
                }
                Fate::Pins => pins = pins.with(Pins::SESSION_VARIABLE),
            }
        }
        self.set_pins(pins);
        changes.variables.iter().any(|variable| is_among(LOCK, &variable.name))
    }
}

/// The variables that changed otherwise than by the statement's own `SET`, which is carried by its
/// text. A server may tell of them with a later statement than the one that changed them.
fn unexplained<'c>(
    changes: &'c Changes,
    effects: Effects,
    text: Option<&[u8]>,
    dialect: Dialect,
) -> Vec<&'c Variable> {
    let is_set = effects.intersects(SETTINGS) && !changes.variables.is_empty();
    let explained = text.filter(|_| is_set).map(|text| sql::assignments(text, dialect));
    let explained = explained.unwrap_or_default();
    let sets_charsets = explained.iter().any(|set| {
        matches!(set.name.as_str(), "names" | "character set")
            || set.name.starts_with(CHARACTER_SETS)
    });
    let is_explained = |variable: &Variable| {
        let name = variable.name.as_slice();
        (sets_charsets && name.starts_with(CHARACTER_SETS.as_bytes()))
            || explained.iter().any(|set| set.name.as_bytes() == name)
    };
    changes.variables.iter().filter(|variable| !is_explained(variable)).collect()
}

/// What becomes of a variable that changed. A value is only put into a statement where every server
/// reads it alike, whatever the character set and the SQL mode; numeric variables take no text.
fn fate(Variable { name, value }: &Variable) -> Fate {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if is_among(PUT_BACK, name) || is_among(NO_SETTINGS, name) {
        return Fate::Ignored;
    }
    let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else {
        return Fate::Pins;
    };
    if is_among(FLEETING, name.as_bytes()) || !name.bytes().all(|byte| is_name(&byte)) {
        return Fate::Pins;
    }
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'\\');
    let value = match value {
        "" if name == RESULTS => "NULL".to_owned(),
        // NULL or an empty text: which of them is not said.
        "" => return Fate::Pins,
        number if is_number(number) => number.to_owned(),
        text if text.bytes().all(is_plain) => format!("'{text}'"),
        _ => return Fate::Pins,
    };
    Fate::Carried(format!("SET SESSION {name} = {value}"))
}

fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part),
        None => digits(text),
    }
}

fn is_among(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|other| other.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::state::classify;

    fn variable(name: &str, value: &str) -> Variable {
        Variable { name: name.into(), value: value.into() }
    }

    #[test]
    fn what_becomes_of_variables() {
        // A variable, its value, and the statement that carries it; - where it is ignored, ! where it
        // pins.
        let table = [
            ("time_zone", "+03:00", "SET SESSION time_zone = '+03:00'"),
            ("time_zone", "SYSTEM", "SET SESSION time_zone = 'SYSTEM'"),
            ("autocommit", "OFF", "SET SESSION autocommit = 'OFF'"),
            ("character_set_results", "latin1", "SET SESSION character_set_results = 'latin1'"),
            ("character_set_results", "", "SET SESSION character_set_results = NULL"),
            ("wait_timeout", "77", "SET SESSION wait_timeout = 77"),
            ("long_query_time", "3.500000", "SET SESSION long_query_time = 3.500000"),
            ("rand", "-1", "SET SESSION rand = -1"),
            (
                "sql_select_limit",
                "18446744073709551615",
                "SET SESSION sql_select_limit = 18446744073709551615",
            ),
            ("optimizer_switch", "a=on,b=off", "SET SESSION optimizer_switch = 'a=on,b=off'"),
            ("character_set_client", "latin1", "-"),
            ("collation_connection", "latin1_bin", "-"),
            ("sql_mode", "ANSI", "-"),
            ("statement_id", "12", "-"),
            ("last_gtid", "0-1-17", "-"),
            ("timestamp", "5.000000", "!"),
            ("insert_id", "4", "!"),
            ("init_something", "", "!"),
            ("init_something", "it's", "!"),
            ("init_something", "a\\b", "!"),
            ("init_something", "é", "!"),
            ("init something", "1", "!"),
            ("lc_messages", "1.", "SET SESSION lc_messages = '1.'"),
        ];
        for (name, value, expected) in table {
            let shown = match fate(&variable(name, value)) {
                Fate::Ignored => "-".to_owned(),
                Fate::Carried(sql) => sql,
                Fate::Pins => "!".to_owned(),
            };
            assert_eq!(shown, expected, "{name}={value}");
        }
    }

    #[test]
    fn what_a_set_sets_is_explained() {
        let names = "time_zone autocommit character_set_client character_set_results";
        let table = [
            ("SET time_zone = '+01:00'", "autocommit character_set_client character_set_results"),
            (
                "SET @@session.autocommit = 0, time_zone = 'SYSTEM'",
                "character_set_client character_set_results",
            ),
            ("SET NAMES latin1", "time_zone autocommit"),
            ("SET character_set_results = NULL", "time_zone autocommit"),
            ("SET @a = 1", names),
            ("CALL p()", names),
            ("SELECT 1", names),
        ];
        let variables = names.split(' ').map(|name| variable(name, "1")).collect();
        let changes = Changes { schema: None, variables };
        for (sql, expected) in table {
            let sql = sql.as_bytes();
            let effects = classify(sql, false, false).effects;
            let left = unexplained(&changes, effects, Some(sql), Dialect::default());
            let left: Vec<_> = left.iter().map(|v| String::from_utf8_lossy(&v.name)).collect();
            assert_eq!(left.join(" "), expected, "{}", sql.escape_ascii());
        }
    }
}
