//! Passwords: Argon2id, and a short memory of those that were right.
//!
//! CIM clients send the password with every request, and a check takes tens of milliseconds and
//! 19 MiB on purpose. A password that was right is remembered for minutes, as an HMAC under a key
//! that this process alone knows.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use job_engine::{SecretHash, User};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Semaphore;

/// Checks at once: more would let strangers take the processor from the data path.
const AT_ONCE: usize = 2;

/// Checks that wait for their turn; the next one is refused.
const WAITING: usize = 16;

/// A password is remembered for so long.
const MEMORY: Duration = Duration::from_secs(300);

/// Passwords that are remembered.
const MAX_REMEMBERED: usize = 1024;

/// Shortest and longest password.
const LENGTH: (usize, usize) = (10, 256);

/// So many other checks wait that this one was not made.
#[derive(Debug)]
pub(super) struct Busy;

/// Checks a password that somebody wants to have.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn acceptable(password: &str) -> Result<(), String> {
    let (shortest, longest) = LENGTH;
    if password.chars().count() < shortest {
        return Err(format!("a password has at least {shortest} characters"));
    }
    if password.len() > longest || password.chars().any(char::is_control) {
        return Err(format!("a password has at most {longest} bytes, all of them printable"));
    }
    Ok(())
}

/// What a password is recognized by. Takes its time: not for a reactor's thread.
///
/// # Errors
/// There is no randomness or memory.
pub(super) fn hash(password: &str) -> Result<SecretHash, String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| SecretHash(hash.to_string())).map_err(|error| error.to_string())
}

fn verify(hash: &SecretHash, password: &str) -> bool {
    PasswordHash::new(&hash.0)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// What is checked for a user that does not exist, so that it takes as long.
fn nobody() -> &'static SecretHash {
    static NOBODY: OnceLock<SecretHash> = OnceLock::new();
    NOBODY.get_or_init(|| hash("nobody has this").unwrap_or_else(|_| SecretHash(String::new())))
}

type Recognized = [u8; 32];

struct Remembered {
    /// What the user was recognized by: another password makes this one wrong.
    hash: SecretHash,
    until: Instant,
}

/// Checks passwords.
pub(super) struct Passwords {
    key: [u8; 32],
    remembered: Mutex<HashMap<Recognized, Remembered>>,
    turns: Arc<Semaphore>,
    queue: Semaphore,
}

impl Passwords {
    /// # Errors
    /// There is no randomness.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self {
            key,
            remembered: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            queue: Semaphore::new(AT_ONCE + WAITING),
        })
    }

    fn recognize(&self, name: &str, password: &str) -> Recognized {
        // Any length is a good key.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return [0; 32] };
        mac.update(&name.len().to_be_bytes());
        mac.update(name.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether it was right a moment ago.
    pub(super) fn remembers(&self, user: &User, password: &str) -> bool {
        let recognized = self.recognize(&user.name, password);
        let remembered = self.remembered.lock();
        let found = remembered.get(&recognized);
        found.is_some_and(|it| it.hash == user.password && it.until > Instant::now())
    }

    /// Whether the password is the user's. Without a user it is not, after the same time.
    pub(super) async fn check(
        &self,
        user: Option<Arc<User>>,
        password: &str,
    ) -> Result<bool, Busy> {
        let _place = self.queue.try_acquire().map_err(|_| Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Busy)?;
        let (hash, text) = (user.as_ref().map(|user| user.password.clone()), password.to_owned());
        let right = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match hash {
                Some(hash) => verify(&hash, &text),
                None => {
                    verify(nobody(), &text);
                    false
                }
            }
        });
        let right = right.await.map_err(|_| Busy)?;
        if let Some(user) = user.filter(|_| right) {
            self.remember(&user, password);
        }
        Ok(right)
    }

    fn remember(&self, user: &User, password: &str) {
        let recognized = self.recognize(&user.name, password);
        let now = Instant::now();
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, it| it.until > now);
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        let hash = user.password.clone();
        remembered.insert(recognized, Remembered { hash, until: now + MEMORY });
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use jiff::Timestamp;
    use job_engine::Role;

    use super::*;

    fn user(password: &str) -> Arc<User> {
        Arc::new(User {
            name: "root".to_owned(),
            role: Role::Administrator,
            password: hash(password).unwrap(),
            created: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn hashes_are_phc_strings_of_argon2id_with_a_salt() {
        let (one, two) = (hash("correct horse").unwrap(), hash("correct horse").unwrap());
        assert!(one.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.0);
        assert_ne!(one, two);
        assert!(verify(&one, "correct horse") && verify(&two, "correct horse"));
        assert!(!verify(&one, "correct horsf") && !verify(&SecretHash(String::new()), ""));
    }

    #[test]
    fn short_and_unprintable_passwords_are_refused() {
        for bad in ["", "short", "123456789", "with\na newline", &"x".repeat(257)] {
            assert!(acceptable(bad).is_err(), "{bad:?}");
        }
        for good in ["1234567890", "größer als zehn", ":::::::::::"] {
            assert!(acceptable(good).is_ok(), "{good:?}");
        }
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_until_it_is_another() {
        let passwords = Passwords::new().unwrap();
        let before = user("correct horse");
        assert!(!passwords.remembers(&before, "correct horse"));
        assert!(passwords.check(Some(before.clone()), "correct horse").await.unwrap());
        assert!(passwords.remembers(&before, "correct horse"));
        assert!(!passwords.remembers(&before, "correct horsf"));
        assert!(!passwords.remembers(&user("battery staple"), "correct horse"));
        assert!(!passwords.check(Some(before.clone()), "wrong horses").await.unwrap());
        assert!(!passwords.remembers(&before, "wrong horses"));
        assert!(!passwords.check(None, "nobody has this").await.unwrap());
    }

    #[tokio::test]
    async fn beyond_a_few_that_wait_checks_are_refused() {
        let passwords = Passwords::new().unwrap();
        let turns = passwords.turns.acquire_many(2).await.unwrap();
        let check = || passwords.check(None, "x");
        let mut waiting: Vec<_> = (0..AT_ONCE + WAITING).map(|_| Box::pin(check())).collect();
        let mut nobody = Context::from_waker(Waker::noop());
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut nobody).is_pending());
        }
        assert!(check().await.is_err());
        drop(turns);
        assert!(!waiting.remove(0).await.unwrap());
    }
}
