//! The methods of the classes.

use job_engine::{
    Cause, CimError, CreateDisk, DiskId, JobId, PoolId, Provisioning, RequestedState, Submission,
};

use super::arguments::missing;
use super::fault::{Fault, Status};
use super::instances::{JOB, POOL, SERVICE, VOLUME, job_path};
use super::modify::job;
use super::mof::{Member, Method};
use super::operations::Work;
use super::out::Out;
use super::path::ObjectPath;
use super::request::Parameter;
use super::time;
use super::value::{Instance, Value, convert};

/// Return values that all methods here share.
const COMPLETED: u32 = 0;
const NOT_SUPPORTED: u32 = 1;
const INVALID_PARAMETER: u32 = 5;
const IN_USE: u32 = 6;
const JOB_STARTED: u32 = 4096;
const SIZE_NOT_SUPPORTED: u32 = 4097;

/// What a method answers.
#[derive(Debug)]
pub(crate) struct Outcome {
    returned: u32,
    /// Those that have a value.
    outputs: Vec<(&'static str, Value)>,
}

impl Outcome {
    fn of(returned: u32) -> Self {
        Self { returned, outputs: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.outputs.push((name, value.into()));
        self
    }
}

/// Input parameters in their declared types.
struct Inputs {
    values: Vec<(String, Value)>,
}

impl Inputs {
    /// Clients may leave types out, and may send output parameters too.
    fn new(method: &Method, parameters: &[Parameter]) -> Result<Self, Fault> {
        let mut values: Vec<(String, Value)> = Vec::new();
        for parameter in parameters {
            let name = &parameter.name;
            let declared = method.parameters.iter();
            let declared = declared.clone().find(|own| own.name.eq_ignore_ascii_case(name));
            let declared = declared.ok_or_else(|| {
                Fault::invalid_parameter(format!("{} has no parameter {name}", method.name))
            })?;
            check_type(declared, parameter)?;
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
        Ok(Self { values })
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    fn required(&self, name: &str) -> Result<&Value, Fault> {
        self.get(name).ok_or_else(|| missing(name))
    }

    fn required_text(&self, name: &str) -> Result<&str, Fault> {
        self.required(name)?.as_text().ok_or_else(|| missing(name))
    }

    fn required_number(&self, name: &str) -> Result<u64, Fault> {
        self.required(name)?.as_uint().ok_or_else(|| missing(name))
    }

    fn reference(&self, name: &str) -> Option<&ObjectPath> {
        self.get(name)?.as_reference()
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
            (JOB, "RequestStateChange") => {
                request_state_change(self, &job(self, object)?, &inputs)?
            }
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
        Ok((self.written(method, &outcome), outcome.returned))
    }

    fn written(&self, method: &Method, outcome: &Outcome) -> String {
        let mut out = Out::default();
        let returned = outcome.returned.to_string();
        out.element("RETURNVALUE", &[("PARAMTYPE", method.returns.name())], |out| {
            out.leaf("VALUE", &[], &returned);
        });
        for member in &method.parameters {
            let value = outcome.outputs.iter().find(|(name, _)| *name == member.name);
            if let Some((_, value)) = value {
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
        let provisioning = match inputs.required_number("ElementType")? {
            // StorageVolume, ThinlyProvisionedStorageVolume, FullyProvisionedStorageVolume
            2 | 5 => Provisioning::Thin,
            7 => Provisioning::Full,
            3 | 4 | 6 | 8 => return Ok(Outcome::of(NOT_SUPPORTED)),
            _ => return Ok(Outcome::of(INVALID_PARAMETER)),
        };
        if inputs.get("Goal").is_some() {
            return Err(Fault::invalid_parameter("there are no settings that could be a Goal"));
        }
        let size = inputs.required_number("Size")?;
        let mut request = CreateDisk::new(inputs.required_text("ElementName")?, size);
        request.provisioning = provisioning;
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
        let id = self.volume(element)?;
        let size = inputs.required_number("Size")?;
        match self.engine.expand_disk_with(id, size, self.submission()) {
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

    /// The disk that `TheElement` names.
    fn volume(&self, element: &ObjectPath) -> Result<DiskId, Fault> {
        let instance = self.existing(element)?;
        if instance.class != VOLUME {
            return Err(Fault::invalid_parameter("TheElement is no storage volume"));
        }
        let id = instance.get("DeviceID").and_then(Value::as_text);
        let id = id.and_then(|id| id.parse::<DiskId>().ok());
        id.ok_or_else(|| Fault::not_found("there is no such storage volume"))
    }

    fn submission(&self) -> Submission {
        Submission { owner: self.client.to_owned(), ..Submission::default() }
    }

    /// `ReturnToStoragePool`
    fn give_back(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        let element = inputs.required("TheElement")?;
        let element = element.as_reference().ok_or_else(|| missing("TheElement"))?;
        let id = self.volume(element)?;
        match self.engine.delete_disk_with(id, self.submission()) {
            Ok(id) => Ok(started(&id)),
            Err(refused) if matches!(refused.cause(), Cause::DiskInUse { .. }) => {
                Ok(Outcome::of(IN_USE))
            }
            Err(refused) => Err(refused.into()),
        }
    }
}

fn started(id: &JobId) -> Outcome {
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
