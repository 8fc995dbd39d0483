//! What is asked of memory beyond safe Rust: files that are kept in it ([`pinned`]), and what is free
//! given back to the system ([`give_back`]).
//!
//! All `unsafe` code of lund stands in this crate, in `pinned/map.rs` (the mapping), `pinned/copy.rs` (the copy
//! with its signal handler) and `give_back.rs` (one call).

mod give_back;
pub mod pinned;

pub use give_back::give_back;
pub use pinned::{Lost, PinnedFile};
