//! `lunctl target`

use mgmt_api::api::{CreateTarget, Map, Mapping, Target};

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
        args::Target::List => {
            let targets: Vec<Target> = client.get(&["targets"])?;
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
        args::Target::Delete { target } => {
            let () = client.delete(&["targets", &target])?;
            output.value(&serde_json::json!({ "target": target }), || {
                format!("target {target} deleted")
            });
        }
    }
    Ok(())
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
