//! From thin to full and back, while a disk is in use.

use disk_image::ImageFormat;

use super::Engine;
use super::copying::{Builder, affected, whole_disk};
use super::core::Core;
use super::state::Change;
use crate::catalogue::{Disk, Provisioning};
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, JobId};
use crate::job::{Element, ElementEffect, JobKind, Purpose, Submission};
use crate::place::Place;
use crate::plan::Action;

impl Engine {
    /// Submits that a raw disk, which may be a LUN, takes all its space at once (full) or no more
    /// than is written (thin; what it has it keeps until initiators unmap it). Ended on its way to
    /// full, a disk is thin and keeps what it took.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while another job works on it, `BadValue` if it is so already or is
    /// not raw, `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn provision_disk(
        &self,
        disk: DiskId,
        provisioning: Provisioning,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_provisioning(disk, provisioning, submission))
    }
}

impl Core {
    fn submit_provisioning(
        &mut self,
        disk: DiskId,
        provisioning: Provisioning,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let element = Element::Disk(disk);
        let planned = {
            let state = self.shared.state.lock();
            whole_disk(&state, disk).and_then(|disk| check(&disk, provisioning).map(|()| disk))
        };
        let disk = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let mut builder = Builder::default().claim(disk.id, true);
        if provisioning == Provisioning::Full {
            let (place, bytes) = (Place::pool(&disk.path), disk.size_bytes);
            builder = builder.then(Action::TakeSpace { place, bytes });
        }
        let changed = Disk { provisioning, ..disk.clone() };
        let plan = builder.finish(vec![Change::PutDisk(Box::new(changed))]);
        let name = match provisioning {
            Provisioning::Full => format!("Take all space of disk {}", disk.name),
            Provisioning::Thin => format!("Make disk {} thin", disk.name),
        };
        let affected = vec![
            affected(element, ElementEffect::Other),
            affected(Element::Pool(disk.pool.clone()), ElementEffect::Other),
        ];
        let kind = JobKind::Planned { purpose: Purpose::ProvisionDisk, disk: disk.id, makes: None };
        self.submit_planned(JobId::generate(), (name, kind, affected), Some(plan), submission)
    }
}

fn check(disk: &Disk, provisioning: Provisioning) -> Result<(), Cause> {
    let wrong = |reason: &str| {
        let (property, reason) = ("provisioning".to_owned(), reason.to_owned());
        Err(Cause::BadValue { property, reason })
    };
    if disk.format != ImageFormat::Raw {
        return wrong("only raw disks change it");
    }
    match provisioning {
        same if disk.provisioning != same => Ok(()),
        Provisioning::Full => wrong("the disk is full already"),
        Provisioning::Thin => wrong("the disk is thin already"),
    }
}
