//! Makes a server's OK packets what a client expects that did not agree on session tracking.
//!
//! failsoft agrees on it with servers for its own sake. Such a client gets the packet that a server of
//! its own would send it: without the changes and the status flag that says that they are there, and
//! the same in all else (seen on MySQL 9.7 and MariaDB 10.11, also of the text in it, which has its
//! length before it either way, and of EOF packets).
//!
//! Rows go by as they are. What came in one read with an OK packet that has changes is copied.

use std::borrow::Cow;

use crate::frame::{HEADER_LEN, Header, put_packet};
use crate::reply::{Progress, ReplyError, ReplyTracker};
use crate::track::without_changes;

/// A part of a reply.
#[derive(Debug, Eq, PartialEq)]
pub struct Part<'b> {
    /// What the client is to get.
    pub bytes: Cow<'b, [u8]>,
    /// How many of the server's bytes that deals with.
    pub used: usize,
    /// Whether the reply goes on.
    pub progress: Progress,
}

impl ReplyTracker {
    /// Takes note of `bytes`, which the server sent, as [`feed`](Self::feed) does, and yields them
    /// without changes in the session's state.
    ///
    /// # Errors
    ///
    /// [`ReplyError`] as from [`feed`](Self::feed).
    pub fn feed_quietly<'b>(&mut self, bytes: &'b [u8]) -> Result<Part<'b>, ReplyError> {
        let mut out = Cow::Borrowed(Default::default());
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let (more, progress, telling) = self.feed_to_changes(rest)?;
            let fed = rest.get(..more).unwrap_or_default();
            used += more;
            let Some(len) = telling else {
                if used == more {
                    out = Cow::Borrowed(fed);
                } else {
                    out.to_mut().extend(fed);
                }
                return Ok(Part { bytes: out, used, progress });
            };
            let (before, packet) = fed.split_at(more.saturating_sub(len));
            out.to_mut().extend(before);
            put_quiet(packet, out.to_mut());
            if progress != Progress::More {
                return Ok(Part { bytes: out, used, progress });
            }
        }
    }
}

/// Appends an OK packet without its changes.
fn put_quiet(packet: &[u8], out: &mut Vec<u8>) {
    let payload = packet.get(HEADER_LEN..).unwrap_or_default();
    match (Header::peek(packet), without_changes(payload)) {
        (Some(header), Some(quiet)) => drop(put_packet(out, header.sequence, &quiet)),
        _ => out.extend(packet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;
    use crate::command::ReplyKind;

    const OK: &[u8] = b"\0\0\0\x02\0\0\0";
    const ROWS_END: &[u8] = b"\xfe\0\0\x02\0\0\0";
    const UPDATED: &[u8] = b"\0\0\0\"\0\0\0(Rows matched: 2  Changed: 0  Warnings: 0";
    const COLUMN: &[u8] = b"\x03def (the rest is skipped)";

    /// What servers send, and what they send to a client without session tracking.
    const CHANGED: &[(&[u8], &[u8])] = &[
        (b"\0\0\0\x02@\0\0\0\x06\x01\x04\x03app", OK),
        (b"\0\0\0\x02A\0\0\0\x03\x01\x01\0", b"\0\0\0\x02\x01\0\0"),
        (b"\0\0\0\x0a@\0\0\0\x13\0\x11\ttime_zone\x06+05:00", b"\0\0\0\x0a\0\0\0"),
        (
            b"\0\0\0\"@\0\0(Rows matched: 2  Changed: 0  Warnings: 0\x13\0\x11\ttime_zone\x06+05:00",
            UPDATED,
        ),
        (b"\0\xfc\x01\x02\x05\x02@\x07\0\0\x06\x01\x04\x03app", b"\0\xfc\x01\x02\x05\x02\0\x07\0"),
        (UPDATED, UPDATED),
        (OK, OK),
        // What cannot be read goes on as it is.
        (b"\0\0\0\x02@\0\0\0\x07\x01\x04\x03app", b"\0\0\0\x02@\0\0\0\x07\x01\x04\x03app"),
    ];

    fn frames(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (sequence, payload) in (1..).zip(payloads) {
            put_packet(&mut out, sequence, payload);
        }
        out
    }

    fn tracker() -> ReplyTracker {
        let both = Capabilities::DEPRECATE_EOF.or(Capabilities::SESSION_TRACK);
        ReplyTracker::new(ReplyKind::Results, both)
    }

    #[test]
    fn clients_get_what_they_would_get_directly() {
        for (sent, expected) in CHANGED {
            let mut reply = tracker();
            let bytes = frames(&[sent]);
            let part = reply.feed_quietly(&bytes).unwrap();
            assert_eq!(part.bytes, frames(&[expected]), "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn the_network_may_cut_anywhere() {
        let sent: &[&[u8]] = &[
            CHANGED[2].0,
            b"\x01",
            COLUMN,
            b"\x011",
            b"\xfb",
            b"\xfe\0\0\x0a@\0\0\0\x06\x01\x04\x03app",
            b"\0\0\0\x0a\0\0\0",
            CHANGED[0].0,
        ];
        let expected: &[&[u8]] = &[
            CHANGED[2].1,
            b"\x01",
            COLUMN,
            b"\x011",
            b"\xfb",
            b"\xfe\0\0\x0a\0\0\0",
            b"\0\0\0\x0a\0\0\0",
            OK,
        ];
        let (bytes, expected) = (frames(sent), frames(expected));
        for cut in 0..=bytes.len() {
            let mut reply = tracker();
            let mut out: Vec<u8> = Vec::new();
            let first = reply.feed_quietly(&bytes[..cut]).unwrap();
            out.extend(first.bytes.iter());
            if cut < bytes.len() {
                assert_eq!(first.progress, Progress::More, "cut at {cut}");
                let second = reply.feed_quietly(&bytes[first.used..]).unwrap();
                out.extend(second.bytes.iter());
                assert_eq!(first.used + second.used, bytes.len(), "cut at {cut}");
            }
            assert_eq!(out, expected, "cut at {cut}");
            let changes = reply.take_changes().unwrap();
            assert_eq!(changes.schema.as_deref(), Some(&b"app"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn only_what_comes_with_changes_is_copied() {
        let rows = frames(&[b"\x01", COLUMN, b"\x011", b"\xfb", ROWS_END]);
        let part = tracker().feed_quietly(&rows).unwrap();
        assert!(matches!(part.bytes, Cow::Borrowed(_)));
        assert_eq!((part.used, part.bytes.as_ref()), (rows.len(), rows.as_slice()));
    }
}
