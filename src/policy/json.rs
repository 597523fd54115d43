//! JSON as IAM policies need it: duplicate keys, byte offsets and the source text of numbers are kept.
//!
//! A general JSON library loses all three. A duplicate key that is silently dropped can be a lost condition, which
//! widens access; a number that became a float can be another number. Nesting is limited to [`MAX_DEPTH`], so no text
//! exhausts the stack.

mod write;

pub(super) use self::write::{write, write_sorted};
use std::borrow::Cow;
use std::collections::HashSet;

/// Deepest nesting that is read. A policy document needs 6 levels.
pub(super) const MAX_DEPTH: usize = 64;

/// Characters without white space that are read: twice what IAM's API takes of anybody (IAM API reference, length of
/// `PolicyDocument`), since some policies of AWS itself are larger than that.
pub(super) const LARGEST: usize = 262_144;

/// A value with the byte offset it was read from; values that came from no text have none.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Node<'t> {
    pub value: Value<'t>,
    pub at: Option<usize>,
}

/// A JSON value.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    /// The number as it was written.
    Number(Cow<'t, str>),
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    /// The members in the order they were written, duplicates included.
    Object(Vec<Member<'t>>),
}

/// One `"key": value` of an object.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Member<'t> {
    pub key: Cow<'t, str>,
    pub at: Option<usize>,
    pub node: Node<'t>,
}

impl<'t> Node<'t> {
    /// A value that came from no text.
    pub(super) fn new(value: Value<'t>) -> Self {
        Self { value, at: None }
    }

    /// What kind of value this is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Why a text is no JSON, and at which byte.
pub(super) struct SyntaxError {
    pub message: String,
    pub at: usize,
}

/// Reads a JSON text.
pub(super) fn parse(text: &str) -> Result<Node<'_>, SyntaxError> {
    let mut parser = Parser { text, at: 0 };
    let node = parser.value(0)?;
    parser.blanks();
    if parser.at < text.len() {
        return Err(parser.error("text after the end of the document"));
    }
    Ok(node)
}

/// Takes over a value that was parsed elsewhere.
///
/// # Errors
/// It is nested deeper than [`MAX_DEPTH`], or has more than [`LARGEST`] characters; nothing is copied then.
pub(super) fn from_value(value: &serde_json::Value) -> Result<Node<'_>, Excess> {
    let mut left = LARGEST;
    measure(value, 0, &mut left)?;
    Ok(take_over(value))
}

/// How a value is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Depth,
    Size,
}

/// Takes the characters of a value from those that are `left`: what it has as compact JSON at least.
fn measure(value: &serde_json::Value, depth: usize, left: &mut usize) -> Result<(), Excess> {
    let mut take = |characters: usize| {
        *left = left.checked_sub(characters).ok_or(Excess::Size)?;
        Ok(())
    };
    if depth > MAX_DEPTH {
        return Err(Excess::Depth);
    }
    match value {
        serde_json::Value::String(text) => take(text.chars().count() + 2),
        serde_json::Value::Array(items) => {
            take(2 + items.len().saturating_sub(1))?;
            items.iter().try_for_each(|item| measure(item, depth + 1, left))
        }
        serde_json::Value::Object(members) => {
            take(2 + members.len().saturating_sub(1))?;
            members.iter().try_for_each(|(key, value)| {
                *left = left.checked_sub(key.chars().count() + 3).ok_or(Excess::Size)?;
                measure(value, depth + 1, left)
            })
        }
        _ => take(1),
    }
}

fn take_over(value: &serde_json::Value) -> Node<'_> {
    Node::new(match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Number(number.to_string().into()),
        serde_json::Value::String(text) => Value::Text(text.into()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(take_over).collect()),
        serde_json::Value::Object(members) => {
            let members =
                members.iter().map(|(key, value)| Member { key: key.into(), at: None, node: take_over(value) });
            Value::Object(members.collect())
        }
    })
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { message: message.into(), at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The character at the current place, for messages.
    fn found(&self) -> String {
        match self.rest().chars().next() {
            None => "the end of the text".to_owned(),
            Some(c) => format!("`{}`", c.escape_debug()),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'t>, SyntaxError> {
        self.blanks();
        let at = self.at;
        if depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            _ => return Err(self.error(format!("a value is expected, not {}", self.found()))),
        };
        Ok(Node { value, at: Some(at) })
    }

    fn word(&mut self, word: &str, value: Value<'t>) -> Result<Value<'t>, SyntaxError> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.error(format!("a value is expected, not {}", self.found())))
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value<'t>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.separator(b']')? {
                return Ok(Value::List(items));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'t>, SyntaxError> {
        self.at += 1;
        let mut members = Vec::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error(format!("a key in double quotes is expected, not {}", self.found())));
            }
            let key = self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.error(format!("`:` is expected after a key, not {}", self.found())));
            }
            self.at += 1;
            let node = self.value(depth + 1)?;
            members.push(Member { key, at: Some(at), node });
            if self.separator(b'}')? {
                return Ok(Value::Object(members));
            }
        }
    }

    /// Reads `,` (false) or the closing bracket (true).
    fn separator(&mut self, close: u8) -> Result<bool, SyntaxError> {
        self.blanks();
        match self.peek() {
            Some(b',') => {
                let comma = self.at;
                self.at += 1;
                self.blanks();
                if self.peek() == Some(close) {
                    self.at = comma;
                    return Err(self.error("a comma with nothing after it"));
                }
                Ok(false)
            }
            Some(found) if found == close => {
                self.at += 1;
                Ok(true)
            }
            _ => {
                let close = char::from(close);
                Err(self.error(format!("`,` or `{close}` is expected, not {}", self.found())))
            }
        }
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error(format!("a digit is expected, not {}", self.found())));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Cow<'t, str>, SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        self.digits()?;
        if self.at > first + 1 && self.text.as_bytes().get(first) == Some(&b'0') {
            self.at = first;
            return Err(self.error("a number with a leading zero; an account id is text, in quotes"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.text.get(start..self.at).unwrap_or_default().into())
    }

    /// Text without escapes is taken from the source as it is.
    fn string(&mut self) -> Result<Cow<'t, str>, SyntaxError> {
        self.at += 1;
        let mut out = Cow::Borrowed("");
        loop {
            let start = self.at;
            while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
                self.at += 1;
            }
            // The loop stops at ASCII bytes only, so both ends are character boundaries. Adding to nothing borrows.
            out += self.text.get(start..self.at).unwrap_or_default();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.to_mut().push(self.escape()?),
                None => return Err(self.error("text without a closing quote")),
                Some(_) => {
                    return Err(self.error(format!("{} inside quotes; write it as an escape", self.found())));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                return Err(self.error(format!("`\\` before {} is no escape of JSON", self.found())));
            }
        };
        self.at += 1;
        Ok(escaped)
    }

    /// `u` and four hexadecimal digits, or the two halves of a character outside the basic plane.
    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let first = self.hex()?;
        let mut code = u32::from(first);
        if (0xD800..0xDC00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 1;
            let second = self.hex()?;
            if (0xDC00..0xE000).contains(&second) {
                code = 0x1_0000 + ((code - 0xD800) << 10) + (u32::from(second) - 0xDC00);
            }
        }
        char::from_u32(code).ok_or_else(|| self.error("an escape that is half of a character"))
    }

    fn hex(&mut self) -> Result<u16, SyntaxError> {
        self.at += 1;
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        // `from_str_radix` alone would take a sign.
        let code =
            if digits.bytes().all(|b| b.is_ascii_hexdigit()) { u16::from_str_radix(digits, 16).ok() } else { None };
        let code = code.ok_or_else(|| self.error("four hexadecimal digits are expected after `\\u`"))?;
        self.at += 4;
        Ok(code)
    }
}

/// The keys that were there already. Objects are mostly small, and then comparing is quicker than hashing.
#[derive(Default)]
pub(super) struct Seen<'k> {
    few: Vec<&'k str>,
    many: HashSet<&'k str>,
}

impl<'k> Seen<'k> {
    const FEW: usize = 12;

    /// Of an object with so many members.
    pub(super) fn of(count: usize) -> Self {
        let many = if count > Self::FEW { HashSet::with_capacity(count) } else { HashSet::new() };
        Self { few: Vec::with_capacity(count.min(Self::FEW)), many }
    }

    /// Whether the key is new.
    pub(super) fn insert(&mut self, key: &'k str) -> bool {
        if self.few.len() < Self::FEW {
            let new = !self.few.contains(&key);
            self.few.extend(new.then_some(key));
            return new;
        }
        !self.few.contains(&key) && self.many.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(text: &str) -> String {
        let mut out = String::new();
        match parse(text) {
            Ok(node) => write(&node, &mut out),
            Err(error) => out = format!("{}@{}", error.message, error.at),
        }
        out
    }

    #[test]
    fn keeps_duplicates_order_and_numbers() {
        let text = r#"{"b":1.50,"a":[true,false,null,-0.0e+1],"b":9007199254740993123}"#;
        assert_eq!(compact(text), text);
    }

    #[test]
    fn reads_escapes() {
        assert_eq!(compact(r#" "\u0041\/\ud83d\ude00\u00e9\n" "#), "\"A/\u{1F600}é\\n\"");
        assert!(compact(r#""\ud800""#).contains("half of a character"));
        assert!(compact(r#""\ud800A""#).contains("half of a character"));
        assert!(compact(r#""\u+041""#).contains("hexadecimal"));
        assert!(compact("\"\\u00é\"").contains("hexadecimal"));
    }

    #[test]
    fn says_where_and_what() {
        for (text, expected) in [
            ("", "a value is expected, not the end of the text@0"),
            ("{\"a\":1,}", "a comma with nothing after it@6"),
            ("{a:1}", "a key in double quotes is expected, not `a`@1"),
            ("{\"a\" 1}", "`:` is expected after a key, not `1`@5"),
            ("[1 2]", "`,` or `]` is expected, not `2`@3"),
            ("[1] x", "text after the end of the document@4"),
            ("[01]", "a number with a leading zero; an account id is text, in quotes@1"),
            ("[1.]", "a digit is expected, not `]`@3"),
            ("\"a", "text without a closing quote@2"),
            ("\"a\nb\"", "`\\n` inside quotes; write it as an escape@2"),
            ("tru", "a value is expected, not `t`@0"),
        ] {
            assert_eq!(compact(text), expected, "{text}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(compact(&deep(MAX_DEPTH)), deep(MAX_DEPTH));
        assert!(compact(&deep(1_000_000)).contains("nested deeper"));
        let mut value = serde_json::Value::Null;
        for _ in 0..=MAX_DEPTH {
            value = serde_json::Value::Array(vec![value]);
        }
        assert!(matches!(from_value(&value), Err(Excess::Depth)));
    }
}
