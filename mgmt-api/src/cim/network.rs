//! The network ports of the host, as the kernel shows them in `/sys/class/net`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use job_engine::error::{NAMESPACE, SYSTEM_CLASS};
use nix::ifaddrs::getifaddrs;

use super::instances::{Part, Space, View, healthy, link, state};
use super::path::ObjectPath;
use super::ports;
use super::value::{Instance, Value};

const PORT: &str = "MSFTSMNET_EthernetPort";
const DEVICE: &str = "MSFTSMNET_SystemDevice";
const OF_ADDRESS: &str = "MSFTSMNET_DeviceSAPImplementation";
const OF_TARGET: &str = "MSISCSITARGET_DeviceSAPImplementation";

/// `ARPHRD_ETHER`
const ETHERNET: &str = "1";

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[(PORT, Space::Storage)],
    links: &[(DEVICE, Space::Storage), (OF_ADDRESS, Space::Storage), (OF_TARGET, Space::Storage)],
    instances,
};

/// A network port.
#[derive(Debug, Default)]
struct Port {
    /// Six bytes in hexadecimal digits.
    mac: String,
    up: bool,
    /// Mbit/s.
    speed: Option<u64>,
    mtu: Option<u64>,
    full_duplex: Option<bool>,
    addresses: Vec<IpAddr>,
}

/// Ethernet ports by the kernel's name.
fn ethernet() -> BTreeMap<String, Port> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().filter_map(Result::ok);
    let read = |directory: &Path, name: &str| {
        fs::read_to_string(directory.join(name)).ok().map(|text| text.trim().to_owned())
    };
    let one = |entry: fs::DirEntry| {
        let path = entry.path();
        let name = entry.file_name().into_string().ok()?;
        if read(&path, "type")? != ETHERNET {
            return None;
        }
        let number = |name: &str| read(&path, name).and_then(|text| text.parse::<u64>().ok());
        let mac = read(&path, "address")?.replace(':', "").to_uppercase();
        let port = Port {
            mac,
            up: read(&path, "operstate").is_some_and(|state| state == "up"),
            speed: number("speed"),
            mtu: number("mtu"),
            full_duplex: match read(&path, "duplex").as_deref() {
                Some("full") => Some(true),
                Some("half") => Some(false),
                _ => None,
            },
            addresses: Vec::new(),
        };
        Some((name, port))
    };
    let mut ports: BTreeMap<String, Port> = entries.filter_map(one).collect();
    for found in getifaddrs().into_iter().flatten() {
        let Some(port) = ports.get_mut(&found.interface_name) else { continue };
        let Some(address) = found.address else { continue };
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let v6 = address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        port.addresses.extend(v4.or(v6));
    }
    ports
}

fn port_path(view: &View<'_>, name: &str) -> ObjectPath {
    ObjectPath::new(NAMESPACE, PORT)
        .with("SystemCreationClassName", SYSTEM_CLASS)
        .with("SystemName", view.system)
        .with("CreationClassName", PORT)
        .with("DeviceID", name)
}

/// Whether somebody who listens at `portal` is reached through a port.
fn serves(port: &Port, portal: IpAddr) -> bool {
    if portal.is_unspecified() {
        return port.addresses.iter().any(|own| portal.is_ipv6() || own.is_ipv4());
    }
    port.addresses.contains(&portal)
}

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    let all = ethernet();
    match class {
        PORT => all.iter().map(|(name, port)| instance(view, name, port)).collect(),
        DEVICE => {
            let device = |name: &String| {
                let port = ("PartComponent", port_path(view, name));
                link(DEVICE, ("GroupComponent", view.system_path()), port)
            };
            all.keys().map(device).collect()
        }
        OF_ADDRESS => {
            let links = ports::addresses(view).into_iter().flat_map(|address| {
                let through = all.iter().filter(move |(_, port)| serves(port, address));
                through.map(move |(name, _)| {
                    let point = ("Dependent", ports::address_path(view, address));
                    link(OF_ADDRESS, ("Antecedent", port_path(view, name)), point)
                })
            });
            links.collect()
        }
        OF_TARGET => {
            let portals = ports::portals(view);
            let links = ports::ports(view).flat_map(|(target, tag)| {
                let through = all.iter().filter(|(_, port)| {
                    portals.iter().any(|(group, portal)| *group == tag && serves(port, portal.ip()))
                });
                let point = ports::port_path(view, &target.name, tag);
                let made = through.map(|(name, _)| {
                    let port = ("Antecedent", port_path(view, name));
                    link(OF_TARGET, port, ("Dependent", point.clone()))
                });
                made.collect::<Vec<_>>()
            });
            links.collect()
        }
        _ => Vec::new(),
    }
}

fn instance(view: &View<'_>, name: &str, port: &Port) -> Instance {
    let instance = view.in_system(PORT);
    let instance = if port.up { healthy(instance) } else { state(instance, 10, "Stopped", 5) };
    let addresses = port.addresses.iter().map(IpAddr::to_string);
    instance
        .with("DeviceID", name)
        .with("ElementName", name)
        .with("Name", name)
        .with("EnabledState", if port.up { 2_u16 } else { 3_u16 })
        .with("RequestedState", 12_u16)
        // Of a type that is not known here; Ethernet.
        .with("PortType", 0_u16)
        .with("LinkTechnology", 2_u16)
        .with("PermanentAddress", port.mac.as_str())
        .with("NetworkAddresses", Value::texts([&port.mac]))
        .with("OtherIdentifyingInfo", Value::texts(addresses.clone()))
        .with("IdentifyingDescriptions", Value::texts(addresses.map(|_| "IP address")))
        .with_some("Speed", port.speed.map(|megabits| megabits.saturating_mul(1_000_000)))
        .with_some("FullDuplex", port.full_duplex)
        .with_some("ActiveMaximumTransmissionUnit", port.mtu)
        // Not restricted.
        .with("UsageRestriction", 4_u16)
}
