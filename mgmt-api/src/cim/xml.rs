//! XML as a tree, from people who may mean harm: no document types, no entities but the five
//! predefined ones, and limits on everything that costs memory or stack.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Elements in elements.
const MAX_DEPTH: usize = 64;
/// Elements in all.
const MAX_ELEMENTS: usize = 100_000;
/// Attributes of one element.
const MAX_ATTRIBUTES: usize = 32;

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Self>,
    /// All text directly in it.
    pub(crate) text: String,
}

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum XmlError {
    /// It is no XML.
    NotWellFormed(String),
    /// It is XML that is not accepted here.
    NotValid(String),
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// Reads a document.
pub(crate) fn parse(text: &str) -> Result<Element, XmlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    loop {
        let event = reader.read_event().map_err(|error| broken(&error))?;
        match event {
            Event::Start(tag) => builder.open(&tag)?,
            Event::Empty(tag) => {
                builder.open(&tag)?;
                builder.close()?;
            }
            Event::End(_) => builder.close()?,
            Event::Text(part) => builder.text(&part.xml10_content())?,
            Event::CData(part) => builder.text(&part.xml10_content())?,
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| broken(&error))?;
                let character = match character {
                    Some(character) => character,
                    None => predefined(&reference.xml10_content())?,
                };
                builder.text(character.encode_utf8(&mut [0; 4]))?;
            }
            Event::DocType(_) => {
                return Err(XmlError::NotValid("a document type is not accepted".to_owned()));
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => return builder.finish(),
        }
    }
}

fn broken(error: &impl ToString) -> XmlError {
    XmlError::NotWellFormed(error.to_string())
}

fn predefined(name: &str) -> Result<char, XmlError> {
    match name {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        other => Err(XmlError::NotValid(format!("the entity `{other}` is not accepted"))),
    }
}

/// Whether XML 1.0 has this character at all.
pub(crate) fn is_xml_character(character: char) -> bool {
    !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

#[derive(Default)]
struct Builder {
    open: Vec<Element>,
    root: Option<Element>,
    count: usize,
}

impl Builder {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), XmlError> {
        self.count += 1;
        if self.root.is_some() {
            return Err(XmlError::NotWellFormed("a second root element".to_owned()));
        }
        if self.open.len() >= MAX_DEPTH || self.count > MAX_ELEMENTS {
            return Err(XmlError::NotValid("too many elements".to_owned()));
        }
        let mut element = Element { name: tag.name().as_ref().to_owned(), ..Element::default() };
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| broken(&error))?;
            if element.attributes.len() >= MAX_ATTRIBUTES {
                return Err(XmlError::NotValid("too many attributes".to_owned()));
            }
            let value = attribute
                .normalized_value(XmlVersion::Explicit1_0)
                .map_err(|error| broken(&error))?;
            check(&value)?;
            element.attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        self.open.push(element);
        Ok(())
    }

    fn text(&mut self, part: &str) -> Result<(), XmlError> {
        check(part)?;
        match self.open.last_mut() {
            Some(element) => {
                element.text.push_str(part);
                Ok(())
            }
            None if part.trim().is_empty() => Ok(()),
            None => Err(XmlError::NotWellFormed("text outside of the root element".to_owned())),
        }
    }

    fn close(&mut self) -> Result<(), XmlError> {
        let element = self
            .open
            .pop()
            .ok_or_else(|| XmlError::NotWellFormed("an end without a start".to_owned()))?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn finish(self) -> Result<Element, XmlError> {
        if !self.open.is_empty() {
            return Err(XmlError::NotWellFormed("the document is cut off".to_owned()));
        }
        self.root.ok_or_else(|| XmlError::NotWellFormed("there is no element".to_owned()))
    }
}

fn check(text: &str) -> Result<(), XmlError> {
    if text.chars().all(is_xml_character) {
        Ok(())
    } else {
        Err(XmlError::NotWellFormed("a character that XML does not have".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_comes_together_whatever_it_is_made_of() {
        let tree =
            parse("<?xml version=\"1.0\"?><A B='&lt;&#x41;'><C/>x&amp;<![CDATA[<y>]]>&#65;</A>");
        let tree = tree.unwrap();
        assert_eq!(tree.attribute("B"), Some("<A"));
        assert_eq!(tree.text, "x&<y>A");
        assert_eq!(tree.child("C").unwrap().text, "");
    }

    #[test]
    fn document_types_and_entities_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;&b;\">]><a>&c;</a>";
        assert!(matches!(parse(bomb), Err(XmlError::NotValid(_))));
        assert!(matches!(parse("<a>&c;</a>"), Err(XmlError::NotValid(_))));
        assert!(parse("<a b='&c;'/>").is_err());
        let external = "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>";
        assert!(matches!(parse(external), Err(XmlError::NotValid(_))));
    }

    #[test]
    fn depth_and_number_of_elements_are_limited() {
        let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(parse(&nested(MAX_DEPTH + 1)), Err(XmlError::NotValid(_))));
        let wide = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        assert!(matches!(parse(&wide), Err(XmlError::NotValid(_))));
        let attributes: Vec<String> = (0..=MAX_ATTRIBUTES).map(|n| format!("a{n}=''")).collect();
        assert!(parse(&format!("<a {}/>", attributes.join(" "))).is_err());
    }

    #[test]
    fn what_is_no_xml_is_refused() {
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><a/>",
            "<a/>x",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            "<a>\u{1}</a>",
            "<a>&#0;</a>",
            "<a>&#1;</a>",
            "<a>&#xD800;</a>",
            "<a b='&#1;'/>",
            "<a>&",
            "<a><![CDATA[x</a>",
            "<!-- -- --><a/>",
            "<a",
        ] {
            assert!(
                matches!(parse(bad), Err(XmlError::NotWellFormed(_))),
                "{bad}: {:?}",
                parse(bad)
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn broken_markup_is_survived(text in "[<>/a&;='\"!\\[\\]\\-?# ]{0,60}") {
            let _ = parse(&text);
        }
    }
}
