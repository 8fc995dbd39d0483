//! The command line.

use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

/// Drives an iSCSI target to its limit and prints what it did.
#[derive(Clone, Debug, Parser)]
#[command(name = "loadgen")]
pub(crate) struct Options {
    /// The disk: iscsi://ADDRESS:PORT/IQN/LUN
    #[arg(long)]
    pub(crate) url: Url,
    /// Bytes per command
    #[arg(long, default_value_t = 4096)]
    pub(crate) block: u32,
    /// What to do
    #[arg(long, value_enum, default_value_t = Access::Randread)]
    pub(crate) rw: Access,
    /// Commands outstanding per connection
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) depth: u32,
    /// Connections; each is a session with a thread of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) connections: u32,
    /// Length of the measurement; 0 measures nothing (with --fill)
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Time of the same load before the measurement
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warm_up: f64,
    /// Write a pattern to the whole disk first, in steps of --block
    #[arg(long)]
    pub(crate) fill: bool,
    /// Each block carries its address; reads check it (--fill makes the disk so)
    #[arg(long)]
    pub(crate) verify: bool,
    /// CRC32C on headers and data
    #[arg(long)]
    pub(crate) digests: bool,
    /// READ(10) and WRITE(10) or READ(16) and WRITE(16)
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(10..=16))]
    pub(crate) cdb: u8,
    /// Keep to the first bytes of the disk
    #[arg(long)]
    pub(crate) span: Option<u64>,
    /// Process whose CPU time is measured too
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    /// Read once at full depth, print "ready", stay logged in until standard input ends
    #[arg(long)]
    pub(crate) hold: bool,
    /// Log in and out for --seconds, one session at a time, and print how often as JSON
    #[arg(long)]
    pub(crate) cycles: bool,
    /// Print how many LUNs the target reports, once --url's is ready
    #[arg(long)]
    pub(crate) report_luns: bool,
    /// Reads among 100 commands of --rw randrw
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) read_percent: u8,
    /// This initiator's name
    #[arg(long, default_value = "iqn.2026-01.invalid.loadgen:client")]
    pub(crate) initiator: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which blocks, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Access {
    Randread,
    Randwrite,
    Randrw,
    Read,
    Write,
}

impl Access {
    /// Reads among 100 commands, if `mixed` are where both kinds are wanted.
    pub(crate) fn reads(self, mixed: u8) -> u8 {
        match self {
            Self::Randread | Self::Read => 100,
            Self::Randwrite | Self::Write => 0,
            Self::Randrw => mixed,
        }
    }

    pub(crate) fn random(self) -> bool {
        matches!(self, Self::Randread | Self::Randwrite | Self::Randrw)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Randread => "randread",
            Self::Randwrite => "randwrite",
            Self::Randrw => "randrw",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Where the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) portal: String,
    pub(crate) target: String,
    pub(crate) lun: u16,
}

impl FromStr for Url {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let rest = text.strip_prefix("iscsi://").context("it must begin with iscsi://")?;
        let mut parts = rest.split('/');
        let (Some(portal), Some(target), Some(lun), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            bail!("it must be iscsi://ADDRESS:PORT/IQN/LUN");
        };
        let has_port = portal.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        let portal = if has_port { portal.to_owned() } else { format!("{portal}:3260") };
        let lun = lun.parse().context("the LUN must be a number")?;
        Ok(Self { portal, target: target.to_owned(), lun })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url: Url = "iscsi://127.0.0.1:3261/iqn.2026-01.invalid:disk/3".parse().unwrap();
        assert_eq!(url.portal, "127.0.0.1:3261");
        assert_eq!((url.target.as_str(), url.lun), ("iqn.2026-01.invalid:disk", 3));
        let url: Url = "iscsi://[::1]:3260/a/0".parse().unwrap();
        assert_eq!(url.portal, "[::1]:3260");
        let url: Url = "iscsi://host/a/0".parse().unwrap();
        assert_eq!(url.portal, "host:3260");
        assert!("iscsi://host/a".parse::<Url>().is_err());
        assert!("http://host/a/0".parse::<Url>().is_err());
    }
}
