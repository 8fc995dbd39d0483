//! The real daemon and the real command line, from the outside: what users, scripts and
//! initiators see of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod e2e;
