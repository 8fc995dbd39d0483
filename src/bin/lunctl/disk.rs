//! `lunctl disk`

use mgmt_api::api::{CreateDisk, Disk, ExpandDisk, Job};
use mgmt_api::size;

use crate::args;
use crate::client::Client;
use crate::exit::Result;
use crate::output::{Output, table};
use crate::progress::wait;

pub(crate) fn run(client: &Client, output: Output, verb: args::Disk) -> Result<()> {
    match verb {
        args::Disk::Create { name, size, block_length, provisioning, format, waiting } => {
            let provisioning = Some(provisioning.into());
            let format = Some(format);
            let (size_bytes, pool) = (size, None);
            let request = CreateDisk { name, size_bytes, block_length, provisioning, format, pool };
            let job: Job = client.post(&["disks"], &request)?;
            if waiting.no_wait {
                output.value(&job, || job.id.clone());
                return Ok(());
            }
            wait(client, output, &job.id, None)?;
            let disk: Disk = client.get(&["disks", &job.disk])?;
            output.value(&disk, || format!("disk {} created", disk.name));
        }
        args::Disk::List => {
            let disks: Vec<Disk> = client.get(&["disks"])?;
            output.value(&disks, || list(&disks));
        }
        args::Disk::Expand { disk, size, waiting } => {
            let request = ExpandDisk { size_bytes: size };
            let job: Job = client.post(&["disks", &disk, "expand"], &request)?;
            if waiting.no_wait {
                output.value(&job, || job.id.clone());
                return Ok(());
            }
            wait(client, output, &job.id, None)?;
            let disk: Disk = client.get(&["disks", &job.disk])?;
            output.value(&disk, || {
                format!("disk {} has {}", disk.name, size::format(disk.size_bytes))
            });
        }
        args::Disk::Delete { disk, waiting } => {
            let job: Job = client.delete(&["disks", &disk])?;
            if waiting.no_wait {
                output.value(&job, || job.id.clone());
                return Ok(());
            }
            let job = wait(client, output, &job.id, None)?;
            output.value(&job, || format!("disk {disk} deleted"));
        }
    }
    Ok(())
}

fn list(disks: &[Disk]) -> String {
    let luns = |disk: &Disk| {
        let luns =
            disk.mappings.iter().map(|mapping| format!("{}/{}", mapping.target, mapping.lun));
        luns.collect::<Vec<_>>().join(" ")
    };
    table(
        ["NAME", "SIZE", "USED", "BLOCK", "FORMAT", "SPACE", "EXPOSED AS"],
        disks.iter().map(|disk| {
            [
                disk.name.clone(),
                size::format(disk.size_bytes),
                disk.allocated_bytes.map_or_else(|| "missing".to_owned(), size::format),
                disk.block_length.to_string(),
                disk.format.to_string(),
                match disk.provisioning {
                    job_engine::Provisioning::Thin => "thin".to_owned(),
                    job_engine::Provisioning::Full => "full".to_owned(),
                },
                luns(disk),
            ]
        }),
    )
}
