//! SOAP faults of WS-Management, and what CIM's errors are among them.

use super::super::encode::Wanted;
use super::super::fault::{Fault, Status};
use super::super::methods::error_instance;
use super::super::out::Out;
use super::super::value::Instance;
use super::super::xml::XmlError;
use super::encode::Writer;
use super::{BINDING, MICROSOFT_FAULT};

/// A fault that the standards name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// `s:Sender`, `s:Receiver` or `s:MustUnderstand`.
    code: &'static str,
    /// Empty if the standard has none.
    subcode: &'static str,
    /// `wsman:FaultDetail`: what follows `…/wsman/faultDetail/`.
    detail: &'static str,
    /// The number by which Microsoft's clients know it.
    number: u32,
}

const fn sender(subcode: &'static str, detail: &'static str, number: u32) -> Kind {
    Kind { code: "s:Sender", subcode, detail, number }
}

const fn receiver(subcode: &'static str, number: u32) -> Kind {
    Kind { code: "s:Receiver", subcode, detail: "", number }
}

pub(super) const NOT_UNDERSTOOD: Kind =
    Kind { code: "s:MustUnderstand", subcode: "", detail: "", number: 2_150_858_768 };
pub(super) const INVALID_BODY: Kind = sender("w:SchemaValidationError", "", 2_150_858_791);
pub(super) const INVALID_XML: Kind = sender("w:SchemaValidationError", "", 2_150_858_819);
pub(super) const HEADER_REQUIRED: Kind =
    sender("a:MessageInformationHeaderRequired", "", 2_150_858_769);
pub(super) const INVALID_HEADER: Kind =
    sender("a:InvalidMessageInformationHeader", "", 2_150_858_767);
pub(super) const ADDRESSING_MODE: Kind =
    sender("w:UnsupportedFeature", "AddressingMode", 2_150_858_870);
pub(super) const FRAGMENTS: Kind =
    sender("w:UnsupportedFeature", "FragmentLevelAccess", 2_150_858_871);
pub(super) const ENUMERATION_MODE: Kind =
    sender("w:UnsupportedFeature", "EnumerationMode", 2_150_858_886);
pub(super) const UNSUPPORTED: Kind = sender("w:UnsupportedFeature", "", 2_150_858_818);
pub(super) const INVALID_OPTIONS: Kind = sender("w:InvalidOptions", "NotSupported", 2_150_858_833);
pub(super) const INVALID_RESOURCE_URI: Kind =
    sender("a:DestinationUnreachable", "InvalidResourceURI", 2_150_858_811);
const NOT_FOUND: Kind = sender("a:DestinationUnreachable", "", 2_150_858_752);
pub(super) const ACTION_NOT_SUPPORTED: Kind = sender("a:ActionNotSupported", "", 2_150_858_771);
pub(super) const INVALID_SELECTORS: Kind = sender("w:InvalidSelectors", "", 2_150_858_813);
pub(super) const INSUFFICIENT_SELECTORS: Kind =
    sender("w:InvalidSelectors", "InsufficientSelectors", 2_150_858_842);
pub(super) const UNEXPECTED_SELECTORS: Kind =
    sender("w:InvalidSelectors", "UnexpectedSelectors", 2_150_858_843);
pub(super) const DUPLICATE_SELECTORS: Kind =
    sender("w:InvalidSelectors", "DuplicateSelectors", 2_150_858_847);
pub(super) const INVALID_REPRESENTATION: Kind =
    sender("x:InvalidRepresentation", "", 2_150_858_773);
const INVALID_PARAMETER: Kind = sender("w:InvalidParameter", "", 2_150_858_810);
const ALREADY_EXISTS: Kind = sender("w:AlreadyExists", "", 2_150_858_803);
pub(super) const INVALID_EXPIRATION: Kind = sender("n:InvalidExpirationTime", "", 2_150_858_774);
pub(super) const FILTER_DIALECT: Kind =
    sender("n:FilterDialectRequestedUnavailable", "", 2_150_858_777);
pub(super) const FILTER: Kind = sender("n:CannotProcessFilter", "", 2_150_858_778);
const FILTERING: Kind = sender("n:FilteringNotSupported", "", 2_150_858_776);
const CONTEXT: Kind = receiver("n:InvalidEnumerationContext", 2_150_858_779);
pub(super) const ENVELOPE_TOO_SMALL: Kind =
    sender("w:EncodingLimit", "MinimumEnvelopeLimit", 2_150_858_878);
pub(super) const ANSWER_TOO_LARGE: Kind =
    sender("w:EncodingLimit", "MaxEnvelopeSizeExceeded", 2_150_858_824);
pub(super) const REQUEST_TOO_LARGE: Kind =
    sender("w:EncodingLimit", "ServiceEnvelopeLimit", 2_150_858_825);
pub(super) const CHARACTER_SET: Kind = sender("w:EncodingLimit", "CharacterSet", 2_150_858_828);
pub(super) const INVALID_TIMEOUT: Kind = sender("w:InvalidParameter", "", 2_150_858_881);
pub(super) const TIMED_OUT: Kind = receiver("w:TimedOut", 2_150_858_793);
const QUOTA: Kind = sender("w:QuotaLimit", "", 2_150_858_815);
const ACCESS_DENIED: Kind = sender("w:AccessDenied", "", 5);
pub(super) const INTERNAL: Kind = receiver("w:InternalError", 2_150_858_755);

/// A fault.
#[derive(Debug)]
pub(super) struct SoapFault {
    pub(super) kind: &'static Kind,
    reason: String,
    /// The error that CIM-XML would tell of.
    error: Option<Instance>,
}

impl SoapFault {
    /// Boxed: it is much larger than what goes well.
    pub(super) fn new(kind: &'static Kind, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, reason: reason.into(), error: None })
    }

    /// The action of the answer.
    pub(super) fn action(&self) -> &'static str {
        match self.kind.subcode.get(..2) {
            Some("w:") => "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
            Some("n:") => "http://schemas.xmlsoap.org/ws/2004/09/enumeration/fault",
            Some("x:") => "http://schemas.xmlsoap.org/ws/2004/09/transfer/fault",
            _ => "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault",
        }
    }

    /// As the audit log has it.
    pub(super) fn outcome(&self) -> String {
        let status = self.error.as_ref().and_then(|error| error.get("CIMStatusCode")?.as_uint());
        match status {
            Some(status) => format!("ERROR {status}"),
            None => format!("fault {}", self.kind.number),
        }
    }

    /// `Fault`, with what Microsoft's clients read and with the `CIM_Error` (DSP0227).
    pub(super) fn write(&self, out: &mut Out, writer: &Writer<'_>, machine: &str) {
        let kind = self.kind;
        out.element("s:Fault", &[], |out| {
            out.element("s:Code", &[], |out| {
                out.leaf("s:Value", &[], kind.code);
                if !kind.subcode.is_empty() {
                    out.element("s:Subcode", &[], |out| out.leaf("s:Value", &[], kind.subcode));
                }
            });
            out.element("s:Reason", &[], |out| {
                out.leaf("s:Text", &[("xml:lang", "en-US")], &self.reason);
            });
            out.element("s:Detail", &[], |out| {
                if !kind.detail.is_empty() {
                    let detail = kind.detail;
                    let uri =
                        format!("http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/{detail}");
                    out.leaf("w:FaultDetail", &[], &uri);
                }
                let number = kind.number.to_string();
                let attributes =
                    [("xmlns:f", MICROSOFT_FAULT), ("Code", number.as_str()), ("Machine", machine)];
                out.element("f:WSManFault", &attributes, |out| {
                    out.leaf("f:Message", &[], &self.reason);
                });
                if let Some(error) = &self.error {
                    let more = [("xmlns:b", BINDING), ("b:IsCIM_Error", "true")];
                    writer.given(out, error, &more, &Wanted::default());
                }
            });
        });
    }
}

impl From<Fault> for Box<SoapFault> {
    fn from(fault: Fault) -> Self {
        let kind = match fault.status {
            Status::AccessDenied => &ACCESS_DENIED,
            Status::InvalidNamespace | Status::InvalidClass => &INVALID_RESOURCE_URI,
            Status::NotFound => &NOT_FOUND,
            Status::InvalidParameter | Status::TypeMismatch => &INVALID_PARAMETER,
            Status::NoSuchProperty => &INVALID_REPRESENTATION,
            Status::NotSupported | Status::MethodNotFound => &ACTION_NOT_SUPPORTED,
            Status::InvalidEnumerationContext => &CONTEXT,
            Status::InvalidOperationTimeout => &INVALID_EXPIRATION,
            Status::FilteredEnumerationNotSupported | Status::ContinuationOnErrorNotSupported => {
                &FILTERING
            }
            Status::ServerLimitsExceeded => &QUOTA,
            Status::Failed => &INTERNAL,
            Status::Other(number) => match number {
                2 => &ACCESS_DENIED,
                4 | 13 => &INVALID_PARAMETER,
                6 => &NOT_FOUND,
                7 => &ACTION_NOT_SUPPORTED,
                11 => &ALREADY_EXISTS,
                27 => &QUOTA,
                _ => &INTERNAL,
            },
        };
        let error = match &fault.error {
            Some(error) => error_instance(error),
            None => Instance::new("CIM_Error")
                .with("Message", fault.description.as_str())
                .with("CIMStatusCode", fault.status.number()),
        };
        Self::new(SoapFault { kind, reason: fault.description, error: Some(error) })
    }
}

impl From<XmlError> for Box<SoapFault> {
    fn from(error: XmlError) -> Self {
        let (XmlError::NotWellFormed(text) | XmlError::NotValid(text)) = error;
        SoapFault::new(&INVALID_XML, text)
    }
}
