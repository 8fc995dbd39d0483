//! Get, Put, Create, Delete, and the methods of classes.

use super::super::arguments::Arguments;
use super::super::encode::{Wanted, path_of};
use super::super::fault::{Fault, Status};
use super::super::modify;
use super::super::mof::Class;
use super::super::operations::Work;
use super::super::out::Out;
use super::super::path::ObjectPath;
use super::super::request::Parameter;
use super::super::value::{Instance, Raw};
use super::encode::Writer;
use super::fault::{self, SoapFault};
use super::node::Node;
use super::resource::{Target, parse_uri, write_reference};
use super::{Result, decode};

/// The instance that a path means. Its class may be one above the instance's own, and where there
/// is only one instance no key is needed.
pub(super) fn existing(work: &Work<'_>, path: &ObjectPath) -> Result<(ObjectPath, Instance)> {
    let class = work.class(&path.class)?;
    let leaves = work.view.leaves(work.space, &class.name);
    if path.keys.is_empty() {
        let mut all = work.enumerate(&class.name)?;
        return match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(missing(path)),
            (Some(_), false) => {
                let text = format!("there are several instances of {}: say which", class.name);
                Err(SoapFault::new(&fault::INSUFFICIENT_SELECTORS, text))
            }
        };
    }
    let known = |name: &str| {
        leaves.iter().any(|leaf| leaf.keys().any(|key| key.name.eq_ignore_ascii_case(name)))
    };
    if let Some((name, _)) = path.keys.iter().find(|(name, _)| !leaves.is_empty() && !known(name)) {
        let text = format!("{name} is no key of {}", class.name);
        return Err(SoapFault::new(&fault::UNEXPECTED_SELECTORS, text));
    }
    if !leaves.is_empty() && leaves.iter().all(|leaf| lacks(leaf, path)) {
        let text = format!("not all keys of {} are given", class.name);
        return Err(SoapFault::new(&fault::INSUFFICIENT_SELECTORS, text));
    }
    for leaf in leaves {
        let own = ObjectPath { class: leaf.name.clone(), ..path.clone() };
        if let Some(instance) = work.view.find(work.space, &own) {
            // As it is written, not as the client spells it.
            return Ok((path_of(&leaf, &instance, work.namespace), instance));
        }
    }
    Err(missing(path))
}

fn lacks(class: &Class, path: &ObjectPath) -> bool {
    class.keys().any(|key| path.key(&key.name).is_none())
}

fn missing(path: &ObjectPath) -> Box<SoapFault> {
    Fault::not_found(format!("there is no instance {}", path.to_uri())).into()
}

/// `Get`
pub(super) fn get(work: &Work<'_>, target: &Target, writer: &Writer<'_>) -> Result<String> {
    let (_, instance) = existing(work, &target.path)?;
    let class = work.class(&instance.class)?;
    let mut out = Out::default();
    writer.instance(&mut out, &instance, class, &Wanted::default());
    Ok(out.finish())
}

/// The instance in a body; its class is the one that is meant, or one above it.
fn sent<'a>(work: &Work<'a>, body: Option<&'a Node>, class: &Class) -> Result<&'a Node> {
    let body = body.ok_or_else(|| SoapFault::new(&fault::INVALID_BODY, "there is no instance"))?;
    let named = parse_uri(&body.namespace).map(|(_, _, name)| name);
    let fits = named.is_some_and(|name| name.eq_ignore_ascii_case(&body.name))
        && work.schema.is_a(&class.name, &body.name);
    if !fits {
        let text = format!("{} in {:?} is no {}", body.name, body.namespace, class.name);
        return Err(SoapFault::new(&fault::INVALID_REPRESENTATION, text));
    }
    Ok(body)
}

/// `Put`: properties that are not sent stay, those that cannot be written may come as they are.
pub(super) fn put(
    work: &Work<'_>,
    target: &Target,
    body: Option<&Node>,
    writer: &Writer<'_>,
) -> Result<String> {
    let (path, instance) = existing(work, &target.path)?;
    let class = work.class(&instance.class)?;
    let raw = decode::instance(sent(work, body, class)?, class, work.schema)?;
    let all = [("ModifiedInstance".to_owned(), Raw::NamedInstance(path.clone(), raw))];
    modify::modify_instance(work, &Arguments::new(&all, &["ModifiedInstance"])?)?;
    let target = Target { style: target.style, path };
    get(work, &target, writer)
}

/// `Create`; the new instance's reference.
pub(super) fn create(work: &Work<'_>, target: &Target, body: Option<&Node>) -> Result<String> {
    let class = work.class(&target.path.class)?;
    let raw = decode::instance(sent(work, body, class)?, class, work.schema)?;
    let all = [("NewInstance".to_owned(), Raw::Instance(raw))];
    let mut path = modify::create_instance(work, &Arguments::new(&all, &["NewInstance"])?)?;
    path.namespace.get_or_insert_with(|| work.namespace.to_owned());
    let mut out = Out::default();
    out.element("x:ResourceCreated", &[], |out| write_reference(out, target.style, &path));
    Ok(out.finish())
}

/// `Delete`
pub(super) fn delete(work: &Work<'_>, target: &Target) -> Result<String> {
    let (path, _) = existing(work, &target.path)?;
    let all = [("InstanceName".to_owned(), Raw::Reference(path))];
    modify::delete_instance(work, &Arguments::new(&all, &["InstanceName"])?)?;
    Ok(String::new())
}

/// A method; also what it returned.
pub(super) fn invoke(
    work: &Work<'_>,
    target: &Target,
    name: &str,
    body: Option<&Node>,
    writer: &Writer<'_>,
) -> Result<(String, u32)> {
    let class = work.class(&target.path.class)?;
    let unknown =
        || Fault::new(Status::MethodNotFound, format!("{} has no method {name}", class.name));
    let (path, instance) = existing(work, &target.path)?;
    let own = work.class(&instance.class)?;
    let method = own.method(name).ok_or_else(unknown)?;
    let mut parameters = Vec::new();
    if let Some(input) = body {
        let wanted = format!("{}_INPUT", method.name);
        let of_class = parse_uri(&input.namespace).is_some_and(|(_, _, of)| {
            of.eq_ignore_ascii_case(&class.name) || of.eq_ignore_ascii_case(&own.name)
        });
        if !input.name.eq_ignore_ascii_case(&wanted) || !of_class {
            let text = format!("{wanted} of {} is wanted in the Body", class.name);
            return Err(SoapFault::new(&fault::INVALID_BODY, text));
        }
        let all = decode::parameters(input, &method.parameters, work.schema)?;
        let parameter = |(name, value)| Parameter { name, cim_type: None, value };
        parameters = all.into_iter().map(parameter).collect();
    }
    let (method, outcome) = work.invoke(&path, name, &parameters)?;
    let mut out = Out::default();
    let uri = writer.uri(&target.path.class);
    out.element(&format!("p:{}_OUTPUT", method.name), &[("xmlns:p", &uri)], |out| {
        for member in &method.parameters {
            if let Some(value) = outcome.output(&member.name) {
                writer.property(out, "p", member, Some(value));
            }
        }
        out.leaf("p:ReturnValue", &[], &outcome.returned.to_string());
    });
    Ok((out.finish(), outcome.returned))
}
