//! The UNIX socket for `lunctl`, and who the users of this machine are.

use std::ffi::CString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use job_engine::Role;
use mgmt_api::listen::{Local, LocalUser};
use nix::unistd::{Uid, User, getgrouplist};
use tokio::net::{UnixListener, UnixStream};

use crate::config::Management;

/// The socket; its file goes with it.
pub(crate) struct Socket {
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the socket, if there shall be one.
///
/// # Errors
/// Somebody else has it, or there is no permission.
pub(crate) async fn listen(management: &Management) -> anyhow::Result<Option<(Socket, Local)>> {
    let Some(path) = &management.socket else { return Ok(None) };
    let cannot = || format!("cannot listen on {} (management.socket)", path.display());
    remove_stale(path).await.with_context(cannot)?;
    let listener = UnixListener::bind(path).with_context(cannot)?;
    let socket = Socket { path: path.clone() };
    // Whoever came in between is asked who they are all the same.
    let mode = if management.socket_group.is_some() { 0o660 } else { 0o600 };
    if let Some(group) = management.socket_group {
        std::os::unix::fs::chown(path, None, Some(group)).with_context(cannot)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).with_context(cannot)?;
    let groups = management.groups.clone();
    Ok(Some((socket, Local::new(listener, Arc::new(move |uid| look_up(uid, &groups))))))
}

/// What a crash left behind is removed; what is no socket, or of another daemon, is not.
async fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => bail!("there is a file that is no socket"),
        Ok(_) if UnixStream::connect(path).await.is_ok() => bail!("another process uses it"),
        Ok(_) => Ok(std::fs::remove_file(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Root and the daemon's own user may do everything; others what their groups may.
fn look_up(uid: u32, groups: &[(u32, Role)]) -> LocalUser {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.as_ref().map(|user| user.name.clone());
    if uid == 0 || uid == Uid::effective().as_raw() {
        return LocalUser { name, role: Some(Role::Administrator) };
    }
    let member_of = user.and_then(|user| {
        let name = CString::new(user.name).ok()?;
        getgrouplist(&name, user.gid).ok()
    });
    let member_of = member_of.unwrap_or_default();
    let of_member =
        groups.iter().filter(|(group, _)| member_of.iter().any(|it| it.as_raw() == *group));
    LocalUser { name, role: of_member.map(|(_, role)| *role).max() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_do_everything_and_others_what_their_groups_may() {
        assert_eq!(look_up(0, &[]).role, Some(Role::Administrator));
        let daemon = User::from_name("daemon").unwrap().unwrap();
        let (uid, gid) = (daemon.uid.as_raw(), daemon.gid.as_raw());
        assert_eq!(look_up(uid, &[]), LocalUser { name: Some("daemon".to_owned()), role: None });
        let groups = [(gid, Role::Viewer), (gid, Role::Operator), (0, Role::Administrator)];
        assert_eq!(look_up(uid, &groups).role, Some(Role::Operator), "the most that one allows");
        assert_eq!(look_up(4_000_000_000, &groups), LocalUser::default());
    }
}
