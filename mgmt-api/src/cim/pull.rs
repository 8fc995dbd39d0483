//! The pull operations: enumerations that are fetched in parts.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::arguments::Arguments;
use super::encode::Wanted;
use super::fault::{Fault, Status};
use super::operations::{Answer, Work, wanted};
use super::out::Out;
use super::path::ObjectPath;
use super::value::{Instance, Raw};

/// Enumerations that may be open at the same time: each holds its whole answer.
const MAX_OPEN: usize = 16;
/// Elements in one answer.
const MAX_OBJECTS: u64 = 10_000;
/// Seconds that an enumeration waits for the next pull unless the client says otherwise.
const DEFAULT_TIMEOUT: u64 = 60;
/// The longest that a client may ask for.
const MAX_TIMEOUT: u64 = 600;

/// What is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Instances,
    Paths,
}

/// An enumeration that is not at its end.
#[derive(Debug)]
struct Enumeration {
    kind: Kind,
    namespace: &'static str,
    /// Written already: an enumeration shows what was there when it was opened.
    rest: VecDeque<String>,
    timeout: Duration,
    expires: Instant,
}

/// The open enumerations.
#[derive(Debug, Default)]
pub(crate) struct Enumerations {
    open: HashMap<String, Enumeration>,
}

impl Enumerations {
    fn expire(&mut self, now: Instant) {
        self.open.retain(|_, enumeration| enumeration.expires > now);
    }
}

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
        let (found, wanted) = self.enumerated(name, &arguments)?;
        let rest = found.into_iter().map(|(path, one)| self.element(kind, &path, &one, &wanted));
        let timeout = Duration::from_secs(timeout);
        let enumeration = Enumeration {
            kind,
            namespace: self.namespace,
            rest: rest.collect(),
            timeout,
            expires: Instant::now() + timeout,
        };
        let count = arguments.number("MaxObjectCount")?.unwrap_or(0);
        {
            let mut enumerations = self.enumerations.lock();
            enumerations.expire(Instant::now());
            if enumerations.open.len() >= MAX_OPEN {
                let text = format!("{MAX_OPEN} enumerations are open");
                return Err(Fault::new(Status::ServerLimitsExceeded, text));
            }
        }
        Ok(self.part(enumeration, &uuid::Uuid::new_v4().to_string(), count))
    }

    fn enumerated(
        &self,
        name: &str,
        arguments: &Arguments<'_>,
    ) -> Result<(Vec<(ObjectPath, Instance)>, Wanted), Fault> {
        let name = name.to_ascii_lowercase();
        if name.starts_with("openenumerate") {
            let class = arguments.required_class("ClassName")?;
            return Ok((self.enumerate(class)?, self.narrowed(arguments, class)?));
        }
        let source = arguments.path("InstanceName")?;
        self.existing(source)?;
        let references = name.starts_with("openreference");
        Ok((self.neighbourhood(source, references, arguments)?, wanted(arguments)?))
    }

    fn element(&self, kind: Kind, path: &ObjectPath, one: &Instance, wanted: &Wanted) -> String {
        let mut out = Out::default();
        match kind {
            Kind::Paths => self.encoder.instance_path(&mut out, path),
            Kind::Instances => out.element("VALUE.INSTANCEWITHPATH", &[], |out| {
                self.encoder.instance_path(out, path);
                self.encoder.instance(out, one, wanted);
            }),
        }
        out.finish()
    }

    fn next_part(&self, kind: Kind, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let context = arguments.required_text("EnumerationContext")?;
        let count = arguments.number("MaxObjectCount")?;
        let count = count.ok_or_else(|| super::arguments::missing("MaxObjectCount"))?;
        let taken = {
            let mut enumerations = self.enumerations.lock();
            enumerations.expire(Instant::now());
            let fits = enumerations
                .open
                .get(&context)
                .is_some_and(|own| own.kind == kind && own.namespace == self.namespace);
            if fits { enumerations.open.remove(&context) } else { None }
        };
        Ok(self.part(taken.ok_or_else(unknown)?, &context, count))
    }

    /// Answers up to `count` elements and keeps the rest.
    fn part(&self, mut enumeration: Enumeration, context: &str, count: u64) -> Answer {
        let length = enumeration.rest.len();
        let count = usize::try_from(count.min(MAX_OBJECTS)).unwrap_or(length).min(length);
        let returned: String = enumeration.rest.drain(..count).collect();
        let ended = enumeration.rest.is_empty();
        if !ended {
            let now = Instant::now();
            enumeration.expires = now + enumeration.timeout;
            self.enumerations.lock().open.insert(context.to_owned(), enumeration);
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
        let mut enumerations = self.enumerations.lock();
        enumerations.expire(Instant::now());
        let closed = enumerations.open.remove(&context);
        closed.map(|_| Answer::default()).ok_or_else(unknown)
    }
}

fn unknown() -> Fault {
    let text = "there is no such enumeration, or it is over";
    Fault::new(Status::InvalidEnumerationContext, text)
}
