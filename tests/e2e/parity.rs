//! `lunctl` does everything that the REST interface can: for each operation of the OpenAPI document
//! there is a command, which is seen to send it. `docs/rest.md` has the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use super::support::{Place, eventually, lunctl_command, request};

/// Method and path as the document has them, and a command that sends that.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("GET", "/openapi.json", "openapi"),
    ("GET", "/status", "status"),
    ("GET", "/state", "state export"),
    ("GET", "/settings", "settings"),
    ("GET", "/events", "events"),
    ("GET", "/configuration", "export"),
    ("PUT", "/configuration", "apply --file FILE"),
    ("POST", "/drain", "drain"),
    ("POST", "/resume", "resume"),
    ("GET", "/pools", "pool list"),
    ("POST", "/pools", "pool create fast /srv/fast"),
    ("GET", "/pools/{pool}", "pool show default"),
    ("PATCH", "/pools/{pool}", "pool change default --reserve 1MiB"),
    ("DELETE", "/pools/{pool}", "pool delete fast"),
    ("GET", "/portal-groups", "portal-group list"),
    ("GET", "/portal-groups/{group}", "portal-group show 1"),
    ("PUT", "/portal-groups/{group}/state", "portal-group set-state 1 standby"),
    ("DELETE", "/portal-groups/{group}/state", "portal-group reset 1"),
    ("GET", "/chap-accounts", "chap list"),
    ("GET", "/chap-accounts/{user}", "chap show bob"),
    ("PUT", "/chap-accounts/{user}", "chap set bob --secret-file FILE"),
    ("DELETE", "/chap-accounts/{user}", "chap delete bob"),
    ("GET", "/limits", "limit list"),
    ("PUT", "/limits/disks/{disk}", "limit set --disk demo --iops 1000"),
    ("DELETE", "/limits/disks/{disk}", "limit lift --disk demo"),
    ("PUT", "/limits/initiators/{initiator}", "limit set --initiator iqn.2026-01.org:a --iops 9"),
    ("DELETE", "/limits/initiators/{initiator}", "limit lift --initiator iqn.2026-01.org:a"),
    ("GET", "/sessions", "session list"),
    ("GET", "/sessions/{session}", "session show 1"),
    ("DELETE", "/sessions/{session}", "session end 1"),
    ("POST", "/sessions/{session}/logout", "session logout 1"),
    ("POST", "/sessions/{session}/renegotiate", "session renegotiate 1"),
    ("GET", "/sessions/{session}/trace", "session trace 1 --output FILE"),
    ("GET", "/disks", "disk list"),
    ("POST", "/disks", "disk create new --size 1MiB"),
    ("GET", "/disks/{disk}", "disk show demo"),
    ("PATCH", "/disks/{disk}", "disk unprotect demo"),
    ("DELETE", "/disks/{disk}", "disk delete new"),
    ("POST", "/disks/{disk}/expand", "disk expand demo --size 2GiB"),
    ("POST", "/disks/{disk}/shrink", "disk shrink demo --size 2GiB"),
    ("POST", "/disks/{disk}/provision", "disk provision demo thin"),
    ("POST", "/disks/{disk}/clone", "disk clone demo copy"),
    ("POST", "/disks/{disk}/check", "disk check demo"),
    ("POST", "/disks/{disk}/convert", "disk convert demo raw"),
    ("POST", "/disks/{disk}/move", "disk move demo --pool default"),
    ("POST", "/disks/{disk}/compact", "disk compact demo"),
    ("POST", "/disks/{disk}/export", "disk export demo /srv/demo.raw"),
    ("POST", "/import", "disk import /srv/demo.raw imported"),
    ("GET", "/snapshots", "snapshot list"),
    ("POST", "/snapshots", "snapshot create monday demo"),
    ("GET", "/snapshots/{snapshot}", "snapshot show demo@monday"),
    ("DELETE", "/snapshots/{snapshot}", "snapshot delete demo@tuesday"),
    ("POST", "/snapshots/{snapshot}/check", "snapshot check demo@tuesday"),
    ("POST", "/snapshots/{snapshot}/rollback", "snapshot rollback demo@tuesday"),
    ("GET", "/snapshots/{snapshot}/changes", "snapshot diff demo@monday demo@tuesday"),
    ("GET", "/disks/{disk}/changes", "snapshot diff demo@monday"),
    ("POST", "/snapshots/{snapshot}/expose", "snapshot expose demo@tuesday look"),
    ("GET", "/targets", "target list"),
    ("POST", "/targets", "target create web"),
    ("GET", "/targets/{target}", "target show web"),
    ("DELETE", "/targets/{target}", "target delete web"),
    ("PUT", "/targets/{target}/access", "target open web"),
    ("POST", "/targets/{target}/access", "target allow web --address 10.0.0.0/8"),
    ("DELETE", "/targets/{target}/access", "target disallow web --address 10.0.0.0/8"),
    ("POST", "/targets/{target}/luns", "target map web demo"),
    ("DELETE", "/targets/{target}/luns/{lun}", "target unmap web 0"),
    ("GET", "/jobs", "job list"),
    ("GET", "/jobs/{job}", "job show JOB"),
    ("DELETE", "/jobs/{job}", "job delete JOB"),
    ("POST", "/jobs/{job}/cancel", "job cancel JOB"),
    ("POST", "/jobs/{job}/suspend", "job suspend JOB"),
    ("POST", "/jobs/{job}/resume", "job resume JOB"),
    ("POST", "/jobs/{job}/kill", "job kill JOB"),
    ("PUT", "/jobs/{job}/settings", "job set JOB --priority 1"),
    ("GET", "/jobs/{job}/errors", "job error JOB"),
    ("GET", "/job-limits", "job limits"),
    ("PUT", "/job-limits", "job limits --bandwidth 100MiB"),
    ("GET", "/session", "whoami"),
    ("PUT", "/session/password", "user passwd --current-password-file FILE --password-file FILE"),
    ("GET", "/users", "user list"),
    ("POST", "/users", "user add anna --role viewer --password-file FILE"),
    ("GET", "/users/{user}", "user show anna"),
    ("PATCH", "/users/{user}", "user role anna operator"),
    ("DELETE", "/users/{user}", "user remove anna"),
    ("GET", "/tokens", "token list"),
    ("POST", "/tokens", "token create backup --role viewer"),
    ("GET", "/tokens/{token}", "token show backup"),
    ("DELETE", "/tokens/{token}", "token revoke backup"),
    ("GET", "/audit", "audit"),
];

/// What has no command, and why.
const OTHERS: &[(&str, &str, &str)] = &[
    ("POST", "/session", "for the page; `lunctl` says with every request who asks (`--login`)"),
    ("DELETE", "/session", "the same"),
];

/// Stands before a daemon, and writes down which requests go to it.
struct Witness {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    fn before(daemon: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let seen = seen.clone();
                std::thread::spawn(move || pass(client, daemon, &seen));
            }
        });
        Self { address, requests }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn pass(mut client: TcpStream, daemon: SocketAddr, seen: &Mutex<Vec<String>>) {
    let Ok(mut server) = TcpStream::connect(daemon) else { return };
    let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..count]);
        // A client begins a request with a write of its own.
        if let Some(line) = text.lines().next().and_then(|it| it.strip_suffix(" HTTP/1.1")) {
            seen.lock().unwrap().push(line.to_owned());
        }
        if server.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

/// Whether a request is one of an operation.
fn is_of(line: &str, method: &str, template: &str) -> bool {
    let Some((sent, path)) = line.split_once(" /api/v1") else { return false };
    let path = path.split('?').next().unwrap();
    let (path, template): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), template.split('/').collect());
    let same = |(part, wanted): (&&str, &&str)| wanted.starts_with('{') || part == wanted;
    sent == method && path.len() == template.len() && path.iter().zip(&template).all(same)
}

/// The operations that the daemon describes.
fn described(daemon: SocketAddr) -> Vec<(String, String)> {
    let document = request(daemon, "GET", "/openapi.json", "").json();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let path = path.strip_prefix("/api/v1").unwrap();
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| (method.to_ascii_uppercase(), path.to_owned()))
    });
    operations.collect()
}

#[test]
fn every_operation_has_a_command() {
    let place = Place::new();
    let daemon = place.start_demo();
    let table = COMMANDS.iter().chain(OTHERS);
    let mut known: Vec<_> =
        table.map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    let mut described = described(daemon.management);
    known.sort();
    described.sort();
    assert_eq!(known, described, "each operation once, in COMMANDS or in OTHERS");
    let witness = Witness::before(daemon.management);
    let server = format!("http://{}", witness.address);
    daemon.lunctl(&["snapshot", "create", "monday", "demo"]).ok();
    daemon.lunctl(&["snapshot", "create", "tuesday", "demo"]).ok();
    let job = daemon.json(&["job", "list"])[0]["id"].as_str().unwrap().to_owned();
    let exported = daemon.lunctl(&["export"]).ok();
    for (method, path, command) in COMMANDS {
        // A secret, a password, or the configuration: what the command reads or writes.
        let text = if *path == "/configuration" { &exported } else { "correct horse battery" };
        let file = place.write("file.yaml", text);
        let arguments: Vec<&str> = command
            .split(' ')
            .map(|word| match word {
                "FILE" => file.to_str().unwrap(),
                "JOB" => &job,
                word => word,
            })
            .collect();
        let mut child = lunctl_command(&server, &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut sent = Vec::new();
        eventually(command, || {
            let ended = child.try_wait().unwrap().is_some();
            sent.extend(witness.take());
            let found = sent.iter().any(|line| is_of(line, method, path));
            assert!(found || !ended, "{command}: no {method} {path} in {sent:?}");
            (found && (ended || *command == "events")).then_some(())
        });
        let _ = child.kill();
        child.wait().unwrap();
    }
}

/// The table in `docs/rest.md`.
#[test]
fn the_documentation_has_the_command_of_every_operation() {
    let begin =
        "<!-- commands: UPDATE_DOCS=1 cargo test --test end_to_end parity writes this -->\n";
    let end = "<!-- end of commands -->\n";
    let rows: BTreeMap<_, _> = COMMANDS
        .iter()
        .map(|(method, path, command)| ((*path, *method), format!("`lunctl {command}`")))
        .chain(OTHERS.iter().map(|(method, path, why)| ((*path, *method), (*why).to_owned())))
        .collect();
    let mut table = String::from("\n| | | |\n|---|---|---|\n");
    for ((path, method), command) in rows {
        writeln!(table, "| {method} | `{path}` | {command} |").unwrap();
    }
    table.push('\n');
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rest.md");
    let found = std::fs::read_to_string(file).unwrap();
    let (before, rest) = found.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let wanted = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, &wanted).unwrap();
        return;
    }
    assert!(found == wanted, "UPDATE_DOCS=1 cargo test --test end_to_end parity writes it");
}
