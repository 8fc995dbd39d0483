//! `lunctl export`, `lunctl diff`, `lunctl apply`

mod file;

use std::io::Write as _;
use std::path::Path;

use mgmt_api::api::{
    Change, Configuration, ConfigurationChange, ConfigurationChanges, ConfigurationJob, CreateDisk,
    ExpandDisk, Job,
};
use similar::TextDiff;

use crate::args::Declared;
use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::Output;
use crate::progress::wait;

const PATH: [&str; 1] = ["configuration"];

/// Prints the configuration, or writes it to a file.
pub(crate) fn export(client: &Client, output: Output, to: Option<&Path>) -> Result<()> {
    let found: Configuration = client.get(&PATH)?;
    let Some(path) = to else {
        let text = file::text(&found)?;
        output.value(&found, || text);
        return Ok(());
    };
    let cannot = |error: std::io::Error| Failure::Other(format!("{}: {error}", path.display()));
    let text =
        if output.json { format!("{:#}\n", serde_json::json!(found)) } else { file::text(&found)? };
    // What is there may have been edited.
    let mut written = std::fs::File::create_new(path).map_err(cannot)?;
    written.write_all(text.as_bytes()).and_then(|()| written.sync_all()).map_err(cannot)?;
    let generation = found.generation.unwrap_or_default();
    output.value(&serde_json::json!({ "file": path, "generation": generation }), || {
        format!("generation {generation} of the configuration is in {}", path.display())
    });
    Ok(())
}

fn dry_run(client: &Client, wanted: &Configuration, open: bool) -> Result<ConfigurationChanges> {
    let open = open.to_string();
    client.put_of(&PATH, &[("dry_run", "true"), ("open", &open)], None, wanted)
}

/// Shows what a file would change.
pub(crate) fn diff(client: &Client, output: Output, from: &Declared) -> Result<()> {
    let wanted = file::read(&from.file)?;
    let present: Configuration = client.get(&PATH)?;
    let plan = dry_run(client, &wanted, from.open)?;
    let text = shown(&present, &plan)?;
    output.value(&plan, || text);
    if plan.changes.is_empty() && plan.jobs.is_empty() { Ok(()) } else { Err(Failure::Differs) }
}

/// The difference as text. What both have not said of is not in it.
fn shown(present: &Configuration, plan: &ConfigurationChanges) -> Result<String> {
    let without = |it: &Configuration| Configuration { generation: None, ..it.clone() };
    let (before, after) =
        (file::text(&without(present))?, file::text(&without(&plan.configuration))?);
    let names = (format!("generation {}", plan.generation), "as it would be".to_owned());
    let difference = TextDiff::from_lines(&before, &after);
    let mut text =
        difference.unified_diff().context_radius(4).header(&names.0, &names.1).to_string();
    for change in plan.changes.iter().filter(|it| it.members.iter().any(|name| name == "secret")) {
        text.push_str(&format!("CHAP account {} gets another secret\n", change.name));
    }
    Ok(text)
}

/// Makes the configuration what a file says: first what takes jobs, then everything else at once.
pub(crate) fn apply(client: &Client, output: Output, from: &Declared, dry: bool) -> Result<()> {
    let wanted = file::read(&from.file)?;
    let mut plan = dry_run(client, &wanted, from.open)?;
    if dry || (plan.changes.is_empty() && plan.jobs.is_empty()) {
        output.value(&plan, || told(&plan));
        return Ok(());
    }
    let whatever = Configuration { generation: None, ..wanted };
    if !plan.jobs.is_empty() {
        let jobs = std::mem::take(&mut plan.jobs);
        for job in &jobs {
            prepare(client, output, job)?;
        }
        let next = dry_run(client, &whatever, from.open)?;
        // Protection of disks that were not there.
        let of_new = |it: &ConfigurationChange| {
            it.kind == "disk" && jobs.iter().any(|job| job.disk.name == it.name)
        };
        let others = |plan: &ConfigurationChanges| -> Vec<ConfigurationChange> {
            plan.changes.iter().filter(|it| !of_new(it)).cloned().collect()
        };
        if !next.jobs.is_empty() || others(&next) != others(&plan) {
            let message = "somebody has changed the configuration while disks were made: look at \
                           it again with `lunctl diff`, and decide anew";
            return Err(Failure::Other(message.to_owned()));
        }
        plan = next;
    }
    let open = from.open.to_string();
    let done: ConfigurationChanges =
        client.put_of(&PATH, &[("open", &open)], Some(plan.generation), &whatever)?;
    output.value(&done, || told(&done));
    Ok(())
}

/// Has a disk made, or made larger.
fn prepare(client: &Client, output: Output, job: &ConfigurationJob) -> Result<()> {
    let disk = &job.disk;
    let submitted: Job = if job.kind == "create-disk" {
        let request = CreateDisk {
            name: disk.name.clone(),
            size_bytes: disk.size_bytes,
            block_length: Some(disk.block_length),
            provisioning: Some(disk.provisioning),
            format: Some(disk.format),
            pool: None,
        };
        client.post(&["disks"], &request)?
    } else {
        let request = ExpandDisk { size_bytes: disk.size_bytes };
        client.post(&["disks", &disk.name, "expand"], &request)?
    };
    wait(client, output, &submitted.id, None).map(drop)
}

fn told(plan: &ConfigurationChanges) -> String {
    if plan.changes.is_empty() && plan.jobs.is_empty() {
        return format!("nothing to change: generation {} is so already", plan.generation);
    }
    let mut text = String::new();
    for job in &plan.jobs {
        text.push_str(&format!("{} {} comes first\n", job.kind, job.disk.name));
    }
    for ConfigurationChange { change, kind, name, members } in &plan.changes {
        let (kind, members) = (kind.replace('_', " "), members.join(", "));
        let verb = match change {
            Change::Create => "create",
            Change::Change => "change",
            Change::Delete => "delete",
        };
        text.push_str(format!("{verb} {kind} {name} {members}").trim_end());
        text.push('\n');
    }
    let now = if plan.applied { "generation is now" } else { "nothing is changed: generation is" };
    text.push_str(&format!("{now} {}", plan.generation));
    text
}
