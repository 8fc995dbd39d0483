//! `[memory]`: what is kept in memory of images.

use serde::Deserialize;
use toml::Spanned;

use super::Source;

/// A chunk is pinned as a whole; less would pin nothing.
const LEAST: u64 = 16 << 20;

/// The file's table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pinned: Option<Spanned<String>>,
}

/// How many bytes of images may be pinned; 0: none.
pub(super) fn pinned(source: &Source<'_>, table: &Table) -> anyhow::Result<u64> {
    const KEY: &str = "memory.pinned";
    let Some(given) = table.pinned.as_ref().filter(|given| given.get_ref() != "auto") else {
        return Ok(disk_image::default_hot_bytes());
    };
    let bytes = mgmt_api::size::parse(given.get_ref()).map_err(|error| {
        source.error(KEY, given, &format!("is neither \"auto\" nor a size: {error}"))
    })?;
    if (1..LEAST).contains(&bytes) {
        return Err(source.error(KEY, given, "must be \"0\" or at least 16MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    #[test]
    fn a_part_of_the_memory_unless_somebody_says_how_much() {
        let read = |text: &str| load(text, &[]).map(|config| config.pinned);
        let auto = read("").unwrap();
        assert_eq!(read("[memory]\npinned = 'auto'\n").unwrap(), auto);
        assert_eq!(read("[memory]\npinned = '2GiB'\n").unwrap(), 2 << 30);
        assert_eq!(read("[memory]\npinned = '0'\n").unwrap(), 0);
        for (bad, reason) in [
            ("much", "`memory.pinned` is neither \"auto\" nor a size: "),
            ("1MiB", "`memory.pinned` must be \"0\" or at least 16MiB"),
        ] {
            let error =
                format!("{:#}", read(&format!("[memory]\npinned = '{bad}'\n")).unwrap_err());
            assert!(error.starts_with(&format!("lund.toml:2: {reason}")), "{error}");
        }
    }
}
