//! Writing zeroes over everything that a file holds, in steps, before it is removed.

use std::io::IoSlice;

use rustix::io::ReadWriteFlags;

use crate::copy::{NamedFile, data_end, first_data};
use crate::create::Progress;
use crate::error::{ImageError, ImageErrorKind, Operation};

static ZEROES: [u8; 1 << 20] = [0; 1 << 20];

/// An overwriting under way. Holes hold nothing and are left out.
#[derive(Debug)]
pub struct Overwriter {
    file: NamedFile,
    size: u64,
    done: u64,
}

impl Overwriter {
    /// Overwrites all of `file`, after the `done` bytes of an earlier run.
    ///
    /// # Errors
    /// As the system says.
    pub fn begin(file: NamedFile, done: u64) -> Result<Self, ImageError> {
        let size = file.length()?;
        Ok(Self { file, size, done: done.min(size) })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.size }
    }

    /// Overwrites at most `max_bytes`, or leaves a hole out.
    ///
    /// # Errors
    /// As the system says. The step can be repeated.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let data = first_data(&self.file, self.done)?.unwrap_or(self.size).min(self.size);
        if data > self.done {
            self.done = data;
            return Ok(self.progress());
        }
        let end = self.done.saturating_add(max_bytes.max(1)).min(self.size);
        let end = data_end(&self.file, self.done, end)?.max((self.done + 1).min(end));
        while self.done < end {
            let count = usize::try_from(end - self.done).unwrap_or(ZEROES.len()).min(ZEROES.len());
            let piece = [IoSlice::new(ZEROES.get(..count).unwrap_or(&ZEROES))];
            match rustix::io::pwritev2(&self.file.file, &piece, self.done, ReadWriteFlags::empty())
            {
                Ok(0) => {
                    let kind = ImageErrorKind::Io;
                    let path = self.file.path.clone();
                    return Err(ImageError::new(kind, Operation::Overwrite, path)
                        .at(self.done, end - self.done));
                }
                Ok(written) => self.done += u64::try_from(written).unwrap_or(0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    let left = end - self.done;
                    return Err(self.file.error(Operation::Overwrite, errno, self.done, left));
                }
            }
        }
        Ok(self.progress())
    }

    /// Makes the zeroes durable: what was there before is gone only then.
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
    use crate::copy::tests::named;

    #[test]
    fn all_data_become_zeroes_and_holes_stay_holes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], 3).unwrap();
        file.write_all_at(&[7; 9000], (64 << 20) - 9000).unwrap();
        let mut overwriter = Overwriter::begin(named(&path), 0).unwrap();
        while !overwriter.step(700).unwrap().is_complete() {}
        overwriter.sync().unwrap();
        assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    }
}
