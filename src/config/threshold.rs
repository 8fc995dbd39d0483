//! `disks.thresholds`: at how much free space in the pool hosts are warned.

use toml::Spanned;

use super::Source;

const KEY: &str = "disks.thresholds";
/// Threshold descriptors that hosts are told of.
const MOST: usize = 8;
/// Without anything said.
const DEFAULT: [Threshold; 1] = [Threshold::Percent(10)];

/// Free space of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threshold {
    /// Of the size of its file system.
    Percent(u8),
    Bytes(u64),
}

impl Threshold {
    /// In bytes, for a file system of this size.
    pub(crate) fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Percent(percent) => {
                let bytes = u128::from(total) * u128::from(percent) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

pub(super) fn thresholds(
    source: &Source<'_>,
    given: Option<&[Spanned<String>]>,
) -> anyhow::Result<Vec<Threshold>> {
    let Some(given) = given else { return Ok(DEFAULT.to_vec()) };
    if let Some(one) = given.get(MOST) {
        return Err(source.error(KEY, one, &format!("has more than {MOST} values")));
    }
    given.iter().map(|text| threshold(source, text)).collect()
}

fn threshold(source: &Source<'_>, text: &Spanned<String>) -> anyhow::Result<Threshold> {
    let Some(percent) = text.get_ref().strip_suffix('%') else {
        let bytes = mgmt_api::size::parse(text.get_ref()).map_err(|error| {
            source.error(KEY, text, &format!("is neither a size nor like 10%: {error}"))
        })?;
        return Ok(Threshold::Bytes(bytes));
    };
    match percent.trim().parse() {
        Ok(percent @ 1..=99) => Ok(Threshold::Percent(percent)),
        _ => {
            let reason = format!("is `{}`; it must lie between 1% and 99%", text.get_ref());
            Err(source.error(KEY, text, &reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn thresholds_are_parts_of_the_pool_or_sizes() {
        let read = |text: &str| load(text, &[]).map(|config| config.thresholds);
        assert_eq!(read("").unwrap(), [Threshold::Percent(10)]);
        assert_eq!(read("[disks]\nthresholds = []").unwrap(), []);
        let both = read("[disks]\nthresholds = ['20%', '10GiB']").unwrap();
        assert_eq!(both, [Threshold::Percent(20), Threshold::Bytes(10 << 30)]);
        assert_eq!(both.iter().map(|it| it.bytes(1 << 40)).collect::<Vec<_>>()[1], 10 << 30);
        assert_eq!(both[0].bytes(1000), 200);
        for bad in ["'0%'", "'100%'", "'x%'", "'much'"] {
            let text = format!("[disks]\nthresholds = [{bad}]\n");
            let error = format!("{:#}", read(&text).unwrap_err());
            assert!(error.starts_with("lund.toml:2: `disks.thresholds` is"), "{error}");
        }
        let many = format!("[disks]\nthresholds = [{}]\n", "'1%', ".repeat(9));
        assert!(format!("{:#}", read(&many).unwrap_err()).contains("more than 8"));
    }
}
