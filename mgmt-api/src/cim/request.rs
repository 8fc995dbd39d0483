//! Requests as DSP0201 writes them.

use super::path::{Key, ObjectPath};
use super::value::{Raw, RawInstance};
use super::xml::Element;

/// A message.
#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) protocol_version: String,
    /// Several came in a `MULTIREQ`.
    pub(crate) multiple: bool,
    pub(crate) calls: Vec<Call>,
}

/// An operation with its parameters.
#[derive(Debug, PartialEq)]
pub(crate) enum Call {
    Intrinsic {
        namespace: String,
        name: String,
        parameters: Vec<(String, Raw)>,
    },
    /// `object` has keys unless the method was called on the class.
    Method {
        object: ObjectPath,
        name: String,
        parameters: Vec<Parameter>,
    },
}

/// A parameter of a method.
#[derive(Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// `PARAMTYPE`, which some clients leave out.
    pub(crate) cim_type: Option<String>,
    pub(crate) value: Raw,
}

/// Why XML is no request; the names are the values of the `CIMError` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invalid {
    NotValid(String),
    CimVersion,
    DtdVersion,
    ProtocolVersion,
}

type Result<T> = std::result::Result<T, Invalid>;

/// Calls in one message.
const MAX_CALLS: usize = 16;
/// References in the keys of references.
const MAX_KEY_DEPTH: usize = 4;

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(Invalid::NotValid(text.into()))
}

/// Reads a message.
pub(crate) fn read(root: &Element) -> Result<Message> {
    if root.name != "CIM" {
        return invalid("the root element is not CIM");
    }
    if !required(root, "CIMVERSION")?.starts_with("2.") {
        return Err(Invalid::CimVersion);
    }
    if !required(root, "DTDVERSION")?.starts_with("2.") {
        return Err(Invalid::DtdVersion);
    }
    let message = only(root, "MESSAGE")?;
    let protocol_version = required(message, "PROTOCOLVERSION")?.to_owned();
    if !protocol_version.starts_with("1.") {
        return Err(Invalid::ProtocolVersion);
    }
    let id = required(message, "ID")?.to_owned();
    let (multiple, calls) = match message.children.as_slice() {
        [request] if request.name == "SIMPLEREQ" => (false, vec![call(request)?]),
        [many] if many.name == "MULTIREQ" => {
            if many.children.len() < 2 || many.children.len() > MAX_CALLS {
                return invalid("a MULTIREQ has 2 to 16 requests");
            }
            (true, many.children.iter().map(call).collect::<Result<_>>()?)
        }
        _ => return invalid("MESSAGE holds no SIMPLEREQ or MULTIREQ"),
    };
    Ok(Message { id, protocol_version, multiple, calls })
}

fn call(request: &Element) -> Result<Call> {
    if request.name != "SIMPLEREQ" {
        return invalid("a MULTIREQ holds SIMPLEREQ only");
    }
    // CORRELATOR may stand before the call.
    let call = request.children.iter().find(|child| child.name != "CORRELATOR");
    match call {
        Some(call) if call.name == "IMETHODCALL" => intrinsic(call),
        Some(call) if call.name == "METHODCALL" => method(call),
        _ => invalid("SIMPLEREQ holds no IMETHODCALL or METHODCALL"),
    }
}

fn intrinsic(call: &Element) -> Result<Call> {
    let Some((path, rest)) = call.children.split_first() else {
        return invalid("IMETHODCALL holds no LOCALNAMESPACEPATH");
    };
    let parameters = rest.iter().map(|child| {
        if child.name != "IPARAMVALUE" {
            return invalid(format!("{} in IMETHODCALL", child.name));
        }
        let value = child.children.first().map_or(Ok(Raw::Null), raw)?;
        Ok((required(child, "NAME")?.to_owned(), value))
    });
    Ok(Call::Intrinsic {
        namespace: namespace(path)?,
        name: required(call, "NAME")?.to_owned(),
        parameters: parameters.collect::<Result<_>>()?,
    })
}

fn method(call: &Element) -> Result<Call> {
    let Some((target, rest)) = call.children.split_first() else {
        return invalid("METHODCALL holds no path");
    };
    let object = match target.name.as_str() {
        "LOCALINSTANCEPATH" => path(target, 0)?,
        "LOCALCLASSPATH" => class_path(target)?,
        other => return invalid(format!("{other} in METHODCALL")),
    };
    let parameters = rest.iter().map(|child| {
        if child.name != "PARAMVALUE" {
            return invalid(format!("{} in METHODCALL", child.name));
        }
        let value = child.children.first().map_or(Ok(Raw::Null), raw)?;
        let name = required(child, "NAME")?.to_owned();
        Ok(Parameter { name, cim_type: child.attribute("PARAMTYPE").map(str::to_owned), value })
    });
    let parameters = parameters.collect::<Result<_>>()?;
    Ok(Call::Method { object, name: required(call, "NAME")?.to_owned(), parameters })
}

/// Any value.
fn raw(element: &Element) -> Result<Raw> {
    let children = || element.children.iter();
    Ok(match element.name.as_str() {
        "VALUE" => Raw::Text(element.text.clone()),
        "VALUE.NULL" => Raw::Null,
        "VALUE.ARRAY" => Raw::Array(children().map(item).collect::<Result<_>>()?),
        "VALUE.REFERENCE" => Raw::Reference(reference(element, 0)?),
        "VALUE.REFARRAY" => {
            Raw::References(children().map(|child| reference(child, 0)).collect::<Result<_>>()?)
        }
        "CLASSNAME" => Raw::ClassName(required(element, "NAME")?.to_owned()),
        "INSTANCENAME" | "LOCALINSTANCEPATH" | "INSTANCEPATH" => Raw::Reference(path(element, 0)?),
        "INSTANCE" => Raw::Instance(instance(element)?),
        "VALUE.NAMEDINSTANCE" | "VALUE.INSTANCEWITHPATH" => match element.children.as_slice() {
            [name, value] => Raw::NamedInstance(path(name, 0)?, instance(value)?),
            _ => return invalid(format!("{} without its two parts", element.name)),
        },
        other => return invalid(format!("{other} is no value")),
    })
}

fn item(element: &Element) -> Result<Option<String>> {
    match element.name.as_str() {
        "VALUE" => Ok(Some(element.text.clone())),
        "VALUE.NULL" => Ok(None),
        other => invalid(format!("{other} in VALUE.ARRAY")),
    }
}

fn reference(element: &Element, depth: usize) -> Result<ObjectPath> {
    match element.children.as_slice() {
        [inner] if element.name == "VALUE.REFERENCE" => path(inner, depth),
        _ => invalid(format!("{} is no reference", element.name)),
    }
}

fn instance(element: &Element) -> Result<RawInstance> {
    if element.name != "INSTANCE" {
        return invalid(format!("{} instead of INSTANCE", element.name));
    }
    let class = required(element, "CLASSNAME")?.to_owned();
    let mut properties = Vec::new();
    for child in &element.children {
        if child.name == "QUALIFIER" {
            continue;
        }
        if !child.name.starts_with("PROPERTY") {
            return invalid(format!("{} in INSTANCE", child.name));
        }
        let value = child.children.iter().find(|inner| inner.name != "QUALIFIER");
        let value = value.map_or(Ok(Raw::Null), raw)?;
        properties.push((required(child, "NAME")?.to_owned(), value));
    }
    Ok(RawInstance { class, properties })
}

/// Any of the three forms of an instance's path; the host is not looked at.
fn path(element: &Element, depth: usize) -> Result<ObjectPath> {
    if depth > MAX_KEY_DEPTH {
        return invalid("references are nested too deeply");
    }
    match (element.name.as_str(), element.children.as_slice()) {
        ("INSTANCENAME", _) => instance_name(element, depth),
        ("LOCALINSTANCEPATH", [place, name]) => {
            Ok(ObjectPath { namespace: Some(namespace(place)?), ..instance_name(name, depth)? })
        }
        ("INSTANCEPATH", [place, name]) => {
            let place = only(place, "LOCALNAMESPACEPATH")?;
            Ok(ObjectPath { namespace: Some(namespace(place)?), ..instance_name(name, depth)? })
        }
        (other, _) => invalid(format!("{other} is no instance path")),
    }
}

fn class_path(element: &Element) -> Result<ObjectPath> {
    let place = only(element, "LOCALNAMESPACEPATH")?;
    let class = required(only(element, "CLASSNAME")?, "NAME")?.to_owned();
    Ok(ObjectPath { namespace: Some(namespace(place)?), class, keys: Vec::new() })
}

fn instance_name(element: &Element, depth: usize) -> Result<ObjectPath> {
    if element.name != "INSTANCENAME" {
        return invalid(format!("{} instead of INSTANCENAME", element.name));
    }
    let class = required(element, "CLASSNAME")?.to_owned();
    let keys = element.children.iter().map(|child| match child.name.as_str() {
        "KEYBINDING" => match child.children.as_slice() {
            [value] => Ok((required(child, "NAME")?.to_owned(), key_value(value, depth)?)),
            _ => invalid("KEYBINDING without a value"),
        },
        // A single key may come without its name.
        _ => Ok((String::new(), key_value(child, depth)?)),
    });
    Ok(ObjectPath { namespace: None, class, keys: keys.collect::<Result<_>>()? })
}

fn key_value(element: &Element, depth: usize) -> Result<Key> {
    match element.name.as_str() {
        "KEYVALUE" => Ok(Key::Text(element.text.clone())),
        "VALUE.REFERENCE" => Ok(Key::Reference(Box::new(reference(element, depth + 1)?))),
        other => invalid(format!("{other} is no value of a key")),
    }
}

fn namespace(element: &Element) -> Result<String> {
    if element.name != "LOCALNAMESPACEPATH" || element.children.is_empty() {
        return invalid("LOCALNAMESPACEPATH is missing or empty");
    }
    let parts = element.children.iter().map(|child| required(child, "NAME"));
    Ok(parts.collect::<Result<Vec<_>>>()?.join("/"))
}

fn required<'e>(element: &'e Element, name: &str) -> Result<&'e str> {
    let found = element.attribute(name);
    found.ok_or_else(|| Invalid::NotValid(format!("{} has no {name}", element.name)))
}

fn only<'e>(element: &'e Element, name: &str) -> Result<&'e Element> {
    let found = element.child(name);
    found.ok_or_else(|| Invalid::NotValid(format!("{} holds no {name}", element.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cim::xml;

    fn message(inner: &str) -> Result<Message> {
        let text = format!(
            "<CIM CIMVERSION='2.0' DTDVERSION='2.0'><MESSAGE ID='7' PROTOCOLVERSION='1.0'>\
             <SIMPLEREQ>{inner}</SIMPLEREQ></MESSAGE></CIM>"
        );
        read(&xml::parse(&text).unwrap())
    }

    const PLACE: &str =
        "<LOCALNAMESPACEPATH><NAMESPACE NAME='a'/><NAMESPACE NAME='b'/></LOCALNAMESPACEPATH>";

    #[test]
    fn all_forms_of_a_reference_are_the_same() {
        let name = "<INSTANCENAME CLASSNAME='C'><KEYBINDING NAME='K'><KEYVALUE>v</KEYVALUE>\
                    </KEYBINDING></INSTANCENAME>";
        let forms = [
            name.to_owned(),
            format!("<LOCALINSTANCEPATH>{PLACE}{name}</LOCALINSTANCEPATH>"),
            format!(
                "<INSTANCEPATH><NAMESPACEPATH><HOST>h</HOST>{PLACE}</NAMESPACEPATH>{name}\
                 </INSTANCEPATH>"
            ),
        ];
        let expected = ObjectPath::new("a/b", "C").with("K", "v");
        for form in forms {
            let call = format!(
                "<METHODCALL NAME='M'><LOCALINSTANCEPATH>{PLACE}{name}</LOCALINSTANCEPATH>\
                 <PARAMVALUE NAME='P'><VALUE.REFERENCE>{form}</VALUE.REFERENCE></PARAMVALUE>\
                 </METHODCALL>"
            );
            let message = message(&call).unwrap();
            let [Call::Method { object, parameters, .. }] = message.calls.as_slice() else {
                panic!("{message:?}")
            };
            assert!(object.same_as(&expected));
            let Raw::Reference(path) = &parameters[0].value else { panic!("{form}") };
            assert!(path.same_as(&expected), "{form}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            String::new(),
            "<IMETHODCALL NAME='GetClass'></IMETHODCALL>".to_owned(),
            format!("<IMETHODCALL>{PLACE}</IMETHODCALL>"),
            format!("<IMETHODCALL NAME='X'>{PLACE}<PARAMVALUE NAME='a'/></IMETHODCALL>"),
            format!("<IMETHODCALL NAME='X'>{PLACE}<IPARAMVALUE/></IMETHODCALL>"),
            format!("<METHODCALL NAME='X'>{PLACE}</METHODCALL>"),
            "<IMETHODCALL NAME='X'><LOCALNAMESPACEPATH/></IMETHODCALL>".to_owned(),
        ] {
            assert!(matches!(message(&bad), Err(Invalid::NotValid(_))), "{bad}");
        }
    }

    #[test]
    fn references_in_references_come_to_an_end() {
        let mut name = "<INSTANCENAME CLASSNAME='C'/>".to_owned();
        for _ in 0..10 {
            name = format!(
                "<INSTANCENAME CLASSNAME='C'><KEYBINDING NAME='K'><VALUE.REFERENCE>{name}\
                 </VALUE.REFERENCE></KEYBINDING></INSTANCENAME>"
            );
        }
        let call = format!(
            "<IMETHODCALL NAME='GetInstance'>{PLACE}<IPARAMVALUE NAME='InstanceName'>{name}\
             </IPARAMVALUE></IMETHODCALL>"
        );
        assert!(message(&call).is_err());
    }

    proptest::proptest! {
        /// Pieces of a good request in any order: whatever comes of it, it is answered.
        #[test]
        fn mixed_up_requests_are_survived(
            pieces in proptest::collection::vec((0_usize..400, 0_usize..400), 1..8)
        ) {
            let good = format!(
                "<CIM CIMVERSION='2.0' DTDVERSION='2.0'><MESSAGE ID='7' PROTOCOLVERSION='1.0'>\
                 <SIMPLEREQ><METHODCALL NAME='M'><LOCALINSTANCEPATH>{PLACE}<INSTANCENAME \
                 CLASSNAME='C'><KEYBINDING NAME='K'><KEYVALUE>v</KEYVALUE></KEYBINDING>\
                 </INSTANCENAME></LOCALINSTANCEPATH><PARAMVALUE NAME='P'><VALUE.ARRAY><VALUE>x\
                 </VALUE></VALUE.ARRAY></PARAMVALUE></METHODCALL></SIMPLEREQ></MESSAGE></CIM>"
            );
            // Whole tags only, or the XML would hardly ever be well-formed.
            let tags: Vec<&str> = good.split_inclusive('>').collect();
            let mut mixed = tags.clone();
            for (from, to) in pieces {
                let (from, to) = (from % mixed.len(), to % mixed.len());
                let tag = mixed.remove(from);
                mixed.insert(to.min(mixed.len()), tag);
            }
            if let Ok(tree) = xml::parse(&mixed.concat()) {
                let _ = read(&tree);
                for child in &tree.children {
                    let _ = raw(child);
                    let _ = path(child, 0);
                }
            }
        }
    }
}
