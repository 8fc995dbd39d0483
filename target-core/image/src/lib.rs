//! Disk images over positional file I/O: synchronous, blocking, shared by reference.
//!
//! Everything here works on byte offsets; logical blocks belong to the SCSI layer. Nothing here
//! knows sockets, sessions or a database.
#![forbid(unsafe_code)]

mod ahead;
mod allocate;
mod block_file;
#[allow(dead_code, reason = "what one format does not need, another does")]
mod cache;
mod chain;
mod check;
mod convert;
mod copy;
mod create;
mod defect;
mod device;
mod direct;
mod error;
mod extend;
mod fault;
mod file;
mod flush;
mod folios;
mod format;
mod hot;
mod image;
mod layers;
mod mem;
mod mem_file;
mod mirror;
mod overwrite;
mod parents;
mod pool;
mod qcow2;
mod raw;
mod redo;
mod reflink;
mod slices;
mod switch;
mod tail;
mod take_space;
#[cfg(test)]
mod testing;
mod verify;
mod vhd;
mod vhdx;
mod vmdk;

pub use block_file::BlockFile;
pub use cache::{CacheBudget, CacheCounters, DEFAULT_CACHE_BYTES};
pub use check::check_named;
pub use convert::{
    ConvertOptions, ImageCopier, ImageVerifier, make_image, make_named, open_named, open_shared,
    probe_named, rebase_named,
};
pub use copy::{CopyOptions, FileCopier, NamedFile, first_data};
pub use create::{
    CreateOptions, Creator, Parent, Preallocation, Progress, RawCreator, check_create,
    create_image, is_whole, partial_path,
};
pub use device::{device_length, is_device};
pub use direct::{DirectIo, can_do_direct_io};
pub use error::{ImageError, ImageErrorKind, Operation};
pub use extend::{ExtendOptions, Extender, RawExtender, extend_image, undo_extension};
pub use fault::{Fault, FaultImage, Gate};
pub use file::{FileIdentity, ImageFile};
pub use format::{ImageFormat, OpenOptions, ParentOpener, open_image, open_over, probe};
pub use hot::{Pinned, default_hot_bytes, hot_bytes, set_hot_budget};
pub use image::{AtomicWrites, BlockState, Durability, Extent, Features, Image, Wait};
pub use layers::{Layer, LayerCopier, Layers, Own};
pub use mem::MemImage;
pub use mem_file::{FileEvent, MemFile};
pub use mirror::{MirrorCopier, MirrorImage, Outcome};
pub use overwrite::Overwriter;
pub use pool::{MissingFile, PoolSpace, delete, pool_space};
pub use qcow2::{
    CheckReport, Finding, Qcow2Image, check as check_qcow2, check_file as check_qcow2_file,
};
pub use raw::RawImage;
pub use reflink::{extents, reflink, reflinks, shares_blocks};
pub use switch::SwitchImage;
pub use tail::first_used;
pub use take_space::SpaceTaker;
pub use verify::Verifier;
pub use vhd::VhdImage;
pub use vhdx::VhdxImage;
