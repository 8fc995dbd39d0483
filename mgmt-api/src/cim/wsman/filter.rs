//! Which instances an enumeration has.

use super::super::arguments::Arguments;
use super::super::operations::{Named, Work};
use super::super::path::ObjectPath;
use super::super::value::{Instance, Raw, Value};
use super::fault::{self, SoapFault};
use super::node::Node;
use super::resource::Target;
use super::transfer::existing;
use super::wql::Query;
use super::{BINDING, ENUMERATION, Result, WSMAN};

const WQL: [&str; 3] = [
    "http://schemas.microsoft.com/wbem/wsman/1/WQL",
    "http://schemas.dmtf.org/wbem/cql/1/dsp0202.pdf",
    "http://schemas.dmtf.org/wbem/wsman/1/cql",
];
const SELECTORS: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter";
const ASSOCIATIONS: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter";

/// What an enumeration has.
pub(super) struct Selected {
    pub(super) found: Vec<Named>,
    /// The class that was asked for, unless it was associations of something.
    pub(super) class: Option<String>,
    /// The properties that are wanted; `None` is all.
    pub(super) properties: Option<Vec<String>>,
}

fn refused(text: impl Into<String>) -> Box<SoapFault> {
    SoapFault::new(&fault::FILTER, text)
}

/// Reads the filter of an `Enumerate` and finds what it selects.
pub(super) fn select(work: &Work<'_>, target: &Target, enumerate: &Node) -> Result<Selected> {
    let own = enumerate.child(WSMAN, "Filter");
    let Some(filter) = own.or_else(|| enumerate.child(ENUMERATION, "Filter")) else {
        let class = class_of(target)?;
        let found = work.enumerate(class)?;
        return Ok(Selected { found, class: Some(class.to_owned()), properties: None });
    };
    let dialect = filter.attribute("", "Dialect").unwrap_or_default().trim();
    if WQL.contains(&dialect) {
        return query(work, target, filter.text());
    }
    if dialect == SELECTORS {
        return by_selectors(work, target, filter);
    }
    if dialect == ASSOCIATIONS {
        return associated(work, filter);
    }
    let text = format!("filters are WQL, selectors or associations, not of {dialect:?}");
    Err(SoapFault::new(&fault::FILTER_DIALECT, text))
}

fn class_of(target: &Target) -> Result<&str> {
    if target.path.class == "*" {
        let text = "all classes together are enumerated with a filter only";
        return Err(SoapFault::new(&fault::INVALID_RESOURCE_URI, text));
    }
    Ok(&target.path.class)
}

fn query(work: &Work<'_>, target: &Target, text: &str) -> Result<Selected> {
    match Query::parse(text).map_err(refused)? {
        Query::Select { properties, class: name, condition } => {
            let class = work.schema.class(&name);
            let class = class.ok_or_else(|| refused(format!("there is no class {name}")))?;
            let asked = &target.path.class;
            if asked != "*" && !work.schema.is_a(&class.name, asked) {
                return Err(refused(format!("the query is for {name}, the resource is {asked}")));
            }
            let listed = properties.iter().flatten().map(String::as_str);
            let unknown = listed.clone().find(|name| class.property(name).is_none());
            let unknown = unknown.or_else(|| condition.as_ref()?.unknown(class));
            if let Some(unknown) = unknown {
                return Err(refused(format!("{} has no property {unknown}", class.name)));
            }
            let mut found = work.enumerate(&class.name)?;
            if let Some(condition) = &condition {
                found.retain(|(_, instance)| condition.holds(instance));
            }
            Ok(Selected { found, class: Some(class.name.clone()), properties })
        }
        Query::Associated { references, path, filter } => {
            let named = filter.into_iter().map(|(name, value)| {
                let is_class = name.ends_with("Class");
                (name, if is_class { Raw::ClassName(value) } else { Raw::Text(value) })
            });
            neighbours(work, &path, references, named.collect())
        }
    }
}

/// The keys that instances must have.
fn by_selectors(work: &Work<'_>, target: &Target, filter: &Node) -> Result<Selected> {
    let class = class_of(target)?;
    let mut found = work.enumerate(class)?;
    let set = filter.child(WSMAN, "SelectorSet");
    for selector in &set.ok_or_else(|| refused("the filter has no SelectorSet"))?.children {
        let name = selector.attribute("", "Name").filter(|_| selector.is(WSMAN, "Selector"));
        let name = name.ok_or_else(|| refused("a Selector needs a Name"))?;
        found.retain(|(_, instance)| has(instance, name, selector.whole_text()));
    }
    Ok(Selected { found, class: Some(class.to_owned()), properties: None })
}

fn has(instance: &Instance, name: &str, wanted: &str) -> bool {
    match instance.get(name) {
        Some(Value::Text(own)) => own == wanted,
        Some(Value::Uint(own)) => wanted.trim().parse() == Ok(*own),
        Some(Value::Sint(own)) => wanted.trim().parse() == Ok(*own),
        Some(Value::Bool(own)) => wanted.trim().parse() == Ok(*own),
        Some(Value::Real(_) | Value::Reference(_) | Value::Embedded(_) | Value::Array(_))
        | None => false,
    }
}

/// `AssociatedInstances` and `AssociationInstances` (DSP0227 §8.2).
fn associated(work: &Work<'_>, filter: &Node) -> Result<Selected> {
    const NAMES: [(&str, &str); 4] = [
        ("AssociationClassName", "AssocClass"),
        ("ResultClassName", "ResultClass"),
        ("Role", "Role"),
        ("ResultRole", "ResultRole"),
    ];
    let [question] = filter.children.as_slice() else {
        return Err(refused("the filter holds one question"));
    };
    let references = question.is(BINDING, "AssociationInstances");
    if !references && !question.is(BINDING, "AssociatedInstances") {
        return Err(refused(format!("{} is no such question", question.name)));
    }
    let (mut arguments, mut properties) = (Vec::new(), Vec::new());
    let mut object = None;
    for part in &question.children {
        let text = part.text().to_owned();
        let own = |name: &str| part.is(BINDING, name);
        match NAMES.iter().find(|(name, _)| own(name)) {
            Some((name, argument)) if name.ends_with("ClassName") => {
                arguments.push((*argument, Raw::ClassName(text)));
            }
            Some((_, argument)) => arguments.push((*argument, Raw::Text(text))),
            None if own("Object") => object = Some(Target::of_reference(part)?.path),
            None if own("IncludeResultProperty") => properties.push(text),
            None => return Err(refused(format!("{} is not understood there", part.name))),
        }
    }
    let object = object.ok_or_else(|| refused("the filter names no Object"))?;
    let selected = neighbours(work, &object, references, arguments)?;
    let properties = (!properties.is_empty()).then_some(properties);
    Ok(Selected { properties, ..selected })
}

fn neighbours(
    work: &Work<'_>,
    object: &ObjectPath,
    references: bool,
    arguments: Vec<(&str, Raw)>,
) -> Result<Selected> {
    let (path, _) = existing(work, object)?;
    let all: Vec<(String, Raw)> =
        arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let arguments = Arguments::new(&all, &["AssocClass", "ResultClass", "Role", "ResultRole"])?;
    let found = work.neighbourhood(&path, references, &arguments)?;
    Ok(Selected { found, class: None, properties: None })
}
