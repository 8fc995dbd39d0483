//! Parents: which file a child means, and whether it may be opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block_file::BlockFile as _;
use crate::device::is_device;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::{FileIdentity, ImageFile};
use crate::format::{ImageFormat, OpenOptions, finish_atomic_write, open_in_chain};
use crate::image::Image;
use crate::pool::directory_of;

/// Images of one chain, the disk's own included.
const MAX_LENGTH: usize = 513;

/// The images on the way from a disk to the one that is being opened.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    members: Vec<FileIdentity>,
    follows: bool,
}

impl Chain {
    /// A chain that begins with a disk.
    pub(crate) fn of(disk: FileIdentity) -> Self {
        Self { members: vec![disk], follows: true }
    }

    /// Parents are not opened: they read as zeroes.
    pub(crate) fn without_parents() -> Self {
        Self { members: Vec::new(), follows: false }
    }

    /// Whether parents are opened at all.
    pub(crate) fn follows(&self) -> bool {
        self.follows
    }

    /// The parent that `child` calls `name`.
    ///
    /// # Errors
    /// `ParentMismatch` if it is not where parents may be, or part of the chain already;
    /// `Unsupported` if it is no plain file; as the system says.
    pub(crate) fn parent(
        &self,
        child: &Arc<Path>,
        name: &str,
        format: ImageFormat,
        options: &OpenOptions,
    ) -> Result<Link, ImageError> {
        let refuse = |kind, reason: String| {
            Err(ImageError::new(kind, Operation::Open, child.clone()).because(reason))
        };
        if options.no_parents {
            let reason = format!("it has a parent, `{name}`, and is wanted without any");
            return refuse(ImageErrorKind::Unsupported, reason);
        }
        let scheme = name.split('/').next().and_then(|first| first.split_once(':'));
        let name = match scheme {
            None => name,
            Some(("file", _)) => name.strip_prefix("file:").unwrap_or(name),
            Some(_) => {
                let reason = format!("the parent `{name}` is no plain file");
                return refuse(ImageErrorKind::Unsupported, reason);
            }
        };
        if self.members.len() >= MAX_LENGTH {
            let reason = format!("its chain has more than {MAX_LENGTH} images");
            return refuse(ImageErrorKind::Unsupported, reason);
        }
        if let Some(opener) = &options.parent_opener {
            let file = opener.open(child, Path::new(name))?;
            let file = ImageFile::lock(file.file, file.path, true)?;
            let (identity, path) = (file.identity(), file.path().clone());
            return self.link(child, (identity, path), Some(file), format, options);
        }
        let failed = |error: std::io::Error| {
            ImageError::from_io(Operation::Open, directory_of(child).join(name), error)
                .because(format!("it is the parent of {}", child.display()))
        };
        let found = find(child, name, options).map_err(failed)?;
        if !found.is_allowed {
            let reason = format!("its parent {} is not where parents may be", found.path.display());
            return refuse(ImageErrorKind::ParentMismatch, reason);
        }
        let real = found.path;
        let identity = FileIdentity::of(&real).map_err(failed)?;
        self.link(child, (identity, real.into()), None, format, options)
    }

    /// The next image of the chain, in a file that is open or not.
    fn link(
        &self,
        child: &Arc<Path>,
        (identity, path): (FileIdentity, Arc<Path>),
        file: Option<ImageFile>,
        format: ImageFormat,
        options: &OpenOptions,
    ) -> Result<Link, ImageError> {
        if self.members.contains(&identity) {
            let reason = format!("{} is in its own chain of parents", path.display());
            let kind = ImageErrorKind::ParentMismatch;
            return Err(ImageError::new(kind, Operation::Open, child.clone()).because(reason));
        }
        let mut chain = self.clone();
        chain.members.push(identity);
        let options = OpenOptions { read_only: true, size_bytes: None, ..options.clone() };
        Ok(Link { path, file, format, options, chain })
    }
}

/// What an image means by the name of its parent.
pub(crate) struct Found {
    /// Without links, but for one that leads to a block device.
    pub(crate) path: PathBuf,
    /// It lies in the image's own directory, or in one that the options allow.
    pub(crate) is_allowed: bool,
}

/// The file that `child` means by `name`, absolute or relative to its own directory.
///
/// # Errors
/// As the system says.
pub(crate) fn find(child: &Path, name: &str, options: &OpenOptions) -> std::io::Result<Found> {
    let directory = directory_of(child);
    let named = directory.join(name);
    let path = match (named.parent(), named.file_name()) {
        // The link to a device stands for it.
        (Some(place), Some(file)) if is_device(&named) => place.canonicalize()?.join(file),
        _ => named.canonicalize()?,
    };
    let is_allowed = std::iter::once(directory)
        .chain(options.parent_directories.iter().map(PathBuf::as_path))
        .filter_map(|directory| directory.canonicalize().ok())
        .any(|directory| path.starts_with(directory));
    Ok(Found { path, is_allowed })
}

/// An image of a chain that is not open yet.
#[derive(Debug)]
pub(crate) struct Link {
    path: Arc<Path>,
    /// Somebody else's, which is read as it is.
    file: Option<ImageFile>,
    pub(crate) format: ImageFormat,
    pub(crate) options: OpenOptions,
    pub(crate) chain: Chain,
}

impl Link {
    /// Opens its file for reading.
    ///
    /// # Errors
    /// As [`crate::open_image`].
    pub(crate) fn open_file(&mut self) -> Result<ImageFile, ImageError> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        finish_atomic_write(&self.path, self.format, &self.options)?;
        ImageFile::open(self.path.clone(), true)
    }

    /// Opens the image for reading.
    ///
    /// # Errors
    /// As [`crate::open_image`].
    pub(crate) fn open(self) -> Result<Arc<dyn Image>, ImageError> {
        let Self { path, file, format, options, chain } = self;
        if let Some(file) = file {
            return open_in_chain(file, format, &options, &chain);
        }
        finish_atomic_write(&path, format, &options)?;
        let open = |read_only| {
            let options = OpenOptions { read_only, ..options.clone() };
            open_in_chain(ImageFile::open(path.clone(), read_only)?, format, &options, &chain)
        };
        match open(true) {
            // It was a disk's own image when a crash came: its log is replayed first.
            Err(error) if error.kind() == ImageErrorKind::ReadOnly => {
                match open(false).and_then(|image| image.close()) {
                    Ok(()) => open(true),
                    Err(_) => Err(error),
                }
            }
            opened => opened,
        }
    }
}
