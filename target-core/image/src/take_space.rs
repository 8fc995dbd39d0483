//! Taking the space that a file still lacks, in steps, while others use it: what it holds stays.

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};

use crate::copy::NamedFile;
use crate::create::Progress;
use crate::error::{ImageError, ImageErrorKind, Operation};

/// Space that is being taken. Where there is some already, nothing happens.
#[derive(Debug)]
pub struct SpaceTaker {
    file: NamedFile,
    size: u64,
    done: u64,
}

impl SpaceTaker {
    /// For the first `size_bytes` of `file`, after the `done` bytes of an earlier run.
    #[must_use]
    pub fn begin(file: NamedFile, size_bytes: u64, done: u64) -> Self {
        Self { file, size: size_bytes, done: done.min(size_bytes) }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.size }
    }

    /// Takes space for at most `max_bytes`.
    ///
    /// # Errors
    /// `Unsupported` if the file system takes none ahead of time, else as the system says. The step
    /// can be repeated.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let count = max_bytes.max(1).min(self.size - self.done);
        let take =
            || rustix::fs::fallocate(&self.file.file, FallocateFlags::empty(), self.done, count);
        retry_on_intr(take).map_err(|errno| {
            let error = self.file.error(Operation::Resize, errno, self.done, count);
            // Zeroes cannot be written instead, where others write data.
            match errno {
                Errno::OPNOTSUPP | Errno::NOSYS => error.with_kind(ImageErrorKind::Unsupported),
                _ => error,
            }
        })?;
        self.done += count;
        Ok(self.progress())
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// `SyncFailed`.
    pub fn sync(&self) -> Result<(), ImageError> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn all_space_is_taken_and_the_data_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("thin");
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(&[7; 5000], 3 << 20).unwrap();
        let named = NamedFile { file: file.try_clone().unwrap().into(), path: path.into() };
        let mut taker = SpaceTaker::begin(named, 8 << 20, 1 << 20);
        let mut steps = 0;
        while taker.progress().done < taker.progress().total {
            taker.step(3 << 20).unwrap();
            steps += 1;
        }
        taker.sync().unwrap();
        assert_eq!(steps, 3, "what an earlier run had done is left out");
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 8 << 20);
        assert!(metadata.blocks() * 512 >= 7 << 20);
        let mut data = [0; 5000];
        file.read_exact_at(&mut data, 3 << 20).unwrap();
        assert_eq!(data, [7; 5000]);
    }
}
