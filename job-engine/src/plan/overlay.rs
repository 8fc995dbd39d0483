//! Images that are laid over others: making them, and bringing them together again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use disk_image::{
    CreateOptions, ImageError, ImageErrorKind, ImageFormat, LayerCopier, OpenOptions, Parent,
    Preallocation, is_device, make_named, open_named, open_shared, rebase_named,
};
use serde::{Deserialize, Serialize};

use super::Form;
use super::run::Work;
use crate::datapath::SwitchError;
use crate::engine::{Failure, Interrupt};
use crate::error::Cause;
use crate::failpoint;
use crate::place::{Access, Place};

/// How long the data path may take to open or close an image whose header is to be written.
const PATIENCE: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_millis(20);

/// An image that is laid over another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Child {
    pub(crate) place: Place,
    /// It is a disk's, and the data path may have it open; else nobody writes it any more.
    pub(crate) is_disk: bool,
}

impl Work<'_> {
    /// Makes an image that shows all of its parent.
    pub(super) fn overlay(&self, to: &Place, parent: &Form, bytes: u64) -> Result<(), Failure> {
        self.boundary()?;
        let fail = |error: ImageError| self.cause(&error, to, bytes);
        let target = to.create_partial().map_err(fail)?;
        let name = parent.place.path.file_name().map(Into::into).unwrap_or_default();
        let options = CreateOptions {
            parent: Some(Parent { path: name, format: parent.format }),
            ..CreateOptions::new(bytes, Preallocation::Sparse)
        };
        make_named(target, ImageFormat::Qcow2, &options).map_err(fail)?;
        failpoint::hit("plan.laid");
        Ok(())
    }

    /// Brings an image, and what lies between, into one below. Whoever has them open sees the same
    /// all the time, and may have them open.
    pub(super) fn merge(&self, from: &Form, into: &Form, bytes: u64) -> Result<(), Failure> {
        let fail = |error: &ImageError| self.cause(error, &into.place, bytes);
        let open = |place: &Place, access| place.open(false, access);
        let needed = {
            let file = open(&from.place, Access::Look).map_err(|error| fail(&error))?;
            file.allocated().map_err(|error| fail(&error))?
        };
        if !is_device(&into.place.path) {
            self.reserve(&into.place, bytes, needed.min(bytes))?;
        }
        if into.format == ImageFormat::Raw {
            let file = open(&into.place, Access::Share).map_err(|error| fail(&error))?;
            if file.length().map_err(|error| fail(&error))? < bytes {
                file.set_length(bytes).map_err(|error| fail(&error))?;
            }
        }
        let begin = || {
            // The writer first: a log that a crash has left is replayed before others read.
            let base = open(&into.place, Access::Share)?;
            let base = open_shared(base, into.format, &OpenOptions::default())?;
            let top = open(&from.place, Access::Read)?;
            let top = open_named(top, from.format, &OpenOptions::read_only())?;
            LayerCopier::begin(top, base, bytes, self.done)
        };
        let copier = begin().map_err(|error| fail(&error))?;
        self.pass(copier, "plan.merged", fail)
    }

    /// Has images name another parent with the same data: in their files, and where they are open.
    pub(super) fn rebase(
        &self,
        children: &[Child],
        from: &Place,
        to: &Form,
    ) -> Result<(), Failure> {
        for child in children {
            self.rebase_one(child, from, to)?;
            failpoint::hit("plan.rebased");
        }
        self.change_parent(from, to).map(drop)
    }

    fn rebase_one(&self, child: &Child, from: &Place, to: &Form) -> Result<(), Failure> {
        let name = to.place.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Who has it open for writing writes its header.
            if child.is_disk && self.change_parent(from, to)?.contains(&child.place.path) {
                return Ok(());
            }
            let access = if child.is_disk { Access::Write } else { Access::Share };
            let file = child.place.open(false, access);
            match file.and_then(|file| rebase_named(file, name, to.format)) {
                Ok(()) => return Ok(()),
                Err(error)
                    if error.kind() == ImageErrorKind::InUse && Instant::now() < deadline =>
                {
                    std::thread::sleep(INTERVAL);
                }
                Err(error) => return Err(Cause::from(&error).into()),
            }
        }
    }

    /// The files that show `to` where they are open.
    fn change_parent(&self, from: &Place, to: &Form) -> Result<Vec<PathBuf>, Failure> {
        let data_path = &self.context.shared.config.data_path;
        let changed = data_path.change_parent(&from.path, &to.place.path, to.format);
        changed.map_err(|error| match error {
            SwitchError::Stopping(reason) => {
                tracing::debug!(reason, "the data path stops");
                Interrupt::Stop.into()
            }
            SwitchError::Image(error) => Cause::from(&error).into(),
        })
    }
}
