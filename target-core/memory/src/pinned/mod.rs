//! Ranges of a file that the system keeps in memory, and that are read without a system call.
//!
//! A [`PinnedFile`] is a mapping of which ranges are locked (`mlock`): they have been read when
//! [`PinnedFile::pin`] returns and are not evicted, so a copy out of them does not wait for a
//! device. Bytes are those of the page cache: what `write` has written is seen at once.
//!
//! A file can lose bytes while it is mapped, since somebody else has cut it or its device fails; a
//! program that reads those gets SIGBUS. Here the copy ends instead, and says so ([`Lost`]). Where
//! there is no such copy (other processors than x86-64) nothing is pinned.

mod copy;
mod map;

pub use copy::Lost;
pub use map::PinnedFile;
