//! REST: what is wrong in a request is named, and broken clients harm nobody.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Daemon, PATIENCE, Place, exchange, request};

fn running() -> (Place, Daemon) {
    let place = Place::new();
    let daemon = place.start(&[]);
    (place, daemon)
}

#[test]
fn a_body_that_is_wrong_is_refused_with_the_name_of_the_field() {
    let (_place, daemon) = running();
    let post = |path: &str, body: &str| request(daemon.management, "POST", path, body);
    post("/disks", r#"{"name": "d", "size": 1}"#).refused(400, &["size", "size_bytes"]);
    post("/disks", r#"{"name": "d"}"#).refused(400, &["size_bytes"]);
    post("/disks", r#"{"name": "d", "size_bytes": "1MiB"}"#).refused(400, &["invalid type"]);
    post("/disks", r#"{"name": "d", "size_bytes": -1}"#).refused(400, &["-1"]);
    post("/disks", r#"{"name": "d", "size_bytes": 1.5}"#).refused(400, &["1.5"]);
    let thick = r#"{"name": "d", "size_bytes": 512, "provisioning": "thick"}"#;
    post("/disks", thick).refused(400, &["thick", "thin", "full"]);
    let blocks = r#"{"name": "d", "size_bytes": 4096, "block_length": 520}"#;
    post("/disks", blocks).refused(400, &["520", "512"]);
    let pool = r#"{"name": "d", "size_bytes": 512, "pool": "fast"}"#;
    post("/disks", pool).refused(404, &["pool", "fast"]);
    post("/disks", r#"{"name": "", "size_bytes": 512}"#).refused(400, &["empty"]);
    post("/disks", r#"{"name": "d", "name": "e", "size_bytes": 512}"#).refused(400, &["name"]);
    post("/disks", "{").refused(400, &["cannot be read"]);
    post("/disks", "[]").refused(400, &[]);
    post("/targets", r#"{"name": "t", "luns": []}"#).refused(400, &["luns", "alias"]);
    post("/targets/t/luns", r#"{"disk": "d", "lun": 70000}"#).refused(400, &["70000"]);
    let jobs = request(daemon.management, "GET", "/jobs", "");
    assert_eq!((jobs.status, jobs.json()), (200, json!([])), "nothing was submitted");
}

#[test]
fn an_error_of_the_engine_comes_with_its_cim_error() {
    let (_place, daemon) = running();
    let post = |body: &str| request(daemon.management, "POST", "/disks", body);
    let answer = post(r#"{"name": "d", "size_bytes": 1000}"#);
    answer.refused(400, &["nearest possible size is 1024"]);
    let error = &answer.json()["error"];
    assert_eq!(error["message"], answer.json()["detail"]);
    assert_eq!((&error["owning_entity"], &error["cim_status_code"]), (&json!("LUND"), &json!(4)));
}

#[test]
fn what_is_not_there_is_404_and_other_methods_are_405() {
    let (_place, daemon) = running();
    let ask = |method: &str, path: &str| request(daemon.management, method, path, "");
    ask("GET", "/nothing").refused(404, &["/nothing"]);
    ask("GET", "/disks/ghost").refused(404, &["disk", "ghost"]);
    ask("DELETE", "/disks/ghost").refused(404, &["ghost"]);
    ask("GET", "/targets/ghost").refused(404, &["ghost"]);
    ask("DELETE", "/targets/ghost/luns/0").refused(404, &["ghost"]);
    ask("DELETE", "/targets/ghost/luns/x").refused(400, &["`x`", "LUN"]);
    ask("GET", "/jobs/ghost").refused(404, &["ghost"]);
    ask("GET", "/jobs/ghost/errors").refused(404, &["ghost"]);
    ask("POST", "/jobs/ghost/cancel").refused(404, &["ghost"]);
    for (method, path) in
        [("PUT", "/disks"), ("DELETE", "/disks"), ("POST", "/jobs"), ("PATCH", "/status")]
    {
        ask(method, path).refused(405, &[method]);
    }
    let server = daemon.management;
    let get = |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
        exchange(server, text.as_bytes())
    };
    assert_eq!((get("/nothing").status, get("/api/v2/disks").status), (404, 404));
    assert_eq!(get("/healthz").body, "ok\n");
}

#[test]
fn a_conflict_is_409() {
    let (_place, daemon) = running();
    daemon.lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    daemon.expose("t", "d", 0);
    let server = daemon.management;
    let body = r#"{"name": "d", "size_bytes": 512}"#;
    request(server, "POST", "/disks", body).refused(409, &["d is in use"]);
    request(server, "POST", "/targets", r#"{"name": "t"}"#).refused(409, &["lund:t"]);
    request(server, "DELETE", "/targets/t", "").refused(409, &["lund:t"]);
    request(server, "DELETE", "/disks/d", "").refused(409, &["lund:t"]);
    let body = r#"{"disk": "d", "lun": 0}"#;
    request(server, "POST", "/targets/t/luns", body).refused(409, &["0"]);
}

#[test]
fn a_body_that_is_too_large_is_413() {
    let (_place, daemon) = running();
    let server = daemon.management;
    let head = format!("POST /api/v1/disks HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    let json = "Content-Type: application/json\r\n";
    let announced = format!("{head}{json}Content-Length: 1048577\r\n\r\n");
    assert_eq!(exchange(server, announced.as_bytes()).status, 413);
    // The same without saying so before.
    let mut chunked = format!("{head}{json}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..17 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend_from_slice(&[b' '; 0x10000]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(exchange(server, &chunked).status, 413);
}

#[test]
fn a_body_that_does_not_say_that_it_is_json_is_refused() {
    let (_place, daemon) = running();
    let server = daemon.management;
    let body = r#"{"name": "d", "size_bytes": 1048576}"#;
    for content_type in ["", "Content-Type: text/plain\r\n", "Content-Type: application/jsonx\r\n"]
    {
        let text = format!(
            "POST /api/v1/disks HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{content_type}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(server, text.as_bytes());
        assert!(matches!(answer.status, 400 | 415), "{answer:?}");
        assert!(answer.body.contains("application/json"), "{answer:?}");
    }
    assert_eq!(daemon.json(&["job", "list"]), json!([]));
}

#[test]
fn requests_of_web_pages_are_refused() {
    let (_place, daemon) = running();
    let server = daemon.management;
    let port = server.port();
    let ask = |path: &str, headers: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        exchange(server, text.as_bytes()).status
    };
    for path in ["/api/v1/disks", "/healthz", "/cimom"] {
        let own = format!("Host: {server}\r\n");
        assert_eq!(ask(path, &format!("{own}Origin: http://example.com\r\n")), 403);
        assert_eq!(ask(path, &format!("{own}Origin: null\r\n")), 403);
        assert_eq!(ask(path, &format!("Host: example.com:{port}\r\n")), 403);
        assert_eq!(ask(path, &format!("Host: 127.0.0.1.example.com:{port}\r\n")), 403);
    }
    let own = format!("Host: localhost:{port}\r\n");
    assert_eq!(ask("/api/v1/disks", &own), 200);
    assert_eq!(ask("/api/v1/disks", &format!("{own}Origin: http://localhost:{port}\r\n")), 200);
}

#[test]
fn a_job_can_be_awaited() {
    let (_place, daemon) = running();
    let server = daemon.management;
    let body = r#"{"name": "d", "size_bytes": 1048576, "provisioning": "full"}"#;
    let submitted = request(server, "POST", "/disks", body);
    assert_eq!(submitted.status, 202);
    let id = submitted.json()["id"].as_str().unwrap().to_owned();
    let begin = Instant::now();
    let done = request(server, "GET", &format!("/jobs/{id}?wait_seconds=50"), "");
    assert_eq!((done.status, &done.json()["state"]), (200, &json!("Completed")));
    assert!(begin.elapsed() < Duration::from_secs(20), "it is not waited longer than needed");
    let disk = request(server, "GET", "/disks/d", "").json();
    assert_eq!(disk["id"], submitted.json()["disk"]);
    for wrong in ["long", "-1", "61"] {
        let wrong = request(server, "GET", &format!("/jobs/{id}?wait_seconds={wrong}"), "");
        wrong.refused(400, &["wait_seconds"]);
    }
    let wrong = request(server, "GET", &format!("/jobs/{id}?wait=1"), "");
    wrong.refused(400, &["wait_seconds"]);
}

/// The beginning of a request whose body never comes to its end.
fn begin(server: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = format!("{head}Host: {server}\r\nContent-Length: 100\r\n\r\n<");
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// The status of what is answered before the connection is closed.
fn last_answer(mut stream: TcpStream) -> Option<u16> {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(read.is_ok() || !answer.is_empty(), "it is not cut off: {read:?}");
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

const REST: &str = "POST /api/v1/disks HTTP/1.1\r\nContent-Type: application/json\r\n";
const CIM: &str = "POST /cimom HTTP/1.1\r\nContent-Type: application/xml; charset=\"utf-8\"\r\n\
                   CIMOperation: MethodCall\r\nCIMMethod: GetClass\r\n\
                   CIMObject: root/cimv2/storage/iscsitarget\r\n";

#[test]
fn requests_that_never_finish_do_not_stop_others() {
    let (_place, daemon) = running();
    let server = daemon.management;
    let heads = [REST, CIM].into_iter().cycle();
    let hanging: Vec<_> = heads.take(100).map(|head| begin(server, head)).collect();
    let start = Instant::now();
    daemon.lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    for stream in hanging {
        let status = last_answer(stream);
        assert!(matches!(status, Some(400 | 408)), "{status:?}");
    }
}

#[test]
fn the_web_page_loads_nothing_from_elsewhere_and_is_for_this_machine_only() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let get = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(daemon.management).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer.to_ascii_lowercase()
    };
    let own = daemon.management.to_string();
    let page = get("/", &own);
    assert!(page.starts_with("http/1.1 200") && page.contains("content-type: text/html"), "{page}");
    for directive in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(page.contains(directive), "{directive}: {page}");
    }
    assert!(page.contains("x-content-type-options: nosniff"));
    assert!(!page.contains("//cdn") && !page.contains("https://"), "{page}");
    // Every file that it names is there.
    for file in ["style.css", "app.js"] {
        assert!(page.contains(file) && get(&format!("/{file}"), &own).starts_with("http/1.1 200"));
    }
    assert!(get("/", "lund.example.com").starts_with("http/1.1 403"));
    assert!(get("/no-such-file.js", &own).starts_with("http/1.1 404"));
    daemon.stop();
}

#[test]
fn clients_that_never_finish_their_requests_shut_nobody_out() {
    let (_place, daemon) = running();
    let stuck: Vec<_> = (0..600)
        .map(|_| {
            let mut stream = TcpStream::connect(daemon.management).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: ").unwrap();
            stream
        })
        .collect();
    daemon.lunctl(&["status"]).ok();
    for mut stream in stuck {
        // With an answer that says why, or without one.
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(end.is_ok() || end.is_err_and(|it| it.raw_os_error() == Some(104)));
    }
    daemon.stop();
}
