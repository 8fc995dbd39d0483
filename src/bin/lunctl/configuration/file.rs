//! The configuration as a file: TOML. Sizes are written as people write them, and secrets of CHAP
//! stand in files of their own.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mgmt_api::api::{
    Configuration, DeclaredAccount, DeclaredDisk, DeclaredLimit, DeclaredState, DeclaredTarget,
};
use mgmt_api::size;
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Result};
use crate::password;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    generation: Option<u64>,
    disks: Option<Vec<Disk>>,
    targets: Option<Vec<DeclaredTarget>>,
    limits: Option<Vec<DeclaredLimit>>,
    chap_accounts: Option<Vec<Account>>,
    access_states: Option<Vec<DeclaredState>>,
}

/// [`DeclaredDisk`] with a size that people can read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    name: String,
    size: String,
    #[serde(default = "block_length")]
    block_length: u32,
    #[serde(default)]
    provisioning: job_engine::Provisioning,
    #[serde(default)]
    format: job_engine::ImageFormat,
    #[serde(default)]
    read_only: bool,
}

const fn block_length() -> u32 {
    512
}

/// [`DeclaredAccount`] with a file that holds the secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    user: String,
    targets: Option<Vec<String>>,
    initiators: Option<Vec<String>>,
    secret_file: Option<PathBuf>,
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Configuration> {
    let cannot = |error| Failure::Usage(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map_err(cannot)?;
    } else {
        text = std::fs::read_to_string(path).map_err(cannot)?;
    }
    parse(&text, path.parent().unwrap_or(Path::new("")))
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// `directory` is where files with secrets are looked for.
fn parse(text: &str, directory: &Path) -> std::result::Result<Configuration, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let disk = |disk: Disk| -> std::result::Result<_, String> {
        let size_bytes =
            size::parse(&disk.size).map_err(|error| format!("disk `{}`: {error}", disk.name))?;
        Ok(DeclaredDisk {
            name: disk.name,
            size_bytes,
            block_length: disk.block_length,
            provisioning: disk.provisioning,
            format: disk.format,
            read_only: disk.read_only,
        })
    };
    let account = |account: Account| -> std::result::Result<_, String> {
        let Account { user, targets, initiators, secret_file } = account;
        let secret = secret_file.map(|path| password::from_file(&directory.join(path)));
        let secret = secret.transpose().map_err(|error| format!("account `{user}`: {error}"))?;
        Ok(DeclaredAccount { user, targets, initiators, secret })
    };
    let disks =
        file.disks.map(|list| list.into_iter().map(disk).collect::<std::result::Result<_, _>>());
    let accounts = file
        .chap_accounts
        .map(|list| list.into_iter().map(account).collect::<std::result::Result<_, _>>());
    Ok(Configuration {
        generation: file.generation,
        disks: disks.transpose()?,
        targets: file.targets,
        limits: file.limits,
        chap_accounts: accounts.transpose()?,
        access_states: file.access_states,
    })
}

/// The text of a file; secrets are not in it.
pub(super) fn text(configuration: &Configuration) -> Result<String> {
    let all = configuration.clone();
    let disk = |disk: DeclaredDisk| Disk {
        name: disk.name,
        size: exact(disk.size_bytes),
        block_length: disk.block_length,
        provisioning: disk.provisioning,
        format: disk.format,
        read_only: disk.read_only,
    };
    let account = |account: DeclaredAccount| {
        let DeclaredAccount { user, targets, initiators, .. } = account;
        Account { user, targets, initiators, secret_file: None }
    };
    let file = File {
        generation: all.generation,
        disks: all.disks.map(|list| list.into_iter().map(disk).collect()),
        targets: all.targets,
        limits: all.limits,
        chap_accounts: all.chap_accounts.map(|list| list.into_iter().map(account).collect()),
        access_states: all.access_states,
    };
    toml::to_string(&file).map_err(|error| Failure::Other(error.to_string()))
}

/// A size that [`size::parse`] reads as the same number.
fn exact(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    let mut text = String::new();
    let _ = match whole {
        Some((unit, shift)) => write!(text, "{}{unit}", bytes >> shift),
        None => write!(text, "{bytes}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let json = serde_json::json!({
            "generation": 7,
            "disks": [
                {"name": "größe", "size_bytes": 3u64 << 30, "block_length": 4096,
                 "provisioning": "full", "format": "qcow2", "read_only": true},
                {"name": "odd", "size_bytes": 512},
            ],
            "targets": [
                {"name": "t", "alias": "a \"b\"", "luns": [{"lun": 0, "disk": "odd"}],
                 "access": [
                    {"initiator": "iqn.2026-01.example:*", "luns": [{"seen": 1, "lun": 0}]},
                    {"address": "10.0.0.0/8", "read_only": true},
                 ]},
                {"name": "open"},
                {"name": "shut", "access": []},
            ],
            "limits": [{"disk": "odd", "iops": 5}, {"initiator": "i", "bytes_per_second": 6}],
            "chap_accounts": [{"user": "u", "targets": ["t"]}],
            "access_states": [{"group": 1, "state": "standby"}],
        });
        let all: Configuration = serde_json::from_value(json).unwrap();
        let text = text(&all).unwrap();
        assert!(text.contains("size = \"3GiB\"\n") && text.contains("size = \"512\"\n"), "{text}");
        assert_eq!(parse(&text, Path::new("")), Ok(all), "{text}");
        let empty = Configuration { targets: Some(Vec::new()), ..Configuration::default() };
        assert_eq!(super::text(&empty).unwrap(), "targets = []\n");
        assert_eq!(parse("", Path::new("")), Ok(Configuration::default()));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let error = parse("[[targets]]\nname = 't'\nlun = 1\n", Path::new("")).unwrap_err();
        assert!(error.contains("line 3") && error.contains("`lun`"), "{error}");
        let error = parse("[[disks]]\nname = 'd'\nsize = 'lots'\n", Path::new("")).unwrap_err();
        assert!(error.contains("disk `d`") && error.contains("10GiB"), "{error}");
    }

    #[test]
    fn a_secret_comes_from_a_file_beside() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("bob"), "twelve bytes\n").unwrap();
        let text = "[[chap_accounts]]\nuser = 'bob'\nsecret_file = 'bob'\n";
        let read = parse(text, place.path()).unwrap().chap_accounts.unwrap();
        assert_eq!(read[0].secret.as_ref().unwrap().0, "twelve bytes");
        let shown = super::text(&parse(text, place.path()).unwrap()).unwrap();
        assert!(!shown.contains("twelve"), "{shown}");
        assert!(
            parse(&text.replace("'bob'\ns", "'x'\ns").replace("= 'bob'", "= 'no'"), place.path())
                .is_err()
        );
    }
}
