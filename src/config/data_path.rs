//! `[iscsi]`: what the data path may take, and how it does its work.

use target_core::ZeroCopyReads;
use toml::Spanned;

use super::Source;

/// Bytes that all sessions hold together.
pub(super) fn max_backlog(
    source: &Source<'_>,
    given: Option<&Spanned<String>>,
) -> anyhow::Result<usize> {
    const KEY: &str = "iscsi.max_backlog";
    let Some(given) = given else { return Ok(256 << 20) };
    let bytes = mgmt_api::size::parse(given.get_ref())
        .map_err(|error| source.error(KEY, given, &format!("is no size: {error}")))?;
    // Less would stop sessions that have done nothing unusual.
    match usize::try_from(bytes) {
        Ok(bytes) if bytes >= 16 << 20 => Ok(bytes),
        _ => Err(source.error(KEY, given, "must be at least 16MiB")),
    }
}

/// The priority of the threads that serve initiators.
pub(super) fn nice(source: &Source<'_>, given: Option<&Spanned<i32>>) -> anyhow::Result<i32> {
    let Some(given) = given else { return Ok(-10) };
    match *given.get_ref() {
        nice @ -20..=0 => Ok(nice),
        nice => {
            let why = format!("is {nice}; it must lie between -20 and 0");
            Err(source.error("iscsi.nice", given, &why))
        }
    }
}

/// The values of `iscsi.zero_copy_reads`.
pub(super) const ZERO_COPY_READS: [(&str, ZeroCopyReads); 3] = [
    ("auto", ZeroCopyReads::Auto),
    ("always", ZeroCopyReads::Always),
    ("never", ZeroCopyReads::Never),
];

/// Which reads are sent without being copied.
pub(super) fn zero_copy_reads(
    source: &Source<'_>,
    given: Option<&Spanned<String>>,
) -> anyhow::Result<ZeroCopyReads> {
    let Some(given) = given else { return Ok(ZeroCopyReads::default()) };
    let found = ZERO_COPY_READS.iter().find(|(word, _)| word == given.get_ref());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let why = "is none of \"auto\", \"always\" and \"never\"";
        source.error("iscsi.zero_copy_reads", given, why)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{error, load};
    use super::*;

    #[test]
    fn errors_name_the_key_and_what_it_may_be() {
        let backlog = error("[iscsi]\nmax_backlog = '1MiB'\n", &[]);
        assert!(backlog.starts_with("lund.toml:2: `iscsi.max_backlog` must be"), "{backlog}");
        let zero_copy = error("[iscsi]\nzero_copy_reads = 'yes'\n", &[]);
        assert!(
            zero_copy.starts_with("lund.toml:2: `iscsi.zero_copy_reads` is none of"),
            "{zero_copy}"
        );
        let config = load("[iscsi]\nzero_copy_reads = 'always'\n", &[]).unwrap();
        assert_eq!(config.zero_copy_reads, ZeroCopyReads::Always);
        let nice = error("[iscsi]\nnice = 5\n", &[]);
        assert!(nice.starts_with("lund.toml:2: `iscsi.nice` is 5; it must lie"), "{nice}");
        assert_eq!(load("[iscsi]\nnice = -20\n", &[]).unwrap().nice, -20);
    }
}
