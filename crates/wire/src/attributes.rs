//! Query attributes: where a statement's text starts when the packet may have attributes before it
//! (P: page_protocol_com_query).

use crate::lenenc::{Cursor, Truncated};

const WHAT: &str = "the query attributes";

/// Where the text starts in the payload of a `COM_QUERY` of a client that agreed on query
/// attributes.
///
/// # Errors
///
/// [`Truncated`] when the attributes are cut short.
pub fn text_at(payload: &[u8]) -> Result<usize, Truncated> {
    let mut cursor = Cursor::new(payload);
    cursor.u8("the command")?;
    let count = usize::try_from(cursor.lenenc(WHAT)?).map_err(|_| Truncated(WHAT))?;
    cursor.lenenc(WHAT)?;
    if count > 0 {
        let nulls = cursor.bytes(count.div_ceil(8), WHAT)?;
        cursor.u8(WHAT)?;
        let mut types = Vec::new();
        for _ in 0..count {
            types.push(cursor.u16(WHAT)?);
            cursor.lenenc_bytes(WHAT)?;
        }
        for (at, kind) in types.into_iter().enumerate() {
            let null = nulls.get(at / 8).is_some_and(|bits| bits >> (at % 8) & 1 == 1);
            if !null {
                skip_value(&mut cursor, kind)?;
            }
        }
    }
    Ok(payload.len() - cursor.rest().len())
}

/// Skips a value of the binary protocol (P: page_protocol_binary_resultset). The type's high byte
/// says whether it is unsigned.
fn skip_value(cursor: &mut Cursor<'_>, kind: u16) -> Result<(), Truncated> {
    let [kind, _] = kind.to_le_bytes();
    match kind {
        0x06 => {}
        0x01 => {
            cursor.bytes(1, WHAT)?;
        }
        0x02 | 0x0d => {
            cursor.bytes(2, WHAT)?;
        }
        0x03 | 0x04 | 0x09 => {
            cursor.bytes(4, WHAT)?;
        }
        0x05 | 0x08 => {
            cursor.bytes(8, WHAT)?;
        }
        0x07 | 0x0a | 0x0b | 0x0c => {
            let len = cursor.u8(WHAT)?;
            cursor.bytes(len.into(), WHAT)?;
        }
        _ => {
            cursor.lenenc_bytes(WHAT)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_found_behind_the_attributes() {
        #[rustfmt::skip]
        let table: &[&[u8]] = &[
            b"\x03\x00\x01SELECT 1",
            b"\x03\x01\x01\0\x01\xfe\0\x01n\x03abcSELECT 1",
            b"\x03\x02\x01\x02\x01\x08\0\x01a\xfe\0\x01b\x01\0\0\0\0\0\0\0SELECT 1",
            b"\x03\x01\x01\0\x01\x0c\0\x01t\x04\xe9\x07\x01\x01SELECT 1",
        ];
        for payload in table {
            let at = text_at(payload).unwrap();
            assert_eq!(&payload[at..], b"SELECT 1", "{payload:?}");
            for cut in 0..at {
                assert!(text_at(&payload[..cut]).is_err(), "{payload:?} cut at {cut}");
            }
        }
    }
}
