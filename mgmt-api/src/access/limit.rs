//! Wrong passwords and tokens are limited, for each address and for each user.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Whose failures are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// An IPv4 address, or the first 64 bits of an IPv6 one: those below are one host's.
    Address(IpAddr),
    /// A user, whether there is one of that name or not.
    User(String),
}

impl Key {
    pub(super) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// Failures at once, and how long until one more is allowed.
    fn rate(&self) -> (u32, Duration) {
        match self {
            Self::Address(_) => (10, Duration::from_secs(6)),
            // More, so that somebody else can hardly lock a user out.
            Self::User(_) => (20, Duration::from_secs(3)),
        }
    }
}

/// Failures that are remembered; beyond it, the one that counts least is forgotten.
const MAX_KEYS: usize = 4096;

/// Failed logins, as leaky buckets: each holds the moment when it will be empty.
#[derive(Debug, Default)]
pub(super) struct Limits {
    empty_at: Mutex<HashMap<Key, Instant>>,
}

impl Limits {
    /// Whether another attempt is allowed; if not, when it will be.
    pub(super) fn check(&self, key: &Key, now: Instant) -> Result<(), Duration> {
        let (burst, interval) = key.rate();
        let Some(empty_at) = self.empty_at.lock().get(key).copied() else { return Ok(()) };
        let level = empty_at.saturating_duration_since(now);
        match level.checked_sub(interval * (burst - 1)) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    /// Counts a failure.
    pub(super) fn failed(&self, key: Key, now: Instant) {
        let (_, interval) = key.rate();
        let mut all = self.empty_at.lock();
        if all.len() >= MAX_KEYS && !all.contains_key(&key) {
            all.retain(|_, empty_at| *empty_at > now);
            if all.len() >= MAX_KEYS {
                let least = all.iter().min_by_key(|(_, empty_at)| **empty_at);
                if let Some(least) = least.map(|(key, _)| key.clone()) {
                    all.remove(&least);
                }
            }
        }
        let empty_at = all.entry(key).or_insert(now);
        *empty_at = (*empty_at).max(now) + interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_attempts_are_allowed_as_time_goes_by() {
        let (limits, now) = (Limits::default(), Instant::now());
        let key = || Key::address([192, 0, 2, 1].into());
        for _ in 0..10 {
            assert_eq!(limits.check(&key(), now), Ok(()));
            limits.failed(key(), now);
        }
        let wait = limits.check(&key(), now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(6));
        assert_eq!(limits.check(&key(), now + wait), Ok(()));
        limits.failed(key(), now + wait);
        assert!(limits.check(&key(), now + wait).is_err());
        assert_eq!(limits.check(&Key::User("root".to_owned()), now), Ok(()), "others are not met");
        assert_eq!(limits.check(&key(), now + Duration::from_secs(120)), Ok(()));
    }

    #[test]
    fn a_host_cannot_take_another_address_of_its_network() {
        let key = |text: &str| Key::address(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_those_that_count_most() {
        let (limits, now) = (Limits::default(), Instant::now());
        for _ in 0..10 {
            limits.failed(Key::address([192, 0, 2, 1].into()), now);
        }
        for number in 0..2 * u32::try_from(MAX_KEYS).unwrap() {
            limits.failed(Key::address((0x0a00_0000 + number).to_be_bytes().into()), now);
        }
        assert_eq!(limits.empty_at.lock().len(), MAX_KEYS);
        assert!(limits.check(&Key::address([192, 0, 2, 1].into()), now).is_err());
    }
}
