//! From an envelope to its answer, without HTTP.

use std::time::Duration;

use job_engine::Role;

use super::super::Cimom;
use super::super::out::Out;
use super::super::respond::{Circumstances, allowed};
use super::super::rights;
use super::super::xml;
use super::encode::Writer;
use super::envelope::{self, Received, Request};
use super::fault::{self, SoapFault};
use super::node::Node;
use super::resource::{Style, Target, parse_uri};
use super::{
    ENUMERATION, IDENTITY, MAX_ENVELOPE, MICROSOFT_CONFIG, Result, TRANSFER, WSMAN, enumerate,
    transfer,
};
use crate::access::Act;

/// An answer, and what of the request is worth remembering.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) envelope: String,
    pub(super) is_fault: bool,
    pub(super) acts: Vec<Act>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation<'a> {
    Get,
    Put,
    Create,
    Delete,
    Enumerate,
    Pull,
    Release,
    Method(&'a str),
}

/// Actions, and the operations of CIM-XML whose rights they need.
const ACTIONS: [(&str, &str, Operation<'static>, &str); 7] = [
    (TRANSFER, "Get", Operation::Get, "GetInstance"),
    (TRANSFER, "Put", Operation::Put, "ModifyInstance"),
    (TRANSFER, "Create", Operation::Create, "CreateInstance"),
    (TRANSFER, "Delete", Operation::Delete, "DeleteInstance"),
    (ENUMERATION, "Enumerate", Operation::Enumerate, "OpenEnumerateInstances"),
    (ENUMERATION, "Pull", Operation::Pull, "PullInstancesWithPath"),
    (ENUMERATION, "Release", Operation::Release, "CloseEnumeration"),
];

/// Action, and the operation whose rights it needs.
#[cfg(test)]
pub(crate) fn actions() -> impl Iterator<Item = (String, &'static str)> {
    ACTIONS.iter().map(|(space, name, _, operation)| (format!("{space}/{name}"), *operation))
}

/// The answer to a fault before anything was known.
pub(super) fn refusal(cimom: &Cimom, fault: &SoapFault, relates_to: Option<&str>) -> Answer {
    let writer = Writer {
        schema: &cimom.schema,
        style: Style::Dmtf,
        namespace: job_engine::error::NAMESPACE,
    };
    let mut out = Out::default();
    fault.write(&mut out, &writer, &cimom.system_name);
    let envelope = envelope::write(fault.action(), relates_to, &out.finish());
    Answer { envelope, is_fault: true, acts: Vec::new() }
}

/// `IdentifyResponse`; strangers are not told which version it is.
pub(super) fn identify(known: bool) -> String {
    let mut out = Out::default();
    out.element("i:IdentifyResponse", &[("xmlns:i", IDENTITY)], |out| {
        out.leaf("i:ProtocolVersion", &[], WSMAN);
        out.leaf("i:ProductVendor", &[], "lund");
        if known {
            out.leaf("i:ProductVersion", &[], env!("CARGO_PKG_VERSION"));
        }
    });
    envelope::write("", None, &out.finish())
}

/// Whether an envelope asks what this is.
pub(super) fn is_identify(text: &str) -> bool {
    let received = xml::parse(text).and_then(Node::resolve).map_err(Into::into);
    matches!(received.and_then(envelope::read), Ok(Received::Identify))
}

/// A request, and the message that it came with.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) relates_to: Option<String>,
    request: Request,
}

impl Message {
    /// The client's limit of its time, for what changes nothing.
    pub(super) fn time_limit(&self) -> Option<Option<Duration>> {
        let reads = operation(&self.request.action).is_ok_and(|(_, role, _)| role == Role::Viewer);
        reads.then_some(self.request.timeout)
    }
}

/// Reads an envelope; what can be answered at once is.
pub(super) fn receive(cimom: &Cimom, text: &str) -> std::result::Result<Message, Answer> {
    let mut relates_to = None;
    let received = xml::parse(text).and_then(Node::resolve).map_err(Into::into).and_then(|it| {
        relates_to = envelope::message_id(&it).map(str::to_owned);
        envelope::read(it)
    });
    match received {
        Ok(Received::Identify) => Err(Answer { envelope: identify(true), ..Answer::default() }),
        Ok(Received::Request(request)) => Ok(Message { relates_to, request: *request }),
        Err(fault) => Err(refusal(cimom, &fault, relates_to.as_deref())),
    }
}

/// Does what an envelope asks for. Waits for the engine: not for a reactor's thread.
pub(super) fn respond(cimom: &Cimom, message: &Message, how: &Circumstances) -> Answer {
    let Message { request, relates_to } = message;
    let relates_to = relates_to.as_deref();
    let mut act = None;
    match carry_out(cimom, request, how, &mut act) {
        Ok((action, body)) => {
            let envelope = envelope::write(&action, relates_to, &body);
            let acts = act.into_iter().collect();
            if envelope.len() <= request.max_envelope {
                return Answer { envelope, is_fault: false, acts };
            }
            let text =
                format!("the answer has {} bytes, more than MaxEnvelopeSize", envelope.len());
            let fault = SoapFault::new(&fault::ANSWER_TOO_LARGE, text);
            Answer { acts, ..refusal(cimom, &fault, relates_to) }
        }
        Err(fault) => {
            let acts = act.map(|act| Act { outcome: fault.outcome(), ..act });
            Answer { acts: acts.into_iter().collect(), ..refusal(cimom, &fault, relates_to) }
        }
    }
}

fn operation<'a>(action: &'a str) -> Result<(Operation<'a>, Role, &'a str)> {
    for (space, name, operation, known_as) in ACTIONS {
        if action.strip_prefix(space).and_then(|rest| rest.strip_prefix('/')) == Some(name) {
            return Ok((operation, rights::of_operation(known_as), known_as));
        }
    }
    match action.rsplit_once('/') {
        Some((class, method)) if parse_uri(class).is_some() => {
            Ok((Operation::Method(method), rights::of_method(method), method))
        }
        _ => {
            let text = format!("the action {action:?} is not known");
            Err(SoapFault::new(&fault::ACTION_NOT_SUPPORTED, text))
        }
    }
}

/// Action and body of the answer. `act` is what of it is written down, with the outcome if all
/// goes well.
fn carry_out(
    cimom: &Cimom,
    request: &Request,
    how: &Circumstances,
    act: &mut Option<Act>,
) -> Result<(String, String)> {
    let (operation, role, method) = operation(&request.action)?;
    let uri = request.header.child(WSMAN, "ResourceURI").map(Node::text);
    if operation == Operation::Get && uri == Some(MICROSOFT_CONFIG) {
        return Ok((format!("{TRANSFER}/GetResponse"), configuration()));
    }
    let target = Target::read(&request.header)?;
    let allowed = allowed(&how.identity, role);
    if allowed.is_err() || role > Role::Viewer {
        let (method, object) = (method.to_owned(), target.path.to_uri());
        *act = Some(Act { method, object, outcome: "0".to_owned() });
    }
    allowed?;
    let place = target.path.namespace.as_deref().unwrap_or_default();
    let work = cimom.work(place, how)?;
    let writer = Writer { schema: work.schema, style: target.style, namespace: work.namespace };
    let (body, limit) = (request.body.as_ref(), request.max_envelope);
    let answer =
        |space: &str, name: &str, body: String| Ok((format!("{space}/{name}Response"), body));
    match operation {
        Operation::Get => answer(TRANSFER, "Get", transfer::get(&work, &target, &writer)?),
        Operation::Put => answer(TRANSFER, "Put", transfer::put(&work, &target, body, &writer)?),
        Operation::Create => answer(TRANSFER, "Create", transfer::create(&work, &target, body)?),
        Operation::Delete => answer(TRANSFER, "Delete", transfer::delete(&work, &target)?),
        Operation::Enumerate => {
            let body = enumerate::enumerate(&work, &target, body, &writer, limit)?;
            answer(ENUMERATION, "Enumerate", body)
        }
        Operation::Pull => answer(ENUMERATION, "Pull", enumerate::pull(&work, body, limit)?),
        Operation::Release => answer(ENUMERATION, "Release", enumerate::release(&work, body)?),
        Operation::Method(name) => {
            let (body, returned) = transfer::invoke(&work, &target, name, body, &writer)?;
            if let Some(act) = act {
                act.outcome = returned.to_string();
            }
            Ok((format!("{}Response", request.action), body))
        }
    }
}

/// What Microsoft's clients ask before they send much.
fn configuration() -> String {
    let mut out = Out::default();
    out.element("c:Config", &[("xmlns:c", MICROSOFT_CONFIG)], |out| {
        out.leaf("c:MaxEnvelopeSizekb", &[], &(MAX_ENVELOPE >> 10).to_string());
        out.leaf("c:MaxTimeoutms", &[], "60000");
    });
    out.finish()
}
