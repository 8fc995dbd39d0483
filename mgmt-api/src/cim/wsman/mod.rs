//! WS-Management (DSP0226 1.2) with the CIM binding (DSP0227, DSP0230), over the operations that
//! CIM-XML has: what an instance is, who may do what and what an error means is decided there.
//!
//! `Subscribe` and its kin, fragments and multicast are not here.

mod decode;
mod encode;
mod enumerate;
mod envelope;
mod fault;
mod filter;
mod http;
mod node;
mod resource;
mod respond;
mod time;
mod transfer;
mod wql;

#[cfg(test)]
pub(crate) use respond::actions;

pub(crate) use http::routes;

/// SOAP 1.2.
const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
/// WS-Addressing as WS-Management uses it.
const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
/// Where answers go: back.
const ANONYMOUS: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
const IDENTITY: &str = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd";
/// Data types of DSP0230.
const COMMON: &str = "http://schemas.dmtf.org/wbem/wscim/1/common";
/// DSP0227.
const BINDING: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd";
const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// Microsoft's additions, which its clients send and read.
const MICROSOFT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd";
const MICROSOFT_FAULT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault";
const MICROSOFT_CONFIG: &str = "http://schemas.microsoft.com/wbem/wsman/1/config";

/// The longest envelope that is read or written, as Windows has it: 500 KiB.
const MAX_ENVELOPE: usize = 500 << 10;

type Result<T> = std::result::Result<T, Box<fault::SoapFault>>;
