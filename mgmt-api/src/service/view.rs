//! The engine's values as clients see them.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use job_engine::{JobKind, Snapshot};

use crate::api;

pub(super) fn disk(disk: &job_engine::Disk, mappings: &[job_engine::Mapping]) -> api::Disk {
    let metadata = std::fs::metadata(&disk.path).ok();
    let allocated_bytes = metadata.map(|metadata| match disk.takes_pool_space() {
        // st_blocks counts in 512 bytes, whatever the file system.
        true => metadata.blocks() * 512,
        false => disk.size_bytes,
    });
    api::Disk { allocated_bytes, ..lasting_disk(disk, mappings) }
}

/// What the catalogue says of a disk.
pub(super) fn lasting_disk(disk: &job_engine::Disk, mappings: &[job_engine::Mapping]) -> api::Disk {
    let of_disk = mappings.iter().filter(|mapping| mapping.disk == disk.id);
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

pub(super) fn target(
    target: &job_engine::Target,
    snapshot: &Snapshot,
    sessions: &[api::Session],
) -> api::Target {
    let name_of = |id| snapshot.disks.iter().find(|disk| disk.id == id).map(|disk| &disk.name);
    let luns = snapshot.mappings.iter().filter(|mapping| mapping.target == target.name);
    let of_target = |session: &&api::Session| session.target.as_ref() == Some(&target.name);
    api::Target {
        name: target.name.clone(),
        alias: target.alias.clone(),
        created: target.created,
        access: target.access.as_ref().map(|entries| entries.iter().map(access).collect()),
        luns: luns
            .map(|mapping| api::Lun {
                lun: mapping.lun,
                disk: mapping.disk.to_string(),
                disk_name: name_of(mapping.disk).cloned().unwrap_or_default(),
            })
            .collect(),
        sessions: sessions.iter().filter(of_target).count(),
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
