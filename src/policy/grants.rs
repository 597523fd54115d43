//! What a document may allow, for guard rails. Every answer is on the safe side: where it is not certain that
//! something is left out, it counts as allowed; also where comparing all patterns would take too long.

use super::arn::Arn;
use super::canonical::AccountRef;
use super::document::{Document, Effect, PrincipalType, Statement};
use super::finding::{Finding, quote};
use super::leaf;
use super::pattern::{Budget, Pattern};
use std::cell::RefCell;

/// Something that a document allows: a pattern of actions or resources, or a principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Its place, from the path that the caller gave.
    pub path: String,
    /// The pattern or the principal. For `NotAction` and `NotResource` `everything but …` with the first patterns, for
    /// principals the type, a colon and the value.
    pub text: String,
}

impl Document {
    /// The allowed actions that are not within one of `patterns`, which ignore case. `NotAction` allows actions
    /// nobody listed, so it is within `*` only.
    #[must_use]
    pub fn actions_beyond(&self, patterns: &[Pattern]) -> Vec<Grant> {
        let patterns: Vec<Action> = patterns.iter().map(|pattern| Action::new(pattern.as_str())).collect();
        let budget = RefCell::new(Budget::default());
        let is_within =
            |action: &Action| patterns.iter().any(|pattern| pattern.covers(action, &mut budget.borrow_mut()));
        let all = is_within(&Action::new("*"));
        self.actions(|action| !is_within(action), |_| !all)
    }

    /// The allowed actions that may include one of `patterns`, which ignore case: `s3:*` and `s3:*Object` do include
    /// some of `s3:Put*`. `NotAction` includes every pattern that is not within one of its own.
    #[must_use]
    pub fn actions_among(&self, patterns: &[Pattern]) -> Vec<Grant> {
        let patterns: Vec<Action> = patterns.iter().map(|pattern| Action::new(pattern.as_str())).collect();
        let budget = RefCell::new(Budget::default());
        let is_among =
            |action: &Action| patterns.iter().any(|pattern| pattern.overlaps(action, &mut budget.borrow_mut()));
        let leaves_out = |out: &[Action], pattern| {
            let mut budget = budget.borrow_mut();
            out.iter().any(|out| out.covers(pattern, &mut budget))
        };
        let is_among_rest = |out: &[Action]| !patterns.iter().all(|pattern| leaves_out(out, pattern));
        self.actions(is_among, is_among_rest)
    }

    /// The allowed actions that `listed` picks, and the `NotAction`s that `negated` picks.
    fn actions(&self, listed: impl Fn(&Action) -> bool, negated: impl Fn(&[Action]) -> bool) -> Vec<Grant> {
        let mut grants = Vec::new();
        for statement in self.allowing() {
            let values = &statement.action.values;
            let patterns: Vec<Action> = values.iter().map(|text| Action::new(text)).collect();
            if statement.action.negated {
                grants.extend(
                    negated(&patterns)
                        .then(|| Grant { path: format!("{}.NotAction", statement.path), text: everything_but(values) }),
                );
                continue;
            }
            let picked = patterns.iter().enumerate().filter(|(_, pattern)| listed(pattern));
            grants.extend(picked.map(|(index, pattern)| Grant {
                path: place(statement, "Action", index, patterns.len()),
                text: pattern.whole.as_str().to_owned(),
            }));
        }
        grants
    }

    /// The principals that a trust policy allows, as `AWS:123456789012`, `AWS:arn:aws:iam::…:role/x`, `AWS:*`,
    /// `Service:ec2.amazonaws.com`, `Federated:arn:…`. An account is its id, never the ARN of its root user in the
    /// partition of `account`.
    #[must_use]
    pub fn trusted(&self, account: &AccountRef) -> Vec<Grant> {
        let mut grants = Vec::new();
        for statement in self.allowing() {
            let principals = statement.principal.iter().flat_map(|who| &who.entries);
            for (kind, values) in principals {
                let key = format!("Principal.{}", kind.as_str());
                grants.extend(values.iter().enumerate().map(|(index, value)| {
                    let value = match kind {
                        PrincipalType::Aws => leaf::aws_principal(value, account),
                        _ => value.clone(),
                    };
                    Grant {
                        path: place(statement, &key, index, values.len()),
                        text: format!("{}:{value}", kind.as_str()),
                    }
                }));
            }
        }
        grants
    }

    /// The principals of a trust policy that are of another partition than `account`, whatever their statement does.
    /// IAM knows no principals of other partitions and answers "Invalid principal in policy", as for one that does not
    /// exist (yet). At most 20 are told.
    #[must_use]
    pub fn beyond_partition(&self, account: &AccountRef) -> Vec<Finding> {
        const LISTED: usize = 20;
        let told = |statement: &Statement, key: &str, index: usize, values: &[String]| {
            let value = values.get(index)?;
            let arn = value.parse::<Arn>().ok().filter(|arn| arn.partition != account.partition)?;
            let message = format!(
                "{} is of partition {}, the account of {}, and IAM knows principals of its own partition only; for one \
                 in this partition write arn:$(partition):…",
                quote(value),
                arn.partition,
                account.partition
            );
            Some(Finding { path: place(statement, key, index, values.len()), message })
        };
        let mut findings = Vec::new();
        for statement in &self.statements {
            if let Some(who) = &statement.principal {
                let key = if who.negated { "NotPrincipal" } else { "Principal" };
                for (kind, values) in &who.entries {
                    let key = format!("{key}.{}", kind.as_str());
                    findings.extend((0..values.len()).filter_map(|index| told(statement, &key, index, values)));
                }
            }
        }
        findings.truncate(LISTED);
        findings
    }

    pub(super) fn allowing(&self) -> impl Iterator<Item = &Statement> {
        let statements = self.statements.iter();
        statements.filter(|statement| statement.effect == Effect::Allow)
    }
}

/// Names the first few patterns of a `NotAction` or `NotResource`.
pub(super) fn everything_but(values: &[String]) -> String {
    const NAMED: usize = 5;
    let named: Vec<&str> = values.iter().take(NAMED).map(String::as_str).collect();
    let more = values.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("everything but {}{more}", named.join(", "))
}

/// A pattern of actions. An action has one colon, so a pattern with one is a pattern of services and one of names:
/// `*:CreateUser` and `s3:Get*` have nothing in common.
struct Action {
    whole: Pattern,
    parts: Option<(Pattern, Pattern)>,
}

impl Action {
    fn new(text: &str) -> Self {
        let parts = if text == "*" { Some(("*", "*")) } else { text.split_once(':') };
        let parts = parts.filter(|(_, name)| !name.contains(':'));
        Self {
            whole: Pattern::new(text),
            parts: parts.map(|(service, name)| (Pattern::new(service), Pattern::new(name))),
        }
    }

    fn covers(&self, other: &Self, budget: &mut Budget) -> bool {
        match (&self.parts, &other.parts) {
            (Some((service, name)), Some((other_service, other_name))) => {
                service.covers_within(other_service, budget) && name.covers_within(other_name, budget)
            }
            _ => self.whole.covers_within(&other.whole, budget),
        }
    }

    fn overlaps(&self, other: &Self, budget: &mut Budget) -> bool {
        match (&self.parts, &other.parts) {
            (Some((service, name)), Some((other_service, other_name))) => {
                service.overlaps_within(other_service, budget) && name.overlaps_within(other_name, budget)
            }
            _ => self.whole.overlaps_within(&other.whole, budget),
        }
    }
}

/// The place of a value: one of several, or the only one.
pub(super) fn place(statement: &Statement, key: &str, index: usize, count: usize) -> String {
    let path = &statement.path;
    if count == 1 { format!("{path}.{key}") } else { format!("{path}.{key}[{index}]") }
}
