//! The latest changes, kept so that a reader that was away can go on where it stopped.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use super::Engine;
use crate::event::ChangeEvent;

/// Changes that are kept: a reader that missed more starts again from a snapshot.
pub(super) const KEPT: usize = 4096;

/// How far a reader is in the stream of changes. As text it is `<stream>-<sequence>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventPosition {
    /// The stream: each start of the engine begins another.
    pub stream: Uuid,
    /// [`ChangeEvent::sequence`] of the last change that was read, 0 for none.
    pub sequence: u64,
}

impl std::fmt::Display for EventPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.stream.simple(), self.sequence)
    }
}

/// A text that is no [`EventPosition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position in the stream of events is <stream>-<number>")]
pub struct BadEventPosition;

impl std::str::FromStr for EventPosition {
    type Err = BadEventPosition;

    fn from_str(text: &str) -> Result<Self, BadEventPosition> {
        let (stream, sequence) = text.split_once('-').ok_or(BadEventPosition)?;
        let stream = Uuid::try_parse(stream).map_err(|_| BadEventPosition)?;
        let digits = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
        let sequence = sequence.parse().ok().filter(|_| digits).ok_or(BadEventPosition)?;
        Ok(Self { stream, sequence })
    }
}

/// What [`Engine::events`] found.
#[derive(Debug, Clone)]
pub struct Events {
    /// Changes in order, without a gap unless `lost`. Numbers may leave some out: those of changes
    /// that nobody is told of.
    pub events: Vec<ChangeEvent>,
    /// From here the reader goes on.
    pub position: EventPosition,
    /// What the reader asked for is not there any more: it was away for too long, or the engine was
    /// started anew. It must read everything again ([`Engine::snapshot`]) and go on from `position`;
    /// what the snapshot has and is told again does no harm.
    pub lost: bool,
}

/// The latest changes.
#[derive(Debug)]
pub(crate) struct Recent {
    stream: Uuid,
    kept: VecDeque<ChangeEvent>,
    /// Number of the last change that was dropped.
    dropped: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { stream: Uuid::new_v4(), kept: VecDeque::new(), dropped: 0 }
    }
}

impl Recent {
    pub(crate) fn push(&mut self, event: ChangeEvent) {
        if self.kept.len() >= KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            self.dropped = oldest.sequence;
        }
        self.kept.push_back(event);
    }

    /// Changes behind `after`, `most` at most, when the last change has the number `last`.
    fn since(&self, after: Option<EventPosition>, most: usize, last: u64) -> Events {
        let at = |sequence| EventPosition { stream: self.stream, sequence };
        let Some(after) = after else {
            return Events { events: Vec::new(), position: at(last), lost: false };
        };
        let known = (self.dropped..=last).contains(&after.sequence);
        if after.stream != self.stream || !known {
            return Events { events: Vec::new(), position: at(last), lost: true };
        }
        let first = self.kept.partition_point(|event| event.sequence <= after.sequence);
        let events: Vec<_> = self.kept.range(first..).take(most).cloned().collect();
        let whole = first.saturating_add(events.len()) == self.kept.len();
        let read = events.last().map_or(after.sequence, |event| event.sequence);
        Events { events, position: at(if whole { last } else { read }), lost: false }
    }
}

impl Engine {
    /// Changes behind `after`, `most` at most; without `after` none, but the position from which a
    /// reader goes on. Never waits for the medium. With [`Engine::subscribe`] a reader learns that
    /// there is more.
    #[must_use]
    pub fn events(&self, after: Option<EventPosition>, most: usize) -> Events {
        let state = self.shared.state.lock();
        state.recent.since(after, most, state.sequence)
    }

    /// [`Engine::events`], but waits up to `timeout` until there is one, or the engine stops.
    #[must_use]
    pub fn wait_events(&self, after: EventPosition, most: usize, timeout: Duration) -> Events {
        let found = self.shared.wait_until(Some(timeout), |state| {
            let found = state.recent.since(Some(after), most.max(1), state.sequence);
            let over = found.lost || !found.events.is_empty() || self.shared.is_stopping();
            over.then_some(found)
        });
        found.unwrap_or_else(|| self.events(Some(after), most))
    }
}
