//! Comparing a copy with its source, in steps.

use rustix::fs::Advice;
use rustix::io::retry_on_intr;

use crate::copy::{NamedFile, first_data};
use crate::create::Progress;
use crate::error::{ImageError, ImageErrorKind, Operation};

/// Compared at once.
const PIECE: usize = 1 << 20;

/// A comparison under way.
#[derive(Debug)]
pub struct Verifier {
    source: Option<NamedFile>,
    copy: NamedFile,
    size: u64,
    done: u64,
    buffers: (Vec<u8>, Vec<u8>),
}

impl Verifier {
    /// Compares `copy` with `source` from byte `done` on; without a source it only reads all of it.
    #[must_use]
    pub fn begin(source: Option<NamedFile>, copy: NamedFile, size: u64, done: u64) -> Self {
        // What is read shall come from the medium, not from memory. A hint.
        let _ = rustix::fs::fadvise(&copy.file, 0, None, Advice::DontNeed);
        Self { source, copy, size, done, buffers: (Vec::new(), Vec::new()) }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done.min(self.size), total: self.size }
    }

    /// Compares the next part, or leaves out what is a hole in both.
    ///
    /// # Errors
    /// `Corrupt` at the first byte that differs, otherwise as the system says.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let hole = |file: &NamedFile| {
            first_data(file, self.done).map(|data| data.unwrap_or(self.size).min(self.size))
        };
        let mut data = hole(&self.copy)?;
        if let Some(source) = &self.source {
            data = data.min(hole(source)?);
        }
        if data > self.done {
            self.done = data;
            return Ok(self.progress());
        }
        let left = usize::try_from(self.size.saturating_sub(self.done)).unwrap_or(usize::MAX);
        let count = usize::try_from(max_bytes).unwrap_or(usize::MAX).clamp(512, PIECE).min(left);
        read(&self.copy, self.done, count, &mut self.buffers.0)?;
        if let Some(source) = &self.source {
            read(source, self.done, count, &mut self.buffers.1)?;
            let (copy, wanted) = (&self.buffers.0, &self.buffers.1);
            // As a whole first: that is fast.
            if copy != wanted
                && let Some(at) = copy.iter().zip(wanted).position(|(one, other)| one != other)
            {
                let at = self.done + u64::try_from(at).unwrap_or(0);
                let kind = ImageErrorKind::Corrupt;
                return Err(
                    ImageError::new(kind, Operation::Verify, self.copy.path.clone()).at(at, 1)
                );
            }
        }
        self.done += u64::try_from(count).unwrap_or(0);
        Ok(self.progress())
    }
}

/// Reads `count` bytes; zeroes behind the end.
fn read(file: &NamedFile, at: u64, count: usize, buffer: &mut Vec<u8>) -> Result<(), ImageError> {
    buffer.clear();
    buffer.resize(count, 0);
    let mut done = 0;
    while done < count {
        let from = at + u64::try_from(done).unwrap_or(0);
        let rest = buffer.get_mut(done..).unwrap_or_default();
        match retry_on_intr(|| rustix::io::pread(&file.file, &mut *rest, from)) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(errno) => {
                let length = u64::try_from(count - done).unwrap_or(0);
                return Err(file.error(Operation::Read, errno, from, length));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::copy::tests::named;

    fn verify(source: Option<&Path>, copy: &Path, size: u64) -> Result<(), ImageError> {
        let mut verifier = Verifier::begin(source.map(named), named(copy), size, 0);
        while !verifier.step(4096)?.is_complete() {}
        Ok(())
    }

    #[test]
    fn the_first_byte_that_differs_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        let mut bytes = vec![5; 100_000];
        fs::write(&a, &bytes).unwrap();
        fs::write(&b, &bytes).unwrap();
        // Zeroes behind the end of the source.
        fs::File::options().write(true).open(&b).unwrap().set_len(1 << 20).unwrap();
        verify(Some(&a), &b, 1 << 20).unwrap();
        verify(None, &b, 1 << 20).unwrap();
        bytes[70_001] = 6;
        fs::write(&b, &bytes).unwrap();
        let error = verify(Some(&a), &b, 100_000).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ImageErrorKind::Corrupt, Some(70_001)));
        // A hole where the source has data.
        fs::File::create(&b).unwrap().set_len(100_000).unwrap();
        assert_eq!(verify(Some(&a), &b, 100_000).unwrap_err().offset(), Some(0));
        verify(None, &b, 100_000).unwrap();
    }
}
