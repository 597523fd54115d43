//! What IAM takes but is probably a mistake, and what is close to a limit. Never a refusal.

use super::desired::Desired;
use crate::policy::{Limits, Usage};
use std::collections::BTreeMap;

/// So many pieces of advice are given at most; the last one then says how many more there are.
const TOLD: usize = 10;
/// So many policies are named at most.
const NAMED: usize = 5;

/// Advice on a spec, most often none; each names the field and is told by itself, so none is long. Sizes come first:
/// they say what will be refused soon.
#[must_use]
pub fn advice(desired: &Desired, limits: &Limits) -> Vec<String> {
    let documents = std::iter::once(&desired.trust)
        .chain(desired.inline.values())
        .chain(desired.own.iter().map(|policy| &policy.document));
    let lint = documents.flat_map(|document| document.lint(&desired.account)).map(|finding| finding.to_string());
    let mut all: Vec<String> = near(desired, limits).chain(lint).collect();
    if all.len() > TOLD {
        let more = all.split_off(TOLD - 1).len();
        all.push(format!(
            "and {more} more findings of the kinds in docs/policies.md; end those that were told to see them"
        ));
    }
    all
}

/// What is close to a quota.
fn near(desired: &Desired, limits: &Limits) -> impl Iterator<Item = String> {
    let inline = desired.inline.iter().map(|(name, document)| (name.as_str(), document.size()));
    let mut sizes = vec![
        ("the trust policy".to_owned(), limits.of_trust(&desired.trust)),
        ("the inline policies together".to_owned(), limits.of_inline(inline)),
    ];
    sizes.extend(
        desired
            .own
            .iter()
            .map(|policy| (format!("customer-managed policy {:?}", policy.entry), limits.of_managed(&policy.document))),
    );
    sizes.into_iter().filter(|(_, usage)| usage.is_near()).map(|(what, usage)| {
        let Usage { used, limit, .. } = usage;
        format!("{what}: {used} of the {limit} characters that IAM takes are used. {usage}, before it grows")
    })
}

/// What is close to the quota of inline policies because of those that stay on the role though nobody listed them, given by
/// name and size.
#[must_use]
pub fn kept_advice(desired: &Desired, limits: &Limits, kept: &BTreeMap<String, usize>) -> Option<String> {
    let listed = desired.inline.iter().map(|(name, document)| (name.as_str(), document.size()));
    let usage = limits.of_inline(listed.chain(kept.iter().map(|(name, size)| (name.as_str(), *size))));
    let Usage { used, limit, .. } = usage;
    let (theirs, count) = (kept.values().sum::<usize>(), kept.len());
    let mut biggest: Vec<(&String, &usize)> = kept.iter().collect();
    biggest.sort_by_key(|(name, size)| (std::cmp::Reverse(**size), *name));
    let named: Vec<&str> = biggest.into_iter().take(NAMED).map(|(name, _)| name.as_str()).collect();
    let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
    let or = if desired.inline.is_empty() { "" } else { ", or make the biggest of the spec a customer managed policy" };
    (usage.is_near() && count > 0).then(|| {
        format!(
            "the inline policies of the role: {used} of the {limit} characters that IAM takes are used, {theirs} of them by \
             policies that the spec does not list: {}{more}. Remove in AWS what nobody needs{or}, before it grows",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{advice, kept_advice};
    use crate::policy::Limits;
    use crate::role::desired::tests::make;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    /// What is told of a role with so many statements that allow everything, and a policy near its quota.
    fn told(findings: usize) -> Vec<String> {
        let wide = |i: usize| json!({ "Sid": format!("S{i}"), "Effect": "Allow", "Action": "*", "Resource": "*" });
        let document = |statements: Vec<Value>| json!({ "Version": "2012-10-17", "Statement": statements });
        let long =
            json!({ "Effect": "Allow", "Action": "s3:Get", "Resource": format!("arn:aws:s3:::{}", "x".repeat(5500)) });
        let desired = make(json!({
            "inlinePolicies": [{ "name": "n".repeat(128), "document": document((0..findings).map(wide).collect()) }],
            "customerManagedPolicies": [{ "name": "big", "document": document(vec![long]) }],
        }));
        advice(&desired.unwrap(), &Limits::default())
    }

    #[test]
    fn what_stays_on_the_role_counts_and_is_named() {
        let document = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "s3:Get", "Resource": format!("arn:aws:s3:::{}", "x".repeat(3000)) }] });
        let desired = make(json!({ "inlinePolicies": [{ "name": "small", "document": document }] })).unwrap();
        let told = |kept: usize| {
            let kept = [("theirs".to_owned(), kept), ("other".to_owned(), 10)].into();
            kept_advice(&desired, &Limits::default(), &kept)
        };
        let listed = desired.inline["small"].size();
        assert_eq!(told(8191 - 10 - listed), None);
        let near = told(8192 - 10 - listed).unwrap();
        assert!(near.starts_with("the inline policies of the role: 8192 of the 10240"), "{near}");
        assert!(near.contains(&format!("{} of them", 8192 - listed)) && near.contains("theirs, other."), "{near}");
        let many = (0..6).map(|i| (format!("a{i}"), 10)).chain([("zz".to_owned(), 8200)]).collect();
        let none = make(json!({})).unwrap();
        let told = kept_advice(&none, &Limits::default(), &many).unwrap();
        assert!(
            told.contains("list: zz, a0, a1, a2, a3 and 2 more. Remove in AWS what nobody needs, before"),
            "{told}"
        );
        assert_eq!(kept_advice(&desired, &Limits { inline_total: 10, ..Limits::default() }, &BTreeMap::new()), None);
    }

    #[test]
    fn each_finding_is_told_by_itself_and_sizes_first() {
        let all = told(8);
        assert_eq!(all.len(), 9);
        assert!(all[0].contains("\"big\"") && all[0].contains("of the 6144 characters"), "{}", all[0]);
        for (i, note) in all[1..].iter().enumerate() {
            assert!(note.contains(&format!("Statement[{i}]")) && note.ends_with("(EverythingAllowed)"), "{note}");
        }
        assert!(all.iter().all(|note| note.len() < 1024), "an event holds no more");
    }

    #[test]
    fn many_findings_are_counted() {
        assert_eq!(told(9).len(), 10);
        assert!(told(9)[9].contains("Statement[8]"));
        let all = told(30);
        assert_eq!(all.len(), 10);
        assert!(all[0].contains("\"big\"") && all[9].starts_with("and 22 more"), "{}", all[9]);
    }
}
