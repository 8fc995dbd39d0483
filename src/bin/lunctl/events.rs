//! `lunctl events`

use std::io::{self, BufRead as _, BufReader, Write as _};

use serde_json::Value;

use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::Output;

/// Prints events as they come, one a line, until the daemon stops or whoever reads has enough.
pub(crate) fn follow(client: &Client, output: Output) -> Result<()> {
    let stream = BufReader::new(client.stream(&["events"], "after", None)?);
    let mut name = String::new();
    for line in stream.lines() {
        let line =
            line.map_err(|error| Failure::Other(format!("the events broke off: {error}")))?;
        if let Some(value) = line.strip_prefix("event: ") {
            value.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ")
            && name != "begin"
        {
            let data: Value = serde_json::from_str(data).unwrap_or_default();
            let text = if output.json {
                serde_json::json!({ "event": name, "data": data }).to_string()
            } else {
                format!("{name:<18} {}", about(&data))
            };
            let mut out = io::stdout().lock();
            match writeln!(out, "{text}").and_then(|()| out.flush()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(Failure::Other(error.to_string())),
            }
        }
    }
    Ok(())
}

/// What an event is about, in one line.
fn about(data: &Value) -> String {
    let Some((_, it)) = data.as_object().and_then(|data| data.iter().next()) else {
        return String::new();
    };
    let text = |name: &str| match it.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let names = ["name", "initiator", "target", "lun", "disk", "state"];
    let mut parts: Vec<_> = names.into_iter().filter_map(text).collect();
    if let Some(percent) = text("percent_complete") {
        parts.push(format!("{percent} %"));
    }
    parts.join("  ")
}
