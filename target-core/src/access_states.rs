//! The access states of portal groups (SPC-4 §5.11): as they are configured, as an operator has
//! set them, and as initiators have with SET TARGET PORT GROUPS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use iscsi_proto::Tsih;
use parking_lot::{Mutex, RwLock};
use scsi::{AccessState, AccessStatus, TargetPortGroup};

use crate::connection::Message;
use crate::node::{Node, PortalGroup};

/// What was set: for all targets that are reached through a group, or for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAccessState {
    /// Tag of the portal group.
    pub group: u16,
    /// The target; without it, every target for which nothing else was set.
    pub target: Option<String>,
    /// The state.
    pub state: AccessState,
    /// By an initiator: SET TARGET PORT GROUPS.
    pub explicit: bool,
}

/// Something to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessStateChange {
    /// Instead of what was there for the same group and target.
    Put(StoredAccessState),
    /// What was there for this group and target is no more.
    Delete {
        /// Tag of the portal group.
        group: u16,
        /// The target, if it was set for one.
        target: Option<String>,
    },
}

/// Keeps access states over a restart. May wait for the medium.
pub trait AccessStateStore: Send + Sync {
    /// Stores all of the changes or none. Durable when it returns.
    ///
    /// # Errors
    /// They could not be stored; the text says why.
    fn save(&self, changes: &[AccessStateChange]) -> Result<(), String>;
}

/// Keeps nothing: states end with the process.
#[derive(Debug, Clone, Copy, Default)]
struct NoStore;

impl AccessStateStore for NoStore {
    fn save(&self, _changes: &[AccessStateChange]) -> Result<(), String> {
        Ok(())
    }
}

/// Why a state was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessStateError {
    /// There is no such group.
    #[error("there is no portal group {0}")]
    NoSuchGroup(u16),
    /// There is no such target.
    #[error("there is no target {0}")]
    NoSuchTarget(String),
    /// It could not be stored.
    #[error("the access state cannot be stored: {0}")]
    NotStored(String),
    /// The condition does not hold.
    #[error("something else has changed meanwhile")]
    ChangedMeanwhile,
}

/// A portal group as the management sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalGroupStatus {
    /// Target Portal Group Tag.
    pub tag: u16,
    /// Where it is served.
    pub portals: Vec<SocketAddr>,
    /// PREF.
    pub preferred: bool,
    /// The state that it has where nothing was set.
    pub configured: AccessState,
    /// The state for every target for which nothing else was set.
    pub state: AccessState,
    /// The states that were set for single targets.
    pub targets: Vec<StoredAccessState>,
}

#[derive(Debug, Clone, Copy)]
struct Set {
    state: AccessState,
    status: AccessStatus,
}

/// By group and target.
type Key = (u16, Option<String>);

pub(crate) struct AccessStates {
    set: RwLock<BTreeMap<Key, Set>>,
    /// Held from the decision over the storing to the telling: one change at a time. May be held
    /// while the medium is waited for.
    changing: Mutex<()>,
    store: RwLock<Arc<dyn AccessStateStore>>,
}

impl Default for AccessStates {
    fn default() -> Self {
        let store: Arc<dyn AccessStateStore> = Arc::new(NoStore);
        Self { set: RwLock::default(), changing: Mutex::default(), store: RwLock::new(store) }
    }
}

impl AccessStates {
    fn of(&self, group: u16, target: Option<&str>) -> Option<Set> {
        let set = self.set.read();
        let one = target.and_then(|name| set.get(&(group, Some(name.to_owned()))));
        one.or_else(|| set.get(&(group, None))).copied()
    }

    /// A group of a target as it is reported.
    pub(crate) fn group(
        &self,
        tag: u16,
        of: Option<&PortalGroup>,
        target: &str,
    ) -> TargetPortGroup {
        let (configured, preferred) =
            of.map_or((AccessState::default(), false), |group| (group.state, group.preferred));
        let set = self.of(tag, Some(target));
        TargetPortGroup {
            tag,
            state: set.map_or(configured, |set| set.state),
            status: set.map_or(AccessStatus::NoStatus, |set| set.status),
            preferred,
        }
    }

    /// Nothing that was set for a target counts for another one of its name.
    pub(crate) fn forget(&self, target: &str) {
        let _changing = self.changing.lock();
        self.set.write().retain(|(_, of), _| of.as_deref() != Some(target));
    }

    fn apply(&self, changes: &[AccessStateChange]) {
        Self::put(&mut self.set.write(), changes);
    }

    fn put(set: &mut BTreeMap<Key, Set>, changes: &[AccessStateChange]) {
        for change in changes {
            match change {
                AccessStateChange::Put(put) => {
                    let status =
                        if put.explicit { AccessStatus::Explicit } else { AccessStatus::Implicit };
                    let value = Set { state: put.state, status };
                    set.insert((put.group, put.target.clone()), value);
                }
                AccessStateChange::Delete { group, target } => {
                    set.remove(&(*group, target.clone()));
                }
            }
        }
    }

    /// Stores changes and puts them in force. The caller holds `changing`.
    fn commit(&self, changes: &[AccessStateChange]) -> Result<(), AccessStateError> {
        let store = self.store.read().clone();
        store.save(changes).map_err(|reason| {
            tracing::error!(reason, "an access state cannot be stored");
            AccessStateError::NotStored(reason)
        })?;
        self.apply(changes);
        Ok(())
    }
}

impl Node {
    /// Begins with what was set before a restart, and has changes stored from now on.
    pub fn keep_access_states(
        &self,
        store: Arc<dyn AccessStateStore>,
        stored: impl IntoIterator<Item = StoredAccessState>,
    ) {
        let states = &self.access_states;
        let _changing = states.changing.lock();
        *states.store.write() = store;
        let stored: Vec<_> = stored.into_iter().map(AccessStateChange::Put).collect();
        states.apply(&stored);
    }

    /// Puts in force what `stored` has, and nothing else that was set; every session that sees a
    /// change is told. `stored` is asked while nobody else changes anything.
    pub fn reload_access_states(&self, stored: impl FnOnce() -> Vec<StoredAccessState>) {
        let states = &self.access_states;
        let _changing = states.changing.lock();
        let tags: Vec<u16> = self.portal_groups.read().iter().map(|group| group.tag).collect();
        let targets = self.target_names();
        let seen = || -> Vec<Arc<[TargetPortGroup]>> {
            targets.iter().map(|target| self.groups_of(target, &tags)).collect()
        };
        let before = seen();
        let stored: Vec<_> = stored().into_iter().map(AccessStateChange::Put).collect();
        {
            let mut set = states.set.write();
            set.clear();
            AccessStates::put(&mut set, &stored);
        }
        for ((target, before), after) in targets.iter().zip(before).zip(seen()) {
            let differ = |(before, after): (&TargetPortGroup, &TargetPortGroup)| {
                (before.state != after.state).then_some(after.tag)
            };
            let tags: Vec<u16> = before.iter().zip(after.iter()).filter_map(differ).collect();
            if !tags.is_empty() {
                let groups = self.groups_of(target, &tags);
                self.sessions.send(Some(target), || Message::AccessStates {
                    groups: groups.clone(),
                    told: true,
                });
            }
        }
    }

    /// All portal groups and their states.
    #[must_use]
    pub fn portal_group_statuses(&self) -> Vec<PortalGroupStatus> {
        let states = &self.access_states;
        let groups = self.portal_groups.read().clone();
        let status = |group: PortalGroup| {
            let set = states.set.read();
            let of_target = |((tag, target), set): (&Key, &Set)| {
                (*tag == group.tag && target.is_some()).then(|| StoredAccessState {
                    group: *tag,
                    target: target.clone(),
                    state: set.state,
                    explicit: set.status == AccessStatus::Explicit,
                })
            };
            PortalGroupStatus {
                tag: group.tag,
                preferred: group.preferred,
                configured: group.state,
                state: set.get(&(group.tag, None)).map_or(group.state, |set| set.state),
                targets: set.iter().filter_map(of_target).collect(),
                portals: group.portals,
            }
        };
        groups.into_iter().map(status).collect()
    }

    /// Brings a group into a state, or back into the one that is configured; for one target, or
    /// for all of them, whatever was set for single ones. Every session that sees a change is told
    /// (ASYMMETRIC ACCESS STATE CHANGED). May wait for the medium.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn set_access_state(
        &self,
        group: u16,
        target: Option<&str>,
        state: Option<AccessState>,
    ) -> Result<(), AccessStateError> {
        self.set_access_state_if(group, target, state, || true)
    }

    /// The same, if `holds`: it is asked right before, while no initiator changes any state, and must
    /// change none.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn set_access_state_if(
        &self,
        group: u16,
        target: Option<&str>,
        state: Option<AccessState>,
        holds: impl FnOnce() -> bool,
    ) -> Result<(), AccessStateError> {
        let states = &self.access_states;
        let _changing = states.changing.lock();
        if !holds() {
            return Err(AccessStateError::ChangedMeanwhile);
        }
        if !self.portal_groups.read().iter().any(|it| it.tag == group) {
            return Err(AccessStateError::NoSuchGroup(group));
        }
        if let Some(name) = target
            && !self.has_target(name)
        {
            return Err(AccessStateError::NoSuchTarget(name.to_owned()));
        }
        let whole = target.is_none();
        let mut changes: Vec<_> = {
            let set = states.set.read();
            let gone = set.keys().filter(|(tag, of)| {
                *tag == group && (whole || of.as_deref() == target) && of.is_some()
            });
            gone.map(|(tag, of)| AccessStateChange::Delete { group: *tag, target: of.clone() })
                .collect()
        };
        let target_name = target.map(str::to_owned);
        changes.push(match state {
            Some(state) => AccessStateChange::Put(StoredAccessState {
                group,
                target: target_name,
                state,
                explicit: false,
            }),
            None => AccessStateChange::Delete { group, target: target_name },
        });
        states.commit(&changes)?;
        let told = self.groups_of(target.unwrap_or_default(), &[group]);
        self.sessions.send(target, || Message::AccessStates { groups: told.clone(), told: true });
        Ok(())
    }

    /// SET TARGET PORT GROUPS of the session `by`, of all whose ports of a target are meant. May
    /// wait for the medium.
    pub(crate) fn set_target_port_groups(
        &self,
        target: &str,
        by: Tsih,
        changes: &[(u16, AccessState)],
    ) -> Result<(), AccessStateError> {
        let states = &self.access_states;
        let _changing = states.changing.lock();
        // What is so already stays as it was set.
        let changes: Vec<_> = changes
            .iter()
            .filter(|(group, state)| self.group_of(target, *group).state != *state)
            .copied()
            .collect();
        let put = changes.iter().map(|(group, state)| {
            let (group, target) = (*group, Some(target.to_owned()));
            AccessStateChange::Put(StoredAccessState {
                group,
                target,
                state: *state,
                explicit: true,
            })
        });
        let put: Vec<_> = put.collect();
        if put.is_empty() {
            return Ok(());
        }
        states.commit(&put)?;
        let tags: Vec<u16> = changes.iter().map(|(group, _)| *group).collect();
        let groups = self.groups_of(target, &tags);
        let message = |told| Message::AccessStates { groups: groups.clone(), told };
        self.sessions.send_to(by.0, message(false));
        self.sessions.send_to_others_of(target, by, || message(true));
        Ok(())
    }

    fn group_of(&self, target: &str, tag: u16) -> TargetPortGroup {
        let groups = self.portal_groups.read();
        let of = groups.iter().find(|group| group.tag == tag);
        self.access_states.group(tag, of, target)
    }

    fn groups_of(&self, target: &str, tags: &[u16]) -> Arc<[TargetPortGroup]> {
        tags.iter().map(|tag| self.group_of(target, *tag)).collect()
    }
}
