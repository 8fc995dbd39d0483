//! `lunctl snapshot`

use mgmt_api::api::{Changes, CheckSnapshot, CreateSnapshots, Disk, ExposeSnapshot, Job, Snapshot};
use mgmt_api::size;

use crate::args;
use crate::client::Client;
use crate::disk::checked;
use crate::exit::Result;
use crate::output::{Output, table};
use crate::progress::wait;

pub(crate) fn run(client: &Client, output: Output, verb: args::Snapshot) -> Result<()> {
    let (job, waiting, text): (Job, _, _) = match verb {
        args::Snapshot::Show { snapshot } => {
            let snapshot: Snapshot = client.get(&["snapshots", &snapshot])?;
            output.value(&snapshot, || list(std::slice::from_ref(&snapshot)));
            return Ok(());
        }
        args::Snapshot::List { disk, mut filter } => {
            filter.filters.extend(disk.map(|disk| ("disk".to_owned(), disk)));
            let snapshots: Vec<Snapshot> = client.list(&["snapshots"], &filter)?;
            output.value(&snapshots, || list(&snapshots));
            return Ok(());
        }
        args::Snapshot::Diff { since, until } => {
            let changes = diff(client, &since, until.as_deref())?;
            output.value(&changes, || show(&changes));
            return Ok(());
        }
        args::Snapshot::Expose { snapshot, name, read_only, linked, waiting } => {
            let request = ExposeSnapshot { name, read_only, linked };
            let job: Job = client.post(&["snapshots", &snapshot, "expose"], &request)?;
            if !waiting.no_wait {
                wait(client, output, &job.id, None)?;
                let disk: Disk = client.get(&["disks", &job.disk])?;
                output.value(&disk, || format!("snapshot {snapshot} is disk {}", disk.name));
                return Ok(());
            }
            (job, waiting, String::new())
        }
        args::Snapshot::Check { snapshot, checksums, waiting } => {
            let request = CheckSnapshot { checksums };
            let job: Job = client.post(&["snapshots", &snapshot, "check"], &request)?;
            return checked(client, output, &job, &format!("snapshot {snapshot}"), &waiting);
        }
        args::Snapshot::Create { name, disks, waiting } => {
            let text = format!("snapshot {name} of {} taken", disks.join(", "));
            let request = CreateSnapshots { disks, name };
            (client.post(&["snapshots"], &request)?, waiting, text)
        }
        args::Snapshot::Delete { snapshot, waiting } => {
            let text = format!("snapshot {snapshot} deleted");
            (client.delete(&["snapshots", &snapshot])?, waiting, text)
        }
        args::Snapshot::Rollback { snapshot, waiting } => {
            let text = format!("rolled back to {snapshot}");
            (client.post(&["snapshots", &snapshot, "rollback"], &())?, waiting, text)
        }
    };
    if waiting.no_wait {
        output.value(&job, || job.id.clone());
        return Ok(());
    }
    let job = wait(client, output, &job.id, None)?;
    output.value(&job, || text);
    Ok(())
}

/// All pages in one.
fn diff(client: &Client, since: &str, until: Option<&str>) -> Result<Changes> {
    let disk = match until {
        Some(_) => String::new(),
        None => client.get::<Snapshot>(&["snapshots", since])?.disk,
    };
    let path = match until {
        Some(until) => ["snapshots", until, "changes"],
        None => ["disks", &disk, "changes"],
    };
    let mut all = Changes { size_bytes: 0, extents: Vec::new(), next: Some(0) };
    while let Some(offset) = all.next {
        let offset = offset.to_string();
        let page: Changes = client.get_of(&path, &[("since", since), ("offset", &offset)])?;
        all.size_bytes = page.size_bytes;
        all.extents.extend(page.extents);
        all.next = page.next;
    }
    Ok(all)
}

fn show(changes: &Changes) -> String {
    table(
        ["OFFSET", "LENGTH", "NOW"],
        changes.extents.iter().map(|extent| {
            let now = if extent.zeroes { "zeroes" } else { "data" };
            [extent.offset.to_string(), extent.length.to_string(), now.to_owned()]
        }),
    )
}

fn list(snapshots: &[Snapshot]) -> String {
    table(
        ["SNAPSHOT", "SIZE", "TAKEN", "GROUP"],
        snapshots.iter().map(|snapshot| {
            [
                snapshot.key(),
                size::format(snapshot.size_bytes),
                snapshot.created.to_string(),
                snapshot.group.clone(),
            ]
        }),
    )
}
