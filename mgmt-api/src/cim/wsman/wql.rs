//! Queries of enumerations: WQL, and what CQL has in common with it.
//!
//! ```text
//! SELECT *|property[,…] FROM class [WHERE condition]
//! condition: NOT, AND, OR and parentheses over
//!     property =|<>|!=|<|<=|>|>= value, property LIKE pattern, property IS [NOT] NULL
//! ASSOCIATORS|REFERENCES OF {path} [WHERE name = class …]
//! ```

use std::cmp::Ordering;

use super::super::mof::Class;
use super::super::path::ObjectPath;
use super::super::value::{Instance, Value};

/// Bytes of a query.
const MAX_LENGTH: usize = 8192;
/// Parentheses and NOTs in each other.
const MAX_DEPTH: usize = 32;

/// A query.
#[derive(Debug, PartialEq)]
pub(super) enum Query {
    Select {
        /// `None` is everything.
        properties: Option<Vec<String>>,
        class: String,
        condition: Option<Condition>,
    },
    Associated {
        /// The associations themselves, and not what they lead to.
        references: bool,
        path: ObjectPath,
        /// `AssocClass`, `ResultClass`, `Role`, `ResultRole`.
        filter: Vec<(&'static str, String)>,
    },
}

/// What must be so.
#[derive(Debug, PartialEq)]
pub(super) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Compare(String, Operator, Literal),
    Like(String, String),
    IsNull(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Int(i128),
    Real(f64),
    Bool(bool),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(String),
    /// What stands between braces.
    Braces(String),
    Sign(&'static str),
}

const SIGNS: [&str; 11] = ["<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", ",", "*"];

/// Everything between two quotes; a backslash takes the next character as it is.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            it if it == quote => return Some((value, text.get(index + quote.len_utf8()..)?)),
            other => value.push(other),
        }
    }
    None
}

/// A path may have braces in its strings.
fn braces(text: &str) -> Option<(&str, &str)> {
    let (mut within, mut escaped) = (false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if within => escaped = true,
            '"' => within = !within,
            '}' if !within => return Some((text.get(..index)?, text.get(index + 1..)?)),
            _ => {}
        }
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let here = || format!("not understood from here on: {}", head(rest));
        let word = |it: char| it.is_ascii_alphanumeric() || "_.".contains(it);
        let after = if let '\'' | '"' = first {
            let inner = rest.get(1..).unwrap_or_default();
            let (value, after) = quoted(inner, first).ok_or("a string has no end")?;
            tokens.push(Token::Text(value));
            after
        } else if first == '{' {
            let inner = rest.get(1..).unwrap_or_default();
            let (path, after) = braces(inner).ok_or("a brace has no end")?;
            tokens.push(Token::Braces(path.to_owned()));
            after
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest.get(sign.len()..).unwrap_or_default()
        } else if word(first) || first == '-' {
            let end = rest.char_indices().skip(1).find(|(_, it)| !word(*it));
            let (token, after) = rest.split_at(end.map_or(rest.len(), |(index, _)| index));
            let number = first == '-' || first.is_ascii_digit();
            let token = token.to_owned();
            tokens.push(if number { Token::Number(token) } else { Token::Word(token) });
            after
        } else {
            return Err(here());
        };
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn head(text: &str) -> String {
    text.chars().take(32).collect()
}

impl Query {
    /// Reads a query; the text says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("a query has at most {MAX_LENGTH} bytes"));
        }
        let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable() };
        let query = if parser.keyword("SELECT") {
            parser.select()?
        } else if parser.keyword("ASSOCIATORS") {
            parser.associated(false)?
        } else if parser.keyword("REFERENCES") {
            parser.associated(true)?
        } else {
            return Err("a query begins with SELECT, ASSOCIATORS or REFERENCES".to_owned());
        };
        match parser.tokens.next() {
            None => Ok(query),
            Some(token) => Err(format!("{token:?} is more than a query")),
        }
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn keyword(&mut self, wanted: &str) -> bool {
        let is = |it: &Token| matches!(it, Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.tokens.next_if(is).is_some()
    }

    fn sign(&mut self, wanted: &str) -> bool {
        self.tokens.next_if(|it| matches!(it, Token::Sign(sign) if *sign == wanted)).is_some()
    }

    fn word(&mut self, what: &str) -> Result<String, String> {
        match self.tokens.next() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(format!("{what} is wanted where there is {}", shown(other))),
        }
    }

    fn select(&mut self) -> Result<Query, String> {
        let mut properties = Vec::new();
        if !self.sign("*") {
            loop {
                properties.push(self.word("a property")?);
                if !self.sign(",") {
                    break;
                }
            }
        }
        if !self.keyword("FROM") {
            return Err("FROM is missing".to_owned());
        }
        let class = self.word("a class")?;
        let condition = if self.keyword("WHERE") { Some(self.condition(MAX_DEPTH)?) } else { None };
        let properties = (!properties.is_empty()).then_some(properties);
        Ok(Query::Select { properties, class, condition })
    }

    fn condition(&mut self, depth: usize) -> Result<Condition, String> {
        let mut any = Vec::new();
        loop {
            let mut all = vec![self.term(depth)?];
            while self.keyword("AND") {
                all.push(self.term(depth)?);
            }
            any.push(Condition::All(all));
            if !self.keyword("OR") {
                return Ok(Condition::Any(any));
            }
        }
    }

    fn term(&mut self, depth: usize) -> Result<Condition, String> {
        let depth = depth.checked_sub(1).ok_or("the condition is nested too deeply")?;
        if self.keyword("NOT") {
            return Ok(Condition::Not(Box::new(self.term(depth)?)));
        }
        if self.sign("(") {
            let inner = self.condition(depth)?;
            return if self.sign(")") { Ok(inner) } else { Err(") is missing".to_owned()) };
        }
        let property = self.word("a property")?;
        if self.keyword("IS") {
            let not = self.keyword("NOT");
            if !self.keyword("NULL") {
                return Err("NULL is missing behind IS".to_owned());
            }
            let null = Condition::IsNull(property);
            return Ok(if not { Condition::Not(Box::new(null)) } else { null });
        }
        if self.keyword("LIKE") {
            return match self.tokens.next() {
                Some(Token::Text(pattern)) => Ok(Condition::Like(property, pattern)),
                other => Err(format!("a pattern is wanted where there is {}", shown(other))),
            };
        }
        let operator = match self.tokens.next() {
            Some(Token::Sign("=")) => Operator::Equal,
            Some(Token::Sign("<>" | "!=")) => Operator::NotEqual,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::LessOrEqual,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
            other => return Err(format!("an operator is wanted where there is {}", shown(other))),
        };
        if self.keyword("NULL") {
            let null = Condition::IsNull(property);
            return match operator {
                Operator::Equal => Ok(null),
                Operator::NotEqual => Ok(Condition::Not(Box::new(null))),
                Operator::Less
                | Operator::LessOrEqual
                | Operator::Greater
                | Operator::GreaterOrEqual => Err("NULL has no order".to_owned()),
            };
        }
        Ok(Condition::Compare(property, operator, self.literal()?))
    }

    fn literal(&mut self) -> Result<Literal, String> {
        let token = self.tokens.next();
        let literal = match &token {
            Some(Token::Text(text)) => Some(Literal::Text(text.clone())),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => {
                Some(Literal::Bool(true))
            }
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => {
                Some(Literal::Bool(false))
            }
            Some(Token::Number(number)) => match number.parse() {
                Ok(int) => Some(Literal::Int(int)),
                Err(_) => number.parse().ok().filter(|it: &f64| it.is_finite()).map(Literal::Real),
            },
            _ => None,
        };
        literal.ok_or_else(|| format!("a value is wanted where there is {}", shown(token)))
    }

    fn associated(&mut self, references: bool) -> Result<Query, String> {
        const FILTERS: [&str; 4] = ["AssocClass", "ResultClass", "Role", "ResultRole"];
        if !self.keyword("OF") {
            return Err("OF is missing".to_owned());
        }
        let path = match self.tokens.next() {
            Some(Token::Braces(path)) => ObjectPath::parse_uri(path.trim()),
            _ => None,
        };
        let path = path.ok_or("a path in braces is wanted behind OF")?;
        let mut filter: Vec<(&'static str, String)> = Vec::new();
        if self.keyword("WHERE") {
            while let Some(Token::Word(name)) = self.tokens.next() {
                let known = FILTERS.iter().find(|own| own.eq_ignore_ascii_case(&name));
                let known = known.ok_or_else(|| format!("{name} is not understood there"))?;
                if !self.sign("=") || filter.iter().any(|(own, _)| own == known) {
                    return Err(format!("{known} = is wanted, and once"));
                }
                filter.push((known, self.word("a name")?));
                if self.tokens.peek().is_none() {
                    break;
                }
            }
        }
        // Of an association there is no other end that would have a class or a role.
        if references && filter.iter().any(|(name, _)| matches!(*name, "AssocClass" | "ResultRole"))
        {
            return Err("REFERENCES has ResultClass and Role only".to_owned());
        }
        Ok(Query::Associated { references, path, filter })
    }
}

fn shown(token: Option<Token>) -> String {
    token.map_or_else(|| "nothing".to_owned(), |token| format!("{token:?}"))
}

impl Condition {
    /// The first property that a class does not have.
    pub(super) fn unknown<'c>(&'c self, class: &Class) -> Option<&'c str> {
        match self {
            Self::All(inner) | Self::Any(inner) => inner.iter().find_map(|it| it.unknown(class)),
            Self::Not(inner) => inner.unknown(class),
            Self::Compare(name, ..) | Self::Like(name, _) | Self::IsNull(name) => {
                class.property(name).is_none().then_some(name)
            }
        }
    }

    /// Whether it is so. NULL is neither equal nor unequal to anything.
    pub(super) fn holds(&self, instance: &Instance) -> bool {
        match self {
            Self::All(inner) => inner.iter().all(|it| it.holds(instance)),
            Self::Any(inner) => inner.iter().any(|it| it.holds(instance)),
            Self::Not(inner) => !inner.holds(instance),
            Self::IsNull(name) => instance.get(name).is_none(),
            Self::Like(name, pattern) => {
                instance.get(name).and_then(Value::as_text).is_some_and(|text| like(text, pattern))
            }
            Self::Compare(name, operator, literal) => {
                let order = instance.get(name).and_then(|value| compare(value, literal));
                order.is_some_and(|order| match operator {
                    Operator::Equal => order.is_eq(),
                    Operator::NotEqual => order.is_ne(),
                    Operator::Less => order.is_lt(),
                    Operator::LessOrEqual => order.is_le(),
                    Operator::Greater => order.is_gt(),
                    Operator::GreaterOrEqual => order.is_ge(),
                })
            }
        }
    }
}

/// Values of different kinds have no order; strings are compared without case, as WQL does.
fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Text(own), Literal::Text(other)) => {
            Some(own.to_lowercase().cmp(&other.to_lowercase()))
        }
        (Value::Bool(own), Literal::Bool(other)) => Some(own.cmp(other)),
        (Value::Uint(own), Literal::Int(other)) => Some(i128::from(*own).cmp(other)),
        (Value::Sint(own), Literal::Int(other)) => Some(i128::from(*own).cmp(other)),
        (Value::Real(own), Literal::Real(other)) => own.partial_cmp(other),
        // Clients write numbers as strings, too.
        (Value::Uint(_) | Value::Sint(_), Literal::Text(text)) => {
            compare(value, &Literal::Int(text.trim().parse().ok()?))
        }
        _ => None,
    }
}

/// `%` is anything, `_` one character.
fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let (mut at, mut from) = (0, 0);
    // Where the last `%` stands, and what it was tried to end at.
    let mut any: Option<(usize, usize)> = None;
    while let Some(character) = text.get(at) {
        match pattern.get(from) {
            Some('%') => {
                any = Some((from, at));
                from += 1;
            }
            Some(wanted) if *wanted == '_' || wanted == character => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star, tried)) = any else { return false };
                any = Some((star, tried + 1));
                (from, at) = (star + 1, tried + 1);
            }
        }
    }
    pattern.get(from..).unwrap_or_default().iter().all(|rest| *rest == '%')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(condition: &str, instance: &Instance) -> bool {
        let query = Query::parse(&format!("select * from C where {condition}")).unwrap();
        let Query::Select { condition: Some(condition), .. } = query else { panic!("{query:?}") };
        condition.holds(instance)
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        let one = Instance::new("C").with("A", 1_u16).with("B", "Text").with("F", true);
        assert!(holds("A = 2 AND A = 3 OR A = 1", &one));
        assert!(!holds("A = 2 AND (A = 3 OR A = 1)", &one));
        assert!(holds("NOT A = 2 AND B = 'tEXT'", &one));
        assert!(holds("A >= 1 and A<=1 and A<>2 and A!=2 and A<2 and A>-1", &one));
        assert!(holds("A = '1' AND F = TRUE", &one));
        assert!(holds("Missing IS NULL AND A IS NOT NULL AND A <> NULL", &one));
        assert!(!holds("Missing <> 1", &one));
    }

    #[test]
    fn patterns_match_as_in_sql() {
        for (text, pattern, wanted) in [
            ("volume-12", "vol%", true),
            ("volume-12", "%-1_", true),
            ("volume-12", "%1", false),
            ("aab", "%ab", true),
            ("", "%", true),
            ("", "_", false),
            ("Ä", "ä", true),
            ("abc", "abc%%", true),
        ] {
            assert_eq!(like(text, pattern), wanted, "{text} {pattern}");
        }
    }

    #[test]
    fn associations_are_queried_by_path() {
        let text = "ASSOCIATORS OF {root/x:C.K=\"a}b\"} WHERE AssocClass = A ResultClass=R";
        let path = ObjectPath::new("root/x", "C").with("K", "a}b");
        let filter = vec![("AssocClass", "A".to_owned()), ("ResultClass", "R".to_owned())];
        let wanted = Query::Associated { references: false, path, filter };
        assert_eq!(Query::parse(text), Ok(wanted));
        assert!(Query::parse("REFERENCES OF {C.K='a'} WHERE AssocClass=A").is_err());
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let deep = format!("SELECT * FROM C WHERE {}A=1{}", "(".repeat(99), ")".repeat(99));
        let long = format!("SELECT * FROM C WHERE A='{}'", "x".repeat(MAX_LENGTH));
        for bad in [
            "",
            "SELECT",
            "SELECT *",
            "SELECT A B FROM C",
            "SELECT * FROM C WHERE",
            "SELECT * FROM C WHERE A",
            "SELECT * FROM C WHERE A = 'x",
            "SELECT * FROM C; DROP",
            "SELECT * FROM C WHERE A = 1 B = 2",
            "SELECT * FROM C WHERE (A = 1",
            "ASSOCIATORS OF C",
            "ASSOCIATORS OF {C}",
            "DELETE FROM C",
            &deep,
            &long,
        ] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = Query::parse(&text);
        }

        #[test]
        fn mixed_up_queries_are_survived(
            text in "(SELECT|FROM|WHERE|AND|NOT|OF|ASSOCIATORS| |\\*|A|=|'|\"|\\{|\\}|\\(|1|\\\\){0,24}"
        ) {
            let _ = Query::parse(&text);
        }
    }
}
