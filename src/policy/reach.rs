//! On which resources a document may allow something, for guard rails. As in [`grants`](super::grants), every answer is
//! on the safe side: what is not certainly left out counts as allowed.
//!
//! Resources are compared with their case, and `*` stands for any text, colons and slashes included. A policy variable
//! such as `${aws:username}` may stand for any text; so one in `NotResource` leaves nothing out for certain. Under
//! version `2008-10-17` there are no variables, and the text is meant as it is.

use super::document::{Document, Terms, Version};
use super::grants::{Grant, everything_but, place};
use super::pattern::{Budget, Pattern, without_variables};

impl Document {
    /// The resources of `Allow` statements that are not within one of `patterns`. `NotResource` allows on resources
    /// nobody listed, so it is within `*` only.
    #[must_use]
    pub fn resources_beyond(&self, patterns: &[Pattern]) -> Vec<Grant> {
        let mut budget = Budget::default();
        let mut is_within =
            |wanted: &Pattern| patterns.iter().any(|pattern| pattern.covers_case_within(wanted, &mut budget));
        let all = is_within(&Pattern::new("*"));
        self.resources(|listed| !is_within(listed), |_| !all)
    }

    /// The resources of `Allow` statements that may include one of `patterns`: `arn:aws:s3:::*` and `*/key` do include
    /// some of `arn:aws:s3:::bucket/*`. `NotResource` includes every pattern that is not within one of its own; where
    /// only several of them together leave a pattern out, it counts as included.
    #[must_use]
    pub fn resources_among(&self, patterns: &[Pattern]) -> Vec<Grant> {
        let budget = std::cell::RefCell::new(Budget::default());
        let is_among = |listed: &Pattern| {
            patterns.iter().any(|pattern| pattern.overlaps_case_within(listed, &mut budget.borrow_mut()))
        };
        let is_among_rest = |out: &[Pattern]| {
            let is_out = |pattern| out.iter().any(|out| out.covers_case_within(pattern, &mut budget.borrow_mut()));
            !patterns.iter().all(is_out)
        };
        self.resources(is_among, is_among_rest)
    }

    /// The resources that `listed` picks, and the `NotResource`s that `rest` picks by what they leave out for certain.
    fn resources(
        &self,
        mut listed: impl FnMut(&Pattern) -> bool,
        mut rest: impl FnMut(&[Pattern]) -> bool,
    ) -> Vec<Grant> {
        let mut grants = Vec::new();
        let has_variables = |text: &str| self.version() == Version::V2012 && text.contains("${");
        for statement in self.allowing() {
            let Some(Terms { negated, values }) = &statement.resource else { continue };
            if *negated {
                let out = values.iter().filter(|text| !has_variables(text));
                if rest(&out.map(|text| Pattern::new(text)).collect::<Vec<_>>()) {
                    let path = format!("{}.NotResource", statement.path);
                    grants.push(Grant { path, text: everything_but(values) });
                }
                continue;
            }
            for (index, text) in values.iter().enumerate() {
                let widest =
                    if has_variables(text) { Pattern::new(&without_variables(text)) } else { Pattern::new(text) };
                if listed(&widest) {
                    grants.push(Grant { path: place(statement, "Resource", index, values.len()), text: text.clone() });
                }
            }
        }
        grants
    }
}
