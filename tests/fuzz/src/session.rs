//! Any bytes in the full feature phase.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::session::fuzz::full_feature(input));
