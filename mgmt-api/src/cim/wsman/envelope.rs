//! Envelopes: what a request's header says, and what stands around an answer.

use std::time::Duration;

use super::super::out::Out;
use super::fault::{self, SoapFault};
use super::node::Node;
use super::{
    ADDRESSING, ANONYMOUS, COMMON, ENUMERATION, IDENTITY, MAX_ENVELOPE, MICROSOFT, Result,
    SCHEMA_INSTANCE, SOAP, TRANSFER, WSMAN, time,
};

/// No client may ask for answers that no fault fits into (DSP0226 R6.2).
const MIN_ENVELOPE: usize = 8192;

/// Headers that are known, and looked at or not.
const KNOWN: [(&str, &[&str]); 3] = [
    (ADDRESSING, &["To", "Action", "MessageID", "ReplyTo", "FaultTo", "From", "RelatesTo"]),
    (
        WSMAN,
        &[
            "ResourceURI",
            "SelectorSet",
            "OptionSet",
            "OperationTimeout",
            "MaxEnvelopeSize",
            "Locale",
        ],
    ),
    (MICROSOFT, &["DataLocale", "SessionId", "OperationID", "SequenceId", "ActivityId"]),
];

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) action: String,
    /// The whole header.
    pub(super) header: Node,
    /// The element in the body.
    pub(super) body: Option<Node>,
    /// In so long an answer is wanted.
    pub(super) timeout: Option<Duration>,
    /// The longest answer that the client takes.
    pub(super) max_envelope: usize,
}

/// What came.
#[derive(Debug)]
pub(super) enum Received {
    /// What are you? Asked without a header.
    Identify,
    Request(Box<Request>),
}

/// The header's `MessageID`, for the answer to what could not be read any further.
pub(super) fn message_id(envelope: &Node) -> Option<&str> {
    let id = envelope.child(SOAP, "Header")?.child(ADDRESSING, "MessageID")?.text();
    (!id.is_empty()).then_some(id)
}

/// Reads an envelope.
pub(super) fn read(envelope: Node) -> Result<Received> {
    if !envelope.is(SOAP, "Envelope") {
        return Err(SoapFault::new(&fault::INVALID_XML, "it is no envelope of SOAP 1.2"));
    }
    let (mut header, mut body) = (None, None);
    for child in envelope.children {
        if child.is(SOAP, "Header") {
            header = Some(child);
        } else if child.is(SOAP, "Body") {
            body = Some(child);
        }
    }
    let body = body.ok_or_else(|| SoapFault::new(&fault::INVALID_XML, "there is no Body"))?;
    if body.children.len() > 1 {
        return Err(SoapFault::new(&fault::INVALID_BODY, "more than one element in the Body"));
    }
    let body = body.children.into_iter().next();
    if body.as_ref().is_some_and(|body| body.is(IDENTITY, "Identify")) {
        return Ok(Received::Identify);
    }
    let missing = |name: &str| {
        SoapFault::new(&fault::HEADER_REQUIRED, format!("the header {name} is missing"))
    };
    let header = header.ok_or_else(|| missing("Action"))?;
    understand(&header)?;
    let action = header.child(ADDRESSING, "Action").ok_or_else(|| missing("Action"))?;
    let action = action.text().to_owned();
    if header.child(ADDRESSING, "MessageID").is_none_or(|id| id.text().is_empty()) {
        return Err(missing("MessageID"));
    }
    for name in ["ReplyTo", "FaultTo"] {
        let address = header.child(ADDRESSING, name).and_then(|it| it.child(ADDRESSING, "Address"));
        if address.is_some_and(|address| address.text() != ANONYMOUS) {
            let text = format!("{name}: answers go back on the connection of the request");
            return Err(SoapFault::new(&fault::ADDRESSING_MODE, text));
        }
    }
    let timeout = header.child(WSMAN, "OperationTimeout").map(|given| {
        time::parse_duration(given.text()).filter(|length| !length.is_zero()).ok_or_else(|| {
            SoapFault::new(&fault::INVALID_TIMEOUT, "OperationTimeout is no duration above zero")
        })
    });
    let max_envelope = max_envelope(&header)?;
    let timeout = timeout.transpose()?;
    Ok(Received::Request(Box::new(Request { action, header, body, timeout, max_envelope })))
}

fn max_envelope(header: &Node) -> Result<usize> {
    let Some(given) = header.child(WSMAN, "MaxEnvelopeSize") else { return Ok(MAX_ENVELOPE) };
    let invalid = || SoapFault::new(&fault::INVALID_HEADER, "MaxEnvelopeSize is no number");
    let size: u64 = given.text().parse().map_err(|_| invalid())?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size < MIN_ENVELOPE {
        let text = format!("MaxEnvelopeSize is at least {MIN_ENVELOPE}");
        return Err(SoapFault::new(&fault::ENVELOPE_TOO_SMALL, text));
    }
    Ok(size.min(MAX_ENVELOPE))
}

/// Refuses what the client insists on and nobody here knows.
fn understand(header: &Node) -> Result<()> {
    for block in &header.children {
        if block.is(WSMAN, "FragmentTransfer") {
            return Err(SoapFault::new(&fault::FRAGMENTS, "instances are read and written whole"));
        }
        let known = KNOWN.iter().any(|(namespace, names)| {
            &*block.namespace == *namespace && names.contains(&block.name.as_str())
        });
        if !known && block.flag(SOAP, "mustUnderstand") {
            let text = format!("the header {} is not understood", block.name);
            return Err(SoapFault::new(&fault::NOT_UNDERSTOOD, text));
        }
    }
    let options = header.child(WSMAN, "OptionSet").map(|set| set.children.as_slice());
    let insisted = options.unwrap_or_default().iter().find(|one| one.flag("", "MustComply"));
    match insisted {
        Some(option) => {
            let name = option.attribute("", "Name").unwrap_or_default();
            let text = format!("the option {name:?} is not known");
            Err(SoapFault::new(&fault::INVALID_OPTIONS, text))
        }
        None => Ok(()),
    }
}

/// An answer around its body. All prefixes that bodies use are bound here.
pub(super) fn write(action: &str, relates_to: Option<&str>, body: &str) -> String {
    let mut out = Out::default();
    let names = [
        ("xml:lang", "en-US"),
        ("xmlns:s", SOAP),
        ("xmlns:a", ADDRESSING),
        ("xmlns:w", WSMAN),
        ("xmlns:n", ENUMERATION),
        ("xmlns:x", TRANSFER),
        ("xmlns:cim", COMMON),
        ("xmlns:xsi", SCHEMA_INSTANCE),
    ];
    out.xml("<?xml version=\"1.0\" encoding=\"utf-8\"?>");
    out.element("s:Envelope", &names, |out| {
        out.element("s:Header", &[], |out| {
            // What was identified has no header either.
            if action.is_empty() {
                return;
            }
            out.leaf("a:To", &[], ANONYMOUS);
            out.leaf("a:Action", &[], action);
            out.leaf("a:MessageID", &[], &format!("uuid:{}", uuid::Uuid::new_v4()));
            if let Some(id) = relates_to {
                out.leaf("a:RelatesTo", &[], id);
            }
        });
        out.element("s:Body", &[], |out| out.xml(body));
    });
    out.finish()
}
