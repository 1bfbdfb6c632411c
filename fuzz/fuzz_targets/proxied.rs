//! PROXY headers: whatever a load balancer sends, it is a header or it is none.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    proxy::parse_proxy_header(bytes);
});
