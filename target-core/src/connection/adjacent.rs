//! Writes of blocks that adjoin are one call: of the page cache one walk of the file system, of a
//! medium one transfer.

/// How many of the first writes (offset and length in bytes) adjoin, each beginning where the one
/// before it ends.
pub(super) fn adjoining(writes: impl IntoIterator<Item = (u64, usize)>) -> usize {
    // None in front of the first one.
    let mut end: Option<Option<u64>> = None;
    let adjoins = |&(offset, length): &(u64, usize)| {
        let adjoins = end.is_none_or(|end| end == Some(offset));
        end = Some(u64::try_from(length).ok().and_then(|length| offset.checked_add(length)));
        adjoins
    };
    writes.into_iter().take_while(adjoins).count()
}

#[cfg(test)]
mod tests {
    use super::adjoining;

    #[test]
    fn those_that_begin_where_the_one_before_ends() {
        assert_eq!(adjoining([]), 0);
        assert_eq!(adjoining([(8, 4)]), 1);
        assert_eq!(adjoining([(8, 4), (12, 2), (14, 1)]), 3);
        assert_eq!(adjoining([(8, 4), (12, 2), (15, 1), (16, 1)]), 2, "a gap");
        assert_eq!(adjoining([(8, 4), (8, 4)]), 1, "the same again");
        assert_eq!(adjoining([(8, 4), (4, 4)]), 1, "in front of it");
        assert_eq!(adjoining([(8, 4), (11, 4)]), 1, "an overlap");
        assert_eq!(adjoining([(u64::MAX, 4), (3, 4)]), 1, "the end of all addresses");
    }
}
