//! What a server shall know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::message::{Attributes, tag};

/// Entity Protocol: iSCSI.
const ISCSI: u32 = 2;
/// iSCSI Node Type: target.
const TARGET: u32 = 1;

/// Where targets are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portal {
    /// Its address and TCP port.
    pub address: SocketAddr,
    /// The tag of its portal group.
    pub group: u16,
}

/// A target, by its iSCSI name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// TargetAlias; may be empty.
    pub alias: String,
    /// Tags of the portal groups through which it is reached.
    pub groups: BTreeSet<u16>,
}

/// Everything that is to be registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// All portals.
    pub portals: Vec<Portal>,
    /// All targets.
    pub targets: BTreeMap<String, Target>,
}

/// An address has 16 bytes; IPv4 is mapped (RFC 4171 §6.3.1).
fn address(attributes: Attributes, tags: (u32, u32), address: SocketAddr) -> Attributes {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    attributes.with(tags.0, &ip.octets()).number(tags.1, address.port().into())
}

/// The operating attributes of the entity and its portals; `scn_port` is that of notifications,
/// for portals with the address `ip`.
pub(crate) fn entity(name: &str, portals: &[Portal], scn: Option<(IpAddr, u16)>) -> Attributes {
    let mut attributes = Attributes::default()
        .text(tag::ENTITY_IDENTIFIER, name)
        .number(tag::ENTITY_PROTOCOL, ISCSI);
    for portal in portals {
        let tags = (tag::PORTAL_IP_ADDRESS, tag::PORTAL_TCP_PORT);
        attributes = address(attributes, tags, portal.address);
        if let Some((_, port)) = scn.filter(|(ip, _)| *ip == portal.address.ip()) {
            attributes = attributes.number(tag::SCN_PORT, port.into());
        }
    }
    attributes
}

/// The operating attributes of a target and its portal groups.
pub(crate) fn target(name: &str, target: &Target, portals: &[Portal]) -> Attributes {
    let mut attributes =
        Attributes::default().text(tag::ISCSI_NAME, name).number(tag::ISCSI_NODE_TYPE, TARGET);
    if !target.alias.is_empty() {
        attributes = attributes.text(tag::ISCSI_ALIAS, &target.alias);
    }
    for portal in portals {
        attributes = attributes.text(tag::PG_ISCSI_NAME, name);
        let tags = (tag::PG_PORTAL_IP_ADDRESS, tag::PG_PORTAL_TCP_PORT);
        attributes = address(attributes, tags, portal.address);
        // Without a value: the target is not reached there (RFC 4171 §3.4).
        attributes = if target.groups.contains(&portal.group) {
            attributes.number(tag::PG_TAG, portal.group.into())
        } else {
            attributes.with(tag::PG_TAG, &[])
        };
    }
    attributes
}
