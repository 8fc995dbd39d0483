//! What can be changed, as it is now: by this a client says which state its change is for.

use serde_json::Value;

use super::Service;

/// Members that change by themselves. They are no part of what a client wants to find unchanged.
const VOLATILE: &[&str] = &[
    "allocated_bytes",
    // Of a disk, taking a snapshot changes it.
    "parent",
    "sessions",
    "percent_complete",
    "elapsed_ms",
    "remaining_ms",
    "expired",
    "total_bytes",
    "free_bytes",
    "reserved_bytes",
    "provisioned_bytes",
    "disks",
    "unavailable",
    "exhausted",
];

/// The part of a resource that only changes do change.
#[must_use]
pub fn lasting(mut resource: Value) -> Value {
    if let Some(members) = resource.as_object_mut() {
        members.retain(|name, _| !VOLATILE.contains(&name.as_str()));
    }
    resource
}

impl Service {
    /// What lasts of a resource of a collection, as JSON; none if it is not there, or cannot be asked for alone.
    #[must_use]
    pub fn current(&self, collection: &str, key: &str) -> Option<Value> {
        let value = match collection {
            "disks" => serde_json::to_value(self.lasting_disk(key).ok()?),
            "snapshots" => serde_json::to_value(self.snapshot(key).ok()?),
            "pools" => serde_json::to_value(self.pool(key).ok()?),
            "targets" => serde_json::to_value(self.lasting_target(key)?),
            "jobs" => serde_json::to_value(self.job(key).ok()?),
            "portal-groups" => serde_json::to_value(self.portal_group(key).ok()?),
            "chap-accounts" => serde_json::to_value(self.chap_account(key).ok()?),
            "configuration" => Ok(self.engine.generation().into()),
            "job-limits" => serde_json::to_value(self.job_limits()),
            "users" => serde_json::to_value(crate::access::user(&self.engine, key).ok()?),
            "tokens" => serde_json::to_value(crate::access::token(&self.engine, key).ok()?),
            _ => return None,
        };
        value.ok()
    }

    /// The job that a client's request started, and the digest of that request.
    #[must_use]
    pub fn job_of_request(&self, owner: &str, key: &str) -> Option<(crate::api::Job, String)> {
        let (id, request) = self.engine.job_of_request(owner, key)?;
        Some((self.job_by_id(&id).ok()?, request.fingerprint))
    }
}
