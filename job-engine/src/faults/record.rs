//! Writing what has been reported into the database, as failed jobs.

use std::time::{Duration, Instant};

use super::{FaultDetail, FaultPlaces, PendingFault};
use crate::engine::{Change, Core, JobRecord};
use crate::error::{Cause, ImageContext};
use crate::failpoint;
use crate::id::{DiskId, JobId};
use crate::job::{
    AffectedElement, DEFAULT_PRIORITY, DEFAULT_TIME_BEFORE_REMOVAL, Element, ElementEffect, Job,
    JobKind, JobState,
};
use crate::kinds::Step;

/// The database hears of faults at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

impl Core {
    /// Writes what has been reported since the last time. Says how long until it may be done
    /// again, if something waits for that.
    pub(crate) fn write_faults(&mut self) -> Option<Duration> {
        if self.shared.faults.lock().faults.is_empty() {
            return None;
        }
        let wait = self
            .last_fault_write
            .and_then(|at| INTERVAL.checked_sub(at.elapsed()))
            .filter(|wait| !wait.is_zero());
        if wait.is_some() {
            return wait;
        }
        self.last_fault_write = Some(Instant::now());
        let taken = std::mem::take(&mut self.shared.faults.lock().faults);
        let changes = taken
            .iter()
            .map(|((disk, message_id), fault)| {
                Change::PutJob(Box::new(self.fault_record(*disk, message_id, fault)))
            })
            .collect();
        if self.commit(failpoint::FAULTS, changes).is_err() {
            let mut pending = self.shared.faults.lock();
            for (key, older) in taken {
                let merged = match pending.faults.remove(&key) {
                    Some(newer) => newer.after(&older),
                    None => older,
                };
                pending.faults.insert(key, merged);
            }
        }
        None
    }

    fn fault_record(&self, disk: DiskId, message_id: &str, fault: &PendingFault) -> JobRecord {
        let (existing, disk_name) = {
            let state = self.shared.state.lock();
            let known = state.faults.get(&(disk, message_id.to_owned()));
            let existing = known.and_then(|id| state.jobs.get(id));
            let name = state.disks.get(&disk).map_or_else(|| disk.to_string(), |d| d.name.clone());
            (existing.map(|entry| JobRecord::clone(&entry.record)), name)
        };
        let before = existing.as_ref().and_then(|record| match &record.job.kind {
            JobKind::DataPathFault(detail) => {
                Some((detail.count, detail.first, detail.places.clone()))
            }
            JobKind::CreateDisk { .. }
            | JobKind::DeleteDisk { .. }
            | JobKind::ExpandDisk { .. }
            | JobKind::Planned { .. }
            | JobKind::Operation(_)
            | JobKind::Unknown(_) => None,
        });
        let (count, first, mut places) = before.unwrap_or((0, fault.first, FaultPlaces::default()));
        places.extend(&fault.places);
        let report = &fault.latest;
        let detail = FaultDetail {
            disk,
            message_id: message_id.to_owned(),
            count: count.saturating_add(fault.count),
            first,
            last: fault.last,
            target: report.target.clone(),
            lun: report.lun,
            lba: report.lba,
            opcode: report.opcode,
            initiator: report.initiator.clone(),
            operation: report.operation.verb().to_owned(),
            errno: report.errno,
            path: report.path.clone(),
            text: report.text.clone(),
            places,
        };
        let source = Element::Disk(disk);
        let error = fault_cause(report, &detail).to_cim_error(Some(&source), &self.shared.paths);
        let mut record = existing.unwrap_or_else(|| JobRecord {
            job: new_job(source, &disk_name, &detail),
            step: Step::Pending,
            ending: None,
            request: None,
            plan: None,
        });
        record.job.errors = vec![error];
        record.job.end_time = Some(detail.last);
        record.job.kind = JobKind::DataPathFault(Box::new(detail));
        record
    }
}

fn new_job(source: Element, disk_name: &str, detail: &FaultDetail) -> Job {
    Job {
        id: JobId::generate(),
        kind: JobKind::DataPathFault(Box::new(detail.clone())),
        name: format!("Errors of disk {disk_name}"),
        state: JobState::Exception,
        percent_complete: 100,
        errors: Vec::new(),
        time_submitted: detail.first,
        scheduled_start_time: None,
        start_time: Some(detail.first),
        time_of_last_state_change: detail.first,
        end_time: None,
        elapsed: Duration::ZERO,
        time_before_removal: DEFAULT_TIME_BEFORE_REMOVAL,
        // An operator clears it; nobody else knows that the cause is gone.
        delete_on_completion: false,
        priority: DEFAULT_PRIORITY,
        owner: String::new(),
        notify: String::new(),
        affected: vec![AffectedElement {
            element: source,
            effect: ElementEffect::ElementIntegrity,
        }],
        after: Vec::new(),
        time_limit: None,
        bandwidth: None,
        remaining: None,
        checksums: None,
    }
}

/// The cause with everything about its occasions where the message has its details.
fn fault_cause(report: &super::FaultReport, detail: &FaultDetail) -> Cause {
    let lba = detail.lba.map_or_else(|| "none".to_owned(), |lba| lba.to_string());
    let occasions = format!(
        "{} times from {} to {}; latest: operation code {:02X}h, LBA {lba}, LUN {} of {}, \
         initiator {}; all of them: {}",
        detail.count,
        detail.first,
        detail.last,
        detail.opcode,
        detail.lun,
        detail.target,
        detail.initiator,
        detail.places,
    );
    let context = ImageContext {
        errno: report.errno,
        occasions: Some(occasions.as_str().into()),
        ..ImageContext::new(report.operation, &report.path)
    };
    let mut cause = Cause::from_image(report.kind, context);
    if let Cause::OutOfSpace { what, .. } = &mut cause {
        *what = format!("{what} ({occasions})");
    } else if let Cause::ParentMismatch { reason, .. } = &mut cause {
        *reason = format!("{} ({occasions})", report.text);
    }
    cause
}
