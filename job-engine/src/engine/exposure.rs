//! Requests about targets and mappings: one transaction each, no job.

use std::sync::Arc;

use super::core::Core;
use super::state::{Change, State};
use super::{AccessChange, MapRequest, TargetRequest};
use crate::catalogue::{
    AccessEntry, AccessStateChange, Disk, InvalidEntry, MAX_LUN, Mapping, StoredModePages,
    StoredRecord, StoredReservations, Target, check_iscsi_name, default_target_name,
    lowest_free_lun,
};
use crate::error::{Cause, RequestError};
use crate::failpoint;
use crate::id::DiskId;
use crate::job::Element;

/// LUNs of one target.
pub(super) const MAX_MAPPINGS: usize = 256;

/// Targets of one system.
pub(super) const MAX_TARGETS: usize = 1024;

/// Access entries of one target.
pub(super) const MAX_ENTRIES: usize = 1024;

/// Longest `TargetAlias` in bytes (RFC 7143 §13.7: a text value of up to 255 bytes).
const MAX_ALIAS: usize = 255;

pub(super) fn normalized(entry: AccessEntry) -> Result<AccessEntry, Cause> {
    let InvalidEntry { property, reason } = match entry.normalized() {
        Ok(entry) => return Ok(entry),
        Err(invalid) => invalid,
    };
    Err(Cause::BadValue { property, reason })
}

pub(super) fn check_name(name: &str) -> Result<(), Cause> {
    check_iscsi_name(name).map_err(|reason| {
        let (what, name) = ("target".to_owned(), name.to_owned());
        Cause::BadName { what, name, reason: reason.to_string() }
    })
}

pub(super) fn check_alias(alias: &str) -> Result<(), Cause> {
    if alias.len() > MAX_ALIAS || alias.chars().any(char::is_control) {
        return Err(Cause::BadValue {
            property: "TargetAlias".to_owned(),
            reason: "it has at most 255 bytes and no control characters".to_owned(),
        });
    }
    Ok(())
}

/// Entries in the form in which they are kept.
pub(super) fn distinct_entries(list: Vec<AccessEntry>) -> Result<Vec<AccessEntry>, Cause> {
    let mut entries: Vec<AccessEntry> = Vec::with_capacity(list.len());
    for entry in list {
        let entry = normalized(entry)?;
        if entries.iter().any(|other| other.concerns_same(&entry)) {
            let reason = "each initiator and address stands once".to_owned();
            return Err(Cause::BadValue { property: shown(&entry), reason });
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Whether a target can be made.
pub(super) fn check_target(state: &State, name: &str, alias: &str) -> Result<(), Cause> {
    check_name(name)?;
    check_alias(alias)?;
    if state.targets.contains_key(name) {
        return Err(Cause::NameInUse { what: "target".to_owned(), name: name.to_owned() });
    }
    if state.targets.len() >= MAX_TARGETS {
        return Err(Cause::LimitReached { what: "targets".to_owned(), limit: 1024 });
    }
    Ok(())
}

/// An entry by its conditions.
fn shown(entry: &AccessEntry) -> String {
    let address = entry.address.map(|it| it.to_string());
    let conditions = [("initiator", entry.initiator.as_ref()), ("address", address.as_ref())];
    let given =
        conditions.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    given.collect::<Vec<_>>().join(" at ")
}

impl Core {
    pub(crate) fn create_target(&mut self, request: TargetRequest) -> Result<Target, RequestError> {
        let name = default_target_name(&request.name);
        let checked = check_target(&self.shared.state.lock(), &name, &request.alias);
        if let Err(cause) = checked {
            return Err(self.refuse(cause, None));
        }
        let target = Target { name, alias: request.alias, created: self.now(), access: None };
        let changes = vec![Change::PutTarget(target.clone())];
        self.commit_request(failpoint::CATALOGUE, changes)?;
        Ok(target)
    }

    /// Changes who may use a target.
    pub(crate) fn change_access(
        &mut self,
        name: &str,
        change: AccessChange,
    ) -> Result<Target, RequestError> {
        let element = Element::Target(name.to_owned());
        let planned = self.plan_access(name, change);
        let (target, same) = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        if !same {
            let changes = vec![Change::PutTarget(target.clone())];
            self.commit_request(failpoint::CATALOGUE, changes)?;
        }
        Ok(target)
    }

    /// The target as it will be, and whether it is that already.
    fn plan_access(&self, name: &str, change: AccessChange) -> Result<(Target, bool), Cause> {
        let found = self.shared.state.lock().targets.get(name).cloned();
        let Some(found) = found else {
            return Err(Cause::NotFound { what: "target".to_owned(), name: name.to_owned() });
        };
        let mut entries = found.access.clone().unwrap_or_default();
        let access = match change {
            AccessChange::Open => None,
            AccessChange::Replace(list) => Some(distinct_entries(list)?),
            AccessChange::Allow(entry) => {
                let entry = normalized(entry)?;
                match entries.iter_mut().find(|other| other.concerns_same(&entry)) {
                    Some(other) => *other = entry,
                    None => entries.push(entry),
                }
                Some(entries)
            }
            AccessChange::Disallow { initiator, address } => {
                let gone = normalized(AccessEntry { initiator, address, ..Default::default() })?;
                let before = entries.len();
                entries.retain(|other| !other.concerns_same(&gone));
                if entries.len() == before {
                    let name = format!("{} of target {name}", shown(&gone));
                    return Err(Cause::NotFound { what: "access entry".to_owned(), name });
                }
                Some(entries)
            }
        };
        if access.as_ref().is_some_and(|entries| entries.len() > MAX_ENTRIES) {
            let what = format!("access entries of target {name}");
            return Err(Cause::LimitReached { what, limit: 1024 });
        }
        let same = access == found.access;
        Ok((Target { access, ..Target::clone(&found) }, same))
    }

    pub(crate) fn delete_target(&mut self, name: &str) -> Result<(), RequestError> {
        let refused = {
            let state = self.shared.state.lock();
            let mappings = state.mappings.keys().filter(|(target, _)| target == name).count();
            if !state.targets.contains_key(name) {
                Some(Cause::NotFound { what: "target".to_owned(), name: name.to_owned() })
            } else if mappings > 0 {
                Some(Cause::TargetInUse { target: name.to_owned(), mappings })
            } else {
                None
            }
        };
        if let Some(cause) = refused {
            return Err(self.refuse(cause, Some(&Element::Target(name.to_owned()))));
        }
        let of_target = |target: &Option<String>| target.as_deref() == Some(name);
        let mut changes = vec![Change::DeleteTarget(name.to_owned())];
        for (group, target) in self.shared.state.lock().access_states.keys() {
            if of_target(target) {
                changes.push(Change::DeleteAccessState { group: *group, target: target.clone() });
            }
        }
        self.commit_request(failpoint::CATALOGUE, changes)
    }

    pub(crate) fn map(&mut self, request: MapRequest) -> Result<Mapping, RequestError> {
        let element = Element::Disk(request.disk);
        let planned = self.plan_mapping(request);
        let mapping = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let changes = vec![Change::PutMapping(mapping.clone())];
        self.commit_request(failpoint::CATALOGUE, changes)?;
        Ok(mapping)
    }

    fn plan_mapping(&self, request: MapRequest) -> Result<Mapping, Cause> {
        let MapRequest { disk, target, lun } = request;
        let state = self.shared.state.lock();
        let Some(found) = state.disks.get(&disk) else {
            return Err(Cause::NotFound { what: "disk".to_owned(), name: disk.to_string() });
        };
        if !state.targets.contains_key(&target) {
            return Err(Cause::NotFound { what: "target".to_owned(), name: target });
        }
        if let Some(job) = state.claim(disk) {
            return Err(Cause::DiskInUse {
                disk: found.name.clone(),
                holder: format!("job {job}"),
            });
        }
        let of_target = || state.mappings.values().filter(|mapping| mapping.target == target);
        if let Some(mapping) = of_target().find(|mapping| mapping.disk == disk) {
            let name = format!("of disk {} as LUN {} of {target}", found.name, mapping.lun);
            return Err(Cause::NameInUse { what: "mapping".to_owned(), name });
        }
        if of_target().count() >= MAX_MAPPINGS {
            let what = format!("LUNs of target {target}");
            return Err(Cause::LimitReached { what, limit: 256 });
        }
        let lun = match lun {
            Some(lun) if lun > MAX_LUN => {
                return Err(Cause::BadValue {
                    property: format!("LUN {lun}"),
                    reason: format!("the highest LUN is {MAX_LUN}"),
                });
            }
            Some(lun) if of_target().any(|mapping| mapping.lun == lun) => {
                let name = format!("{lun} of target {target}");
                return Err(Cause::NameInUse { what: "LUN".to_owned(), name });
            }
            Some(lun) => lun,
            None => lowest_free_lun(of_target().map(|mapping| mapping.lun)).unwrap_or(MAX_LUN),
        };
        Ok(Mapping { disk, target, lun })
    }

    /// Has writes to a disk refused, or not any more.
    pub(crate) fn set_read_only(
        &mut self,
        id: DiskId,
        read_only: bool,
    ) -> Result<Arc<Disk>, RequestError> {
        let (found, claimed) = {
            let state = self.shared.state.lock();
            (state.disks.get(&id).cloned(), state.claim(id))
        };
        let Some(disk) = found else {
            let cause = Cause::NotFound { what: "disk".to_owned(), name: id.to_string() };
            return Err(self.refuse(cause, None));
        };
        if disk.read_only == read_only {
            return Ok(disk);
        }
        // A job brings its disk back as it was when the job was planned.
        if let Some(job) = claimed {
            let holder = format!("job {job}");
            let cause = Cause::DiskInUse { disk: disk.name.clone(), holder };
            return Err(self.refuse(cause, Some(&Element::Disk(id))));
        }
        let changed = Disk { read_only, ..Disk::clone(&disk) };
        self.commit_request(
            failpoint::CATALOGUE,
            vec![Change::PutDisk(Box::new(changed.clone()))],
        )?;
        Ok(Arc::new(changed))
    }

    /// Stores what a disk's reservations are now; `None` if there is nothing to keep.
    pub(crate) fn save_reservations(
        &mut self,
        disk: DiskId,
        state: Option<Vec<u8>>,
    ) -> Result<(), RequestError> {
        let (known, stored) = {
            let now = self.shared.state.lock();
            (now.disks.contains_key(&disk), now.reservations.contains_key(&disk))
        };
        let changes = match state {
            Some(_) if !known => {
                let cause = Cause::NotFound { what: "disk".to_owned(), name: disk.to_string() };
                return Err(self.refuse(cause, None));
            }
            Some(state) => vec![Change::PutReservations(StoredReservations { disk, state })],
            None if stored => vec![Change::DeleteReservations(disk)],
            None => return Ok(()),
        };
        self.commit_request(failpoint::CATALOGUE, changes)
    }

    /// Stores access states of portal groups, all of them or none.
    pub(crate) fn save_access_states(
        &mut self,
        changes: Vec<AccessStateChange>,
    ) -> Result<(), RequestError> {
        let change = |change| match change {
            AccessStateChange::Put(stored) => Change::PutAccessState(stored),
            AccessStateChange::Delete { group, target } => {
                Change::DeleteAccessState { group, target }
            }
        };
        self.commit_request(failpoint::CATALOGUE, changes.into_iter().map(change).collect())
    }

    /// Stores a text under a name, or removes it.
    pub(crate) fn save_record(
        &mut self,
        name: String,
        text: Option<String>,
    ) -> Result<(), RequestError> {
        let change = match text {
            Some(text) => Change::PutRecord(StoredRecord { name, text }),
            None => Change::DeleteRecord(name),
        };
        self.commit_request(failpoint::CATALOGUE, vec![change])
    }

    /// Stores the saved values of a disk's mode pages.
    pub(crate) fn save_mode_pages(
        &mut self,
        disk: DiskId,
        pages: Vec<u8>,
    ) -> Result<(), RequestError> {
        if !self.shared.state.lock().disks.contains_key(&disk) {
            let cause = Cause::NotFound { what: "disk".to_owned(), name: disk.to_string() };
            return Err(self.refuse(cause, None));
        }
        let changes = vec![Change::PutModePages(StoredModePages { disk, pages })];
        self.commit_request(failpoint::CATALOGUE, changes)
    }

    pub(crate) fn unmap(&mut self, target: &str, lun: u16) -> Result<(), RequestError> {
        let key = (target.to_owned(), lun);
        if !self.shared.state.lock().mappings.contains_key(&key) {
            let name = format!("of LUN {lun} of target {target}");
            let cause = Cause::NotFound { what: "mapping".to_owned(), name };
            return Err(self.refuse(cause, Some(&Element::Target(target.to_owned()))));
        }
        let changes = vec![Change::DeleteMapping { target: target.to_owned(), lun }];
        self.commit_request(failpoint::CATALOGUE, changes)
    }
}
