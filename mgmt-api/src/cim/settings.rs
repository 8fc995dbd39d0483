//! What volumes and sessions are set to, and what pools can make: `CIM_StorageSetting`,
//! `CIM_StorageCapabilities`, `CIM_iSCSISessionSettings`.

use std::collections::BTreeMap;

use job_engine::{Disk, DiskSnapshot, INSTANCE_ID_PREFIX, ImageFormat, Provisioning, StoredRecord};

use super::fault::{Fault, Status};
use super::instances::{Part, Space, View, by_id, link, pool_path};
use super::methods::{COMPLETED, FAILED, INVALID_PARAMETER, Inputs, Outcome};
use super::operations::Work;
use super::path::ObjectPath;
use super::ports;
use super::schema::has;
use super::stored;
use super::value::{Instance, RawInstance, Value, convert};

pub(crate) const SETTING: &str = "MSISCSITARGET_StorageSetting";
pub(crate) const STORAGE_CAPABILITIES: &str = "MSISCSITARGET_StorageCapabilities";
const OF_CAPABILITIES: &str = "MSISCSITARGET_StorageSettingsAssociatedToCapabilities";
const OF_ELEMENT: &str = "MSISCSITARGET_ElementSettingData";
const OF_SESSIONS: &str = "MSISCSITARGET_iSCSISessionSettings";
const CLIENT: &str = "MSISCSITARGET_StorageClientSettingData";
pub(crate) const REPLICA_CAPABILITIES: &str = "MSISCSITARGET_StorageReplicationCapabilities";

/// `InstanceID`s of what is always there.
pub(crate) const STORAGE_CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:volumes";
pub(crate) const REPLICA_CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:replicas";
const CLIENT_ID: &str = "MSISCSITARGET:setting:any-host";

/// Names of the records of settings that clients have made.
const RECORDS: &str = "cim/storage-setting/";
/// Settings that clients have made; beyond it the oldest goes.
const MOST: usize = 256;

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[
        (SETTING, Space::Storage),
        (STORAGE_CAPABILITIES, Space::Storage),
        (OF_SESSIONS, Space::Storage),
        (CLIENT, Space::Storage),
        (REPLICA_CAPABILITIES, Space::Storage),
    ],
    links: &[(OF_CAPABILITIES, Space::Storage), (OF_ELEMENT, Space::Storage)],
    instances,
};

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    match class {
        SETTING => {
            let fixed = kinds().map(|(provisioning, format)| fixed_setting(provisioning, format));
            fixed.chain(made(view).into_values()).collect()
        }
        STORAGE_CAPABILITIES => vec![capabilities()],
        OF_SESSIONS => {
            let targets = view.snapshot().targets.iter();
            targets.filter_map(|target| session_settings(view, &target.name)).collect()
        }
        CLIENT => vec![client()],
        REPLICA_CAPABILITIES => vec![replica_capabilities()],
        OF_CAPABILITIES => {
            let default = (Provisioning::Thin, ImageFormat::Raw);
            let fixed = kinds().map(|kind| (setting_id(kind.0, kind.1), kind == default));
            let made = made(view).into_keys().map(|id| (id, false));
            let of = |(id, default): (String, bool)| {
                let capabilities = by_id(STORAGE_CAPABILITIES, STORAGE_CAPABILITIES_ID);
                let setting = ("Dependent", by_id(SETTING, &id));
                link(OF_CAPABILITIES, ("Antecedent", capabilities), setting)
                    .with("DefaultSetting", default)
            };
            fixed.chain(made).map(of).collect()
        }
        OF_ELEMENT => of_elements(view),
        _ => Vec::new(),
    }
}

fn set_to(element: ObjectPath, setting: ObjectPath) -> Instance {
    link(OF_ELEMENT, ("ManagedElement", element), ("SettingData", setting))
        .with("IsDefault", 1_u16)
        .with("IsCurrent", 1_u16)
        .with("IsNext", 1_u16)
}

fn of_elements(view: &View<'_>) -> Vec<Instance> {
    let state = view.snapshot();
    let of_disk = |disk: &Disk| {
        let id = setting_id(disk.provisioning, disk.format);
        set_to(view.volume_path(disk.id), by_id(SETTING, &id))
    };
    let of_snapshot = |snapshot: &DiskSnapshot| {
        let disk = state.disks.iter().find(|disk| disk.id == snapshot.disk);
        let format = snapshot.format.or(disk.map(|disk| disk.format)).unwrap_or_default();
        let id = setting_id(Provisioning::Thin, format);
        set_to(view.snapshot_path(snapshot.id), by_id(SETTING, &id))
    };
    let snapshots = state.snapshots.iter().map(of_snapshot);
    let of_sessions = |target: &str| by_id(OF_SESSIONS, &session_settings_id(target));
    let targets = state.targets.iter().flat_map(|target| {
        let name = target.name.as_str();
        let ports = view.portal_groups().iter();
        let ports = ports.map(move |group| ports::port_path(view, name, group.tag));
        std::iter::once(view.controller_path(name))
            .chain(ports)
            .map(move |path| set_to(path, of_sessions(name)))
    });
    let sessions = view.sessions().iter().filter_map(|session| {
        let target = session.session.target.as_ref()?;
        Some(set_to(ports::session_path(session.session.tsih), of_sessions(target)))
    });
    // Without a data path there are no settings of sessions either.
    let known = view.session_parameters().is_some();
    let of_sessions = targets.chain(sessions).filter(|_| known);
    state.disks.iter().map(of_disk).chain(snapshots).chain(of_sessions).collect()
}

/// What is the same for all volumes: one copy, whose host it depends on.
fn basics(setting: Instance) -> Instance {
    setting
        .with("NoSinglePointOfFailure", false)
        .with("DataRedundancyMin", 1_u16)
        .with("DataRedundancyMax", 1_u16)
        .with("DataRedundancyGoal", 1_u16)
        .with("PackageRedundancyMin", 0_u16)
        .with("PackageRedundancyMax", 0_u16)
        .with("PackageRedundancyGoal", 0_u16)
        // Fixed blocks.
        .with("DataOrganization", 2_u16)
}

/// What volumes can be; the first is what they are made by default.
fn kinds() -> impl Iterator<Item = (Provisioning, ImageFormat)> {
    let of = |format| [Provisioning::Thin, Provisioning::Full].map(|own| (own, format));
    ImageFormat::ALL.into_iter().flat_map(of)
}

/// `InstanceID` of the setting that volumes of a kind have.
fn setting_id(provisioning: Provisioning, format: ImageFormat) -> String {
    let kind = match provisioning {
        Provisioning::Thin => "thin",
        Provisioning::Full => "full",
    };
    if format == ImageFormat::Raw {
        format!("{INSTANCE_ID_PREFIX}setting:{kind}")
    } else {
        format!("{INSTANCE_ID_PREFIX}setting:{kind}-{format}")
    }
}

fn fixed_setting(provisioning: Provisioning, format: ImageFormat) -> Instance {
    let kind = match provisioning {
        Provisioning::Thin => "Thin",
        Provisioning::Full => "Fully provisioned",
    };
    let name =
        if format == ImageFormat::Raw { kind.to_owned() } else { format!("{kind}, {format}") };
    let setting = Instance::new(SETTING)
        .with("InstanceID", setting_id(provisioning, format))
        .with("ElementName", name)
        .with("ImageFormat", format.name());
    let setting = basics(setting).with("ChangeableType", 0_u16);
    // What a full volume reserves is its size, which no setting can say.
    match provisioning {
        Provisioning::Thin => setting.with("ThinProvisionedInitialReserve", 0_u64),
        Provisioning::Full => setting,
    }
}

fn capabilities() -> Instance {
    Instance::new(STORAGE_CAPABILITIES)
        .with("InstanceID", STORAGE_CAPABILITIES_ID)
        .with("ElementName", "Volumes")
        // Storage volumes.
        .with("ElementType", 3_u16)
        .with("NoSinglePointOfFailure", false)
        .with("NoSinglePointOfFailureDefault", false)
        .with("DataRedundancyMin", 1_u16)
        .with("DataRedundancyMax", 1_u16)
        .with("DataRedundancyDefault", 1_u16)
        .with("PackageRedundancyMin", 0_u16)
        .with("PackageRedundancyMax", 0_u16)
        .with("PackageRedundancyDefault", 0_u16)
        // Not supported; none.
        .with("Encryption", 1_u16)
        .with("SupportedCompressionRates", Value::numbers(&[1]))
        .with("SupportedDataOrganizations", Value::numbers(&[2]))
}

fn session_settings_id(target: &str) -> String {
    format!("{INSTANCE_ID_PREFIX}session-settings:{target}")
}

fn session_settings(view: &View<'_>, target: &str) -> Option<Instance> {
    let parameters = view.session_parameters()?;
    let setting = Instance::new(OF_SESSIONS)
        .with("InstanceID", session_settings_id(target))
        .with("ElementName", format!("Sessions of {target}"))
        .with("ChangeableType", 0_u16)
        .with("MaxConnectionsPerSession", u32::from(parameters.max_connections))
        .with("InitialR2TPreference", parameters.initial_r2t)
        .with("ImmediateDataPreference", parameters.immediate_data)
        .with("MaxOutstandingR2T", u32::from(parameters.max_outstanding_r2t))
        .with("MaxUnsolicitedFirstDataBurstLength", parameters.first_burst_length)
        .with("MaxDataBurstLength", parameters.max_burst_length)
        .with("DataSequenceInOrderPreference", true)
        .with("DataPDUInOrderPreference", true)
        .with("DefaultTimeToWaitPreference", u32::from(parameters.default_time2wait))
        .with("DefaultTimeToRetainPreference", u32::from(parameters.default_time2retain))
        .with("ErrorRecoveryLevelPreference", u32::from(parameters.error_recovery_level));
    Some(setting)
}

fn client() -> Instance {
    Instance::new(CLIENT)
        .with("InstanceID", CLIENT_ID)
        .with("ElementName", "Any host")
        .with("ChangeableType", 0_u16)
        // Standard.
        .with("ClientTypes", Value::numbers(&[2]))
        .with("OtherClientTypeDescriptions", Value::texts([""]))
}

/// Clients search in the lists: what there is none of is empty, not absent.
fn replica_capabilities() -> Instance {
    Instance::new(REPLICA_CAPABILITIES)
        .with("InstanceID", REPLICA_CAPABILITIES_ID)
        .with("ElementName", "Replicas")
        // Full copies of one instant.
        .with("SupportedSynchronizationType", 4_u16)
        // Creation and modification of local replicas.
        .with("SupportedAsynchronousActions", Value::numbers(&[2, 4]))
        .with("SupportedSynchronousActions", Value::numbers(&[]))
        .with("InitialReplicationState", 4_u16)
        .with("SupportedSpecializedElements", Value::numbers(&[]))
        // Detach and restore.
        .with("SupportedModifyOperations", Value::numbers(&[2, 5]))
        .with("ReplicaHostAccessibility", 2_u16)
        .with("HostAccessibleState", Value::numbers(&[]))
        .with("SpaceLimitSupported", false)
        .with("SpaceReservationSupported", false)
        .with("LocalMirrorSnapshotSupported", false)
        .with("RemoteMirrorSnapshotSupported", false)
        .with("IncrementalDeltasSupported", false)
        .with("PersistentReplicasSupported", true)
        .with("BidirectionalConnectionsSupported", false)
}

/// Settings that clients have made, by `InstanceID`, the oldest first.
fn made(view: &View<'_>) -> BTreeMap<String, Instance> {
    let records = view.engine.records().into_iter();
    let read = |StoredRecord { name, text }: StoredRecord| {
        name.strip_prefix(RECORDS)?;
        let instance = stored::read(&text, view.schema).filter(|it| it.class == SETTING)?;
        Some((instance.get("InstanceID")?.as_text()?.to_owned(), instance))
    };
    records.filter_map(read).collect()
}

fn record(id: &str) -> String {
    format!("{RECORDS}{id}")
}

fn unstorable() -> Fault {
    Fault::new(Status::Failed, "the setting cannot be stored")
}

/// What a client asks of a volume with a setting; what it leaves open is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) provisioning: Option<Provisioning>,
    pub(crate) format: Option<ImageFormat>,
}

/// What a setting asks for. `None` if no volume is like that.
pub(crate) fn wish(goal: &Instance) -> Option<Wish> {
    let number = |name: &str| goal.get(name).and_then(Value::as_uint);
    let within = |least: &str, most: &str, exact: &str, is: u64| {
        number(least).is_none_or(|least| least <= is)
            && number(most).is_none_or(|most| is <= most)
            && number(exact).is_none_or(|exact| exact <= is)
    };
    let safe = goal.get("NoSinglePointOfFailure").and_then(Value::as_bool) == Some(true);
    let copies = within("DataRedundancyMin", "DataRedundancyMax", "DataRedundancyGoal", 1);
    let spares = within("PackageRedundancyMin", "PackageRedundancyMax", "PackageRedundancyGoal", 0);
    if safe || !copies || !spares {
        return None;
    }
    let named = goal.get("ImageFormat").and_then(Value::as_text).filter(|name| !name.is_empty());
    let format = match named {
        None => None,
        Some(name) => Some(ImageFormat::ALL.into_iter().find(|own| own.name() == name)?),
    };
    let id = goal.get("InstanceID").and_then(Value::as_text);
    let full = |format| id == Some(setting_id(Provisioning::Full, format).as_str());
    let provisioning = match number("ThinProvisionedInitialReserve") {
        _ if ImageFormat::ALL.into_iter().any(full) => Some(Provisioning::Full),
        Some(0) => Some(Provisioning::Thin),
        None => None,
        // Some of a volume is not reserved.
        Some(_) => return None,
    };
    Some(Wish { provisioning, format })
}

impl Work<'_> {
    /// `CIM_StorageCapabilities.CreateSetting`: one that the client may change, to be a `Goal`.
    pub(crate) fn create_setting(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const DEFAULT: u64 = 2;
        const GOAL: u64 = 3;
        if ![DEFAULT, GOAL].contains(&inputs.required_number("SettingType")?) {
            return Ok(Outcome::of(INVALID_PARAMETER));
        }
        let id = format!("{INSTANCE_ID_PREFIX}setting:{}", uuid::Uuid::now_v7());
        let setting =
            Instance::new(SETTING).with("InstanceID", id.as_str()).with("ElementName", "Goal");
        // Changeable; it goes when there are too many.
        let setting = basics(setting).with("ChangeableType", 1_u16);
        let Some(text) = stored::write(&setting) else { return Ok(Outcome::of(FAILED)) };
        let made = made(&self.view);
        let surplus = (made.len() + 1).saturating_sub(MOST);
        for old in made.keys().take(surplus) {
            self.engine.save_record(record(old), None)?;
        }
        self.engine.save_record(record(&id), Some(text))?;
        Ok(Outcome::of(COMPLETED).with("NewSetting", by_id(SETTING, &id)))
    }

    /// `ModifyInstance` of a setting that a client has made.
    pub(crate) fn modify_setting(
        &self,
        path: &ObjectPath,
        raw: &RawInstance,
        listed: Option<&[String]>,
    ) -> Result<(), Fault> {
        let (id, mut setting) = self.own_setting(path)?;
        let class = self.class(SETTING)?;
        for (name, value) in &raw.properties {
            let wanted =
                listed.is_none_or(|list| list.iter().any(|own| own.eq_ignore_ascii_case(name)));
            let property = class.property(name).ok_or_else(|| {
                Fault::new(Status::NoSuchProperty, format!("{SETTING} has no property {name}"))
            })?;
            let value = convert(value, &property.cim_type, property.array, name)?;
            if !wanted || value.as_ref() == setting.get(name) {
                continue;
            }
            let title =
                property.name == "ElementName" || property.name == "ThinProvisionedInitialReserve";
            if !title && !has(&property.qualifiers, "Write") {
                if listed.is_none() {
                    // Clients send back what they read.
                    continue;
                }
                return Err(Fault::not_supported(format!("{name} cannot be written")));
            }
            setting.properties.retain(|(own, _)| *own != property.name);
            setting.properties.extend(value.map(|value| (property.name.clone().into(), value)));
        }
        for name in listed.into_iter().flatten() {
            let given = raw.properties.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
            if !given && class.property(name).is_some_and(|it| has(&it.qualifiers, "Write")) {
                setting.properties.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
            }
        }
        let text = stored::write(&setting).ok_or_else(unstorable)?;
        Ok(self.engine.save_record(record(&id), Some(text))?)
    }

    /// `DeleteInstance` of a setting that a client has made.
    pub(crate) fn delete_setting(&self, path: &ObjectPath) -> Result<(), Fault> {
        let (id, _) = self.own_setting(path)?;
        Ok(self.engine.save_record(record(&id), None)?)
    }

    fn own_setting(&self, path: &ObjectPath) -> Result<(String, Instance), Fault> {
        let found = self.existing(path)?;
        let id = found.get("InstanceID").and_then(Value::as_text).unwrap_or_default().to_owned();
        if !made(&self.view).contains_key(&id) {
            return Err(Fault::not_supported("this setting is fixed"));
        }
        Ok((id, found))
    }

    /// `CIM_StoragePool.GetSupportedSizes`: any multiple of a block will do.
    pub(crate) fn supported_sizes(inputs: &Inputs) -> Result<Outcome, Fault> {
        const USE_THE_RANGE: u32 = 2;
        Ok(Outcome::of(if is_volume(inputs)? { USE_THE_RANGE } else { INVALID_TYPE }))
    }

    /// `CIM_StoragePool.GetSupportedSizeRange`
    pub(crate) fn supported_size_range(
        &self,
        pool: &ObjectPath,
        inputs: &Inputs,
    ) -> Result<Outcome, Fault> {
        const NOT_SUPPORTED: u32 = 1;
        const THIN: u64 = 5;
        if !is_volume(inputs)? {
            return Ok(Outcome::of(INVALID_TYPE));
        }
        let mut pools = self.view.pools().iter();
        let Some(pool) = pools.find(|own| pool_path(&own.id).same_as(pool)) else {
            // Nothing is made of the primordial pool but pools.
            return Ok(Outcome::of(NOT_SUPPORTED));
        };
        let thin = inputs.required_number("ElementType")? == THIN;
        let most = pool.largest_disk(thin) / BLOCK * BLOCK;
        Ok(Outcome::of(COMPLETED)
            .with("MinimumVolumeSize", BLOCK)
            .with("MaximumVolumeSize", most)
            .with("VolumeSizeDivisor", BLOCK))
    }
}

/// What `GetSupportedSizes` and its kin return for elements that pools are not made of.
const INVALID_TYPE: u32 = 3;
/// Of volumes whose client does not say how long their blocks are.
const BLOCK: u64 = 512;

/// Whether a client asks about volumes; what else there might be, there is not.
fn is_volume(inputs: &Inputs) -> Result<bool, Fault> {
    const VOLUMES: [u64; 2] = [3, 5];
    Ok(VOLUMES.contains(&inputs.required_number("ElementType")?))
}
