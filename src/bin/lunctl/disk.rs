//! `lunctl disk`

use std::path::PathBuf;

use mgmt_api::api::{
    ChangeDisk, CheckDisk, ChecksumState, ChecksumsUsed, CloneDisk, ConvertDisk, CreateDisk, Disk,
    ExpandDisk, ExportDisk, ImportDisk, Job, MoveDisk, ProvisionDisk,
};
use mgmt_api::size;
use serde::Serialize;

use crate::args;
use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::{Output, table};
use crate::progress::wait;

pub(crate) fn run(client: &Client, output: Output, verb: args::Disk) -> Result<()> {
    match verb {
        args::Disk::Create { name, size, block_length, provisioning, format, pool, waiting } => {
            let (provisioning, format) = (Some(provisioning.into()), Some(format));
            let size_bytes = size;
            let request = CreateDisk { name, size_bytes, block_length, provisioning, format, pool };
            start(client, output, (&["disks"], &request), "created", &waiting)?;
        }
        args::Disk::List(filter) => {
            let disks: Vec<Disk> = client.list(&["disks"], &filter)?;
            output.value(&disks, || list(&disks));
        }
        args::Disk::Show { disk } => {
            let disk: Disk = client.get(&["disks", &disk])?;
            output.value(&disk, || show(&disk));
        }
        args::Disk::Expand { disk, size, waiting } => {
            resize(client, output, (&disk, "expand", size), &waiting)?;
        }
        args::Disk::Protect { disk } => protect(client, output, &disk, true)?,
        args::Disk::Unprotect { disk } => protect(client, output, &disk, false)?,
        args::Disk::Shrink { disk, size, waiting } => {
            resize(client, output, (&disk, "shrink", size), &waiting)?;
        }
        args::Disk::Clone { disk, name, provisioning, format, pool, waiting } => {
            let provisioning = provisioning.map(Into::into);
            let request = CloneDisk { name, provisioning, format, pool };
            start(client, output, (&["disks", &disk, "clone"], &request), "cloned", &waiting)?;
        }
        args::Disk::Provision { disk, provisioning, waiting } => {
            provision(client, output, &disk, provisioning, &waiting)?;
        }
        args::Disk::Check { disk, repair, checksums, waiting } => {
            let request = CheckDisk { repair, checksums };
            let job: Job = client.post(&["disks", &disk, "check"], &request)?;
            checked(client, output, &job, &format!("disk {disk}"), &waiting)?;
        }
        args::Disk::Convert { disk, format, provisioning, waiting } => {
            let request = ConvertDisk { format, provisioning: provisioning.map(Into::into) };
            start(client, output, (&["disks", &disk, "convert"], &request), "converted", &waiting)?;
        }
        args::Disk::Move { disk, pool, format, provisioning, waiting } => {
            let request = MoveDisk { pool, format, provisioning: provisioning.map(Into::into) };
            let done = format!("moved to pool {}", request.pool);
            start(client, output, (&["disks", &disk, "move"], &request), &done, &waiting)?;
        }
        args::Disk::Compact { disk, waiting } => compact(client, output, &disk, &waiting)?,
        args::Disk::Import {
            path,
            name,
            in_place,
            block_length,
            provisioning,
            no_verify,
            format,
            to_format,
            pool,
            waiting,
        } => {
            let request = ImportDisk {
                path: text(path)?,
                name,
                in_place,
                block_length,
                provisioning: Some(provisioning.into()),
                verify: !no_verify,
                format,
                to_format,
                pool,
            };
            start(client, output, (&["import"], &request), "imported", &waiting)?;
        }
        args::Disk::Export { disk, path, format, waiting } => {
            export(client, output, &disk, &ExportDisk { path: text(path)?, format }, &waiting)?;
        }
        args::Disk::Delete { disk, overwrite, waiting } => {
            delete(client, output, &disk, overwrite, &waiting)?;
        }
    }
    Ok(())
}

fn delete(
    client: &Client,
    output: Output,
    disk: &str,
    overwrite: bool,
    waiting: &args::Waiting,
) -> Result<()> {
    let overwrite = overwrite.then_some("true");
    let job: Job = client.delete_of(&["disks", disk], &[("overwrite", overwrite)])?;
    ended(client, output, &job, |_| format!("disk {disk} deleted"), waiting)
}

/// Starts a job that makes a disk, or makes one anew.
fn start<R: Serialize>(
    client: &Client,
    output: Output,
    (path, request): (&[&str], &R),
    done: &str,
    waiting: &args::Waiting,
) -> Result<()> {
    let job: Job = client.post(path, request)?;
    made(client, output, &job, done, waiting)
}

fn export(
    client: &Client,
    output: Output,
    disk: &str,
    request: &ExportDisk,
    waiting: &args::Waiting,
) -> Result<()> {
    let job: Job = client.post(&["disks", disk, "export"], request)?;
    let done = format!("disk {disk} exported to {}", request.path);
    ended(client, output, &job, |_| done, waiting)
}

fn compact(client: &Client, output: Output, disk: &str, waiting: &args::Waiting) -> Result<()> {
    let job: Job = client.post(&["disks", disk, "compact"], &())?;
    if waiting.no_wait {
        output.value(&job, || job.id.clone());
        return Ok(());
    }
    wait(client, output, &job.id, None)?;
    let disk: Disk = client.get(&["disks", &job.disk])?;
    output.value(&disk, || {
        let used = disk.allocated_bytes.map_or_else(|| "no file".to_owned(), size::format);
        format!("disk {} takes {used}", disk.name)
    });
    Ok(())
}

/// Waits for a check, and says what it has compared.
pub(crate) fn checked(
    client: &Client,
    output: Output,
    job: &Job,
    what: &str,
    waiting: &args::Waiting,
) -> Result<()> {
    let done = |job: &Job| format!("{what} is sound{}", compared(job.checksums));
    ended(client, output, job, done, waiting)
}

fn compared(checksums: Option<ChecksumsUsed>) -> String {
    let Some(ChecksumsUsed { state, made }) = checksums else { return String::new() };
    let made = made.map(|made| format!("{made:.0}")).unwrap_or_default();
    match state {
        ChecksumState::Matched => format!("; its data are those of {made}"),
        ChecksumState::Made => "; checksums of its data are kept".to_owned(),
        ChecksumState::Void => {
            "; it may have been written since its checksums were made: there was nothing to compare its data with"
                .to_owned()
        }
        ChecksumState::Damaged => {
            "; its checksums are damaged: there was nothing to compare its data with".to_owned()
        }
        ChecksumState::Differed | ChecksumState::Absent | ChecksumState::InUse => String::new(),
    }
}

/// Waits for a job that makes no disk.
fn ended(
    client: &Client,
    output: Output,
    job: &Job,
    done: impl FnOnce(&Job) -> String,
    waiting: &args::Waiting,
) -> Result<()> {
    if waiting.no_wait {
        output.value(job, || job.id.clone());
        return Ok(());
    }
    let job = wait(client, output, &job.id, None)?;
    output.value(&job, || done(&job));
    Ok(())
}

/// Waits for a job that makes a disk.
fn made(
    client: &Client,
    output: Output,
    job: &Job,
    how: &str,
    waiting: &args::Waiting,
) -> Result<()> {
    if waiting.no_wait {
        output.value(job, || job.id.clone());
        return Ok(());
    }
    wait(client, output, &job.id, None)?;
    let disk: Disk = client.get(&["disks", &job.disk])?;
    output.value(&disk, || format!("disk {} {how}", disk.name));
    Ok(())
}

fn resize(
    client: &Client,
    output: Output,
    (disk, verb, size_bytes): (&str, &str, u64),
    waiting: &args::Waiting,
) -> Result<()> {
    let job: Job = client.post(&["disks", disk, verb], &ExpandDisk { size_bytes })?;
    if waiting.no_wait {
        output.value(&job, || job.id.clone());
        return Ok(());
    }
    wait(client, output, &job.id, None)?;
    let disk: Disk = client.get(&["disks", &job.disk])?;
    output.value(&disk, || format!("disk {} has {}", disk.name, size::format(disk.size_bytes)));
    Ok(())
}

fn provision(
    client: &Client,
    output: Output,
    disk: &str,
    provisioning: args::Space,
    waiting: &args::Waiting,
) -> Result<()> {
    let how = match provisioning {
        args::Space::Thin => "is thin",
        args::Space::Full => "is full",
    };
    let request = ProvisionDisk { provisioning: provisioning.into() };
    let job: Job = client.post(&["disks", disk, "provision"], &request)?;
    made(client, output, &job, how, waiting)
}

fn protect(client: &Client, output: Output, disk: &str, read_only: bool) -> Result<()> {
    let request = ChangeDisk { read_only: Some(read_only) };
    let disk: Disk = client.patch(&["disks", disk], &request)?;
    output.value(&disk, || {
        let now = if disk.read_only { "can only be read" } else { "can be read and written" };
        format!("disk {} {now}", disk.name)
    });
    Ok(())
}

/// A path as it goes to the daemon.
fn text(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::Usage(format!("{}: the path is no UTF-8", path.display())))
}

fn show(disk: &Disk) -> String {
    let used = disk.allocated_bytes.map_or_else(|| "file missing".to_owned(), size::format);
    let luns = disk.mappings.iter().map(|it| format!("LUN {} of {}", it.lun, it.target));
    let luns: Vec<_> = luns.collect();
    let rows = [
        ["name", &disk.name],
        ["identifier", &disk.id],
        ["size", &format!("{} ({} bytes)", size::format(disk.size_bytes), disk.size_bytes)],
        ["used", &used],
        ["block length", &disk.block_length.to_string()],
        ["format", &disk.format.to_string()],
        ["writes", if disk.read_only { "refused" } else { "allowed" }],
        ["serial number", &disk.serial],
        ["NAA", &disk.naa],
        ["pool", &disk.pool],
        ["file", &disk.path],
        ["device", disk.device.as_deref().unwrap_or("none: a file")],
        ["created", &format!("{:.0}", disk.created)],
        ["exposed as", &luns.join(", ")],
    ];
    rows.iter().map(|[name, value]| format!("{name:<14} {value}\n")).collect()
}

fn list(disks: &[Disk]) -> String {
    let luns = |disk: &Disk| {
        let luns =
            disk.mappings.iter().map(|mapping| format!("{}/{}", mapping.target, mapping.lun));
        luns.collect::<Vec<_>>().join(" ")
    };
    table(
        ["NAME", "SIZE", "USED", "BLOCK", "FORMAT", "SPACE", "POOL", "EXPOSED AS"],
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
                disk.pool.clone(),
                luns(disk),
            ]
        }),
    )
}
