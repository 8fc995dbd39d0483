//! Who may use which disk through which target: `CIM_StorageHardwareID` and privileges.
//!
//! A target is the view: its access list says who sees it (`views`).

use std::collections::BTreeMap;

use job_engine::{AccessEntry, INSTANCE_ID_PREFIX, Target};

use super::instances::{Part, Space, View, by_id, link};
use super::path::ObjectPath;
use super::value::{Instance, Value};
use super::views;

pub(crate) const MASKING_SERVICE: &str = "MSISCSITARGET_ControllerConfigurationService";
pub(crate) const HARDWARE_SERVICE: &str = "MSISCSITARGET_StorageHardwareIDManagementService";
pub(crate) const HARDWARE: &str = "MSISCSITARGET_StorageHardwareID";
pub(crate) const MASKING_CAPABILITIES: &str = "MSISCSITARGET_ProtocolControllerMaskingCapabilities";
const DEPENDENCY: &str = "MSISCSITARGET_ConcreteDependency";
const PRIVILEGE: &str = "MSISCSITARGET_AuthorizedPrivilege";
const SUBJECT: &str = "MSISCSITARGET_AuthorizedSubject";
const TARGET: &str = "MSISCSITARGET_AuthorizedTarget";
const ASSOCIATED: &str = "LUND_AssociatedPrivilege";

/// `InstanceID` of the one instance of its capabilities.
pub(crate) const MASKING_CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:masking";

/// Names of the records of initiators that clients have made known.
const RECORDS: &str = "cim/hardware-id/";

/// `IDType`
const OTHER: u16 = 1;
const ISCSI_NAME: u16 = 5;

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[
        (MASKING_SERVICE, Space::Storage),
        (HARDWARE_SERVICE, Space::Storage),
        (MASKING_CAPABILITIES, Space::Storage),
        (HARDWARE, Space::Storage),
        (PRIVILEGE, Space::Storage),
    ],
    links: &[
        (DEPENDENCY, Space::Storage),
        (SUBJECT, Space::Storage),
        (TARGET, Space::Storage),
        (ASSOCIATED, Space::Storage),
    ],
    instances,
};

/// Somebody who connects.
#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    id: String,
    kind: u16,
}

impl Hardware {
    /// By an iSCSI name.
    fn named(id: &str) -> Self {
        Self { id: id.to_owned(), kind: ISCSI_NAME }
    }

    /// Whom an entry of an access list lets in.
    fn of_entry(entry: &AccessEntry) -> Self {
        match (&entry.initiator, &entry.address) {
            (Some(name), None) if !name.contains('*') => Self::named(name),
            (name, address) => {
                let name = name.as_deref().unwrap_or("*");
                let id = match address {
                    Some(address) => format!("{name}@{address}"),
                    None => name.to_owned(),
                };
                Self { id, kind: OTHER }
            }
        }
    }

    fn path(&self) -> ObjectPath {
        hardware_path(&self.id)
    }

    fn instance(&self, element_name: &str) -> Instance {
        let other = (self.kind == OTHER).then_some("Pattern of names, address, or both");
        Instance::new(HARDWARE)
            .with("InstanceID", instance_id(&self.id))
            .with("ElementName", element_name)
            .with("StorageID", self.id.as_str())
            .with("IDType", self.kind)
            .with_some("OtherIDType", other)
    }
}

/// `StorageID` of those whom an entry concerns.
pub(crate) fn hardware_id(entry: &AccessEntry) -> String {
    Hardware::of_entry(entry).id
}

fn instance_id(id: &str) -> String {
    format!("{INSTANCE_ID_PREFIX}{id}")
}

/// The path of an initiator by its iSCSI name.
pub(crate) fn hardware_path(id: &str) -> ObjectPath {
    by_id(HARDWARE, &instance_id(id))
}

/// Name of the record of an initiator that clients have made known.
pub(crate) fn record(name: &str) -> String {
    format!("{RECORDS}{name}")
}

/// Names of initiators that clients have made known, with what they call them.
pub(crate) fn known(view: &View<'_>) -> BTreeMap<String, String> {
    let records = view.engine.records().into_iter();
    let own = records.filter_map(|it| Some((it.name.strip_prefix(RECORDS)?.to_owned(), it.text)));
    own.collect()
}

/// That somebody may use a target.
struct Granted<'v> {
    target: &'v Target,
    who: Hardware,
    /// Everybody is let in by a target without a list.
    entry: Option<&'v AccessEntry>,
}

impl Granted<'_> {
    fn id(&self) -> String {
        instance_id(&format!("{}#{}", self.target.name, self.who.id))
    }

    fn path(&self) -> ObjectPath {
        by_id(PRIVILEGE, &self.id())
    }

    /// The view of those who have it.
    fn controller(&self, view: &View<'_>) -> ObjectPath {
        views::path_for(view, &self.target.name, self.entry)
    }

    /// Read, and write.
    fn activities(&self) -> Value {
        let read_only = self.entry.is_some_and(|entry| entry.read_only);
        Value::numbers(if read_only { &[5] } else { &[5, 6] })
    }

    fn instance(&self) -> Instance {
        Instance::new(PRIVILEGE)
            .with("InstanceID", self.id())
            .with("ElementName", format!("{} may use {}", self.who.id, self.target.name))
            .with("PrivilegeGranted", true)
            .with("Activities", self.activities())
            .with("RepresentsAuthorizationRights", true)
    }
}

fn privileges<'v>(view: &'v View<'_>) -> impl Iterator<Item = Granted<'v>> {
    view.snapshot().targets.iter().flat_map(|target| {
        let everybody = || Hardware { id: "*".to_owned(), kind: OTHER };
        let open =
            target.access.is_none().then(|| Granted { target, who: everybody(), entry: None });
        let listed = target.access.iter().flatten().map(move |entry| Granted {
            target,
            who: Hardware::of_entry(entry),
            entry: Some(entry),
        });
        open.into_iter().chain(listed)
    })
}

/// Whether an initiator stands in the access list of a target.
pub(crate) fn is_privileged(view: &View<'_>, id: &str) -> bool {
    privileges(view).any(|it| it.who.id == id)
}

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    match class {
        MASKING_SERVICE => vec![view.service(MASKING_SERVICE, "Masking")],
        HARDWARE_SERVICE => vec![view.service(HARDWARE_SERVICE, "Initiators")],
        MASKING_CAPABILITIES => vec![capabilities()],
        HARDWARE => {
            let known = known(view);
            let made =
                known.iter().map(|(id, name)| (id.clone(), Hardware::named(id).instance(name)));
            let listed = privileges(view).map(|it| (it.who.id.clone(), it.who));
            let listed: BTreeMap<_, _> = listed.collect();
            let listed = listed.iter().filter(|(id, _)| !known.contains_key(*id));
            let listed = listed.map(|(id, who)| (id.clone(), who.instance(id)));
            made.chain(listed).map(|(_, instance)| instance).collect()
        }
        PRIVILEGE => privileges(view).map(|it| it.instance()).collect(),
        DEPENDENCY => {
            let service = || ("Antecedent", view.service_path(MASKING_SERVICE));
            let controllers = view.snapshot().targets.iter();
            let controllers = controllers.flat_map(|target| views::paths(view, target));
            controllers.map(|path| link(DEPENDENCY, service(), ("Dependent", path))).collect()
        }
        SUBJECT => {
            let subjects = privileges(view).map(|it| {
                let subject = ("PrivilegedElement", it.who.path());
                link(SUBJECT, ("Privilege", it.path()), subject)
            });
            subjects.collect()
        }
        TARGET => {
            let targets = privileges(view).map(|it| {
                let target = ("TargetElement", it.controller(view));
                link(TARGET, ("Privilege", it.path()), target)
            });
            targets.collect()
        }
        ASSOCIATED => {
            let associated = privileges(view).map(|it| {
                let to = ("Target", it.controller(view));
                link(ASSOCIATED, ("Subject", it.who.path()), to)
                    .with("UseKey", it.id())
                    .with("PrivilegeGranted", true)
                    .with("Activities", it.activities())
                    .with("RepresentsAuthorizationRights", true)
            });
            associated.collect()
        }
        _ => Vec::new(),
    }
}

fn capabilities() -> Instance {
    Instance::new(MASKING_CAPABILITIES)
        .with("InstanceID", MASKING_CAPABILITIES_ID)
        .with("ElementName", "Masking")
        .with("ValidHardwareIdTypes", Value::numbers(&[ISCSI_NAME]))
        // All ports share a view.
        .with("PortsPerView", 4_u16)
        .with("ClientSelectableDeviceNumbers", true)
        .with("AttachDeviceSupported", true)
        .with("OneHardwareIDPerView", false)
        .with("UniqueUnitNumbersPerPort", false)
        .with("PrivilegeDeniedSupported", false)
        .with("ProtocolControllerRequiresAuthorizedIdentity", false)
        .with("ProtocolControllerSupportsCollections", false)
        .with("ExposePathsSupported", true)
        .with("CreateProtocolControllerSupported", false)
        .with("MaximumMapCount", 0_u16)
        .with("SPCAllowsNoLUs", true)
        .with("SPCAllowsNoTargets", true)
        .with("SPCAllowsNoInitiators", true)
        .with("SPCSupportsDefaultViews", false)
        .with("ExposePathsWithNameAndHostTypeSupported", false)
        .with("SupportedAsynchronousActions", Value::numbers(&[]))
        .with("SupportedSynchronousActions", Value::numbers(&[2, 3, 4, 11, 12, 15, 16, 18]))
}
