//! Portal groups: where the node is reached.

use std::net::{IpAddr, SocketAddr};

use scsi::AccessState;

use super::Node;

/// Portals through which the same ports of the targets are reached (RFC 7143 §4.1, "Portal
/// Groups").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalGroup {
    /// Target Portal Group Tag.
    pub tag: u16,
    /// Where it is served; an unspecified address stands for all of the host's.
    pub portals: Vec<SocketAddr>,
    /// The access state of its ports where none was set ([`Node::set_access_state`]).
    pub state: AccessState,
    /// PREF: hosts should use it, other things being equal.
    pub preferred: bool,
}

impl PortalGroup {
    /// A group in the state active/optimized.
    #[must_use]
    pub fn new(tag: u16, portals: Vec<SocketAddr>) -> Self {
        Self { tag, portals, state: AccessState::ActiveOptimized, preferred: false }
    }

    /// Where its portals are for whoever has reached the address `local` of this host: an
    /// unspecified address stands for that one, if it listens there, and loopback addresses are
    /// reached from loopback addresses only.
    pub fn reached_from(&self, local: IpAddr) -> impl Iterator<Item = SocketAddr> {
        self.portals.iter().filter_map(move |portal| match portal.ip() {
            ip if ip.is_unspecified() => {
                let listens = ip.is_ipv6() || local.is_ipv4();
                listens.then(|| SocketAddr::new(local, portal.port()))
            }
            ip => (ip.is_loopback() == local.is_loopback()).then_some(*portal),
        })
    }
}

impl Node {
    /// Where the node is served, for SendTargets and the ports of its targets.
    pub fn set_portal_groups(&self, groups: Vec<PortalGroup>) {
        *self.portal_groups.write() = groups;
    }

    /// Where an initiator that came to the given portal can reach a target: there first, then at
    /// every other portal that it can reach too, as far as that can be known. With the tags of the
    /// portals' groups.
    pub(crate) fn addresses(
        &self,
        target: &str,
        came_to: (u16, SocketAddr),
    ) -> Vec<(u16, SocketAddr)> {
        let targets = self.targets.read();
        let Some(target) = targets.get(target) else { return Vec::new() };
        let local = came_to.1.ip();
        let mut found = Vec::new();
        if target.is_in(came_to.0) {
            found.push(came_to);
        }
        for group in self.portal_groups.read().iter().filter(|group| target.is_in(group.tag)) {
            for portal in group.reached_from(local) {
                if !found.contains(&(group.tag, portal)) {
                    found.push((group.tag, portal));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iscsi_proto::login::{AuthPolicy, LoginPolicy, LoginStatus};
    use iscsi_proto::names::IscsiName;

    use super::*;
    use crate::config::NodeConfig;
    use crate::events::NoEvents;
    use crate::node::{NodeState, TargetConfig, Visit};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Group 1 for both targets, group 2 for `disks` alone.
    fn node() -> Arc<Node> {
        let node = Node::new(NodeConfig::default(), Arc::new(NoEvents));
        let group = |tag, portals: &[&str]| {
            PortalGroup::new(tag, portals.iter().map(|portal| address(portal)).collect())
        };
        node.set_portal_groups(vec![
            group(1, &["127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:3", "192.0.2.1:4"]),
            group(2, &["[2001:db8::1]:5", "[::]:6"]),
        ]);
        for (name, portal_groups) in
            [("iqn.2026-01.org.example:disks", None), (TAPES, Some(vec![1]))]
        {
            let (name, alias) = (IscsiName::new(name).unwrap(), String::new());
            let (auth, access) = (AuthPolicy::None, None);
            node.add_target(TargetConfig { name, alias, auth, access, portal_groups }).unwrap();
        }
        node
    }

    const DISKS: &str = "iqn.2026-01.org.example:disks";
    const TAPES: &str = "iqn.2026-01.org.example:tapes";

    #[test]
    fn every_portal_that_an_initiator_can_reach_is_listed_behind_its_own() {
        let node = node();
        let seen = |target, group, local| {
            let found = node.addresses(target, (group, address(local)));
            found.iter().map(|(group, portal)| format!("{portal},{group}")).collect::<Vec<_>>()
        };
        assert_eq!(
            seen(DISKS, 1, "127.0.0.1:2"),
            ["127.0.0.1:2,1", "127.0.0.1:1,1", "127.0.0.1:3,1", "127.0.0.1:6,2"]
        );
        // Through the wildcard, to an address that is no portal by itself.
        assert_eq!(
            seen(DISKS, 1, "192.0.2.9:3"),
            ["192.0.2.9:3,1", "192.0.2.1:4,1", "[2001:db8::1]:5,2", "192.0.2.9:6,2"]
        );
        let v6 = "[2001:db8::9]:6";
        assert_eq!(seen(DISKS, 2, v6), ["[2001:db8::9]:6,2", "192.0.2.1:4,1", "[2001:db8::1]:5,2"]);
        // Where it is not reached, it is not said to be.
        assert_eq!(seen(TAPES, 2, v6), ["192.0.2.1:4,1"]);
    }

    #[test]
    fn a_target_has_a_port_for_each_of_its_portal_groups() {
        let node = node();
        let address = address("192.0.2.9:1").ip();
        let tags = |target, group| {
            let (ports, _) = node.ports(target, group, "iqn.2026-01.org.example:a", address)?;
            assert_eq!(ports.own.relative_target_port_id, group);
            Some(ports.all.iter().map(|port| port.target_portal_group_tag).collect::<Vec<_>>())
        };
        assert_eq!(tags(DISKS, 2), Some(vec![1, 2]));
        assert_eq!(tags(TAPES, 1), Some(vec![1]));
        let visit = Visit { node: &node, address, group: 2 };
        node.set_state(NodeState::Serving);
        let initiator = IscsiName::new("iqn.2026-01.org.example:a").unwrap();
        let ask = |name| visit.target(&initiator, &IscsiName::new(name).unwrap()).map(|_| ());
        assert_eq!((ask(DISKS), ask(TAPES)), (Ok(()), Err(LoginStatus::NotFound)));
    }
}
