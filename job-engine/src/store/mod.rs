//! The database behind a small trait.
