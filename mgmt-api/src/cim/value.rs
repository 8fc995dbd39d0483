//! CIM data types and values, and the conversion from the text of a message.

use std::borrow::Cow;

use super::fault::{Fault, Status};
use super::path::ObjectPath;
use super::time;

/// A CIM data type (DSP0004 §5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CimType {
    Boolean,
    String,
    Char16,
    /// Bits.
    Uint(u8),
    /// Bits.
    Sint(u8),
    /// Bits.
    Real(u8),
    Datetime,
    /// To instances of this class.
    Reference(String),
}

impl CimType {
    /// From its name; references have a syntax of their own.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "char16" => Self::Char16,
            "uint8" => Self::Uint(8),
            "uint16" => Self::Uint(16),
            "uint32" => Self::Uint(32),
            "uint64" => Self::Uint(64),
            "sint8" => Self::Sint(8),
            "sint16" => Self::Sint(16),
            "sint32" => Self::Sint(32),
            "sint64" => Self::Sint(64),
            "real32" => Self::Real(32),
            "real64" => Self::Real(64),
            "datetime" => Self::Datetime,
            _ => return None,
        })
    }

    /// As `TYPE` and `PARAMTYPE` say it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Char16 => "char16",
            Self::Uint(8) => "uint8",
            Self::Uint(16) => "uint16",
            Self::Uint(32) => "uint32",
            Self::Uint(_) => "uint64",
            Self::Sint(8) => "sint8",
            Self::Sint(16) => "sint16",
            Self::Sint(32) => "sint32",
            Self::Sint(_) => "sint64",
            Self::Real(32) => "real32",
            Self::Real(_) => "real64",
            Self::Datetime => "datetime",
            Self::Reference(_) => "reference",
        }
    }
}

/// A value; its type is the declaration's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Uint(u64),
    Sint(i64),
    Real(f64),
    /// Strings and characters; date-times in the form of the standard.
    Text(String),
    Reference(ObjectPath),
    Embedded(Box<Instance>),
    /// Nothing in an array but values that are no arrays.
    Array(Vec<Self>),
}

impl Value {
    /// Strings as an array.
    pub(crate) fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Array(texts.into_iter().map(|text| Self::from(text.as_ref())).collect())
    }

    /// Numbers as an array.
    pub(crate) fn numbers(numbers: &[u16]) -> Self {
        Self::Array(numbers.iter().map(|&number| Self::from(number)).collect())
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn as_uint(&self) -> Option<u64> {
        if let Self::Uint(number) = self { Some(*number) } else { None }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(flag) = self { Some(*flag) } else { None }
    }

    pub(crate) fn as_reference(&self) -> Option<&ObjectPath> {
        if let Self::Reference(path) = self { Some(path) } else { None }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Uint(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Uint(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Uint(number)
    }
}

impl From<ObjectPath> for Value {
    fn from(path: ObjectPath) -> Self {
        Self::Reference(path)
    }
}

/// An instance: its class and the properties that have a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    pub(crate) class: Name,
    pub(crate) properties: Vec<(Name, Value)>,
}

/// The name of a class or a property; nearly all are known when the program is built.
pub(crate) type Name = Cow<'static, str>;

impl Instance {
    pub(crate) fn new(class: impl Into<Name>) -> Self {
        Self { class: class.into(), properties: Vec::new() }
    }

    /// One that will have so many properties: of those there are thousands.
    pub(crate) fn sized(class: &'static str, properties: usize) -> Self {
        Self { class: class.into(), properties: Vec::with_capacity(properties) }
    }

    /// Adds a property.
    pub(crate) fn with(mut self, name: impl Into<Name>, value: impl Into<Value>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Adds a property unless it has no value.
    pub(crate) fn with_some(self, name: impl Into<Name>, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.properties.get(self.place(name)?).map(|(_, value)| value)
    }

    /// Where a property stands that has a value.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        // Nearly always it is spelt as it was declared.
        let exact = self.properties.iter().position(|(own, _)| own == name);
        let same = || self.properties.iter().position(|(own, _)| own.eq_ignore_ascii_case(name));
        exact.or_else(same)
    }
}

/// A value as it stands in a message, before its type is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Raw {
    Null,
    Text(String),
    /// `None` is `VALUE.NULL`.
    Array(Vec<Option<String>>),
    Reference(ObjectPath),
    References(Vec<ObjectPath>),
    ClassName(String),
    Instance(RawInstance),
    NamedInstance(ObjectPath, RawInstance),
}

/// An instance as it stands in a message.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RawInstance {
    pub(crate) class: String,
    pub(crate) properties: Vec<(String, Raw)>,
}

/// Converts to the declared type; `None` is NULL. `what` names the thing in the error.
pub(crate) fn convert(
    raw: &Raw,
    cim_type: &CimType,
    is_array: bool,
    what: &str,
) -> Result<Option<Value>, Fault> {
    let mismatch = || {
        let array = if is_array { "[]" } else { "" };
        let text = format!("{what} must be of the type {}{array}", cim_type.name());
        Fault::new(Status::TypeMismatch, text)
    };
    let one = |text: &str| scalar(text, cim_type).ok_or_else(mismatch);
    match raw {
        Raw::Null => Ok(None),
        Raw::Text(text) if !is_array => one(text).map(Some),
        Raw::Array(items) if is_array && !matches!(cim_type, CimType::Reference(_)) => {
            let values = items.iter().map(|item| one(item.as_deref().ok_or_else(mismatch)?));
            Ok(Some(Value::Array(values.collect::<Result<_, _>>()?)))
        }
        Raw::Reference(path) if !is_array && matches!(cim_type, CimType::Reference(_)) => {
            Ok(Some(Value::Reference(path.clone())))
        }
        Raw::References(paths) if is_array && matches!(cim_type, CimType::Reference(_)) => {
            Ok(Some(Value::Array(paths.iter().cloned().map(Value::Reference).collect())))
        }
        Raw::Text(_)
        | Raw::Array(_)
        | Raw::Reference(_)
        | Raw::References(_)
        | Raw::ClassName(_)
        | Raw::Instance(_)
        | Raw::NamedInstance(..) => Err(mismatch()),
    }
}

fn scalar(text: &str, cim_type: &CimType) -> Option<Value> {
    match cim_type {
        CimType::String => Some(Value::from(text)),
        CimType::Boolean => boolean(text).map(Value::Bool),
        CimType::Char16 => {
            let mut units = text.encode_utf16();
            (units.next().is_some() && units.next().is_none()).then(|| Value::from(text))
        }
        CimType::Uint(bits) => {
            let number = unsigned(text.trim())?;
            (*bits >= 64 || number < 1 << *bits).then_some(Value::Uint(number))
        }
        CimType::Sint(bits) => {
            let number = signed(text.trim())?;
            let limit = 1_i128 << (*bits - 1);
            let fits = (-limit..limit).contains(&i128::from(number));
            fits.then_some(Value::Sint(number))
        }
        CimType::Real(_) => text.trim().parse().ok().map(Value::Real),
        CimType::Datetime => {
            let valid =
                time::parse_datetime(text).is_some() || time::parse_interval(text).is_some();
            valid.then(|| Value::from(text))
        }
        // Some clients send a reference as its WBEM URI.
        CimType::Reference(_) => ObjectPath::parse_uri(text).map(Value::Reference),
    }
}

/// TRUE and FALSE in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Decimal or hexadecimal (DSP0201 §5.2.4.1).
fn unsigned(text: &str) -> Option<u64> {
    let bare = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (bare, 10),
    };
    // The standard library would take another sign.
    if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() }
}

fn signed(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(rest) if !rest.starts_with('+') => {
            let magnitude = i128::from(unsigned(rest)?);
            i64::try_from(-magnitude).ok()
        }
        Some(_) => None,
        None => i64::try_from(unsigned(text)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str, cim_type: &CimType) -> Option<Value> {
        convert(&Raw::Text(text.to_owned()), cim_type, false, "it").ok().flatten()
    }

    #[test]
    fn numbers_keep_to_the_range_of_their_type() {
        assert_eq!(number("65535", &CimType::Uint(16)), Some(Value::Uint(65535)));
        assert_eq!(number("65536", &CimType::Uint(16)), None);
        assert_eq!(number("0xFFFF", &CimType::Uint(16)), Some(Value::Uint(65535)));
        assert_eq!(number("18446744073709551615", &CimType::Uint(64)), Some(Value::Uint(u64::MAX)));
        assert_eq!(number("18446744073709551616", &CimType::Uint(64)), None);
        assert_eq!(number("-1", &CimType::Uint(32)), None);
        assert_eq!(number("+-1", &CimType::Uint(32)), None);
        assert_eq!(number("", &CimType::Uint(32)), None);
        assert_eq!(number("1.5", &CimType::Uint(32)), None);
        assert_eq!(number("-128", &CimType::Sint(8)), Some(Value::Sint(-128)));
        assert_eq!(number("128", &CimType::Sint(8)), None);
        assert_eq!(number("-129", &CimType::Sint(8)), None);
        assert_eq!(number("-9223372036854775808", &CimType::Sint(64)), Some(Value::Sint(i64::MIN)));
        assert_eq!(number("--1", &CimType::Sint(64)), None);
    }

    #[test]
    fn a_value_of_another_kind_is_a_type_mismatch() {
        assert_eq!(number("TRUE", &CimType::Boolean), Some(Value::Bool(true)));
        assert_eq!(number("yes", &CimType::Boolean), None);
        assert_eq!(number("tomorrow", &CimType::Datetime), None);
        let array = Raw::Array(vec![Some("1".to_owned())]);
        let fault = convert(&array, &CimType::Uint(8), false, "it").unwrap_err();
        assert_eq!(fault.status, Status::TypeMismatch);
        assert!(convert(&Raw::Text("1".to_owned()), &CimType::Uint(8), true, "it").is_err());
        assert!(convert(&Raw::Array(vec![None]), &CimType::Uint(8), true, "it").is_err());
        assert_eq!(convert(&Raw::Null, &CimType::Uint(8), true, "it"), Ok(None));
        assert_eq!(
            convert(&array, &CimType::Uint(8), true, "it"),
            Ok(Some(Value::Array(vec![Value::Uint(1)])))
        );
    }
}
