//! Writing XML. No tag is ever closed in itself: one of the common clients does not understand
//! that.

use std::fmt::{Display, Write as _};

use quick_xml::escape::escape;

use super::encode::Template;
use super::xml::is_xml_character;

/// XML under construction.
#[derive(Debug, Default)]
pub(crate) struct Out {
    text: String,
    /// How the instance before was written: the next one is most often like it.
    pub(super) template: Option<Template>,
}

impl Out {
    pub(crate) fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.text.push('<');
        self.text.push_str(name);
        for (attribute, value) in attributes {
            self.text.push(' ');
            self.text.push_str(attribute);
            self.text.push_str("=\"");
            if is_plain(value) {
                self.text.push_str(value);
            } else {
                // Parsers turn white space in attributes into blanks.
                let value = clean(value).replace('\n', "&#10;").replace('\t', "&#9;");
                self.text.push_str(&value);
            }
            self.text.push('"');
        }
        self.text.push('>');
    }

    pub(crate) fn close(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// Character data.
    pub(crate) fn text(&mut self, text: &str) {
        if is_plain(text) {
            self.text.push_str(text);
        } else {
            self.text.push_str(&clean(text));
        }
    }

    /// XML that was written elsewhere.
    pub(crate) fn xml(&mut self, xml: &str) {
        self.text.push_str(xml);
    }

    /// What needs no escapes.
    pub(crate) fn plain(&mut self, value: impl Display) {
        let _ = write!(self.text, "{value}");
    }

    /// An element with nothing but text in it.
    pub(crate) fn leaf(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.open(name, attributes);
        self.text(text);
        self.close(name);
    }

    /// An element around what `inside` writes.
    pub(crate) fn element(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        inside: impl FnOnce(&mut Self),
    ) {
        self.open(name, attributes);
        inside(self);
        self.close(name);
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// What was written until now. The next one will be about as long.
    pub(crate) fn take(&mut self) -> String {
        let next = String::with_capacity(self.text.len());
        std::mem::replace(&mut self.text, next)
    }
}

/// Nothing of it has to be said in another way, as in nearly every text.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| {
        matches!(byte, b' '..=b'~') && !matches!(byte, b'<' | b'>' | b'&' | b'"' | b'\'')
    })
}

/// Escaped, and without the characters that XML 1.0 cannot say.
fn clean(text: &str) -> String {
    let visible: String =
        text.chars().map(|c| if is_xml_character(c) { c } else { '\u{fffd}' }).collect();
    // A bare carriage return would arrive as a line feed.
    escape(visible).replace('\r', "&#13;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cim::xml;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_arrives(text in any::<String>()) {
            let expected: String =
                text.chars().map(|c| if is_xml_character(c) { c } else { '\u{fffd}' }).collect();
            let mut out = Out::default();
            out.leaf("A", &[("B", &text)], &text);
            let tree = xml::parse(&out.finish()).unwrap();
            prop_assert_eq!(&tree.text, &expected);
            prop_assert_eq!(tree.attribute("B"), Some(expected.as_str()));
        }
    }
}
