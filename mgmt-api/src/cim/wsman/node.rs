//! Elements with their names resolved (Namespaces in XML 1.0).

use std::sync::Arc;

use super::super::xml::{Element, XmlError};

/// Prefixes in scope: each name is looked up among them.
const MAX_PREFIXES: usize = 64;

const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// An element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) namespace: Arc<str>,
    /// The local part.
    pub(super) name: String,
    /// Namespace (empty: none), local part, value.
    attributes: Vec<(Arc<str>, String, String)>,
    pub(super) children: Vec<Self>,
    text: String,
}

impl Node {
    /// Resolves the names of a document.
    pub(super) fn resolve(root: Element) -> Result<Self, XmlError> {
        Scope { bindings: vec![("xml".to_owned(), XML.into())] }.node(root)
    }

    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && &*self.namespace == namespace
    }

    pub(super) fn child(&self, namespace: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(namespace, name))
    }

    /// The text without the white space around it.
    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    /// The text as it stands there.
    pub(super) fn whole_text(&self) -> &str {
        &self.text
    }

    pub(super) fn attribute(&self, namespace: &str, name: &str) -> Option<&str> {
        let found = self
            .attributes
            .iter()
            .find(|(own_space, own_name, _)| own_name == name && &**own_space == namespace);
        found.map(|(_, _, value)| value.as_str())
    }

    /// A boolean attribute that is there and true.
    pub(super) fn flag(&self, namespace: &str, name: &str) -> bool {
        matches!(self.attribute(namespace, name).map(str::trim), Some("true" | "1"))
    }
}

/// The prefixes that are bound where the reader is; the innermost last.
struct Scope {
    bindings: Vec<(String, Arc<str>)>,
}

impl Scope {
    fn node(&mut self, element: Element) -> Result<Node, XmlError> {
        let outside = self.bindings.len();
        let mut plain = Vec::new();
        for (name, value) in element.attributes {
            let prefix = if name == "xmlns" { Some("") } else { name.strip_prefix("xmlns:") };
            let Some(prefix) = prefix else {
                plain.push((name, value));
                continue;
            };
            if self.bindings.len() >= MAX_PREFIXES {
                return Err(XmlError::NotValid("too many prefixes of namespaces".to_owned()));
            }
            self.bindings.push((prefix.to_owned(), value.into()));
        }
        let (namespace, name) = self.name(&element.name, true)?;
        let attributes = plain.into_iter().map(|(name, value)| {
            let (namespace, name) = self.name(&name, false)?;
            Ok((namespace, name, value))
        });
        let attributes = attributes.collect::<Result<_, XmlError>>()?;
        let children = element.children.into_iter().map(|child| self.node(child));
        let children = children.collect::<Result<_, _>>()?;
        self.bindings.truncate(outside);
        Ok(Node { namespace, name, attributes, children, text: element.text })
    }

    /// An attribute without a prefix is in no namespace.
    fn name(&self, qualified: &str, defaulted: bool) -> Result<(Arc<str>, String), XmlError> {
        let (prefix, name) = qualified.split_once(':').unwrap_or(("", qualified));
        if prefix.is_empty() && !defaulted {
            return Ok(("".into(), name.to_owned()));
        }
        let found = self.bindings.iter().rev().find(|(own, _)| own == prefix);
        match found {
            Some((_, namespace)) => Ok((namespace.clone(), name.to_owned())),
            None if prefix.is_empty() => Ok(("".into(), name.to_owned())),
            None => Err(XmlError::NotWellFormed(format!("the prefix {prefix} is not bound"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::xml;
    use super::*;

    fn resolve(text: &str) -> Result<Node, XmlError> {
        Node::resolve(xml::parse(text)?)
    }

    #[test]
    fn prefixes_hold_where_they_are_bound_and_inside() {
        let text = "<a xmlns='u:1' xmlns:p='u:2' p:k='v' k='w'><p:b><c xmlns='u:3' xmlns:p='u:4'>\
                    <p:d/></c></p:b><e/></a>";
        let root = resolve(text).unwrap();
        assert!(root.is("u:1", "a"));
        assert_eq!((root.attribute("u:2", "k"), root.attribute("", "k")), (Some("v"), Some("w")));
        let inner = root.child("u:2", "b").unwrap().child("u:3", "c").unwrap();
        assert!(inner.child("u:4", "d").is_some());
        assert!(root.child("u:1", "e").is_some());
    }

    #[test]
    fn prefixes_without_a_namespace_and_too_many_of_them_are_refused() {
        assert!(resolve("<p:a/>").is_err());
        assert!(resolve("<a p:b=''/>").is_err());
        let nested: String = (0..MAX_PREFIXES).map(|n| format!("<a xmlns:p{n}='u'>")).collect();
        assert!(resolve(&format!("{nested}{}", "</a>".repeat(MAX_PREFIXES))).is_err());
    }
}
