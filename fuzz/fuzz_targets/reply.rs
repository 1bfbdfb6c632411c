//! Where a reply ends does not depend on the pieces in which it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::command::ReplyKind;
use wire::reply::{Progress, ReplyTracker};

const KINDS: [ReplyKind; 5] = [
    ReplyKind::Results,
    ReplyKind::Status,
    ReplyKind::Prepared,
    ReplyKind::Rows,
    ReplyKind::Text,
];

/// How many bytes are the reply's, and how it ended; none for what is no reply.
fn follow(kind: ReplyKind, deprecate_eof: bool, bytes: &[u8], piece: usize) -> Option<(usize, Progress)> {
    let mut tracker = ReplyTracker::new(kind, deprecate_eof);
    let mut used = 0;
    while used < bytes.len() {
        let end = bytes.len().min(used + piece);
        let (taken, progress) = tracker.feed(&bytes[used..end]).ok()?;
        used += taken;
        if progress != Progress::More {
            return Some((used, progress));
        }
        assert_eq!(used, end, "what is not the end is taken whole");
    }
    Some((used, Progress::More))
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (bits, piece, bytes) = input;
    let kind = KINDS[usize::from(bits >> 1) % KINDS.len()];
    let deprecate_eof = bits & 1 != 0;
    let whole = follow(kind, deprecate_eof, bytes, usize::MAX / 2);
    let pieces = follow(kind, deprecate_eof, bytes, usize::from(piece).max(1));
    if whole.is_some() && pieces.is_some() {
        assert_eq!(whole, pieces);
    }
});
