//! What changed, for clients that follow.

use std::sync::Arc;

use job_engine::{ChangeEvent, ChangeKind, EventPosition};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Service, view};
use crate::api;

/// One change as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where it stands in the stream; changes of sessions stand nowhere, and do not come again.
    pub position: Option<EventPosition>,
    /// `job-changed`, `disk-created`, …
    pub name: &'static str,
    /// What it is about: an object with one member.
    pub data: Value,
}

/// Events that were found.
#[derive(Debug, Clone)]
pub struct Found {
    /// In order.
    pub events: Vec<Event>,
    /// From here a reader goes on.
    pub position: EventPosition,
    /// There are changes between that are gone: everything is to be read again.
    pub lost: bool,
}

impl Service {
    /// Tells when there may be more events.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`](super::Refusal::Unavailable).
    pub fn follow(&self) -> super::Result<watch::Receiver<()>> {
        let mut followed = self.followed.lock();
        if let Some(sender) = followed.as_ref() {
            return Ok(sender.subscribe());
        }
        // One subscription for all readers, made when the first comes.
        let (sender, receiver) = watch::channel(());
        let told = sender.clone();
        self.engine.subscribe(Box::new(move |_| {
            told.send_replace(());
        }))?;
        *followed = Some(sender);
        Ok(receiver)
    }

    /// Events behind a position, `most` at most; none, but the position, without one.
    #[must_use]
    pub fn events(&self, after: Option<EventPosition>, most: usize) -> Found {
        let found = self.engine.events(after, most);
        let stream = found.position.stream;
        let mappings = self.engine.mappings();
        let event = |event: &ChangeEvent| {
            let position = EventPosition { stream, sequence: event.sequence };
            let (name, data) = told(&event.change, &mappings);
            Event { position: Some(position), name, data }
        };
        let events = found.events.iter().map(event).collect();
        Found { events, position: found.position, lost: found.lost }
    }

    /// What has changed between two looks at the sessions.
    #[must_use]
    pub fn session_events(&self, before: &mut Vec<api::Session>) -> Vec<Event> {
        let now = self.host.sessions();
        let same = |one: &api::Session, other: &api::Session| {
            one.tsih == other.tsih && one.since == other.since
        };
        let only_in = |these: &[api::Session], those: &[api::Session], name| {
            let gone = these.iter().filter(|one| !those.iter().any(|other| same(one, other)));
            gone.map(|session| Event { position: None, name, data: json!({ "session": session }) })
                .collect::<Vec<_>>()
        };
        let mut events = only_in(before, &now, "session-ended");
        events.extend(only_in(&now, before, "session-began"));
        *before = now;
        events
    }

    /// The daemon serves on.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.host.state() != api::NodeState::Stopping
    }
}

fn told(change: &ChangeKind, mappings: &[job_engine::Mapping]) -> (&'static str, Value) {
    let job = |job: &job_engine::Job| json!({ "job": view::job(job.clone()) });
    let disk = |disk: &job_engine::Disk| json!({ "disk": view::disk(disk, mappings) });
    let lun = |mapping: &job_engine::Mapping| {
        let job_engine::Mapping { disk, target, lun } = mapping;
        json!({ "lun": { "target": target, "lun": lun, "disk": disk.to_string() } })
    };
    let target = |target: &Arc<job_engine::Target>| json!({ "target": { "name": target.name } });
    let pool = |it: &job_engine::PoolSettings| json!({ "pool": { "id": it.id.to_string() } });
    let snapshot = |it: &job_engine::DiskSnapshot| {
        let (id, disk) = (it.id.to_string(), it.disk.to_string());
        json!({ "snapshot": { "id": id, "name": it.name, "disk": disk } })
    };
    let condition =
        |disk: String, shut: bool| json!({ "condition": { "disk": disk, "shut": shut } });
    match change {
        ChangeKind::JobCreated(it) => ("job-created", job(it)),
        ChangeKind::JobChanged { current, .. } => ("job-changed", job(current)),
        ChangeKind::JobDeleted(it) => ("job-deleted", job(it)),
        ChangeKind::DiskCreated(it) => ("disk-created", disk(it)),
        ChangeKind::DiskChanged(it) => ("disk-changed", disk(it)),
        ChangeKind::DiskDeleted(it) => ("disk-deleted", disk(it)),
        ChangeKind::ConditionChanged(it) => {
            ("condition-changed", condition(it.disk.to_string(), true))
        }
        ChangeKind::ConditionOver(it) => ("condition-changed", condition(it.to_string(), false)),
        ChangeKind::PoolCreated(it) => ("pool-created", pool(it)),
        ChangeKind::PoolChanged(it) => ("pool-changed", pool(it)),
        ChangeKind::PoolDeleted(it) => ("pool-deleted", pool(it)),
        ChangeKind::PoolHealthChanged { pool, current, .. } => {
            let trouble = current.as_ref().map(|it| it.trouble.name());
            let alert = current.as_ref().map(|it| &it.error);
            let told = json!({ "id": pool.to_string(), "trouble": trouble, "alert": alert });
            ("pool-health-changed", json!({ "pool": told }))
        }
        ChangeKind::SnapshotCreated(it) => ("snapshot-created", snapshot(it)),
        ChangeKind::SnapshotDeleted(it) => ("snapshot-deleted", snapshot(it)),
        ChangeKind::TargetCreated(it) => ("target-created", target(it)),
        ChangeKind::TargetChanged(it) => ("target-changed", target(it)),
        ChangeKind::TargetDeleted(it) => ("target-deleted", target(it)),
        ChangeKind::MappingCreated(it) => ("lun-created", lun(it)),
        ChangeKind::MappingDeleted(it) => ("lun-deleted", lun(it)),
    }
}
