//! Patterns with `*` and `?`, as IAM has them in actions, resources and `…Like` operators.

use std::collections::HashSet;
use std::fmt;

/// Steps that [`Pattern::covers`] takes at most; see there.
const STEPS: usize = 200_000;

/// Steps that comparing many patterns may take together: a tenth of a second or two. What comes after has the answer that
/// is on the safe side.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(4_000_000)
    }
}

impl Budget {
    fn spend(&mut self, steps: usize) -> bool {
        let left = self.0.checked_sub(steps);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

/// A pattern in which `*` stands for any text, also none, and `?` for any one character.
///
/// There is no escape: IAM's `${*}` is a policy variable, not part of patterns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
    /// The parts in lower case, for comparing without case.
    lower: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Char(char),
    Any,
    Many,
}

impl Pattern {
    /// Every text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            parts: parts(text.chars()),
            lower: parts(text.chars().map(|c| c.to_ascii_lowercase())),
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches the whole text, case included.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<Part> = text.chars().map(Part::Char).collect();
        match_literal(&self.parts, &text)
    }

    /// Whether the pattern matches the whole text, ASCII case aside; so IAM compares actions.
    #[must_use]
    pub fn matches_ignore_case(&self, text: &str) -> bool {
        let text: Vec<Part> = text.chars().map(|c| Part::Char(c.to_ascii_lowercase())).collect();
        match_literal(&self.lower, &text)
    }

    /// Whether this pattern matches everything that `other` matches: `s3:*` covers `s3:Get*`.
    ///
    /// Exact, but for patterns built to be hard (dozens of `?` between several `*` in both): where the answer would
    /// take more than some milliseconds it is `false`. So a yes is always right.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.parts, &other.parts, &mut Budget(STEPS))
    }

    /// Like [`Pattern::covers`], ASCII case aside.
    #[must_use]
    pub fn covers_ignore_case(&self, other: &Self) -> bool {
        covers(&self.lower, &other.lower, &mut Budget(STEPS))
    }

    /// Like [`Pattern::covers_ignore_case`], as one of many calls: without budget it is `false`.
    pub(super) fn covers_within(&self, other: &Self, budget: &mut Budget) -> bool {
        covers_within(&self.lower, &other.lower, budget)
    }

    /// Like [`Pattern::overlaps_ignore_case`], as one of many calls: without budget it is `true`.
    pub(super) fn overlaps_within(&self, other: &Self, budget: &mut Budget) -> bool {
        overlaps_within(&self.lower, &other.lower, budget)
    }

    /// Like [`Pattern::covers`], as one of many calls: without budget it is `false`.
    pub(super) fn covers_case_within(&self, other: &Self, budget: &mut Budget) -> bool {
        covers_within(&self.parts, &other.parts, budget)
    }

    /// Like [`Pattern::overlaps`], as one of many calls: without budget it is `true`.
    pub(super) fn overlaps_case_within(&self, other: &Self, budget: &mut Budget) -> bool {
        overlaps_within(&self.parts, &other.parts, budget)
    }

    /// Whether there is a text that both patterns match: `s3:Get*` and `*Object` overlap. Exact.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        overlaps(&self.parts, &other.parts)
    }

    /// Like [`Pattern::overlaps`], ASCII case aside.
    #[must_use]
    pub fn overlaps_ignore_case(&self, other: &Self) -> bool {
        overlaps(&self.lower, &other.lower)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text with `*` in place of each `${…}`.
pub(super) fn without_variables(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        out.push('*');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

/// The parts of a pattern in normal form: a run of wildcards is its `?`s, then one `*` if it had any.
fn parts(chars: impl Iterator<Item = char>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut many = false;
    for c in chars {
        match c {
            '*' => many = true,
            '?' => parts.push(Part::Any),
            c => {
                if std::mem::take(&mut many) {
                    parts.push(Part::Many);
                }
                parts.push(Part::Char(c));
            }
        }
    }
    if many {
        parts.push(Part::Many);
    }
    parts
}

/// Matches a text: at a mismatch the last `*` takes one character more.
fn match_literal(pattern: &[Part], text: &[Part]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(Part::Many) => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(part) if *part == Part::Any || part == c => {
                p += 1;
                t += 1;
            }
            _ => match &mut retry {
                Some((after, from)) => {
                    *from += 1;
                    p = *after;
                    t = *from;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|part| *part == Part::Many)
}

fn covers_within(pattern: &[Part], other: &[Part], budget: &mut Budget) -> bool {
    let mut own = Budget(budget.0.min(STEPS));
    let granted = own.0;
    let covers = covers(pattern, other, &mut own);
    budget.spend(granted - own.0);
    covers
}

fn overlaps_within(a: &[Part], b: &[Part], budget: &mut Budget) -> bool {
    let differ = |(a, b): (&Part, &Part)| matches!((a, b), (Part::Char(a), Part::Char(b)) if a != b);
    if a.first().zip(b.first()).is_some_and(differ) {
        return false;
    }
    !budget.spend((a.len() + 1) * (b.len() + 1) / 8) || overlaps(a, b)
}

/// Whether some text matches both: the places in `b` that a common text can have reached, place by place in `a`.
fn overlaps(a: &[Part], b: &[Part]) -> bool {
    let mut reached = vec![false; b.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    skip_stars(&mut reached, b);
    for part in a {
        let mut next = vec![false; b.len() + 1];
        let mut before = false;
        for (place, slot) in next.iter_mut().enumerate() {
            let here = reached.get(place).copied().unwrap_or_default();
            // From the place before by one character that both take, or staying at a `*` of `b`.
            let came = place.checked_sub(1).and_then(|last| b.get(last));
            let meets = |part: &Part, other: &Part| *part == Part::Any || *other == Part::Any || part == other;
            *slot = match part {
                Part::Many => here || before,
                part => {
                    let stayed = here && b.get(place) == Some(&Part::Many);
                    let moved = place.checked_sub(1).and_then(|last| reached.get(last)).copied();
                    let met = came.is_some_and(|came| *came != Part::Many && meets(part, came));
                    stayed || (met && moved == Some(true))
                }
            };
            before = *slot;
        }
        reached = next;
        skip_stars(&mut reached, b);
    }
    reached.last().copied().unwrap_or_default()
}

/// A `*` may stand for nothing.
fn skip_stars(reached: &mut [bool], pattern: &[Part]) {
    for (place, part) in pattern.iter().enumerate() {
        let here = reached.get(place).copied().unwrap_or_default();
        if let Some(next) = reached.get_mut(place + 1).filter(|_| here && *part == Part::Many) {
            *next = true;
        }
    }
}

/// The places in the covering pattern that a text can have reached: the last `*` among them, and later places in
/// order. Places before that `*` are left out, since whatever can be matched from them can be matched from it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reached {
    star: Option<usize>,
    places: Vec<usize>,
}

impl Reached {
    /// The places after one more character: `Some(c)`, or one that occurs in no pattern.
    fn step(&self, pattern: &[Part], c: Option<char>) -> Self {
        let mut places = Vec::with_capacity(self.places.len() + 1);
        for place in &self.places {
            let takes = match pattern.get(*place) {
                Some(Part::Char(expected)) => c == Some(*expected),
                Some(Part::Any) => true,
                Some(Part::Many) | None => false,
            };
            if takes {
                places.push(place + 1);
            }
        }
        Self::from_places(pattern, self.star, &places)
    }

    /// Adds what follows a `*`, and keeps what is behind the last `*` only.
    fn from_places(pattern: &[Part], star: Option<usize>, places: &[usize]) -> Self {
        let newest = places.iter().rev().find(|place| pattern.get(**place) == Some(&Part::Many));
        let star = newest.copied().or(star);
        let mut kept: Vec<usize> = star.map(|star| star + 1).into_iter().collect();
        let from = star.map_or(0, |star| star + 2);
        kept.extend(places.iter().copied().filter(|place| *place >= from));
        Self { star, places: kept }
    }

    fn accepts(&self, pattern: &[Part]) -> bool {
        self.places.last() == Some(&pattern.len())
    }

    /// Whether everything matched from here is matched from `other` too.
    fn is_within(&self, other: &Self) -> bool {
        if self.star != other.star {
            return self.star < other.star;
        }
        let mut others = other.places.iter();
        self.places.iter().all(|place| others.any(|other| other == place))
    }
}

/// Follows `other` and tracks how far `pattern` can have come. It is enough to let the wildcards of `other` stand for
/// a character that occurs in no pattern: any other character lets `pattern` come at least as far.
fn covers(pattern: &[Part], other: &[Part], budget: &mut Budget) -> bool {
    // Most pairs differ in their first characters, and then nothing has to be set up.
    if let (Some(Part::Char(a)), Some(Part::Char(b))) = (pattern.first(), other.first())
        && a != b
    {
        return false;
    }
    // The ways to have come to the current place of `other`; only the worst ones.
    let mut ways = vec![Reached::from_places(pattern, None, &[0])];
    for part in other {
        let mut next: Vec<Reached> = Vec::new();
        let mut seen = HashSet::new();
        for way in ways {
            let mut way = match part {
                Part::Char(c) => way.step(pattern, Some(*c)),
                Part::Any => way.step(pattern, None),
                Part::Many => way,
            };
            // A `*` of `other` may stand for any number of characters; at the latest after as many as `pattern` has
            // parts nothing changes any more.
            while seen.insert(way.clone()) {
                if way.places.is_empty() || !budget.spend(way.places.len() + next.len() + 1) {
                    return false;
                }
                if !next.iter().any(|known| known.is_within(&way)) {
                    next.retain(|known| !way.is_within(known));
                    next.push(way.clone());
                }
                if *part != Part::Many {
                    break;
                }
                way = way.step(pattern, None);
            }
        }
        ways = next;
    }
    ways.iter().all(|way| way.accepts(pattern))
}
