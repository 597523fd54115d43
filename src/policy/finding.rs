//! What is wrong with a document, and where.

use std::fmt;

/// Findings of one document that are listed; of the rest only the number is told.
const LISTED: usize = 20;
/// Unlisted findings that are counted; a document with more is not read to its end.
const COUNTED: usize = 1000;
/// Characters of a document's text that a message repeats at most.
const QUOTED: usize = 64;

/// One thing that is wrong (or, from a lint, questionable): where it is, what it is, and what to write instead.
///
/// Values of conditions are never repeated in a message: they can hold external ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The place, from the path that the caller gave: `spec.inlinePolicies[2].document.Statement[0].Action[1]`.
    /// Keys that are no plain words are written in brackets: `Condition.StringLike["aws:SourceArn"]`.
    pub path: String,
    /// One sentence or two, without a full stop, on one line.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A place in a document: a list of steps on the stack, made text only when something is found there.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root(&'a str),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(super) fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path::Key(self, key)
    }

    pub(super) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(text) => f.write_str(text),
            Path::Key(parent, key) => {
                let plain = key.len() <= QUOTED && key.bytes().all(|b| b.is_ascii_alphanumeric());
                if plain && !key.is_empty() {
                    write!(f, "{parent}.{key}")
                } else {
                    write!(f, "{parent}[\"{}\"]", Clipped(key))
                }
            }
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A text on one line, and at most [`QUOTED`] characters of it.
struct Clipped<'t>(&'t str);

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(QUOTED) {
            write!(f, "{}", c.escape_debug())?;
        }
        if self.0.chars().nth(QUOTED).is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

/// A text in backticks, for a message; shortened, on one line.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'t>(&'t str);

/// Quotes a text for a message. Costs nothing until it is written.
pub(super) fn quote(text: &str) -> Quoted<'_> {
    Quoted(text)
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", Clipped(self.0))
    }
}

/// Collects findings in the order they are met.
pub(super) struct Findings<'t> {
    list: Vec<Finding>,
    more: usize,
    /// The JSON text, where there is one: findings then tell line and column.
    source: Option<&'t str>,
    root: String,
}

impl<'t> Findings<'t> {
    pub(super) fn new(root: &str, source: Option<&'t str>) -> Self {
        Self { list: Vec::new(), more: 0, source, root: root.to_owned() }
    }

    /// Adds a finding; `at` is the byte offset in the source.
    pub(super) fn add(&mut self, path: &Path<'_>, at: Option<usize>, message: impl fmt::Display) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let message = match (self.source, at) {
            (Some(source), Some(at)) => {
                let (line, column) = line_and_column(source, at);
                format!("{message} (line {line}, column {column})")
            }
            _ => message.to_string(),
        };
        self.list.push(Finding { path: path.to_string(), message });
    }

    /// Whether further findings are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= LISTED
    }

    /// Whether there are so many that the rest of the document is not worth reading.
    pub(super) fn are_enough(&self) -> bool {
        self.more >= COUNTED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All findings; a last one tells how many there were beyond the listed ones.
    pub(super) fn into_vec(mut self) -> Vec<Finding> {
        if self.more > 0 {
            let least = if self.are_enough() { "at least " } else { "" };
            self.list.push(Finding { path: self.root, message: format!("{least}{} more findings", self.more) });
        }
        self.list
    }
}

/// Line and column, both from 1; the column counts characters.
fn line_and_column(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The known word that was probably meant: same but for case, a plural, or a typing mistake.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = known.into_iter().filter_map(|candidate| {
        let distance = distance_within(word, candidate, candidate.len().div_ceil(4).min(3))?;
        Some((distance, candidate))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Edit distance, ignoring case, if it is no more than `most`.
pub(super) fn distance_within(a: &str, b: &str, most: usize) -> Option<usize> {
    // Each byte more is an edit, and the distance costs one length times the other.
    (a.len().abs_diff(b.len()) <= most).then(|| distance(a, b)).filter(|distance| *distance <= most)
}

fn distance(a: &str, b: &str) -> usize {
    // The distances of the beginnings of `b` to what was read of `a`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let (mut above_left, mut left) = (i, i + 1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let other = usize::from(!x.eq_ignore_ascii_case(&y));
            let here = (above_left + other).min(*cell + 1).min(left + 1);
            above_left = std::mem::replace(cell, here);
            left = here;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let root = Path::Root("spec.trustPolicy");
        let statement = root.key("Statement");
        let first = statement.index(0);
        let condition = first.key("Condition");
        let operator = condition.key("StringLike");
        assert_eq!(
            operator.key("aws:SourceArn").to_string(),
            "spec.trustPolicy.Statement[0].Condition.StringLike[\"aws:SourceArn\"]"
        );
        assert_eq!(first.key("a\nb").to_string(), "spec.trustPolicy.Statement[0][\"a\\nb\"]");
        assert_eq!(first.key("").to_string(), "spec.trustPolicy.Statement[0][\"\"]");
    }

    #[test]
    fn lines_and_columns() {
        assert_eq!(line_and_column("ä\nbc\n", 0), (1, 1));
        assert_eq!(line_and_column("ä\nbc\n", 2), (1, 2));
        assert_eq!(line_and_column("ä\nbc\n", 4), (2, 2));
        assert_eq!(line_and_column("ä\nbc\n", 99), (3, 1));
    }

    #[test]
    fn meant_words() {
        let known = ["Action", "NotAction", "Condition", "Sid"];
        assert_eq!(did_you_mean("action", known), Some("Action"));
        assert_eq!(did_you_mean("Actions", known), Some("Action"));
        assert_eq!(did_you_mean("Conditons", known), Some("Condition"));
        assert_eq!(did_you_mean("SID", known), Some("Sid"));
        assert_eq!(did_you_mean("Comment", known), None);
        assert_eq!(did_you_mean("", known), None);
        assert_eq!(did_you_mean(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("role", "ROLE", 0),
            ("rolx", "role", 1),
            ("oler", "role", 2),
            ("user", "role", 4),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                assert_eq!(distance_within(a, b, distance), Some(distance), "{a} {b}");
                assert_eq!(distance.checked_sub(1).and_then(|less| distance_within(a, b, less)), None);
            }
        }
        assert_eq!(distance_within(&"x".repeat(10_000_000), &"x".repeat(20_000_000), 3), None, "at once");
    }

    #[test]
    fn many_findings_are_counted() {
        let mut findings = Findings::new("doc", None);
        for _ in 0..25 {
            findings.add(&Path::Root("doc"), None, "wrong");
        }
        let list = findings.into_vec();
        assert_eq!(list.len(), 21);
        assert_eq!(list[20].to_string(), "doc: 5 more findings");
    }
}
