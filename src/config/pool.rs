//! `[disks]` and `[[pools]]`: where disks are, and what the space there may be used for.

use std::path::{Path, PathBuf};

use job_engine::catalogue::check_pool_name;
use job_engine::{MAX_SOFT_THRESHOLDS, Overcommit, PoolId, PoolLimits, PoolSettings, Threshold};
use mgmt_api::space;
use serde::Deserialize;
use toml::Spanned;

use super::Source;

/// Of the default pool, without anything said.
const DEFAULT: [Threshold; 1] = [Threshold::Percent(10)];

/// `true`, `false`, or as in `200%`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "true, false or a text like \"200%\"")]
pub(super) enum Overcommitted {
    Unlimited(bool),
    Text(String),
}

/// An element of `[[pools]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    name: Spanned<String>,
    directory: Spanned<PathBuf>,
    overcommit: Option<Spanned<Overcommitted>>,
    reserve: Option<Spanned<String>>,
    thresholds: Option<Vec<Spanned<String>>>,
    hard_threshold: Option<Spanned<String>>,
    direct_io: Option<Spanned<bool>>,
}

/// What the space of a pool may be used for, as it stands in a table.
pub(super) struct Space<'a> {
    pub(super) table: &'static str,
    pub(super) overcommit: Option<&'a Spanned<Overcommitted>>,
    pub(super) reserve: Option<&'a Spanned<String>>,
    pub(super) thresholds: Option<&'a [Spanned<String>]>,
    pub(super) hard_threshold: Option<&'a Spanned<String>>,
    pub(super) direct_io: Option<&'a Spanned<bool>>,
    pub(super) directory: &'a Path,
}

impl Space<'_> {
    pub(super) fn limits(&self, source: &Source<'_>) -> anyhow::Result<PoolLimits> {
        let key = |name: &str| format!("{}.{name}", self.table);
        let one = |name: &str, text: Option<&Spanned<String>>| {
            let read = |text: &Spanned<String>| {
                let wrong = |reason: String| source.error(&key(name), text, &reason);
                space::threshold(text.get_ref()).map_err(wrong)
            };
            text.map(read).transpose()
        };
        let overcommit = self.overcommit.map(|it| match it.get_ref() {
            Overcommitted::Unlimited(true) => Ok(Overcommit::Unlimited),
            Overcommitted::Unlimited(false) => Ok(Overcommit::None),
            Overcommitted::Text(text) => space::overcommit(text)
                .map_err(|reason| source.error(&key("overcommit"), it, &reason)),
        });
        let mut soft_thresholds = DEFAULT.to_vec();
        if let Some(given) = self.thresholds {
            if let Some(more) = given.get(MAX_SOFT_THRESHOLDS) {
                return Err(source.error(&key("thresholds"), more, "has more than 8 values"));
            }
            let read = given.iter().map(|text| one("thresholds", Some(text)));
            soft_thresholds = read.filter_map(Result::transpose).collect::<anyhow::Result<_>>()?;
        }
        // One that is not there yet will be, as a rule, in the file system of what is there.
        let there = self.directory.ancestors().find(|it| it.exists()).unwrap_or(self.directory);
        if let Some(value) = self.direct_io.filter(|it| *it.get_ref())
            && let Err(error) = disk_image::can_do_direct_io(there)
            && error.kind() == std::io::ErrorKind::Unsupported
        {
            let directory = self.directory.display();
            let reason = format!("is true, and the file system of {directory} has no direct I/O");
            return Err(source.error(&key("direct_io"), value, &reason));
        }
        Ok(PoolLimits {
            direct_io: self.direct_io.is_some_and(|it| *it.get_ref()),
            overcommit: overcommit.transpose()?.unwrap_or_default(),
            reserve: one("reserve", self.reserve)?,
            soft_thresholds,
            hard_threshold: one("hard_threshold", self.hard_threshold)?,
        })
    }
}

/// The pools beside the default one, which has its disks in `default`.
pub(super) fn pools(
    source: &Source<'_>,
    tables: &[Table],
    default: &Path,
) -> anyhow::Result<Vec<PoolSettings>> {
    let mut pools: Vec<PoolSettings> = Vec::new();
    for table in tables {
        let name = table.name.get_ref();
        let wrong = |reason: &str| source.error("pools.name", &table.name, reason);
        check_pool_name(name)
            .map_err(|reason| wrong(&format!("is `{}`: {reason}", name.escape_debug())))?;
        let taken = name == PoolId::DEFAULT || pools.iter().any(|pool| pool.id.0 == *name);
        if taken {
            return Err(wrong(&format!("is `{name}`, and there is another pool of that name")));
        }
        let directory = table.directory.get_ref().clone();
        let wrong = |reason: String| source.error("pools.directory", &table.directory, &reason);
        if !directory.is_absolute() {
            return Err(wrong(format!("is {}; it must be absolute", directory.display())));
        }
        let nested = |other: &&Path| other.starts_with(&directory) || directory.starts_with(other);
        let mut others =
            pools.iter().map(|pool| pool.directory.as_path()).chain(std::iter::once(default));
        if let Some(other) = others.find(nested).map(Path::to_path_buf) {
            let (directory, other) = (directory.display(), other.display());
            return Err(wrong(format!(
                "is {directory}; it holds or lies in another pool: {other}"
            )));
        }
        let space = Space {
            table: "pools",
            overcommit: table.overcommit.as_ref(),
            reserve: table.reserve.as_ref(),
            thresholds: table.thresholds.as_deref(),
            hard_threshold: table.hard_threshold.as_ref(),
            direct_io: table.direct_io.as_ref(),
            directory: &directory,
        };
        let limits = space.limits(source)?;
        pools.push(PoolSettings { id: PoolId(name.clone()), directory, limits });
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn thresholds_are_parts_of_the_pool_or_sizes() {
        let read = |text: &str| load(text, &[]).map(|config| config.default_limits.soft_thresholds);
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

    #[test]
    fn pools_have_names_and_directories_of_their_own() {
        let text = "[disks]\novercommit = true\nreserve = '1GiB'\n\
                    [[pools]]\nname = 'fast'\ndirectory = '/srv/fast'\novercommit = '200%'\n\
                    hard_threshold = '2%'\n[[pools]]\nname = 'slow'\ndirectory = '/srv/slow'\n";
        let config = load(text, &[]).unwrap();
        assert_eq!(config.default_limits.overcommit, Overcommit::Unlimited);
        assert_eq!(config.default_limits.reserve, Some(Threshold::Bytes(1 << 30)));
        let fast = &config.pools[0];
        assert_eq!(fast.id, PoolId("fast".to_owned()));
        assert_eq!(fast.limits.overcommit, Overcommit::Percent(200));
        assert_eq!(fast.limits.hard_threshold, Some(Threshold::Percent(2)));
        assert_eq!(config.pools[1].limits.overcommit, Overcommit::None);
        for (bad, key) in [
            ("name = 'default'\ndirectory = '/a'", "pools.name"),
            ("name = 'a/b'\ndirectory = '/a'", "pools.name"),
            ("name = 'a'\ndirectory = 'a'", "pools.directory"),
            ("name = 'a'\ndirectory = '/d/disks/a'", "pools.directory"),
            ("name = 'a'\ndirectory = '/'", "pools.directory"),
            ("name = 'a'\ndirectory = '/a'\novercommit = 'x'", "pools.overcommit"),
            ("name = 'a'\ndirectory = '/a'\nreserve = '100%'", "pools.reserve"),
        ] {
            let text = format!("data_dir = '/d'\n[[pools]]\n{bad}\n");
            let error = format!("{:#}", load(&text, &[]).unwrap_err());
            assert!(error.contains(&format!("`{key}`")), "{bad}: {error}");
        }
    }
}
