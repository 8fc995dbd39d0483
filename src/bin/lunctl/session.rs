//! `lunctl session`

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use mgmt_api::api::{AskInitiator, Authentication, Session, SessionDetail};
use mgmt_api::size;

use crate::args;
use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::{Output, table};

pub(crate) fn run(client: &Client, output: Output, verb: args::Session) -> Result<()> {
    match verb {
        args::Session::List(filter) => {
            let sessions: Vec<Session> = client.list(&["sessions"], &filter)?;
            output.value(&sessions, || list(&sessions));
        }
        args::Session::Show { tsih } => {
            let session: SessionDetail = client.get(&["sessions", &tsih.to_string()])?;
            output.value(&session, || show(&session));
        }
        args::Session::Logout { tsih, seconds } => {
            ask(client, output, tsih, "logout", seconds)?;
        }
        args::Session::Renegotiate { tsih, seconds } => {
            ask(client, output, tsih, "renegotiate", seconds)?;
        }
        args::Session::End { tsih } => {
            let () = client.delete(&["sessions", &tsih.to_string()])?;
            output.value(&serde_json::json!({ "tsih": tsih }), || format!("session {tsih} ends"));
        }
        args::Session::Trace { tsih, output, seconds } => {
            trace(client, tsih, output.as_deref(), seconds)?;
        }
    }
    Ok(())
}

fn ask(client: &Client, output: Output, tsih: u16, verb: &str, seconds: u16) -> Result<()> {
    let () = client.post(&["sessions", &tsih.to_string(), verb], &AskInitiator { seconds })?;
    output.value(&serde_json::json!({ "tsih": tsih, "seconds": seconds }), || {
        format!("the initiator of session {tsih} is asked ({verb}, {seconds} s)")
    });
    Ok(())
}

fn list(sessions: &[Session]) -> String {
    table(
        ["TSIH", "INITIATOR", "TARGET", "FROM", "COMMANDS", "READ", "WRITTEN"],
        sessions.iter().map(|session| {
            [
                session.tsih.to_string(),
                session.initiator.clone(),
                target(session),
                session.address.clone(),
                session.commands.to_string(),
                size::format(session.read_bytes),
                size::format(session.written_bytes),
            ]
        }),
    )
}

fn target(session: &Session) -> String {
    session.target.clone().unwrap_or_else(|| "(discovery)".to_owned())
}

fn show(detail: &SessionDetail) -> String {
    let SessionDetail { session, parameters, counters, .. } = detail;
    let digest = |on| if on { "CRC32C" } else { "None" };
    let yes = |on| if on { "Yes" } else { "No" };
    let authentication = match &detail.authentication {
        Authentication::None => "none".to_owned(),
        Authentication::Chap { user, algorithm, mutual } => {
            let ways = if *mutual { "mutual" } else { "one-way" };
            format!("CHAP, {algorithm}, {ways}, as {user}")
        }
    };
    let mut rows = vec![
        ["TSIH".to_owned(), session.tsih.to_string()],
        ["ISID".to_owned(), session.isid.clone()],
        ["Initiator".to_owned(), session.initiator.clone()],
        ["Initiator alias".to_owned(), session.initiator_alias.clone()],
        ["Target".to_owned(), target(session)],
        ["Portal group".to_owned(), detail.target_portal_group_tag.to_string()],
        ["Since".to_owned(), session.since.to_string()],
        ["Authentication".to_owned(), authentication],
    ];
    for connection in &detail.connections {
        let name = |what: &str| format!("Connection {}: {what}", connection.cid);
        rows.extend([
            [name("from"), connection.address.clone()],
            [name("to"), connection.portal.clone()],
            [name("HeaderDigest"), digest(connection.header_digest).to_owned()],
            [name("DataDigest"), digest(connection.data_digest).to_owned()],
            [
                name("MaxRecvDataSegmentLength"),
                format!(
                    "{} (target), {} (initiator)",
                    connection.max_recv_data_segment_length,
                    connection.initiator_max_recv_data_segment_length
                ),
            ],
        ]);
    }
    let values = [
        ("MaxConnections", parameters.max_connections.to_string()),
        ("InitialR2T", yes(parameters.initial_r2t).to_owned()),
        ("ImmediateData", yes(parameters.immediate_data).to_owned()),
        ("MaxBurstLength", parameters.max_burst_length.to_string()),
        ("FirstBurstLength", parameters.first_burst_length.to_string()),
        ("MaxOutstandingR2T", parameters.max_outstanding_r2t.to_string()),
        ("ErrorRecoveryLevel", parameters.error_recovery_level.to_string()),
        ("iSCSIProtocolLevel", parameters.protocol_level.to_string()),
        ("ExpCmdSN", detail.exp_cmd_sn.to_string()),
        ("MaxCmdSN", detail.max_cmd_sn.to_string()),
        ("Outstanding commands", detail.outstanding_commands.to_string()),
        (
            "Commands",
            format!(
                "{} ({} read, {} write)",
                session.commands, counters.read_commands, counters.write_commands
            ),
        ),
        ("Task management functions", counters.task_management_functions.to_string()),
        ("Read", size::format(session.read_bytes)),
        ("Written", size::format(session.written_bytes)),
        ("PDUs", format!("{} received, {} sent", counters.pdus_received, counters.pdus_sent)),
        ("Rejects", counters.rejects.to_string()),
        ("Data digest errors", counters.data_digest_errors.to_string()),
    ];
    rows.extend(values.map(|(name, value)| [name.to_owned(), value]));
    table(["SESSION", ""], rows)
}

fn trace(client: &Client, tsih: u16, path: Option<&Path>, seconds: Option<u32>) -> Result<()> {
    if path.is_none() && io::stdout().is_terminal() {
        let message = "a trace is no text: name a file with --output, or pipe it into Wireshark";
        return Err(Failure::Usage(message.to_owned()));
    }
    let tsih = tsih.to_string();
    let mut blocks = client.stream(&["sessions", &tsih, "trace"], "seconds", seconds)?;
    let done = match path {
        Some(path) => File::create(path).and_then(|mut file| io::copy(&mut blocks, &mut file)),
        None => io::copy(&mut blocks, &mut io::stdout()).and_then(|count| {
            io::stdout().flush()?;
            Ok(count)
        }),
    };
    match done {
        Ok(_) => Ok(()),
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe && path.is_none() => Ok(()),
        Err(error) => {
            let place = path.map_or_else(|| "standard output".into(), Path::to_string_lossy);
            Err(Failure::Other(format!("the trace cannot be written to {place}: {error}")))
        }
    }
}
