//! Accounts with which initiators prove who they are.

use super::{Result, Service};
use crate::api;

impl Service {
    /// All accounts, those of the configuration too.
    #[must_use]
    pub fn chap_accounts(&self) -> Vec<api::ChapAccount> {
        self.host.chap_accounts()
    }

    /// Makes an account, or gives one another form. Logins that begin afterwards go by it;
    /// sessions that are there go on.
    ///
    /// # Errors
    /// [`Refusal::Invalid`](super::Refusal), [`Refusal::Conflict`](super::Refusal),
    /// [`Refusal::Unavailable`](super::Refusal).
    pub fn set_chap_account(
        &self,
        user: &str,
        request: &api::SetChapAccount,
    ) -> Result<api::ChapAccount> {
        self.host.set_chap_account(user, request)
    }

    /// Takes an account away. Sessions that are there go on.
    ///
    /// # Errors
    /// [`Refusal::NotFound`](super::Refusal), [`Refusal::Conflict`](super::Refusal),
    /// [`Refusal::Unavailable`](super::Refusal).
    pub fn delete_chap_account(&self, user: &str, open: bool) -> Result<()> {
        self.host.delete_chap_account(user, open)
    }
}
