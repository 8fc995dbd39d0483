//! `lunctl top`

use std::io::{self, IsTerminal as _, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mgmt_api::api::Session;
use mgmt_api::size;
use serde::Serialize;

use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::{Output, table};

/// What a session did between two looks.
#[derive(Debug, Serialize)]
struct Rate {
    tsih: u16,
    initiator: String,
    target: Option<String>,
    commands_per_second: f64,
    read_bytes_per_second: f64,
    written_bytes_per_second: f64,
}

/// Shows what sessions do, the busiest first: `count` times, or until it is stopped.
pub(crate) fn run(client: &Client, output: Output, every: u64, count: Option<u64>) -> Result<()> {
    let every = Duration::from_secs(every);
    let (mut before, mut at): (Vec<Session>, _) = (client.get(&["sessions"])?, Instant::now());
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        sleep(every);
        let now: Vec<Session> = client.get(&["sessions"])?;
        let rates = rates(&before, &now, at.elapsed());
        (before, at) = (now, Instant::now());
        shown += 1;
        match show(output, &rates) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::Other(error.to_string())),
        }
    }
    Ok(())
}

fn rates(before: &[Session], now: &[Session], passed: Duration) -> Vec<Rate> {
    let seconds = passed.as_secs_f64().max(0.001);
    let mut rates: Vec<_> = now
        .iter()
        .map(|session| {
            let old = before.iter().find(|it| it.tsih == session.tsih && it.since == session.since);
            // One that has come meanwhile began with nothing.
            let rate = |count: fn(&Session) -> u64| {
                let grown = count(session).saturating_sub(old.map_or(0, count));
                #[allow(clippy::cast_precision_loss, reason = "it is shown to people")]
                let grown = grown as f64;
                grown / seconds
            };
            Rate {
                tsih: session.tsih,
                initiator: session.initiator.clone(),
                target: session.target.clone(),
                commands_per_second: rate(|it| it.commands),
                read_bytes_per_second: rate(|it| it.read_bytes),
                written_bytes_per_second: rate(|it| it.written_bytes),
            }
        })
        .collect();
    rates.sort_by(|a, b| b.commands_per_second.total_cmp(&a.commands_per_second));
    rates
}

fn show(output: Output, rates: &[Rate]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if output.json {
        writeln!(out, "{}", serde_json::to_string(rates).map_err(io::Error::other)?)?;
        return out.flush();
    }
    if out.is_terminal() {
        // The screen, anew from its top.
        out.write_all(b"\x1b[H\x1b[2J")?;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is above 0 and far below the highest number"
    )]
    let bytes = |rate: f64| format!("{}/s", size::format(rate as u64));
    let rows = rates.iter().map(|rate| {
        [
            rate.tsih.to_string(),
            format!("{:.0}/s", rate.commands_per_second),
            bytes(rate.read_bytes_per_second),
            bytes(rate.written_bytes_per_second),
            rate.initiator.clone(),
            rate.target.clone().unwrap_or_else(|| "(discovery)".to_owned()),
        ]
    });
    let text = table(["TSIH", "COMMANDS", "READ", "WRITTEN", "INITIATOR", "TARGET"], rows);
    let text = if text.is_empty() { "no initiator is logged in" } else { &text };
    writeln!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(tsih: u16, commands: u64, read: u64) -> Session {
        let value = serde_json::json!({
            "tsih": tsih, "isid": "", "initiator": "i", "initiator_alias": "", "target": null,
            "address": "", "since": "2026-01-01T00:00:00Z", "commands": commands,
            "read_bytes": read, "written_bytes": 0,
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rates_are_what_was_done_meanwhile_and_the_busiest_comes_first() {
        let before = [session(1, 100, 0), session(2, 100, 4096)];
        let now = [session(1, 110, 0), session(2, 200, 8192), session(3, 40, 0)];
        let rates = rates(&before, &now, Duration::from_secs(2));
        let seen: Vec<_> = rates.iter().map(|it| (it.tsih, it.commands_per_second)).collect();
        assert_eq!(seen, [(2, 50.0), (3, 20.0), (1, 5.0)]);
        assert!((rates[0].read_bytes_per_second - 2048.0).abs() < 1e-9);
    }
}
