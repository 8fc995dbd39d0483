//! Which format an image has, and the one way to open it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::block_file::BlockFile;
use crate::cache::CacheBudget;
use crate::chain::Chain;
use crate::copy::NamedFile;
use crate::direct::DirectIo;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::image::Image;
use crate::qcow2::Qcow2Image;
use crate::raw::RawImage;
use crate::redo;
use crate::vhd::VhdImage;
use crate::vhdx::VhdxImage;
use crate::vmdk::VmdkImage;

/// The format of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Byte n of the disk is byte n of the file.
    #[default]
    Raw,
    /// QEMU's qcow2, versions 2 and 3.
    Qcow2,
    /// VHDX (MS-VHDX).
    Vhdx,
    /// VHD, that which QEMU calls vpc.
    Vhd,
    /// VMDK, for imports: it can be read, and nothing else.
    Vmdk,
}

impl ImageFormat {
    /// Those that disks have.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Qcow2, Self::Vhdx, Self::Vhd];

    /// Its name, which is also the extension of its files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImageFormat {
    type Err = String;

    /// By its name; `vpc` is VHD, as QEMU has it.
    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter().chain([Self::Vmdk]);
        let named = all.find(|format| format.name() == name);
        let format = named.or((name == "vpc").then_some(Self::Vhd));
        format.ok_or_else(|| format!("`{name}` is no image format: raw, qcow2, vhdx, vhd or vmdk"))
    }
}

/// How to open an image.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Opens the file for reading only; other readers are let in, writers are not.
    pub read_only: bool,
    /// Size of the disk, if it is known: what the file has beyond that is not the disk's.
    pub size_bytes: Option<u64>,
    /// What the tables of the format may take in memory, together with those of the parents. Each
    /// disk wants a budget of its own: clones of these options share theirs.
    pub cache: CacheBudget,
    /// Where parents may lie, beside the image's own directory.
    pub parent_directories: Vec<PathBuf>,
    /// An image that has a parent is refused: whoever brought it could name any file.
    pub no_parents: bool,
    /// Whether the file and those of its parents are read and written past the page cache.
    pub direct_io: DirectIo,
    /// Who opens parents, if not those directories say where they may be.
    pub parent_opener: Option<Arc<dyn ParentOpener>>,
}

/// Opens the parents of an image that somebody has brought, who could name any file.
pub trait ParentOpener: fmt::Debug + Send + Sync {
    /// Opens, for reading, the file that `child` calls `name`: a path that counts from its directory if
    /// it is relative.
    ///
    /// # Errors
    /// `ParentMismatch` with a reason for one that lies where no parent may be, and as the system says.
    fn open(&self, child: &Path, name: &Path) -> Result<NamedFile, ImageError>;
}

impl OpenOptions {
    /// For reading only.
    #[must_use]
    pub fn read_only() -> Self {
        Self { read_only: true, ..Self::default() }
    }
}

/// Opens and locks the image in `path`, which has the format that the caller knows it to have: a
/// guest that writes the header of another one into its raw disk must not change what it is.
///
/// # Errors
/// `InUse` if somebody else has it open, `InvalidFormat` if it is not of that format, `Unsupported`
/// if it needs something that is not there, `Corrupt`, `ParentMismatch`, otherwise as the system
/// says. The reason says what exactly is wrong.
pub fn open_image(
    path: impl Into<Arc<Path>>,
    format: ImageFormat,
    options: &OpenOptions,
) -> Result<Arc<dyn Image>, ImageError> {
    let path = path.into();
    if options.read_only {
        finish_atomic_write(&path, format, options)?;
    }
    let file = ImageFile::open(path, options.read_only)?;
    let chain = Chain::of(file.identity());
    open_in_chain(file, format, options, &chain)
}

/// Opens an image over one that is open, whose file it names as its parent: the disk's own, whose
/// place it takes. Nothing is written to that one any more; what is not durable of it becomes so with
/// the first flush.
///
/// # Errors
/// As [`open_image`]; `Unsupported` for any format but qcow2.
pub fn open_over(
    path: impl Into<Arc<Path>>,
    format: ImageFormat,
    options: &OpenOptions,
    parent: Arc<dyn Image>,
) -> Result<Arc<dyn Image>, ImageError> {
    let path = path.into();
    if format != ImageFormat::Qcow2 {
        let kind = ImageErrorKind::Unsupported;
        return Err(ImageError::new(kind, Operation::Open, path)
            .because(format!("a {format} image is not laid over another one")));
    }
    let file = ImageFile::open(path, options.read_only)?;
    let file = file.with_direct_io(options.direct_io.clone());
    Ok(Arc::new(Qcow2Image::open_over(file, options, parent)?.with_journal()?))
}

/// An atomic write that a crash has interrupted needs a writer for a moment.
pub(crate) fn finish_atomic_write(
    path: &Arc<Path>,
    format: ImageFormat,
    options: &OpenOptions,
) -> Result<(), ImageError> {
    if !redo::journal_path(path).exists() {
        return Ok(());
    }
    match format {
        ImageFormat::Raw => redo::finish(path),
        ImageFormat::Qcow2 => {
            let options = OpenOptions { read_only: false, ..options.clone() };
            open_image(path.clone(), format, &options).map(drop)
        }
        ImageFormat::Vhdx | ImageFormat::Vhd | ImageFormat::Vmdk => Ok(()),
    }
}

/// Opens the image in a file that is open, as the last one of a chain.
pub(crate) fn open_in_chain(
    file: ImageFile,
    format: ImageFormat,
    options: &OpenOptions,
    chain: &Chain,
) -> Result<Arc<dyn Image>, ImageError> {
    let file = file.with_direct_io(options.direct_io.clone());
    match format {
        ImageFormat::Raw => Ok(Arc::new(RawImage::from_file(file, options.size_bytes)?)),
        ImageFormat::Qcow2 => {
            let image = Qcow2Image::open(Arc::new(file), options, chain)?;
            Ok(Arc::new(image.with_journal()?))
        }
        ImageFormat::Vhdx => Ok(Arc::new(VhdxImage::open_file(file, options)?)),
        ImageFormat::Vhd => Ok(Arc::new(VhdImage::open_file(file, options)?)),
        ImageFormat::Vmdk => Ok(Arc::new(VmdkImage::open_file(file, options.size_bytes)?)),
    }
}

/// What the content of a file says of its format, for imports alone. `None`: it has the mark of no
/// format that is known here, which is all that can be said of a raw image.
///
/// # Errors
/// `Corrupt` if it has the marks of two formats; as the system says.
pub fn probe(file: &dyn BlockFile) -> Result<Option<ImageFormat>, ImageError> {
    let length = file.length()?;
    let mark = |offset: u64, mark: &[u8]| -> Result<bool, ImageError> {
        let mut found = [0; 24];
        let Some(found) = found.get_mut(..mark.len()) else { return Ok(false) };
        if offset.checked_add(mark.len() as u64).is_none_or(|end| end > length) {
            return Ok(false);
        }
        file.read_at(found, offset)?;
        Ok(found == mark)
    };
    let mut found = Vec::new();
    if mark(0, b"QFI\xfb")? {
        found.push(ImageFormat::Qcow2);
    }
    if mark(0, b"vhdxfile")? {
        found.push(ImageFormat::Vhdx);
    }
    if mark(0, crate::vmdk::SPARSE_MARK)? || mark(0, crate::vmdk::DESCRIPTOR_MARK)? {
        found.push(ImageFormat::Vmdk);
    }
    // A dynamic one has a copy of its footer at the start; a fixed one only the footer, which ends
    // with the file. Footers of old Virtual PCs have 511 bytes.
    let footer = |length: u64| mark(length.saturating_sub(512), b"conectix");
    if mark(0, b"conectix")? || footer(length)? || footer(length.saturating_add(1))? {
        found.push(ImageFormat::Vhd);
    }
    match found.as_slice() {
        [] => Ok(None),
        [format] => Ok(Some(*format)),
        [first, second, ..] => {
            let reason = format!("it has the marks of {first} and of {second}");
            let kind = ImageErrorKind::Corrupt;
            Err(ImageError::new(kind, Operation::Open, file.path().clone()).because(reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem_file::MemFile;

    fn probed(bytes: Vec<u8>) -> Result<Option<ImageFormat>, ImageErrorKind> {
        probe(&MemFile::read_only(bytes)).map_err(|error| error.kind())
    }

    #[test]
    fn a_format_is_known_by_its_mark() {
        let with = |places: &[(usize, &[u8])], length: usize| {
            let mut bytes = vec![0; length];
            for (at, mark) in places {
                bytes[*at..at + mark.len()].copy_from_slice(mark);
            }
            bytes
        };
        assert_eq!(probed(Vec::new()), Ok(None));
        assert_eq!(probed(vec![0; 4096]), Ok(None));
        assert_eq!(probed(b"QFI".to_vec()), Ok(None));
        assert_eq!(probed(with(&[(0, b"QFI\xfb")], 600)), Ok(Some(ImageFormat::Qcow2)));
        assert_eq!(probed(with(&[(0, b"vhdxfile")], 600)), Ok(Some(ImageFormat::Vhdx)));
        for (at, length) in [(0, 4096), (3584, 4096), (3584, 4095)] {
            assert_eq!(probed(with(&[(at, b"conectix")], length)), Ok(Some(ImageFormat::Vhd)));
        }
        let both = with(&[(0, b"QFI\xfb"), (3584, b"conectix")], 4096);
        assert_eq!(probed(both), Err(ImageErrorKind::Corrupt));
    }

    #[test]
    fn formats_have_names() {
        for format in ImageFormat::ALL.into_iter().chain([ImageFormat::Vmdk]) {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("vpc".parse(), Ok(ImageFormat::Vhd));
        assert!("qcow".parse::<ImageFormat>().unwrap_err().contains("`qcow`"));
    }
}
