//! `lunctl target`

use std::slice;

use mgmt_api::api::{Access, CreateTarget, LunView, Map, Mapping, ReplaceAccess, Target};

use crate::args;
use crate::client::Client;
use crate::exit::Result;
use crate::output::{Output, table};

pub(crate) fn run(client: &Client, output: Output, verb: args::Target) -> Result<()> {
    match verb {
        args::Target::Create { name, alias } => {
            let target: Target = client.post(&["targets"], &CreateTarget { name, alias })?;
            output.value(&target, || target.name.clone());
        }
        args::Target::List(filter) => {
            let targets: Vec<Target> = client.list(&["targets"], &filter)?;
            output.value(&targets, || list(&targets));
        }
        args::Target::Map { target, disk, lun } => {
            let path = ["targets", &target, "luns"];
            let mapping: Mapping = client.post(&path, &Map { disk, lun })?;
            output.value(&mapping, || format!("{} LUN {}", mapping.target, mapping.lun));
        }
        args::Target::Unmap { target, lun } => {
            let () = client.delete(&["targets", &target, "luns", &lun.to_string()])?;
            output.value(&serde_json::json!({ "target": target, "lun": lun }), || {
                format!("LUN {lun} of {target} taken away")
            });
        }
        args::Target::Show { target } => {
            let target: Target = client.get(&["targets", &target])?;
            output.value(&target, || {
                format!("{}\n\n{}", list(slice::from_ref(&target)), who(&target))
            });
        }
        args::Target::Allow { target, who: args::Who { initiator, address }, luns, read_only } => {
            let luns = (!luns.is_empty()).then_some(luns);
            let entry = Access { initiator, address, luns, read_only };
            let target: Target = client.post(&["targets", &target, "access"], &entry)?;
            output.value(&target, || who(&target));
        }
        args::Target::Disallow { target, who: args::Who { initiator, address } } => {
            let path = ["targets", &target, "access"];
            let entry = [("initiator", initiator.as_deref()), ("address", address.as_deref())];
            let target: Target = client.delete_of(&path, &entry)?;
            output.value(&target, || who(&target));
        }
        args::Target::Open { target } => {
            let everybody = ReplaceAccess { access: None };
            let target: Target = client.put(&["targets", &target, "access"], &everybody)?;
            output.value(&target, || who(&target));
        }
        args::Target::Delete { target } => {
            let () = client.delete(&["targets", &target])?;
            output.value(&serde_json::json!({ "target": target }), || {
                format!("target {target} deleted")
            });
        }
    }
    Ok(())
}

/// Who may use a target.
fn who(target: &Target) -> String {
    let entries = match &target.access {
        None => return format!("everybody may use {}", target.name),
        Some(entries) if entries.is_empty() => return format!("nobody may use {}", target.name),
        Some(entries) => entries,
    };
    let luns = |entry: &Access| {
        let Some(luns) = &entry.luns else { return "all".to_owned() };
        let view = |it: &LunView| {
            format!("{}={}{}", it.seen, it.lun, if it.read_only { ":ro" } else { "" })
        };
        luns.iter().map(view).collect::<Vec<_>>().join(" ")
    };
    table(
        ["INITIATOR", "ADDRESS", "LUNS", "WRITES"],
        entries.iter().map(|entry| {
            let any = |text: &Option<String>| text.clone().unwrap_or_else(|| "any".to_owned());
            let writes = if entry.read_only { "no" } else { "yes" };
            [any(&entry.initiator), any(&entry.address), luns(entry), writes.to_owned()]
        }),
    )
}

fn list(targets: &[Target]) -> String {
    table(
        ["TARGET", "LUN", "DISK", "SESSIONS", "ALIAS"],
        targets.iter().flat_map(|target| {
            let row = |lun: String, disk: String| {
                [target.name.clone(), lun, disk, target.sessions.to_string(), target.alias.clone()]
            };
            if target.luns.is_empty() {
                vec![row("-".to_owned(), "-".to_owned())]
            } else {
                target.luns.iter().map(|it| row(it.lun.to_string(), it.disk_name.clone())).collect()
            }
        }),
    )
}
