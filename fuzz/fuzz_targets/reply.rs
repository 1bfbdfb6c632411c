//! Where a reply ends does not depend on the pieces in which it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::capabilities::Capabilities;
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
fn follow(
    kind: ReplyKind,
    agreed: Capabilities,
    bytes: &[u8],
    piece: usize,
) -> Option<(usize, Progress)> {
    let mut tracker = ReplyTracker::new(kind, agreed);
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

/// What shapes a reply.
const FLAGS: [Capabilities; 3] = [
    Capabilities::DEPRECATE_EOF,
    Capabilities::OPTIONAL_RESULTSET_METADATA,
    Capabilities::MARIADB_CACHE_METADATA,
];

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (bits, piece, bytes) = input;
    let kind = KINDS[usize::from(bits >> 3) % KINDS.len()];
    let agreed = FLAGS.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0);
    let agreed = agreed.fold(Capabilities::NONE, |all, (_, flag)| all.or(*flag));
    let whole = follow(kind, agreed, bytes, usize::MAX / 2);
    let pieces = follow(kind, agreed, bytes, usize::from(piece).max(1));
    if whole.is_some() && pieces.is_some() {
        assert_eq!(whole, pieces);
    }
});
