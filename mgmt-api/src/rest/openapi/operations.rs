//! What each route takes and answers.

use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use schemars::generate::SchemaGenerator;

use crate::api;
use crate::rest::list::Listed;
use crate::service::JobRow;

/// Says what a value looks like.
pub(super) type Schema = fn(&mut SchemaGenerator) -> schemars::Schema;

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

/// What is answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    /// 204.
    Nothing,
    /// JSON.
    Json(Schema),
    /// Something of this media type.
    Other(&'static str),
}

/// A route.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: Option<Schema>,
    pub(super) filters: Option<&'static [&'static str]>,
    pub(super) body: Option<Schema>,
    pub(super) status: StatusCode,
    pub(super) answer: Body,
    job: bool,
}

impl Operation {
    fn new(method: Method, path: &'static str, summary: &'static str) -> Self {
        let (status, answer) = (StatusCode::NO_CONTENT, Body::Nothing);
        let (query, filters, body) = (None, None, None);
        Self { method, path, summary, query, filters, body, status, answer, job: false }
    }

    fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(schema::<T>), ..self }
    }

    fn asks<T: JsonSchema>(self) -> Self {
        Self { query: Some(schema::<T>), ..self }
    }

    fn answers<T: JsonSchema>(self) -> Self {
        Self { status: StatusCode::OK, answer: Body::Json(schema::<T>), ..self }
    }

    fn makes<T: JsonSchema>(self) -> Self {
        Self { status: StatusCode::CREATED, ..self.answers::<T>() }
    }

    fn sends(self, media_type: &'static str) -> Self {
        Self { status: StatusCode::OK, answer: Body::Other(media_type), ..self }
    }

    fn lists<T: Listed + JsonSchema>(self) -> Self {
        Self { filters: Some(T::FILTERS), ..self.answers::<Vec<T>>() }
    }

    /// Answers with a job whose state changes.
    fn accepts(self) -> Self {
        Self { status: StatusCode::ACCEPTED, ..self.answers::<api::Job>() }
    }

    /// Starts a job.
    fn starts(self) -> Self {
        Self { job: true, ..self.asks::<api::JobOptions>().accepts() }
    }

    pub(super) fn starts_job(&self) -> bool {
        self.job
    }

    pub(super) fn changes(&self) -> bool {
        self.method != Method::GET
    }

    /// The first part of the path.
    pub(super) fn tag(&self) -> &'static str {
        self.path.split('/').find(|part| !part.is_empty()).unwrap_or_default()
    }

    /// The resource that it is about has an entity tag.
    pub(super) fn has_tag(&self) -> bool {
        let parts = self.path.split('/').filter(|part| !part.is_empty()).count();
        let below = self.path.contains('{') && (self.changes() || parts == 2);
        crate::rest::is_single(self.tag()) || (below && self.tag() != "sessions")
    }

    pub(super) fn id(&self) -> String {
        let mut id = self.method.as_str().to_ascii_lowercase();
        for part in self.path.split(['/', '-']).filter(|part| !part.is_empty()) {
            let part = part.trim_matches(['{', '}', '.']);
            let mut letters = part.chars().filter(char::is_ascii_alphanumeric);
            id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            id.extend(letters);
        }
        id
    }

    /// The errors that it may answer.
    pub(super) fn errors(&self) -> Vec<StatusCode> {
        let always = [400, 401, 403, 405, 408, 429, 503];
        let mut all: Vec<u16> = always.to_vec();
        if self.path.contains('{') || self.body.is_some() || self.filters.is_some() {
            all.push(404);
        }
        if self.changes() {
            all.extend([404, 409, 412, 413, 422, 507]);
            if self.path == "/configuration" {
                all.push(428);
            }
        }
        all.sort_unstable();
        all.dedup();
        all.into_iter().filter_map(|status| StatusCode::from_u16(status).ok()).collect()
    }
}

/// All of them.
#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn all() -> Vec<Operation> {
    let get = |path, summary| Operation::new(Method::GET, path, summary);
    let post = |path, summary| Operation::new(Method::POST, path, summary);
    let put = |path, summary| Operation::new(Method::PUT, path, summary);
    let patch = |path, summary| Operation::new(Method::PATCH, path, summary);
    let delete = |path, summary| Operation::new(Method::DELETE, path, summary);
    vec![
        get("/openapi.json", "This document").answers::<serde_json::Map<_, _>>(),
        get("/status", "The daemon").answers::<api::Status>(),
        get("/state", "All that the daemon knows, to be kept").answers::<serde_json::Map<_, _>>(),
        get("/configuration", "Targets, LUNs, access, limits and accounts as a whole")
            .answers::<api::Configuration>(),
        put("/configuration", "Make all of it what is wanted, or nothing; with If-Match")
            .takes::<api::Configuration>()
            .asks::<api::Configure>()
            .answers::<api::ConfigurationChanges>(),
        post("/drain", "Let no initiator in any more").answers::<api::Drained>(),
        post("/resume", "Let initiators in again").answers::<api::Drained>(),
        get("/events", "What changes, from now on or from Last-Event-ID on")
            .sends("text/event-stream"),
        get("/settings", "What the daemon runs with").lists::<api::Setting>(),
        get("/pools", "All pools").lists::<api::Pool>(),
        post("/pools", "Make a pool of a directory")
            .takes::<api::CreatePool>()
            .makes::<api::Pool>(),
        get("/pools/{pool}", "A pool").answers::<api::Pool>(),
        patch("/pools/{pool}", "Change what the space of a pool may be used for")
            .takes::<api::ChangePool>()
            .answers::<api::Pool>(),
        delete("/pools/{pool}", "Use a pool no more"),
        get("/portal-groups", "All portal groups").lists::<api::PortalGroup>(),
        get("/portal-groups/{group}", "A portal group").answers::<api::PortalGroup>(),
        put("/portal-groups/{group}/state", "Set the access state of a portal group")
            .takes::<api::SetAccessState>()
            .answers::<api::PortalGroup>(),
        delete("/portal-groups/{group}/state", "Back to the access state that is configured")
            .asks::<api::ResetAccessState>()
            .answers::<api::PortalGroup>(),
        get("/chap-accounts", "All CHAP accounts").lists::<api::ChapAccount>(),
        get("/chap-accounts/{user}", "A CHAP account").answers::<api::ChapAccount>(),
        put("/chap-accounts/{user}", "Make or change a CHAP account")
            .takes::<api::SetChapAccount>()
            .answers::<api::ChapAccount>(),
        delete("/chap-accounts/{user}", "Take a CHAP account away")
            .asks::<api::DeleteChapAccount>(),
        get("/limits", "All limits of what initiators read and write").lists::<api::Limit>(),
        put("/limits/disks/{disk}", "Limit a disk, or change how").takes::<api::SetLimit>(),
        delete("/limits/disks/{disk}", "Take a disk's limit away"),
        put("/limits/initiators/{initiator}", "Limit an initiator, or change how")
            .takes::<api::SetLimit>(),
        delete("/limits/initiators/{initiator}", "Take an initiator's limit away"),
        get("/sessions", "All sessions of initiators").lists::<api::Session>(),
        get("/sessions/{session}", "A session").answers::<api::SessionDetail>(),
        delete("/sessions/{session}", "End a session"),
        post("/sessions/{session}/logout", "Ask an initiator to log out")
            .takes::<api::AskInitiator>(),
        post("/sessions/{session}/renegotiate", "Ask an initiator to negotiate anew")
            .takes::<api::AskInitiator>(),
        get("/sessions/{session}/trace", "What a connection receives and sends, as pcapng")
            .asks::<super::super::session::For>()
            .sends("application/x-pcapng"),
        get("/disks", "All disks").lists::<api::Disk>(),
        post("/disks", "Make a disk").takes::<api::CreateDisk>().starts(),
        get("/disks/{disk}", "A disk").answers::<api::Disk>(),
        patch("/disks/{disk}", "Change a disk").takes::<api::ChangeDisk>().answers::<api::Disk>(),
        delete("/disks/{disk}", "Delete a disk").starts(),
        post("/disks/{disk}/expand", "Make a disk larger").takes::<api::ExpandDisk>().starts(),
        post("/disks/{disk}/shrink", "Make a disk smaller").takes::<api::ExpandDisk>().starts(),
        post("/disks/{disk}/provision", "Have a disk take its space, or give it back")
            .takes::<api::ProvisionDisk>()
            .starts(),
        post("/disks/{disk}/clone", "Copy a disk").takes::<api::CloneDisk>().starts(),
        post("/disks/{disk}/check", "Look whether a disk is whole")
            .takes::<api::CheckDisk>()
            .starts(),
        post("/disks/{disk}/convert", "Give a disk another format")
            .takes::<api::ConvertDisk>()
            .starts(),
        post("/disks/{disk}/move", "Bring a disk into another pool")
            .takes::<api::MoveDisk>()
            .starts(),
        post("/disks/{disk}/compact", "Have a disk give back space that it does not need").starts(),
        post("/disks/{disk}/export", "Copy a disk to a file").takes::<api::ExportDisk>().starts(),
        post("/import", "Make a disk of a file").takes::<api::ImportDisk>().starts(),
        get("/snapshots", "All snapshots")
            .asks::<super::super::snapshots::Which>()
            .lists::<api::Snapshot>(),
        post("/snapshots", "Take snapshots of disks at one instant")
            .takes::<api::CreateSnapshots>()
            .starts(),
        get("/snapshots/{snapshot}", "A snapshot").answers::<api::Snapshot>(),
        delete("/snapshots/{snapshot}", "Delete a snapshot").starts(),
        post("/snapshots/{snapshot}/check", "Look whether a snapshot is whole")
            .takes::<api::CheckSnapshot>()
            .starts(),
        post("/snapshots/{snapshot}/rollback", "Give a disk the data of a snapshot").starts(),
        get("/snapshots/{snapshot}/changes", "What has changed from an older snapshot to this one")
            .asks::<super::super::snapshots::Since>()
            .answers::<api::Changes>(),
        get("/disks/{disk}/changes", "What has changed on a disk since a snapshot")
            .asks::<super::super::snapshots::Since>()
            .answers::<api::Changes>(),
        post("/snapshots/{snapshot}/expose", "Make a disk of a snapshot")
            .takes::<api::ExposeSnapshot>()
            .starts(),
        get("/targets", "All targets").lists::<api::Target>(),
        post("/targets", "Make a target").takes::<api::CreateTarget>().makes::<api::Target>(),
        get("/targets/{target}", "A target").answers::<api::Target>(),
        delete("/targets/{target}", "Remove a target without LUNs"),
        put("/targets/{target}/access", "Say who may use a target")
            .takes::<api::ReplaceAccess>()
            .answers::<api::Target>(),
        post("/targets/{target}/access", "Let somebody use a target")
            .takes::<api::Access>()
            .answers::<api::Target>(),
        delete("/targets/{target}/access", "Let somebody use a target no more")
            .asks::<api::Disallow>()
            .answers::<api::Target>(),
        post("/targets/{target}/luns", "Expose a disk").takes::<api::Map>().makes::<api::Mapping>(),
        delete("/targets/{target}/luns/{lun}", "Take a LUN away"),
        get("/jobs", "All jobs and faults").asks::<super::super::Newest>().lists::<JobRow>(),
        get("/jobs/{job}", "A job").asks::<super::super::Wait>().answers::<api::Job>(),
        delete("/jobs/{job}", "Remove a job that has ended, or clear a fault"),
        post("/jobs/{job}/cancel", "End a job in order").accepts(),
        post("/jobs/{job}/suspend", "Stop a job until it is resumed").accepts(),
        post("/jobs/{job}/resume", "Let a job go on").accepts(),
        post("/jobs/{job}/kill", "End a job at once").accepts(),
        put("/jobs/{job}/settings", "Change how a job runs")
            .takes::<api::ChangeJob>()
            .answers::<api::Job>(),
        get("/job-limits", "What all jobs together may do").answers::<api::JobLimits>(),
        put("/job-limits", "Change what all jobs together may do")
            .takes::<api::JobLimits>()
            .answers::<api::JobLimits>(),
        get("/jobs/{job}/errors", "What went wrong with a job")
            .answers::<Vec<job_engine::CimError>>(),
        post("/session", "Sign in").takes::<api::SignIn>().answers::<api::SignedIn>(),
        get("/session", "Who asks").answers::<api::SignedIn>(),
        delete("/session", "Sign out"),
        put("/session/password", "Change one's own password").takes::<api::ChangePassword>(),
        get("/users", "All users").lists::<api::User>(),
        post("/users", "Make a user").takes::<api::CreateUser>().makes::<api::User>(),
        get("/users/{user}", "A user").answers::<api::User>(),
        patch("/users/{user}", "Change a user").takes::<api::ChangeUser>().answers::<api::User>(),
        delete("/users/{user}", "Delete a user"),
        get("/tokens", "All tokens").lists::<api::Token>(),
        post("/tokens", "Make a token").takes::<api::CreateToken>().makes::<api::NewToken>(),
        get("/tokens/{token}", "A token").answers::<api::Token>(),
        delete("/tokens/{token}", "Delete a token"),
        get("/audit", "What was done, the newest first")
            .asks::<crate::access::Limit>()
            .answers::<Vec<api::AuditRecord>>(),
    ]
}
