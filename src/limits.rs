//! What the system lets the daemon have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Files besides connections: disks, the database, management clients.
const OTHER_FILES: usize = 1024;

/// Raises the soft limit of open files to the hard one, and says so if that is not enough for the
/// connections that the configuration allows. The soft limit is for programs that use `select`.
pub(crate) fn raise_open_files(config: &Config) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let wanted = config.max_sessions + config.max_logins + OTHER_FILES;
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|it| *it < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "fewer files can be open than iscsi.max_sessions and iscsi.max_logins need \
             (LimitNOFILE, ulimit -n)"
        );
    }
}
