//! A second source beside the database: a file of JSON lines that is only ever appended to.
//!
//! One line is one transaction, as far as it matters after a loss: jobs that have ended, and every
//! change of the catalogue. `{"crc":"<8 hex>","entry":<JSON>}`, the CRC32C of the entry's text.
//! When the file is large it starts anew with everything that is true at that moment.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::Change;

pub(crate) const NAME: &str = "journal.jsonl";
const OLD_NAME: &str = "journal.1.jsonl";
const NEW_NAME: &str = "journal.new.jsonl";

/// A file of this size is rotated, unless what it began with makes up more than half of it: a large
/// catalogue is not written anew for each small change.
const ROTATE_BYTES: u64 = 1 << 20;

/// Hashes of passwords are in it.
const MODE: u32 = 0o600;

const HEAD: &str = "{\"crc\":\"";
const MIDDLE: &str = "\",\"entry\":";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When.
    pub(crate) time: Timestamp,
    /// Number of the transaction. The database knows it too: one that knows less than the journal
    /// has lost something.
    #[serde(default)]
    pub(crate) number: u64,
    /// The catalogue is exactly what this line says; jobs stay.
    #[serde(default)]
    pub(crate) reset: bool,
    /// The schema of what changed, 0 from before there was a number.
    #[serde(default)]
    pub(crate) schema: u32,
    /// What changed.
    #[serde(deserialize_with = "known")]
    pub(crate) changes: Vec<Change>,
}

impl Entry {
    /// An entry of this version.
    pub(crate) fn new(time: Timestamp, number: u64, reset: bool, changes: Vec<Change>) -> Self {
        Self { time, number, reset, schema: super::current_schema(), changes }
    }
}

/// The changes that this version knows: another one may have made others in the same transaction.
fn known<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Change>, D::Error> {
    let written = Vec::<serde_json::Value>::deserialize(from)?;
    let count = written.len();
    let changes: Vec<Change> =
        written.into_iter().filter_map(|change| serde_json::from_value(change).ok()).collect();
    if changes.len() < count {
        let unknown = count - changes.len();
        tracing::warn!(unknown, "the journal has changes that this version does not know");
    }
    Ok(changes)
}

/// The journal, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    file: File,
    length: u64,
    /// Bytes of its first line: everything, as it was when the file was begun.
    first: u64,
    number: u64,
}

impl Journal {
    /// Opens the journal in `directory`; also what it says, oldest first. A torn last line is cut
    /// off, damaged lines are left out.
    pub(crate) fn open(directory: &Path) -> io::Result<(Self, Vec<Entry>)> {
        let path = directory.join(NAME);
        let new = directory.join(NEW_NAME);
        if !path.exists() && new.exists() {
            std::fs::rename(&new, &path)?;
        }
        let mut entries = Vec::new();
        let old = read(&directory.join(OLD_NAME))?;
        entries.extend(parse(&old).0);
        let text = read(&path)?;
        let (current, valid) = parse(&text);
        entries.extend(current);
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(&path)?;
        // Those of older versions, and their successors.
        file.set_permissions(Permissions::from_mode(MODE))?;
        let length = u64::try_from(valid).unwrap_or(u64::MAX);
        if valid < text.len() {
            file.set_len(length)?;
        }
        file.sync_all()?;
        sync_directory(directory)?;
        let number = entries.iter().map(|entry| entry.number).max().unwrap_or(0);
        let first = text.get(..valid).and_then(|text| text.iter().position(|it| *it == b'\n'));
        let first = first.and_then(|end| u64::try_from(end).ok()).unwrap_or(0);
        Ok((Self { directory: directory.to_path_buf(), file, length, first, number }, entries))
    }

    /// The highest number so far.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Goes on after `number`, if that is higher.
    pub(crate) fn raise_to(&mut self, number: u64) {
        self.number = self.number.max(number);
    }

    /// Appends a line; it is on the medium when this returns.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.raise_to(entry.number);
        let line = line(entry)?;
        if let Err(error) = self.write(&line) {
            // A torn line in the middle would swallow the next one.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length = self.length.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()
    }

    /// It is time to [`Journal::rotate`].
    pub(crate) fn is_large(&self) -> bool {
        self.length >= ROTATE_BYTES.max(self.first.saturating_mul(2))
    }

    /// Starts a new file that begins with `everything`; the old one stays beside it.
    pub(crate) fn rotate(&mut self, everything: &Entry) -> io::Result<()> {
        let new = self.directory.join(NEW_NAME);
        let path = self.directory.join(NAME);
        let line = line(everything)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&path, self.directory.join(OLD_NAME))?;
        std::fs::rename(&new, &path)?;
        sync_directory(&self.directory)?;
        self.file = OpenOptions::new().append(true).open(&path)?;
        self.length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.first = self.length;
        Ok(())
    }
}

/// An entry as it stands in the file.
pub(crate) fn line(entry: &Entry) -> io::Result<String> {
    let json = serde_json::to_string(entry)?;
    Ok(format!("{HEAD}{:08x}{MIDDLE}{json}}}\n", crc32c::crc32c(json.as_bytes())))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut text).map(|_| text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(text),
        Err(error) => Err(error),
    }
}

/// All entries of a file that somebody saved, its last line too.
pub(crate) fn read_all(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// The entries, and the length up to which lines are complete.
fn parse(text: &[u8]) -> (Vec<Entry>, usize) {
    let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = text.get(..complete).unwrap_or_default().split(|byte| *byte == b'\n');
    (lines.filter_map(parse_line).collect(), complete)
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?;
    let (crc, rest) = line.strip_prefix(HEAD)?.split_at_checked(8)?;
    let json = rest.strip_prefix(MIDDLE)?.strip_suffix('}')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc != crc32c::crc32c(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
