//! The pull operations: enumerations that are fetched in parts.

use std::collections::VecDeque;
use std::time::Duration;

use super::arguments::Arguments;
use super::encode::Wanted;
use super::enumerations::{Enumeration, Kind};
use super::fault::{Fault, Status};
use super::operations::{Answer, Work, wanted};
use super::out::Out;
use super::path::ObjectPath;
use super::value::{Instance, Raw};

/// Elements in one answer.
pub(crate) const MAX_OBJECTS: u64 = 10_000;
/// Seconds that an enumeration waits for the next pull unless the client says otherwise.
pub(crate) const DEFAULT_TIMEOUT: u64 = 60;
/// The longest that a client may ask for.
pub(crate) const MAX_TIMEOUT: u64 = 600;

impl Work<'_> {
    /// `Open…` and `Pull…`.
    pub(crate) fn pull(&self, name: &str, all: &[(String, Raw)]) -> Result<Answer, Fault> {
        const OPEN: [&str; 14] = [
            "ClassName",
            "InstanceName",
            "AssocClass",
            "ResultClass",
            "Role",
            "ResultRole",
            "DeepInheritance",
            "IncludeClassOrigin",
            "PropertyList",
            "FilterQueryLanguage",
            "FilterQuery",
            "OperationTimeout",
            "ContinueOnError",
            "MaxObjectCount",
        ];
        let (kind, open) = match name.to_ascii_lowercase().as_str() {
            "pullinstanceswithpath" => (Kind::Instances, false),
            "pullinstancepaths" => (Kind::Paths, false),
            "openenumerateinstances" | "openassociatorinstances" | "openreferenceinstances" => {
                (Kind::Instances, true)
            }
            "openenumerateinstancepaths"
            | "openassociatorinstancepaths"
            | "openreferenceinstancepaths" => (Kind::Paths, true),
            _ => return Err(Fault::not_supported(format!("{name} is not supported"))),
        };
        if !open {
            let arguments = Arguments::new(all, &["EnumerationContext", "MaxObjectCount"])?;
            return self.next_part(kind, &arguments);
        }
        let arguments = Arguments::new(all, &OPEN)?;
        arguments.refuse_filters()?;
        let timeout = arguments.number("OperationTimeout")?.unwrap_or(DEFAULT_TIMEOUT);
        if timeout == 0 || timeout > MAX_TIMEOUT {
            let text = format!("an OperationTimeout is 1 to {MAX_TIMEOUT} seconds");
            return Err(Fault::new(Status::InvalidOperationTimeout, text));
        }
        let mut rest = VecDeque::new();
        let mut out = Out::default();
        self.enumerated(name, &arguments, |path, one, wanted| {
            rest.push_back(self.element(&mut out, kind, path, one, wanted));
        })?;
        let timeout = Duration::from_secs(timeout);
        let enumeration = Enumeration::new(kind, self.namespace, self.client, rest, timeout);
        let count = arguments.number("MaxObjectCount")?.unwrap_or(0);
        Ok(self.part(enumeration, &uuid::Uuid::new_v4().to_string(), count))
    }

    fn enumerated(
        &self,
        name: &str,
        arguments: &Arguments<'_>,
        mut found: impl FnMut(&ObjectPath, &Instance, &Wanted),
    ) -> Result<(), Fault> {
        let name = name.to_ascii_lowercase();
        if name.starts_with("openenumerate") {
            let class = arguments.required_class("ClassName")?;
            let wanted = self.narrowed(arguments, class)?;
            return self.each(class, |path, one| found(&path, &one, &wanted));
        }
        let source = arguments.path("InstanceName")?;
        self.existing(source)?;
        let references = name.starts_with("openreference");
        let all = self.neighbourhood(source, references, arguments)?;
        let wanted = wanted(arguments)?;
        all.iter().for_each(|(path, one)| found(path, one, &wanted));
        Ok(())
    }

    fn element(
        &self,
        out: &mut Out,
        kind: Kind,
        path: &ObjectPath,
        one: &Instance,
        wanted: &Wanted,
    ) -> String {
        match kind {
            Kind::Paths => self.encoder.instance_path(out, path),
            Kind::Instances | Kind::Items => out.element("VALUE.INSTANCEWITHPATH", &[], |out| {
                self.encoder.instance_path(out, path);
                self.encoder.instance(out, one, wanted);
            }),
        }
        out.take()
    }

    fn next_part(&self, kind: Kind, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let context = arguments.required_text("EnumerationContext")?;
        let count = arguments.number("MaxObjectCount")?;
        let count = count.ok_or_else(|| super::arguments::missing("MaxObjectCount"))?;
        let taken = self.enumerations.lock().take(&context, kind, Some(self.namespace))?;
        Ok(self.part(taken, &context, count))
    }

    /// Answers up to `count` elements and keeps the rest.
    fn part(&self, mut enumeration: Enumeration, context: &str, count: u64) -> Answer {
        let length = enumeration.rest.len();
        let count = usize::try_from(count.min(MAX_OBJECTS)).unwrap_or(length).min(length);
        let returned: String = enumeration.rest.drain(..count).collect();
        let ended = enumeration.rest.is_empty();
        if !ended {
            self.enumerations.lock().keep(context.to_owned(), enumeration);
        }
        let mut out = Out::default();
        // Present even at the end: clients look for it.
        let attributes = [("NAME", "EnumerationContext"), ("PARAMTYPE", "string")];
        let context = if ended { "" } else { context };
        out.element("PARAMVALUE", &attributes, |out| out.leaf("VALUE", &[], context));
        let attributes = [("NAME", "EndOfSequence"), ("PARAMTYPE", "boolean")];
        let text = if ended { "TRUE" } else { "FALSE" };
        out.element("PARAMVALUE", &attributes, |out| out.leaf("VALUE", &[], text));
        Answer { returned: Some(returned), parameters: out.finish() }
    }

    pub(crate) fn close_enumeration(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let context = arguments.required_text("EnumerationContext")?;
        self.enumerations.lock().close(&context)?;
        Ok(Answer::default())
    }
}
