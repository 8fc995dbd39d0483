//! Any bytes as PDUs, under every combination of digests.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| iscsi_proto::fuzz::bhs(input));
