//! Queries of indication filters: the part of CQL (DSP0202) and WQL that clients of storage
//! servers use.
//!
//! ```text
//! SELECT * FROM class [WHERE term [AND term]...]
//! term: SourceInstance ISA class
//!     | SourceInstance.[class::]property <> PreviousInstance.[class::]property
//!     | [ANY] SourceInstance.[class::]property[[*]] = number
//! ```

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while1};
use nom::character::complete::{char, multispace0, multispace1, satisfy, u64};
use nom::combinator::{all_consuming, opt, recognize};
use nom::multi::{many0_count, separated_list1};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use crate::cim::schema::Schema;
use crate::cim::value::{Instance, Value};

/// Terms of one query.
const MAX_TERMS: usize = 16;

/// What must be so.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    /// The source instance is of this class or one below it.
    Isa(String),
    /// A property differs from what it was.
    Changed(String),
    /// A property is this number, or an array holds it.
    Holds(String, u64),
}

/// A query that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// The class of the indications.
    pub(super) class: String,
    terms: Vec<Term>,
}

/// What an indication tells of.
pub(super) struct Subject<'a> {
    /// The class of the indication.
    pub(super) class: &'a str,
    pub(super) source: Option<&'a Instance>,
    pub(super) previous: Option<&'a Instance>,
}

impl Query {
    /// Reads a query; the text says what is wrong with it.
    pub(super) fn parse(text: &str, schema: &Schema) -> Result<Self, String> {
        let (_, query) = all_consuming(delimited(multispace0, query, multispace0))
            .parse(text)
            .map_err(|error| match error {
                nom::Err::Error(at) | nom::Err::Failure(at) => {
                    format!("not understood from here on: {:?}", head(at.input))
                }
                nom::Err::Incomplete(_) => "the query is cut short".to_owned(),
            })?;
        query.check(schema)?;
        Ok(query)
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        if self.terms.len() > MAX_TERMS {
            return Err(format!("more than {MAX_TERMS} terms"));
        }
        if !schema.is_a(&self.class, "CIM_Indication") {
            return Err(format!("{} is no class of indications", self.class));
        }
        let sources: Vec<&String> = self.terms.iter().filter_map(Term::source).collect();
        if let Some(unknown) = sources.iter().find(|class| schema.class(class).is_none()) {
            return Err(format!("there is no class {unknown}"));
        }
        let asks_for_a_change = self.terms.iter().any(|term| matches!(term, Term::Changed(_)));
        if asks_for_a_change && !schema.is_a(&self.class, "CIM_InstModification") {
            return Err(format!("{} has no PreviousInstance", self.class));
        }
        for property in self.terms.iter().filter_map(Term::property) {
            let Some(class) = sources.first().and_then(|class| schema.class(class)) else {
                return Err("a property needs SourceInstance ISA a class before it".to_owned());
            };
            if class.property(property).is_none() {
                return Err(format!("{} has no property {property}", class.name));
            }
        }
        Ok(())
    }

    /// Whether it may select instances of a class.
    pub(super) fn may_be_about(&self, class: &str, schema: &Schema) -> bool {
        self.terms.iter().filter_map(Term::source).all(|source| schema.is_a(class, source))
    }

    /// Whether a subject is what the query asks for. A modification that only has to lead to
    /// certain values is told of once: when it leads there.
    pub(super) fn selects(&self, subject: &Subject<'_>, schema: &Schema) -> bool {
        if !schema.is_a(subject.class, &self.class) {
            return false;
        }
        if self.terms.is_empty() {
            return true;
        }
        let Some(source) = subject.source else { return false };
        let holds = |instance| self.terms.iter().all(|term| term.holds(instance, subject, schema));
        let asks_for_values = self.terms.iter().any(|term| matches!(term, Term::Holds(..)));
        let asks_for_a_change = self.terms.iter().any(|term| matches!(term, Term::Changed(_)));
        let was_so = match subject.previous {
            Some(previous) if asks_for_values && !asks_for_a_change => holds(previous),
            _ => false,
        };
        holds(source) && !was_so
    }
}

impl Term {
    fn source(&self) -> Option<&String> {
        if let Self::Isa(class) = self { Some(class) } else { None }
    }

    fn property(&self) -> Option<&String> {
        match self {
            Self::Changed(property) | Self::Holds(property, _) => Some(property),
            Self::Isa(_) => None,
        }
    }

    fn holds(&self, instance: &Instance, subject: &Subject<'_>, schema: &Schema) -> bool {
        match self {
            Self::Isa(class) => schema.is_a(&instance.class, class),
            Self::Changed(property) => subject
                .previous
                .is_some_and(|previous| previous.get(property) != instance.get(property)),
            Self::Holds(property, number) => match instance.get(property) {
                Some(Value::Array(items)) => items.iter().any(|it| it.as_uint() == Some(*number)),
                Some(value) => value.as_uint() == Some(*number),
                None => false,
            },
        }
    }
}

/// The beginning of a text.
fn head(text: &str) -> &str {
    text.char_indices().nth(40).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

fn name(input: &str) -> IResult<&str, &str> {
    let first = satisfy(|c| c.is_ascii_alphabetic() || c == '_');
    let rest = many0_count(satisfy(|c| c.is_ascii_alphanumeric() || c == '_'));
    recognize((first, rest)).parse(input)
}

fn word<'a>(
    text: &'static str,
) -> impl Parser<&'a str, Output = (), Error = nom::error::Error<&'a str>> {
    preceded(multispace0, tag_no_case(text)).map(|_| ())
}

/// `SourceInstance.[class::]property`, and of the previous instance.
fn property<'a>(
    of: &'static str,
) -> impl Parser<&'a str, Output = &'a str, Error = nom::error::Error<&'a str>> {
    let class = terminated(name, tag("::"));
    preceded((word(of), char('.'), opt(class)), name)
}

fn number(input: &str) -> IResult<&str, u64> {
    let quoted = delimited(char('\''), u64, char('\''));
    preceded(multispace0, alt((u64, quoted, delimited(char('"'), u64, char('"'))))).parse(input)
}

fn isa(input: &str) -> IResult<&str, Term> {
    let class = preceded((word("SourceInstance"), multispace1, word("ISA"), multispace1), class);
    class.map(|class| Term::Isa(class.to_owned())).parse(input)
}

/// The name of a class, quoted or not.
fn class(input: &str) -> IResult<&str, &str> {
    let quoted = |quote| delimited(char(quote), name, char(quote));
    alt((name, quoted('\''), quoted('"'))).parse(input)
}

fn changed(input: &str) -> IResult<&str, Term> {
    let unequal = preceded(multispace0, alt((tag("<>"), tag("!="))));
    let (rest, (now, _, before)) =
        (property("SourceInstance"), unequal, property("PreviousInstance")).parse(input)?;
    if !now.eq_ignore_ascii_case(before) {
        return Err(nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Verify)));
    }
    Ok((rest, Term::Changed(now.to_owned())))
}

fn holds(input: &str) -> IResult<&str, Term> {
    let any = opt((word("ANY"), take_while1(char::is_whitespace)));
    let all = opt((multispace0, tag("[*]")));
    let equals = preceded(multispace0, char('='));
    let (rest, (_, property, _, _, number)) =
        (any, property("SourceInstance"), all, equals, number).parse(input)?;
    Ok((rest, Term::Holds(property.to_owned(), number)))
}

fn query(input: &str) -> IResult<&str, Query> {
    let (rest, class) = preceded(
        (word("SELECT"), multispace1, char('*'), multispace1, word("FROM"), multispace1),
        name,
    )
    .parse(input)?;
    let and = (multispace1, word("AND"), multispace1);
    let term = alt((isa, changed, holds));
    let (rest, terms) =
        opt(preceded((multispace1, word("WHERE"), multispace1), separated_list1(and, term)))
            .parse(rest)?;
    Ok((rest, Query { class: class.to_owned(), terms: terms.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, String> {
        Query::parse(text, &Schema::load().unwrap())
    }

    fn job(state: u16, status: &[u16]) -> Instance {
        Instance::new("MSISCSITARGET_ConcreteJob")
            .with("JobState", state)
            .with("OperationalStatus", Value::numbers(status))
    }

    fn modified(query: &str, before: &Instance, after: &Instance) -> bool {
        let schema = Schema::load().unwrap();
        let (source, previous) = (Some(after), Some(before));
        let subject = Subject { class: "CIM_InstModification", source, previous };
        parse(query).unwrap().selects(&subject, &schema)
    }

    #[test]
    fn the_filters_of_job_control_are_understood() {
        for text in [
            "SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA CIM_ConcreteJob",
            "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob AND \
             SourceInstance.CIM_ConcreteJob::PercentComplete <> \
             PreviousInstance.CIM_ConcreteJob::PercentComplete",
            "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob AND ANY \
             SourceInstance.CIM_ConcreteJob::OperationalStatus[*] = 17 AND ANY \
             SourceInstance.CIM_ConcreteJob::OperationalStatus[*] = 2",
            "select * from CIM_InstModification where SourceInstance isa CIM_ConcreteJob and \
             SourceInstance.JobState <> PreviousInstance.JobState",
            " SELECT * FROM CIM_AlertIndication ",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, why) in [
            ("SELECT Name FROM CIM_InstCreation", "\"Name FROM"),
            ("SELECT * FROM CIM_StorageVolume", "CIM_StorageVolume is no class of indications"),
            ("SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA CIM_Tape", "CIM_Tape"),
            (
                "SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA CIM_ConcreteJob AND \
                 SourceInstance.JobState <> PreviousInstance.JobState",
                "no PreviousInstance",
            ),
            (
                "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob AND \
                 SourceInstance.Colour = 3",
                "no property Colour",
            ),
            (
                "SELECT * FROM CIM_InstModification WHERE SourceInstance.JobState = 7",
                "needs SourceInstance ISA",
            ),
            ("SELECT * FROM CIM_InstCreation OR nothing", "OR nothing"),
            ("", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_outcome_is_told_of_once() {
        let query = "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob \
                     AND ANY SourceInstance.OperationalStatus[*] = 17 AND ANY \
                     SourceInstance.OperationalStatus[*] = 2";
        let (running, done, failed) = (job(4, &[2]), job(7, &[2, 17]), job(10, &[6, 17]));
        assert!(modified(query, &running, &done));
        assert!(!modified(query, &done, &done), "a change of something else afterwards");
        assert!(!modified(query, &running, &failed));
    }

    #[test]
    fn a_change_is_that_of_the_property() {
        let query = "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_Job AND \
                     SourceInstance.JobState <> PreviousInstance.JobState";
        let refused = parse(query).unwrap_err();
        assert!(refused.contains("CIM_Job has no property JobState"), "{refused}");
        let query = query.replace("CIM_Job ", "CIM_ConcreteJob ");
        assert!(modified(&query, &job(4, &[2]), &job(5, &[2])));
        assert!(!modified(&query, &job(4, &[2]), &job(4, &[6])));
        let volume = Instance::new("MSISCSITARGET_StorageVolume");
        assert!(!modified(&query, &volume, &volume));
    }
}
