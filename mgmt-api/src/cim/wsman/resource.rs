//! Which class or instance is meant: resource URIs, selectors and endpoint references.

use job_engine::error::NAMESPACE;

use super::super::out::Out;
use super::super::path::{Key, ObjectPath};
use super::fault::{self, SoapFault};
use super::node::Node;
use super::{ADDRESSING, ANONYMOUS, Result, WSMAN};

const DMTF: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/";
const VENDOR: &str = "http://schemas.microsoft.com/wbem/wscim/1/cim-schema/2/";
const WMI: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/";

/// The selector that names the namespace (DSP0227).
const NAMESPACE_SELECTOR: &str = "__cimnamespace";
/// References in the keys of references.
const MAX_DEPTH: usize = 4;
/// Selectors of one instance.
const MAX_SELECTORS: usize = 32;

/// How a client names classes; answers name them so too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CLASS`
    Dmtf,
    /// `http://schemas.microsoft.com/wbem/wscim/1/cim-schema/2/CLASS`
    Vendor,
    /// `http://schemas.microsoft.com/wbem/wsman/1/wmi/NAMESPACE/CLASS`
    Wmi,
}

impl Style {
    /// The URI of a class, which is also the XML namespace of its instances.
    pub(super) fn uri(self, namespace: &str, class: &str) -> String {
        match self {
            Self::Dmtf => format!("{DMTF}{class}"),
            Self::Vendor => format!("{VENDOR}{class}"),
            Self::Wmi => format!("{WMI}{namespace}/{class}"),
        }
    }
}

/// Style, namespace if the URI has one, and class (`*`: all).
pub(super) fn parse_uri(uri: &str) -> Option<(Style, Option<&str>, &str)> {
    let uri = uri.trim();
    let named = |class: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        class == "*" || (!class.is_empty() && class.bytes().all(legal))
    };
    for (prefix, style) in [(DMTF, Style::Dmtf), (VENDOR, Style::Vendor)] {
        if let Some(class) = uri.strip_prefix(prefix) {
            return named(class).then_some((style, None, class));
        }
    }
    let (namespace, class) = uri.strip_prefix(WMI)?.rsplit_once('/')?;
    (named(class) && !namespace.is_empty()).then_some((Style::Wmi, Some(namespace), class))
}

/// What a header or an endpoint reference points at.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) style: Style,
    /// Without keys it is the class.
    pub(super) path: ObjectPath,
}

impl Target {
    /// Of the header, or of `ReferenceParameters`.
    pub(super) fn read(within: &Node) -> Result<Self> {
        Self::read_below(within, MAX_DEPTH)
    }

    fn read_below(within: &Node, depth: usize) -> Result<Self> {
        let uri = within.child(WSMAN, "ResourceURI").map(Node::text).unwrap_or_default();
        let unknown = || {
            SoapFault::new(&fault::INVALID_RESOURCE_URI, format!("{uri:?} is no URI of a class"))
        };
        let (style, namespace, class) = parse_uri(uri).ok_or_else(unknown)?;
        let mut path = ObjectPath { namespace: None, class: class.to_owned(), keys: Vec::new() };
        let set = within.child(WSMAN, "SelectorSet").map(|set| set.children.as_slice());
        let set = set.unwrap_or_default();
        if set.len() > MAX_SELECTORS {
            return Err(SoapFault::new(&fault::INVALID_SELECTORS, "too many selectors"));
        }
        for selector in set {
            let name = selector.attribute("", "Name").filter(|_| selector.is(WSMAN, "Selector"));
            let name = name.ok_or_else(|| {
                SoapFault::new(&fault::INVALID_SELECTORS, "a Selector needs a Name")
            })?;
            let key = match selector.children.as_slice() {
                [] => Key::Text(selector.whole_text().to_owned()),
                [reference] if reference.is(ADDRESSING, "EndpointReference") && depth > 1 => {
                    let target = Self::read_reference(reference, depth - 1)?;
                    Key::Reference(Box::new(target.path))
                }
                _ => {
                    let text = format!("the selector {name} has no value that can be read");
                    return Err(SoapFault::new(&fault::INVALID_SELECTORS, text));
                }
            };
            if path.key(name).is_some() {
                let text = format!("the selector {name} comes twice");
                return Err(SoapFault::new(&fault::DUPLICATE_SELECTORS, text));
            }
            path.keys.push((name.to_owned(), key));
        }
        path.namespace = Some(take_namespace(&mut path, namespace)?);
        Ok(Self { style, path })
    }

    /// Of an `EndpointReference`, or of anything of its type.
    pub(super) fn of_reference(reference: &Node) -> Result<Self> {
        Self::read_reference(reference, MAX_DEPTH)
    }

    fn read_reference(reference: &Node, depth: usize) -> Result<Self> {
        let parameters = reference.child(ADDRESSING, "ReferenceParameters").ok_or_else(|| {
            SoapFault::new(&fault::INVALID_SELECTORS, "a reference has no ReferenceParameters")
        })?;
        Self::read_below(parameters, depth)
    }
}

/// From the selector or the URI; by default the one with everything about storage.
fn take_namespace(path: &mut ObjectPath, of_uri: Option<&str>) -> Result<String> {
    let index =
        path.keys.iter().position(|(name, _)| name.eq_ignore_ascii_case(NAMESPACE_SELECTOR));
    let selected = index.map(|index| path.keys.remove(index).1);
    match (selected, of_uri) {
        (Some(Key::Reference(_)), _) => {
            Err(SoapFault::new(&fault::INVALID_SELECTORS, "__cimnamespace is no reference"))
        }
        (Some(Key::Text(selected)), Some(own)) if !own.eq_ignore_ascii_case(selected.trim()) => {
            let text = "the resource URI and __cimnamespace name different namespaces";
            Err(SoapFault::new(&fault::INVALID_SELECTORS, text))
        }
        (Some(Key::Text(selected)), _) => Ok(selected.trim().to_owned()),
        (None, Some(own)) => Ok(own.to_owned()),
        (None, None) => Ok(NAMESPACE.to_owned()),
    }
}

/// Writes what stands in an `EndpointReference`.
pub(super) fn write_reference(out: &mut Out, style: Style, path: &ObjectPath) {
    let namespace = path.namespace.as_deref().unwrap_or(NAMESPACE);
    out.leaf("a:Address", &[], ANONYMOUS);
    out.element("a:ReferenceParameters", &[], |out| {
        out.leaf("w:ResourceURI", &[], &style.uri(namespace, &path.class));
        out.element("w:SelectorSet", &[], |out| {
            out.leaf("w:Selector", &[("Name", NAMESPACE_SELECTOR)], namespace);
            for (name, key) in &path.keys {
                match key {
                    Key::Text(text) => out.leaf("w:Selector", &[("Name", name)], text),
                    Key::Reference(inner) => {
                        out.element("w:Selector", &[("Name", name)], |out| {
                            out.element("a:EndpointReference", &[], |out| {
                                write_reference(out, style, inner);
                            });
                        });
                    }
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::super::xml;
    use super::*;

    #[test]
    fn uris_of_all_families_are_known() {
        assert_eq!(parse_uri(&format!("{DMTF}CIM_X")), Some((Style::Dmtf, None, "CIM_X")));
        assert_eq!(parse_uri(&format!("{VENDOR}*")), Some((Style::Vendor, None, "*")));
        let wmi = format!("{WMI}root/cimv2/storage/iscsitarget/MS_Y");
        let namespace = Some("root/cimv2/storage/iscsitarget");
        assert_eq!(parse_uri(&wmi), Some((Style::Wmi, namespace, "MS_Y")));
        for bad in ["", DMTF, WMI, "http://x/y", &format!("{DMTF}A/B"), &format!("{WMI}C")] {
            assert_eq!(parse_uri(bad), None, "{bad}");
        }
    }

    fn round(style: Style, path: &ObjectPath) -> Result<Target> {
        let mut out = Out::default();
        let names = [("xmlns:a", ADDRESSING), ("xmlns:w", WSMAN)];
        out.element("a:EndpointReference", &names, |out| write_reference(out, style, path));
        let node = Node::resolve(xml::parse(&out.finish()).unwrap()).unwrap();
        Target::of_reference(&node)
    }

    #[test]
    fn a_reference_in_a_reference_survives_and_deep_ones_do_not() {
        let inner = ObjectPath::new("root/x", "CIM_A").with("InstanceID", " <a> ");
        let mut outer = ObjectPath::new("root/x", "CIM_B");
        outer.keys.push(("R".to_owned(), Key::Reference(Box::new(inner))));
        for style in [Style::Dmtf, Style::Vendor, Style::Wmi] {
            let target = round(style, &outer).unwrap();
            assert_eq!((&target.path, target.style), (&outer, style));
        }
        for _ in 0..MAX_DEPTH {
            let mut next = ObjectPath::new("root/x", "CIM_B");
            next.keys.push(("R".to_owned(), Key::Reference(Box::new(outer))));
            outer = next;
        }
        assert!(round(Style::Dmtf, &outer).is_err());
    }
}
