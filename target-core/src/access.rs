//! Which initiators may use a target, and which LUNs they see.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use iscsi_proto::names::InitiatorPattern;

use crate::nexus::{Seen, UnitMap, View};

/// A LUN of a target as an initiator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LunMapping {
    /// The LUN that the initiator sees.
    pub seen: u16,
    /// The target's LUN. One that is not there is not seen.
    pub lun: u16,
    /// Writes are refused.
    pub read_only: bool,
}

/// Lets initiators in. Both conditions must hold; without any, all initiators are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessEntry {
    /// The initiator's name.
    pub initiator: Option<InitiatorPattern>,
    /// Where it connects from.
    pub address: Option<IpNet>,
    /// What it sees; none for all LUNs as they are. Each `seen` stands once.
    pub luns: Option<Vec<LunMapping>>,
    /// Writes to all of these are refused.
    pub read_only: bool,
}

impl AccessEntry {
    fn matches(&self, initiator: &str, address: IpAddr) -> bool {
        self.initiator.as_ref().is_none_or(|pattern| pattern.matches(initiator))
            && self.address.is_none_or(|network| network.contains(&address))
    }

    /// Orders entries from the most specific on: a name, then patterns with more characters of
    /// their own, then addresses alone; among equals, longer prefixes first. The text decides
    /// between patterns of one length.
    fn rank(&self) -> impl Ord + use<> {
        let pattern = self.initiator.clone();
        let name = pattern.as_ref().map(|it| (it.is_exact(), it.literal_length()));
        (Reverse((name, self.address.map(|it| it.prefix_len()))), pattern)
    }

    /// A target's units as this entry shows them; `all` is the whole of them.
    fn view(&self, units: &UnitMap, all: &Arc<View>) -> Arc<View> {
        let shown = |mapping: &LunMapping| {
            let unit = units.get(&mapping.lun)?.clone();
            let read_only = mapping.read_only || self.read_only || unit.is_read_only();
            Some((mapping.seen, Seen { unit, lun: mapping.lun, read_only }))
        };
        let protected =
            |(lun, seen): (&u16, &Seen)| (*lun, Seen { read_only: true, ..seen.clone() });
        match &self.luns {
            Some(luns) => Arc::new(luns.iter().filter_map(shown).collect()),
            None if self.read_only => Arc::new(all.iter().map(protected).collect()),
            None => all.clone(),
        }
    }
}

/// The entries of a target, the most specific first; none if everybody is let in.
#[derive(Debug, Default)]
pub(crate) struct Access(Option<Vec<AccessEntry>>);

impl Access {
    pub(crate) fn new(mut entries: Option<Vec<AccessEntry>>) -> Self {
        if let Some(entries) = &mut entries {
            entries.sort_by_cached_key(AccessEntry::rank);
        }
        Self(entries)
    }

    /// What decides about an initiator.
    fn find(&self, initiator: &str, address: IpAddr) -> Option<&AccessEntry> {
        // An IPv4 initiator at a portal for both is the same initiator.
        let address = address.to_canonical();
        self.0.iter().flatten().find(|entry| entry.matches(initiator, address))
    }

    /// Whether an initiator is let in.
    pub(crate) fn admits(&self, initiator: &str, address: IpAddr) -> bool {
        self.0.is_none() || self.find(initiator, address).is_some()
    }

    /// What an initiator sees of `units`, of which `all` is the whole; none if it is not let in.
    pub(crate) fn view(
        &self,
        initiator: &str,
        address: IpAddr,
        units: &UnitMap,
        all: &Arc<View>,
    ) -> Option<Arc<View>> {
        if self.0.is_none() {
            return Some(all.clone());
        }
        Some(self.find(initiator, address)?.view(units, all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(initiator: Option<&str>, address: Option<&str>) -> AccessEntry {
        AccessEntry {
            initiator: initiator.map(|text| InitiatorPattern::new(text).unwrap()),
            address: address.map(|text| text.parse().unwrap()),
            luns: None,
            read_only: false,
        }
    }

    fn access(entries: &[(Option<&str>, Option<&str>)]) -> Access {
        Access::new(Some(entries.iter().map(|(name, address)| entry(*name, *address)).collect()))
    }

    const HOST: &str = "iqn.2026-01.org.example:host";

    #[test]
    fn a_name_and_an_address_in_one_entry_must_both_match() {
        let both = access(&[(Some(HOST), Some("192.0.2.0/24"))]);
        let inside = "192.0.2.7".parse().unwrap();
        assert!(both.admits(HOST, inside));
        assert!(both.admits(HOST, "::ffff:192.0.2.7".parse().unwrap()), "the same initiator");
        assert!(!both.admits(HOST, "192.0.3.7".parse().unwrap()));
        assert!(!both.admits("iqn.2026-01.org.example:hosts", inside));
        assert!(!both.admits(HOST, "2001:db8::1".parse().unwrap()));
        assert!(Access::default().admits(HOST, inside), "no list: open");
        assert!(!access(&[]).admits(HOST, inside), "an empty list: closed");
        let v6 = access(&[(None, Some("2001:db8::/32"))]);
        assert!(v6.admits(HOST, "2001:db8:1::1".parse().unwrap()));
        assert!(!v6.admits(HOST, "2001:db9::1".parse().unwrap()));
        // Families do not mix, however wide the prefix.
        assert!(!access(&[(None, Some("::/0"))]).admits(HOST, inside));
    }

    #[test]
    fn the_most_specific_entry_decides_in_whatever_order_they_were_made() {
        let ranked = [
            (Some(HOST), Some("192.0.2.7/32")),
            (Some(HOST), Some("192.0.2.0/24")),
            (Some(HOST), None),
            (Some("iqn.2026-01.org.example:h*"), Some("192.0.2.0/24")),
            (Some("iqn.2026-01.org.example:h*"), None),
            (Some("iqn.2026-01.*"), Some("192.0.2.7/32")),
            (Some("*"), Some("192.0.2.7/32")),
            (Some("*"), None),
            (None, Some("192.0.2.7/32")),
            (None, Some("192.0.0.0/16")),
        ];
        let address = "192.0.2.7".parse().unwrap();
        for first in 0..ranked.len() {
            let mut rest = ranked[first..].to_vec();
            let wanted = entry(ranked[first].0, ranked[first].1);
            for _ in 0..rest.len() {
                rest.rotate_left(1);
                assert_eq!(access(&rest).find(HOST, address), Some(&wanted), "{rest:?}");
            }
            rest.reverse();
            assert_eq!(access(&rest).find(HOST, address), Some(&wanted), "{rest:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_entries_does_not_matter(
            entries in proptest::collection::vec(
                (proptest::option::of("[ab*]{1,3}"), proptest::option::of((any::<u32>(), 0_u8..=32))),
                1..8,
            ),
            name in "[ab]{1,3}",
            address in any::<u32>(),
            rotation in 0_usize..8,
        ) {
            let name = format!("iqn.2026-01.org.example:{name}");
            let mut entries: Vec<_> = entries.into_iter().map(|(pattern, network)| AccessEntry {
                initiator: pattern.map(|text| {
                    InitiatorPattern::new(&format!("iqn.2026-01.org.example:{text}")).unwrap()
                }),
                address: network.map(|(bits, length)| {
                    // Near the address, so that prefixes match often enough.
                    let bits = address ^ (bits & 0x0101);
                    IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap().trunc()
                }),
                luns: None,
                read_only: false,
            }).collect();
            let address = std::net::Ipv4Addr::from(address).into();
            let expected = Access::new(Some(entries.clone())).find(&name, address).cloned();
            let any = entries.iter().any(|entry| entry.matches(&name, address));
            prop_assert_eq!(expected.is_some(), any);
            let rotation = rotation % entries.len();
            entries.rotate_left(rotation);
            prop_assert_eq!(Access::new(Some(entries)).find(&name, address).cloned(), expected);
        }
    }
}
