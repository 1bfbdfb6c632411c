//! Column definitions that a client may not have.
//!
//! With `MARIADB_CLIENT_CACHE_METADATA` MariaDB leaves out the definitions of a prepared statement's
//! columns where they are those that it sent last, be it with an execution or with the reply to
//! `COM_STMT_PREPARE` (<https://mariadb.com/kb/en/mariadb-protocol-differences-with-mysql/>; seen on
//! MariaDB 10.11). Of a statement that failsoft prepared again the client has not seen that reply: what
//! it holds came from another connection, perhaps from another server or from before an `ALTER
//! TABLE`. So the reply's definitions are kept, and given to the client where the server leaves them
//! out for the first time.

use crate::capabilities::Capabilities;
use crate::frame::{HEADER_LEN, join_frames, put_packet, whole_packet};
use crate::lenenc::Cursor;
use crate::prepared::PrepareOk;

/// The definitions of a prepared statement's columns, as a server sent them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Definitions {
    columns: u16,
    /// They, as packets.
    packets: Vec<u8>,
}

impl Definitions {
    /// Those in a whole reply to `COM_STMT_PREPARE`, on a connection for which `agreed` was agreed
    /// on; none where they are not all there.
    #[must_use]
    pub fn of_preparation(reply: &[u8], agreed: Capabilities) -> Option<Self> {
        let ok = PrepareOk::parse(reply.get(HEADER_LEN..)?).ok()?;
        let eof = ok.parameters > 0 && !agreed.contains(Capabilities::DEPRECATE_EOF);
        let before = 1 + usize::from(ok.parameters) + usize::from(eof);
        let start = behind(reply, before)?;
        let reply = reply.get(start..)?;
        let end = behind(reply, ok.columns.into())?;
        Some(Self { columns: ok.columns, packets: reply.get(..end)?.to_vec() })
    }

    /// Whether a column count is of as many columns.
    pub(crate) fn fit(&self, count: &[u8]) -> bool {
        Cursor::new(count).lenenc("the column count") == Ok(self.columns.into())
    }

    /// Appends the packets, the first with this number; yields how many they are.
    pub(crate) fn put(&self, out: &mut Vec<u8>, first: u8) -> u8 {
        let mut next = first;
        let mut rest = self.packets.as_slice();
        while let Some((packet, behind)) =
            whole_packet(rest).and_then(|(len, _)| rest.split_at_checked(len))
        {
            next = put_packet(out, next, &join_frames(packet)).wrapping_add(1);
            rest = behind;
        }
        next.wrapping_sub(first)
    }
}

/// Where so many packets end.
fn behind(bytes: &[u8], packets: usize) -> Option<usize> {
    let mut at = 0;
    for _ in 0..packets {
        at += whole_packet(bytes.get(at..)?)?.0;
    }
    Some(at)
}

#[cfg(test)]
#[expect(clippy::type_complexity, reason = "tables of cases")]
mod tests {
    use super::*;

    fn frames(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut next = 1_u8;
        for payload in payloads {
            next = put_packet(&mut out, next, payload).wrapping_add(1);
        }
        out
    }

    #[test]
    fn the_columns_of_a_preparation_are_found() {
        const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
        const NEW: Capabilities = Capabilities::DEPRECATE_EOF;
        let ok = |columns, parameters| [0, 7, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0];
        // What was agreed on, columns, parameters, what follows, the columns' definitions.
        #[rustfmt::skip]
        let table: &[(Capabilities, u8, u8, &[&[u8]], Option<&[&[u8]]>)] = &[
            (NEW,                2, 1, &[b"p", b"one", b"two"], Some(&[b"one", b"two"])),
            (NEW,                2, 0, &[b"one", b"two"], Some(&[b"one", b"two"])),
            (NEW,                0, 1, &[b"p"], Some(&[])),
            (Capabilities::NONE, 2, 1, &[b"p", EOF, b"one", b"two", EOF], Some(&[b"one", b"two"])),
            (Capabilities::NONE, 1, 0, &[b"one", EOF], Some(&[b"one"])),
            (NEW,                2, 1, &[b"p", b"one"], None),
        ];
        for (agreed, columns, parameters, more, expected) in table {
            let first = ok(*columns, *parameters);
            let reply = frames(&[&[&first[..]], *more].concat());
            let found = Definitions::of_preparation(&reply, *agreed);
            let put = found.as_ref().map(|found| {
                let mut out = Vec::new();
                let count = found.put(&mut out, 1);
                assert_eq!((count, u16::from(*columns)), (*columns, found.columns));
                assert!(found.fit(&[*columns, 0]) && !found.fit(&[columns + 1, 0]));
                out
            });
            assert_eq!(put, expected.map(frames), "{columns} of {more:?}");
        }
        assert_eq!(Definitions::of_preparation(b"\x01\0\0\x01\0", NEW), None);
    }
}
