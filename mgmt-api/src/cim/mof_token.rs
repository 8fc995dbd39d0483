//! MOF as tokens.

use std::iter::Peekable;
use std::str::Chars;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Word(String),
    Text(String),
    Int(i64),
    Sign(char),
}

impl Token {
    /// Keywords do not depend on case.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }
}

/// The tokens of a text, with their lines.
pub(crate) struct Tokens {
    tokens: Vec<(Token, usize)>,
    position: usize,
    last_line: usize,
}

impl Tokens {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut scanner = Scanner { characters: text.chars().peekable(), line: 1 };
        let mut tokens = Vec::new();
        while let Some(found) = scanner.token()? {
            tokens.push(found);
        }
        Ok(Self { tokens, position: 0, last_line: scanner.line })
    }

    pub(crate) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position).map(|(token, _)| token)
    }

    pub(crate) fn next(&mut self) -> Option<Token> {
        let found = self.peek().cloned();
        self.position += usize::from(found.is_some());
        found
    }

    /// Takes the sign if it is the next one.
    pub(crate) fn accept(&mut self, sign: char) -> bool {
        let is_next = self.peek() == Some(&Token::Sign(sign));
        self.position += usize::from(is_next);
        is_next
    }

    pub(crate) fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.accept(sign) { Ok(()) } else { self.fail(&format!("`{sign}`")) }
    }

    pub(crate) fn word(&mut self, what: &str) -> Result<String, String> {
        if let Some(Token::Word(word)) = self.peek() {
            let word = word.clone();
            self.position += 1;
            return Ok(word);
        }
        self.fail(what)
    }

    pub(crate) fn fail<T>(&self, expected: &str) -> Result<T, String> {
        Err(self.message(expected))
    }

    pub(crate) fn message(&self, expected: &str) -> String {
        let line = self.tokens.get(self.position).map_or(self.last_line, |(_, line)| *line);
        format!("line {line}: expected {expected}")
    }
}

struct Scanner<'t> {
    characters: Peekable<Chars<'t>>,
    line: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let found = self.characters.next();
        self.line += usize::from(found == Some('\n'));
        found
    }

    fn token(&mut self) -> Result<Option<(Token, usize)>, String> {
        loop {
            let line = self.line;
            let Some(&first) = self.characters.peek() else { return Ok(None) };
            let token = match first {
                c if c.is_whitespace() => {
                    self.next();
                    continue;
                }
                '/' => {
                    self.comment()?;
                    continue;
                }
                '"' => Token::Text(self.text()?),
                '-' | '+' | '0'..='9' => Token::Int(self.number()?),
                c if c.is_ascii_alphabetic() || c == '_' => Token::Word(self.word()),
                '{' | '}' | '[' | ']' | '(' | ')' | ':' | ';' | ',' | '=' => {
                    self.next();
                    Token::Sign(first)
                }
                other => return Err(format!("line {line}: unexpected `{other}`")),
            };
            return Ok(Some((token, line)));
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let line = self.line;
        self.next();
        match self.next() {
            Some('/') => {
                while self.next().is_some_and(|c| c != '\n') {}
                Ok(())
            }
            Some('*') => {
                let mut star = false;
                while let Some(character) = self.next() {
                    if star && character == '/' {
                        return Ok(());
                    }
                    star = character == '*';
                }
                Err(format!("line {line}: the comment has no end"))
            }
            _ => Err(format!("line {line}: unexpected `/`")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let line = self.line;
        let unfinished = || format!("line {line}: the string has no end");
        self.next();
        let mut text = String::new();
        loop {
            match self.next().ok_or_else(unfinished)? {
                '"' => return Ok(text),
                '\n' => return Err(unfinished()),
                '\\' => text.push(match self.next().ok_or_else(unfinished)? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                other => text.push(other),
            }
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let mut digits = String::new();
        while let Some(&c) = self.characters.peek()
            && (c.is_ascii_digit() || matches!(c, '-' | '+'))
        {
            digits.push(c);
            self.next();
        }
        digits.parse().map_err(|_| format!("line {}: `{digits}` is no number", self.line))
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(&c) = self.characters.peek()
            && (c.is_ascii_alphanumeric() || c == '_')
        {
            word.push(c);
            self.next();
        }
        word
    }
}
