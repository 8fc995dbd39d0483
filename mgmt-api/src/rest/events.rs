//! `/events`: what changes, as server-sent events. A reader takes what it can: the engine keeps the
//! latest changes once for all, and whoever falls behind them is told so (`lost`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use job_engine::EventPosition;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::error::problem;
use super::{Shared, run};
use crate::api;
use crate::service::{Event, Refusal, Service, ServiceError};

/// Readers at once.
pub(crate) const MAX_READERS: usize = 64;
/// Events that are made ready at once.
const AT_ONCE: usize = 64;
/// Sessions are looked at so often, and whether the daemon goes on.
const LOOK: Duration = Duration::from_secs(1);
/// Something is sent at least so often, so that a reader that is gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

struct Reader {
    service: Arc<Service>,
    more: watch::Receiver<()>,
    position: EventPosition,
    ready: VecDeque<Bytes>,
    sessions: Vec<api::Session>,
    looked: Instant,
    sent: Instant,
    _place: OwnedSemaphorePermit,
}

fn frame(position: Option<EventPosition>, name: &str, data: &str) -> Bytes {
    let mut text = String::new();
    if let Some(position) = position {
        let _ = writeln!(text, "id: {position}");
    }
    // JSON has no line ends in it.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text.into()
}

fn framed(event: &Event) -> Bytes {
    frame(event.position, event.name, &event.data.to_string())
}

impl Reader {
    /// The next frame; none when the daemon stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                self.sent = Instant::now();
                return Some(frame);
            }
            // Before it is looked: what comes meanwhile wakes.
            self.more.mark_unchanged();
            self.fill().await?;
            if !self.ready.is_empty() {
                continue;
            }
            if self.sent.elapsed() >= ALIVE {
                self.ready.push_back(Bytes::from_static(b": \n\n"));
                continue;
            }
            let rest = LOOK.saturating_sub(self.looked.elapsed());
            let _ = tokio::time::timeout(rest, self.more.changed()).await;
        }
    }

    /// Takes what there is.
    async fn fill(&mut self) -> Option<()> {
        if !self.service.goes_on() {
            return None;
        }
        let look = self.looked.elapsed() >= LOOK;
        let (after, mut sessions) = (self.position, std::mem::take(&mut self.sessions));
        let found = run(self.service.clone(), move |service| {
            let found = service.events(Some(after), AT_ONCE);
            let of_sessions = if look { service.session_events(&mut sessions) } else { Vec::new() };
            Ok((found, of_sessions, sessions))
        });
        let (found, of_sessions, sessions) = found.await.ok()?;
        self.sessions = sessions;
        if look {
            self.looked = Instant::now();
        }
        self.position = found.position;
        if found.lost {
            self.ready.push_back(frame(Some(found.position), "lost", "{}"));
        }
        self.ready.extend(found.events.iter().chain(&of_sessions).map(framed));
        Some(())
    }
}

/// Without `Last-Event-ID` from now on, with it from there on.
pub(super) async fn follow(State(service): Shared, headers: HeaderMap) -> Response {
    let after = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or_default().parse());
    let Ok(after) = after.transpose() else {
        let why = "Last-Event-ID is the id of an event that was received";
        return ServiceError::new(Refusal::Invalid, why).into_response();
    };
    let Ok(place) = service.readers().try_acquire_owned() else {
        let why = format!("{MAX_READERS} readers follow already, which is the limit");
        return problem(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let begun = run(service.clone(), move |service| {
        let more = service.follow()?;
        let mut sessions = Vec::new();
        // Those that are there now are no news.
        let _ = service.session_events(&mut sessions);
        Ok((more, service.events(None, 0).position, sessions))
    });
    let (more, now, sessions) = match begun.await {
        Ok(begun) => begun,
        Err(error) => return error.into_response(),
    };
    let first: EventPosition = after.unwrap_or(now);
    let ready = VecDeque::from([frame(Some(first), "begin", "{}")]);
    let (position, at) = (first, Instant::now());
    let reader =
        Reader { service, more, position, ready, sessions, looked: at, sent: at, _place: place };
    let frames = futures_util::stream::unfold(reader, async |mut reader| {
        let frame = reader.next().await?;
        Some((Ok::<_, Infallible>(frame), reader))
    });
    let media_type = [(header::CONTENT_TYPE, "text/event-stream")];
    (media_type, Body::from_stream(frames)).into_response()
}
