//! Classes and qualifiers as DSP0201 writes them.

use super::encode::{Wanted, property_element};
use super::mof::{Class, Literal, Member, Method, Qualifier, QualifierType};
use super::out::Out;
use super::schema::Schema;
use super::value::CimType;

/// What of a class is wanted.
#[derive(Debug, Clone)]
pub(crate) struct ClassWanted {
    pub(crate) local_only: bool,
    pub(crate) qualifiers: bool,
    pub(crate) members: Wanted,
}

/// `CLASS`
pub(crate) fn class(out: &mut Out, schema: &Schema, class: &Class, wanted: &ClassWanted) {
    let mut attributes = vec![("NAME", class.name.as_str())];
    attributes.extend(class.superclass.as_ref().map(|above| ("SUPERCLASS", above.as_str())));
    out.element("CLASS", &attributes, |out| {
        qualifiers(out, schema, &class.qualifiers, wanted);
        for member in &class.properties {
            let hidden = wanted.local_only && member.propagated;
            if !hidden && wanted.members.has(&member.name) {
                property(out, schema, member, wanted);
            }
        }
        for own in &class.methods {
            if !(wanted.local_only && own.propagated) {
                method(out, schema, own, wanted);
            }
        }
    });
}

/// `QUALIFIER.DECLARATION`
pub(crate) fn declaration(out: &mut Out, declared: &QualifierType) {
    let has = |flavor: &str| declared.flavors.iter().any(|own| own == flavor);
    let flag = |value: bool| if value { "true" } else { "false" };
    let attributes = [
        ("NAME", declared.name.as_str()),
        ("TYPE", declared.cim_type.name()),
        ("ISARRAY", flag(declared.array)),
        ("OVERRIDABLE", flag(!has("disableoverride"))),
        ("TOSUBCLASS", flag(!has("restricted"))),
        ("TRANSLATABLE", flag(has("translatable"))),
    ];
    out.element("QUALIFIER.DECLARATION", &attributes, |out| {
        const SCOPES: [&str; 7] =
            ["CLASS", "ASSOCIATION", "REFERENCE", "PROPERTY", "METHOD", "PARAMETER", "INDICATION"];
        let in_scope =
            |name: &str| declared.scopes.iter().any(|s| s == "any" || s.eq_ignore_ascii_case(name));
        let scopes: Vec<_> = SCOPES.iter().map(|name| (*name, flag(in_scope(name)))).collect();
        out.leaf("SCOPE", &scopes, "");
        literal(out, &declared.default);
    });
}

fn property(out: &mut Out, schema: &Schema, member: &Member, wanted: &ClassWanted) {
    let mut attributes = vec![("NAME", member.name.as_str())];
    attributes.push(member.type_attribute());
    origin(&mut attributes, &member.origin, member.propagated, wanted);
    attributes.extend(member.embedded().map(|kind| ("EmbeddedObject", kind)));
    out.element(property_element(member), &attributes, |out| {
        qualifiers(out, schema, &member.qualifiers, wanted);
        literal(out, &member.default);
    });
}

fn method(out: &mut Out, schema: &Schema, own: &Method, wanted: &ClassWanted) {
    let mut attributes = vec![("NAME", own.name.as_str()), ("TYPE", own.returns.name())];
    origin(&mut attributes, &own.origin, own.propagated, wanted);
    out.element("METHOD", &attributes, |out| {
        qualifiers(out, schema, &own.qualifiers, wanted);
        for member in &own.parameters {
            let mut attributes = vec![("NAME", member.name.as_str())];
            attributes.push(member.type_attribute());
            let element = match (&member.cim_type, member.array) {
                (CimType::Reference(_), false) => "PARAMETER.REFERENCE",
                (CimType::Reference(_), true) => "PARAMETER.REFARRAY",
                (_, false) => "PARAMETER",
                (_, true) => "PARAMETER.ARRAY",
            };
            out.element(element, &attributes, |out| {
                qualifiers(out, schema, &member.qualifiers, wanted);
            });
        }
    });
}

fn origin<'m>(
    attributes: &mut Vec<(&'m str, &'m str)>,
    class: &'m str,
    propagated: bool,
    wanted: &ClassWanted,
) {
    if wanted.members.origin {
        attributes.push(("CLASSORIGIN", class));
    }
    if propagated {
        attributes.push(("PROPAGATED", "true"));
    }
}

fn qualifiers(out: &mut Out, schema: &Schema, all: &[Qualifier], wanted: &ClassWanted) {
    if !wanted.qualifiers {
        return;
    }
    for own in all.iter().filter(|own| !(wanted.local_only && own.propagated)) {
        // The schema holds no qualifier without a declaration.
        let Some(declared) = schema.qualifier(&own.name) else { continue };
        let mut attributes =
            vec![("NAME", declared.name.as_str()), ("TYPE", declared.cim_type.name())];
        if own.propagated {
            attributes.push(("PROPAGATED", "true"));
        }
        if declared.flavors.iter().any(|flavor| flavor == "disableoverride") {
            attributes.push(("OVERRIDABLE", "false"));
        }
        if declared.flavors.iter().any(|flavor| flavor == "restricted") {
            attributes.push(("TOSUBCLASS", "false"));
        }
        if declared.flavors.iter().any(|flavor| flavor == "translatable") {
            attributes.push(("TRANSLATABLE", "true"));
        }
        out.element("QUALIFIER", &attributes, |out| literal(out, &own.value));
    }
}

fn literal(out: &mut Out, value: &Literal) {
    match value {
        Literal::Null => {}
        Literal::Bool(flag) => out.leaf("VALUE", &[], if *flag { "TRUE" } else { "FALSE" }),
        Literal::Int(number) => out.leaf("VALUE", &[], &number.to_string()),
        Literal::Text(text) => out.leaf("VALUE", &[], text),
        Literal::Array(items) => out.element("VALUE.ARRAY", &[], |out| {
            for item in items {
                literal(out, item);
            }
        }),
    }
}
