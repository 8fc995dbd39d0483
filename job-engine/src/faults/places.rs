//! Where a disk's errors were: ranges of logical blocks, so few that a record stays short, and of which
//! none leaves out a command that failed. When there are more, the two nearest become one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Ranges at most.
const MOST: usize = 8;
/// Blocks between two commands that are told of as one range: drives fail in stretches.
const NEAR: u64 = 2048;

/// Commands that failed in the same way, near each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPlace {
    /// What was being done, as a verb.
    pub operation: String,
    /// First logical blocks of the commands, from the lowest to the highest; none of commands that have
    /// none.
    pub lbas: Option<(u64, u64)>,
    /// How many.
    pub count: u64,
}

/// All of a disk and a cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultPlaces(Vec<FaultPlace>);

impl FaultPlaces {
    /// Counts one command more.
    pub(crate) fn add(&mut self, operation: &str, lba: Option<u64>) {
        let lbas = lba.map(|lba| (lba, lba));
        self.put(FaultPlace { operation: operation.to_owned(), lbas, count: 1 });
    }

    /// Counts the commands of others.
    pub(crate) fn extend(&mut self, others: &Self) {
        for place in &others.0 {
            self.put(place.clone());
        }
    }

    /// The ranges, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &FaultPlace> {
        self.0.iter()
    }

    fn put(&mut self, place: FaultPlace) {
        let at = self.0.partition_point(|it| key(it) <= key(&place));
        self.0.insert(at, place);
        // What it closes up with on either side, then the nearest, if there are too many.
        let is_near = |places: &Self, at| places.gap(at).is_some_and(|gap| gap <= NEAR);
        while is_near(self, at + 1) {
            self.join(at + 1);
        }
        if is_near(self, at) {
            self.join(at);
        }
        if self.0.len() > MOST
            && let Some((_, next)) =
                (1..self.0.len()).filter_map(|at| Some((self.gap(at)?, at))).min()
        {
            self.join(next);
        }
    }

    /// Blocks between a range and the one before it; none if they have nothing in common.
    fn gap(&self, at: usize) -> Option<u64> {
        let (before, this) = (self.0.get(at.checked_sub(1)?)?, self.0.get(at)?);
        if before.operation != this.operation {
            return None;
        }
        match (before.lbas, this.lbas) {
            (Some((_, last)), Some((first, _))) => Some(first.saturating_sub(last)),
            (None, None) => Some(0),
            (None, Some(_)) | (Some(_), None) => None,
        }
    }

    fn join(&mut self, at: usize) {
        let this = self.0.remove(at);
        let Some(before) = at.checked_sub(1).and_then(|at| self.0.get_mut(at)) else { return };
        before.count = before.count.saturating_add(this.count);
        if let (Some((first, last)), Some((_, end))) = (before.lbas, this.lbas) {
            before.lbas = Some((first, last.max(end)));
        }
    }
}

fn key(place: &FaultPlace) -> (&str, Option<(u64, u64)>) {
    (&place.operation, place.lbas)
}

/// As in `read at LBA 7 to 90 (3 times), flush (once)`.
impl fmt::Display for FaultPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, FaultPlace { operation, lbas, count }) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { ", " })?;
            f.write_str(operation)?;
            if let Some((first, last)) = lbas {
                write!(f, " at LBA {first}")?;
                if first != last {
                    write!(f, " to {last}")?;
                }
            }
            if *count == 1 {
                f.write_str(" (once)")?;
            } else {
                write!(f, " ({count} times)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(commands: &[(&str, Option<u64>)]) -> String {
        let mut places = FaultPlaces::default();
        for (operation, lba) in commands {
            places.add(operation, *lba);
        }
        places.to_string()
    }

    #[test]
    fn what_failed_nearby_is_one_range_and_each_operation_has_its_own() {
        let commands = [
            ("write", Some(0)),
            ("read", Some(9000)),
            ("read", Some(7)),
            ("read", Some(0)),
            ("read", Some(2000)),
            ("flush", None),
            ("flush", None),
        ];
        let expected = "flush (2 times), read at LBA 0 to 2000 (3 times), read at LBA 9000 (once), \
                        write at LBA 0 (once)";
        assert_eq!(shown(&commands), expected);
        // Between two ranges, it makes them one.
        let commands = [0, 4000, 2000].map(|lba| ("read", Some(lba)));
        assert_eq!(shown(&commands), "read at LBA 0 to 4000 (3 times)");
    }

    #[test]
    fn the_first_errors_never_hide_later_ones_elsewhere() {
        let mut commands: Vec<_> = (0..100).map(|n| ("read", Some(n * 10_000))).collect();
        commands.push(("write", Some(1 << 40)));
        commands.push(("read", Some(1 << 50)));
        let text = shown(&commands);
        assert!(text.contains("write at LBA 1099511627776 (once)"), "{text}");
        assert!(text.contains("read at LBA 1125899906842624 (once)"), "{text}");
    }

    proptest! {
        #[test]
        fn no_command_is_left_out_and_the_list_stays_short(
            commands in prop::collection::vec((0..3_usize, prop::option::of(0..1_u64 << 20)), 0..300),
            cut in 0..300_usize,
        ) {
            let (mut places, mut later) = (FaultPlaces::default(), FaultPlaces::default());
            for (n, (operation, lba)) in commands.iter().enumerate() {
                let part = if n < cut { &mut places } else { &mut later };
                part.add(["read", "write", "flush"][*operation], *lba);
            }
            places.extend(&later);
            prop_assert!(places.iter().count() <= MOST);
            let count: u64 = places.iter().map(|it| it.count).sum();
            prop_assert_eq!(count, commands.len() as u64);
            for (operation, lba) in &commands {
                let operation = ["read", "write", "flush"][*operation];
                let inside = |place: &FaultPlace| place.operation == operation
                    && match (place.lbas, lba) {
                        (Some((first, last)), Some(lba)) => (first..=last).contains(lba),
                        (None, None) => true,
                        _ => false,
                    };
                prop_assert!(places.iter().any(inside));
            }
            let ranges: Vec<_> = places.iter().map(key).collect();
            prop_assert!(ranges.is_sorted());
        }
    }
}
