//! A file system that hands everything on to a directory until a test says what fails: reads, writes
//! or flushes, one of them or all. What a flush that failed should have made durable is lost, as on a
//! kernel that drops the pages that it could not write.
#![allow(
    clippy::print_stdout,
    clippy::redundant_closure_call,
    dead_code,
    reason = "of tests, which need different parts of it"
)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};

/// What may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Write,
    Flush,
}

/// What a write found: where, and the bytes that were there.
struct Before {
    offset: u64,
    bytes: Vec<u8>,
    length: u64,
}

#[derive(Default)]
struct State {
    paths: HashMap<u64, PathBuf>,
    files: HashMap<u64, Arc<File>>,
    /// By inode: what was not flushed yet, the oldest first.
    unflushed: HashMap<u64, Vec<Before>>,
    last_handle: u64,
    /// How many are done still, and how many fail then.
    failing: HashMap<Access, (u64, u64)>,
    failed: u64,
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// The mounted file system; gone when dropped.
pub(crate) struct Faulty {
    path: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    _directory: tempfile::TempDir,
}

impl Faulty {
    /// None where it cannot be mounted: there is nothing to test then.
    pub(crate) fn mount() -> Option<Self> {
        let directory = in_memory();
        let (real, path) = (directory.path().join("real"), directory.path().join("mounted"));
        std::fs::create_dir(&real).unwrap();
        std::fs::create_dir(&path).unwrap();
        let shared = Arc::new(Shared::default());
        shared.state().paths.insert(INodeNo::ROOT.0, real);
        let through = Through(Arc::clone(&shared));
        match fuser::spawn_mount(through, &path, &Config::default()) {
            Ok(session) => {
                Some(Self { path, shared, session: Some(session), _directory: directory })
            }
            Err(error) => {
                println!("left out: FUSE cannot be used here: {error}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// After so many of these, so many fail.
    pub(crate) fn fail(&self, access: Access, after: u64, count: u64) {
        self.shared.state().failing.insert(access, (after, count));
    }

    pub(crate) fn heal(&self) {
        self.shared.state().failing.clear();
    }

    /// How many have failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.state().failed
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

/// A directory whose flushes cost nothing, where there can be one.
pub(crate) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

struct Through(Arc<Shared>);

const NOW: Duration = Duration::ZERO;

impl Through {
    fn path(&self, inode: INodeNo) -> Result<PathBuf, Errno> {
        self.0.state().paths.get(&inode.0).cloned().ok_or(Errno::ENOENT)
    }

    fn below(&self, parent: INodeNo, name: &OsStr) -> Result<PathBuf, Errno> {
        Ok(self.path(parent)?.join(name))
    }

    fn file(&self, handle: FileHandle) -> Result<Arc<File>, Errno> {
        self.0.state().files.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn found(&self, path: &Path) -> Result<FileAttr, Errno> {
        let found = attributes(&std::fs::symlink_metadata(path)?);
        self.0.state().paths.insert(found.ino.0, path.to_path_buf());
        Ok(found)
    }

    fn of(&self, inode: INodeNo) -> Result<FileAttr, Errno> {
        if let Ok(metadata) = std::fs::symlink_metadata(self.path(inode)?) {
            let found = attributes(&metadata);
            if found.ino == inode || inode == INodeNo::ROOT {
                return Ok(FileAttr { ino: inode, ..found });
            }
        }
        // Deleted, and open still.
        let files: Vec<_> = self.0.state().files.values().cloned().collect();
        let found = files.iter().filter_map(|file| file.metadata().ok());
        found.map(|it| attributes(&it)).find(|it| it.ino == inode).ok_or(Errno::ENOENT)
    }

    fn opened(&self, file: File) -> FileHandle {
        let mut state = self.0.state();
        state.last_handle += 1;
        let handle = state.last_handle;
        state.files.insert(handle, Arc::new(file));
        FileHandle(handle)
    }

    /// Whether it is this one's turn to fail.
    fn fails(&self, access: Access) -> Result<(), Errno> {
        let mut state = self.0.state();
        match state.failing.get_mut(&access) {
            Some((after @ 1.., _)) => {
                *after -= 1;
                Ok(())
            }
            Some((0, left @ 1..)) => {
                *left -= 1;
                state.failed += 1;
                Err(Errno::EIO)
            }
            _ => Ok(()),
        }
    }

    fn write(&self, inode: INodeNo, file: &File, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        self.fails(Access::Write)?;
        let mut bytes = vec![0; data.len()];
        let mut there = 0;
        while let count @ 1.. = file.read_at(&mut bytes[there..], offset + there as u64)? {
            there += count;
        }
        bytes.truncate(there);
        let length = file.metadata()?.len();
        let before = Before { offset, bytes, length };
        self.0.state().unflushed.entry(inode.0).or_default().push(before);
        file.write_all_at(data, offset)?;
        Ok(u32::try_from(data.len()).unwrap())
    }

    fn flush(&self, inode: INodeNo, file: &File) -> Result<(), Errno> {
        let unflushed = self.0.state().unflushed.remove(&inode.0).unwrap_or_default();
        let Err(errno) = self.fails(Access::Flush) else { return Ok(()) };
        for before in unflushed.iter().rev() {
            file.write_all_at(&before.bytes, before.offset)?;
            file.set_len(before.length)?;
        }
        Err(errno)
    }
}

fn attributes(found: &Metadata) -> FileAttr {
    let at = |seconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    FileAttr {
        ino: INodeNo(found.ino()),
        size: found.len(),
        blocks: found.blocks(),
        atime: at(found.atime()),
        mtime: at(found.mtime()),
        ctime: at(found.ctime()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::from_std(found.file_type()).unwrap(),
        perm: u16::try_from(found.permissions().mode() & 0o7777).unwrap(),
        nlink: u32::try_from(found.nlink()).unwrap(),
        uid: found.uid(),
        gid: found.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Answers with what went well, or the error.
macro_rules! answer {
    ($reply:ident, $result:expr, |$done:pat_param| $well:expr) => {
        match (|| -> Result<_, Errno> { $result })() {
            Ok($done) => $well,
            Err(errno) => $reply.error(errno),
        }
    };
}

#[allow(clippy::too_many_arguments, reason = "the trait's")]
impl Filesystem for Through {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.found(&self.below(parent, name)?), |it| reply.entry(
            &NOW,
            &it,
            Generation(0)
        ));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.of(inode), |it| reply.attr(&NOW, &it));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || -> Result<_, Errno> {
            if let Some(mode) = mode {
                let mode = std::fs::Permissions::from_mode(mode & 0o7777);
                std::fs::set_permissions(self.path(inode)?, mode)?;
            }
            if let Some(size) = size {
                self.fails(Access::Write)?;
                match handle {
                    Some(handle) => self.file(handle)?.set_len(size)?,
                    None => File::options().write(true).open(self.path(inode)?)?.set_len(size)?,
                }
                // What was before it is not to come back.
                self.0.state().unflushed.remove(&inode.0);
            }
            self.of(inode)
        };
        answer!(reply, set(), |it| reply.attr(&NOW, &it));
    }

    fn mkdir(&self, _: &Request, up: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let make = || -> Result<_, Errno> {
            let path = self.below(up, name)?;
            std::fs::create_dir(&path)?;
            self.found(&path)
        };
        answer!(reply, make(), |it| reply.entry(&NOW, &it, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove =
            || -> Result<_, Errno> { Ok(std::fs::remove_file(self.below(parent, name)?)?) };
        answer!(reply, remove(), |()| reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = || -> Result<_, Errno> { Ok(std::fs::remove_dir(self.below(parent, name)?)?) };
        answer!(reply, remove(), |()| reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = || -> Result<_, Errno> {
            let (from, to) = (self.below(parent, name)?, self.below(new_parent, new_name)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, &from, here, &to, flags)
                .map_err(std::io::Error::from)?;
            for path in self.0.state().paths.values_mut() {
                if let Ok(rest) = path.strip_prefix(&from) {
                    let moved = to.join(rest);
                    *path = if rest.as_os_str().is_empty() { to.clone() } else { moved };
                }
            }
            self.found(&to)
        };
        answer!(reply, rename(), |_| reply.ok());
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let open = || -> Result<_, Errno> {
            let path = self.path(inode)?;
            // For writers: what they write over is read first.
            let file = File::options().read(true).write(true).open(&path);
            Ok(self.opened(file.or_else(|_| File::open(path))?))
        };
        // Nothing is kept in memory: every access comes here.
        answer!(reply, open(), |it| reply.opened(it, FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let create = || -> Result<_, Errno> {
            self.fails(Access::Write)?;
            let path = self.below(parent, name)?;
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
            file.set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))?;
            Ok((self.found(&path)?, self.opened(file)))
        };
        answer!(reply, create(), |(it, handle)| {
            reply.created(&NOW, &it, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = || -> Result<_, Errno> {
            self.fails(Access::Read)?;
            let file = self.file(handle)?;
            let mut data = vec![0; usize::try_from(size).unwrap()];
            let mut done = 0;
            while let count @ 1.. = file.read_at(&mut data[done..], offset + done as u64)? {
                done += count;
            }
            data.truncate(done);
            Ok(data)
        };
        answer!(reply, read(), |data| reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || -> Result<_, Errno> {
            let file = self.file(handle)?;
            let written = self.write(inode, &file, offset, data)?;
            // The kernel leaves that to whoever writes.
            if flags.0 & i32::try_from(OFlags::DSYNC.bits()).unwrap() != 0 {
                self.flush(inode, &file)?;
            }
            Ok(written)
        };
        answer!(reply, write(), |count| reply.written(count));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.state().files.remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        let flush = || self.flush(inode, &*self.file(handle)?);
        answer!(reply, flush(), |()| reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.fails(Access::Flush), |()| reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let list = || -> Result<_, Errno> {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(self.path(inode)?)? {
                let entry = entry?;
                let kind = FileType::from_std(entry.file_type()?).unwrap();
                names.push((entry.metadata()?.ino(), kind, entry.file_name()));
            }
            names.sort_by(|one, other| one.2.cmp(&other.2));
            Ok(names)
        };
        answer!(reply, list(), |names| {
            for (at, (inode, kind, name)) in (1..).zip(names) {
                if at > offset && reply.add(INodeNo(inode), at, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let look = || -> Result<_, Errno> {
            let path = self.path(INodeNo::ROOT)?;
            Ok(rustix::fs::statvfs(&path).map_err(std::io::Error::from)?)
        };
        answer!(reply, look(), |it| reply.statfs(
            it.f_blocks,
            it.f_bfree,
            it.f_bavail,
            it.f_files,
            it.f_ffree,
            u32::try_from(it.f_bsize).unwrap(),
            255,
            u32::try_from(it.f_frsize).unwrap(),
        ));
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocate = || -> Result<_, Errno> {
            self.fails(Access::Write)?;
            let mode = FallocateFlags::from_bits_retain(u32::try_from(mode).unwrap());
            let file = self.file(handle)?;
            rustix::fs::fallocate(&*file, mode, offset, length).map_err(std::io::Error::from)?;
            // What was before it is not to come back.
            self.0.state().unflushed.remove(&inode.0);
            Ok(())
        };
        answer!(reply, allocate(), |()| reply.ok());
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let seek = || -> Result<_, Errno> {
            let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
            let whence = match whence {
                3 => SeekFrom::Data(offset),
                4 => SeekFrom::Hole(offset),
                _ => return Err(Errno::EINVAL),
            };
            let file = self.file(handle)?;
            let found = rustix::fs::seek(&*file, whence).map_err(std::io::Error::from)?;
            i64::try_from(found).map_err(|_| Errno::EOVERFLOW)
        };
        answer!(reply, seek(), |at| reply.offset(at));
    }
}
