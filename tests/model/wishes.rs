//! Random specs, the roles that converged on them, and who holds what of a role.

use super::{Aws, arn, asked, carry, intend, want};
use iamrole_operator::policy::{Clause, Document, Effect, Limits};
use iamrole_operator::role::{Action, Desired, Plan, Record, plan};
use proptest::bool::weighted;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A role as a spec describes it; documents are sets of statements of a small pool, so that they often share some.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Whom it lets in, with which external id, and whether it keeps them out instead.
    pub trust: Vec<(BTreeSet<u8>, u8, bool)>,
    pub inline: BTreeMap<u8, BTreeSet<u8>>,
    pub own: BTreeMap<u8, BTreeSet<u8>>,
    pub managed: BTreeSet<u8>,
    pub boundary: Option<u8>,
    pub profile: Option<u8>,
    pub tags: BTreeMap<String, String>,
    pub description: Option<String>,
    pub keep: bool,
}

pub const PRINCIPALS: [&str; 4] = ["111111111111", "222222222222", "333333333333", "444444444444"];
/// The last of them deny.
pub const STATEMENTS: u8 = 8;
pub const DENIALS: u8 = 6;

pub fn trust(statements: &[(BTreeSet<u8>, u8, bool)]) -> Value {
    let statements = statements.iter().map(|(who, id, denies)| {
        let who: Vec<&str> = who.iter().map(|i| PRINCIPALS[usize::from(*i)]).collect();
        let effect = if *denies { "Deny" } else { "Allow" };
        let mut statement = json!({ "Effect": effect, "Action": "sts:AssumeRole", "Principal": { "AWS": who } });
        if *id > 0 {
            statement["Condition"] = json!({ "StringEquals": { "sts:ExternalId": format!("id-{id}") } });
        }
        statement
    });
    json!({ "Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>() })
}

pub fn document(statements: &BTreeSet<u8>) -> Value {
    let statements = statements.iter().map(|i| {
        let effect = if *i < DENIALS { "Allow" } else { "Deny" };
        json!({ "Effect": effect, "Action": format!("s3:Action{i}"), "Resource": "*" })
    });
    json!({ "Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>() })
}

impl Wish {
    pub fn spec(&self) -> Value {
        let inline = self
            .inline
            .iter()
            .map(|(name, statements)| json!({ "name": format!("inline{name}"), "document": document(statements) }));
        let own = self.own.iter().map(|(name, statements)| {
            json!({ "name": format!("own{name}"), "policyName": format!("own{name}"), "document": document(statements) })
        });
        let mut spec = json!({
            "roleName": "role", "trustPolicy": trust(&self.trust), "tags": self.tags,
            "managedPolicies": self.managed.iter().map(|i| format!("Managed{i}")).collect::<Vec<_>>(),
            "inlinePolicies": inline.collect::<Vec<_>>(), "customerManagedPolicies": own.collect::<Vec<_>>(),
            "whenUnlisted": if self.keep { "Keep" } else { "Remove" },
        });
        if let Some(i) = self.boundary {
            spec["permissionsBoundary"] = arn(&format!("boundary{i}")).into();
        }
        if let Some(i) = self.profile {
            spec["instanceProfile"] = json!({ "name": format!("profile{i}") });
        }
        if let Some(text) = &self.description {
            spec["description"] = text.as_str().into();
        }
        spec
    }
}

pub fn wish() -> impl Strategy<Value = Wish> {
    let statements = || btree_set(0..STATEMENTS, 1..4);
    let documents = || btree_map(0u8..4, statements(), 0..4);
    let tags = btree_map("[ab]|[AB]", "[xy]", 0..2);
    let trust = vec((btree_set(0u8..4, 1..3), 0u8..3, weighted(0.2)), 1..4);
    (
        trust,
        documents(),
        documents(),
        btree_set(0u8..4, 0..4),
        proptest::option::of(0u8..2),
        proptest::option::of(0u8..2),
        tags,
        any::<(bool, bool)>(),
    )
        .prop_map(|(trust, inline, own, managed, boundary, profile, tags, (described, keep))| Wish {
            trust,
            inline,
            own,
            managed,
            boundary,
            profile,
            tags,
            description: described.then(|| "words".to_owned()),
            keep,
        })
}

/// What strangers have put beside it.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Strangers {
    pub inline: bool,
    pub attached: bool,
    pub taken: bool,
    pub keeps_case: bool,
}

pub fn strangers() -> impl Strategy<Value = Strangers> {
    any::<(bool, bool, bool, bool)>().prop_map(|(inline, attached, taken, keeps_case)| Strangers {
        inline,
        attached,
        taken: taken && inline,
        keeps_case,
    })
}

/// A role that converged on `old`, with its record.
pub fn settled(old: &Desired, strangers: &Strangers, aws: Aws) -> (Aws, Record) {
    let mut aws = Aws { keeps_case: strangers.keeps_case, ..aws };
    for i in 0..3 {
        let held = super::Held::new(&old.trust);
        aws.policies.insert(arn(&format!("boundary{i}")), super::Policy { held, tags: BTreeMap::new() });
    }
    let mut record = Record::default();
    let plan = plan::create(old);
    assert!(super::is_ordered(&plan));
    intend(&mut record, old, &plan, &aws);
    assert_eq!(carry(&mut aws, &plan, old, &mut record, |_| false, |_, _| {}), 0, "{plan:?}");
    record.settle(old, None);
    if strangers.inline {
        let held = super::Held::new(&want(&one_inline("stranger"), Limits::default()).inline["stranger"]);
        aws.role_mut().inline.insert("stranger".into(), held);
    }
    if strangers.attached {
        aws.role_mut().managed.insert("arn:aws:iam::aws:policy/Stranger".into());
    }
    aws.role_mut().tags.insert("foreign".into(), "tag".into());
    (aws, record)
}

pub fn one_inline(name: &str) -> Value {
    let statements = BTreeSet::from([0, 1]);
    json!({ "trustPolicy": trust(&[(BTreeSet::from([0]), 0, false)]),
        "inlinePolicies": [{ "name": name, "document": document(&statements) }] })
}

/// A spec with one inline policy, made longer by so many characters.
pub fn padded(name: &str, more: usize) -> Value {
    let mut spec = one_inline(name);
    spec["inlinePolicies"][0]["document"]["Statement"][0]["Resource"] =
        format!("arn:aws:s3:::{}", "x".repeat(more)).into();
    spec
}

/// An own policy of the new spec that exists and is somebody else's.
pub fn take_name(aws: &mut Aws, new: &Desired) {
    for policy in new.own.iter().take(1) {
        let held = super::Held::new(&policy.document);
        aws.policies.entry(policy.arn.clone()).or_insert(super::Policy { held, tags: BTreeMap::new() });
    }
}

pub fn make_plan(aws: &Aws, desired: &Desired, record: &Record) -> Plan {
    let observed = aws.observe(&asked(desired, record)).unwrap();
    let plan = plan::update(desired, &observed, record, aws.quota, false);
    let again = plan::update(desired, &observed, record, aws.quota, false);
    assert_eq!(format!("{plan:?}"), format!("{again:?}"), "deterministic");
    assert!(super::is_ordered(&plan));
    plan
}

/// Plans and carries out until nothing is left to do.
pub fn converge(aws: &mut Aws, desired: &Desired, record: &mut Record, mut seen: impl FnMut(&Aws, &Action)) -> usize {
    for round in 0..8 {
        let plan = make_plan(aws, desired, record);
        let refused = !plan.refused.is_empty();
        intend(record, desired, &plan, aws);
        let left = carry(aws, &plan, desired, record, |_| false, &mut seen);
        if left == 0 && !plan.unfinished {
            record.settle(desired, aws.observe(&asked(desired, record)).as_ref());
        }
        if plan.steps.is_empty() || refused {
            return round;
        }
    }
    panic!("no end: {:?}", make_plan(aws, desired, record));
}

/// Somebody with an external id or none; or an instance profile, whose instances hold the role.
pub type Caller = (u8, u8);
pub const PROFILES: u8 = 100;

/// Who may assume the role.
pub fn callers(trust: &Document) -> BTreeSet<Caller> {
    let all = (0..4).flat_map(|who| (0..3).map(move |id| (who, id)));
    let matches = |statement: &iamrole_operator::policy::Statement, (who, id): Caller| {
        let listed = statement.principal.as_ref().unwrap().entries.iter().flat_map(|(_, values)| values);
        let who = PRINCIPALS[usize::from(who)];
        let who = listed.into_iter().any(|value| value == "*" || value.contains(who));
        who && statement.condition.iter().all(|condition| condition.values.contains(&format!("id-{id}")))
    };
    let any = |effect, caller| trust.statements().iter().any(|s| s.effect == effect && matches(s, caller));
    all.filter(|caller| any(Effect::Allow, *caller) && !any(Effect::Deny, *caller)).collect()
}

/// Who may assume the role, or has it through an instance profile.
pub fn holders(aws: &Aws) -> BTreeSet<Caller> {
    let held = aws.profiles.iter().filter(|(_, profile)| profile.roles.contains(super::ROLE));
    let number = |name: &String| name.trim_start_matches("profile").parse::<u8>().unwrap();
    callers(&aws.role().trust).into_iter().chain(held.map(|(name, _)| (PROFILES + number(name), 0))).collect()
}

/// A statement, or the ARN of an attached policy whose text nobody knows.
pub type Permission = Result<Clause, String>;

/// What an attached policy gives.
pub fn of_attached(aws: &Aws, arn: &String) -> BTreeSet<Permission> {
    let unread = || BTreeSet::from([Err(arn.clone())]);
    aws.policies.get(arn).map_or_else(unread, |policy| policy.held.document.clauses().into_iter().map(Ok).collect())
}

/// What the role may do.
pub fn permissions(aws: &Aws) -> BTreeSet<Permission> {
    let role = aws.role();
    let attached = role.managed.iter().flat_map(|arn| of_attached(aws, arn));
    attached.chain(role.inline.values().flat_map(|held| held.document.clauses()).map(Ok)).collect()
}
