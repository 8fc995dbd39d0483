//! Sessions of the web page: a cookie instead of the password. They end with the daemon.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use job_engine::{SecretHash, User};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// Without a request for so long, a session ends.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// It ends in any case, and the password must be given again.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3600);

/// Sessions at once; beyond it the one that was used least recently ends.
const MAX_SESSIONS: usize = 1024;

/// A secret that cannot be guessed, as text.
///
/// # Errors
/// There is no randomness.
pub(super) fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// What a secret is recognized by. It has 256 random bits: nothing slower is needed.
pub(super) fn recognize(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Session {
    user: String,
    /// Another password ends the sessions that began with this one.
    password: SecretHash,
    begun: Instant,
    used: Instant,
}

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    by_secret: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// Begins one; its secret.
    ///
    /// # Errors
    /// There is no randomness.
    pub(super) fn begin(&self, user: &User, now: Instant) -> Result<String, getrandom::Error> {
        let secret = secret()?;
        let mut all = self.by_secret.lock();
        all.retain(|_, session| session.is_alive(now));
        if all.len() >= MAX_SESSIONS {
            let oldest = all.iter().min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(secret, _)| secret.clone()) {
                all.remove(&oldest);
            }
        }
        let (user, password) = (user.name.clone(), user.password.clone());
        all.insert(recognize(&secret), Session { user, password, begun: now, used: now });
        Ok(secret)
    }

    /// The user whose session it is; `find` looks users up.
    pub(super) fn user<U: std::ops::Deref<Target = User>>(
        &self,
        secret: &str,
        now: Instant,
        find: impl FnOnce(&str) -> Option<U>,
    ) -> Option<U> {
        let key = recognize(secret);
        let mut all = self.by_secret.lock();
        let session = all.get_mut(&key)?;
        let user = find(&session.user).filter(|user| user.password == session.password);
        match user.filter(|_| session.is_alive(now)) {
            Some(user) => {
                session.used = now;
                Some(user)
            }
            None => {
                all.remove(&key);
                None
            }
        }
    }

    /// Ends one.
    pub(super) fn end(&self, secret: &str) {
        self.by_secret.lock().remove(&recognize(secret));
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < IDLE
            && now.saturating_duration_since(self.begun) < LIFE
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use job_engine::Role;

    use super::*;

    fn user(password: &str) -> User {
        User {
            name: "root".to_owned(),
            role: Role::Viewer,
            password: SecretHash(password.to_owned()),
            created: Timestamp::UNIX_EPOCH,
        }
    }

    fn asks(sessions: &Sessions, secret: &str, now: Instant, user: &User) -> bool {
        sessions.user(secret, now, |name| (name == user.name).then_some(user)).is_some()
    }

    #[test]
    fn a_session_ends_when_it_is_idle_old_signed_out_or_the_password_is_another() {
        let (sessions, now, root) = (Sessions::default(), Instant::now(), user("1"));
        let begin = || sessions.begin(&root, now).unwrap();
        let secret = begin();
        assert!(!asks(&sessions, "guess", now, &root));
        let mut later = now;
        while later + IDLE / 2 < now + LIFE {
            assert!(asks(&sessions, &secret, later, &root));
            later += IDLE / 2;
        }
        assert!(!asks(&sessions, &secret, now + LIFE, &root), "it is old");
        let secret = begin();
        assert!(!asks(&sessions, &secret, now + IDLE, &root), "it was idle");
        let secret = begin();
        assert!(!asks(&sessions, &secret, now, &user("2")), "the password is another");
        assert!(!asks(&sessions, &secret, now, &root), "and it does not come back");
        let secret = begin();
        sessions.end(&secret);
        assert!(!asks(&sessions, &secret, now, &root));
    }

    #[test]
    fn there_are_not_more_than_some() {
        let (sessions, now, root) = (Sessions::default(), Instant::now(), user("1"));
        let first = sessions.begin(&root, now).unwrap();
        for number in 1..=MAX_SESSIONS {
            let later = now + Duration::from_micros(u64::try_from(number).unwrap());
            sessions.begin(&root, later).unwrap();
        }
        assert_eq!(sessions.by_secret.lock().len(), MAX_SESSIONS);
        assert!(!asks(&sessions, &first, now, &root));
    }
}
