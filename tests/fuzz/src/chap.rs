//! Any text as the values of CHAP.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::login::fuzz::chap_values(input));
