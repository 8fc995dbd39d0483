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
pub(crate) const MAX_OBJECTS: u64 = 10_000;
/// Seconds that an enumeration waits for the next pull unless the client says otherwise.
pub(crate) const DEFAULT_TIMEOUT: u64 = 60;
/// The longest that a client may ask for.
pub(crate) const MAX_TIMEOUT: u64 = 600;

/// What is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Instances,
    Paths,
    /// Elements of WS-Management.
    Items,
}

/// An enumeration that is not at its end.
#[derive(Debug)]
pub(crate) struct Enumeration {
    kind: Kind,
    namespace: &'static str,
    /// Written already: an enumeration shows what was there when it was opened.
    pub(crate) rest: VecDeque<String>,
    timeout: Duration,
    expires: Instant,
}

/// The open enumerations.
#[derive(Debug, Default)]
pub(crate) struct Enumerations {
    open: HashMap<String, Enumeration>,
}

impl Enumeration {
    /// `timeout` is counted from each part on.
    pub(crate) fn new(
        kind: Kind,
        namespace: &'static str,
        rest: VecDeque<String>,
        timeout: Duration,
    ) -> Self {
        Self { kind, namespace, rest, timeout, expires: Instant::now() + timeout }
    }
}

impl Enumerations {
    fn expire(&mut self, now: Instant) {
        self.open.retain(|_, enumeration| enumeration.expires > now);
    }

    /// Whether there is a place for one more.
    pub(crate) fn check_place(&mut self) -> Result<(), Fault> {
        self.expire(Instant::now());
        if self.open.len() < MAX_OPEN {
            return Ok(());
        }
        let text = format!("{MAX_OPEN} enumerations are open");
        Err(Fault::new(Status::ServerLimitsExceeded, text))
    }

    /// Takes one out, to go on with it; of this namespace, if the client says which.
    pub(crate) fn take(
        &mut self,
        context: &str,
        kind: Kind,
        namespace: Option<&str>,
    ) -> Result<Enumeration, Fault> {
        self.expire(Instant::now());
        let own = self.open.get(context);
        let fits = own
            .is_some_and(|own| own.kind == kind && namespace.is_none_or(|it| it == own.namespace));
        let taken = if fits { self.open.remove(context) } else { None };
        taken.ok_or_else(unknown)
    }

    /// Keeps one until its next part.
    pub(crate) fn keep(&mut self, context: String, mut enumeration: Enumeration) {
        enumeration.expires = Instant::now() + enumeration.timeout;
        self.open.insert(context, enumeration);
    }

    pub(crate) fn close(&mut self, context: &str) -> Result<(), Fault> {
        self.expire(Instant::now());
        self.open.remove(context).map(|_| ()).ok_or_else(unknown)
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
        let enumeration = Enumeration::new(kind, self.namespace, rest.collect(), timeout);
        let count = arguments.number("MaxObjectCount")?.unwrap_or(0);
        self.enumerations.lock().check_place()?;
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
            Kind::Instances | Kind::Items => out.element("VALUE.INSTANCEWITHPATH", &[], |out| {
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

fn unknown() -> Fault {
    let text = "there is no such enumeration, or it is over";
    Fault::new(Status::InvalidEnumerationContext, text)
}
