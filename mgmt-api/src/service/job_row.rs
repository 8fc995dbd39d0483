//! A job as JSON, straight from what the engine has: the same as [`api::Job`], of
//! which thousands in a list would cost more than they are worth.

use std::borrow::Cow;
use std::fmt::Display;

use jiff::Timestamp;
use job_engine::{
    AffectedElement, ChecksumsUsed, CimError, DiskId, INSTANCE_ID_PREFIX, Job, JobId, JobView,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use super::view;
use crate::api;

/// A job in a list.
pub(crate) struct JobRow(pub(crate) JobView);

/// What is written as its text.
struct Text<T>(T);

/// `InstanceID`
struct InstanceId(JobId);

impl Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{INSTANCE_ID_PREFIX}{}", self.0)
    }
}

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// [`api::Job`], its fields in the same order.
#[derive(Serialize)]
struct Row<'a> {
    id: JobId,
    instance_id: Text<InstanceId>,
    trace: Text<uuid::fmt::Simple>,
    kind: &'a str,
    name: &'a str,
    state: &'a str,
    job_state: u16,
    operational_status: &'a [u16],
    ended: bool,
    percent_complete: u16,
    disk: DiskId,
    owner: &'a str,
    time_submitted: Timestamp,
    start_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    elapsed_ms: u64,
    remaining_ms: Option<u64>,
    scheduled_start_time: Option<Timestamp>,
    priority: u32,
    after: &'a [JobId],
    time_limit_seconds: Option<u64>,
    bandwidth: Option<u64>,
    occurrences: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksums: Option<ChecksumsUsed>,
    affected: &'a [AffectedElement],
    errors: &'a [CimError],
}

/// It is described as what it is to clients.
impl JsonSchema for JobRow {
    fn schema_name() -> Cow<'static, str> {
        api::Job::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        api::Job::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        api::Job::json_schema(generator)
    }
}

impl<'a> Row<'a> {
    fn of(job: &'a Job) -> Self {
        Self {
            id: job.id,
            instance_id: Text(InstanceId(job.id)),
            trace: Text(job.id.uuid().simple()),
            kind: job.kind.word(),
            name: &job.name,
            state: job.state.name(),
            job_state: job.state.number(),
            operational_status: job.operational_status(),
            ended: job.state.is_terminal(),
            percent_complete: job.percent_complete,
            disk: job.kind.disk(),
            owner: &job.owner,
            time_submitted: job.time_submitted,
            start_time: job.start_time,
            end_time: job.end_time,
            elapsed_ms: view::millis(job.elapsed),
            remaining_ms: job.remaining.map(view::millis),
            scheduled_start_time: job.scheduled_start_time,
            priority: job.priority,
            after: &job.after,
            time_limit_seconds: job.time_limit.map(|limit| limit.as_secs()),
            bandwidth: job.bandwidth,
            occurrences: view::occurrences(&job.kind),
            checksums: job.checksums,
            affected: &job.affected,
            errors: &job.errors,
        }
    }
}

impl Serialize for JobRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Row::of(&self.0).serialize(serializer)
    }
}

impl JobRow {
    /// Its JSON; of a job that has ended, what was written of it before.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let written = self.0.text(|job| serde_json::to_string(&Row::of(job)).unwrap_or_default());
        match written.filter(|text| !text.is_empty()) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => serde_json::to_writer(out, self)?,
        }
        Ok(())
    }
}
