//! The engine's values as clients see them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use job_engine::{DiskId, JobKind, Snapshot};

use crate::api;

pub(super) fn disk<'a>(
    disk: &job_engine::Disk,
    mappings: impl IntoIterator<Item = &'a job_engine::Mapping>,
) -> api::Disk {
    let metadata = std::fs::metadata(&disk.path).ok();
    let allocated_bytes = metadata.map(|metadata| match disk.takes_pool_space() {
        // st_blocks counts in 512 bytes, whatever the file system.
        true => metadata.blocks() * 512,
        false => disk.size_bytes,
    });
    api::Disk { allocated_bytes, ..lasting_disk(disk, mappings) }
}

/// What the catalogue says of a disk.
pub(super) fn lasting_disk<'a>(
    disk: &job_engine::Disk,
    mappings: impl IntoIterator<Item = &'a job_engine::Mapping>,
) -> api::Disk {
    let of_disk = mappings.into_iter().filter(|mapping| mapping.disk == disk.id);
    api::Disk {
        id: disk.id.to_string(),
        name: disk.name.clone(),
        size_bytes: disk.size_bytes,
        block_length: disk.block_length.bytes(),
        provisioning: disk.provisioning,
        format: disk.format,
        serial: disk.serial.clone(),
        naa: disk.naa.to_string(),
        pool: disk.pool.to_string(),
        path: disk.path.display().to_string(),
        device: disk.device.as_ref().map(|device| device.display().to_string()),
        created: disk.created,
        allocated_bytes: None,
        parent: None,
        read_only: disk.read_only,
        mappings: of_disk
            .map(|mapping| api::Mapping { target: mapping.target.clone(), lun: mapping.lun })
            .collect(),
    }
}

/// Targets as they are shown, each without a look at what belongs to others.
pub(super) struct Targets<'a> {
    snapshot: &'a Snapshot,
    disk_names: BTreeMap<DiskId, &'a str>,
    /// How many sessions each has.
    sessions: BTreeMap<&'a str, usize>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, sessions: &'a [api::Session]) -> Self {
        let named = |disk: &'a job_engine::Disk| (disk.id, disk.name.as_str());
        let disk_names = snapshot.disks.iter().map(named).collect();
        let mut counts = BTreeMap::new();
        for target in sessions.iter().filter_map(|session| session.target.as_deref()) {
            *counts.entry(target).or_default() += 1;
        }
        Self { snapshot, disk_names, sessions: counts }
    }

    pub(super) fn find(&self, name: &str) -> Option<api::Target> {
        self.snapshot.targets.iter().find(|target| target.name == name).map(|it| self.show(it))
    }

    pub(super) fn all(&self) -> Vec<api::Target> {
        self.snapshot.targets.iter().map(|target| self.show(target)).collect()
    }

    fn show(&self, target: &job_engine::Target) -> api::Target {
        // They come by target.
        let all = &self.snapshot.mappings;
        let first = all.partition_point(|mapping| mapping.target < target.name);
        let own = all.iter().skip(first).take_while(|mapping| mapping.target == target.name);
        let lun = |mapping: &job_engine::Mapping| api::Lun {
            lun: mapping.lun,
            disk: mapping.disk.to_string(),
            disk_name: self.disk_names.get(&mapping.disk).copied().unwrap_or_default().to_owned(),
        };
        api::Target {
            name: target.name.clone(),
            alias: target.alias.clone(),
            created: target.created,
            access: target.access.as_ref().map(|entries| entries.iter().map(access).collect()),
            luns: own.map(lun).collect(),
            sessions: self.sessions.get(target.name.as_str()).copied().unwrap_or_default(),
        }
    }
}

/// Entries in an order of their own: theirs means nothing.
pub(super) fn access_list(entries: &[job_engine::AccessEntry]) -> Vec<api::Access> {
    let mut list: Vec<_> = entries.iter().map(access).collect();
    list.sort_by(|a, b| (&a.initiator, &a.address).cmp(&(&b.initiator, &b.address)));
    list
}

fn access(entry: &job_engine::AccessEntry) -> api::Access {
    api::Access {
        initiator: entry.initiator.clone(),
        // A single address is shown as one.
        address: entry.address.map(|network| match network {
            network if network.prefix_len() == network.max_prefix_len() => {
                network.addr().to_string()
            }
            network => network.to_string(),
        }),
        luns: entry.luns.clone(),
        read_only: entry.read_only,
    }
}

/// How often a fault has happened.
pub(super) fn occurrences(kind: &JobKind) -> Option<u64> {
    match kind {
        JobKind::DataPathFault(fault) => Some(fault.count),
        JobKind::CreateDisk { .. }
        | JobKind::DeleteDisk { .. }
        | JobKind::ExpandDisk { .. }
        | JobKind::Planned { .. }
        | JobKind::Operation(_)
        | JobKind::Unknown(_) => None,
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn job(job: job_engine::Job) -> api::Job {
    let occurrences = occurrences(&job.kind);
    let operational_status = job.operational_status().to_vec();
    api::Job {
        id: job.id.to_string(),
        instance_id: job.instance_id(),
        trace: job.id.trace(),
        kind: job.kind.word().to_owned(),
        name: job.name,
        state: job.state.name().to_owned(),
        job_state: job.state.number(),
        operational_status,
        ended: job.state.is_terminal(),
        percent_complete: job.percent_complete,
        disk: job.kind.disk().to_string(),
        owner: job.owner,
        time_submitted: job.time_submitted,
        start_time: job.start_time,
        end_time: job.end_time,
        elapsed_ms: millis(job.elapsed),
        remaining_ms: job.remaining.map(millis),
        scheduled_start_time: job.scheduled_start_time,
        priority: job.priority,
        after: job.after.iter().map(ToString::to_string).collect(),
        time_limit_seconds: job.time_limit.map(|limit| limit.as_secs()),
        bandwidth: job.bandwidth,
        occurrences,
        checksums: job.checksums,
        affected: job.affected,
        errors: job.errors,
    }
}
