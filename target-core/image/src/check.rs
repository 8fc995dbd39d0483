//! Checking an image of any format that nobody uses.

use std::sync::Arc;

use crate::convert::open_named;
use crate::copy::NamedFile;
use crate::error::{ImageError, ImageErrorKind};
use crate::file::ImageFile;
use crate::format::{ImageFormat, OpenOptions};
use crate::image::Image;
use crate::qcow2::{CheckReport, check_file};

/// Checks the tables of an image. A qcow2 image's counts are compared with its references, and
/// `repair` frees clusters that nobody refers to, if nothing else is wrong. Those of a VHDX and a
/// VHD are read as a whole, as whenever one is opened: every block has its place to itself. A raw
/// image has none.
///
/// # Errors
/// `InUse` if somebody has it open; whatever keeps it from being read. What contradicts itself
/// stands in the report.
pub fn check_named(
    file: NamedFile,
    format: ImageFormat,
    options: &OpenOptions,
    repair: bool,
) -> Result<(CheckReport, Option<Arc<dyn Image>>), ImageError> {
    let mut report = CheckReport::default();
    if format == ImageFormat::Qcow2 {
        let again = file.file.try_clone().map_err(|error| {
            ImageError::from_io(crate::error::Operation::Open, file.path.clone(), error)
        })?;
        let again = NamedFile { file: again, path: file.path.clone() };
        let image = ImageFile::lock(file.file, file.path, !repair)?;
        report = check_file(&image, repair)?;
        if report.error_count > 0 {
            return Ok((report, None));
        }
        // One open file with two handles has one lock.
        drop(image);
        return Ok((report, Some(open_named(again, format, options)?)));
    }
    match open_named(file, format, options) {
        Ok(image) => Ok((report, Some(image))),
        Err(error)
            if matches!(error.kind(), ImageErrorKind::Corrupt | ImageErrorKind::InvalidFormat) =>
        {
            report.error(error.offset(), error.reason().unwrap_or("it is damaged").to_owned());
            Ok((report, None))
        }
        Err(error) => Err(error),
    }
}
