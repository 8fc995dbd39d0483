//! What a client may have meant by a name that there is not.

use job_engine::catalogue::default_target_name;
use strsim::normalized_damerau_levenshtein;

use super::{Refusal, Service, ServiceError};

/// Names that have less in common are other names.
const LIKENESS: f64 = 0.6;

/// The name that is most like the one that is wanted, if any is like it.
fn nearest(wanted: &str, names: impl IntoIterator<Item = String>) -> Option<String> {
    let wanted = wanted.to_lowercase();
    let scored = names.into_iter().map(|name| {
        let lower = name.to_lowercase();
        let like =
            if lower == wanted { 1.0 } else { normalized_damerau_levenshtein(&lower, &wanted) };
        (like, name)
    });
    let near = scored.filter(|(like, _)| *like >= LIKENESS);
    near.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name)
}

/// What distinguishes an iSCSI name from others of the same authority.
fn short(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

impl ServiceError {
    /// Says which of `names` may have been meant, if `wanted` is not there.
    fn or(mut self, wanted: &str, names: impl FnOnce() -> Vec<String>) -> Self {
        if self.refusal == Refusal::NotFound
            && let Some(name) = nearest(wanted, names())
        {
            self.problem.message.push_str(&format!("; did you mean `{name}`?"));
        }
        self
    }
}

impl Service {
    pub(super) fn no_such_disk(&self, key: &str) -> ServiceError {
        let error = ServiceError::new(Refusal::NotFound, format!("there is no disk `{key}`"));
        error.or(key, || self.engine.disks().into_iter().map(|disk| disk.name).collect())
    }

    pub(super) fn no_such_snapshot(&self, key: &str) -> ServiceError {
        let mut message = format!("there is no snapshot `{key}`");
        if !key.contains('@') {
            message.push_str(": DISK@NAME is wanted");
        }
        let names = || {
            self.snapshots(None).unwrap_or_default().iter().map(crate::api::Snapshot::key).collect()
        };
        ServiceError::new(Refusal::NotFound, message).or(key, names)
    }

    /// What may have been meant by a target's name, in an error that says that it is not there.
    pub(super) fn near_target(&self, error: impl Into<ServiceError>, key: &str) -> ServiceError {
        let error = error.into();
        let name = default_target_name(key);
        let targets = self.engine.targets();
        if error.refusal != Refusal::NotFound || targets.iter().any(|target| target.name == name) {
            return error;
        }
        let found = nearest(short(&name), targets.iter().map(|it| short(&it.name).to_owned()));
        let found = targets.iter().find(|it| found.as_deref() == Some(short(&it.name)));
        let found = found.map(|target| target.name.clone());
        // The same but for what stands before the last colon is as near as can be.
        error.or(found.as_deref().unwrap_or_default(), || found.iter().cloned().collect())
    }

    /// What may have been meant by a pool's name, in an error that says that it is not there.
    pub(super) fn near_pool(&self, error: impl Into<ServiceError>, key: &str) -> ServiceError {
        let pools: Vec<_> = self.engine.pools().iter().map(|pool| pool.id.to_string()).collect();
        let error = error.into();
        if pools.iter().any(|pool| pool == key) {
            return error;
        }
        error.or(key, || pools)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_is_most_alike_is_suggested_and_none_that_is_another() {
        let names = || ["web", "web-backup", "database"].map(str::to_owned);
        let near = |wanted| nearest(wanted, names());
        assert_eq!(near("wbe").as_deref(), Some("web"));
        assert_eq!(near("WEB").as_deref(), Some("web"));
        assert_eq!(near("webbackup").as_deref(), Some("web-backup"));
        assert_eq!(near("databse").as_deref(), Some("database"));
        assert_eq!((near("mail"), near("")), (None, None));
    }
}
