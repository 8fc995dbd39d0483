//! Following what changes.

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;

use super::*;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A reader of the stream.
struct Follower(BodyDataStream);

#[derive(Debug, PartialEq)]
struct Frame {
    id: Option<String>,
    event: String,
    data: Value,
}

async fn ask(server: &Server, after: Option<&str>) -> axum::response::Response {
    let mut request = Request::get("/api/v1/events").header("host", "127.0.0.1:5988");
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(loopback());
    server.router.clone().oneshot(request).await.unwrap()
}

impl Follower {
    async fn of(server: &Server, after: Option<&str>) -> Self {
        let answer = ask(server, after).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self(answer.into_body().into_data_stream())
    }

    async fn next(&mut self) -> Frame {
        let bytes = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.ends_with("\n\n"), "{text:?}");
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        let data = serde_json::from_str(&field("data").unwrap()).unwrap();
        Frame { id: field("id"), event: field("event").unwrap(), data }
    }
}

async fn make(server: &Server, name: &str) {
    let made = server.ask("POST", "/targets", &[], &json!({ "name": name })).await;
    assert_eq!(made.status, 201);
}

#[tokio::test]
async fn a_reader_hears_of_every_change_once_and_goes_on_where_it_stopped() {
    let server = Server::open();
    make(&server, "before").await;
    let mut reader = Follower::of(&server, None).await;
    let begin = reader.next().await;
    assert_eq!(begin.event, "begin");
    make(&server, "one").await;
    let one = reader.next().await;
    assert_eq!(one.event, "target-created");
    assert!(one.data["target"]["name"].as_str().unwrap().ends_with(":one"), "{one:?}");
    drop(reader);
    make(&server, "two").await;
    let mut again = Follower::of(&server, one.id.as_deref()).await;
    assert_eq!(again.next().await.event, "begin");
    let two = again.next().await;
    assert!(two.data["target"]["name"].as_str().unwrap().ends_with(":two"), "{two:?}");
    let mut from_begin = Follower::of(&server, begin.id.as_deref()).await;
    assert_eq!(from_begin.next().await.id, begin.id);
    assert_eq!((from_begin.next().await, from_begin.next().await), (one, two));

    let body = json!({"name": "d", "size_bytes": 1 << 20});
    let job = server.ask("POST", "/disks", &[], &body).await.json();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|it: &Frame| it.data["job"]["ended"] != true) {
        seen.push(again.next().await);
    }
    assert_eq!((seen[0].event.as_str(), &seen[0].data["job"]["id"]), ("job-created", &job["id"]));
    assert!(seen.iter().any(|it| it.event == "disk-created" && it.data["disk"]["name"] == "d"));
}

#[tokio::test]
async fn a_reader_that_missed_changes_for_ever_is_told() {
    let server = Server::open();
    let begin = Follower::of(&server, None).await.next().await.id.unwrap();
    let other_stream = format!("{}-1", "0".repeat(32));
    for gone in [other_stream, format!("{begin}999")] {
        let mut reader = Follower::of(&server, Some(&gone)).await;
        assert_eq!(reader.next().await.event, "begin");
        assert_eq!(reader.next().await.event, "lost");
        make(&server, &format!("t{}", gone.len())).await;
        assert_eq!(reader.next().await.event, "target-created", "and goes on");
    }
    assert_eq!(ask(&server, Some("nonsense")).await.status(), 400);
}

#[tokio::test]
async fn readers_are_bounded_and_one_that_reads_nothing_holds_up_nobody() {
    let server = Server::open();
    let mut idle = Vec::new();
    for _ in 0..crate::rest::MAX_READERS {
        idle.push(Follower::of(&server, None).await);
    }
    assert_eq!(ask(&server, None).await.status(), 503);
    for number in 0..100 {
        make(&server, &format!("t{number}")).await;
    }
    idle.truncate(1);
    let mut reader = idle.remove(0);
    let mut names = Vec::new();
    for _ in 0..=100 {
        names.push(reader.next().await.event);
    }
    assert_eq!(names.iter().filter(|it| *it == "target-created").count(), 100);
    let _another = Follower::of(&server, None).await;
}
