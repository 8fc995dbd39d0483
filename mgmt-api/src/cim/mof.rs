//! A parser for MOF (DSP0004 annex A) without pragmas and instances: qualifier declarations and
//! classes.

use super::mof_token::{Token, Tokens};
use super::value::CimType;

/// The value of a qualifier or the default of a property.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    Array(Vec<Self>),
}

/// A qualifier as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QualifierType {
    pub(crate) name: String,
    pub(crate) cim_type: CimType,
    pub(crate) array: bool,
    pub(crate) default: Literal,
    /// In lower case.
    pub(crate) scopes: Vec<String>,
    /// In lower case.
    pub(crate) flavors: Vec<String>,
}

/// A qualifier on something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Qualifier {
    pub(crate) name: String,
    pub(crate) value: Literal,
    pub(crate) propagated: bool,
}

/// A property, a reference or a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) cim_type: CimType,
    pub(crate) array: bool,
    pub(crate) default: Literal,
    pub(crate) qualifiers: Vec<Qualifier>,
    /// The class that declares it.
    pub(crate) origin: String,
    pub(crate) propagated: bool,
}

/// A method.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) returns: CimType,
    pub(crate) parameters: Vec<Member>,
    pub(crate) qualifiers: Vec<Qualifier>,
    pub(crate) origin: String,
    pub(crate) propagated: bool,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) superclass: Option<String>,
    pub(crate) qualifiers: Vec<Qualifier>,
    pub(crate) properties: Vec<Member>,
    pub(crate) methods: Vec<Method>,
    /// Of each property, what every instance has of it. There once the class is in a schema.
    pub(crate) written: Vec<Written>,
}

/// What instances have of a property, whatever its value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    /// The element.
    pub(crate) element: &'static str,
    /// Its start tag, without and with `CLASSORIGIN`.
    pub(crate) open: [String; 2],
    /// It is a key.
    pub(crate) key: bool,
}

/// Everything in a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Declarations {
    pub(crate) qualifiers: Vec<QualifierType>,
    pub(crate) classes: Vec<Class>,
}

/// Reads a file.
pub(crate) fn parse(text: &str) -> Result<Declarations, String> {
    let mut parser = Parser { tokens: Tokens::new(text)? };
    let mut all = Declarations::default();
    while let Some(token) = parser.tokens.peek() {
        if token.is_word("qualifier") {
            parser.tokens.next();
            all.qualifiers.push(parser.qualifier_type()?);
        } else {
            let qualifiers = parser.qualifiers()?;
            all.classes.push(parser.class(qualifiers)?);
        }
    }
    Ok(all)
}

struct Parser {
    tokens: Tokens,
}

impl Parser {
    fn qualifier_type(&mut self) -> Result<QualifierType, String> {
        let name = self.tokens.word("the name of a qualifier")?;
        self.tokens.expect(':')?;
        let cim_type = self.simple_type()?;
        let array = self.array_suffix()?;
        let default = if self.tokens.accept('=') { self.literal()? } else { Literal::Null };
        let mut declared =
            QualifierType { name, cim_type, array, default, scopes: vec![], flavors: vec![] };
        while self.tokens.accept(',') {
            let kind = self.tokens.word("Scope or Flavor")?;
            let words = self.words()?;
            if kind.eq_ignore_ascii_case("scope") {
                declared.scopes = words;
            } else if kind.eq_ignore_ascii_case("flavor") {
                declared.flavors = words;
            } else {
                return self.tokens.fail("Scope or Flavor");
            }
        }
        self.tokens.expect(';')?;
        Ok(declared)
    }

    /// `(a, b)`, in lower case.
    fn words(&mut self) -> Result<Vec<String>, String> {
        self.tokens.expect('(')?;
        let mut words = Vec::new();
        loop {
            words.push(self.tokens.word("a word")?.to_ascii_lowercase());
            if !self.tokens.accept(',') {
                self.tokens.expect(')')?;
                return Ok(words);
            }
        }
    }

    /// `[A, B ("x"), C {1, 2}]`, or nothing.
    fn qualifiers(&mut self) -> Result<Vec<Qualifier>, String> {
        let mut found = Vec::new();
        if !self.tokens.accept('[') {
            return Ok(found);
        }
        loop {
            let name = self.tokens.word("the name of a qualifier")?;
            let value = if self.tokens.accept('(') {
                let value = self.literal()?;
                self.tokens.expect(')')?;
                value
            } else if self.tokens.peek() == Some(&Token::Sign('{')) {
                self.literal()?
            } else {
                Literal::Bool(true)
            };
            found.push(Qualifier { name, value, propagated: false });
            if !self.tokens.accept(',') {
                self.tokens.expect(']')?;
                return Ok(found);
            }
        }
    }

    fn class(&mut self, qualifiers: Vec<Qualifier>) -> Result<Class, String> {
        if !self.tokens.word("class")?.eq_ignore_ascii_case("class") {
            return self.tokens.fail("class");
        }
        let name = self.tokens.word("the name of a class")?;
        let mut class = Class { name, qualifiers, ..Class::default() };
        if self.tokens.accept(':') {
            class.superclass = Some(self.tokens.word("the name of a class")?);
        }
        self.tokens.expect('{')?;
        while !self.tokens.accept('}') {
            let qualifiers = self.qualifiers()?;
            self.feature(&mut class, qualifiers)?;
        }
        self.tokens.expect(';')?;
        Ok(class)
    }

    /// A property or a method.
    fn feature(&mut self, class: &mut Class, qualifiers: Vec<Qualifier>) -> Result<(), String> {
        let cim_type = self.member_type()?;
        let name = self.tokens.word("the name of a property or method")?;
        let origin = class.name.clone();
        if self.tokens.accept('(') {
            let parameters = self.parameters(&origin)?;
            self.tokens.expect(';')?;
            let returns = cim_type;
            let propagated = false;
            let method = Method { name, returns, parameters, qualifiers, origin, propagated };
            class.methods.push(method);
        } else {
            let mut member = self.member(name, cim_type, qualifiers, origin)?;
            if self.tokens.accept('=') {
                member.default = self.literal()?;
            }
            self.tokens.expect(';')?;
            class.properties.push(member);
        }
        Ok(())
    }

    fn parameters(&mut self, origin: &str) -> Result<Vec<Member>, String> {
        let mut parameters = Vec::new();
        if self.tokens.accept(')') {
            return Ok(parameters);
        }
        loop {
            let qualifiers = self.qualifiers()?;
            let cim_type = self.member_type()?;
            let name = self.tokens.word("the name of a parameter")?;
            parameters.push(self.member(name, cim_type, qualifiers, origin.to_owned())?);
            if !self.tokens.accept(',') {
                self.tokens.expect(')')?;
                return Ok(parameters);
            }
        }
    }

    fn member(
        &mut self,
        name: String,
        cim_type: CimType,
        qualifiers: Vec<Qualifier>,
        origin: String,
    ) -> Result<Member, String> {
        let array = self.array_suffix()?;
        let (default, propagated) = (Literal::Null, false);
        Ok(Member { name, cim_type, array, default, qualifiers, origin, propagated })
    }

    fn simple_type(&mut self) -> Result<CimType, String> {
        let word = self.tokens.word("a type")?;
        CimType::parse(&word).ok_or_else(|| self.tokens.message("a type"))
    }

    /// A type, or `Class REF`.
    fn member_type(&mut self) -> Result<CimType, String> {
        let word = self.tokens.word("a type")?;
        if self.tokens.peek().is_some_and(|token| token.is_word("ref")) {
            self.tokens.next();
            return Ok(CimType::Reference(word));
        }
        CimType::parse(&word).ok_or_else(|| self.tokens.message("a type or a reference"))
    }

    /// `[]`, with or without a length.
    fn array_suffix(&mut self) -> Result<bool, String> {
        if !self.tokens.accept('[') {
            return Ok(false);
        }
        if matches!(self.tokens.peek(), Some(Token::Int(_))) {
            self.tokens.next();
        }
        self.tokens.expect(']')?;
        Ok(true)
    }

    fn literal(&mut self) -> Result<Literal, String> {
        if !self.tokens.accept('{') {
            return self.simple_literal();
        }
        let mut items = Vec::new();
        if self.tokens.accept('}') {
            return Ok(Literal::Array(items));
        }
        loop {
            items.push(self.simple_literal()?);
            if !self.tokens.accept(',') {
                self.tokens.expect('}')?;
                return Ok(Literal::Array(items));
            }
        }
    }

    fn simple_literal(&mut self) -> Result<Literal, String> {
        match self.tokens.next() {
            Some(Token::Int(number)) => Ok(Literal::Int(number)),
            Some(Token::Text(mut text)) => {
                // Strings beside each other are one.
                while let Some(Token::Text(more)) = self.tokens.peek() {
                    text.push_str(more);
                    self.tokens.next();
                }
                Ok(Literal::Text(text))
            }
            Some(token) if token.is_word("true") => Ok(Literal::Bool(true)),
            Some(token) if token.is_word("false") => Ok(Literal::Bool(false)),
            Some(token) if token.is_word("null") => Ok(Literal::Null),
            _ => self.tokens.fail("a value"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_class_with_everything_in_it() {
        let text = r#"
            // a comment
            Qualifier Key : boolean = false, Scope(property, reference), Flavor(DisableOverride);
            Qualifier ValueMap : string[];
            /* and another ; */
            [Association, Description ("a \"b\" \\ // no comment " "and more")]
            class A_B : C_D {
                [Key, ValueMap {"1", "2"}] uint16 Numbers[] = {1, -2};
                A_B REF Other;
                [In (false), Out] uint32 Go([In] string Name, [Out] A_B REF Result[]);
                void_not_a_type REF X;
            };
        "#;
        let all = parse(text).unwrap();
        assert_eq!(all.qualifiers.len(), 2);
        assert_eq!(all.qualifiers[0].scopes, ["property", "reference"]);
        assert!(all.qualifiers[1].array);
        let class = &all.classes[0];
        assert_eq!(class.superclass.as_deref(), Some("C_D"));
        let description = &class.qualifiers[1].value;
        assert_eq!(description, &Literal::Text("a \"b\" \\ // no comment and more".to_owned()));
        let numbers = &class.properties[0];
        assert!(numbers.array);
        assert_eq!(numbers.default, Literal::Array(vec![Literal::Int(1), Literal::Int(-2)]));
        assert_eq!(class.properties[1].cim_type, CimType::Reference("A_B".to_owned()));
        let method = &class.methods[0];
        assert_eq!(method.parameters.len(), 2);
        assert!(method.parameters[1].array);
        assert_eq!(method.qualifiers[0].value, Literal::Bool(false));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (bad, line) in [
            ("class {};", 1),
            ("class A {\n string };", 2),
            ("class A {\n\n sting B; };", 3),
            ("class A {};\nclass B { string C }", 2),
            ("[Key class A {};", 1),
            ("class A { string B = ; };", 1),
            ("class A { string B = \"x; };", 1),
            ("class A", 1),
            ("/* x", 1),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(&format!("line {line}")), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
