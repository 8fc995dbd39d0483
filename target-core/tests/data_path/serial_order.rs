//! Whether some serial order explains a history of one place on a disk: each command takes effect
//! at one instant between its start and its end.

use std::collections::HashSet;

/// What a command did to the place; every value is written once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It found this value.
    Read(u64),
    Write(u64),
    /// It found the one value and wrote the other.
    Swap(u64, u64),
    /// It found another value than this one.
    Differs(u64),
}

/// A command with its instants, which are all different.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub start: u64,
    pub end: u64,
    pub effect: Effect,
    /// It was ended from outside: it may have had no effect, but if any, then before its end.
    pub ended: bool,
}

impl Operation {
    fn writes(&self) -> bool {
        matches!(self.effect, Effect::Write(_) | Effect::Swap(..))
    }
}

/// A search in depth, where what changes nothing goes first: it never hurts.
struct Search<'a> {
    history: &'a [Operation],
    /// From these states on nothing leads to the end.
    dead: HashSet<State>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// What has happened, or never does, one bit each.
    settled: Vec<u64>,
    value: u64,
}

impl State {
    fn is_settled(&self, index: usize) -> bool {
        self.settled[index / 64] & 1 << (index % 64) != 0
    }

    fn settle(&mut self, index: usize) {
        self.settled[index / 64] |= 1 << (index % 64);
    }

    fn with(&self, index: usize, value: u64) -> Self {
        let mut state = Self { value, ..self.clone() };
        state.settle(index);
        state
    }
}

impl Search<'_> {
    fn waiting(&self, state: &State) -> impl Iterator<Item = (usize, Operation)> {
        let waits = |(index, _): &(usize, &Operation)| !state.is_settled(*index);
        self.history.iter().enumerate().filter(waits).map(|(index, it)| (index, *it))
    }

    /// What can come next: nothing that waits has ended before it starts.
    fn candidates(&self, state: &State) -> Vec<(usize, Operation)> {
        let first_end = self.waiting(state).map(|(_, it)| it.end).min().unwrap_or(u64::MAX);
        self.waiting(state).filter(|(_, it)| it.start <= first_end).collect()
    }

    /// Settles everything that fits and changes nothing.
    fn observe(&self, state: &mut State) {
        loop {
            let fits = |it: &Operation| match it.effect {
                Effect::Read(value) => value == state.value,
                Effect::Differs(value) => value != state.value,
                Effect::Write(_) | Effect::Swap(..) => false,
            };
            let found: Vec<_> =
                self.candidates(state).into_iter().filter(|(_, it)| fits(it)).collect();
            if found.is_empty() {
                return;
            }
            found.into_iter().for_each(|(index, _)| state.settle(index));
        }
    }

    /// Who still finds a value for certain: all reads, then a swap.
    fn finders(&self, state: &State, value: u64) -> (bool, Option<usize>) {
        let (mut read, mut swap) = (false, None);
        for (index, it) in self.waiting(state).filter(|(_, it)| !it.ended) {
            match it.effect {
                Effect::Read(found) if found == value => read = true,
                Effect::Swap(found, _) if found == value => swap = Some(index),
                _ => {}
            }
        }
        (read, swap)
    }

    /// The states that can come next, the likeliest first.
    fn next(&self, state: &State) -> Vec<State> {
        // A value that is left never comes back: nobody may still have to find it.
        let (read, swap) = self.finders(state, state.value);
        let mut candidates = self.candidates(state);
        let first_end = candidates.iter().map(|(_, it)| it.end).min();
        candidates.sort_by_key(|(_, it)| (it.ended, it.end));
        let mut next = Vec::new();
        for (index, it) in candidates {
            let new = match it.effect {
                Effect::Write(new) if swap.is_none() => new,
                Effect::Swap(found, new)
                    if found == state.value && swap.is_none_or(|swap| swap == index) =>
                {
                    new
                }
                _ => continue,
            };
            if !read {
                next.push(state.with(index, new));
            }
        }
        for (index, it) in self.candidates(state) {
            let (Effect::Write(new) | Effect::Swap(_, new)) = it.effect else { continue };
            if it.ended && Some(it.end) == first_end && self.finders(state, new) == (false, None) {
                // It never happens.
                next.push(state.with(index, state.value));
            }
        }
        next
    }

    fn explain(&mut self, mut state: State) -> bool {
        self.observe(&mut state);
        if self.waiting(&state).all(|(_, it)| it.ended) {
            return true;
        }
        if self.dead.contains(&state) {
            return false;
        }
        for next in self.next(&state) {
            if self.explain(next) {
                return true;
            }
        }
        self.dead.insert(state);
        false
    }
}

/// Whether the history of a place that held `first` can be explained.
pub fn is_explained(first: u64, history: &[Operation]) -> bool {
    let settled = vec![0; history.len().div_ceil(64)];
    let mut search = Search { history, dead: HashSet::new() };
    search.explain(State { settled, value: first })
}

/// The operations around the first one that no order explains, by their ends; `None` if the whole
/// history is explained.
pub fn contradiction(first: u64, history: &[Operation]) -> Option<Vec<Operation>> {
    if is_explained(first, history) {
        return None;
    }
    let mut by_end = history.to_vec();
    by_end.sort_by_key(|it| it.end);
    // What is known when so many have ended: those, and that the others may have happened.
    let known = |count: usize| {
        let (ended, open) = by_end.split_at(count);
        let now = ended.last().map_or(0, |it| it.end);
        let begun = open.iter().filter(|it| it.start < now && it.writes());
        let begun = begun.map(|it| Operation { end: u64::MAX, ended: true, ..*it });
        ended.iter().copied().chain(begun).collect::<Vec<_>>()
    };
    let (mut explained, mut refuted) = (0, by_end.len());
    while refuted - explained > 1 {
        let middle = usize::midpoint(explained, refuted);
        if is_explained(first, &known(middle)) { explained = middle } else { refuted = middle }
    }
    let culprit = by_end[refuted - 1];
    // And where the value that it found comes from.
    let found = |it: &Operation| match (culprit.effect, it.effect) {
        (
            Effect::Read(found) | Effect::Swap(found, _),
            Effect::Write(new) | Effect::Swap(_, new),
        ) => found == new,
        _ => false,
    };
    let near = known(refuted).into_iter().filter(|it| it.end >= culprit.start || found(it));
    Some(near.collect())
}

#[cfg(test)]
mod tests {
    use super::Effect::{Differs, Read, Swap, Write};
    use super::*;

    fn explained(history: &[(u64, u64, Effect)]) -> bool {
        let whole = |&(start, end, effect)| Operation { start, end, effect, ended: false };
        is_explained(0, &history.iter().map(whole).collect::<Vec<_>>())
    }

    /// The first is ended from outside.
    fn explained_with_end(history: &[(u64, u64, Effect)]) -> bool {
        let mut whole: Vec<_> = history
            .iter()
            .map(|&(start, end, effect)| Operation { start, end, effect, ended: false })
            .collect();
        whole[0].ended = true;
        is_explained(0, &whole)
    }

    #[test]
    fn what_happens_one_after_the_other_has_one_order() {
        assert!(explained(&[(1, 2, Read(0)), (3, 4, Write(1)), (5, 6, Read(1))]));
        assert!(!explained(&[(1, 2, Write(1)), (3, 4, Read(0))]), "a stale read");
        assert!(!explained(&[(1, 2, Write(1)), (3, 4, Write(2)), (5, 6, Read(1))]), "lost");
        assert!(!explained(&[(1, 2, Read(1)), (3, 4, Write(1))]), "read before it was written");
        assert!(!explained(&[(1, 2, Read(7))]), "never written");
    }

    #[test]
    fn what_overlaps_may_come_in_either_order_but_in_one_for_all() {
        let writes = [(1, 10, Write(1)), (2, 11, Write(2))];
        let with = |reads: &[(u64, u64, Effect)]| explained(&[&writes[..], reads].concat());
        assert!(with(&[(12, 13, Read(1))]));
        assert!(with(&[(12, 13, Read(2))]));
        assert!(with(&[(3, 4, Read(0)), (5, 6, Read(1)), (7, 8, Read(2))]));
        assert!(!with(&[(3, 4, Read(1)), (5, 6, Read(2)), (7, 8, Read(1))]), "back again");
        assert!(!with(&[(3, 4, Read(1)), (5, 6, Read(0))]), "back to the first");
    }

    #[test]
    fn one_value_is_swapped_once() {
        assert!(explained(&[(1, 9, Swap(0, 1)), (2, 8, Swap(1, 2)), (10, 11, Read(2))]));
        assert!(!explained(&[(1, 9, Swap(0, 1)), (2, 8, Swap(0, 2))]), "both of one value");
        assert!(!explained(&[(1, 9, Swap(0, 1)), (10, 11, Read(0))]), "a lost swap");
        assert!(!explained(&[(1, 2, Write(1)), (3, 4, Swap(0, 2))]), "of a value that is gone");
        assert!(explained(&[(1, 4, Write(1)), (2, 3, Differs(0))]));
        assert!(!explained(&[(1, 2, Differs(0))]), "it was there");
        assert!(!explained(&[(1, 2, Differs(0)), (3, 4, Write(1))]), "it was still there");
    }

    #[test]
    fn what_was_ended_may_have_happened_but_not_after_its_end() {
        let write = (1, 5, Write(1));
        assert!(explained_with_end(&[write, (6, 7, Read(0))]));
        assert!(explained_with_end(&[write, (6, 7, Read(1))]));
        assert!(explained_with_end(&[write, (2, 3, Read(0)), (6, 7, Read(1))]));
        let other = (2, 3, Write(9));
        assert!(explained_with_end(&[write, other, (6, 8, Differs(0)), (7, 9, Read(1))]));
        assert!(!explained_with_end(&[write, (6, 7, Read(0)), (8, 9, Read(1))]), "after its end");
        assert!(!explained_with_end(&[(4, 5, Write(1)), (2, 3, Read(1))]), "before its start");
        assert!(!explained_with_end(&[write, (6, 7, Write(2)), (8, 9, Read(1))]), "over another");
    }
}
