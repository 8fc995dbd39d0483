//! What the engine keeps for others: who may manage the daemon, and what the data path and
//! management protocols want to find again.

use std::sync::Arc;

use super::{AccountChange, Engine};
use crate::catalogue::{AccessStateChange, Role, StoredAccessState, StoredRecord, Token, User};
use crate::error::{Cause, RequestError};
use crate::id::DiskId;

impl Engine {
    /// Changes who may manage the daemon.
    ///
    /// # Errors
    /// `BadName`, `NameInUse`, `BadValue` (the expiry), `NotFound`, `LastAdministrator`,
    /// `LimitReached`, `StoreUnavailable`, `ShuttingDown`.
    pub fn change_accounts(&self, change: AccountChange) -> Result<(), RequestError> {
        self.shared.request(move |core| core.change_accounts(change))
    }

    /// All users by name.
    #[must_use]
    pub fn users(&self) -> Vec<Arc<User>> {
        self.shared.state.lock().users.values().cloned().collect()
    }

    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.shared.state.lock().users.get(name).cloned()
    }

    /// Somebody can let others in: from then on nobody comes in without proof.
    #[must_use]
    pub fn has_administrator(&self) -> bool {
        let state = self.shared.state.lock();
        state.users.values().any(|user| user.role == Role::Administrator)
    }

    /// All tokens by name, expired ones too.
    #[must_use]
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.shared.state.lock().tokens.values().cloned().collect()
    }

    /// Stores a disk's persistent reservations, or that there are none; durable when it returns.
    /// Does not wait for subscribers: one of them may wait for the command that brought this.
    ///
    /// # Errors
    /// `NotFound`, `StoreUnavailable`, `ShuttingDown`.
    pub fn save_reservations(
        &self,
        disk: DiskId,
        state: Option<Vec<u8>>,
    ) -> Result<(), RequestError> {
        let done = self.shared.call(move |core| core.save_reservations(disk, state));
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }

    /// What [`Engine::save_reservations`] stored.
    #[must_use]
    pub fn reservations(&self, disk: &DiskId) -> Option<Vec<u8>> {
        let state = self.shared.state.lock();
        state.reservations.get(disk).map(|stored| stored.state.clone())
    }

    /// Stores access states of portal groups, all of them or none; durable when it returns. Does
    /// not wait for subscribers, as [`Engine::save_reservations`].
    ///
    /// # Errors
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn save_access_states(&self, changes: Vec<AccessStateChange>) -> Result<(), RequestError> {
        let done = self.shared.call(move |core| core.save_access_states(changes));
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }

    /// What [`Engine::save_access_states`] stored.
    #[must_use]
    pub fn access_states(&self) -> Vec<StoredAccessState> {
        self.shared.state.lock().access_states.values().cloned().collect()
    }

    /// Stores a text under a name for a management protocol, or removes it; durable when it
    /// returns. Does not wait for subscribers, as [`Engine::save_reservations`].
    ///
    /// # Errors
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn save_record(&self, name: String, text: Option<String>) -> Result<(), RequestError> {
        let done = self.shared.call(move |core| core.save_record(name, text));
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }

    /// What [`Engine::save_record`] stored, by name.
    #[must_use]
    pub fn records(&self) -> Vec<StoredRecord> {
        self.shared.state.lock().stored_records()
    }

    /// Stores the saved values of a disk's mode pages; durable when it returns. Does not wait for
    /// subscribers, as [`Engine::save_reservations`].
    ///
    /// # Errors
    /// `NotFound`, `StoreUnavailable`, `ShuttingDown`.
    pub fn save_mode_pages(&self, disk: DiskId, pages: Vec<u8>) -> Result<(), RequestError> {
        let done = self.shared.call(move |core| core.save_mode_pages(disk, pages));
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }

    /// What [`Engine::save_mode_pages`] stored.
    #[must_use]
    pub fn mode_pages(&self, disk: &DiskId) -> Option<Vec<u8>> {
        let state = self.shared.state.lock();
        state.mode_pages.get(disk).map(|stored| stored.pages.clone())
    }
}
