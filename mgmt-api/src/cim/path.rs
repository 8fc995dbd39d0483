//! Object paths: which instance is meant.

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    /// Strings, numbers and booleans, as text: what a key is, its class says.
    Text(String),
    Reference(Box<ObjectPath>),
}

/// The path of an instance, as far as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObjectPath {
    pub(crate) namespace: Option<String>,
    pub(crate) class: String,
    pub(crate) keys: Vec<(String, Key)>,
}

/// References in references end here.
const MAX_DEPTH: usize = 4;

impl ObjectPath {
    pub(crate) fn new(namespace: &str, class: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), class: class.to_owned(), keys: Vec::new() }
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.keys.push((key.to_owned(), Key::Text(value.to_owned())));
        self
    }

    pub(crate) fn key(&self, name: &str) -> Option<&Key> {
        let found = self.keys.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    pub(crate) fn text_key(&self, name: &str) -> Option<&str> {
        match self.key(name)? {
            Key::Text(text) => Some(text),
            Key::Reference(_) => None,
        }
    }

    /// Whether both mean the same instance. Names do not depend on case, nor on the order of the
    /// keys; a namespace that is not given is no difference.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.same_below(other, MAX_DEPTH)
    }

    fn same_below(&self, other: &Self, depth: usize) -> bool {
        let same_namespace = match (&self.namespace, &other.namespace) {
            (Some(own), Some(others)) => plain(own).eq_ignore_ascii_case(plain(others)),
            _ => true,
        };
        same_namespace
            && depth > 0
            && self.class.eq_ignore_ascii_case(&other.class)
            && self.keys.len() == other.keys.len()
            && self.keys.iter().all(|(name, value)| match (value, other.key(name)) {
                (Key::Text(own), Some(Key::Text(others))) => own == others,
                // A reference may come as its text.
                (Key::Reference(own), Some(Key::Reference(others))) => {
                    own.same_below(others, depth - 1)
                }
                (Key::Reference(own), Some(Key::Text(text)))
                | (Key::Text(text), Some(Key::Reference(own))) => {
                    Self::parse_uri(text).is_some_and(|path| own.same_below(&path, depth - 1))
                }
                (_, None) => false,
            })
    }

    /// The untyped WBEM URI (DSP0207 §5.3): `[[//host]/]namespace:class.key="value",…`.
    pub(crate) fn to_uri(&self) -> String {
        let keys = self.keys.iter().map(|(name, value)| {
            let text = match value {
                Key::Text(text) => escape(text),
                Key::Reference(path) => escape(&path.to_uri()),
            };
            format!("{name}=\"{text}\"")
        });
        let keys: Vec<String> = keys.collect();
        let namespace = self.namespace.as_ref().map_or_else(String::new, |name| format!("{name}:"));
        format!("{namespace}{}.{}", self.class, keys.join(","))
    }

    /// Reads what [`ObjectPath::to_uri`] writes, and such paths with a host.
    pub(crate) fn parse_uri(text: &str) -> Option<Self> {
        let text = match text.strip_prefix("//") {
            Some(rest) => rest.split_once('/')?.1,
            None => text.strip_prefix('/').unwrap_or(text),
        };
        let (head, keys) = text.split_once('.')?;
        let (namespace, class) = match head.rsplit_once(':') {
            Some((namespace, class)) => (Some(namespace.to_owned()), class),
            None => (None, head),
        };
        if class.is_empty() || class.contains(['"', '=', '/']) {
            return None;
        }
        Some(Self { namespace, class: class.to_owned(), keys: parse_keys(keys)? })
    }
}

fn parse_keys(mut rest: &str) -> Option<Vec<(String, Key)>> {
    let mut keys = Vec::new();
    loop {
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unescape(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end)?;
                if value.is_empty() || value.contains('"') {
                    return None;
                }
                (value.to_owned(), after)
            }
        };
        keys.push((name.to_owned(), Key::Text(value)));
        if after.is_empty() {
            return Some(keys);
        }
        rest = after.strip_prefix(',')?;
    }
}

/// The namespace `interop` has two names.
fn plain(namespace: &str) -> &str {
    let namespace = namespace.trim_matches('/');
    let is_interop = namespace.eq_ignore_ascii_case("root/interop");
    if is_interop { "interop" } else { namespace }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The string up to its closing quote, and what follows it.
fn unescape(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((text, quoted.get(index + 1..)?)),
            '\\' => text.push(characters.next()?.1),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quote_and_a_comma_in_a_key_stay_in_it() {
        let path = ObjectPath::new("root/x", "C").with("A", "a\"b\\c,D=\"e").with("B", "");
        let text = path.to_uri();
        assert_eq!(text, r#"root/x:C.A="a\"b\\c,D=\"e",B="""#);
        assert_eq!(ObjectPath::parse_uri(&text), Some(path.clone()));
        assert_eq!(ObjectPath::parse_uri(&format!("//host:5988/{text}")), Some(path));
    }

    #[test]
    fn a_reference_as_a_key_is_the_same_as_its_text() {
        let inner = ObjectPath::new("root/x", "C").with("A", "\"");
        let mut outer = ObjectPath::new("root/x", "D");
        outer.keys.push(("R".to_owned(), Key::Reference(Box::new(inner))));
        let parsed = ObjectPath::parse_uri(&outer.to_uri()).unwrap();
        assert!(parsed.same_as(&outer));
        assert!(outer.same_as(&parsed));
    }

    #[test]
    fn names_are_compared_without_case_and_values_with_it() {
        let path = ObjectPath::new("root/x", "Cls").with("A", "v").with("B", "w");
        let same = ObjectPath::parse_uri("ROOT/X:cls.b=\"w\",a=\"v\"").unwrap();
        assert!(path.same_as(&same));
        assert!(!path.same_as(&ObjectPath::parse_uri("Cls.A=\"V\",B=\"w\"").unwrap()));
        assert!(!path.same_as(&ObjectPath::parse_uri("Cls.A=\"v\"").unwrap()));
        assert!(!path.same_as(&ObjectPath::parse_uri("root/y:Cls.A=\"v\",B=\"w\"").unwrap()));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in [
            "",
            "C",
            "C.",
            "C.A",
            "C.A=",
            "C.A=\"x",
            "C.A=\"x\\",
            "C.A=\"x\"y",
            "//host",
            ".A=\"x\"",
            "C.A=\"x\",",
            "C.=\"x\"",
        ] {
            assert_eq!(ObjectPath::parse_uri(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_key_survives(value in any::<String>()) {
            let path = ObjectPath::new("root/x", "C").with("A", &value);
            prop_assert_eq!(ObjectPath::parse_uri(&path.to_uri()), Some(path));
        }

        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = ObjectPath::parse_uri(&text);
        }
    }
}
