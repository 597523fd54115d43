//! Sets of texts that are made once and compared.

/// A set as a sorted list, which takes one allocation where a tree takes many.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Set(Vec<String>);

impl Set {
    pub(super) fn of(value: String) -> Self {
        Self(vec![value])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, value: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(value)).is_ok()
    }

    pub(super) fn is_subset(&self, other: &Self) -> bool {
        self.0.len() <= other.0.len() && self.0.iter().all(|value| other.contains(value))
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, String> {
        self.0.iter()
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        self.iter().chain(other).cloned().collect()
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        Self(self.iter().filter(|value| other.contains(value)).cloned().collect())
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
        Self(values)
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
        for count in [0, 1, 20, 33, 500] {
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
