//! `lunctl portal-group`

use mgmt_api::api::{PortalGroup, SetAccessState};

use crate::args;
use crate::client::Client;
use crate::exit::Result;
use crate::output::{Output, table};

pub(crate) fn run(client: &Client, output: Output, verb: args::PortalGroup) -> Result<()> {
    match verb {
        args::PortalGroup::List => {
            let groups: Vec<PortalGroup> = client.get(&["portal-groups"])?;
            output.value(&groups, || list(&groups));
        }
        args::PortalGroup::Show { tag } => {
            let group: PortalGroup = client.get(&["portal-groups", &tag.to_string()])?;
            output.value(&group, || list(std::slice::from_ref(&group)));
        }
        args::PortalGroup::SetState { tag, state, target } => {
            let path = ["portal-groups", &tag.to_string(), "state"];
            let request = SetAccessState { state: state.into(), target };
            let group: PortalGroup = client.put(&path, &request)?;
            output.value(&group, || list(std::slice::from_ref(&group)));
        }
        args::PortalGroup::Reset { tag, target } => {
            let path = ["portal-groups", &tag.to_string(), "state"];
            let group: PortalGroup = client.delete_of(&path, &[("target", target.as_deref())])?;
            output.value(&group, || list(std::slice::from_ref(&group)));
        }
    }
    Ok(())
}

/// A line for each group, and for each target with a state of its own.
fn list(groups: &[PortalGroup]) -> String {
    table(
        ["TAG", "TARGET", "STATE", "PREFERRED", "PORTALS"],
        groups.iter().flat_map(|group| {
            let preferred = if group.preferred { "yes" } else { "no" };
            let row = |target: &str, state: &str| {
                [
                    group.tag.to_string(),
                    target.to_owned(),
                    state.to_owned(),
                    preferred.to_owned(),
                    group.portals.join(" "),
                ]
            };
            let targets = group.targets.iter().map(|it| row(&it.target, it.state.name()));
            std::iter::once(row("all", group.state.name())).chain(targets).collect::<Vec<_>>()
        }),
    )
}
