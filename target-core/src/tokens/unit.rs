//! What a unit knows of the tokens for its data: a write that changes what one represents ends it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::{End, Token};

/// The tokens that represent data of a unit.
#[derive(Debug, Default)]
pub(crate) struct UnitTokens {
    /// There are some. Almost always false, and written only when that changes, so that writes
    /// share nothing but a line of memory that they all read.
    any: AtomicBool,
    tokens: Mutex<Vec<Arc<Token>>>,
}

impl UnitTokens {
    /// Takes note that bytes are about to change. Called inside the unit's exclusion, in front of
    /// the change: who reads, then finds its token good, has read what was there before.
    pub(crate) fn changing(&self, range: &Range<u64>) {
        // Tokens come to be while nobody else is inside (`UnitTokens::add`), so nobody who is inside
        // overlooks one.
        if self.any.load(Ordering::Relaxed) {
            self.end_where(End::Revoked, |token| token.represents(range));
        }
    }

    /// Ends all of them.
    pub(crate) fn end_all(&self, end: End) {
        self.end_where(end, |_| true);
    }

    #[cold]
    fn end_where(&self, end: End, concerns: impl Fn(&Token) -> bool) {
        let now = Instant::now();
        let mut tokens = self.tokens.lock();
        tokens.retain(|token| {
            if concerns(token) {
                token.end(end);
            }
            token.state(now).is_ok()
        });
        self.any.store(!tokens.is_empty(), Ordering::Relaxed);
    }

    /// Adds one. Called while no other command is inside the unit.
    ///
    /// Where there are `max` already, the oldest that the same initiator made and nobody uses is
    /// revoked. False if there is none.
    pub(super) fn add(&self, token: &Arc<Token>, max: usize, now: Instant) -> bool {
        let mut tokens = self.tokens.lock();
        tokens.retain(|token| token.state(now).is_ok());
        if tokens.len() >= max {
            let idle = |it: &Arc<Token>| it.initiator == token.initiator && !it.is_in_use();
            let Some(oldest) = tokens.iter().position(idle) else { return false };
            tokens.remove(oldest).end(End::Revoked);
        }
        tokens.push(token.clone());
        self.any.store(true, Ordering::Relaxed);
        true
    }
}
