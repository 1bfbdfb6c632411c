//! A connection that does nothing but point selects, as fast as it can, in text or prepared.
//!
//! It is written by hand so that the client costs little beside what is measured: one write and
//! usually one read per statement, and no row is decoded.

use std::io;

use anyhow::{Context as _, bail};
use testkit::{APP, Login, RawClient, capability};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::frame::put_packet;

/// Rows of the table; ids run from 1.
pub(crate) const ROWS: u64 = 10_000;
/// Room for many replies of a point select.
const BUFFER: usize = 16 << 10;

/// The point select, to be prepared.
pub(crate) const PREPARE: &[u8] = b"SELECT c FROM sbtest WHERE id=?";

/// Statements that make the table which [`Client::point_select`] reads.
pub(crate) fn setup() -> [String; 3] {
    [
        "CREATE TABLE sbtest (id INT PRIMARY KEY, c CHAR(120) NOT NULL)".to_owned(),
        format!(
            "INSERT INTO sbtest SELECT seq, REPEAT(CHAR(97 + seq % 26), 120) FROM seq_1_to_{ROWS}"
        ),
        "ANALYZE TABLE sbtest".to_owned(),
    ]
}

/// A logged-in connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    command: Vec<u8>,
    buffer: Box<[u8]>,
    random: u64,
    /// The number of the prepared statement, where there is one.
    prepared: Option<[u8; 4]>,
}

impl Client {
    /// Connects to a loopback port and logs in. Connections of different seeds read different rows.
    pub(crate) async fn connect(port: u16, seed: u64) -> anyhow::Result<Self> {
        let mut raw = RawClient::connect(port).await.context("cannot connect")?;
        let mut login = Login { schema: Some("app".to_owned()), ..Login::new(APP.user, APP.pass) };
        login.capabilities |= capability::LOCAL_FILES;
        let answer = raw.login(&login).await.context("the login broke off")?;
        if let Some((number, _, text)) = answer.error() {
            bail!("login refused: {number} {text}");
        }
        Ok(Self {
            stream: raw.stream,
            command: Vec::with_capacity(64),
            buffer: vec![0; BUFFER].into(),
            random: seed.wrapping_mul(2).wrapping_add(1),
            prepared: None,
        })
    }

    /// Prepares the point select, so that it is executed from then on.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        put_command(&mut self.command, 0x16, PREPARE)?;
        self.stream.write_all(&self.command).await?;
        // The answer, a parameter and a column, each list with its EOF.
        self.read_until(|bytes| Ok(count_packets(bytes) >= 5)).await?;
        self.prepared = Some(prepared_id(&self.buffer)?);
        Ok(())
    }

    /// Sends a statement, of any length.
    pub(crate) async fn send_query(&mut self, text: &[u8]) -> anyhow::Result<()> {
        let mut bytes = Vec::with_capacity(text.len() + 16);
        put_packet(&mut bytes, 0, &[&[3], text].concat());
        self.stream.write_all(&bytes).await?;
        Ok(())
    }

    /// Says goodbye.
    pub(crate) async fn quit(mut self) -> anyhow::Result<()> {
        put_command(&mut self.command, 1, b"")?;
        self.stream.write_all(&self.command).await?;
        Ok(())
    }

    /// Sends one point select and reads its reply to the end.
    pub(crate) async fn point_select(&mut self) -> anyhow::Result<()> {
        self.random = next_random(self.random);
        let id = self.random % ROWS + 1;
        put_select(&mut self.command, self.prepared, id)?;
        self.stream.write_all(&self.command).await?;
        self.read_until(is_whole_result).await
    }

    /// Reads a reply from the front of the buffer on, until it is whole.
    async fn read_until(
        &mut self,
        is_whole: impl Fn(&[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut filled = 0;
        loop {
            let free = self.buffer.get_mut(filled..).unwrap_or_default();
            match self.stream.read(free).await? {
                0 => bail!(io::Error::from(io::ErrorKind::UnexpectedEof)),
                read => filled += read,
            }
            if is_whole(self.buffer.get(..filled).unwrap_or_default())? {
                return Ok(());
            }
        }
    }
}

/// Makes `command` the point select of a row, in text or of a prepared statement.
pub(crate) fn put_select(
    command: &mut Vec<u8>,
    prepared: Option<[u8; 4]>,
    id: u64,
) -> anyhow::Result<()> {
    match prepared {
        None => {
            let text = format!("SELECT c FROM sbtest WHERE id={id}");
            put_command(command, 3, text.as_bytes())
        }
        Some(number) => {
            // No cursor, once; no NULL, types follow; a BIGINT (P: page_protocol_com_stmt_execute).
            let head = [number.as_slice(), &[0, 1, 0, 0, 0, 0, 1, 8, 0]].concat();
            put_command(command, 0x17, &[head, id.to_le_bytes().to_vec()].concat())
        }
    }
}

/// The number of the statement that an answer says is prepared.
pub(crate) fn prepared_id(answer: &[u8]) -> anyhow::Result<[u8; 4]> {
    match *answer {
        [_, _, _, _, 0, a, b, c, d, ..] => Ok([a, b, c, d]),
        _ => bail!("the statement was not prepared"),
    }
}

/// A step of xorshift64: never 0 if it did not begin there.
fn next_random(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

/// Makes `command` a packet.
fn put_command(command: &mut Vec<u8>, code: u8, rest: &[u8]) -> anyhow::Result<()> {
    let [a, b, c, 0] = u32::try_from(rest.len() + 1)?.to_le_bytes() else {
        bail!("the command is too long for one frame");
    };
    command.clear();
    command.extend([a, b, c, 0, code]);
    command.extend(rest);
    Ok(())
}

/// How many whole packets these bytes begin with.
fn count_packets(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((&[a, b, c, _], rest)) = bytes.split_first_chunk() {
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let Some(rest) = rest.get(length..) else { break };
        (count, bytes) = (count + 1, rest);
    }
    count
}

/// Whether these bytes are one whole result with a row in it: columns, EOF, a row, EOF.
///
/// # Errors
/// They are an error, a result without a row, or more than one result.
fn is_whole_result(mut bytes: &[u8]) -> anyhow::Result<bool> {
    let (mut ends, mut rows) = (0, 0);
    while let Some((&[a, b, c, _], rest)) = bytes.split_first_chunk() {
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(false) };
        match payload {
            [0xff, error @ ..] => bail!("{}", String::from_utf8_lossy(error)),
            [0xfe, _, _, _, _] => ends += 1,
            _ => rows += usize::from(ends == 1),
        }
        bytes = rest;
        if ends == 2 {
            return match (rows, bytes) {
                (1, []) => Ok(true),
                _ => bail!("{rows} rows and {} bytes after them, expected one row", bytes.len()),
            };
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(payloads: &[&[u8]]) -> Vec<u8> {
        let frame = |payload: &&[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[length, 0, 0, 1], *payload].concat()
        };
        payloads.iter().flat_map(frame).collect()
    }

    const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

    #[test]
    fn a_result_ends_with_its_second_eof_and_not_before() {
        let whole = packets(&[&[1], b"\x03def column", EOF, b"\x03row", EOF]);
        for end in 0..whole.len() {
            assert!(!is_whole_result(&whole[..end]).unwrap(), "{end}");
        }
        assert!(is_whole_result(&whole).unwrap());
    }

    #[test]
    fn other_replies_are_errors() {
        let rows: &[(&[&[u8]], &str)] = &[
            (&[b"\xff\x0a\x05#HY000no"], "no"),
            (&[&[1], b"\x03def", EOF, EOF], "0 rows"),
            (&[&[1], b"\x03def", EOF, b"\x01a", b"\x01b", EOF], "2 rows"),
            (&[&[1], b"\x03def", EOF, b"\x01a", EOF, &[0]], "5 bytes after"),
        ];
        for (payloads, expected) in rows {
            let error = is_whole_result(&packets(payloads)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn ids_are_spread_over_the_table() {
        let mut random = 1;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..ROWS {
            random = next_random(random);
            seen.insert(random % ROWS);
        }
        assert!(seen.len() > 6_000, "{}", seen.len());
    }
}
