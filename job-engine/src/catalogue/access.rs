//! Which initiators a target lets in, and which LUNs each of them sees.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mapping::MAX_LUN;
use super::name::{InvalidName, check_initiator_pattern};

/// LUNs that one entry shows.
const MAX_LUNS: usize = 256;

/// A LUN of a target as an initiator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LunView {
    /// The LUN that the initiator sees.
    pub seen: u16,
    /// The target's LUN. One that is not mapped is not seen.
    pub lun: u16,
    /// Writes are refused.
    #[serde(default)]
    pub read_only: bool,
}

/// Lets initiators in: those that meet both conditions. Where several entries do, the most
/// specific one decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessEntry {
    /// An initiator's iSCSI name, or a pattern in which `*` stands for any text.
    #[serde(default)]
    pub initiator: Option<String>,
    /// Where initiators connect from: an address with its prefix length.
    #[serde(default)]
    pub address: Option<IpNet>,
    /// What they see; all LUNs as they are if this is not given.
    #[serde(default)]
    pub luns: Option<Vec<LunView>>,
    /// Writes to all of these LUNs are refused.
    #[serde(default)]
    pub read_only: bool,
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEntry {
    /// What is wrong.
    pub property: String,
    /// Why.
    pub reason: String,
}

impl AccessEntry {
    /// The form in which it is kept: names in lower case, networks without host bits.
    ///
    /// # Errors
    /// It has no condition, its name is neither a name nor a pattern, or its LUNs are too high,
    /// too many, or not each shown once.
    pub fn normalized(mut self) -> Result<Self, InvalidEntry> {
        let invalid = |property: &str, reason: &str| InvalidEntry {
            property: property.to_owned(),
            reason: reason.to_owned(),
        };
        if self.initiator.is_none() && self.address.is_none() {
            let reason = "it names an initiator, an address, or both; the initiator `*` means all";
            return Err(invalid("access entry", reason));
        }
        if let Some(initiator) = &mut self.initiator {
            *initiator = initiator.to_lowercase();
            check_initiator_pattern(initiator).map_err(|InvalidName(reason)| {
                invalid(&format!("initiator `{}`", initiator.escape_debug()), reason)
            })?;
        }
        self.address = self.address.map(canonical);
        let luns = self.luns.as_deref().unwrap_or_default();
        if luns.len() > MAX_LUNS {
            return Err(invalid("list of LUNs", "it has at most 256 of them"));
        }
        let (mut seen, mut shown) = (BTreeSet::new(), BTreeSet::new());
        for LunView { seen: number, lun, .. } in luns {
            if *number.max(lun) > MAX_LUN {
                let reason = format!("the highest LUN is {MAX_LUN}");
                return Err(invalid(&format!("LUN {}", number.max(lun)), &reason));
            }
            if !seen.insert(number) {
                return Err(invalid(&format!("LUN {number}"), "initiators see it once"));
            }
            if !shown.insert(lun) {
                return Err(invalid(&format!("LUN {lun} of the target"), "it is shown once"));
            }
        }
        Ok(self)
    }

    /// Whether it has the same conditions as `other`: then it stands in its place.
    #[must_use]
    pub fn concerns_same(&self, other: &Self) -> bool {
        (&self.initiator, self.address) == (&other.initiator, other.address)
    }
}

/// An IPv4 initiator at a portal for both families is the same initiator; host bits mean nothing.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let v4 = |(address, length): (Ipv4Addr, u8)| Ipv4Net::new(address, length).ok();
    mapped.and_then(v4).map_or(network, IpNet::V4).trunc()
}

/// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
///
/// # Errors
/// Says what is wanted.
pub fn parse_network(text: &str) -> Result<IpNet, InvalidName> {
    let wanted =
        "an IPv4 or IPv6 address is wanted, or one with a prefix length as in `10.0.0.0/8`";
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map(canonical).map_err(|_| InvalidName(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(initiator: &str, luns: &[(u16, u16)]) -> Result<AccessEntry, InvalidEntry> {
        let view = |(seen, lun): &_| LunView { seen: *seen, lun: *lun, read_only: false };
        let luns = Some(luns.iter().map(view).collect());
        AccessEntry { initiator: Some(initiator.to_owned()), luns, ..Default::default() }
            .normalized()
    }

    #[test]
    fn networks_are_kept_without_host_bits_and_in_their_own_family() {
        for (text, kept) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_network(text).unwrap().to_string(), kept);
        }
        for bad in ["", "host", "192.0.2.0/33", "192.0.2", "::1/129", "1.2.3.4/-1", "1.2.3.4/"] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entry_without_a_condition_or_with_a_lun_twice_is_refused() {
        assert!(AccessEntry::default().normalized().is_err());
        assert_eq!(of("IQN.2026-01.Example:A", &[]).unwrap().initiator.unwrap(), {
            "iqn.2026-01.example:a"
        });
        assert!(of("host", &[]).is_err());
        assert!(of("*", &[(0, 5), (5, 0)]).is_ok());
        assert_eq!(of("*", &[(0, 5), (0, 6)]).unwrap_err().property, "LUN 0");
        assert_eq!(of("*", &[(0, 5), (1, 5)]).unwrap_err().property, "LUN 5 of the target");
        assert!(of("*", &[(0, MAX_LUN)]).is_ok());
        assert!(of("*", &[(MAX_LUN + 1, 0)]).is_err());
        assert!(of("*", &[(0, MAX_LUN + 1)]).is_err());
        let many = |count: u16| of("*", &(0..count).map(|lun| (lun, lun)).collect::<Vec<_>>());
        assert!(many(256).is_ok() && many(257).is_err());
    }
}
