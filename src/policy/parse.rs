//! From a value or a text to a checked [`Document`].

use super::document::{Document, Grammar, Version};
use super::finding::{Findings, Path, did_you_mean, quote};
use super::json::{self, Member, Node, Seen, Value};
use super::size::count;
use super::{Finding, Tokens, statement};

const KEYS: [&str; 3] = ["Version", "Id", "Statement"];
const TOO_LARGE: &str =
    "more than 262144 characters; IAM takes 131072 at most, and its quotas are lower; split it into several policies";
const WRITE_VERSION: &str = "write \"Version\": \"2012-10-17\"";
/// Which version to write where it decides what the document means.
const WHICH_VERSION: &str = "write \"Version\": \"2012-10-17\" if `${…}` are variables, such as `${aws:username}`, or \
                             \"2008-10-17\" if they are text as they stand";

pub(super) fn from_value(
    grammar: Grammar,
    path: &str,
    value: &serde_json::Value,
    tokens: &Tokens,
) -> Result<Document, Vec<Finding>> {
    let mut reader = Reader::new(grammar, path, None, tokens);
    let root = Path::Root(path);
    let document = match json::from_value(value) {
        Ok(node) => reader.document(path, &node),
        Err(excess) => {
            let message = match excess {
                json::Excess::Depth => format!("nested deeper than {} levels", json::MAX_DEPTH),
                json::Excess::Size => TOO_LARGE.to_owned(),
            };
            reader.findings.add(&root, None, message);
            None
        }
    };
    reader.finish(document)
}

pub(super) fn from_json(grammar: Grammar, path: &str, text: &str, tokens: &Tokens) -> Result<Document, Vec<Finding>> {
    let mut reader = Reader::new(grammar, path, Some(text), tokens);
    let root = Path::Root(path);
    if count(text) > json::LARGEST {
        reader.findings.add(&root, None, TOO_LARGE);
        return reader.finish(None);
    }
    let document = match json::parse(text) {
        Ok(node) => reader.document(path, &node),
        Err(error) => {
            let encoded = text.trim_start().starts_with("%7B") || text.trim_start().starts_with("%7b");
            let hint = if encoded { "; the text is percent-encoded, write it as plain JSON" } else { "" };
            let message = format!("no JSON: {}{hint}", error.message);
            reader.findings.add(&root, Some(error.at), message);
            None
        }
    };
    reader.finish(document)
}

/// What reading a document needs everywhere: the grammar, the tokens, and where findings go.
///
/// Every function returns what could be read and adds what is wrong, so that one pass finds everything.
pub(super) struct Reader<'a> {
    pub grammar: Grammar,
    pub findings: Findings<'a>,
    tokens: &'a Tokens,
    /// Bytes that texts with their tokens replaced may still take.
    room: usize,
}

impl<'a> Reader<'a> {
    fn new(grammar: Grammar, path: &str, source: Option<&'a str>, tokens: &'a Tokens) -> Self {
        // A character that IAM takes has two bytes at most.
        Self { grammar, findings: Findings::new(path, source), tokens, room: 2 * json::LARGEST }
    }

    fn finish(self, document: Option<Document>) -> Result<Document, Vec<Finding>> {
        match document {
            Some(document) if self.findings.is_empty() => Ok(document),
            _ => Err(self.findings.into_vec()),
        }
    }

    fn document(&mut self, path: &str, node: &Node<'_>) -> Option<Document> {
        let root = Path::Root(path);
        if matches!(node.value, Value::List(_)) {
            let message = "a list; a policy document is one object, with the list under `Statement`";
            self.findings.add(&root, node.at, message);
            return None;
        }
        let members = self.object(&root, node)?;
        let mut keys = Keys::new(&KEYS);
        let (mut version, mut id, mut statements) = (None, None, Vec::new());
        for member in members {
            keys.check(self, &root, member);
            let place = root.key(&member.key);
            match &*member.key {
                "Version" => version = self.version(&place, &member.node),
                "Id" => id = self.id(&place, &member.node),
                "Statement" => statements = statement::read_all(self, &place, &member.node),
                _ => {}
            }
        }
        if !keys.has("Version") {
            let missing = "`Version` is missing, which AWS takes for 2008-10-17";
            let message = if has_variables(node) {
                format!("{missing}, under which `${{…}}` is plain text; {WHICH_VERSION}")
            } else {
                format!("{missing}; {WRITE_VERSION}, which means the same here")
            };
            self.findings.add(&root, node.at, message);
        }
        if !keys.has("Statement") {
            let message = "`Statement` is missing; a document needs at least one statement";
            self.findings.add(&root, node.at, message);
        }
        Some(Document { grammar: self.grammar, version: version?, id, statements })
    }

    fn version(&mut self, path: &Path<'_>, node: &Node<'_>) -> Option<Version> {
        if !matches!(node.value, Value::Text(_)) {
            let message = format!("{}, where text is expected; {WRITE_VERSION}", node.kind());
            self.findings.add(path, node.at, message);
            return None;
        }
        let text = self.text(path, node)?;
        let version = Version::parse(&text);
        if version.is_none() {
            let known = [Version::V2012, Version::V2008].map(Version::as_str);
            let meant = did_you_mean(&text, known).unwrap_or(Version::V2012.as_str());
            let message =
                format!("{} is no version of the policy language; write \"Version\": \"{meant}\"", quote(&text));
            self.findings.add(path, node.at, message);
        }
        version
    }

    fn id(&mut self, path: &Path<'_>, node: &Node<'_>) -> Option<String> {
        if self.grammar == Grammar::Permission {
            let message = "a permission policy has no `Id`; leave it out";
            self.findings.add(path, node.at, message);
            return None;
        }
        self.text(path, node).filter(|id| !id.is_empty())
    }

    /// The members of an object.
    pub(super) fn object<'n>(&mut self, path: &Path<'_>, node: &'n Node<'_>) -> Option<&'n [Member<'n>]> {
        if let Value::Object(members) = &node.value {
            return Some(members);
        }
        let message = format!("{}, where an object is expected", node.kind());
        self.findings.add(path, node.at, message);
        None
    }

    /// A text, its tokens replaced.
    pub(super) fn text(&mut self, path: &Path<'_>, node: &Node<'_>) -> Option<String> {
        match &node.value {
            Value::Text(text) => self.expand(path, node.at, text),
            Value::Null => {
                let message = "null, where text is expected; leave the key out or give it a value";
                self.findings.add(path, node.at, message);
                None
            }
            _ => {
                let message = format!("{}, where text is expected", node.kind());
                self.findings.add(path, node.at, message);
                None
            }
        }
    }

    /// Replaces the tokens of a text and checks its characters.
    pub(super) fn expand(&mut self, path: &Path<'_>, at: Option<usize>, text: &str) -> Option<String> {
        let text = match self.tokens.expand(text) {
            Ok(text) => text,
            Err(error) => {
                self.findings.add(path, at, error);
                return None;
            }
        };
        // Tokens grow: a few characters may stand for hundreds.
        let left = self.room.saturating_sub(text.len());
        if left == 0 && self.room > 0 {
            self.findings.add(path, at, TOO_LARGE);
        }
        self.room = left;
        if left == 0 {
            return None;
        }
        let plain = text.bytes().all(|b| (0x20..=0x7F).contains(&b));
        if let Some(refused) = text.chars().find(|c| !plain && !allowed(*c)) {
            let message = format!(
                "IAM refuses the character U+{:04X}; allowed are tab, line feed, carriage return and U+0020 to U+00FF",
                u32::from(refused)
            );
            self.findings.add(path, at, message);
            return None;
        }
        Some(text)
    }

    /// One value or a list of them, each read by `read`. An empty list is a finding.
    pub(super) fn one_or_more<T>(
        &mut self,
        path: &Path<'_>,
        node: &Node<'_>,
        mut read: impl FnMut(&mut Self, &Path<'_>, &Node<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Value::List(items) = &node.value else {
            return read(self, path, node).into_iter().collect();
        };
        if items.is_empty() {
            let message = "an empty list; give it a value or leave the key out";
            self.findings.add(path, node.at, message);
        }
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if self.findings.are_enough() {
                break;
            }
            all.extend(read(self, &path.index(index), item));
        }
        all
    }
}

/// Whether a text in it has `${`, which versions read differently.
fn has_variables(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Text(text) => text.contains("${"),
        Value::List(items) => items.iter().any(has_variables),
        Value::Object(members) => members.iter().any(|member| has_variables(&member.node)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The keys of one object, checked one after the other.
pub(super) struct Keys<'k> {
    /// The keys there are; none where any will do.
    known: &'static [&'static str],
    seen: Seen<'k>,
    /// The known keys that are there or were meant by an unknown one: a mistyped key is not reported as missing too.
    present: Vec<&'static str>,
}

impl<'k> Keys<'k> {
    pub(super) fn new(known: &'static [&'static str]) -> Self {
        Self { known, seen: Seen::default(), present: Vec::new() }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.present.contains(&key)
    }

    /// Adds a finding where a key is unknown, and where it is there twice: JSON readers silently keep one of them, and
    /// the lost one may be the condition.
    pub(super) fn check(&mut self, reader: &mut Reader<'_>, path: &Path<'_>, member: &'k Member<'_>) {
        if reader.findings.are_enough() {
            return;
        }
        let place = path.key(&member.key);
        if !self.seen.insert(&member.key) {
            let message = "the key is there twice; keep one of them";
            reader.findings.add(&place, member.at, message);
        }
        if self.known.is_empty() {
            return;
        }
        if let Some(key) = self.known.iter().find(|key| **key == member.key) {
            self.present.push(key);
        } else if reader.findings.is_full() {
            // A guess is dear, and nobody would see it.
            reader.findings.add(&place, member.at, "unknown key");
        } else if let Some(meant) = did_you_mean(&member.key, self.known.iter().copied()) {
            self.present.push(meant);
            let message = format!("unknown key; did you mean `{meant}`?");
            reader.findings.add(&place, member.at, message);
        } else {
            let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
            let message = format!("unknown key; known here are {}", known.join(", "));
            reader.findings.add(&place, member.at, message);
        }
    }
}

/// Characters of a policy document (IAM API reference, pattern of `PolicyDocument`).
fn allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{FF}')
}
