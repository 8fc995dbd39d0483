//! Accounts with which initiators prove who they are.

use super::{Refusal, Result, Service, ServiceError};
use crate::api;

impl Service {
    /// All accounts, those of the configuration too.
    #[must_use]
    pub fn chap_accounts(&self) -> Vec<api::ChapAccount> {
        self.host.chap_accounts()
    }

    /// One account.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn chap_account(&self, user: &str) -> Result<api::ChapAccount> {
        let found = self.chap_accounts().into_iter().find(|account| account.user == user);
        let missing = format!("there is no CHAP account `{user}`");
        let missing = || ServiceError::new(Refusal::NotFound, missing);
        found.ok_or_else(|| self.near_chap_account(missing(), user))
    }

    /// Makes an account, or gives one another form. Logins that begin afterwards go by it;
    /// sessions that are there go on.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::Conflict`],
    /// [`Refusal::Unavailable`].
    pub fn set_chap_account(
        &self,
        user: &str,
        request: &api::SetChapAccount,
    ) -> Result<api::ChapAccount> {
        if request.targets.as_ref().is_some_and(Vec::is_empty) {
            let text = "`targets` is empty; without it the account is good for all";
            return Err(ServiceError::new(Refusal::Invalid, text));
        }
        self.host.set_chap_account(user, request)
    }

    /// Takes an account away. Sessions that are there go on.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`],
    /// [`Refusal::Unavailable`].
    pub fn delete_chap_account(&self, user: &str, open: bool) -> Result<()> {
        let deleted = self.host.delete_chap_account(user, open);
        deleted.map_err(|error| self.near_chap_account(error, user))
    }
}
