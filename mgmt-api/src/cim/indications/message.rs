//! Export messages (DSP0200 §5.4, DSP0201 §5.2.6).

use crate::cim::encode::{Encoder, Wanted};
use crate::cim::out::Out;
use crate::cim::value::Instance;
use crate::cim::xml;

/// A message that delivers one indication.
pub(super) fn export(encoder: &Encoder<'_>, id: u64, indication: &Instance) -> String {
    let mut out = Out::default();
    out.xml("<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n");
    let (message, attributes) = (id.to_string(), [("CIMVERSION", "2.0"), ("DTDVERSION", "2.0")]);
    out.element("CIM", &attributes, |out| {
        out.element("MESSAGE", &[("ID", &message), ("PROTOCOLVERSION", "1.0")], |out| {
            out.element("SIMPLEEXPREQ", &[], |out| {
                out.element("EXPMETHODCALL", &[("NAME", "ExportIndication")], |out| {
                    out.element("EXPPARAMVALUE", &[("NAME", "NewIndication")], |out| {
                        encoder.instance(out, indication, &Wanted::default());
                    });
                });
            });
        });
    });
    out.finish()
}

/// Whether a listener has taken an indication; otherwise why it has not.
pub(super) fn accepted(answer: &str) -> Result<(), String> {
    let tree = xml::parse(answer).map_err(|error| format!("its answer is no XML: {error:?}"))?;
    let response = tree
        .child("MESSAGE")
        .and_then(|it| it.child("SIMPLEEXPRSP"))
        .and_then(|it| it.child("EXPMETHODRESPONSE"))
        .ok_or("its answer holds no EXPMETHODRESPONSE")?;
    match response.child("ERROR") {
        None => Ok(()),
        Some(error) => {
            let text = |name| error.attribute(name).unwrap_or_default();
            Err(format!("it refuses with {} {}", text("CODE"), text("DESCRIPTION")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(inside: &str) -> String {
        format!(
            "<CIM CIMVERSION='2.0' DTDVERSION='2.0'><MESSAGE ID='1' PROTOCOLVERSION='1.0'>\
             <SIMPLEEXPRSP><EXPMETHODRESPONSE NAME='ExportIndication'>{inside}\
             </EXPMETHODRESPONSE></SIMPLEEXPRSP></MESSAGE></CIM>"
        )
    }

    #[test]
    fn only_a_response_without_an_error_is_consent() {
        assert_eq!(accepted(&answer("<IRETURNVALUE></IRETURNVALUE>")), Ok(()));
        let refused = accepted(&answer("<ERROR CODE='1' DESCRIPTION='full'></ERROR>"));
        assert_eq!(refused, Err("it refuses with 1 full".to_owned()));
        assert!(accepted("<html></html>").is_err());
        assert!(accepted("nothing").is_err());
    }
}
