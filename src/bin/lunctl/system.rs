//! `lunctl settings`, `lunctl status`, `lunctl drain`, `lunctl resume`

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use mgmt_api::api::{Drained, NodeState, Setting, Status};

use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::{Output, table};

pub(crate) fn export_state(client: &Client, output: Output, file: Option<&Path>) -> Result<()> {
    let mut text = String::new();
    let failed = |error: std::io::Error| Failure::Other(format!("the state is not saved: {error}"));
    client.stream(&["state"], "", None)?.read_to_string(&mut text).map_err(failed)?;
    let Some(path) = file else {
        return std::io::stdout().write_all(text.as_bytes()).map_err(failed);
    };
    let mut options = std::fs::OpenOptions::new();
    // Secrets are in it, and what is there may be the only copy of something.
    let mut saved = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    saved.write_all(text.as_bytes()).and_then(|()| saved.sync_all()).map_err(failed)?;
    output.value(&serde_json::json!({ "file": path, "bytes": text.len() }), || {
        format!("the state is saved in {}\n", path.display())
    });
    Ok(())
}

/// As it is: it is for programs.
pub(crate) fn openapi(client: &Client) -> Result<()> {
    let document: serde_json::Value = client.get(&["openapi.json"])?;
    Output { json: true }.value(&document, String::new);
    Ok(())
}

pub(crate) fn settings(client: &Client, output: Output) -> Result<()> {
    let settings: Vec<Setting> = client.get(&["settings"])?;
    output.value(&settings, || {
        let rows = settings.iter().map(|it| {
            let run_time = it.run_time.clone().unwrap_or_default();
            let value = match it.value.as_str() {
                Some(text) => text.to_owned(),
                None if it.value.is_null() => "-".to_owned(),
                None => it.value.to_string(),
            };
            [it.key.clone(), value, run_time]
        });
        table(["KEY", "VALUE", "CHANGED BY"], rows)
    });
    Ok(())
}

pub(crate) fn status(client: &Client, output: Output) -> Result<()> {
    let status: Status = client.get(&["status"])?;
    output.value(&status, || {
        let mut text = format!("lund {}\n", status.version);
        if status.state != NodeState::Serving {
            text.push_str(&format!("{}: no initiator is let in\n", name(status.state)));
        }
        for portal in &status.portals {
            text.push_str(&format!("iscsi://{portal}\n"));
        }
        if let Some(isns) = &status.isns {
            text.push_str(&format!("isns://{}  {}\n", isns.server, isns.state));
        }
        for alert in &status.alerts {
            text.push_str(&format!("{}  {}\n", alert.message_id, alert.message));
        }
        text
    });
    Ok(())
}

fn name(state: NodeState) -> &'static str {
    match state {
        NodeState::Starting => "starting",
        NodeState::Serving => "serving",
        NodeState::Draining => "draining",
        NodeState::Stopping => "stopping",
    }
}

pub(crate) fn drain(client: &Client, output: Output) -> Result<()> {
    change(client, output, "drain")
}

pub(crate) fn resume(client: &Client, output: Output) -> Result<()> {
    change(client, output, "resume")
}

fn change(client: &Client, output: Output, verb: &str) -> Result<()> {
    let drained: Drained = client.post(&[verb], &serde_json::json!({}))?;
    output.value(&drained, || {
        let sessions = match drained.sessions {
            0 => "no sessions".to_owned(),
            1 => "1 session".to_owned(),
            count => format!("{count} sessions"),
        };
        format!("{}, {sessions}\n", name(drained.state))
    });
    Ok(())
}
