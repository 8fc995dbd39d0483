//! What is wrong with a file that should be an image, in words for the operator.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use crate::error::{ImageError, ImageErrorKind, Operation};

/// A reason to refuse a file. Parsers, which know no path, return it; whoever opened the file
/// makes an [`ImageError`] of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Defect {
    kind: ImageErrorKind,
    what: Cow<'static, str>,
}

impl Defect {
    /// The image contradicts itself.
    pub(crate) fn corrupt(what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ImageErrorKind::Corrupt, what: what.into() }
    }

    /// The image is of a version or has a feature that this implementation does not know.
    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ImageErrorKind::Unsupported, what: what.into() }
    }

    /// The file is no image of this format.
    pub(crate) fn invalid_format(what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ImageErrorKind::InvalidFormat, what: what.into() }
    }

    /// The kind of the error that this becomes.
    #[cfg(test)]
    pub(crate) fn kind(&self) -> ImageErrorKind {
        self.kind
    }

    /// The error of `operation` on `path` that says this.
    pub(crate) fn into_error(self, operation: Operation, path: impl Into<Arc<Path>>) -> ImageError {
        ImageError::new(self.kind, operation, path).because(self.what)
    }
}
