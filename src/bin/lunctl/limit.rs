//! `lunctl limit`

use mgmt_api::api::{Limit, SetLimit};
use serde_json::json;

use crate::args::{self, LimitOf};
use crate::client::Client;
use crate::exit::Result;
use crate::output::{Output, table};

pub(crate) fn run(client: &Client, output: Output, verb: args::Limit) -> Result<()> {
    match verb {
        args::Limit::List => {
            let limits: Vec<Limit> = client.get(&["limits"])?;
            output.value(&limits, || list(&limits));
        }
        args::Limit::Set { of, iops, bytes_per_second, burst_ms } => {
            let request = SetLimit { iops, bytes_per_second, burst_ms };
            let (kind, name) = of_whom(&of);
            let () = client.put(&["limits", kind, name], &request)?;
            output.value(&request, || format!("{name} is limited"));
        }
        args::Limit::Lift { of } => {
            let (kind, name) = of_whom(&of);
            let () = client.delete_of(&["limits", kind, name], &[])?;
            output.value(&json!({ "lifted": name }), || format!("{name} is not limited any more"));
        }
    }
    Ok(())
}

fn of_whom(of: &LimitOf) -> (&'static str, &str) {
    match (&of.disk, &of.initiator) {
        (Some(disk), _) => ("disks", disk),
        (None, initiator) => ("initiators", initiator.as_deref().unwrap_or_default()),
    }
}

fn list(limits: &[Limit]) -> String {
    let rows = limits.iter().map(|Limit { disk, initiator, limit }| {
        let (kind, name) = match disk {
            Some(disk) => ("disk", disk.clone()),
            None => ("initiator", initiator.clone().unwrap_or_default()),
        };
        let rate = |rate: Option<u64>| rate.map_or("-".to_owned(), |rate| rate.to_string());
        let burst = format!("{} ms", limit.burst_ms);
        [kind.to_owned(), name, rate(limit.iops), rate(limit.bytes_per_second), burst]
    });
    table(["OF", "NAME", "IOPS", "BYTES/S", "BURST"], rows)
}
