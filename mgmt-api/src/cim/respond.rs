//! From a request to its response, without HTTP.

use super::Cimom;
use super::encode::{Encoder, Wanted};
use super::fault::Fault;
use super::instances::{Space, View};
use super::methods::error_instance;
use super::operations::{Work, namespace};
use super::out::Out;
use super::request::{Call, Message};

/// What a response depends on beside the request.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    /// The host that the client asked for, for the paths in answers.
    pub(crate) host: String,
    /// Whether the client understands a `CIM_Error` in an `ERROR`.
    pub(crate) embed_errors: bool,
}

impl Cimom {
    /// Does what a message asks for. Waits for the engine: not for a reactor's thread.
    pub(crate) fn respond(&self, message: &Message, how: &Circumstances) -> String {
        let mut out = Out::default();
        out.xml("<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n");
        out.element("CIM", &[("CIMVERSION", "2.0"), ("DTDVERSION", "2.0")], |out| {
            let attributes =
                [("ID", message.id.as_str()), ("PROTOCOLVERSION", &message.protocol_version)];
            out.element("MESSAGE", &attributes, |out| {
                if message.multiple {
                    out.open("MULTIRSP", &[]);
                }
                for call in &message.calls {
                    out.element("SIMPLERSP", &[], |out| self.answer(out, call, how));
                }
                if message.multiple {
                    out.close("MULTIRSP");
                }
            });
        });
        out.finish()
    }

    fn answer(&self, out: &mut Out, call: &Call, how: &Circumstances) {
        match call {
            Call::Intrinsic { namespace: place, name, parameters } => {
                let answer = self.work(place, how).and_then(|work| work.run(name, parameters));
                out.element("IMETHODRESPONSE", &[("NAME", name)], |out| match answer {
                    Ok(answer) => {
                        if let Some(returned) = answer.returned {
                            out.element("IRETURNVALUE", &[], |out| out.xml(&returned));
                        }
                        out.xml(&answer.parameters);
                    }
                    Err(fault) => self.error(out, &fault, how),
                });
            }
            Call::Method { object, name, parameters } => {
                let place = object.namespace.as_deref().unwrap_or_default();
                let work = self.work(place, how);
                let answer = work.and_then(|work| work.call(object, name, parameters));
                out.element("METHODRESPONSE", &[("NAME", name)], |out| match answer {
                    Ok(answer) => out.xml(&answer),
                    Err(fault) => self.error(out, &fault, how),
                });
            }
        }
    }

    fn work<'a>(&'a self, place: &str, how: &'a Circumstances) -> Result<Work<'a>, Fault> {
        let (space, namespace): (Space, &'static str) = namespace(place)?;
        Ok(Work {
            engine: &self.engine,
            schema: &self.schema,
            view: View::new(&self.engine, &self.schema, &self.system_name),
            encoder: Encoder { schema: &self.schema, host: &how.host },
            enumerations: &self.enumerations,
            space,
            namespace,
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
