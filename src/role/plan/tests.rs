use super::{Phase, Plan, Progress, create, nothing, update};
use crate::api::iamrole::{Origin, PolicyRef, RoleRef};
use crate::policy::Canonical;
use crate::role::desired::tests::{allow, make, trust};
use crate::role::{Desired, Observed, ObservedPolicy, Record};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) fn spec(fields: Value) -> Desired {
    make(fields).unwrap()
}

pub(super) fn inline(policies: &[(&str, &[&str])]) -> Value {
    let policy = |(name, actions): &(&str, &[&str])| json!({ "name": name, "document": document(actions) });
    json!({ "inlinePolicies": policies.iter().map(policy).collect::<Vec<_>>() })
}

/// One statement per action; `!` denies.
pub(super) fn document(actions: &[&str]) -> Value {
    let statement = |action: &&str| {
        let effect = if action.starts_with('!') { "Deny" } else { "Allow" };
        json!({ "Effect": effect, "Action": action.trim_start_matches('!'), "Resource": "*" })
    };
    json!({ "Version": "2012-10-17", "Statement": actions.iter().map(statement).collect::<Vec<_>>() })
}

/// A role that is as `desired`, and its record.
pub(super) fn settled(desired: &Desired) -> (Observed, Record) {
    let mut observed = nothing(desired);
    let account = &desired.account;
    observed.tags = desired.tags.clone();
    observed.tags.extend(desired.role_tags(Origin::Created));
    observed.boundary.clone_from(&desired.boundary);
    observed.managed.clone_from(&desired.managed);
    for policy in &desired.own {
        observed.managed.insert(policy.arn.clone());
        let found = ObservedPolicy {
            id: "ANPA1".into(),
            version: "v1".into(),
            tags: desired.role_tags(Origin::Created),
            document: policy.document.canonical(account),
        };
        observed.own.insert(policy.arn.clone(), found);
    }
    observed.inline =
        desired.inline.iter().map(|(name, document)| (name.clone(), document.canonical(account))).collect();
    let mut record = Record { role: Some(RoleRef::default()), ..Record::default() };
    record.settle(desired, Some(&observed));
    (observed, record)
}

pub(super) fn names(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{:?}: {}", step.phase, step.action.describe("role"))).collect()
}

fn steps(old: &Desired, new: &Desired) -> Vec<String> {
    let (observed, record) = settled(old);
    names(&update(new, &observed, &record, 10, false))
}

/// Which steps still run when the first one that holds `what` fails.
fn without(plan: &Plan, what: &str) -> Vec<String> {
    let mut progress = Progress::of(plan);
    let mut done = Vec::new();
    for (step, name) in plan.steps.iter().zip(names(plan)) {
        if name.contains(what) || progress.holds_up(step) {
            progress.failed(step);
        } else {
            done.push(name);
        }
    }
    done
}

#[test]
fn a_failure_holds_up_what_follows_but_not_what_is_safe() {
    use Phase::{Add, Bound, Create, DeleteOwned, Describe, Exchange, Force, Narrow, Own, Remove, Unbound, Widen};
    let all = [Create, Own, Describe, Narrow, Force, Bound, Add, Exchange, Remove, Widen, Unbound, DeleteOwned];
    let held = |failed: Phase| all.into_iter().filter(move |phase| phase.blocked_by(failed)).collect::<Vec<_>>();
    assert!(held(Describe).is_empty(), "a denied UntagRole stops nothing");
    assert_eq!(held(Own), [Narrow, Force, Bound, Add, Exchange, Remove, Widen, Unbound, DeleteOwned]);
    assert_eq!(
        held(Narrow),
        [Bound, Add, Exchange, Remove, Widen, Unbound, DeleteOwned],
        "what the class forces comes all the same"
    );
    assert_eq!(held(Force), [Bound, Add, Exchange, Remove, Widen, Unbound, DeleteOwned]);
    assert_eq!(held(Bound), [Add, Exchange, Remove, Widen, Unbound, DeleteOwned]);
    assert_eq!(held(Add), [Exchange, Remove, Widen, Unbound, DeleteOwned]);
    assert_eq!(held(Exchange), [Exchange, Remove, Widen, Unbound, DeleteOwned]);
    assert_eq!(held(Remove), [Widen, Unbound]);
    assert_eq!(held(Widen), [Unbound], "what is off the role can be deleted");
    assert!(held(DeleteOwned).is_empty(), "whoever else uses an own policy holds up nothing");
    assert_eq!(held(Create).len(), 11);
}

#[test]
fn a_statement_that_moves_is_written_before_it_goes() {
    let (old, new) = (
        spec(inline(&[("a", &["s3:A", "s3:X"]), ("b", &["s3:B"])])),
        spec(inline(&[("a", &["s3:A"]), ("b", &["s3:B", "s3:X"])])),
    );
    assert_eq!(steps(&old, &new), ["Add: put inline policy b", "Add: put inline policy a"]);
    let (observed, record) = settled(&old);
    assert!(
        without(&update(&new, &observed, &record, 10, false), "policy b").is_empty(),
        "a refused b keeps a as it is"
    );
}

#[test]
fn documents_that_exchange_statements_overlap_for_a_moment() {
    let (old, new) =
        (spec(inline(&[("a", &["s3:A"]), ("b", &["s3:B"])])), spec(inline(&[("a", &["s3:B"]), ("b", &["s3:A"])])));
    let expected = ["Add: put inline policy a", "Add: put inline policy b", "Add: put inline policy a"];
    assert_eq!(steps(&old, &new), expected);
    let (observed, record) = settled(&old);
    let plan = update(&new, &observed, &record, 10, false);
    assert!(without(&plan, "policy a").is_empty());
    assert_eq!(without(&plan, "policy b"), expected[..1]);
}

#[test]
fn a_name_that_is_taken_keeps_what_would_move_there() {
    let own =
        json!({ "customerManagedPolicies": [{ "name": "o", "policyName": "o", "document": document(&["s3:X"]) }] });
    let mut fields = inline(&[("a", &["s3:A"])]);
    fields["customerManagedPolicies"] = own["customerManagedPolicies"].clone();
    let (old, new) = (spec(inline(&[("a", &["s3:X"])])), spec(fields));
    let (mut observed, record) = settled(&old);
    let (found, _) = settled(&spec(own));
    observed.own = found.own;
    observed.own.values_mut().for_each(|policy| policy.tags.clear());
    let plan = update(&new, &observed, &record, 10, false);
    assert_eq!((plan.refused.len(), names(&plan)), (1, vec!["Add: put inline policy a".to_owned()]), "both statements");
    let action = format!("{:?}", plan.steps[0].action);
    observed.inline.insert("a".into(), spec(inline(&[("a", &["s3:A", "s3:X"])])).inline["a"].canonical(&new.account));
    assert!(update(&new, &observed, &record, 10, false).steps.is_empty(), "and then it rests: {action}");
}

#[test]
fn what_strangers_put_there_is_known_also_while_it_cannot_go() {
    let own =
        json!({ "customerManagedPolicies": [{ "name": "o", "policyName": "o", "document": document(&["s3:X"]) }] });
    let (new, old) = (spec(own.clone()), spec(json!({})));
    let (mut observed, record) = settled(&old);
    observed.own = settled(&spec(own)).0.own;
    observed.own.values_mut().for_each(|policy| policy.tags.clear());
    observed.inline.insert("legacy".into(), spec(inline(&[("a", &["s3:X"])])).inline["a"].canonical(&new.account));
    let plan = update(&new, &observed, &record, 10, false);
    assert_eq!((names(&plan), plan.strangers.len()), (Vec::new(), 1), "only the refused policy could take its place");
}

#[test]
fn a_denial_comes_before_what_it_guards_and_goes_after() {
    let guarded = spec(inline(&[("a", &["s3:*"]), ("z", &["!s3:Delete*"])]));
    let plan = create(&guarded);
    assert_eq!(names(&plan)[1..], ["Add: put inline policy z", "Add: put inline policy a"]);
    assert_eq!(without(&plan, "policy z").len(), 1, "no guard, no power");
    let none = spec(json!({}));
    let guarded = spec(inline(&[("a", &["!s3:Delete*"]), ("z", &["s3:*"])]));
    assert_eq!(steps(&guarded, &none), ["Remove: delete inline policy z", "Remove: delete inline policy a"]);
}

#[test]
fn an_attached_policy_that_nobody_read_comes_before_what_it_may_deny_and_goes_after() {
    let mut fields = inline(&[("all", &["s3:*"]), ("z", &["!s3:Delete*"])]);
    fields["managedPolicies"] = json!(["DenyProd"]);
    fields["customerManagedPolicies"] = json!([{ "name": "o", "policyName": "o", "document": allow("sqs:*") }]);
    let (none, full) = (spec(json!({})), spec(fields));
    let short = |plan: &Plan| -> Vec<String> {
        let names = names(plan).into_iter();
        names.map(|name| format!("{} {}", &name[..3], name.rsplit(['/', ' ']).next().unwrap())).collect()
    };
    let (observed, record) = settled(&none);
    let comes = update(&full, &observed, &record, 10, false);
    assert_eq!(short(&comes), ["Add o", "Add z", "Add DenyProd", "Add o", "Add all"]);
    let (mut observed, record) = settled(&full);
    let goes = update(&none, &observed, &record, 10, false);
    assert_eq!(short(&goes), ["Rem o", "Rem all", "Rem DenyProd", "Rem z", "Del o"]);
    observed.managed.insert("arn:aws:iam::aws:policy/Theirs".into());
    let goes = update(&none, &observed, &record, 10, false);
    assert_eq!(
        short(&goes),
        ["Rem o", "Rem Theirs", "Rem all", "Rem DenyProd", "Rem z", "Del o"],
        "theirs waits for nothing"
    );
}

#[test]
fn a_role_that_names_itself_is_created_closed_and_opened_last() {
    let mut fields = inline(&[("a", &["s3:A"])]);
    let Desired { account, path, name, .. } = spec(fields.clone());
    let own = format!("arn:aws:iam::{}:role{path}{name}", account.id);
    fields["trustPolicy"] = trust(&json!({ "AWS": [account.id, own] }));
    let desired = spec(fields);
    let plan = create(&desired);
    let order = ["Create: create role role", "Add: put inline policy a", "Widen: update trust policy"];
    assert_eq!(names(&plan), order);
    let super::Action::CreateRole { trust, .. } = &plan.steps[0].action else { panic!("{plan:?}") };
    assert!(!trust.to_json().contains("Allow") && !trust.to_json().contains(&own));
}

#[test]
fn an_old_document_is_not_attached() {
    let own = |action| {
        spec(json!({ "customerManagedPolicies": [{ "name": "o", "policyName": "o", "document": allow(action) }] }))
    };
    let (old, new) = (own("s3:Old"), own("s3:New"));
    let (mut observed, record) = settled(&old);
    observed.managed.clear();
    let plan = update(&new, &observed, &record, 10, false);
    assert_eq!(plan.steps.len(), 2);
    assert!(without(&plan, "new version").is_empty());
}

#[test]
fn full_quotas_exchange_one_by_one_after_all_documents() {
    let managed = |names: &[&str]| json!({ "managedPolicies": names });
    let (old, mut new) = (spec(managed(&["A", "B"])), managed(&["C"]));
    new["customerManagedPolicies"] = json!([{ "name": "o", "policyName": "o", "document": allow("s3:*") }]);
    let (observed, record) = settled(&old);
    let plan = update(&spec(new), &observed, &record, 2, false);
    let short: Vec<String> =
        names(&plan).iter().map(|name| name.split(" policy arn").next().unwrap().to_owned()).collect();
    assert_eq!(short, ["Add: create", "Exchange: detach", "Exchange: attach", "Exchange: detach", "Exchange: attach"]);
    assert!(without(&plan, "create").is_empty(), "a refused document costs nothing");
    let mut small = spec(inline(&[("b", &["s3:B"])]));
    small.limits.inline_total = 150;
    assert_eq!(
        steps(&spec(inline(&[("a", &["s3:A"])])), &small),
        ["Exchange: delete inline policy a", "Exchange: put inline policy b"],
        "IAM would refuse both at once, for ever"
    );
}

#[test]
fn principals_that_go_never_see_a_new_boundary() {
    let with = |who: &str, boundary: &str| {
        spec(json!({ "trustPolicy": trust(&json!({ "AWS": [who, "222233334444"] })),
            "permissionsBoundary": format!("arn:aws:iam::111122223333:policy/{boundary}") }))
    };
    let (old, new) = (with("333344445555", "a"), with("444455556666", "b"));
    let names = steps(&old, &new);
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("Narrow:") && names[1].starts_with("Bound:") && names[2].starts_with("Widen:"));
    let (observed, record) = settled(&old);
    let plan = |forces_boundary| update(&Desired { forces_boundary, ..new.clone() }, &observed, &record, 10, false);
    assert!(without(&plan(false), "trust").is_empty(), "while IAM refuses that they go");
    let forced = without(&plan(true), "trust");
    assert!(
        forced.len() == 1 && forced[0].starts_with("Force:"),
        "who writes the trust does not keep it away: {forced:?}"
    );
    // An attempt that got no further than its intent is no stranger's doing.
    let (observed, mut record) = settled(&old);
    record.intend_boundary(new.boundary.as_ref(), observed.boundary.as_ref());
    assert_eq!(self::names(&update(&new, &observed, &record, 10, false)), names);
}

#[test]
fn a_boundary_that_is_none_of_ours_is_not_taken_for_ours_once_it_is_to_be_replaced() {
    let with = |who: &str, boundary: Option<&str>| {
        let boundary = boundary.map(|name| format!("arn:aws:iam::111122223333:policy/{name}"));
        spec(json!({ "trustPolicy": trust(&json!({ "AWS": who })), "permissionsBoundary": boundary }))
    };
    let (old, new, without) = (with("333344445555", None), with("444455556666", Some("b")), with("333344445555", None));
    let (mut observed, mut record) = settled(&old);
    observed.boundary = Some("arn:aws:iam::111122223333:policy/theirs".into());
    let first = names(&update(&new, &observed, &record, 10, false));
    assert!(first[0].starts_with("Narrow:") && first[1].starts_with("Bound:"), "{first:?}");
    // The attempt got no further than its intent.
    record.intend_boundary(new.boundary.as_ref(), observed.boundary.as_ref());
    assert_eq!(
        names(&update(&new, &observed, &record, 10, false)),
        first,
        "who goes does not see it the second time either"
    );
    let again = update(&without, &observed, &record, 10, false);
    assert!(again.is_empty(), "theirs stays: {:?}", names(&again));
    // Once it was set, another one is a stranger's.
    let mut set = record.clone();
    set.set_boundary(new.boundary.clone());
    let repair = names(&update(&new, &observed, &set, 10, false));
    assert!(repair[0].starts_with("Restore:"), "{repair:?}");
    // Also where the answer was lost, and a look has shown it.
    let shown = Observed { boundary: new.boundary.clone(), ..observed.clone() };
    record.prune(&new, &shown);
    assert!(record.was_bounded(new.boundary.as_ref().unwrap()));
}

#[test]
fn a_bridge_that_stands_is_not_built_again() {
    let with = |who: &str, action: &str| {
        let mut fields = inline(&[("a", &[action])]);
        fields["trustPolicy"] = trust(&json!({ "Service": who }));
        spec(fields)
    };
    let (old, new) = (with("ec2.amazonaws.com", "s3:A"), with("lambda.amazonaws.com", "s3:B"));
    let (mut observed, record) = settled(&old);
    let plan = update(&new, &observed, &record, 10, false);
    let super::Action::UpdateTrust(between) = &plan.steps[0].action else { panic!("{:?}", names(&plan)) };
    observed.trust = between.canonical(&new.account);
    let again = update(&new, &observed, &record, 10, false);
    assert!(again.steps.iter().all(|step| step.phase != Phase::Narrow), "{:?}", names(&again));
}

#[test]
fn a_removal_alone_locks_nobody_out_who_may_stay() {
    let with = |who: Value, names: &[&'static str]| {
        let policies: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &["s3:*"][..])).collect();
        let mut fields = inline(&policies);
        fields["trustPolicy"] = trust(&json!({ "AWS": who }));
        spec(fields)
    };
    let role = "arn:aws:iam::333344445555:role/x";
    let (old, account) = (with(json!([role, "444455556666"]), &["a", "b"]), json!(["333344445555", "555566667777"]));
    let narrows = |new: &Desired| steps(&old, new).iter().any(|step| step.starts_with("Narrow:"));
    assert!(narrows(&with(json!([role, "555566667777"]), &["a"])), "who goes does not wait for the removal");
    assert!(!narrows(&with(account.clone(), &["a"])), "it can't be said that of the account the role alone stays");
    assert!(narrows(&with(account, &["a", "b", "c"])), "but who goes must not see what comes");
}

#[test]
fn an_own_policy_that_others_use_holds_up_nothing() {
    let with = |who: &str, own: bool| {
        let own =
            json!([{ "name": "o", "policyName": "o", "document": allow("s3:*") }]).as_array().filter(|_| own).cloned();
        let trust = trust(&json!({ "Service": who }));
        spec(json!({ "trustPolicy": trust, "customerManagedPolicies": own, "instanceProfile": {} }))
    };
    let (old, new) = (with("ec2.amazonaws.com", true), with("lambda.amazonaws.com", false));
    let (observed, record) = settled(&old);
    let plan = update(&new, &observed, &record, 10, false);
    let (all, rest) = (names(&plan), without(&plan, "delete policy"));
    assert_eq!(rest.len() + 1, all.len(), "{rest:?} of {all:?}");
    assert!(!without(&plan, "detach").iter().any(|name| name.contains("delete policy")), "it is in use here");
}

#[test]
fn an_own_policy_that_moves_to_the_attached_ones_stays_and_stays_ours() {
    let old =
        spec(json!({ "customerManagedPolicies": [{ "name": "o", "policyName": "o", "document": allow("s3:*") }] }));
    let new = spec(json!({ "managedPolicies": ["arn:aws:iam::111122223333:policy/o"] }));
    let (observed, mut record) = settled(&old);
    let plan = update(&new, &observed, &record, 10, false);
    assert!(plan.is_empty(), "{:?}", names(&plan));
    record.settle(&new, Some(&observed));
    assert_eq!(record.own.len(), 1, "so that it is deleted in the end");
    let gone = update(&spec(json!({})), &observed, &record, 10, false);
    assert_eq!(gone.steps.len(), 2, "{:?}", names(&gone));
}

#[test]
fn names_that_differ_only_in_case_are_one() {
    let (old, new) = (spec(inline(&[("foo", &["s3:A"])])), spec(inline(&[("Foo", &["s3:A"])])));
    let (observed, record) = settled(&old);
    assert!(steps(&old, &new).is_empty());
    let plan = update(&new, &observed, &record, 10, true);
    assert!(plan.is_empty(), "nor soon after a write: {:?}", names(&plan));
    let tagged = |key: &str| spec(json!({ "tags": { key: "1" } }));
    let (mut observed, _) = settled(&tagged("Team"));
    let (_, record) = settled(&tagged("team"));
    assert!(update(&tagged("team"), &observed, &record, 10, false).is_empty(), "once it was written");
    let gone = update(&spec(json!({})), &observed, &record, 10, false);
    assert_eq!(names(&gone), ["Describe: remove tags team"]);
    observed.tags.remove("Team");
    assert!(update(&spec(json!({})), &observed, &record, 10, false).is_empty());
}

#[test]
fn a_late_read_hides_nothing_that_must_go() {
    let old = spec(json!({
        "permissionsBoundary": "arn:aws:iam::111122223333:policy/b", "managedPolicies": ["A"],
        "inlinePolicies": [{ "name": "i", "document": allow("s3:*") }],
        "customerManagedPolicies": [{ "name": "o", "policyName": "o", "document": allow("s3:*") }],
    }));
    let (_, mut record) = settled(&old);
    let bare = spec(json!({}));
    let (observed, _) = settled(&bare);
    let plan = update(&bare, &observed, &record, 10, true);
    let names = names(&plan);
    for what in ["detach policy arn:aws:iam::aws:policy/A", "delete inline policy i", "remove permissions boundary"] {
        assert!(names.iter().any(|name| name.ends_with(what)), "{what}: {names:?}");
    }
    record.settle(&bare, Some(&observed));
    assert_eq!(record.own.len(), 1, "whose it is can't be seen yet; it is not forgotten");
    assert!(update(&bare, &observed, &record, 10, false).is_empty());
    record.settle(&bare, Some(&observed));
    record.release(&bare, &BTreeSet::new());
    assert!(record.has_rests(&bare), "one read does not prove that it is gone");
    record.release(&bare, &BTreeSet::from([record.own[0].arn.clone()]));
    assert!(!record.has_rests(&bare));
}

#[test]
fn what_was_never_ours_stays() {
    let bare = spec(json!({}));
    let (mut observed, mut record) = settled(&bare);
    observed.boundary = Some("arn:aws:iam::111122223333:policy/admins".into());
    observed.inline.insert(
        "AWSRevokeOlderSessions".into(),
        Canonical::read(crate::policy::Grammar::Permission, "{}", &bare.account),
    );
    let plan = update(&bare, &observed, &record, 10, true);
    assert_eq!((plan.steps.len(), plan.unlisted.len()), (0, 1), "{:?}", names(&plan));
    record.own.push(PolicyRef { arn: "arn:aws:iam::111122223333:policy/theirs".into(), ..PolicyRef::default() });
    let keeping = spec(json!({ "whenUnlisted": "Keep" }));
    observed.managed.insert("arn:aws:iam::111122223333:policy/theirs".into());
    let plan = update(&keeping, &observed, &record, 10, false);
    assert!(plan.steps.is_empty(), "an intent is no right: {:?}", names(&plan));
}

#[test]
fn a_lost_origin_tag_is_mended_from_status() {
    let bare = spec(json!({}));
    let (mut observed, mut record) = settled(&bare);
    observed.tags.remove(crate::api::TAG_ORIGIN);
    let mended = |record: &Record| format!("{:?}", update(&bare, &observed, record, 10, false).steps[0].action);
    assert!(mended(&record).contains("Adopted"), "nothing remembers");
    record.role = Some(RoleRef { origin: Some(Origin::Created), ..RoleRef::default() });
    assert!(mended(&record).contains("Created"));
}

/// A statement of about so many characters.
pub(super) fn sized(action: &str, characters: usize) -> Value {
    let resource = format!("arn:aws:s3:::{}", "x".repeat(characters));
    json!({ "Effect": "Allow", "Action": action, "Resource": resource })
}

pub(super) fn keeping(policies: &[(&str, &[Value])]) -> Desired {
    let policy = |(name, statements): &(&str, &[Value])| json!({ "name": name, "document": { "Version": "2012-10-17", "Statement": statements } });
    let policies: Vec<Value> = policies.iter().map(policy).collect();
    spec(json!({ "whenUnlisted": "Keep", "inlinePolicies": policies }))
}

#[test]
fn what_does_not_fit_beside_what_stays_is_refused_and_costs_nothing() {
    let (s, t) = (sized("s3:S", 3000), sized("s3:T", 2000));
    let old = keeping(&[("a", std::slice::from_ref(&s))]);
    let new = keeping(&[("b", &[s, t]), ("small", &[sized("s3:U", 100)])]);
    let strange = keeping(&[("x", &[sized("s3:X", 6000)])]);
    for kept in ["x", "AWSRevokeOlderSessions"] {
        let (mut observed, record) = settled(&old);
        observed.inline.insert(kept.into(), strange.inline["x"].canonical(&old.account));
        let plan = update(&new, &observed, &record, 10, false);
        assert_eq!(names(&plan), ["Add: put inline policy small"], "a stays, and what fits comes");
        let [problem] = &plan.refused[..] else { panic!("{:?}", plan.refused) };
        assert_eq!(problem.reason, crate::api::Reason::QuotaExceeded);
        for part in ["10240", &format!("{kept:?}"), "\"b\"", "spec.inlinePolicies"] {
            assert!(problem.message.contains(part), "{part}: {}", problem.message);
        }
        observed.inline.insert(kept.into(), spec(inline(&[("y", &["s3:Y"])])).inline["y"].canonical(&old.account));
        let plan = update(&new, &observed, &record, 10, false);
        assert!(plan.refused.is_empty() && plan.steps.len() == 3, "room again: {:?}", names(&plan));
    }
}

#[test]
fn attachments_that_do_not_fit_beside_those_that_stay_are_refused_and_cost_nothing() {
    let own = |policies: &[(&str, &[&str])]| {
        let policy = |(name, actions): &(&str, &[&str])| json!({ "name": name, "policyName": name, "document": document(actions) });
        let policies: Vec<Value> = policies.iter().map(policy).collect();
        spec(json!({ "whenUnlisted": "Keep", "managedPolicies": ["M"], "customerManagedPolicies": policies }))
    };
    let (old, new) = (own(&[("o", &["s3:S", "s3:T"])]), own(&[("o", &["s3:S"]), ("p", &["s3:T"])]));
    let (mut observed, record) = settled(&old);
    observed.managed.insert("arn:aws:iam::aws:policy/Theirs".into());
    let plan = update(&new, &observed, &record, 3, false);
    assert!(names(&plan).iter().all(|name| name.starts_with("Add: create policy")), "{:?}", names(&plan));
    let [problem] = &plan.refused[..] else { panic!("{:?}", plan.refused) };
    assert_eq!(problem.reason, crate::api::Reason::QuotaExceeded);
    for part in ["4 ", " 3", "policy/Theirs", "policy/p"] {
        assert!(problem.message.contains(part), "{part}: {}", problem.message);
    }
    assert!(update(&new, &observed, &record, 4, false).refused.is_empty());
    let moved = own(&[("p", &["s3:S", "s3:T"])]);
    assert!(update(&moved, &observed, &record, 3, false).refused.is_empty(), "one goes for one that comes");
}

#[test]
fn what_is_left_out_for_want_of_room_takes_its_denials_and_what_they_guard_with_it() {
    let deny =
        json!({ "Effect": "Deny", "Action": "s3:Delete", "Resource": format!("arn:aws:s3:::{}", "x".repeat(3000)) });
    let (old, new) = (keeping(&[]), keeping(&[("all", &[sized("s3:*", 100)]), ("guard", &[deny])]));
    let (mut observed, record) = settled(&old);
    observed.inline.insert("x".into(), keeping(&[("x", &[sized("s3:X", 8000)])]).inline["x"].canonical(&old.account));
    let plan = update(&new, &observed, &record, 10, false);
    assert_eq!((names(&plan), plan.refused.len()), (vec![], 1), "no guard, no power");
}
