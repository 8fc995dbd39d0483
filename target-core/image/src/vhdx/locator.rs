//! The parent locator ([MS-VHDX] 2.6.2.6): which file a differencing disk stands on.

use uuid::{Uuid, uuid};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::defect::Defect;

const VHDX_PARENT: Uuid = uuid!("b04aefb7-d19e-4a81-b789-25b8e9445913");

const PARENT_LINKAGE: &str = "parent_linkage";
const PARENT_LINKAGE2: &str = "parent_linkage2";
const RELATIVE_PATH: &str = "relative_path";
const ABSOLUTE_WIN32_PATH: &str = "absolute_win32_path";

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    locator_type: [u8; 16],
    reserved: U16,
    key_value_count: U16,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    key_offset: U32,
    value_offset: U32,
    key_length: U16,
    value_length: U16,
}

/// Keys and values, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParentLocator {
    pairs: Vec<(String, String)>,
}

impl ParentLocator {
    /// Points at the parent whose `DataWriteGuid` is `linkage`.
    pub(super) fn new(linkage: Uuid, relative: &str, absolute: &str) -> Self {
        let guid = format!("{{{linkage}}}");
        let pairs = [
            (PARENT_LINKAGE, guid.as_str()),
            (RELATIVE_PATH, relative),
            (ABSOLUTE_WIN32_PATH, absolute),
        ];
        Self { pairs: pairs.map(|(key, value)| (key.into(), value.into())).to_vec() }
    }

    /// The locator in a metadata item.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Defect> {
        let damaged = || Defect::corrupt("the parent locator is damaged");
        let (header, rest) = RawHeader::ref_from_prefix(bytes).map_err(|_| damaged())?;
        if header.locator_type != VHDX_PARENT.to_bytes_le() {
            let kind = Uuid::from_bytes_le(header.locator_type);
            return Err(Defect::unsupported(format!("parent locator type {kind} is not known")));
        }
        let count = usize::from(header.key_value_count.get());
        let (entries, _) =
            <[RawEntry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| damaged())?;
        let text = |offset: U32, length: U16| {
            let start = usize::try_from(offset.get()).ok()?;
            let bytes = bytes.get(start..start.checked_add(length.get().into())?)?;
            let (pairs, []) = bytes.as_chunks::<2>() else { return None };
            String::from_utf16(
                &pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect::<Vec<_>>(),
            )
            .ok()
            .filter(|text| !text.is_empty())
        };
        let mut pairs: Vec<(String, String)> = Vec::with_capacity(count);
        for entry in entries {
            let key = text(entry.key_offset, entry.key_length).ok_or_else(damaged)?;
            let value = text(entry.value_offset, entry.value_length).ok_or_else(damaged)?;
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(Defect::corrupt(format!("the parent locator has {key:?} twice")));
            }
            pairs.push((key, value));
        }
        let locator = Self { pairs };
        if locator.linkages().next().is_none() {
            return Err(Defect::corrupt("the parent locator has no parent_linkage"));
        }
        Ok(locator)
    }

    /// The metadata item.
    pub(super) fn emit(&self) -> Vec<u8> {
        let header = RawHeader {
            locator_type: VHDX_PARENT.to_bytes_le(),
            reserved: U16::new(0),
            key_value_count: U16::new(u16::try_from(self.pairs.len()).unwrap_or(0)),
        };
        let start = size_of::<RawHeader>() + self.pairs.len() * size_of::<RawEntry>();
        let (mut table, mut texts) = (header.as_bytes().to_vec(), Vec::new());
        let mut add = |text: &str| {
            let offset = start + texts.len();
            texts.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
            let length = start + texts.len() - offset;
            (
                U32::new(u32::try_from(offset).unwrap_or(0)),
                U16::new(u16::try_from(length).unwrap_or(0)),
            )
        };
        for (key, value) in &self.pairs {
            let (key_offset, key_length) = add(key);
            let (value_offset, value_length) = add(value);
            let entry = RawEntry { key_offset, value_offset, key_length, value_length };
            table.extend_from_slice(entry.as_bytes());
        }
        table.extend_from_slice(&texts);
        table
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// `DataWriteGuid`s by which the parent may be known.
    pub(super) fn linkages(&self) -> impl Iterator<Item = Uuid> + '_ {
        [PARENT_LINKAGE, PARENT_LINKAGE2]
            .into_iter()
            .filter_map(|key| Uuid::try_parse(self.value(key)?.trim_matches(['{', '}'])).ok())
    }

    /// Paths at which the parent may be, best first: what is relative counts from the child's
    /// directory. `\` separates as `/` does.
    pub(super) fn paths(&self) -> impl Iterator<Item = String> + '_ {
        [RELATIVE_PATH, ABSOLUTE_WIN32_PATH]
            .into_iter()
            .filter_map(|key| self.value(key))
            .map(|path| path.trim_start_matches(r"\\?\").replace('\\', "/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ImageErrorKind;

    #[test]
    fn a_locator_survives_and_names_its_parent() {
        let id = Uuid::from_u128(0x1234);
        let locator = ParentLocator::new(id, r"..\base\p.vhdx", r"\\?\C:\base\p.vhdx");
        let read = ParentLocator::parse(&locator.emit()).unwrap();
        assert_eq!(read, locator);
        assert_eq!(read.linkages().collect::<Vec<_>>(), [id]);
        assert_eq!(read.paths().collect::<Vec<_>>(), ["../base/p.vhdx", "C:/base/p.vhdx"]);
    }

    #[test]
    fn damaged_locators_are_refused() {
        let whole = ParentLocator::new(Uuid::from_u128(1), "p", "/p").emit();
        for length in 0..whole.len() {
            let refused = ParentLocator::parse(&whole[..length]).unwrap_err();
            assert_eq!(refused.kind(), ImageErrorKind::Corrupt, "{length} bytes");
        }
        let mut other = whole.clone();
        other[0] ^= 1;
        let refused = ParentLocator::parse(&other).unwrap_err();
        assert_eq!(refused.kind(), ImageErrorKind::Unsupported);
        let nameless = ParentLocator { pairs: vec![("relative_path".into(), "p".into())] };
        assert!(ParentLocator::parse(&nameless.emit()).is_err());
    }
}
