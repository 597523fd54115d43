//! What a document may allow, for guard rails. Every answer is on the safe side: where it is not certain that
//! something is left out, it counts as allowed.

use super::canonical::AccountRef;
use super::document::{Document, Effect, PrincipalType, Statement};
use super::leaf;
use super::pattern::Pattern;

/// Something that a document allows: a pattern of actions, or a principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Its place, from the path that the caller gave.
    pub path: String,
    /// The pattern or the principal. For `NotAction` `everything but …` with the patterns, for principals the type,
    /// a colon and the value.
    pub text: String,
}

impl Document {
    /// The allowed actions that are not within one of `patterns`, which ignore case. `NotAction` allows actions
    /// nobody listed, so it is within `*` only.
    #[must_use]
    pub fn actions_beyond(&self, patterns: &[Pattern]) -> Vec<Grant> {
        let all = Pattern::new("*");
        let is_within = |action: &Pattern| {
            patterns
                .iter()
                .any(|pattern| pattern.covers_ignore_case(action))
        };
        let mut grants = Vec::new();
        for statement in self.allowing() {
            if statement.action.negated {
                grants.extend((!is_within(&all)).then(|| everything_but(statement)));
            } else {
                grants.extend(
                    actions(statement)
                        .filter(|(_, action)| !is_within(action))
                        .map(|(grant, _)| grant),
                );
            }
        }
        grants
    }

    /// The allowed actions that may include one of `patterns`, which ignore case: `s3:*` and `*Object` do include
    /// some of `s3:Put*`. `NotAction` includes every pattern that is not within one of its own.
    #[must_use]
    pub fn actions_among(&self, patterns: &[Pattern]) -> Vec<Grant> {
        let mut grants = Vec::new();
        for statement in self.allowing() {
            if statement.action.negated {
                let left_out: Vec<Pattern> = statement
                    .action
                    .values
                    .iter()
                    .map(|text| Pattern::new(text))
                    .collect();
                let is_out =
                    |pattern: &Pattern| left_out.iter().any(|out| out.covers_ignore_case(pattern));
                grants.extend((!patterns.iter().all(is_out)).then(|| everything_but(statement)));
            } else {
                let is_among = |action: &Pattern| {
                    patterns
                        .iter()
                        .any(|pattern| pattern.overlaps_ignore_case(action))
                };
                grants.extend(
                    actions(statement)
                        .filter(|(_, action)| is_among(action))
                        .map(|(grant, _)| grant),
                );
            }
        }
        grants
    }

    /// The principals that a trust policy allows, as `AWS:123456789012`, `AWS:arn:aws:iam::…:role/x`, `AWS:*`,
    /// `Service:ec2.amazonaws.com`, `Federated:arn:…`. An account is its id, never the ARN of its root user.
    #[must_use]
    pub fn trusted(&self, account: &AccountRef) -> Vec<Grant> {
        let mut grants = Vec::new();
        for statement in self.allowing() {
            for (kind, values) in statement
                .principal
                .iter()
                .flat_map(|principal| &principal.entries)
            {
                for value in values {
                    let value = match kind {
                        PrincipalType::Aws => leaf::aws_principal(value, account),
                        _ => value.clone(),
                    };
                    grants.push(Grant {
                        path: format!("{}.Principal.{}", statement.path, kind.as_str()),
                        text: format!("{}:{value}", kind.as_str()),
                    });
                }
            }
        }
        grants
    }

    fn allowing(&self) -> impl Iterator<Item = &Statement> {
        self.statements
            .iter()
            .filter(|statement| statement.effect == Effect::Allow)
    }
}

fn actions(statement: &Statement) -> impl Iterator<Item = (Grant, Pattern)> {
    statement.action.values.iter().map(|text| {
        let grant = Grant {
            path: format!("{}.Action", statement.path),
            text: text.clone(),
        };
        (grant, Pattern::new(text))
    })
}

fn everything_but(statement: &Statement) -> Grant {
    Grant {
        path: format!("{}.NotAction", statement.path),
        text: format!("everything but {}", statement.action.values.join(", ")),
    }
}
