//! Sound images, and those that somebody made to do harm. QEMU's are read by tests/interop/qemu.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;
use crate::mem_file::MemFile;

const GRAIN: usize = 4096;

/// What a sparse file is like.
#[derive(Clone)]
struct Shape {
    compressed: bool,
    /// Grains of the disk, and what they hold.
    grains: Vec<Option<u8>>,
    descriptor: String,
}

const ALONE: &str = "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"x\"\nRW 1 SPARSE \"a.vmdk\"\n";

fn shape(compressed: bool, grains: &[Option<u8>]) -> Shape {
    Shape { compressed, grains: grains.to_vec(), descriptor: ALONE.to_owned() }
}

impl Shape {
    /// Header, descriptor (sectors 1 and 2), directory (3), one table (4 to 7), grains.
    fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; 8 * 512];
        let capacity = self.grains.len() as u64 * 8;
        file[..4].copy_from_slice(SPARSE_MARK);
        file[4] = 3;
        file[8] = 1;
        file[12..20].copy_from_slice(&capacity.to_le_bytes());
        file[20] = 8;
        (file[28], file[36]) = (1, 2);
        file[44..48].copy_from_slice(&512_u32.to_le_bytes());
        file[56] = 3;
        file[73..77].copy_from_slice(b"\n \r\n");
        if self.compressed {
            (file[10], file[77]) = (3, 1);
        }
        file[512..512 + self.descriptor.len()].copy_from_slice(self.descriptor.as_bytes());
        file[3 * 512] = 4;
        for (number, byte) in self.grains.iter().enumerate() {
            let Some(byte) = byte else { continue };
            let sector = u32::try_from(file.len() / 512).unwrap();
            file[4 * 512 + number * 4..][..4].copy_from_slice(&sector.to_le_bytes());
            let grain = vec![*byte; GRAIN];
            if self.compressed {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(&grain).unwrap();
                let packed = encoder.finish().unwrap();
                file.extend((number as u64 * 8).to_le_bytes());
                file.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
                file.extend(packed);
                file.resize(file.len().next_multiple_of(512), 0);
            } else {
                file.extend(grain);
            }
        }
        file
    }
}

fn nothing_beside(_: &str) -> Result<Arc<dyn BlockFile>, ImageError> {
    Err(ImageError::new(ImageErrorKind::NotFound, Operation::Open, Path::new("beside")))
}

fn open(bytes: Vec<u8>) -> Result<VmdkImage, ImageError> {
    VmdkImage::open(Arc::new(MemFile::read_only(bytes)), None, &nothing_beside)
}

fn read(image: &VmdkImage, offset: u64, length: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0xee; length];
    image.read(&mut [IoSliceMut::new(&mut bytes)], offset, Wait::Block)?;
    Ok(bytes)
}

/// Kind and reason.
fn refused<T: std::fmt::Debug>(result: Result<T, ImageError>) -> (ImageErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.reason().unwrap_or_default().to_owned())
}

#[test]
fn grains_are_found_and_what_is_not_there_is_zeroes() {
    for compressed in [false, true] {
        let image = open(shape(compressed, &[Some(1), None, Some(3), Some(4)]).bytes()).unwrap();
        assert_eq!(image.size_bytes(), 4 * GRAIN as u64);
        let mut wanted = vec![1; GRAIN];
        for byte in [0, 3, 4] {
            wanted.extend([byte; GRAIN]);
        }
        assert_eq!(read(&image, 0, 4 * GRAIN).unwrap(), wanted);
        assert_eq!(read(&image, 4000, 5000).unwrap(), wanted[4000..9000]);
        let status = |offset| image.block_status(offset, 4 * GRAIN as u64 - offset).unwrap();
        let extent = |offset, length, state| Extent { offset, length, state };
        assert_eq!(status(0), extent(0, 4096, BlockState::Mapped));
        assert_eq!(status(5000), extent(5000, 3192, BlockState::Deallocated));
        assert_eq!(status(8192), extent(8192, 8192, BlockState::Mapped));
        let written = image.write(&[IoSlice::new(&[0; 512])], 0, Durability::Cached);
        assert_eq!(refused(written).0, ImageErrorKind::ReadOnly);
    }
}

#[test]
fn every_cut_of_a_file_is_refused_or_reads_what_it_says() {
    for compressed in [false, true] {
        let whole = shape(compressed, &[Some(1), None, Some(3)]).bytes();
        let wanted = read(&open(whole.clone()).unwrap(), 0, 3 * GRAIN).unwrap();
        for length in (0..whole.len()).step_by(97) {
            if let Ok(image) = open(whole[..length].to_vec())
                && let Ok(found) = read(&image, 0, 3 * GRAIN)
            {
                assert!(found == wanted, "{length}");
            }
        }
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_the_reason() {
    use ImageErrorKind::{Corrupt, InvalidFormat, Unsupported};
    let sound = shape(false, &[Some(1), Some(2)]);
    let with = |at: usize, bytes: &[u8]| {
        let mut file = sound.bytes();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        refused(open(file))
    };
    for (at, bytes, kind, words) in [
        (0, &b"QQQQ"[..], InvalidFormat, "neither"),
        (4, &[9], Unsupported, "version 9"),
        (20, &[7], Unsupported, "7 sectors"),
        (20, &[0, 0, 0, 1], Unsupported, "grain"),
        (44, &[1, 4], Unsupported, "entries"),
        (12, &[0xff; 8], Unsupported, "sectors"),
        (12, &[0; 8], Unsupported, "0 sectors"),
        (56, &[0xfe; 8], Corrupt, "directory"),
        (73, b"\r\n\r\n", Corrupt, "text"),
        (10, &[1], Unsupported, "algorithm 0"),
        (3 * 512, &[0xff; 4], Corrupt, "table 0"),
        (4 * 512, &[0xff; 4], Corrupt, "grain 0 of table 0"),
        (36, &[0xff; 4], Corrupt, "descriptor"),
        // The directory stands in a footer, which is not there.
        (56, &[0xff; 8], InvalidFormat, "header"),
    ] {
        let (found, reason) = with(at, bytes);
        assert!(found == kind && reason.contains(words), "{words}: {found:?} {reason}");
    }
    // All grains at one place: more of them than there is room for.
    let mut file = shape(false, &[Some(1); 500]).bytes();
    let first: [u8; 4] = file[4 * 512..][..4].try_into().unwrap();
    for entry in 0..500 {
        file[4 * 512 + entry * 4..][..4].copy_from_slice(&first);
    }
    file.truncate(8 * 512 + GRAIN);
    assert!(refused(open(file)).1.contains("overlap"));
}

#[test]
fn a_compressed_grain_is_its_own_and_no_longer_than_a_grain() {
    let sound = shape(true, &[Some(1), Some(2)]).bytes();
    let grain = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = sound.clone();
        change(&mut file);
        refused(open(file).and_then(|image| read(&image, 0, 2 * GRAIN))).1
    };
    let at = 8 * 512;
    assert!(grain(&|file| file[at] = 9).contains("at sector 9"));
    assert!(grain(&|file| file[at + 8..at + 12].fill(0xff)).contains("compressed bytes"));
    assert!(grain(&|file| file[at + 8..at + 12].fill(0)).contains("0 compressed bytes"));
    assert!(grain(&|file| file[at + 20] ^= 0xff).contains("grain 0"));
    // A bomb: what comes out is longer than a grain.
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 1 << 20]).unwrap();
    let packed = encoder.finish().unwrap();
    let mut file = shape(true, &[None]).bytes();
    file[4 * 512..][..4].copy_from_slice(&8_u32.to_le_bytes());
    file.extend([0; 8]);
    file.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
    file.extend(packed);
    file.resize(file.len().next_multiple_of(512), 0);
    let (kind, reason) = refused(open(file).and_then(|image| read(&image, 0, GRAIN)));
    assert!(kind == ImageErrorKind::Corrupt && reason.contains("more than 4096"), "{reason}");
}

#[test]
fn a_descriptor_names_files_beside_it_and_nothing_else() {
    let parse =
        |lines: &str| Descriptor::parse(format!("# Disk DescriptorFile\n{lines}").as_bytes());
    let flat = parse("RW 8 FLAT \"a b-flat.vmdk\" 16\nRW 4 ZERO\nRW 2 SPARSE \"s\"").unwrap();
    let kinds: Vec<_> = flat.extents.into_iter().map(|extent| extent.kind).collect();
    let (a, s) = ("a b-flat.vmdk".to_owned(), "s".to_owned());
    assert_eq!(kinds, [Kind::Flat { name: a, offset: 16 }, Kind::Zeroes, Kind::Sparse { name: s }]);
    for (lines, words) in [
        ("", "no extents"),
        ("RW 8 FLAT \"../a\" 0", "beside"),
        ("RW 8 FLAT \"/etc/shadow\" 0", "beside"),
        ("RW 8 FLAT \"..\" 0", "beside"),
        ("RW 8 FLAT \"\" 0", "beside"),
        ("RW 8 FLAT a 0", "name of a file"),
        ("RW x FLAT \"a\" 0", "number of sectors"),
        ("RW 8 FLAT \"a\" x", "begins"),
        ("RW 8 VMFSRDM \"a\"", "type `VMFSRDM`"),
        ("NOACCESS 8 FLAT \"a\" 0", "NOACCESS"),
        ("parentCID=12345678\nRW 8 ZERO", "parent"),
        ("version=7\nRW 8 ZERO", "version 7"),
    ] {
        let defect = parse(lines).unwrap_err().to_string();
        assert!(defect.contains(words), "{lines}: {defect}");
    }
}

#[test]
fn parts_of_several_files_are_one_disk_and_links_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let text = "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\nRW 8 FLAT \"f\" 1\nRW 8 ZERO\n\
                RW 16 SPARSE \"s\"\n";
    let path = directory.join("d.vmdk");
    std::fs::write(&path, text).unwrap();
    let mut flat = vec![9; 512];
    flat.extend([7; 4096]);
    std::fs::write(directory.join("f"), flat).unwrap();
    std::fs::write(directory.join("s"), shape(false, &[None, Some(5)]).bytes()).unwrap();
    let open = || VmdkImage::open_file(ImageFile::open(path.as_path(), true)?, None);
    let image = open().unwrap();
    let mut wanted = vec![7; 4096];
    wanted.extend([0; 8192]);
    wanted.extend([5; 4096]);
    assert!(read(&image, 0, 16384).unwrap() == wanted);
    assert_eq!(image.block_status(4096, 12288).unwrap().length, 4096);
    drop(image);
    std::fs::rename(directory.join("f"), directory.join("g")).unwrap();
    assert_eq!(refused(open()).0, ImageErrorKind::NotFound);
    std::os::unix::fs::symlink("g", directory.join("f")).unwrap();
    assert_eq!(refused(open()).0, ImageErrorKind::PermissionDenied);
    std::fs::remove_file(directory.join("f")).unwrap();
    std::fs::write(directory.join("f"), [1; 1024]).unwrap();
    assert!(refused(open()).1.contains("ends at"));
}
