//! `[scsi]`: how far commands go that some programs of hosts cannot take in full.

use ::scsi::Device;
use serde::Deserialize;
use toml::Spanned;

use super::Source;

/// So that the page is short enough for every initiator.
const MAX_URL: usize = 200;

/// The file's table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    long_cdbs: Option<bool>,
    compare_and_write_blocks: Option<Spanned<u32>>,
    management_url: Option<Spanned<String>>,
}

/// What all disks have in common as SCSI devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scsi {
    /// The commands with CDBs of 32 bytes exist.
    pub(crate) long_cdbs: bool,
    /// MAXIMUM COMPARE AND WRITE LENGTH.
    pub(crate) compare_and_write_blocks: u8,
    /// What the Management Network Addresses VPD page says.
    pub(crate) management_url: Option<String>,
}

impl Scsi {
    pub(crate) fn limit(&self, mut device: Device) -> Device {
        device.long_cdbs = self.long_cdbs;
        device.limits.max_compare_and_write_blocks = self.compare_and_write_blocks;
        device.management_url.clone_from(&self.management_url);
        device
    }
}

pub(super) fn scsi(source: &Source<'_>, table: &Table) -> anyhow::Result<Scsi> {
    let blocks = source.within(
        "scsi.compare_and_write_blocks",
        table.compare_and_write_blocks.as_ref(),
        1,
        (1, 255),
    )?;
    Ok(Scsi {
        long_cdbs: table.long_cdbs.unwrap_or(false),
        compare_and_write_blocks: u8::try_from(blocks)?,
        management_url: management_url(source, table.management_url.as_ref())?,
    })
}

fn management_url(
    source: &Source<'_>,
    given: Option<&Spanned<String>>,
) -> anyhow::Result<Option<String>> {
    let Some(given) = given else { return Ok(None) };
    let url = given.get_ref();
    let scheme = url.starts_with("http://") || url.starts_with("https://");
    if !scheme || url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = format!("must be a URL of HTTP or HTTPS, of at most {MAX_URL} characters");
        return Err(source.error("scsi.management_url", given, &reason));
    }
    Ok(Some(url.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn what_hosts_use_is_there_and_the_rest_is_asked_for() {
        let read = |text: &str| load(text, &[]).map(|config| config.scsi);
        let expected = |long_cdbs, compare_and_write_blocks, url: Option<&str>| Scsi {
            long_cdbs,
            compare_and_write_blocks,
            management_url: url.map(str::to_owned),
        };
        assert_eq!(read("").unwrap(), expected(false, 1, None));
        let text = "[scsi]\nlong_cdbs = true\ncompare_and_write_blocks = 255\n\
                    management_url = 'https://storage:5989/'";
        assert_eq!(read(text).unwrap(), expected(true, 255, Some("https://storage:5989/")));
        for bad in ["ftp://storage", "https://a b", ""] {
            let error = read(&format!("[scsi]\nmanagement_url = '{bad}'\n")).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with("lund.toml:2: `scsi.management_url` must be"), "{error}");
        }
        for bad in [0, 256] {
            let error = read(&format!("[scsi]\ncompare_and_write_blocks = {bad}\n")).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.starts_with("lund.toml:2: `scsi.compare_and_write_blocks` is"),
                "{error}"
            );
        }
    }
}
