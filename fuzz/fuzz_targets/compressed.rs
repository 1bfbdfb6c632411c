//! Compressed frames: none makes more than it announces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::compress::{FRAME_HEADER_LEN, FrameHeader, Method, SequenceIds, unpack_frame};

fuzz_target!(|bytes: &[u8]| {
    let mut ids = SequenceIds::default();
    let mut at = 0;
    while let Some((id, _)) = ids.next_in(bytes, at) {
        assert!(id >= at && id < bytes.len());
        at = id + 1;
    }
    let Some(header) = FrameHeader::peek(bytes) else { return };
    // The allocation that a header may ask for is bounded; the fuzzer's memory is, too.
    if header.plain_len > 1 << 20 {
        return;
    }
    for method in [Method::Zlib, Method::Zstd(3)] {
        let mut out = Vec::new();
        if unpack_frame(method, header, &bytes[FRAME_HEADER_LEN..], &mut out).is_ok() {
            assert!(header.plain_len == 0 || out.len() == header.plain_len);
        }
        assert!(header.plain_len == 0 || out.len() <= header.plain_len + 1);
    }
});
