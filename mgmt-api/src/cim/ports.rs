//! Portals and ports of targets, sessions and their connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use job_engine::error::{NAMESPACE, SYSTEM_CLASS};
use job_engine::{INSTANCE_ID_PREFIX, Target};

use super::instances::{Part, Space, View, by_id, link};
use super::path::ObjectPath;
use super::value::{Instance, Value};
use super::views;
use crate::api::{Authentication, Connection, SessionDetail};

pub(crate) const ISCSI_SERVICE: &str = "MSISCSITARGET_iSCSIConfigurationService";
pub(crate) const ISCSI_SERVICE_CAPABILITIES: &str = "MSISCSITARGET_iSCSIConfigurationCapabilities";
pub(crate) const ISCSI_CAPABILITIES: &str = "MSISCSITARGET_iSCSICapabilities";
const PORT: &str = "MSISCSITARGET_iSCSIProtocolEndpoint";
const TCP: &str = "MSISCSITARGET_TCPProtocolEndpoint";
const IP: &str = "MSFTSMNET_IPProtocolEndpoint";
const BINDS: &str = "MSISCSITARGET_BindsTo";
const HOSTED: &str = "MSISCSITARGET_HostedAccessPoint";
const HOSTED_ADDRESS: &str = "MSFTSMNET_HostedAccessPoint";
const AVAILABLE: &str = "MSISCSITARGET_SAPAvailableForElement";
pub(crate) const SESSION: &str = "MSISCSITARGET_iSCSISession";
pub(crate) const CONNECTION: &str = "MSISCSITARGET_iSCSIConnection";
const COMPOSITION: &str = "MSISCSITARGET_NetworkPipeComposition";
const ENDPOINT: &str = "MSISCSITARGET_EndpointOfNetworkPipe";

/// `InstanceID`s of capabilities.
pub(crate) const ISCSI_SERVICE_CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:iscsi-service";
pub(crate) const ISCSI_CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:iscsi";

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[
        (ISCSI_SERVICE, Space::Storage),
        (ISCSI_SERVICE_CAPABILITIES, Space::Storage),
        (ISCSI_CAPABILITIES, Space::Storage),
        (PORT, Space::Storage),
        (TCP, Space::Storage),
        (IP, Space::Storage),
        (SESSION, Space::Storage),
        (CONNECTION, Space::Storage),
    ],
    links: &[
        (BINDS, Space::Storage),
        (HOSTED, Space::Storage),
        (HOSTED_ADDRESS, Space::Storage),
        (AVAILABLE, Space::Storage),
        (COMPOSITION, Space::Storage),
        (ENDPOINT, Space::Storage),
    ],
    instances,
};

/// A target's port in a portal group: `iqn…,t,0xTPGT`.
fn port_name(target: &str, tag: u16) -> String {
    format!("{target},t,0x{tag:04x}")
}

/// The target that a port belongs to, by the port's name.
pub(crate) fn target_of_port(view: &View<'_>, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let groups = view.portal_groups();
    let target = view
        .snapshot()
        .targets
        .iter()
        .find(|target| groups.iter().any(|group| port_name(&target.name, group.tag) == name));
    target.map(|target| target.name.clone())
}

fn point(view: &View<'_>, class: &str, name: &str) -> ObjectPath {
    ObjectPath::new(NAMESPACE, class)
        .with("SystemCreationClassName", SYSTEM_CLASS)
        .with("SystemName", view.system)
        .with("CreationClassName", class)
        .with("Name", name)
}

/// Portals with the tag of their group.
pub(crate) fn portals(view: &View<'_>) -> Vec<(u16, SocketAddr)> {
    let groups = view.portal_groups().iter();
    let of = groups.flat_map(|group| group.portals.iter().map(|portal| (group.tag, portal)));
    of.filter_map(|(tag, portal)| Some((tag, portal.parse().ok()?))).collect()
}

pub(crate) fn addresses(view: &View<'_>) -> BTreeSet<IpAddr> {
    portals(view).into_iter().map(|(_, portal)| portal.ip()).collect()
}

/// Every port: the target and the tag of the group.
pub(crate) fn ports<'v>(view: &'v View<'_>) -> impl Iterator<Item = (&'v Target, u16)> {
    let groups = view.portal_groups();
    let targets = view.snapshot().targets.iter();
    targets.flat_map(move |target| groups.iter().map(move |group| (target, group.tag)))
}

pub(crate) fn port_path(view: &View<'_>, target: &str, tag: u16) -> ObjectPath {
    point(view, PORT, &port_name(target, tag))
}

/// The path of a portal's address.
pub(crate) fn address_path(view: &View<'_>, address: IpAddr) -> ObjectPath {
    point(view, IP, &address.to_string())
}

/// The path of a session.
pub(crate) fn session_path(tsih: u16) -> ObjectPath {
    by_id(SESSION, &session_id(tsih))
}

fn session_id(tsih: u16) -> String {
    format!("{INSTANCE_ID_PREFIX}session:{tsih}")
}

/// The session that an `InstanceID` is about: its own, or that of a connection.
pub(crate) fn tsih_of(id: &str) -> Option<u16> {
    let rest = id.strip_prefix(INSTANCE_ID_PREFIX)?;
    let tsih = match rest.strip_prefix("connection:") {
        Some(both) => both.split_once(':')?.0,
        None => rest.strip_prefix("session:")?,
    };
    tsih.parse().ok()
}

fn connection_id(tsih: u16, cid: u16) -> String {
    format!("{INSTANCE_ID_PREFIX}connection:{tsih}:{cid}")
}

fn connections(sessions: &[SessionDetail]) -> impl Iterator<Item = (&SessionDetail, &Connection)> {
    sessions.iter().flat_map(|one| one.connections.iter().map(move |connection| (one, connection)))
}

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    match class {
        ISCSI_SERVICE => vec![view.service(ISCSI_SERVICE, "iSCSI configuration")],
        ISCSI_SERVICE_CAPABILITIES => vec![service_capabilities()],
        ISCSI_CAPABILITIES => vec![capabilities()],
        PORT => ports(view).map(|(target, tag)| port(view, target, tag)).collect(),
        TCP => portals(view).into_iter().map(|(_, portal)| tcp(view, portal)).collect(),
        IP => addresses(view).into_iter().map(|address| ip(view, address)).collect(),
        BINDS => binds(view),
        HOSTED => {
            let ports = ports(view).map(|(target, tag)| port_path(view, &target.name, tag));
            let portals = portals(view).into_iter();
            let portals = portals.map(|(_, portal)| point(view, TCP, &portal.to_string()));
            let hosted = ports
                .chain(portals)
                .map(|path| link(HOSTED, ("Antecedent", view.system_path()), ("Dependent", path)));
            hosted.collect()
        }
        HOSTED_ADDRESS => {
            let hosted = addresses(view).into_iter().map(|address| {
                let path = point(view, IP, &address.to_string());
                link(HOSTED_ADDRESS, ("Antecedent", view.system_path()), ("Dependent", path))
            });
            hosted.collect()
        }
        AVAILABLE => {
            let available = ports(view).flat_map(|(target, tag)| {
                let port = port_path(view, &target.name, tag);
                views::paths(view, target).map(move |path| {
                    link(AVAILABLE, ("AvailableSAP", port.clone()), ("ManagedElement", path))
                })
            });
            available.collect()
        }
        SESSION => view.sessions().iter().map(session).collect(),
        CONNECTION => {
            let all = connections(view.sessions());
            all.map(|(session, connection)| self::connection(session, connection)).collect()
        }
        COMPOSITION => {
            let all = connections(view.sessions()).map(|(session, connection)| {
                let tsih = session.session.tsih;
                let whole = ("GroupComponent", by_id(SESSION, &session_id(tsih)));
                let part = by_id(CONNECTION, &connection_id(tsih, connection.cid));
                link(COMPOSITION, whole, ("PartComponent", part))
            });
            all.collect()
        }
        ENDPOINT => {
            let all = view.sessions().iter().filter_map(|session| {
                let target = session.session.target.as_ref()?;
                let port = port_path(view, target, session.target_portal_group_tag);
                let pipe = by_id(SESSION, &session_id(session.session.tsih));
                let both = link(ENDPOINT, ("Antecedent", port), ("Dependent", pipe));
                // A sink.
                Some(both.with("SourceOrSink", 3_u16))
            });
            all.collect()
        }
        _ => Vec::new(),
    }
}

fn port(view: &View<'_>, target: &Target, tag: u16) -> Instance {
    let name = port_name(&target.name, tag);
    view.point_instance(PORT, &name)
        .with("Identifier", format!("0x{tag:04x}"))
        // A target; iSCSI.
        .with("Role", 3_u16)
        .with("ConnectionType", 7_u16)
        .with("ProtocolIFType", 1_u16)
        .with("OtherTypeDescription", "iSCSI")
        .with("TargetRelativePortNumber", u32::from(tag))
}

fn tcp(view: &View<'_>, portal: SocketAddr) -> Instance {
    view.point_instance(TCP, &portal.to_string())
        .with("PortNumber", u32::from(portal.port()))
        .with("ProtocolIFType", 4111_u16)
}

fn ip(view: &View<'_>, address: IpAddr) -> Instance {
    let instance = view.point_instance(IP, &address.to_string());
    let text = address.to_string();
    match address {
        IpAddr::V4(_) => instance
            .with("IPv4Address", text)
            .with("ProtocolIFType", 4096_u16)
            .with("AddressType", 1_u16)
            .with("IPVersionSupport", 1_u16),
        IpAddr::V6(v6) => {
            let kind: u16 = if v6.is_unspecified() {
                2
            } else if v6.is_loopback() {
                3
            } else if v6.is_unicast_link_local() {
                5
            } else {
                6
            };
            instance
                .with("IPv6Address", text)
                .with("ProtocolIFType", 4097_u16)
                .with("AddressType", 2_u16)
                .with("IPVersionSupport", 2_u16)
                .with("IPv6AddressType", kind)
        }
    }
}

/// iSCSI over TCP over IP.
fn binds(view: &View<'_>) -> Vec<Instance> {
    let portals = portals(view);
    let over = |lower, upper| link(BINDS, ("Antecedent", lower), ("Dependent", upper));
    let mut all: Vec<Instance> = Vec::new();
    for (_, portal) in &portals {
        let address = point(view, IP, &portal.ip().to_string());
        all.push(over(address, point(view, TCP, &portal.to_string())));
    }
    for (target, tag) in ports(view) {
        for (_, portal) in portals.iter().filter(|(group, _)| *group == tag) {
            let lower = point(view, TCP, &portal.to_string());
            all.push(over(lower, port_path(view, &target.name, tag)));
        }
    }
    all
}

fn pipe(class: &'static str, id: &str, name: &str) -> Instance {
    Instance::new(class)
        .with("InstanceID", id)
        .with("ElementName", name)
        .with("OperationalStatus", Value::numbers(&[2]))
        .with("StatusDescriptions", Value::texts(["OK"]))
        .with("HealthState", 5_u16)
        // In both directions; enabled.
        .with("Directionality", 2_u16)
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
}

fn session(detail: &SessionDetail) -> Instance {
    let (session, parameters) = (&detail.session, &detail.parameters);
    let kind: u16 = if session.target.is_some() { 3 } else { 2 };
    pipe(SESSION, &session_id(session.tsih), &session.initiator)
        .with("AggregationBehavior", 3_u16)
        .with("SessionType", kind)
        .with("TSIH", u32::from(session.tsih))
        .with("EndPointName", session.initiator.as_str())
        .with("CurrentConnections", u32::try_from(detail.connections.len()).unwrap_or(u32::MAX))
        .with("InitialR2T", parameters.initial_r2t)
        .with("ImmediateData", parameters.immediate_data)
        .with("MaxOutstandingR2T", u32::from(parameters.max_outstanding_r2t))
        .with("MaxUnsolicitedFirstDataBurstLength", parameters.first_burst_length)
        .with("MaxDataBurstLength", parameters.max_burst_length)
        .with("DataSequenceInOrder", true)
        .with("DataPDUInOrder", true)
        .with("ErrorRecoveryLevel", u32::from(parameters.error_recovery_level))
        .with("MaxConnectionsPerSession", u32::from(parameters.max_connections))
        .with("DefaultTimeToWait", u32::from(parameters.default_time2wait))
        .with("DefaultTimeToRetain", u32::from(parameters.default_time2retain))
}

fn connection(detail: &SessionDetail, connection: &Connection) -> Instance {
    let digest = |on: bool| if on { 3_u16 } else { 2_u16 };
    let (method, mutual) = match &detail.authentication {
        Authentication::None => (2_u16, false),
        Authentication::Chap { mutual, .. } => (4_u16, *mutual),
    };
    let id = connection_id(detail.session.tsih, connection.cid);
    pipe(CONNECTION, &id, &connection.address)
        .with("AggregationBehavior", 2_u16)
        .with("ConnectionID", u32::from(connection.cid))
        .with("MaxReceiveDataSegmentLength", connection.max_recv_data_segment_length)
        .with("MaxTransmitDataSegmentLength", connection.initiator_max_recv_data_segment_length)
        .with("HeaderDigestMethod", digest(connection.header_digest))
        .with("DataDigestMethod", digest(connection.data_digest))
        .with("ReceivingMarkers", false)
        .with("SendingMarkers", false)
        .with("AuthenticationMethodUsed", method)
        .with("MutualAuthentication", mutual)
}

fn service_capabilities() -> Instance {
    Instance::new(ISCSI_SERVICE_CAPABILITIES)
        .with("InstanceID", ISCSI_SERVICE_CAPABILITIES_ID)
        .with("ElementName", "iSCSI configuration")
        // Every target has a port in each portal group; the configuration file names those.
        .with("iSCSIProtocolEndpointCreationSupported", false)
        .with("IdentifierSelectionSupported", false)
        .with("iSCSINodeCreationSupported", true)
}

fn capabilities() -> Instance {
    Instance::new(ISCSI_CAPABILITIES)
        .with("InstanceID", ISCSI_CAPABILITIES_ID)
        .with("ElementName", "iSCSI")
        .with("MinimumSpecificationVersionSupported", 0_u16)
        .with("MaximumSpecificationVersionSupported", 0_u16)
        // None and CHAP.
        .with("AuthenticationMethodsSupported", Value::numbers(&[2, 4]))
        .with("SupportedFeatures", Value::numbers(&[2]))
}
