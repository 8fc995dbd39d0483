//! HTTP as it goes over the wire, so that broken requests can be sent too.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The request was refused, with a message in JSON that says each of these.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, says: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        let problem = self.json();
        let message = problem["detail"].as_str().unwrap_or_default();
        for text in says {
            assert!(message.contains(text), "{text}: {self:?}");
        }
    }
}

/// Sends bytes, reads until the server closes.
pub(crate) fn exchange(server: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has refused need not read the rest.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    assert!(read.is_ok() || !bytes.is_empty(), "{read:?}");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    Answer { status, body: body.to_owned() }
}

/// A request below `/api/v1`, with a JSON body if there is one.
pub(crate) fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let content = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    let text = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{content}\r\n{body}"
    );
    exchange(server, text.as_bytes())
}
