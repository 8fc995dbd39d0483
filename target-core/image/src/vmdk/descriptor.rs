//! The descriptor: text that says what the disk is made of.

use crate::defect::Defect;

/// The longest one that is read.
pub(super) const MAX_DESCRIPTOR_BYTES: u64 = 1 << 20;
/// No parent.
const NO_PARENT: &str = "ffffffff";

/// Where a part of the disk is. Names are those of files beside the descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a file, from this sector on.
    Flat {
        name: String,
        offset: u64,
    },
    Sparse {
        name: String,
    },
    Zeroes,
}

/// A part of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtentLine {
    pub(super) sectors: u64,
    pub(super) kind: Kind,
}

/// What a descriptor says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) extents: Vec<ExtentLine>,
}

impl Descriptor {
    /// Reads it; it may be followed by zeroes.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Defect> {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let text = String::from_utf8_lossy(text.get(..end).unwrap_or_default());
        let mut descriptor = Self::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((key, value)) = setting(line) {
                check(key, value)?;
            } else if ["RW", "RDONLY", "NOACCESS"].iter().any(|access| line.starts_with(access)) {
                descriptor.extents.push(extent(line)?);
            }
        }
        if descriptor.extents.is_empty() {
            return Err(Defect::corrupt("the descriptor names no extents"));
        }
        Ok(descriptor)
    }

    /// For one inside of a sparse file: that file is all that there is.
    pub(super) fn stands_alone(&self) -> Result<(), Defect> {
        match self.extents.as_slice() {
            [ExtentLine { kind: Kind::Sparse { .. }, .. }] => Ok(()),
            _ => Err(Defect::unsupported("the descriptor in the file names other files")),
        }
    }
}

/// `key=value`, if the line is not one of an extent.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':'));
    plain.then(|| (key, value.trim().trim_matches('"')))
}

fn check(key: &str, value: &str) -> Result<(), Defect> {
    let refuse = |what: String| Err(Defect::unsupported(what));
    match key {
        "version" if !matches!(value, "1" | "2" | "3") => {
            refuse(format!("the descriptor has version {}", value.escape_debug()))
        }
        "parentCID" if !value.eq_ignore_ascii_case(NO_PARENT) => {
            refuse("it has a parent, and is wanted without any".to_owned())
        }
        "parentFileNameHint" => refuse("it has a parent, and is wanted without any".to_owned()),
        _ => Ok(()),
    }
}

/// `RW 4192256 SPARSE "name.vmdk"`, `RW 1024 FLAT "name-flat.vmdk" 0`, `RW 512 ZERO`.
fn extent(line: &str) -> Result<ExtentLine, Defect> {
    let wrong =
        |what: &str| Defect::corrupt(format!("the extent `{}` {what}", line.escape_debug()));
    let (words, rest) = line.split_once('"').unwrap_or((line, ""));
    let mut words = words.split_ascii_whitespace();
    let access = words.next().unwrap_or_default();
    if access == "NOACCESS" {
        return Err(Defect::unsupported("an extent may not be accessed (NOACCESS)"));
    }
    let sectors = words.next().and_then(|word| word.parse().ok());
    let sectors = sectors.filter(|it| *it > 0).ok_or_else(|| wrong("has no number of sectors"))?;
    let kind = words.next().unwrap_or_default();
    let name = || {
        let (name, rest) = rest.split_once('"').ok_or_else(|| wrong("has no name of a file"))?;
        let plain = !name.is_empty() && name.len() <= 255 && !matches!(name, "." | "..");
        if !plain || name.contains(['/', '\\', '\0']) {
            return Err(wrong("names no file beside the descriptor"));
        }
        Ok((name.to_owned(), rest.trim()))
    };
    let kind = match kind {
        "ZERO" => Kind::Zeroes,
        "SPARSE" => Kind::Sparse { name: name()?.0 },
        "FLAT" | "VMFS" => {
            let (name, rest) = name()?;
            let offset = if rest.is_empty() {
                0
            } else {
                rest.parse().map_err(|_| wrong("has no sector at which it begins"))?
            };
            Kind::Flat { name, offset }
        }
        other => {
            let what = format!("an extent has type `{}`", other.escape_debug());
            return Err(Defect::unsupported(what));
        }
    };
    Ok(ExtentLine { sectors, kind })
}
