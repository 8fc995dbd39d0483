//! Disk images over positional file I/O: synchronous, blocking, shared by reference.
//!
//! Everything here works on byte offsets; logical blocks belong to the SCSI layer. Nothing here
//! knows sockets, sessions or a database.
#![forbid(unsafe_code)]

mod allocate;
mod create;
mod error;
mod extend;
mod fault;
mod flush;
mod image;
mod mem;
mod pool;
mod raw;

pub use create::{CreateOptions, Preallocation, Progress, RawCreator, partial_path};
pub use error::{ImageError, ImageErrorKind, Operation};
pub use extend::{ExtendOptions, RawExtender, undo_extension};
pub use fault::{Fault, FaultImage, Gate};
pub use image::{BlockState, Durability, Extent, Features, Image, Wait};
pub use mem::MemImage;
pub use pool::{MissingFile, PoolSpace, delete, pool_space};
pub use raw::{OpenOptions, RawImage};
