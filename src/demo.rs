//! `lund serve --demo`: a disk to play with.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use job_engine::catalogue::default_target_name;
use job_engine::{CreateDisk, Engine, JobState, MapRequest, Submission, TargetRequest};

const NAME: &str = "demo";
/// A sparse disk is made in milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the demo disk by a job and exposes it, as far as that has not been done by an earlier
/// run. Returns its target.
pub(crate) fn prepare(engine: &Engine, size_bytes: u64) -> anyhow::Result<String> {
    let find = || engine.disks().into_iter().find(|disk| disk.name == NAME);
    let disk = match find() {
        Some(disk) => {
            if disk.size_bytes != size_bytes {
                tracing::warn!(size_bytes = disk.size_bytes, "the demo disk keeps its size");
            }
            disk
        }
        None => {
            let submission =
                Submission { owner: "lund --demo".to_owned(), ..Submission::default() };
            let request = CreateDisk::new(NAME, size_bytes);
            let job = engine.create_disk_with(request, submission).context("the demo disk")?;
            match engine.wait(&job, LIMIT) {
                Some(job) if job.state == JobState::Completed => {}
                Some(job) => {
                    bail!("the demo disk: {} ({})", job.error_description(), job.state.name())
                }
                None => bail!("the demo disk: its job is gone"),
            }
            find().context("the demo disk is not in the catalogue")?
        }
    };
    let target = default_target_name(NAME);
    if !engine.targets().iter().any(|it| it.name == target) {
        let alias = "lund demo".to_owned();
        engine.create_target(TargetRequest { name: NAME.to_owned(), alias })?;
    }
    if !engine.mappings().iter().any(|it| it.target == target && it.disk == disk.id) {
        engine.map(MapRequest { disk: disk.id, target: target.clone(), lun: Some(0) })?;
    }
    Ok(target)
}

/// The disk's URL, and how to use it.
pub(crate) fn instructions(portal: SocketAddr, management: SocketAddr, target: &str) -> String {
    format!(
        "iscsi://{portal}/{target}/0\n\
         # with the Linux initiator:\n\
         iscsiadm -m discovery -t sendtargets -p {portal}\n\
         iscsiadm -m node -T {target} -p {portal} --login\n\
         # with QEMU:\n\
         qemu-img info iscsi://{portal}/{target}/0\n\
         # manage it:\n\
         lunctl --server http://{management} disk list\n"
    )
}
