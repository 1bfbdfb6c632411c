//! Replies as tables.
#![expect(clippy::type_complexity, reason = "tables of cases")]

use super::*;

/// Frames `payloads` one after another.
fn frames(payloads: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (sequence, payload) in (1..).zip(payloads) {
        let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
        out.extend([len[0], len[1], len[2], sequence]);
        out.extend(*payload);
    }
    out
}

const OK: &[u8] = &[0x00, 0, 0, 0x02, 0, 0, 0];
const OK_MORE: &[u8] = &[0x00, 0, 0, 0x0a, 0, 0, 0];
const OK_AFTER_ROWS: &[u8] = &[0xfe, 0, 0, 0x22, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 0x22, 0];
const EOF_MORE: &[u8] = &[0xfe, 0, 0, 0x0a, 0];
const EOF_OUT: &[u8] = &[0xfe, 0, 0, 0x2a, 0x10];
const COLUMN: &[u8] = b"\x03def (the rest is skipped)";
const READ_ONLY: &[u8] = b"\xff\x0a\x05#HY000--read-only";

fn done(status: u16, error: Option<u16>) -> Progress {
    let status = error.is_none().then_some(status);
    Progress::Done(ReplyEnd { status, error, insert_id: false, warned: false })
}

fn agreed(deprecate_eof: bool) -> Capabilities {
    if deprecate_eof { Capabilities::DEPRECATE_EOF } else { Capabilities::NONE }
}

fn results(deprecate_eof: bool) -> ReplyTracker {
    ReplyTracker::new(ReplyKind::Results, agreed(deprecate_eof))
}

#[test]
fn replies_end_where_they_should() {
    // what it is, DEPRECATE_EOF agreed, the packets, how it ends
    let table: &[(&str, bool, &[&[u8]], Progress)] = &[
        ("write", true, &[OK], done(0x02, None)),
        ("error", true, &[READ_ONLY], done(0, Some(1290))),
        ("rows", true, &[b"\x01", COLUMN, b"\x011", OK_AFTER_ROWS], done(0x22, None)),
        ("no rows", true, &[b"\x01", COLUMN, OK_AFTER_ROWS], done(0x22, None)),
        ("old rows", false, &[b"\x01", COLUMN, EOF, b"\x011", EOF], done(0x22, None)),
        ("killed", true, &[b"\x01", COLUMN, b"\x011", b"\xff\x25\x05"], done(0, Some(1317))),
        ("progress", true, &[b"\xff\xff\xff\x01\x01", OK], done(0x02, None)),
        ("two results", true, &[OK_MORE, OK], done(0x02, None)),
        ("old two", false, &[b"\x01", COLUMN, EOF, EOF_MORE, OK], done(0x02, None)),
        ("out", false, &[b"\x01", COLUMN, EOF_OUT, b"\0\0\x05", EOF, OK], done(0x02, None)),
        ("infile", true, &[b"\xfb/tmp/x"], Progress::ClientTurn),
        ("cut short", true, &[b"\x01", COLUMN, b"\x011"], Progress::More),
    ];
    for (what, deprecate_eof, packets, end) in table {
        let bytes = frames(packets);
        let fed = results(*deprecate_eof).feed(&bytes);
        assert_eq!(fed, Ok((bytes.len(), *end)), "{what}");
    }
}

#[test]
fn the_network_may_cut_anywhere() {
    let bytes = frames(&[b"\x02", COLUMN, COLUMN, b"\x011\x012", OK_AFTER_ROWS]);
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let mut reply = results(true);
        assert_eq!(reply.feed(first), Ok((cut, Progress::More)), "cut at {cut}");
        assert_eq!(reply.feed(second), Ok((second.len(), done(0x22, None))), "cut at {cut}");
    }
}

#[test]
fn a_huge_row_is_not_an_end() {
    let mut row = vec![0xfe; MAX_PAYLOAD];
    row[1..9].copy_from_slice(&(1u64 << 24).to_le_bytes());
    let bytes = frames(&[b"\x01", COLUMN, &row, b"tail of the row", OK_AFTER_ROWS]);
    let fed = results(true).feed(&bytes);
    assert_eq!(fed, Ok((bytes.len(), done(0x22, None))));
}

#[test]
fn bytes_after_the_reply_are_not_counted() {
    let bytes = frames(&[OK, b"unasked for"]);
    assert_eq!(results(true).feed(&bytes), Ok((11, done(0x02, None))));
}

#[test]
fn replies_to_other_commands() {
    const PREPARE_OK: &[u8] = &[0x00, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
    const PREPARE_BARE: &[u8] = &[0x00, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const CURSOR: &[u8] = &[0xfe, 0, 0, 0x42, 0];
    const CURSOR_MORE: &[u8] = &[0xfe, 0, 0, 0x4a, 0];
    let none = Progress::Done(ReplyEnd::default());
    let (status, prepared) = (ReplyKind::Status, ReplyKind::Prepared);
    let (results, rows, text) = (ReplyKind::Results, ReplyKind::Rows, ReplyKind::Text);
    let cursor = ReplyKind::Cursor;
    #[rustfmt::skip]
    let table: &[(&str, ReplyKind, bool, &[&[u8]], Progress)] = &[
        ("ping",         status,   true,  &[OK], done(0x02, None)),
        ("stale flag",   status,   true,  &[OK_MORE], done(0x0a, None)),
        ("set option",   status,   false, &[EOF], done(0x22, None)),
        ("set option 2", status,   true,  &[OK_AFTER_ROWS], done(0x22, None)),
        ("eof anyway",   status,   true,  &[EOF], done(0x22, None)),
        ("prepare",      prepared, true,  &[PREPARE_OK, COLUMN, COLUMN, COLUMN], none),
        ("prepare old",  prepared, false, &[PREPARE_OK, COLUMN, COLUMN, EOF, COLUMN, EOF], none),
        ("prepare DO",   prepared, false, &[PREPARE_BARE], none),
        ("prepare none", prepared, true,  &[OK], done(0x02, None)),
        ("prepare err",  prepared, true,  &[READ_ONLY], done(0, Some(1290))),
        ("fetch",        rows,     true,  &[b"\0\0\x01", OK_AFTER_ROWS], done(0x22, None)),
        ("fetch old",    rows,     false, &[b"\0\0\x01", EOF], done(0x22, None)),
        ("cursor old",   cursor,   false, &[b"\x01", COLUMN, CURSOR], done(0x42, None)),
        ("no cursor",    cursor,   false, &[b"\x01", COLUMN, EOF, b"\x011", EOF], done(0x22, None)),
        ("its own",      results,  false, &[b"\x01", COLUMN, CURSOR, b"\x011", CURSOR], done(0x42, None)),
        ("of a CALL",    cursor,   false, &[b"\x01", COLUMN, CURSOR_MORE, b"\x011", CURSOR_MORE, OK], done(0x02, None)),
        ("statistics",   text,     true,  &[b"Uptime: 1"], none),
        ("status err",   status,   true,  &[READ_ONLY], done(0, Some(1290))),
    ];
    for (what, kind, deprecate_eof, packets, end) in table {
        let bytes = frames(packets);
        let fed = ReplyTracker::new(*kind, agreed(*deprecate_eof)).feed(&bytes);
        assert_eq!(fed, Ok((bytes.len(), *end)), "{what}");
    }
}

#[test]
fn definitions_may_be_left_out() {
    const OPTIONAL: Capabilities = Capabilities::OPTIONAL_RESULTSET_METADATA;
    const CACHED: Capabilities = Capabilities::MARIADB_CACHE_METADATA;
    const EOF_LESS: Capabilities = Capabilities::DEPRECATE_EOF;
    const CURSOR: &[u8] = &[0xfe, 0, 0, 0x42, 0];
    const WITH: &[u8] = &[0x00, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 1];
    const WITHOUT: &[u8] = &[0x00, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0];
    const PLAIN: &[u8] = &[0x00, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    const MANY: &[u8] = &[0xfc, 0x2c, 0x01, 0];
    let none = Progress::Done(ReplyEnd::default());
    let (results, cursor, prepared) = (ReplyKind::Results, ReplyKind::Cursor, ReplyKind::Prepared);
    #[rustfmt::skip]
    let table: &[(&str, ReplyKind, Capabilities, &[&[u8]], Progress)] = &[
        ("all there",     results,  EOF_LESS, &[b"\x01\x01", COLUMN, b"\x011", OK_AFTER_ROWS], done(0x22, None)),
        ("left out",      results,  EOF_LESS, &[b"\x01\x00", b"\x011", OK_AFTER_ROWS], done(0x22, None)),
        ("no rows",       results,  EOF_LESS, &[b"\x01\x00", OK_AFTER_ROWS], done(0x22, None)),
        ("300 of them",   results,  EOF_LESS, &[MANY, OK_AFTER_ROWS], done(0x22, None)),
        ("old, there",    results,  Capabilities::NONE, &[b"\x01\x01", COLUMN, EOF, b"\x011", EOF], done(0x22, None)),
        ("old, left out", results,  Capabilities::NONE, &[b"\x01\x00", EOF, b"\x011", EOF], done(0x22, None)),
        ("two results",   results,  Capabilities::NONE, &[b"\x01\x00", EOF, EOF_MORE, b"\x01\x01", COLUMN, EOF, EOF], done(0x22, None)),
        ("out",           results,  Capabilities::NONE, &[b"\x01\x00", EOF_OUT, b"\0\0\x05", EOF, OK], done(0x02, None)),
        ("write",         results,  EOF_LESS, &[OK], done(0x02, None)),
        ("infile",        results,  EOF_LESS, &[b"\xfb/tmp/x"], Progress::ClientTurn),
        ("failed",        results,  EOF_LESS, &[b"\x01\x00", READ_ONLY], done(0, Some(1290))),
        ("cursor",        cursor,   Capabilities::NONE, &[b"\x01\x00", CURSOR], done(0x42, None)),
        ("not one",       cursor,   Capabilities::NONE, &[b"\x01\x00", EOF, EOF], done(0x22, None)),
    ];
    for (what, kind, more, packets, end) in table {
        for flag in [OPTIONAL, CACHED] {
            let bytes = frames(packets);
            let fed = ReplyTracker::new(*kind, flag.or(*more)).feed(&bytes);
            assert_eq!(fed, Ok((bytes.len(), *end)), "{what}, {flag:?}");
        }
    }
    #[rustfmt::skip]
    let table: &[(&str, Capabilities, &[&[u8]], Result<Progress, ReplyError>)] = &[
        ("MySQL, there",    OPTIONAL,              &[WITH, COLUMN, COLUMN, EOF, COLUMN, EOF], Ok(none)),
        ("MySQL, left out", OPTIONAL,              &[WITHOUT, EOF, EOF], Ok(none)),
        ("without EOF",     OPTIONAL.or(EOF_LESS), &[WITHOUT], Ok(none)),
        ("there, no EOF",   OPTIONAL.or(EOF_LESS), &[WITH, COLUMN, COLUMN, COLUMN], Ok(none)),
        ("cut short",       OPTIONAL,              &[PLAIN], Err(Truncated("whether definitions follow").into())),
        ("MariaDB",         CACHED,                &[PLAIN, COLUMN, EOF], Ok(none)),
    ];
    for (what, agreed, packets, end) in table {
        let bytes = frames(packets);
        let fed = ReplyTracker::new(prepared, *agreed).feed(&bytes);
        assert_eq!(fed, end.map(|end| (bytes.len(), end)), "{what}");
    }
    let short = ReplyTracker::new(results, CACHED).feed(&frames(&[b"\x01"]));
    assert_eq!(short, Err(Truncated("whether definitions follow").into()));
}

#[test]
fn an_insert_id_is_noticed() {
    let fed = results(true).feed(&frames(&[&[0x00, 1, 7, 0x02, 0, 0, 0]]));
    let end = ReplyEnd { status: Some(2), error: None, insert_id: true, warned: false };
    assert_eq!(fed, Ok((11, Progress::Done(end))));
}

#[test]
fn warnings_are_those_of_the_last_result() {
    let warned = |deprecate_eof, packets: &[&[u8]]| {
        let fed = results(deprecate_eof).feed(&frames(packets)).unwrap();
        let (_, Progress::Done(end)) = fed else { panic!("{packets:?}") };
        end.warned
    };
    assert!(warned(true, &[&[0x00, 1, 0, 0x02, 0, 1, 0]]));
    assert!(!warned(true, &[&[0x00, 1, 0, 0x0a, 0, 1, 0], OK]));
    assert!(warned(false, &[b"\x01", COLUMN, EOF, b"\x011", &[0xfe, 2, 0, 0x02, 0]]));
    assert!(warned(true, &[b"\x01", COLUMN, b"\x011", &[0xfe, 0, 0, 0x02, 0, 2, 0]]));
    // An error is one, and says so itself.
    assert!(!warned(true, &[&[0x00, 1, 0, 0x0a, 0, 1, 0], READ_ONLY]));
}

#[test]
fn an_error_can_follow_at_a_boundary() {
    let bytes = frames(&[b"\x01", COLUMN, b"\x011"]);
    let mut reply = results(true);
    reply.feed(&bytes).unwrap();
    assert!(reply.is_at_boundary());
    assert_eq!(reply.next_sequence(), 4);
    let mut reply = results(true);
    reply.feed(&bytes[..bytes.len() - 1]).unwrap();
    assert!(!reply.is_at_boundary());
}

const CHANGED: &[u8] = b"\0\0\0\x02@\0\0\0\x06\x01\x04\x03app";
const CHANGED_MORE: &[u8] = b"\0\0\0\x0a@\0\0\0\x13\0\x11\ttime_zone\x06+05:00";
const CHANGED_AFTER_ROWS: &[u8] = b"\xfe\0\0\x02@\0\0\0\x06\x01\x04\x03app";

fn tracking() -> ReplyTracker {
    let both = Capabilities::DEPRECATE_EOF.or(Capabilities::SESSION_TRACK);
    ReplyTracker::new(ReplyKind::Results, both)
}

/// Feeds bytes as a connection brings them, the second part with what was left of the first; yields
/// what was used at first, and the end.
fn feed_in_two(reply: &mut ReplyTracker, bytes: &[u8], cut: usize) -> (usize, Progress) {
    let (used, progress) = reply.feed(&bytes[..cut]).unwrap();
    assert_eq!(progress, Progress::More, "cut at {cut}");
    let (more, end) = reply.feed(&bytes[used..]).unwrap();
    assert_eq!(used + more, bytes.len(), "cut at {cut}");
    (used, end)
}

#[test]
fn changes_are_seen_wherever_the_network_cuts() {
    let rows: &[&[u8]] = &[CHANGED_MORE, b"\x01", COLUMN, b"\x011", b"\xfb", CHANGED_AFTER_ROWS];
    for (packets, schema, variables) in
        [(rows, Some("app"), 1), (&[CHANGED], Some("app"), 0), (&[CHANGED_MORE, OK], None, 1)]
    {
        let bytes = frames(packets);
        for cut in 0..bytes.len() {
            let mut reply = tracking();
            let (_, end) = feed_in_two(&mut reply, &bytes, cut);
            assert!(matches!(end, Progress::Done(_)), "cut at {cut}");
            let changes = reply.take_changes().unwrap();
            assert_eq!(changes.schema.as_deref(), schema.map(str::as_bytes), "cut at {cut}");
            assert_eq!(changes.variables.len(), variables, "cut at {cut}");
        }
    }
}

#[test]
fn only_the_beginning_of_an_ok_is_left_for_later() {
    let bytes = frames(&[b"\x01", COLUMN, b"\x011", CHANGED_AFTER_ROWS]);
    let ok = bytes.len() - HEADER_LEN - CHANGED_AFTER_ROWS.len();
    for cut in 0..bytes.len() {
        let (used, _) = feed_in_two(&mut tracking(), &bytes, cut);
        // Less than a header and a marker does not say yet what it is.
        let most = if cut < ok { cut } else { ok };
        assert!(used <= most && (cut > ok || cut - used <= HEADER_LEN), "{used} of {cut}");
    }
}

#[test]
fn changes_are_not_looked_for_where_none_were_agreed_on() {
    let mut reply = results(true);
    reply.feed(&frames(&[CHANGED])).unwrap();
    assert!(reply.take_changes().is_none());
    let bytes = frames(&[b"Uptime: 1"]);
    let both = Capabilities::DEPRECATE_EOF.or(Capabilities::SESSION_TRACK);
    let mut text = ReplyTracker::new(ReplyKind::Text, both);
    assert_eq!(text.feed(&bytes), Ok((bytes.len(), Progress::Done(ReplyEnd::default()))));
    // A packet without payload is waited for no longer.
    assert_eq!(tracking().feed(&frames(&[b""])), Err(ReplyError::Empty));
}

/// The packets of a reply, results one after another, and whether more follow.
fn reply_of(results: &[(u8, bool, usize)], agreed: Capabilities) -> Vec<u8> {
    let (short, tells) = (
        agreed.contains(Capabilities::DEPRECATE_EOF),
        agreed.intersects(Capabilities::METADATA_BYTE),
    );
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    for (at, &(columns, follow, rows)) in results.iter().enumerate() {
        let more = if at + 1 < results.len() { 0x08 } else { 0 };
        let follow = follow || !tells;
        payloads.push(if tells { vec![columns, u8::from(follow)] } else { vec![columns] });
        payloads.extend(vec![COLUMN.to_vec(); if follow { columns.into() } else { 0 }]);
        if !short {
            payloads.push(vec![0xfe, 0, 0, more, 0]);
        }
        payloads.extend(vec![b"\x011".repeat(columns.into()); rows]);
        let end = if short { vec![0xfe, 0, 0, more, 0, 0, 0] } else { vec![0xfe, 0, 0, more, 0] };
        payloads.push(end);
    }
    frames(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn any_agreed() -> impl proptest::strategy::Strategy<Value = Capabilities> {
    use proptest::strategy::Strategy;
    (0_u8..8).prop_map(|bits| {
        let flags = [
            Capabilities::DEPRECATE_EOF,
            Capabilities::OPTIONAL_RESULTSET_METADATA,
            Capabilities::MARIADB_CACHE_METADATA,
        ];
        let set = flags.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0);
        set.fold(Capabilities::NONE, |all, (_, flag)| all.or(*flag))
    })
}

proptest::proptest! {
    #[test]
    fn a_reply_ends_with_its_last_byte(
        results in proptest::collection::vec((1_u8..20, proptest::bool::ANY, 0_usize..3), 1..4),
        agreed in any_agreed(),
        cut in proptest::prelude::any::<proptest::sample::Index>(),
    ) {
        let bytes = reply_of(&results, agreed);
        let (first, second) = bytes.split_at(cut.index(bytes.len()));
        let mut tracker = ReplyTracker::new(ReplyKind::Results, agreed);
        proptest::prop_assert_eq!(tracker.feed(first), Ok((first.len(), Progress::More)));
        proptest::prop_assert_eq!(tracker.feed(second), Ok((second.len(), done(0, None))));
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        agreed in any_agreed(),
    ) {
        for kind in [ReplyKind::Results, ReplyKind::Prepared, ReplyKind::Rows, ReplyKind::Text] {
            let _verdict = ReplyTracker::new(kind, agreed).feed(&bytes);
        }
    }
}
