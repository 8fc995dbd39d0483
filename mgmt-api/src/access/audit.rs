//! Who did what: a file of JSON lines that is only appended to, and rotated.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::api::AuditRecord;

/// A file of this size is rotated.
const ROTATE_BYTES: u64 = 8 << 20;

/// Files that are kept beside the current one.
const KEPT: usize = 8;

/// The log, open for appending.
#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Audit {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: Mutex::new(None) }
    }

    /// Appends a record. Waits for the medium. What cannot be written is logged instead: the
    /// request was carried out, and its answer must not say otherwise.
    pub(super) fn write(&self, record: &AuditRecord) {
        if let Err(error) = self.append(record) {
            tracing::error!(%error, path = %self.path.display(), ?record, "the audit log cannot be written");
        }
    }

    fn append(&self, record: &AuditRecord) -> io::Result<()> {
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        let mut open = self.file.lock();
        let mut file = match open.take() {
            Some(file) => file,
            None => self.open()?,
        };
        if file.metadata()?.len() >= ROTATE_BYTES {
            drop(file);
            self.rotate()?;
            file = self.open()?;
        }
        file.write_all(line.as_bytes())?;
        *open = Some(file);
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }

    fn numbered(&self, number: usize) -> PathBuf {
        if number == 0 { self.path.clone() } else { suffixed(&self.path, number) }
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (0..KEPT).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The newest records, newest first, as far as the current file and the one before it have
    /// them. Waits for the medium.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn newest(&self, count: usize) -> io::Result<Vec<AuditRecord>> {
        let mut records = VecDeque::new();
        for number in [1, 0] {
            let file = match File::open(self.numbered(number)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in BufReader::new(file).split(b'\n') {
                // A line that a crash cut short is left out.
                let Ok(record) = serde_json::from_slice(&line?) else { continue };
                if records.len() == count {
                    records.pop_front();
                }
                records.push_back(record);
            }
        }
        Ok(records.into_iter().rev().take(count).collect())
    }
}

/// `audit.jsonl.1`
fn suffixed(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::Timestamp;

    use super::*;

    fn record(object: &str) -> AuditRecord {
        AuditRecord {
            time: Timestamp::UNIX_EPOCH,
            user: Some("root".to_owned()),
            role: None,
            via: "password".to_owned(),
            address: "192.0.2.1".to_owned(),
            method: "DELETE".to_owned(),
            object: object.to_owned(),
            outcome: "204".to_owned(),
            detail: None,
        }
    }

    #[test]
    fn the_newest_come_first_and_a_torn_line_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::new(path.clone());
        assert_eq!(audit.newest(5).unwrap(), []);
        audit.write(&record("/a"));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\n").unwrap();
        audit.write(&record("/b"));
        assert_eq!(audit.newest(5).unwrap(), [record("/b"), record("/a")]);
        assert_eq!(audit.newest(1).unwrap(), [record("/b")]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_large_file_is_set_aside_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::new(path.clone());
        for number in 0..12 {
            audit.write(&record(&format!("/{number}")));
            File::options().write(true).open(&path).unwrap().set_len(ROTATE_BYTES).unwrap();
        }
        audit.write(&record("/last"));
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1 + KEPT);
        assert_eq!(audit.newest(1).unwrap(), [record("/last")]);
    }
}
