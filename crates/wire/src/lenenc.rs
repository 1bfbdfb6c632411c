//! Length-encoded integers and strings, and a cursor over a payload
//! (P: page_protocol_basic_dt_integers, page_protocol_basic_dt_strings).

/// A packet ends inside a field, or a field's length lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("packet ends inside {0}")]
pub struct Truncated(pub &'static str);

/// Reads fields off the front of a payload.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `payload`.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when there are fewer.
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Truncated> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Truncated(field))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads `N` bytes into an array.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when there are fewer.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Truncated> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Truncated(field))?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// Reads an `int<1>`.
    ///
    /// # Errors
    ///
    /// [`Truncated`] at the end of the payload.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Truncated> {
        self.array(field).map(|[byte]| byte)
    }

    /// Reads an `int<2>`.
    ///
    /// # Errors
    ///
    /// [`Truncated`] at the end of the payload.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Truncated> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Reads an `int<4>`.
    ///
    /// # Errors
    ///
    /// [`Truncated`] at the end of the payload.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Truncated> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Reads an `int<lenenc>`.
    ///
    /// # Errors
    ///
    /// [`Truncated`] at the end of the payload, and for the two markers that are no integers.
    pub fn lenenc(&mut self, field: &'static str) -> Result<u64, Truncated> {
        match self.u8(field)? {
            small @ 0..=0xfa => Ok(small.into()),
            0xfc => self.u16(field).map(u64::from),
            0xfd => self.array(field).map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]).into()),
            0xfe => self.array(field).map(u64::from_le_bytes),
            0xfb | 0xff => Err(Truncated(field)),
        }
    }

    /// Reads a `string<lenenc>`.
    ///
    /// # Errors
    ///
    /// [`Truncated`] when its length goes beyond the payload.
    pub fn lenenc_bytes(&mut self, field: &'static str) -> Result<&'a [u8], Truncated> {
        let len = usize::try_from(self.lenenc(field)?).map_err(|_| Truncated(field))?;
        self.bytes(len, field)
    }

    /// Reads a `string<NUL>`; one that the payload's end terminates counts too, as servers accept it.
    pub fn until_nul(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.get(1..).unwrap_or_default();
        text
    }
}

/// Appends an `int<lenenc>`.
pub fn put_lenenc(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xfa => out.extend(bytes.iter().take(1)),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend(bytes.iter().take(2));
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend(bytes.iter().take(3));
        }
        _ => {
            out.push(0xfe);
            out.extend(bytes);
        }
    }
}

/// Appends a `string<lenenc>`.
pub fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back() {
        for value in [0, 1, 0xfa, 0xfb, 0xfc, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, u64::MAX] {
            let mut out = Vec::new();
            put_lenenc(&mut out, value);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.lenenc("value"), Ok(value));
            assert!(cursor.is_empty());
            for cut in 0..out.len() {
                assert!(Cursor::new(&out[..cut]).lenenc("value").is_err(), "{value} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_length_that_lies_is_an_error() {
        assert!(Cursor::new(b"\x05abc").lenenc_bytes("text").is_err());
        assert!(Cursor::new(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff").lenenc_bytes("text").is_err());
    }
}
