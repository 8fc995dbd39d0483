//! Enumerate, Pull and Release.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::super::encode::Wanted;
use super::super::enumerations::{Enumeration, Kind};
use super::super::operations::{Named, Work};
use super::super::out::Out;
use super::super::pull::{DEFAULT_TIMEOUT, MAX_OBJECTS, MAX_TIMEOUT};
use super::encode::Writer;
use super::fault::{self, SoapFault};
use super::filter::{self, Selected};
use super::node::Node;
use super::resource::Target;
use super::{BINDING, ENUMERATION, Result, WSMAN, time};

/// What an envelope needs beside the elements of an enumeration.
const ENVELOPE: usize = 3072;

/// What is told of each instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Object,
    Reference,
    Both,
}

/// Which properties subclasses show (DSP0227 §8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polymorphism {
    IncludeSubClassProperties,
    ExcludeSubClassProperties,
    /// No instances of subclasses.
    None,
}

fn expected<'n>(body: Option<&'n Node>, name: &str) -> Result<&'n Node> {
    let found = body.filter(|body| body.is(ENUMERATION, name));
    found.ok_or_else(|| {
        SoapFault::new(&fault::INVALID_BODY, format!("{name} is wanted in the Body"))
    })
}

/// A number above zero.
fn count(node: Option<&Node>) -> Result<Option<u64>> {
    let Some(node) = node else { return Ok(None) };
    let invalid =
        || SoapFault::new(&fault::INVALID_BODY, format!("{} is no number above 0", node.name));
    let number: u64 = node.text().parse().map_err(|_| invalid())?;
    if number == 0 { Err(invalid()) } else { Ok(Some(number)) }
}

fn expires(node: Option<&Node>) -> Result<Duration> {
    let Some(node) = node else { return Ok(Duration::from_secs(DEFAULT_TIMEOUT)) };
    let length = time::parse_duration(node.text()).or_else(|| {
        let until: Timestamp = node.text().parse().ok()?;
        Duration::try_from(until.duration_since(Timestamp::now())).ok()
    });
    let length = length.filter(|length| !length.is_zero()).ok_or_else(|| {
        SoapFault::new(&fault::INVALID_EXPIRATION, "Expires is a duration, or a time to come")
    })?;
    Ok(length.min(Duration::from_secs(MAX_TIMEOUT)))
}

fn mode(enumerate: &Node) -> Result<Mode> {
    match enumerate.child(WSMAN, "EnumerationMode").map(Node::text) {
        None => Ok(Mode::Object),
        Some("EnumerateEPR") => Ok(Mode::Reference),
        Some("EnumerateObjectAndEPR") => Ok(Mode::Both),
        Some(other) => {
            let text = format!("{other:?} is no EnumerationMode");
            Err(SoapFault::new(&fault::ENUMERATION_MODE, text))
        }
    }
}

fn polymorphism(enumerate: &Node) -> Result<Polymorphism> {
    match enumerate.child(BINDING, "PolymorphismMode").map(Node::text) {
        None | Some("IncludeSubClassProperties") => Ok(Polymorphism::IncludeSubClassProperties),
        Some("ExcludeSubClassProperties") => Ok(Polymorphism::ExcludeSubClassProperties),
        Some("None") => Ok(Polymorphism::None),
        Some(other) => {
            let text = format!("{other:?} is no PolymorphismMode");
            Err(SoapFault::new(&fault::UNSUPPORTED, text))
        }
    }
}

/// `Enumerate`: everything is written at once, so the enumeration shows one moment.
pub(super) fn enumerate(
    work: &Work<'_>,
    target: &Target,
    body: Option<&Node>,
    writer: &Writer<'_>,
    max_envelope: usize,
) -> Result<String> {
    let body = expected(body, "Enumerate")?;
    if let Some((name, _)) = target.path.keys.first() {
        let text = format!("the selector {name} belongs into a filter");
        return Err(SoapFault::new(&fault::UNEXPECTED_SELECTORS, text));
    }
    if body.child(ENUMERATION, "EndTo").is_some() {
        return Err(SoapFault::new(
            &fault::UNSUPPORTED,
            "the end of an enumeration is not told of",
        ));
    }
    let (mode, polymorphism) = (mode(body)?, polymorphism(body)?);
    let timeout = expires(body.child(ENUMERATION, "Expires"))?;
    let wanted = match body.child(WSMAN, "OptimizeEnumeration") {
        // One, unless the client says otherwise (DSP0226 R8.3).
        Some(_) => Some(count(body.child(WSMAN, "MaxElements"))?.unwrap_or(1)),
        None => None,
    };
    let selected = filter::select(work, target, body)?;
    let rest = written(work, writer, selected, mode, polymorphism)?;
    let mut enumeration = Enumeration::new(Kind::Items, work.namespace, work.client, rest, timeout);
    let items = match wanted {
        Some(wanted) => take(&mut enumeration.rest, wanted, max_envelope)?,
        None => String::new(),
    };
    let ended = wanted.is_some() && enumeration.rest.is_empty();
    let context = uuid::Uuid::new_v4().to_string();
    if !ended {
        work.enumerations.lock().keep(context.clone(), enumeration);
    }
    let mut out = Out::default();
    out.element("n:EnumerateResponse", &[], |out| {
        out.leaf("n:Expires", &[], &time::duration(timeout));
        let shown = if ended { "" } else { &context };
        out.leaf("n:EnumerationContext", &[], shown);
        if wanted.is_some() {
            out.element("w:Items", &[], |out| out.xml(&items));
        }
        if ended {
            out.leaf("w:EndOfSequence", &[], "");
        }
    });
    Ok(out.finish())
}

fn written(
    work: &Work<'_>,
    writer: &Writer<'_>,
    selected: Selected,
    mode: Mode,
    polymorphism: Polymorphism,
) -> Result<VecDeque<String>> {
    let Selected { found, class, properties } = selected;
    let asked = class.as_deref().map(|name| work.class(name)).transpose()?;
    let fragments = properties.is_some();
    let wanted = Wanted { properties, ..Wanted::default() };
    let exact = |name: &str| asked.is_none_or(|class| class.name.eq_ignore_ascii_case(name));
    let found = found
        .into_iter()
        .filter(|(_, one)| polymorphism != Polymorphism::None || exact(&one.class));
    let item = |(path, one): Named| {
        let own = work.class(&one.class)?;
        let shown = match (polymorphism, asked) {
            (Polymorphism::ExcludeSubClassProperties, Some(asked)) => asked,
            _ => own,
        };
        let mut out = Out::default();
        let object = |out: &mut Out| match fragments {
            true => writer.fragment(out, &one, &wanted),
            false => writer.instance(out, &one, shown, &wanted),
        };
        match mode {
            Mode::Object => object(&mut out),
            Mode::Reference => writer.reference(&mut out, &path),
            Mode::Both => out.element("w:Item", &[], |out| {
                object(out);
                writer.reference(out, &path);
            }),
        }
        Ok(out.finish())
    };
    found.map(item).collect()
}

/// As many elements as are wanted and fit.
fn take(rest: &mut VecDeque<String>, wanted: u64, max_bytes: usize) -> Result<String> {
    let room = max_bytes.saturating_sub(ENVELOPE);
    let mut items = String::new();
    for _ in 0..wanted.min(MAX_OBJECTS) {
        let fits = rest.front().is_some_and(|next| items.len() + next.len() <= room);
        match rest.pop_front_if(|_| fits) {
            Some(next) => items.push_str(&next),
            None if items.is_empty() && !rest.is_empty() => {
                let text = "the next instance does not fit into MaxEnvelopeSize";
                return Err(SoapFault::new(&fault::ANSWER_TOO_LARGE, text));
            }
            None => break,
        }
    }
    Ok(items)
}

/// The context that a `Pull` or a `Release` names.
fn context(body: &Node) -> Result<&str> {
    let context = body.child(ENUMERATION, "EnumerationContext").map(Node::text);
    context.ok_or_else(|| SoapFault::new(&fault::INVALID_BODY, "there is no EnumerationContext"))
}

/// `Pull`
pub(super) fn pull(work: &Work<'_>, body: Option<&Node>, max_envelope: usize) -> Result<String> {
    let body = expected(body, "Pull")?;
    let wanted = count(body.child(ENUMERATION, "MaxElements"))?.unwrap_or(1);
    let characters = count(body.child(ENUMERATION, "MaxCharacters"))?;
    let characters = characters.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX);
    let room = max_envelope.min(characters.saturating_add(ENVELOPE));
    let context = context(body)?;
    // Clients name the namespace when they begin, and not all of them again.
    let mut enumeration = work.enumerations.lock().take(context, Kind::Items, None)?;
    let items = take(&mut enumeration.rest, wanted, room);
    let ended = enumeration.rest.is_empty();
    if !ended {
        work.enumerations.lock().keep(context.to_owned(), enumeration);
    }
    let items = items?;
    let mut out = Out::default();
    out.element("n:PullResponse", &[], |out| {
        if !ended {
            out.leaf("n:EnumerationContext", &[], context);
        }
        out.element("n:Items", &[], |out| out.xml(&items));
        if ended {
            out.leaf("n:EndOfSequence", &[], "");
        }
    });
    Ok(out.finish())
}

/// `Release`
pub(super) fn release(work: &Work<'_>, body: Option<&Node>) -> Result<String> {
    let body = expected(body, "Release")?;
    let context = context(body)?;
    work.enumerations.lock().close(context)?;
    Ok(String::new())
}
