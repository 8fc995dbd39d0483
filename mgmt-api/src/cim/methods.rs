//! The methods of the classes.

use job_engine::{
    Cause, CimError, CreateDisk, DiskId, JobId, PoolId, Provisioning, RequestedState, SnapshotId,
    Submission,
};

use super::arguments::missing;
use super::bulk::BULK_SERVICE;
use super::fault::{Fault, Status};
use super::instances::{JOB, POOL, SERVICE, VOLUME, job_path};
use super::masking::{HARDWARE_SERVICE, MASKING_SERVICE};
use super::modify::job;
use super::mof::{Member, Method};
use super::operations::Work;
use super::out::Out;
use super::path::ObjectPath;
use super::ports::{CONNECTION, ISCSI_SERVICE, SESSION};
use super::replicas::{REPLICATION_CAPABILITIES, REPLICATION_SERVICE};
use super::replicate;
use super::request::Parameter;
use super::settings::{self, SETTING, STORAGE_CAPABILITIES, Wish};
use super::time;
use super::value::{CimType, Instance, Raw, Value, convert};

/// Return values that all methods here share.
pub(super) const COMPLETED: u32 = 0;
pub(super) const NOT_SUPPORTED: u32 = 1;
pub(super) const FAILED: u32 = 4;
pub(super) const INVALID_PARAMETER: u32 = 5;
pub(super) const IN_USE: u32 = 6;
const JOB_STARTED: u32 = 4096;
const SIZE_NOT_SUPPORTED: u32 = 4097;

/// What a method answers.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(super) returned: u32,
    /// Those that have a value.
    outputs: Vec<(&'static str, Value)>,
}

impl Outcome {
    pub(super) fn of(returned: u32) -> Self {
        Self { returned, outputs: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.outputs.push((name, value.into()));
        self
    }

    pub(super) fn output(&self, name: &str) -> Option<&Value> {
        self.outputs.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }
}

/// Input parameters in their declared types.
pub(super) struct Inputs {
    values: Vec<(String, Value)>,
    /// Embedded instances that came: their content is not read.
    embedded: Vec<String>,
}

impl Inputs {
    /// Clients may leave types out, and may send output parameters too.
    fn new(method: &Method, parameters: &[Parameter]) -> Result<Self, Fault> {
        let mut values: Vec<(String, Value)> = Vec::new();
        let mut embedded = Vec::new();
        for parameter in parameters {
            let name = &parameter.name;
            let declared = method.parameters.iter();
            let declared = declared.clone().find(|own| own.name.eq_ignore_ascii_case(name));
            let declared = declared.ok_or_else(|| {
                Fault::invalid_parameter(format!("{} has no parameter {name}", method.name))
            })?;
            check_type(declared, parameter)?;
            if declared.embedded().is_some() && parameter.value != Raw::Null {
                embedded.push(declared.name.clone());
            }
            if !declared.is_input() || declared.embedded().is_some() {
                continue;
            }
            let value = convert(&parameter.value, &declared.cim_type, declared.array, name);
            let Some(value) = value.map_err(Fault::of_parameter)? else { continue };
            if values.iter().any(|(own, _)| *own == declared.name) {
                return Err(Fault::invalid_parameter(format!("{name} comes twice")));
            }
            values.push((declared.name.clone(), value));
        }
        Ok(Self { values, embedded })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Whether it was given, embedded instances too.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some() || self.embedded.iter().any(|own| own == name)
    }

    fn required(&self, name: &str) -> Result<&Value, Fault> {
        self.get(name).ok_or_else(|| missing(name))
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&str, Fault> {
        self.required(name)?.as_text().ok_or_else(|| missing(name))
    }

    pub(super) fn required_number(&self, name: &str) -> Result<u64, Fault> {
        self.required(name)?.as_uint().ok_or_else(|| missing(name))
    }

    pub(super) fn required_reference(&self, name: &str) -> Result<&ObjectPath, Fault> {
        self.required(name)?.as_reference().ok_or_else(|| missing(name))
    }

    pub(super) fn reference(&self, name: &str) -> Option<&ObjectPath> {
        self.get(name)?.as_reference()
    }

    /// An array; nothing if it was not given.
    fn array(&self, name: &str) -> &[Value] {
        if let Some(Value::Array(values)) = self.get(name) { values } else { &[] }
    }

    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        self.array(name).iter().filter_map(Value::as_text).collect()
    }

    pub(super) fn numbers(&self, name: &str) -> Vec<u64> {
        self.array(name).iter().filter_map(Value::as_uint).collect()
    }

    pub(super) fn references(&self, name: &str) -> Vec<&ObjectPath> {
        self.array(name).iter().filter_map(Value::as_reference).collect()
    }
}

/// A type that the client says must be the declared one.
fn check_type(declared: &Member, parameter: &Parameter) -> Result<(), Fault> {
    match &parameter.cim_type {
        Some(given) if !given.eq_ignore_ascii_case(declared.cim_type.name()) => {
            Err(Fault::invalid_parameter(format!(
                "{} is of the type {}, not {given}",
                declared.name,
                declared.cim_type.name()
            )))
        }
        _ => Ok(()),
    }
}

impl Work<'_> {
    /// Calls a method; the content of `METHODRESPONSE`, and the return value.
    pub(crate) fn call(
        &self,
        object: &ObjectPath,
        name: &str,
        parameters: &[Parameter],
    ) -> Result<(String, u32), Fault> {
        let (method, outcome) = self.invoke(object, name, parameters)?;
        Ok((self.written(method, &outcome), outcome.returned))
    }

    /// Calls a method; its declaration, and what it answers.
    pub(super) fn invoke(
        &self,
        object: &ObjectPath,
        name: &str,
        parameters: &[Parameter],
    ) -> Result<(&Method, Outcome), Fault> {
        let class = self.class(&object.class)?;
        let method = class.method(name).ok_or_else(|| {
            Fault::new(Status::MethodNotFound, format!("{} has no method {name}", class.name))
        })?;
        if object.keys.is_empty() {
            return Err(Fault::invalid_parameter(format!("{name} is called on an instance")));
        }
        self.existing(object)?;
        let inputs = Inputs::new(method, parameters)?;
        let engine = self.engine;
        let outcome = match (class.name.as_str(), method.name.as_str()) {
            (SERVICE, "CreateOrModifyElementFromStoragePool") => self.create(&inputs)?,
            (SERVICE, "ReturnToStoragePool") => self.give_back(&inputs)?,
            (SERVICE, "CreateReplica") => self.create_copy(&inputs)?,
            (SERVICE, "ModifySynchronization") => self.modify_copy(&inputs)?,
            (STORAGE_CAPABILITIES, "CreateSetting") => self.create_setting(&inputs)?,
            (POOL, "GetSupportedSizes") => Self::supported_sizes(&inputs)?,
            (POOL, "GetSupportedSizeRange") => self.supported_size_range(object, &inputs)?,
            (MASKING_SERVICE, "ExposePaths") => self.expose_paths(&inputs)?,
            (MASKING_SERVICE, "HidePaths") => self.hide_paths(&inputs)?,
            (MASKING_SERVICE, "DeleteProtocolController") => self.delete_controller(&inputs)?,
            (MASKING_SERVICE, "AttachDevice") => self.attach_device(&inputs)?,
            (MASKING_SERVICE, "DetachDevice") => self.detach_device(&inputs)?,
            (HARDWARE_SERVICE, "CreateStorageHardwareID") => self.create_hardware_id(&inputs)?,
            (HARDWARE_SERVICE, "DeleteStorageHardwareID") => self.delete_hardware_id(&inputs)?,
            (ISCSI_SERVICE, "CreateiSCSINode") => self.create_node(&inputs)?,
            (ISCSI_SERVICE, "DeleteiSCSINode") => self.delete_node(&inputs)?,
            (ISCSI_SERVICE, "CreateiSCSIProtocolEndpoint") => self.create_endpoint(&inputs)?,
            (ISCSI_SERVICE, "DeleteiSCSIProtocolEndpoint" | "BindiSCSIProtocolEndPoint") => {
                self.change_endpoint(&inputs)?
            }
            (REPLICATION_SERVICE, "CreateElementReplica") => self.create_replica(&inputs)?,
            (REPLICATION_SERVICE, "CreateListReplica") => self.create_replicas(&inputs)?,
            (REPLICATION_SERVICE, "ModifyReplicaSynchronization") => {
                self.modify_synchronization(&inputs)?
            }
            (REPLICATION_CAPABILITIES, name) => match name {
                "ConvertSyncTypeToReplicationType" => replicate::to_replication_type(&inputs)?,
                "ConvertReplicationTypeToSyncType" => replicate::to_sync_type(&inputs)?,
                "GetSupportedFeatures" => replicate::features(&inputs)?,
                "GetSupportedOperations" => replicate::operations(&inputs)?,
                _ => replicate::copy_states(&inputs)?,
            },
            (BULK_SERVICE, "GetStatisticsCollection") => self.bulk(&inputs)?,
            (JOB, "RequestStateChange") => {
                request_state_change(self, &job(self, object)?, &inputs)?
            }
            (SESSION | CONNECTION, "RequestStateChange") => self.end_session(object, &inputs)?,
            (_, "RequestStateChange") => Outcome::of(NOT_SUPPORTED),
            (JOB, "KillJob") => {
                let delete = inputs.get("DeleteOnKill").and_then(Value::as_bool).unwrap_or(false);
                Outcome::of(engine.kill(&job(self, object)?, delete, self.client).number())
            }
            (JOB, "GetError") => {
                let errors = engine.errors(&job(self, object)?)?;
                match errors.first() {
                    Some(error) => Outcome::of(COMPLETED).with("Error", embedded(error)),
                    None => Outcome::of(COMPLETED),
                }
            }
            (JOB, "GetErrors") => {
                let errors = engine.errors(&job(self, object)?)?;
                let outcome = Outcome::of(COMPLETED);
                if errors.is_empty() {
                    outcome
                } else {
                    outcome.with("Errors", Value::Array(errors.iter().map(embedded).collect()))
                }
            }
            _ => return Err(Fault::not_supported(format!("{name} is not supported"))),
        };
        Ok((method, outcome))
    }

    fn written(&self, method: &Method, outcome: &Outcome) -> String {
        let mut out = Out::default();
        let returned = outcome.returned.to_string();
        out.element("RETURNVALUE", &[("PARAMTYPE", method.returns.name())], |out| {
            out.leaf("VALUE", &[], &returned);
        });
        for member in &method.parameters {
            let value = outcome.output(&member.name);
            let references = member.array && matches!(member.cim_type, CimType::Reference(_));
            if let Some(value) = value.filter(|_| !references || self.reference_arrays) {
                self.encoder.parameter(&mut out, member, value);
            }
        }
        out.finish()
    }

    /// `CreateOrModifyElementFromStoragePool`
    fn create(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        if let Some(element) = inputs.reference("TheElement") {
            return self.expand(element, inputs);
        }
        let element_type = inputs.required_number("ElementType")?;
        let provisioning = match element_type {
            // StorageVolume, ThinlyProvisionedStorageVolume, FullyProvisionedStorageVolume
            2 | 5 => Provisioning::Thin,
            7 => Provisioning::Full,
            3 | 4 | 6 | 8 => return Ok(Outcome::of(NOT_SUPPORTED)),
            _ => return Ok(Outcome::of(INVALID_PARAMETER)),
        };
        let wish = match inputs.reference("Goal") {
            None => Wish::default(),
            Some(goal) => match self.goal(goal)? {
                Some(wish) => wish,
                None => return Ok(Outcome::of(NOT_SUPPORTED)),
            },
        };
        let provisioning = match (wish.provisioning, element_type) {
            // What the type leaves open, the setting may say.
            (Some(wish), 2) => wish,
            (wish, _) if wish.is_none_or(|wish| wish == provisioning) => provisioning,
            _ => return Ok(Outcome::of(NOT_SUPPORTED)),
        };
        let size = inputs.required_number("Size")?;
        let mut request = CreateDisk::new(inputs.required_text("ElementName")?, size);
        request.provisioning = provisioning;
        request.format = wish.format.unwrap_or_default();
        if let Some(pool) = inputs.reference("InPool") {
            let instance = self.existing(pool)?;
            if instance.class != POOL {
                return Err(Fault::invalid_parameter("InPool is no pool"));
            }
            request.pool = instance.get("InstanceID").and_then(Value::as_text).map(PoolId::parse);
        }
        match self.engine.create_disk_with(request, self.submission()) {
            Ok(id) => Ok(started(&id).with("Size", size)),
            Err(refused) => {
                if let Cause::BadSize { nearest: Some(nearest), .. } = refused.cause() {
                    return Ok(Outcome::of(SIZE_NOT_SUPPORTED).with("Size", *nearest));
                }
                Err(refused.into())
            }
        }
    }

    /// `CreateOrModifyElementFromStoragePool` with `TheElement`: only the size can be modified.
    fn expand(&self, element: &ObjectPath, inputs: &Inputs) -> Result<Outcome, Fault> {
        if inputs.get("Goal").is_some() || inputs.get("ElementName").is_some() {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let Volume::Disk(id) = self.volume(element)? else {
            return Ok(Outcome::of(NOT_SUPPORTED));
        };
        let size = inputs.required_number("Size")?;
        let smaller = self.engine.disk(&id).is_some_and(|disk| size < disk.size_bytes);
        let submitted = if smaller {
            self.engine.shrink_disk(id, size, self.submission())
        } else {
            self.engine.expand_disk_with(id, size, self.submission())
        };
        match submitted {
            Ok(id) => Ok(started(&id).with("Size", size)),
            Err(refused) => {
                if let Cause::BadSize { nearest: Some(nearest), .. } = refused.cause() {
                    return Ok(Outcome::of(SIZE_NOT_SUPPORTED).with("Size", *nearest));
                }
                if matches!(refused.cause(), Cause::DiskInUse { .. }) {
                    return Ok(Outcome::of(IN_USE));
                }
                Err(refused.into())
            }
        }
    }

    /// What a client asks for with a setting.
    pub(super) fn goal(&self, path: &ObjectPath) -> Result<Option<Wish>, Fault> {
        let goal = self.existing(path)?;
        if goal.class != SETTING {
            return Err(Fault::invalid_parameter("Goal is no CIM_StorageSetting"));
        }
        Ok(settings::wish(&goal))
    }

    /// What a storage volume is.
    pub(super) fn volume(&self, element: &ObjectPath) -> Result<Volume, Fault> {
        let instance = self.existing(element)?;
        if instance.class != VOLUME {
            return Err(Fault::invalid_parameter("it is no storage volume"));
        }
        let missing = || Fault::not_found("there is no such storage volume");
        let id = instance.get("DeviceID").and_then(Value::as_text).ok_or_else(missing)?;
        let disk = id.parse::<DiskId>().map_err(|_| missing())?;
        if self.view.has_disk(disk) {
            return Ok(Volume::Disk(disk));
        }
        id.parse().map(Volume::Snapshot).map_err(|_| missing())
    }

    /// The disk that a storage volume is, and not a snapshot.
    pub(super) fn disk(&self, element: &ObjectPath) -> Result<DiskId, Fault> {
        match self.volume(element)? {
            Volume::Disk(disk) => Ok(disk),
            Volume::Snapshot(_) => Err(Fault::invalid_parameter("it is a snapshot")),
        }
    }

    pub(super) fn submission(&self) -> Submission {
        Submission { owner: self.client.to_owned(), ..Submission::default() }
    }

    /// `ReturnToStoragePool`
    fn give_back(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        replicate::job(match self.volume(inputs.required_reference("TheElement")?)? {
            Volume::Disk(id) => self.engine.delete_disk_with(id, self.submission()),
            Volume::Snapshot(id) => self.engine.delete_snapshot(id, self.submission()),
        })
    }
}

/// What a storage volume is.
pub(super) enum Volume {
    Disk(DiskId),
    Snapshot(SnapshotId),
}

pub(super) fn started(id: &JobId) -> Outcome {
    Outcome::of(JOB_STARTED).with("Job", job_path(id))
}

fn request_state_change(work: &Work<'_>, id: &JobId, inputs: &Inputs) -> Result<Outcome, Fault> {
    let number = inputs.required_number("RequestedState")?;
    let state = u16::try_from(number).ok().and_then(RequestedState::from_number);
    let Some(state) = state else { return Ok(Outcome::of(INVALID_PARAMETER)) };
    let timeout = match inputs.get("TimeoutPeriod").and_then(Value::as_text) {
        None => None,
        Some(text) => Some(
            time::parse_interval(text)
                .ok_or_else(|| Fault::invalid_parameter("TimeoutPeriod must be an interval"))?,
        ),
    };
    Ok(Outcome::of(work.engine.request_state_change(id, state, timeout, work.client).number()))
}

fn embedded(error: &CimError) -> Value {
    Value::Embedded(Box::new(error_instance(error)))
}

/// A `CIM_Error` with all of its properties.
pub(crate) fn error_instance(error: &CimError) -> Instance {
    let optional = |text: &Option<String>| text.as_deref().map(Value::from);
    Instance::new("CIM_Error")
        .with("ErrorType", error.error_type)
        .with_some("OtherErrorType", optional(&error.other_error_type))
        .with("OwningEntity", error.owning_entity.as_str())
        .with("MessageID", error.message_id.as_str())
        .with("Message", error.message.as_str())
        .with("MessageArguments", Value::texts(&error.message_arguments))
        .with("PerceivedSeverity", error.perceived_severity)
        .with("ProbableCause", error.probable_cause)
        .with_some("ProbableCauseDescription", optional(&error.probable_cause_description))
        .with("RecommendedActions", Value::texts(&error.recommended_actions))
        .with_some("ErrorSource", optional(&error.error_source))
        .with("ErrorSourceFormat", error.error_source_format)
        .with_some("OtherErrorSourceFormat", optional(&error.other_error_source_format))
        .with("CIMStatusCode", error.cim_status_code)
        .with_some("CIMStatusCodeDescription", optional(&error.cim_status_code_description))
}
