//! I/O that may sleep: on threads that may, and bounded for each unit, so that a unit whose
//! device hangs holds nobody else up.

mod copy;
pub(crate) mod medium;
mod queue;
mod read;
mod work;

pub(crate) use copy::{Control, Copied, Copy, CopyEnd, Failure, MakeToken, Run, Source, Stop};
pub(crate) use queue::{Completion, UnitQueue};
pub(crate) use work::{Output, Work, WorkError};
