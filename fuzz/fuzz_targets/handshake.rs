//! Logins, greetings and what else is read before anybody is known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::attributes::text_at;
use wire::error::ServerError;
use wire::frame::{HEADER_LEN, join_frames, whole_packet};
use wire::greeting::Greeting;
use wire::login::{ChangeUser, Login};
use wire::prepared::{PrepareOk, execute_types, statement_id};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(greeting) = Greeting::parse(bytes) {
        let mut out = Vec::new();
        greeting.encode(&mut out);
    }
    if let Ok(login) = Login::parse(bytes) {
        let mut out = Vec::new();
        login.encode(1, &mut out);
        assert!(out.len() > HEADER_LEN);
    }
    if let Some((len, _)) = whole_packet(bytes) {
        assert!(len <= bytes.len());
        join_frames(&bytes[..len]);
    }
    if let Ok(at) = text_at(bytes) {
        assert!(at <= bytes.len());
    }
    let _ = ChangeUser::parse(bytes);
    let _ = ServerError::parse(bytes);
    let _ = PrepareOk::parse(bytes);
    let _ = statement_id(bytes);
    for parameters in [0, 1, 7, 8, 9, 65_535] {
        let _ = execute_types(bytes, parameters, bytes.len() % 2 == 0);
    }
});
