//! Requests about users and tokens: one transaction each, no job.

use jiff::Timestamp;

use super::core::Core;
use super::state::Change;
use crate::catalogue::{Role, SecretHash, Token, User, check_account_name};
use crate::error::{Cause, RequestError};
use crate::failpoint;

/// Users of one system.
const MAX_USERS: usize = 1024;

/// Tokens of one system.
const MAX_TOKENS: usize = 4096;

/// A change of who may manage the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of `User` and `Token`")]
pub enum AccountChange {
    /// There is a user more.
    CreateUser { name: String, role: Role, password: SecretHash },
    /// A user has another password.
    SetPassword { name: String, password: SecretHash },
    /// A user may do more or less.
    SetRole { name: String, role: Role },
    /// A user is gone.
    DeleteUser { name: String },
    /// There is a token more.
    CreateToken { name: String, role: Role, secret: SecretHash, expires: Option<Timestamp> },
    /// A token is gone.
    DeleteToken { name: String },
}

fn missing(what: &str, name: &str) -> Cause {
    Cause::NotFound { what: what.to_owned(), name: name.to_owned() }
}

/// A name that can be given to a new user or token.
fn check_new(what: &str, name: &str, taken: bool) -> Result<(), Cause> {
    let (what, name) = (what.to_owned(), name.to_owned());
    match check_account_name(&name) {
        Err(reason) => Err(Cause::BadName { what, name, reason: reason.to_string() }),
        Ok(()) if taken => Err(Cause::NameInUse { what, name }),
        Ok(()) => Ok(()),
    }
}

impl Core {
    /// Changes who may manage the daemon.
    pub(crate) fn change_accounts(&mut self, change: AccountChange) -> Result<(), RequestError> {
        let planned = self.plan_accounts(change);
        let change = planned.map_err(|cause| self.refuse(cause, None))?;
        self.commit_request(failpoint::CATALOGUE, vec![change])
    }

    fn plan_accounts(&self, change: AccountChange) -> Result<Change, Cause> {
        let now = self.now();
        let state = self.shared.state.lock();
        let user = |name: &str| state.users.get(name).ok_or_else(|| missing("user", name));
        // Without one nobody could let anybody in, or everybody would be.
        let not_the_last = |gone: &User| {
            let mut others = state.users.values().filter(|user| user.name != gone.name);
            if gone.role == Role::Administrator
                && !others.any(|user| user.role == Role::Administrator)
            {
                return Err(Cause::LastAdministrator { user: gone.name.clone() });
            }
            Ok(())
        };
        match change {
            AccountChange::CreateUser { name, role, password } => {
                check_new("user", &name, state.users.contains_key(&name))?;
                if state.users.len() >= MAX_USERS {
                    return Err(Cause::LimitReached { what: "users".to_owned(), limit: 1024 });
                }
                Ok(Change::PutUser(User { name, role, password, created: now }))
            }
            AccountChange::SetPassword { name, password } => {
                let found = User::clone(user(&name)?);
                Ok(Change::PutUser(User { password, ..found }))
            }
            AccountChange::SetRole { name, role } => {
                let found = user(&name)?;
                if role != Role::Administrator {
                    not_the_last(found)?;
                }
                Ok(Change::PutUser(User { role, ..User::clone(found) }))
            }
            AccountChange::DeleteUser { name } => {
                not_the_last(user(&name)?)?;
                Ok(Change::DeleteUser(name))
            }
            AccountChange::CreateToken { name, role, secret, expires } => {
                check_new("token", &name, state.tokens.contains_key(&name))?;
                if state.tokens.len() >= MAX_TOKENS {
                    return Err(Cause::LimitReached { what: "tokens".to_owned(), limit: 4096 });
                }
                if expires.is_some_and(|at| at <= now) {
                    let (property, reason) =
                        ("expires".to_owned(), "it is over already".to_owned());
                    return Err(Cause::BadValue { property, reason });
                }
                Ok(Change::PutToken(Token { name, role, secret, created: now, expires }))
            }
            AccountChange::DeleteToken { name } if state.tokens.contains_key(&name) => {
                Ok(Change::DeleteToken(name))
            }
            AccountChange::DeleteToken { name } => Err(missing("token", &name)),
        }
    }
}
