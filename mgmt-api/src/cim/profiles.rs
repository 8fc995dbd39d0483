//! Which profiles the server keeps to, what it is, and how it is talked to.

use job_engine::error::NAMESPACE;

use super::indications::{MAX_DESTINATIONS, MAX_SUBSCRIPTIONS};
use super::instances::{
    INDICATION_SERVICE, INTEROP, OBJECT_MANAGER, Part, SERVER_SYSTEM, SERVICE, SERVICE_NAME, Space,
    View, healthy, link,
};
use super::masking::MASKING_SERVICE;
use super::path::ObjectPath;
use super::replicas::REPLICATION_SERVICE;
use super::value::{Instance, Value};

const PROFILE: &str = "MSFTSM_RegisteredProfile";
const SUB_PROFILE: &str = "MSFTSM_RegisteredSubProfile";
const REQUIRES: &str = "MSFTSM_SubProfileRequiresProfile";
const REFERENCED: &str = "MSFTSM_ReferencedProfile";
const CONFORMS: &str = "MSFTSM_ElementConformsToProfile";
const CONFORMS_TO: &str = "MSFTSM_ElementConformsToProfileEx";
const HOSTED: &str = "MSFTSM_HostedService";
const HOSTED_POINT: &str = "MSFTSM_HostedAccessPoint";
const SOFTWARE: &str = "MSFTSM_SoftwareIdentity";
const OF_SOFTWARE: &str = "MSFTSM_ElementSoftwareIdentity";
const NAMESPACES: &str = "MSFTSM_NamespaceInManager";
const SPOKEN: &str = "MSFTSM_CommMechanismForManager";
const CIM_XML: &str = "LUND_CIMXMLCommunicationMechanism";
const CAPABLE: &str = "LUND_ElementCapabilities";
const DELIVERY: &str = "LUND_IndicationServiceCapabilities";

const SOFTWARE_ID: &str = "LUND:software";
const CIM_XML_NAME: &str = "CIM-XML";
const WS_MAN: &str = "MSFTSM_WSManCommunicationMechanism";
const WS_MAN_NAME: &str = "WS-Management";

/// The ways to talk to the server: class and name.
const WAYS: [(&str, &str); 2] = [(CIM_XML, CIM_XML_NAME), (WS_MAN, WS_MAN_NAME)];
const DELIVERY_ID: &str = "LUND:capabilities:indications";

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[
        (PROFILE, Space::Interop),
        (SUB_PROFILE, Space::Interop),
        (SOFTWARE, Space::Interop),
        (CIM_XML, Space::Interop),
        (WS_MAN, Space::Interop),
        (SERVER_SYSTEM, Space::Interop),
        (DELIVERY, Space::Interop),
    ],
    links: &[
        (CONFORMS, Space::Interop),
        (CONFORMS, Space::Storage),
        (CONFORMS_TO, Space::Interop),
        (CONFORMS_TO, Space::Storage),
        (HOSTED, Space::Interop),
        (HOSTED_POINT, Space::Interop),
        (CAPABLE, Space::Interop),
        (OF_SOFTWARE, Space::Interop),
        (OF_SOFTWARE, Space::Storage),
        (REQUIRES, Space::Interop),
        (REFERENCED, Space::Interop),
        (NAMESPACES, Space::Interop),
        (SPOKEN, Space::Interop),
    ],
    instances,
};

/// Who defines profiles, by `RegisteredOrganization`.
const DMTF: u16 = 2;
const SNIA: u16 = 11;

/// What keeps to a profile: its central instance.
#[derive(Debug, Clone, Copy)]
enum Central {
    System,
    Configuration,
    Masking,
    Replication,
    Software,
    Manager,
    Indications,
}

/// A profile that the server keeps to.
struct Profile {
    organization: u16,
    name: &'static str,
    version: &'static str,
    central: Central,
}

const ARRAY: Profile =
    Profile { organization: SNIA, name: "Array", version: "1.6.1", central: Central::System };

/// Profiles that Array refers to.
const REFERRED: [Profile; 2] = [
    Profile {
        organization: DMTF,
        name: "Profile Registration",
        version: "1.0.0",
        central: Central::Manager,
    },
    Profile {
        organization: DMTF,
        name: "Indications",
        version: "1.2.0",
        central: Central::Indications,
    },
];

/// Profiles that are part of Array.
const SUBPROFILES: [Profile; 7] = [
    sub("Block Services", Central::Configuration),
    sub("Masking and Mapping", Central::Masking),
    sub("Health", Central::System),
    sub("iSCSI Target Ports", Central::System),
    sub("Job Control", Central::Configuration),
    sub("Replication Services", Central::Replication),
    sub("Software", Central::Software),
];

const fn sub(name: &'static str, central: Central) -> Profile {
    Profile { organization: SNIA, name, version: "1.6.1", central }
}

impl Profile {
    fn id(&self) -> String {
        let organization = if self.organization == SNIA { "SNIA" } else { "DMTF" };
        format!("{organization}:{}:{}", self.name.replace(' ', "-"), self.version)
    }

    fn path(&self) -> ObjectPath {
        let is_sub = SUBPROFILES.iter().any(|sub| sub.name == self.name);
        let class = if is_sub { SUB_PROFILE } else { PROFILE };
        interop(class).with("InstanceID", &self.id())
    }

    fn instance(&self, class: &'static str) -> Instance {
        Instance::new(class)
            .with("InstanceID", self.id())
            .with("ElementName", self.name)
            .with("Caption", self.name)
            .with("RegisteredOrganization", self.organization)
            .with("RegisteredName", self.name)
            .with("RegisteredVersion", self.version)
            // A profile; not advertised.
            .with("SpecificationType", 2_u16)
            .with("AdvertiseTypes", Value::numbers(&[2]))
            .with("ImplementedFeatures", Value::Array(Vec::new()))
    }
}

fn interop(class: &str) -> ObjectPath {
    ObjectPath::new(INTEROP[0], class)
}

fn software_path() -> ObjectPath {
    interop(SOFTWARE).with("InstanceID", SOFTWARE_ID)
}

fn in_system(view: &View<'_>, class: &str, name: &str) -> ObjectPath {
    interop(class)
        .with("SystemCreationClassName", SERVER_SYSTEM)
        .with("SystemName", view.system)
        .with("CreationClassName", class)
        .with("Name", name)
}

fn manager_path(view: &View<'_>) -> ObjectPath {
    in_system(view, OBJECT_MANAGER, SERVICE_NAME)
}

fn central(view: &View<'_>, central: Central) -> ObjectPath {
    match central {
        Central::System => view.system_path(),
        Central::Configuration => view.service_path(SERVICE),
        Central::Masking => view.service_path(MASKING_SERVICE),
        Central::Replication => view.service_path(REPLICATION_SERVICE),
        Central::Software => software_path(),
        Central::Manager => manager_path(view),
        Central::Indications => in_system(view, INDICATION_SERVICE, SERVICE_NAME),
    }
}

fn all() -> impl Iterator<Item = &'static Profile> {
    std::iter::once(&ARRAY).chain(&REFERRED).chain(&SUBPROFILES)
}

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    match class {
        PROFILE => {
            let own = std::iter::once(&ARRAY).chain(&REFERRED);
            own.map(|profile| profile.instance(PROFILE)).collect()
        }
        SUB_PROFILE => SUBPROFILES.iter().map(|profile| profile.instance(SUB_PROFILE)).collect(),
        CONFORMS | CONFORMS_TO => {
            let conforms = all().map(|profile| {
                let element = ("ManagedElement", central(view, profile.central));
                link(class, ("ConformantStandard", profile.path()), element)
            });
            conforms.collect()
        }
        SERVER_SYSTEM => vec![server_system(view)],
        HOSTED => {
            let service = in_system(view, INDICATION_SERVICE, SERVICE_NAME);
            let hosted = [manager_path(view), service]
                .map(|path| link(HOSTED, ("Antecedent", server_path(view)), ("Dependent", path)));
            hosted.into()
        }
        HOSTED_POINT => {
            let hosted = WAYS.map(|(class, name)| {
                let way = ("Dependent", in_system(view, class, name));
                link(HOSTED_POINT, ("Antecedent", server_path(view)), way)
            });
            hosted.into()
        }
        DELIVERY => vec![delivery()],
        CAPABLE => vec![capable(view)],
        REQUIRES => {
            let requires = SUBPROFILES.iter().map(|profile| {
                link(REQUIRES, ("Antecedent", ARRAY.path()), ("Dependent", profile.path()))
            });
            requires.collect()
        }
        REFERENCED => {
            let referenced = REFERRED.iter().map(|profile| {
                link(REFERENCED, ("Antecedent", profile.path()), ("Dependent", ARRAY.path()))
            });
            referenced.collect()
        }
        SOFTWARE => vec![software()],
        OF_SOFTWARE => {
            let of = ("Dependent", view.system_path());
            vec![link(OF_SOFTWARE, ("Antecedent", software_path()), of)]
        }
        NAMESPACES => {
            let namespaces = INTEROP.into_iter().chain([NAMESPACE]).map(|name| {
                let path = view.namespace_path(name);
                link(NAMESPACES, ("Antecedent", manager_path(view)), ("Dependent", path))
            });
            namespaces.collect()
        }
        SPOKEN => {
            let spoken = WAYS.map(|(class, name)| {
                let way = ("Dependent", in_system(view, class, name));
                link(SPOKEN, ("Antecedent", manager_path(view)), way)
            });
            spoken.into()
        }
        CIM_XML => vec![cim_xml(view)],
        WS_MAN => vec![ws_man(view)],
        _ => Vec::new(),
    }
}

fn server_path(view: &View<'_>) -> ObjectPath {
    interop(SERVER_SYSTEM).with("CreationClassName", SERVER_SYSTEM).with("Name", view.system)
}

fn server_system(view: &View<'_>) -> Instance {
    healthy(Instance::new(SERVER_SYSTEM))
        .with("CreationClassName", SERVER_SYSTEM)
        .with("Name", view.system)
        .with("NameFormat", "Other")
        .with("ElementName", view.system)
        .with("Description", "The host, as the server of this interface sees it")
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
}

fn capable(view: &View<'_>) -> Instance {
    let service = in_system(view, INDICATION_SERVICE, SERVICE_NAME);
    let capabilities = interop(DELIVERY).with("InstanceID", DELIVERY_ID);
    link(CAPABLE, ("ManagedElement", service), ("Capabilities", capabilities))
}

fn delivery() -> Instance {
    Instance::new(DELIVERY)
        .with("InstanceID", DELIVERY_ID)
        .with("ElementName", "Indications")
        .with("FilterCreationEnabledIsSettable", false)
        .with("DeliveryRetryAttemptsIsSettable", false)
        .with("DeliveryRetryIntervalIsSettable", false)
        .with("SubscriptionRemovalActionIsSettable", false)
        .with("SubscriptionRemovalTimeIntervalIsSettable", false)
        .with("MaxListenerDestinations", MAX_DESTINATIONS)
        .with("MaxActiveSubscriptions", MAX_SUBSCRIPTIONS)
        .with("SubscriptionsPersisted", true)
}

fn software() -> Instance {
    let version = env!("CARGO_PKG_VERSION");
    let mut numbers = version.split('.').map(|part| part.parse::<u16>().unwrap_or_default());
    let mut number = || numbers.next().unwrap_or_default();
    Instance::new(SOFTWARE)
        .with("InstanceID", SOFTWARE_ID)
        .with("ElementName", "lund")
        .with("Name", "lund")
        .with("VersionString", version)
        .with("MajorVersion", number())
        .with("MinorVersion", number())
        .with("RevisionNumber", number())
        .with("IsEntity", true)
        .with("OperationalStatus", Value::numbers(&[2]))
        .with("StatusDescriptions", Value::texts(["OK"]))
        .with("HealthState", 5_u16)
}

fn ws_man(view: &View<'_>) -> Instance {
    view.in_server(WS_MAN)
        .with("Name", WS_MAN_NAME)
        .with("ElementName", WS_MAN_NAME)
        .with("CommunicationMechanism", 4_u16)
        .with("Version", "1.1")
        // Reading and writing, instances, associations, pulled reading.
        .with("FunctionalProfilesSupported", Value::numbers(&[2, 3, 5, 6, 10]))
        .with("MultipleOperationsSupported", false)
        // None (through loopback, before there is an administrator) and Basic.
        .with("AuthenticationMechanismsSupported", Value::numbers(&[2, 3]))
        .with("AdvertiseTypes", Value::numbers(&[2]))
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
}

fn cim_xml(view: &View<'_>) -> Instance {
    view.in_server(CIM_XML)
        .with("Name", CIM_XML_NAME)
        .with("ElementName", CIM_XML_NAME)
        .with("CommunicationMechanism", 2_u16)
        .with("CIMXMLProtocolVersion", 1_u16)
        .with("Version", "1.0")
        .with("CIMValidated", false)
        // Reading and writing, instances, associations, qualifiers, indications, pulled reading.
        .with("FunctionalProfilesSupported", Value::numbers(&[2, 3, 5, 6, 8, 9, 10]))
        .with("MultipleOperationsSupported", true)
        // None (through loopback, before there is an administrator) and Basic.
        .with("AuthenticationMechanismsSupported", Value::numbers(&[2, 3]))
        .with("AdvertiseTypes", Value::numbers(&[2]))
        .with("PulledEnumerationContinuationOnErrorSupported", false)
        .with("PulledEnumerationMinimumOperationTimeout", 1_u32)
        .with("PulledEnumerationMaximumOperationTimeout", 600_u32)
        .with("PulledEnumerationNoOperationTimeoutSupported", false)
        .with("EnabledState", 2_u16)
        .with("RequestedState", 12_u16)
}
