//! Parameters of intrinsic operations.

use super::fault::{Fault, Status};
use super::path::ObjectPath;
use super::value::{CimType, Raw, RawInstance, Value, convert};

/// Entries of a list of properties; every instance is compared with all of them.
const MAX_NAMES: usize = 512;

/// The parameters of one call.
pub(crate) struct Arguments<'a> {
    all: &'a [(String, Raw)],
}

impl<'a> Arguments<'a> {
    /// Refuses what the operation does not have, and what is there twice.
    pub(crate) fn new(all: &'a [(String, Raw)], allowed: &[&str]) -> Result<Self, Fault> {
        for (index, (name, _)) in all.iter().enumerate() {
            if !allowed.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                return Err(Fault::invalid_parameter(format!("there is no parameter {name}")));
            }
            if all.iter().skip(index + 1).any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return Err(Fault::invalid_parameter(format!("the parameter {name} comes twice")));
            }
        }
        Ok(Self { all })
    }

    /// `None` if it is missing or NULL.
    fn raw(&self, name: &str) -> Option<&'a Raw> {
        let found = self.all.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, raw)| raw).filter(|raw| **raw != Raw::Null)
    }

    fn value(&self, name: &str, cim_type: &CimType, array: bool) -> Result<Option<Value>, Fault> {
        let raw = self.raw(name).unwrap_or(&Raw::Null);
        convert(raw, cim_type, array, name).map_err(Fault::of_parameter)
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Fault> {
        let value = self.value(name, &CimType::Boolean, false)?;
        Ok(value.and_then(|value| value.as_bool()).unwrap_or(default))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let value = self.value(name, &CimType::Uint(32), false)?;
        Ok(value.and_then(|value| value.as_uint()))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        let value = self.value(name, &CimType::String, false)?;
        Ok(value.and_then(|value| value.as_text().map(str::to_owned)))
    }

    pub(crate) fn required_text(&self, name: &str) -> Result<String, Fault> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A list of names; `None` is everything.
    pub(crate) fn names(&self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        let value = self.value(name, &CimType::String, true)?;
        let Some(Value::Array(items)) = value else { return Ok(None) };
        if items.len() > MAX_NAMES {
            return Err(Fault::invalid_parameter(format!("{name} has too many entries")));
        }
        Ok(Some(items.iter().filter_map(|item| item.as_text().map(str::to_owned)).collect()))
    }

    pub(crate) fn class(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        match self.raw(name) {
            None => Ok(None),
            Some(Raw::ClassName(class) | Raw::Text(class)) => Ok(Some(class)),
            Some(_) => Err(Fault::invalid_parameter(format!("{name} must be a class name"))),
        }
    }

    pub(crate) fn required_class(&self, name: &str) -> Result<&'a str, Fault> {
        self.class(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn path(&self, name: &str) -> Result<&'a ObjectPath, Fault> {
        match self.raw(name) {
            None => Err(missing(name)),
            Some(Raw::Reference(path)) => Ok(path),
            Some(Raw::ClassName(_)) => {
                Err(Fault::not_supported("associations of classes are not supported"))
            }
            Some(_) => Err(Fault::invalid_parameter(format!("{name} must be an instance name"))),
        }
    }

    pub(crate) fn instance(&self, name: &str) -> Result<&'a RawInstance, Fault> {
        match self.raw(name) {
            None => Err(missing(name)),
            Some(Raw::Instance(instance)) => Ok(instance),
            Some(_) => Err(Fault::invalid_parameter(format!("{name} must be an instance"))),
        }
    }

    pub(crate) fn named_instance(
        &self,
        name: &str,
    ) -> Result<(&'a ObjectPath, &'a RawInstance), Fault> {
        match self.raw(name) {
            None => Err(missing(name)),
            Some(Raw::NamedInstance(path, instance)) => Ok((path, instance)),
            Some(_) => Err(Fault::invalid_parameter(format!("{name} must be a named instance"))),
        }
    }

    /// A value whose type the caller knows better.
    pub(crate) fn any(&self, name: &str) -> Raw {
        self.raw(name).cloned().unwrap_or(Raw::Null)
    }

    /// `FilterQuery` and its kin of the pull operations.
    pub(crate) fn refuse_filters(&self) -> Result<(), Fault> {
        if self.raw("FilterQuery").is_some() || self.raw("FilterQueryLanguage").is_some() {
            let text = "enumerations cannot be filtered";
            return Err(Fault::new(Status::FilteredEnumerationNotSupported, text));
        }
        if self.flag("ContinueOnError", false)? {
            let text = "an enumeration ends with the first error";
            return Err(Fault::new(Status::ContinuationOnErrorNotSupported, text));
        }
        Ok(())
    }
}

pub(crate) fn missing(name: &str) -> Fault {
    Fault::invalid_parameter(format!("the parameter {name} is missing"))
}
