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
    pub(crate) fn or(self, wanted: &str, names: impl FnOnce() -> Vec<String>) -> Self {
        let found = (self.refusal == Refusal::NotFound).then(|| nearest(wanted, names()));
        self.meaning(found.flatten())
    }

    fn meaning(mut self, name: Option<String>) -> Self {
        if let Some(name) = name {
            self.problem.message.push_str(&format!("; did you mean `{name}`?"));
        }
        self
    }
}

/// The beginning of an identifier that is enough of it: what is shorter is none that was cut off.
const BEGINNING: usize = 8;

/// The identifier that was meant by one that is cut off, or in which one place is wrong; none if
/// that could be several. They differ in less than names do: likeness says nothing of them.
fn nearest_id(wanted: &str, mut ids: impl Iterator<Item = String>) -> Option<String> {
    let wanted = wanted.to_lowercase();
    let mut found = ids.by_ref().filter(|id| is_cut(&wanted, id) || is_typo(&wanted, id));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn is_cut(wanted: &str, id: &str) -> bool {
    wanted.len() >= BEGINNING && id.starts_with(wanted)
}

/// A character that is wrong, missing or too much, or two that are exchanged.
fn is_typo(wanted: &str, id: &str) -> bool {
    let same = |(a, b): &(u8, u8)| a == b;
    let before = wanted.bytes().zip(id.bytes()).take_while(same).count();
    let behind = wanted.bytes().rev().zip(id.bytes().rev()).take_while(same).count();
    let (short, long) = (wanted.len().min(id.len()), wanted.len().max(id.len()));
    let two = |text: &str| {
        let mut places = text.bytes().skip(before);
        (places.next(), places.next())
    };
    let exchanged = || {
        let ((a, b), (c, d)) = (two(wanted), two(id));
        short == long && before + behind + 2 == long && (a, b) == (d, c)
    };
    long - short <= 1 && (before + behind + 1 >= long || exchanged())
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
        let all = self.snapshots(None).unwrap_or_default();
        let names = || all.iter().map(crate::api::Snapshot::key).collect();
        let error = ServiceError::new(Refusal::NotFound, message);
        if key.contains('@') {
            return error.or(key, names);
        }
        // A name alone, or one with nearly all that it takes.
        let found = nearest(key, all.iter().map(|it| it.name.clone()));
        let found = all.iter().find(|it| found.as_ref() == Some(&it.name));
        match found {
            Some(snapshot) => error.meaning(Some(snapshot.key())),
            None => error.or(key, names),
        }
    }

    pub(super) fn no_such_job(&self, key: &str) -> ServiceError {
        let message = format!("there is no job `{key}`");
        self.near_job(ServiceError::new(Refusal::NotFound, message), key)
    }

    /// What may have been meant by a job's identifier, in an error that says that it is not there.
    pub(super) fn near_job(&self, error: impl Into<ServiceError>, key: &str) -> ServiceError {
        let error = error.into();
        if error.refusal != Refusal::NotFound {
            return error;
        }
        let wanted = key.strip_prefix(job_engine::INSTANCE_ID_PREFIX).unwrap_or(key);
        let jobs = self.engine.job_views();
        error.meaning(nearest_id(wanted, jobs.iter().map(|job| job.id.to_string())))
    }

    /// There are few of them, and numbers are not like one another.
    pub(super) fn no_such_portal_group(&self, key: &str) -> ServiceError {
        let tags: Vec<_> = self.portal_groups().iter().map(|it| it.tag.to_string()).collect();
        let message = match tags.as_slice() {
            [] => format!("there is no portal group `{key}`"),
            tags => format!("there is no portal group `{key}`; there are: {}", tags.join(", ")),
        };
        ServiceError::new(Refusal::NotFound, message)
    }

    /// What may have been meant by the user of a CHAP account, in an error that says that it is
    /// not there.
    pub(super) fn near_chap_account(&self, error: ServiceError, user: &str) -> ServiceError {
        let accounts = self.chap_accounts();
        if accounts.iter().any(|account| account.user == user) {
            return error;
        }
        error.or(user, || accounts.into_iter().map(|account| account.user).collect())
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

    #[test]
    fn an_identifier_is_meant_by_its_beginning_or_with_one_place_wrong() {
        let ids = ["0194f0aa-1111-7000-8000-0000000000a1", "0194f0aa-1111-7000-8000-0000000000b2"];
        let near = |wanted: &str| nearest_id(wanted, ids.iter().map(|id| (*id).to_owned()));
        for wanted in [
            "0194F0AA-1111-7000-8000-0000000000A",
            "0194f0aa-1111-7000-8000-0000000000x1",
            "0194f0aa-1111-7000-8000-0000000000a1 ",
            "0194f0aa-1111-7000-8000-00000000001a",
            "0914f0aa-1111-7000-8000-0000000000a1",
            "0194f0aa-111-7000-8000-0000000000a1",
        ] {
            assert_eq!(near(wanted).as_deref(), Some(ids[0]), "{wanted}");
        }
        for none in [
            "0194f0aa-1111-7000-8000-0000000000",
            "0194f0aa",
            "0194f0aa-1111-7000-8000-0000000000c3",
            "a1",
            "",
            "job",
        ] {
            assert_eq!(near(none), None, "{none}");
        }
    }
}
