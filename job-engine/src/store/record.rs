//! Values as they lie in the database: format version, checksum, JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError, Tree};

/// Version of the format of values.
const VERSION: u8 = 1;

/// One key of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Where.
    pub tree: Tree,
    /// Which.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

/// What one transaction does, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    operations: Vec<Operation>,
}

impl Batch {
    /// Writes `value`, sealed with version and checksum.
    ///
    /// # Errors
    /// `Unavailable` if the value has no JSON form.
    pub fn put<T: Serialize>(
        &mut self,
        tree: Tree,
        key: &[u8],
        value: &T,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_vec(value)
            .map_err(|error| StoreError::Unavailable(format!("cannot encode a record: {error}")))?;
        self.put_raw(tree, key, seal(tree, key, &json));
        Ok(())
    }

    /// Writes bytes as they are.
    pub fn put_raw(&mut self, tree: Tree, key: &[u8], value: Vec<u8>) {
        self.operations.push(Operation { tree, key: key.to_vec(), value: Some(value) });
    }

    /// Deletes a key; a key that is not there stays so.
    pub fn delete(&mut self, tree: Tree, key: &[u8]) {
        self.operations.push(Operation { tree, key: key.to_vec(), value: None });
    }

    /// What it does.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// It does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// A value that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Where.
    pub tree: Tree,
    /// Which.
    pub key: Vec<u8>,
    /// Why.
    pub reason: String,
}

/// The checksum covers tree and key too: a value under a wrong key is a wrong value.
fn checksum(tree: Tree, key: &[u8], json: &[u8]) -> u32 {
    let crc = crc32c::crc32c(tree.name().as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c_append(crc, &[0]), key), json)
}

fn seal(tree: Tree, key: &[u8], json: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(json.len() + 5);
    value.push(VERSION);
    value.extend_from_slice(&checksum(tree, key, json).to_le_bytes());
    value.extend_from_slice(json);
    value
}

fn unseal<T: DeserializeOwned>(tree: Tree, key: &[u8], value: &[u8]) -> Result<T, String> {
    let (&version, rest) = value.split_first().ok_or("empty value")?;
    if version != VERSION {
        return Err(format!("format version {version} is not known"));
    }
    let (crc, json) = rest.split_first_chunk::<4>().ok_or("short value")?;
    if u32::from_le_bytes(*crc) != checksum(tree, key, json) {
        return Err("checksum mismatch".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// Reads a whole tree. A value that cannot be trusted is reported, not guessed at.
///
/// # Errors
/// As [`Store::scan`].
pub fn load<T: DeserializeOwned>(
    store: &dyn Store,
    tree: Tree,
) -> Result<(Vec<T>, Vec<BadRecord>), StoreError> {
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for (key, value) in store.scan(tree)? {
        match unseal(tree, &key, &value) {
            Ok(record) => good.push(record),
            Err(reason) => bad.push(BadRecord { tree, key, reason }),
        }
    }
    Ok((good, bad))
}

/// Where the number of the last journaled transaction stands.
const MARK: &[u8] = b"journal";

/// Adds the number of the journal's entry to the transaction that it tells of.
pub(crate) fn put_mark(batch: &mut Batch, number: u64) -> Result<(), StoreError> {
    batch.put(Tree::Meta, MARK, &number)
}

/// Number of the last journaled transaction that the database knows; `None` if that cannot be
/// read.
pub(crate) fn mark(store: &dyn Store) -> Result<Option<u64>, StoreError> {
    let value = store.get(Tree::Meta, MARK)?;
    Ok(value.map_or(Some(0), |value| unseal(Tree::Meta, MARK, &value).ok()))
}

/// Where the number of the schema stands.
const SCHEMA: &[u8] = b"schema";

/// Adds the number of the schema.
pub(crate) fn put_schema(batch: &mut Batch, number: u32) -> Result<(), StoreError> {
    batch.put(Tree::Meta, SCHEMA, &number)
}

/// Number of the database's schema, 0 if it has none; `None` if that cannot be read.
pub(crate) fn schema(store: &dyn Store) -> Result<Option<u32>, StoreError> {
    let value = store.get(Tree::Meta, SCHEMA)?;
    Ok(value.map_or(Some(0), |value| unseal(Tree::Meta, SCHEMA, &value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_changed_or_moved_is_not_read() {
        let sealed = seal(Tree::Jobs, b"a", b"[1,2]");
        assert_eq!(unseal::<Vec<u8>>(Tree::Jobs, b"a", &sealed), Ok(vec![1, 2]));
        assert!(unseal::<Vec<u8>>(Tree::Jobs, b"b", &sealed).is_err());
        assert!(unseal::<Vec<u8>>(Tree::Disks, b"a", &sealed).is_err());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(unseal::<Vec<u8>>(Tree::Jobs, b"a", &changed).is_err(), "byte {index}");
            assert!(unseal::<Vec<u8>>(Tree::Jobs, b"a", &sealed[..index]).is_err());
        }
    }
}
