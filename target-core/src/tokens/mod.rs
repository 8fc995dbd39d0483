//! ROD tokens (SPC-4 §5.17.6, SBC-3 §4.27): what a node has made for copies and still knows.
//!
//! A token stands for data as it was when the token was made (point in time copy, change
//! vulnerable). No data is kept: a write to what it stands for ends it, and whoever copies finds
//! out behind each read.

mod unit;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use scsi::copy::{MAX_LIFETIME_SECONDS, RANDOM_LENGTH, Represented, TOKEN_LENGTH, identifier_of};
use scsi::{AdditionalSense, Sense};

pub(crate) use self::unit::UnitTokens;
use crate::unit::LogicalUnit;

/// Tokens of one unit at once.
const MAX_A_UNIT: usize = 256;
/// Tokens that are known, those included that have ended and of which it is known why.
const MAX_KNOWN: usize = 4096;

/// Why a token is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    /// What it represents has changed, or there were too many.
    Revoked = 1,
    /// Nobody has used it for too long.
    Expired,
    /// Its unit was reset or is gone.
    Cancelled,
    /// Its initiator did not need it any more.
    Deleted,
}

impl End {
    /// INVALID TOKEN OPERATION.
    pub(crate) const fn sense(self) -> Sense {
        Sense::illegal(match self {
            Self::Revoked => AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_REVOKED,
            Self::Expired => AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_EXPIRED,
            Self::Cancelled => AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_CANCELLED,
            Self::Deleted => AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_DELETED,
        })
    }
}

/// What a token is made for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Who asks for it, and through which target.
    pub(crate) initiator: String,
    pub(crate) target: String,
    pub(crate) rod_type: u32,
    pub(crate) inactivity: Duration,
    /// Bytes of the unit, in the token's order.
    pub(crate) ranges: Vec<Range<u64>>,
}

/// A token.
#[derive(Debug)]
pub(crate) struct Token {
    bytes: Box<[u8; TOKEN_LENGTH]>,
    initiator: String,
    unit: Weak<LogicalUnit>,
    ranges: Vec<Range<u64>>,
    born: Instant,
    inactivity: Duration,
    /// Commands that use it, and when one last did.
    usage: Mutex<(u32, Instant)>,
    /// [`End`]; 0 while it is good.
    end: AtomicU8,
}

impl Token {
    /// The 512 bytes.
    pub(crate) fn bytes(&self) -> &[u8; TOKEN_LENGTH] {
        &self.bytes
    }

    /// Where the data is; none if the unit is gone.
    pub(crate) fn unit(&self) -> Option<Arc<LogicalUnit>> {
        self.unit.upgrade()
    }

    /// What it represents, in its order.
    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn represents(&self, range: &Range<u64>) -> bool {
        self.ranges.iter().any(|own| own.start < range.end && range.start < own.end)
    }

    fn is_in_use(&self) -> bool {
        self.usage.lock().0 > 0
    }

    /// Ends it; the first reason counts.
    fn end(&self, end: End) {
        let _ = self.end.compare_exchange(0, end as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether it still represents what it did.
    pub(crate) fn check(&self) -> Result<(), End> {
        match self.end.load(Ordering::Acquire) {
            0 => Ok(()),
            1 => Err(End::Revoked),
            2 => Err(End::Expired),
            3 => Err(End::Cancelled),
            _ => Err(End::Deleted),
        }
    }

    /// The same, and whether it is still in time.
    fn state(&self, now: Instant) -> Result<(), End> {
        let (users, last) = *self.usage.lock();
        let lifetime = Duration::from_secs(MAX_LIFETIME_SECONDS.into());
        let is_idle = now.saturating_duration_since(last) > self.inactivity;
        if users == 0 && (is_idle || now.saturating_duration_since(self.born) > lifetime) {
            self.end(End::Expired);
        }
        if self.unit.strong_count() == 0 {
            self.end(End::Cancelled);
        }
        self.check()
    }
}

/// A token that a copy uses: it does not expire meanwhile.
#[derive(Debug)]
pub(crate) struct InUse {
    token: Arc<Token>,
    delete: bool,
}

impl InUse {
    fn new(token: Arc<Token>) -> Self {
        token.usage.lock().0 += 1;
        Self { token, delete: false }
    }

    /// Whether the token ends with this use of it.
    pub(crate) fn delete(&mut self, delete: bool) {
        self.delete = delete;
    }
}

impl std::ops::Deref for InUse {
    type Target = Token;

    fn deref(&self) -> &Token {
        &self.token
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut usage = self.token.usage.lock();
        *usage = (usage.0.saturating_sub(1), Instant::now());
        if self.delete {
            self.token.end(End::Deleted);
        }
    }
}

/// The tokens of a node.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_identifier: HashMap<u64, Arc<Token>>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl Known {
    /// Makes room for one more. False if all are good.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.order.len() < MAX_KNOWN {
            return true;
        }
        let is_over =
            |it: &u64| self.by_identifier.get(it).is_none_or(|token| token.state(now).is_err());
        let Some(at) = self.order.iter().position(is_over) else { return false };
        if let Some(identifier) = self.order.remove(at) {
            self.by_identifier.remove(&identifier);
        }
        true
    }
}

impl Tokens {
    /// Makes a token for data as it is now. May sleep: no other command is inside the unit
    /// meanwhile.
    ///
    /// # Errors
    /// INSUFFICIENT RESOURCES TO CREATE ROD TOKEN.
    pub(crate) fn make(
        &self,
        unit: &Arc<LogicalUnit>,
        request: Request,
        now: Instant,
    ) -> Result<Arc<Token>, Sense> {
        let exhausted =
            || Sense::illegal(AdditionalSense::INSUFFICIENT_RESOURCES_TO_CREATE_ROD_TOKEN);
        let mut random = [0; RANDOM_LENGTH];
        getrandom::fill(&mut random).map_err(|_| exhausted())?;
        let identifier = self.next.fetch_add(1, Ordering::Relaxed);
        let represented = Represented {
            identifier,
            rod_type: request.rod_type,
            device: unit.device(),
            target: &request.target,
            bytes: request.ranges.iter().map(|range| range.end - range.start).sum(),
        };
        let token = Arc::new(Token {
            bytes: represented.token(&random),
            initiator: request.initiator,
            unit: Arc::downgrade(unit),
            ranges: request.ranges,
            born: now,
            inactivity: request.inactivity,
            usage: Mutex::new((0, now)),
            end: AtomicU8::new(0),
        });
        let mut known = self.known.lock();
        if !known.make_room(now) {
            return Err(exhausted());
        }
        drop(known);
        // Behind every write that has begun, in front of every one that has not.
        if !unit.exclusion().alone(|| unit.tokens().add(&token, MAX_A_UNIT, now)) {
            return Err(exhausted());
        }
        known = self.known.lock();
        known.by_identifier.insert(identifier, token.clone());
        known.order.push_back(identifier);
        Ok(token)
    }

    /// Finds a token by its bytes, to be used.
    ///
    /// # Errors
    /// INVALID TOKEN OPERATION: TOKEN UNKNOWN, CORRUPT, REVOKED, EXPIRED, CANCELLED, DELETED.
    pub(crate) fn find(&self, bytes: &[u8; TOKEN_LENGTH], now: Instant) -> Result<InUse, Sense> {
        let known = self.known.lock();
        let token = known
            .by_identifier
            .get(&identifier_of(bytes))
            .ok_or(Sense::illegal(AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_UNKNOWN))?;
        // In the same time wherever they differ: that must not help to guess.
        let different = token.bytes.iter().zip(bytes).fold(0, |all, (a, b)| all | (a ^ b));
        if std::hint::black_box(different) != 0 {
            return Err(Sense::illegal(AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_CORRUPT));
        }
        token.state(now).map_err(End::sense)?;
        Ok(InUse::new(token.clone()))
    }
}

impl Tokens {
    /// Those that are good, the oldest first.
    pub(crate) fn good(&self, now: Instant) -> Vec<Arc<Token>> {
        let known = self.known.lock();
        let all = known.order.iter().filter_map(|it| known.by_identifier.get(it));
        all.filter(|token| token.state(now).is_ok()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use disk_image::MemImage;
    use scsi::Device;

    use super::*;
    use crate::unit::UnitConfig;

    fn unit() -> Arc<LogicalUnit> {
        let device = Device::new("disk", [0x60; 16], 512, 1 << 20);
        let image = Arc::new(MemImage::new(1 << 20).unwrap());
        LogicalUnit::new(UnitConfig::new("disk", device, Ok(image)))
    }

    /// For the first block.
    fn one(initiator: &str) -> Request {
        request(initiator, std::slice::from_ref(&(0..512)))
    }

    fn request(initiator: &str, ranges: &[Range<u64>]) -> Request {
        Request {
            initiator: initiator.to_owned(),
            target: "iqn.2026-01.org.example:t".to_owned(),
            rod_type: 0x0080_0001,
            inactivity: Duration::from_secs(60),
            ranges: ranges.to_vec(),
        }
    }

    fn asc<T: std::fmt::Debug>(found: Result<T, Sense>) -> AdditionalSense {
        found.unwrap_err().asc
    }

    #[test]
    fn a_token_is_found_by_all_of_its_bytes() {
        let (tokens, unit, now) = (Tokens::default(), unit(), Instant::now());
        let token = tokens.make(&unit, one("a"), now).unwrap();
        let other = tokens.make(&unit, one("a"), now).unwrap();
        assert_ne!(token.bytes(), other.bytes());
        let found = tokens.find(token.bytes(), now).unwrap();
        assert_eq!(found.bytes(), token.bytes());
        drop(found);
        let mut wrong = *token.bytes();
        wrong[511] ^= 1;
        let corrupt = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_CORRUPT;
        assert_eq!(asc(tokens.find(&wrong, now)), corrupt);
        wrong[8] = 0xff;
        let unknown = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_UNKNOWN;
        assert_eq!(asc(tokens.find(&wrong, now)), unknown);
        let mut in_use = tokens.find(token.bytes(), now).unwrap();
        in_use.delete(true);
        drop(in_use);
        let deleted = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_DELETED;
        assert_eq!(asc(tokens.find(token.bytes(), now)), deleted);
    }

    #[test]
    fn a_change_of_what_it_represents_ends_a_token_and_no_other_does() {
        let (tokens, unit, now) = (Tokens::default(), unit(), Instant::now());
        let token = tokens.make(&unit, request("a", &[512..1024, 4096..8192]), now).unwrap();
        for range in [0..512, 1024..4096, 8192..9000] {
            unit.tokens().changing(&range);
            assert_eq!(token.check(), Ok(()), "{range:?}");
        }
        unit.tokens().changing(&(8191..8192));
        assert_eq!(token.check(), Err(End::Revoked));
        let revoked = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_REVOKED;
        assert_eq!(asc(tokens.find(token.bytes(), now)), revoked);
        // The first reason counts.
        unit.tokens().end_all(End::Cancelled);
        assert_eq!(token.check(), Err(End::Revoked));
        let token = tokens.make(&unit, one("a"), now).unwrap();
        drop(unit);
        let cancelled = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_CANCELLED;
        assert_eq!(asc(tokens.find(token.bytes(), now)), cancelled);
    }

    #[test]
    fn a_token_that_nobody_uses_expires() {
        let (tokens, unit, now) = (Tokens::default(), unit(), Instant::now());
        let token = tokens.make(&unit, one("a"), now).unwrap();
        let later = now + Duration::from_secs(61);
        let in_use = tokens.find(token.bytes(), now + Duration::from_secs(60)).unwrap();
        assert!(tokens.find(token.bytes(), later).is_ok());
        drop(in_use);
        // From the last use on.
        assert!(tokens.find(token.bytes(), Instant::now()).is_ok());
        let expired = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_EXPIRED;
        let much_later = Instant::now() + Duration::from_secs(62);
        assert_eq!(asc(tokens.find(token.bytes(), much_later)), expired);
    }

    #[test]
    fn tokens_of_a_unit_are_bounded_and_an_initiator_pushes_out_only_its_own() {
        let (tokens, unit, now) = (Tokens::default(), unit(), Instant::now());
        let make = |name: &str| tokens.make(&unit, one(name), now);
        let first = make("a").unwrap();
        let second = make("a").unwrap();
        let _in_use = tokens.find(first.bytes(), now).unwrap();
        for _ in 2..MAX_A_UNIT {
            make("a").unwrap();
        }
        let exhausted = AdditionalSense::INSUFFICIENT_RESOURCES_TO_CREATE_ROD_TOKEN;
        assert_eq!(asc(make("b")), exhausted);
        make("a").unwrap();
        assert_eq!((first.check(), second.check()), (Ok(()), Err(End::Revoked)));
    }

    #[test]
    fn what_is_known_of_tokens_that_have_ended_is_bounded() {
        let (tokens, unit, now) = (Tokens::default(), unit(), Instant::now());
        let first = tokens.make(&unit, one("a"), now).unwrap();
        for _ in 0..MAX_KNOWN {
            tokens.make(&unit, one("a"), now).unwrap();
        }
        assert_eq!(tokens.known.lock().order.len(), MAX_KNOWN);
        assert_eq!(tokens.known.lock().by_identifier.len(), MAX_KNOWN);
        let unknown = AdditionalSense::INVALID_TOKEN_OPERATION_TOKEN_UNKNOWN;
        assert_eq!(asc(tokens.find(first.bytes(), now)), unknown);
    }
}
