//! Any bytes as the beginning of a connection, to a target that wants proof and to one that does
//! not.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    iscsi_proto::login::fuzz::login(input);
    iscsi_proto::login::fuzz::chap(input);
});
