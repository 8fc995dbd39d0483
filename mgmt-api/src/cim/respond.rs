//! From a request to its response, without HTTP.

use job_engine::Role;

use super::Cimom;
use super::encode::{Encoder, Wanted};
use super::fault::{Fault, Status};
use super::instances::{Space, View};
use super::methods::error_instance;
use super::operations::{Work, namespace};
use super::out::Out;
use super::request::{Call, Message};
use super::rights;
use super::value::Raw;
use crate::access::{Act, Identity};

/// Who asks, as jobs remember it, if nobody was asked who it is.
const CLIENT: &str = "a CIM-XML client";

pub(super) fn allowed(identity: &Identity, role: Role) -> Result<(), Fault> {
    if identity.role >= role {
        return Ok(());
    }
    let text = format!("this is for the role {role}; whoever asks is {}", identity.role);
    Err(Fault::new(Status::AccessDenied, text))
}

/// As the audit log has it.
fn outcome(answer: Result<u32, &Fault>) -> String {
    match answer {
        Ok(returned) => returned.to_string(),
        Err(fault) => format!("ERROR {}", fault.status.number()),
    }
}

/// What a response depends on beside the request.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    /// Who asks.
    pub(crate) identity: Identity,
    /// The host that the client asked for, for the paths in answers.
    pub(crate) host: String,
    /// Whether the client understands a `CIM_Error` in an `ERROR`.
    pub(crate) embed_errors: bool,
}

impl Cimom {
    /// Does what a message asks for. Waits for the engine: not for a reactor's thread.
    /// Also what was done, or refused, for the audit log.
    pub(crate) fn respond(&self, message: &Message, how: &Circumstances) -> (String, Vec<Act>) {
        let mut out = Out::default();
        let mut acts = Vec::new();
        out.xml("<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n");
        out.element("CIM", &[("CIMVERSION", "2.0"), ("DTDVERSION", "2.0")], |out| {
            let attributes =
                [("ID", message.id.as_str()), ("PROTOCOLVERSION", &message.protocol_version)];
            out.element("MESSAGE", &attributes, |out| {
                if message.multiple {
                    out.open("MULTIRSP", &[]);
                }
                for call in &message.calls {
                    out.element("SIMPLERSP", &[], |out| acts.extend(self.answer(out, call, how)));
                }
                if message.multiple {
                    out.close("MULTIRSP");
                }
            });
        });
        (out.finish(), acts)
    }

    /// Answers one call; what is worth remembering of it.
    fn answer(&self, out: &mut Out, call: &Call, how: &Circumstances) -> Option<Act> {
        let role = rights::role(call);
        let allowed = allowed(&how.identity, role);
        let refused = allowed.is_err();
        let (method, object, outcome) = match call {
            Call::Intrinsic { namespace: place, name, parameters } => {
                let work = allowed.and_then(|()| self.work(place, how));
                let answer = work.and_then(|work| work.run(name, parameters));
                let outcome = outcome(answer.as_ref().map(|_| 0));
                let named = parameters.iter().find_map(|(_, value)| match value {
                    Raw::Reference(path) | Raw::NamedInstance(path, _) => Some(path),
                    Raw::Null
                    | Raw::Text(_)
                    | Raw::Array(_)
                    | Raw::References(_)
                    | Raw::ClassName(_)
                    | Raw::Instance(_) => None,
                });
                let object =
                    named.map_or_else(|| place.clone(), |it| format!("{place}:{}", it.to_uri()));
                out.element("IMETHODRESPONSE", &[("NAME", name)], |out| match answer {
                    Ok(answer) => {
                        if let Some(returned) = answer.returned {
                            out.element("IRETURNVALUE", &[], |out| out.xml(&returned));
                        }
                        out.xml(&answer.parameters);
                    }
                    Err(fault) => self.error(out, &fault, how),
                });
                (name, object, outcome)
            }
            Call::Method { object, name, parameters } => {
                let place = object.namespace.as_deref().unwrap_or_default();
                let work = allowed.and_then(|()| self.work(place, how));
                let answer = work.and_then(|work| work.call(object, name, parameters));
                let outcome = outcome(answer.as_ref().map(|(_, returned)| *returned));
                out.element("METHODRESPONSE", &[("NAME", name)], |out| match answer {
                    Ok((answer, _)) => out.xml(&answer),
                    Err(fault) => self.error(out, &fault, how),
                });
                (name, object.to_uri(), outcome)
            }
        };
        let remembered = refused || role > Role::Viewer;
        remembered.then(|| Act { method: method.clone(), object, outcome })
    }

    pub(super) fn work<'a>(
        &'a self,
        place: &str,
        how: &'a Circumstances,
    ) -> Result<Work<'a>, Fault> {
        let (space, namespace): (Space, &'static str) = namespace(place)?;
        Ok(Work {
            engine: &self.engine,
            schema: &self.schema,
            view: View::new(&self.engine, &self.schema, &self.system_name, &self.indications)
                .over(self.host.as_deref()),
            encoder: Encoder { schema: &self.schema, host: &how.host },
            client: how.identity.name.as_deref().unwrap_or(CLIENT),
            role: how.identity.role,
            indications: &self.indications,
            enumerations: &self.enumerations,
            space,
            namespace,
            reference_arrays: how.embed_errors,
        })
    }

    fn error(&self, out: &mut Out, fault: &Fault, how: &Circumstances) {
        let code = fault.status.number().to_string();
        let attributes = [("CODE", code.as_str()), ("DESCRIPTION", &fault.description)];
        out.element("ERROR", &attributes, |out| {
            if let Some(error) = fault.error.as_ref().filter(|_| how.embed_errors) {
                let encoder = Encoder { schema: &self.schema, host: &how.host };
                encoder.instance(out, &error_instance(error), &Wanted::default());
            }
        });
    }
}
