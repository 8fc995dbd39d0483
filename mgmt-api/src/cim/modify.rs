//! Making, changing and removing instances: jobs, settings, accounts, and what subscribes to
//! indications.

use job_engine::{Cause, JobId, JobSettings};

use super::arguments::Arguments;
use super::credentials;
use super::fault::{Fault, Status};
use super::indications::is_ours;
use super::instances::{JOB, Space, named_keys};
use super::operations::Work;
use super::path::ObjectPath;
use super::schema::has;
use super::settings::SETTING;
use super::time;
use super::value::{Raw, Value, convert};

/// `CreateInstance`; the new instance's path.
pub(crate) fn create_instance(
    work: &Work<'_>,
    arguments: &Arguments<'_>,
) -> Result<ObjectPath, Fault> {
    let instance = arguments.instance("NewInstance")?;
    let class = work.class(&instance.class)?;
    if credentials::is_ours(&class.name) && work.space == Space::Storage {
        return work.create_credential(instance);
    }
    if !is_ours(&class.name) || work.space != Space::Interop {
        let text = format!("instances of {} cannot be made in {}", class.name, work.namespace);
        return Err(Fault::not_supported(text));
    }
    work.indications.create(work.engine, instance, work.namespace)
}

/// Whether a path is that of a filter, a destination or a subscription.
fn is_of_indications(work: &Work<'_>, path: &ObjectPath) -> Result<bool, Fault> {
    Ok(work.space == Space::Interop && is_ours(&work.class(&path.class)?.name))
}

/// `ModifyInstance`. Without a list of properties, those that cannot be written are left alone:
/// clients send back the whole instance that they read.
pub(crate) fn modify_instance(work: &Work<'_>, arguments: &Arguments<'_>) -> Result<(), Fault> {
    let (path, instance) = arguments.named_instance("ModifiedInstance")?;
    if !path.class.eq_ignore_ascii_case(&instance.class) {
        return Err(Fault::invalid_parameter("the path and the instance are of different classes"));
    }
    if is_of_indications(work, path)? {
        return work.indications.modify(work.engine, path, instance);
    }
    let listed = arguments.names("PropertyList")?;
    if credentials::is_ours(&path.class) {
        return work.modify_credential(path, instance, listed.as_deref());
    }
    if work.class(&path.class)?.name == SETTING {
        return work.modify_setting(path, instance, listed.as_deref());
    }
    let id = job(work, path)?;
    let mut settings = JobSettings::default();
    if let Some(names) = &listed {
        for name in names {
            let given = instance.properties.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
            let value = given.map_or(&Raw::Null, |(_, value)| value);
            set(work, &mut settings, name, value, true)?;
        }
    } else {
        let current = work.existing(path)?;
        for (name, value) in &instance.properties {
            if !unchanged(work, current.get(name), name, value) {
                set(work, &mut settings, name, value, false)?;
            }
        }
    }
    Ok(work.engine.modify_job(&id, settings)?)
}

/// `SetProperty`
pub(crate) fn set_property(work: &Work<'_>, arguments: &Arguments<'_>) -> Result<(), Fault> {
    let id = job(work, arguments.path("InstanceName")?)?;
    let name = arguments.required_text("PropertyName")?;
    let mut settings = JobSettings::default();
    set(work, &mut settings, &name, &arguments.any("NewValue"), true)?;
    Ok(work.engine.modify_job(&id, settings)?)
}

/// `DeleteInstance`
pub(crate) fn delete_instance(work: &Work<'_>, arguments: &Arguments<'_>) -> Result<(), Fault> {
    let path = arguments.path("InstanceName")?;
    if is_of_indications(work, path)? {
        return work.indications.delete(work.engine, path);
    }
    if credentials::is_ours(&path.class) {
        return work.delete_credential(path);
    }
    if work.class(&path.class)?.name == SETTING {
        return work.delete_setting(path);
    }
    let id = job(work, path)?;
    work.engine.delete_job(&id).map_err(|refused| {
        let running = matches!(refused.cause(), Cause::JobNotEnded { .. });
        let fault = Fault::from(refused);
        // The engine's code may say more than clients expect here.
        if running { Fault { status: Status::Failed, ..fault } } else { fault }
    })
}

/// The job that a path means; nothing else can be changed.
pub(crate) fn job(work: &Work<'_>, path: &ObjectPath) -> Result<JobId, Fault> {
    let class = work.class(&path.class)?;
    let instance = work.existing(path)?;
    if instance.class != JOB {
        let text = format!("instances of {} cannot be changed", class.name);
        return Err(Fault::not_supported(text));
    }
    let path = named_keys(class, path);
    let id = path.text_key("InstanceID").and_then(|id| id.parse().ok());
    id.ok_or_else(|| Fault::not_found("there is no such job"))
}

/// What is sent back as it was read is no wish.
fn unchanged(work: &Work<'_>, current: Option<&Value>, name: &str, raw: &Raw) -> bool {
    let property = work.schema.class(JOB).and_then(|class| class.property(name));
    property.is_some_and(|own| {
        convert(raw, &own.cim_type, own.array, name).is_ok_and(|value| value.as_ref() == current)
    })
}

fn set(
    work: &Work<'_>,
    settings: &mut JobSettings,
    name: &str,
    raw: &Raw,
    strict: bool,
) -> Result<(), Fault> {
    let class = work.class(JOB)?;
    let property = class.property(name).ok_or_else(|| {
        Fault::new(Status::NoSuchProperty, format!("{JOB} has no property {name}"))
    })?;
    let value = convert(raw, &property.cim_type, property.array, name)?;
    if !has(&property.qualifiers, "Write") {
        let text = format!("{name} cannot be written");
        return if strict { Err(Fault::not_supported(text)) } else { Ok(()) };
    }
    let wrong = |what: &str| Fault::new(Status::TypeMismatch, format!("{name} must be {what}"));
    let text = value.as_ref().and_then(Value::as_text);
    match (property.name.as_str(), &value) {
        // Once only and in UTC, as it is anyway.
        (_, None)
        | ("JobRunTimes", Some(Value::Uint(1)))
        | ("LocalOrUtcTime", Some(Value::Uint(2))) => Ok(()),
        ("DeleteOnCompletion", Some(flag)) => {
            settings.delete_on_completion = flag.as_bool();
            Ok(())
        }
        ("Notify", Some(_)) => {
            settings.notify = text.map(str::to_owned);
            Ok(())
        }
        ("Priority", Some(number)) => {
            settings.priority = number.as_uint().and_then(|number| u32::try_from(number).ok());
            Ok(())
        }
        ("TimeBeforeRemoval", Some(_)) => {
            let length = text.and_then(time::parse_interval).ok_or_else(|| wrong("an interval"))?;
            settings.time_before_removal = Some(length);
            Ok(())
        }
        ("ScheduledStartTime", Some(_)) => {
            let moment = text.and_then(time::parse_datetime).ok_or_else(|| wrong("a date"))?;
            settings.scheduled_start_time = Some(moment);
            Ok(())
        }
        _ => Err(Fault::not_supported(format!("jobs do not recur: {name} cannot be set"))),
    }
}
