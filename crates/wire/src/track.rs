//! What a server says of changes in a session's state, in its OK packets
//! (P: page_protocol_basic_ok_packet).
//!
//! ```text
//! 00 or FE, affected rows, insert id, status, warnings, string<lenenc> info, string<lenenc> state
//! state: (int<1> type, string<lenenc> data)*
//! data:  of system variables (string<lenenc> name, string<lenenc> value)*, of the schema
//!        string<lenenc> name
//! ```
//!
//! The state is there only where the status says so, with [`SESSION_STATE_CHANGED`]. A variable's
//! value is what it is when the packet is made, not what it was set to (seen on MySQL 9.7 and MariaDB
//! 10.11). A server that had no OK to say it in, because it answered with an error or with an EOF
//! packet, says it later or never.

use crate::lenenc::{Cursor, Truncated, put_lenenc_bytes};
use crate::status::SESSION_STATE_CHANGED;

/// The type of an entry that has system variables; MariaDB may put several of them in one.
const SYSTEM_VARIABLES: u8 = 0;

/// The type of an entry that has the current schema.
const SCHEMA: u8 = 1;

/// What changed in a session's state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// The current schema; empty when there is none any more.
    pub schema: Option<Vec<u8>>,
    /// System variables, each once, with what it is.
    pub variables: Vec<Variable>,
}

/// A system variable of a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value as a text; empty for NULL as well.
    pub value: Vec<u8>,
}

impl Changes {
    /// Adds what was said later.
    pub fn add(&mut self, later: Self) {
        if later.schema.is_some() {
            self.schema = later.schema;
        }
        for variable in later.variables {
            self.put(variable);
        }
    }

    fn put(&mut self, new: Variable) {
        match self.variables.iter_mut().find(|old| old.name == new.name) {
            Some(old) => *old = new,
            None => self.variables.push(new),
        }
    }

    fn read_state(&mut self, state: &[u8]) -> Result<(), Truncated> {
        let mut state = Cursor::new(state);
        while !state.is_empty() {
            let kind = state.u8("the type of a change")?;
            let mut data = Cursor::new(state.lenenc_bytes("a change")?);
            match kind {
                SYSTEM_VARIABLES => {
                    while !data.is_empty() {
                        let name = data.lenenc_bytes("a variable's name")?.to_vec();
                        let value = data.lenenc_bytes("a variable's value")?.to_vec();
                        self.put(Variable { name, value });
                    }
                }
                SCHEMA => self.schema = Some(data.lenenc_bytes("the schema")?.to_vec()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// An OK packet's payload without the changes that it tells of, as a client gets it that did not agree
/// on session tracking; none if it tells of none, or cannot be read.
#[must_use]
pub fn without_changes(payload: &[u8]) -> Option<Vec<u8>> {
    let report = Report::read(payload).ok().flatten()?;
    let mut quiet = report.front.to_vec();
    quiet.extend((report.status & !SESSION_STATE_CHANGED).to_le_bytes());
    quiet.extend(report.warnings.to_le_bytes());
    // Without changes behind it an empty text is left out.
    if !report.info.is_empty() {
        put_lenenc_bytes(&mut quiet, report.info);
    }
    Some(quiet)
}

/// An OK packet that tells of changes.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// What is before the status.
    front: &'a [u8],
    status: u16,
    warnings: u16,
    info: &'a [u8],
    state: &'a [u8],
}

impl<'a> Report<'a> {
    /// Reads an OK packet's payload; none if it tells of no change.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Option<Self>, Truncated> {
        let mut body = Cursor::new(payload);
        body.u8("OK")?;
        body.lenenc("the affected rows of OK")?;
        body.lenenc("the insert id of OK")?;
        let front = payload.get(..payload.len() - body.rest().len()).unwrap_or_default();
        let status = body.u16("the status of OK")?;
        if status & SESSION_STATE_CHANGED == 0 {
            return Ok(None);
        }
        let warnings = body.u16("the warnings of OK")?;
        let info = body.lenenc_bytes("the info of OK")?;
        let state = body.lenenc_bytes("the changes of OK")?;
        Ok(Some(Self { front, status, warnings, info, state }))
    }

    /// What it tells; none where that is nothing of interest here, or cannot be read.
    pub(crate) fn changes(&self) -> Option<Changes> {
        let mut changes = Changes::default();
        changes.read_state(self.state).ok()?;
        (changes != Changes::default()).then_some(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> Option<Changes> {
        Report::read(payload).ok().flatten()?.changes()
    }

    /// `schema=app time_zone=+03:00`, and `-` for nothing.
    fn shown(payload: &[u8]) -> String {
        let Some(changes) = read(payload) else { return "-".to_owned() };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let schema = changes.schema.iter().map(|schema| format!("schema={}", text(schema)));
        let variable = |v: &Variable| format!("{}={}", text(&v.name), text(&v.value));
        schema.chain(changes.variables.iter().map(variable)).collect::<Vec<_>>().join(" ")
    }

    /// As MariaDB 10.11 and MySQL 9.7 sent them.
    #[test]
    fn changes_are_read_out() {
        let table: &[(&[u8], &str)] = &[
            (b"\0\0\0\x02\0\0\0", "-"),
            (b"\0\0\0\x02@\0\0\0\x06\x01\x04\x03app", "schema=app"),
            (b"\0\0\0\x02A\0\0\0\x03\x01\x01\0", "schema="),
            (b"\xfe\0\0\x02@\0\0\0\x13\0\x11\ttime_zone\x06+05:00", "time_zone=+05:00"),
            (
                b"\0\0\0\x02@\0\0\0#\0\x0e\nautocommit\x02ON\0\x11\ttime_zone\x06+03:00",
                "autocommit=ON time_zone=+03:00",
            ),
            (
                b"\0\0\0\x02@\0\0\0\x21\0\x1f\nautocommit\x02ON\ttime_zone\x06+03:00",
                "autocommit=ON time_zone=+03:00",
            ),
            (
                b"\0\0\0\"@\0\0(Rows matched: 2  Changed: 0  Warnings: 0\
                  \x19\0\x11\ttime_zone\x06+05:00\x01\x04\x03app",
                "schema=app time_zone=+05:00",
            ),
            (b"\0\0\0\x02B\0\0\0\x19\0\x17\x15character_set_results\0", "character_set_results="),
            (b"\0\0\0\x03\x40\0\0\0\x0b\x05\t\x08T_______", "-"),
            // Beside them what is of no interest, and the same twice.
            (b"\0\0\0\x02@\0\0\0\x0e\x02\x011\x01\x02\x01a\x04\x01\0\x01\x02\x01b", "schema=b"),
            // Cut short, in each of the lengths.
            (b"\0\0\0\x02@\0\0", "-"),
            (b"\0\0\0\x02@\0\0\0\x06\x01\x04\x03ap", "-"),
            (b"\0\0\0\x02@\0\0\0\x05\x01\x04\x03ap", "-"),
            (b"\0\0\0\x02@\0\0\0\x05\x01\x03\x03ap", "-"),
            (b"\0\0\0\x02@\0\0\0\x07\0\x05\ttime", "-"),
        ];
        for (payload, expected) in table {
            assert_eq!(shown(payload), *expected, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn what_is_said_later_counts() {
        let ok = |entry: &[u8]| {
            let mut payload = b"\0\0\0\x02@\0\0\0".to_vec();
            put_lenenc_bytes(&mut payload, entry);
            read(&payload).unwrap()
        };
        let mut changes = ok(b"\x01\x02\x01a\0\x04\x01x\x011");
        changes.add(ok(b"\0\x08\x01y\x012\x01x\x013"));
        let variable =
            |name: &[u8], value: &[u8]| Variable { name: name.to_vec(), value: value.to_vec() };
        assert_eq!(changes.schema.as_deref(), Some(&b"a"[..]));
        assert_eq!(changes.variables, [variable(b"x", b"3"), variable(b"y", b"2")]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            let _changes = read(&bytes);
            let _changes = read(&[b"\0\0\0\x02@\0\0\0", bytes.as_slice()].concat());
        }

        #[test]
        fn what_is_put_in_comes_out(
            schema in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        ) {
            let (mut data, mut pair) = (Vec::new(), Vec::new());
            put_lenenc_bytes(&mut data, &schema);
            put_lenenc_bytes(&mut pair, b"time_zone");
            put_lenenc_bytes(&mut pair, &value);
            let mut state = vec![SCHEMA];
            put_lenenc_bytes(&mut state, &data);
            state.push(SYSTEM_VARIABLES);
            put_lenenc_bytes(&mut state, &pair);
            let mut payload = b"\0\0\0\x02@\0\0\0".to_vec();
            put_lenenc_bytes(&mut payload, &state);
            let variables = vec![Variable { name: b"time_zone".to_vec(), value }];
            let expected = Changes { schema: Some(schema), variables };
            proptest::prop_assert_eq!(read(&payload), Some(expected));
        }
    }
}
