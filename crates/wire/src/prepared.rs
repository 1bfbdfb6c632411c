//! What has to be known of the packets of prepared statements.
//!
//! A client keeps its statement ids for as long as the session lives, whatever server the statement
//! is prepared on: failsoft gives out ids of its own and writes the server's into the packets. After
//! a statement was prepared again elsewhere the new server does not know the types of its parameters,
//! which clients send with the first execution only; they are remembered and put in.

use crate::lenenc::{Cursor, Truncated};

/// What the first packet of the reply to `COM_STMT_PREPARE` says
/// (P: page_protocol_com_stmt_prepare).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrepareOk {
    /// The server's id of the statement.
    pub id: u32,
    /// The number of columns of its result.
    pub columns: u16,
    /// The number of its parameters.
    pub parameters: u16,
}

/// The length of a `COM_STMT_PREPARE_OK`.
pub const PREPARE_OK_LEN: usize = 12;

/// Whether a packet of this length is a `COM_STMT_PREPARE_OK`, with or without a byte about metadata.
///
/// MySQL answers some statements that it will not prepare with an ordinary OK packet, which is shorter
/// (seen on MySQL 9.7 with `SET GLOBAL` by an account that may not), or longer where it tells of
/// changes in the session; it has nothing to execute.
#[must_use]
pub fn is_prepare_ok(len: usize) -> bool {
    len == PREPARE_OK_LEN || len == PREPARE_OK_LEN + 1
}

/// Where the id is in the payloads of `COM_STMT_PREPARE_OK` and of all commands that name one.
pub const ID_AT: usize = 1;

impl PrepareOk {
    /// Reads the payload of a `COM_STMT_PREPARE_OK`.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when it is cut short.
    pub fn parse(payload: &[u8]) -> Result<Self, Truncated> {
        let mut cursor = Cursor::new(payload);
        cursor.u8("the marker")?;
        let id = cursor.u32("the statement id")?;
        let columns = cursor.u16("the number of columns")?;
        let parameters = cursor.u16("the number of parameters")?;
        Ok(Self { id, columns, parameters })
    }
}

/// The statement id of a command that names one.
///
/// # Errors
///
/// [`Truncated`] when the packet is too short to have one.
pub fn statement_id(payload: &[u8]) -> Result<u32, Truncated> {
    let mut cursor = Cursor::new(payload);
    cursor.u8("the command")?;
    cursor.u32("the statement id")
}

/// Writes a statement id into a packet's payload that has one.
pub fn set_statement_id(payload: &mut [u8], id: u32) {
    for (slot, byte) in payload.iter_mut().skip(ID_AT).zip(id.to_le_bytes()) {
        *slot = byte;
    }
}

/// The flags of an execution that ask for a cursor.
pub const CURSOR_FLAGS: u8 = 0x07;

/// The flag of an execution with query attributes of a statement that has no parameters.
const PARAMETER_COUNT_AVAILABLE: u8 = 0x08;

/// The types in a `COM_STMT_EXECUTE` (P: page_protocol_com_stmt_execute).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Types {
    /// There are no parameters, so there are no types.
    None,
    /// The client sent them, in these bytes of the payload.
    Sent {
        /// Where the first is, after the byte that says that types follow.
        at: usize,
        /// Where they end.
        end: usize,
        /// A name follows each.
        named: bool,
    },
    /// The client relies on those it sent before.
    AsBefore {
        /// Where the byte is that says so.
        flag_at: usize,
        /// How many parameters and attributes there are.
        count: usize,
        /// A name would follow each type.
        named: bool,
    },
}

/// Finds the types in the payload of a `COM_STMT_EXECUTE` of a statement with this many parameters.
/// `attributes` says that query attributes were agreed on: then the packet says how many parameters and
/// attributes it has, and each type comes with a name (seen on MySQL 9.7, with the flag and without).
///
/// # Errors
///
/// [`Truncated`] when the packet is cut short.
pub fn execute_types(
    payload: &[u8],
    parameters: u16,
    attributes: bool,
) -> Result<Types, Truncated> {
    const WHAT: &str = "the parameters of an execution";
    let mut cursor = Cursor::new(payload);
    cursor.bytes(5, WHAT)?;
    let flags = cursor.u8(WHAT)?;
    cursor.bytes(4, WHAT)?;
    let mut count = u64::from(parameters);
    let named = attributes && (parameters > 0 || flags & PARAMETER_COUNT_AVAILABLE != 0);
    if named {
        count = cursor.lenenc(WHAT)?;
    }
    if count == 0 {
        return Ok(Types::None);
    }
    let count = usize::try_from(count).map_err(|_| Truncated(WHAT))?;
    cursor.bytes(count.div_ceil(8), WHAT)?;
    let flag_at = payload.len() - cursor.rest().len();
    if cursor.u8(WHAT)? == 0 {
        return Ok(Types::AsBefore { flag_at, count, named });
    }
    for _ in 0..count {
        cursor.u16(WHAT)?;
        if named {
            cursor.lenenc_bytes(WHAT)?;
        }
    }
    Ok(Types::Sent { at: flag_at + 1, end: payload.len() - cursor.rest().len(), named })
}

/// Puts the types of a statement's own parameters, two bytes each, among those that were sent, in place of
/// what was kept of them.
pub fn keep_own_types(sent: &[u8], parameters: u16, named: bool, types: &mut Vec<u8>) {
    const WHAT: &str = "types";
    let mut cursor = Cursor::new(sent);
    types.clear();
    while types.len() < 2 * usize::from(parameters)
        && let Ok(kind) = cursor.u16(WHAT)
    {
        types.extend(kind.to_le_bytes());
        if named && cursor.lenenc_bytes(WHAT).is_err() {
            break;
        }
    }
}

/// The payload of an execution that relies on types sent before, with these, of two bytes each. `flag_at`
/// is where it says that it does.
#[must_use]
pub fn with_types(payload: &[u8], flag_at: usize, types: &[u8], named: bool) -> Vec<u8> {
    let (before, after) = payload.split_at(flag_at.min(payload.len()));
    let mut complete = before.to_vec();
    complete.push(1);
    for kind in types.chunks(2) {
        complete.extend(kind);
        // A name is nothing to a parameter.
        complete.extend(named.then_some(0));
    }
    complete.extend(after.get(1..).unwrap_or_default());
    complete
}

/// The types in a `COM_STMT_BULK_EXECUTE`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BulkTypes {
    /// The client sent them, in these bytes of the payload.
    Sent {
        /// Where they begin.
        at: usize,
        /// Where they end.
        end: usize,
    },
    /// The client relies on those it sent before.
    AsBefore,
}

/// Where the flags of a bulk execution are, after the command and the statement's id.
const BULK_FLAGS_AT: usize = 5;

/// The flag of a bulk execution with types.
const SEND_TYPES: u16 = 128;

/// Finds the types in the payload of a `COM_STMT_BULK_EXECUTE` of a statement with this many
/// parameters (<https://mariadb.com/kb/en/com_stmt_bulk_execute/>).
///
/// # Errors
///
/// [`Truncated`] when the packet is cut short.
pub fn bulk_types(payload: &[u8], parameters: u16) -> Result<BulkTypes, Truncated> {
    const WHAT: &str = "the parameters of a bulk execution";
    let mut cursor = Cursor::new(payload);
    cursor.bytes(BULK_FLAGS_AT, WHAT)?;
    if cursor.u16(WHAT)? & SEND_TYPES == 0 {
        return Ok(BulkTypes::AsBefore);
    }
    let at = BULK_FLAGS_AT + 2;
    let length = usize::from(parameters) * 2;
    cursor.bytes(length, WHAT)?;
    Ok(BulkTypes::Sent { at, end: at + length })
}

/// The payload of a bulk execution without types, with these.
#[must_use]
pub fn with_bulk_types(payload: &[u8], types: &[u8]) -> Vec<u8> {
    let (before, after) = payload.split_at(BULK_FLAGS_AT.min(payload.len()));
    let (flags, after) = after.split_at(after.len().min(2));
    let flags = flags.try_into().map_or(0, u16::from_le_bytes) | SEND_TYPES;
    [before, &flags.to_le_bytes(), types, after].concat()
}

#[cfg(test)]
#[expect(clippy::type_complexity, reason = "tables of cases")]
mod tests {
    use super::*;

    fn execution(flags: u8, tail: &[u8]) -> Vec<u8> {
        [&[0x17, 1, 0, 0, 0, flags, 1, 0, 0, 0], tail].concat()
    }

    #[test]
    fn types_are_found() {
        let sent = |at, end, named| Ok(Types::Sent { at, end, named });
        let before = |flag_at, named| Ok(Types::AsBefore { flag_at, count: 1, named });
        // flags, what follows, parameters, query attributes, what is found
        #[rustfmt::skip]
        let table: &[(u8, &[u8], u16, bool, Result<Types, Truncated>)] = &[
            (0, b"",                              0, false, Ok(Types::None)),
            (0, b"\0\x01\x03\0VALU",              1, false, sent(12, 14, false)),
            (0, b"\0\0VALU",                      1, false, before(11, false)),
            (0, b"\0\0\x01\x03\0\x03\0",          9, false, Err(Truncated("the parameters of an execution"))),
            (8, b"\x02\0\x01\x03\0\0\x0f\0\x01a", 1, true,  sent(13, 20, true)),
            (8, b"\0",                            0, true,  Ok(Types::None)),
            (0, b"",                              0, true,  Ok(Types::None)),
            (0, b"\x01\0\x01\x03\0\0VALU",        1, true,  sent(13, 16, true)),
            (0, b"\x01\0\0VALU",                  1, true,  before(12, true)),
        ];
        for (flags, tail, parameters, attributes, expected) in table {
            let payload = execution(*flags, tail);
            let found = execute_types(&payload, *parameters, *attributes);
            assert_eq!(found, *expected, "{flags} {tail:?}");
        }
    }

    #[test]
    fn types_are_kept_and_put_in() {
        let named = b"\x03\0\0\xfd\x80\x01a\x0f\0\x01b";
        let own = |sent, named| {
            let mut kept = b"of before".to_vec();
            keep_own_types(sent, 2, named, &mut kept);
            kept
        };
        assert_eq!(own(named, true), b"\x03\0\xfd\x80");
        assert_eq!(own(b"\x03\0\xfd\x80\x0f\0", false), b"\x03\0\xfd\x80");
        assert_eq!(own(b"\x03\0\x09", true), b"\x03\0");
        let without = execution(8, b"\x02\0\0VALU");
        let with = |named| with_types(&without, 12, b"\x03\0\xfd\x80", named);
        assert_eq!(with(false), execution(8, b"\x02\0\x01\x03\0\xfd\x80VALU"));
        assert_eq!(with(true), execution(8, b"\x02\0\x01\x03\0\0\xfd\x80\0VALU"));
        assert_eq!(with_types(b"short", 12, &[], true), b"short\x01");
    }

    #[test]
    fn bulk_types_are_found_and_put_in() {
        let bulk = |flags: u16, tail: &[u8]| {
            [&[0xfa, 1, 0, 0, 0][..], &flags.to_le_bytes(), tail].concat()
        };
        let with = bulk(128 | 64, &[3, 0, 253, 128, 0, 7, 0, 0, 0]);
        assert_eq!(bulk_types(&with, 2), Ok(BulkTypes::Sent { at: 7, end: 11 }));
        let without = bulk(64, &[0, 7, 0, 0, 0]);
        assert_eq!(bulk_types(&without, 2), Ok(BulkTypes::AsBefore));
        assert_eq!(with_bulk_types(&without, &[3, 0, 253, 128]), with);
        assert!(bulk_types(&with[..9], 2).is_err() && bulk_types(&with[..6], 2).is_err());
        assert_eq!(with_bulk_types(b"short", &[]).len(), 7);
    }

    #[test]
    fn ids_are_written_and_read() {
        let mut payload = execution(0, b"");
        set_statement_id(&mut payload, 0xdead_beef);
        assert_eq!(statement_id(&payload), Ok(0xdead_beef));
        assert!(statement_id(b"\x17\x01").is_err());
    }
}
