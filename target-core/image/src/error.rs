//! What can go wrong with an image: one small stable kind, and the context as data.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// The cause of a failure, independent of format and operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageErrorKind {
    /// The medium or the path to it failed (EIO and everything without a better name).
    Io,
    /// Fewer bytes than asked for exist: the file was truncated under us.
    ShortTransfer,
    /// No space left in the file system or quota (ENOSPC, EDQUOT).
    OutOfSpace,
    /// The file or its directory does not exist any more (ENOENT, ENODEV, ESTALE).
    NotFound,
    /// Another opener holds the image.
    InUse,
    /// The image or its file system is read-only.
    ReadOnly,
    /// The file's permissions refuse it (EACCES, EPERM).
    PermissionDenied,
    /// Memory or file descriptors ran out.
    OutOfMemory,
    /// Data could not be made durable; everything since the last good flush may be lost.
    SyncFailed,
    /// The file is not an image of the expected format.
    InvalidFormat,
    /// The image contradicts itself.
    Corrupt,
    /// The parent of a differencing image is not the one it was made for, or may not be used.
    ParentMismatch,
    /// The operation does not exist for this image or file system.
    Unsupported,
    /// The range lies outside of the image, or the image outside of what a file can hold.
    OutOfRange,
    /// Something with that name is there already.
    AlreadyExists,
    /// The operation would sleep on a device ([`crate::Wait::Nowait`] only).
    WouldBlock,
    /// The caller gave up.
    Cancelled,
}

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening an existing image.
    Open,
    /// Creating an image.
    Create,
    /// Taking the lock that keeps other openers out.
    Lock,
    /// Reading data.
    Read,
    /// Writing data.
    Write,
    /// Making written data durable.
    Flush,
    /// Giving space back.
    Unmap,
    /// Writing zeroes without a buffer.
    WriteZeroes,
    /// Asking which parts hold data.
    BlockStatus,
    /// Changing the size.
    Resize,
    /// Removing an image.
    Delete,
    /// Checking that the image is still there and whole.
    Health,
    /// Asking a pool for its space.
    PoolSpace,
    /// Copying it to another file.
    Copy,
    /// Sharing its blocks with another file (FICLONE).
    Reflink,
    /// Comparing it with what it was copied from.
    Verify,
    /// Writing zeroes over its data before it is removed.
    Overwrite,
}

impl Operation {
    /// The operation in the words of a message: `cannot <verb> …`.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Unmap => "unmap",
            Self::WriteZeroes => "write zeroes to",
            Self::BlockStatus => "read the block status of",
            Self::Resize => "resize",
            Self::Delete => "delete",
            Self::Health => "check",
            Self::PoolSpace => "read the free space of",
            Self::Copy => "copy",
            Self::Reflink => "share the blocks of",
            Self::Verify => "verify",
            Self::Overwrite => "overwrite",
        }
    }
}

impl fmt::Display for ImageErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "input/output error",
            Self::ShortTransfer => "file is shorter than the disk",
            Self::OutOfSpace => "no space left",
            Self::NotFound => "not found",
            Self::InUse => "in use by another opener",
            Self::ReadOnly => "read-only",
            Self::PermissionDenied => "permission denied",
            Self::OutOfMemory => "out of memory or descriptors",
            Self::SyncFailed => "data could not be made durable",
            Self::InvalidFormat => "not a disk image of this format",
            Self::Corrupt => "image is corrupt",
            Self::ParentMismatch => "the parent image does not fit",
            Self::Unsupported => "not supported",
            Self::OutOfRange => "out of range",
            Self::AlreadyExists => "exists already",
            Self::WouldBlock => "would wait for the device",
            Self::Cancelled => "cancelled",
        })
    }
}

impl ImageErrorKind {
    /// The one mapping from an errno to a cause. `operation` decides what EAGAIN means: a lock
    /// that somebody holds, or a read that would sleep.
    #[must_use]
    pub fn from_errno(errno: i32, operation: Operation) -> Self {
        let is = |candidate: Errno| candidate.raw_os_error() == errno;
        if is(Errno::NOSPC) || is(Errno::DQUOT) {
            Self::OutOfSpace
        } else if is(Errno::NOENT)
            || is(Errno::NODEV)
            || is(Errno::STALE)
            || is(Errno::NOTDIR)
            || is(Errno::NXIO)
        {
            Self::NotFound
        } else if is(Errno::ROFS) {
            Self::ReadOnly
        } else if is(Errno::ACCESS) || is(Errno::PERM) {
            Self::PermissionDenied
        } else if is(Errno::NOMEM) || is(Errno::MFILE) || is(Errno::NFILE) {
            Self::OutOfMemory
        } else if is(Errno::AGAIN) {
            if operation == Operation::Lock { Self::InUse } else { Self::WouldBlock }
        } else if is(Errno::BUSY) || is(Errno::TXTBSY) {
            Self::InUse
        } else if is(Errno::EXIST) {
            Self::AlreadyExists
        } else if is(Errno::OPNOTSUPP) || is(Errno::NOSYS) {
            Self::Unsupported
        } else if is(Errno::FBIG) || is(Errno::OVERFLOW) {
            Self::OutOfRange
        } else if is(Errno::ISDIR) {
            Self::InvalidFormat
        } else if is(Errno::CANCELED) {
            Self::Cancelled
        } else {
            Self::Io
        }
    }
}

/// A failed operation on an image: what failed, where, and the system's own reason.
#[derive(Debug, thiserror::Error)]
#[error("{}", Sentence(self))]
pub struct ImageError {
    kind: ImageErrorKind,
    operation: Operation,
    path: Arc<Path>,
    offset: Option<u64>,
    length: Option<u64>,
    reason: Option<Box<str>>,
    source: Option<io::Error>,
}

struct Sentence<'a>(&'a ImageError);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0;
        write!(f, "cannot {} {}", error.operation.verb(), error.path.display())?;
        if let Some(offset) = error.offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(length) = error.length {
            write!(f, ", {length} bytes")?;
        }
        write!(f, ": {}", error.kind)?;
        if let Some(reason) = &error.reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

impl ImageError {
    /// An error that this crate found itself.
    #[must_use]
    pub fn new(kind: ImageErrorKind, operation: Operation, path: impl Into<Arc<Path>>) -> Self {
        let (offset, length, reason, source) = (None, None, None, None);
        Self { kind, operation, path: path.into(), offset, length, reason, source }
    }

    /// An error of the operating system; the kind follows from its errno.
    #[must_use]
    pub fn from_io(operation: Operation, path: impl Into<Arc<Path>>, source: io::Error) -> Self {
        let kind = source
            .raw_os_error()
            .map_or(ImageErrorKind::Io, |errno| ImageErrorKind::from_errno(errno, operation));
        Self { source: Some(source), ..Self::new(kind, operation, path) }
    }

    /// Says which bytes of the image were concerned.
    #[must_use]
    pub fn at(mut self, offset: u64, length: u64) -> Self {
        self.offset = Some(offset);
        self.length = Some(length);
        self
    }

    /// Says what exactly is wrong: one clause, lower case, no full stop.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into().into_boxed_str());
        self
    }

    /// Says what was being done as the caller sees it.
    #[must_use]
    pub fn during(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self
    }

    /// Replaces the kind that the errno suggested.
    #[must_use]
    pub fn with_kind(mut self, kind: ImageErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error once more, for a second one who is to be told.
    #[must_use]
    pub fn again(&self) -> Self {
        let source = self.errno().map(io::Error::from_raw_os_error);
        let (path, reason) = (self.path.clone(), self.reason.clone());
        Self { path, reason, source, ..*self }
    }

    /// The cause.
    #[must_use]
    pub fn kind(&self) -> ImageErrorKind {
        self.kind
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The file or directory concerned.
    #[must_use]
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// First byte of the image concerned, if a range was.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// Length in bytes of the range concerned, if a range was.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// What exactly is wrong, if more than the kind is known.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The errno behind it, if the operating system gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.as_ref().and_then(io::Error::raw_os_error)
    }
}
