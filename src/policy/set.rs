//! Sets of texts that are made once and compared.

/// A set as a sorted list, which takes one allocation where a tree takes many; a single text, the most common set of
/// all, takes none.
#[derive(Clone, Eq, PartialOrd, Ord, Hash)]
#[allow(
    clippy::derived_hash_with_manual_eq,
    reason = "equal as a derived one would have it, but for the time it takes"
)]
pub(super) enum Set {
    One(String),
    /// None, or at least two.
    Several(Vec<String>),
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        // Some `memcmp`s take far longer for the dangling pointers of empty texts as for short ones.
        let same = |(a, b): (&String, &String)| a.len() == b.len() && (a.is_empty() || a == b);
        self.len() == other.len() && self.iter().zip(other).all(same)
    }
}

impl Default for Set {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Set {
    pub(super) fn of(value: String) -> Self {
        Self::One(value)
    }

    fn of_sorted(mut values: Vec<String>) -> Self {
        match values.pop() {
            Some(only) if values.is_empty() => Self::One(only),
            last => {
                values.extend(last);
                Self::Several(values)
            }
        }
    }

    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub(super) fn contains(&self, value: &str) -> bool {
        self.as_slice().binary_search_by(|known| known.as_str().cmp(value)).is_ok()
    }

    pub(super) fn is_subset(&self, other: &Self) -> bool {
        self.len() <= other.len() && self.iter().all(|value| other.contains(value))
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, String> {
        self.as_slice().iter()
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        self.iter().chain(other).cloned().collect()
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        Self::of_sorted(self.iter().filter(|value| other.contains(value)).cloned().collect())
    }
}

impl FromIterator<String> for Set {
    fn from_iter<I: IntoIterator<Item = String>>(values: I) -> Self {
        let mut values: Vec<String> = values.into_iter().collect();
        if values.len() > 32 {
            let mut keyed: Vec<(u64, String)> = values.into_iter().map(|value| (prefix(&value), value)).collect();
            keyed.sort_unstable();
            values = keyed.into_iter().map(|(_, value)| value).collect();
        } else {
            values.sort_unstable();
        }
        values.dedup();
        Self::of_sorted(values)
    }
}

/// The first eight bytes as a number that is ordered like the texts: comparing it first spares looking most texts up.
pub(super) fn prefix(text: &str) -> u64 {
    let mut first = [0; 8];
    first.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
    u64::from_be_bytes(first)
}

impl<'s> IntoIterator for &'s Set {
    type Item = &'s String;
    type IntoIter = std::slice::Iter<'s, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_sorted_like_short_ones() {
        let texts = |count: u32| {
            let text = |n: u32| match n % 4 {
                0 => "\0".repeat((n % 13) as usize),
                1 => format!("{n}"),
                2 => format!("arn:aws:s3:::{n}é"),
                _ => format!("a{}", "\0".repeat((n % 11) as usize)),
            };
            (0..count).rev().map(text).collect::<Vec<String>>()
        };
        for count in [0, 1, 2, 20, 33, 500] {
            let set: Set = texts(count).into_iter().collect();
            let expected: std::collections::BTreeSet<String> = texts(count).into_iter().collect();
            assert!(set.iter().eq(&expected), "{count}");
            assert!(expected.iter().all(|text| set.contains(text)));
            let half: Set = texts(count / 2).into_iter().collect();
            assert!(half.is_subset(&set) && set.union(&half) == set && set.intersection(&half) == half);
            assert_eq!(set.is_subset(&half), set == half);
        }
    }
}
