//! Laws of plans, over random roles before and after an edit: they converge, touch nothing else, and at no moment,
//! whatever fails, let anybody do what neither spec allows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::struct_excessive_bools, reason = "independent choices of a generator")]

mod model;

use iamrole_operator::policy::{Clause, Document, Limits};
use iamrole_operator::role::{Action, Desired, Progress, Record, plan};
use model::orders::is_lossless;
use model::wishes::{
    Caller, DENIALS, Permission, Strangers, Wish, converge, holders, make_plan, padded, permissions, settled,
    strangers, take_name, wish,
};
use model::{Aws, Fate, account, asked, carry, carry_through, intend, want};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What the two ends of an update allow.
struct Ends {
    old: (BTreeSet<Caller>, BTreeSet<Permission>),
    new: (BTreeSet<Caller>, BTreeSet<Permission>),
    boundary: Option<String>,
}

impl Ends {
    fn of(before: &Aws, after: &Aws) -> Self {
        let end = |aws: &Aws| (holders(aws), permissions(aws));
        Self { old: end(before), new: end(after), boundary: after.role().boundary.clone() }
    }

    /// Nobody holds what neither end gives, also not who stays; nothing is there without its boundary.
    fn combined(&self, aws: &Aws, done: &Action) {
        let permissions = permissions(aws);
        let allows = |permission: &&Permission| !permission.as_ref().is_ok_and(Clause::denies);
        for caller in holders(aws) {
            for permission in permissions.iter().filter(allows) {
                let (old, new) = (self.old.0.contains(&caller), self.new.0.contains(&caller));
                let fine = (old && self.old.1.contains(permission)) || (new && self.new.1.contains(permission));
                assert!(fine, "{caller:?} with {permission:?} after {done:?}");
            }
        }
        let new = permissions.iter().any(|permission| !self.old.1.contains(permission));
        let bound = self.boundary.is_none() || aws.role().boundary == self.boundary;
        assert!(bound || !new, "no boundary after {done:?}");
    }

    /// What is there before and after is there now.
    fn kept(&self, aws: &Aws, done: &Action) {
        let now = permissions(aws);
        let missing: Vec<_> = self.old.1.intersection(&self.new.1).filter(|kept| !now.contains(*kept)).collect();
        assert!(missing.is_empty(), "{missing:?} is missing after {done:?}");
    }

    /// What is allowed comes with all denials of its own end.
    fn guarded(&self, aws: &Aws, done: &Action) {
        let now = permissions(aws);
        let denies = |end: &BTreeSet<Permission>| {
            end.iter().filter(|p| p.as_ref().is_ok_and(Clause::denies)).all(|denial| now.contains(denial))
        };
        for allowed in now.iter().filter(|p| !p.as_ref().is_ok_and(Clause::denies)) {
            let old = self.old.1.contains(allowed) && denies(&self.old.1);
            let new = self.new.1.contains(allowed) && denies(&self.new.1);
            assert!(old || new, "{allowed:?} lacks its denials after {done:?}");
        }
    }

    /// Policies that nobody reads are there before what else comes, and until what else goes is gone.
    fn unread(&self, aws: &Aws, done: &Action) {
        let now = permissions(aws);
        let are_there = |ours: &BTreeSet<Permission>| ours.iter().filter(|p| p.is_err()).all(|p| now.contains(p));
        for allowed in now.iter().filter(|p| p.as_ref().is_ok_and(|clause| !clause.denies())) {
            let old = self.old.1.contains(allowed) && are_there(&self.old.1);
            let new = self.new.1.contains(allowed) && are_there(&self.new.1);
            assert!(old || new, "{allowed:?} lacks an attached policy after {done:?}");
        }
    }
}

fn is_as_wanted(aws: &Aws, before: &Aws, wish: &Wish, desired: &Desired, strangers: &Strangers) {
    let role = aws.role();
    let stays = |there: bool| there && wish.keep;
    let mut managed: BTreeSet<String> = desired.managed.clone();
    managed.extend(desired.own.iter().map(|policy| policy.arn.clone()));
    managed.extend(stays(strangers.attached).then(|| "arn:aws:iam::aws:policy/Stranger".to_owned()));
    assert_eq!(role.managed, managed);
    let inline: BTreeSet<String> =
        desired.inline.keys().cloned().chain(stays(strangers.inline).then(|| "stranger".to_owned())).collect();
    assert_eq!(role.inline.keys().cloned().collect::<BTreeSet<_>>(), inline);
    for (name, document) in &desired.inline {
        assert_eq!(role.inline[name].document, document.canonical(&account()));
    }
    for policy in &desired.own {
        assert_eq!(aws.policies[&policy.arn].held.document, policy.document.canonical(&account()));
    }
    assert_eq!(role.trust.canonical(&account()), desired.trust.canonical(&account()));
    assert_eq!(role.boundary, desired.boundary);
    assert_eq!(role.description, desired.description.clone().unwrap_or_default());
    let lower = |tags: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        tags.iter().filter(|(key, _)| key.len() == 1).map(|(key, value)| (key.to_lowercase(), value.clone())).collect()
    };
    assert_eq!(lower(&role.tags), lower(&desired.tags));
    assert_eq!(role.tags["foreign"], "tag");
    let ours = |arn: &&String| arn.contains("/own");
    let own: BTreeSet<&String> = aws.policies.keys().filter(ours).collect();
    let foreign = before.policies.iter().filter(|(_, policy)| policy.tags.is_empty());
    foreign.for_each(|(arn, policy)| assert_eq!(aws.policies.get(arn), Some(policy), "a stranger's policy"));
    assert_eq!(own, desired.own.iter().map(|policy| &policy.arn).collect(), "nothing orphaned");
    let profiles: Vec<&String> = aws.profiles.keys().collect();
    assert_eq!(profiles, desired.profile.iter().collect::<Vec<_>>(), "one profile, or none");
    assert!(aws.profiles.values().all(|profile| profile.roles.contains(model::ROLE)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_update_converges_at_once_and_stays(old in wish(), new in wish(), strangers in strangers()) {
        let (before, after) = (want(&old.spec(), Limits::default()), want(&new.spec(), Limits::default()));
        let (mut aws, mut record) = settled(&before, &strangers, Aws::default());
        let start = aws.clone();
        let rounds = converge(&mut aws, &after, &mut record, |_, _| {});
        // An instance profile of another name goes before the new one comes.
        let renamed = old.profile.is_some() && new.profile.is_some() && old.profile != new.profile;
        prop_assert!(rounds <= 1 + usize::from(renamed), "{rounds} rounds");
        is_as_wanted(&aws, &start, &new, &after, &strangers);
        prop_assert!(make_plan(&aws, &after, &record).is_empty());
        let observed = aws.observe(&asked(&after, &record)).unwrap();
        prop_assert!(plan::update(&after, &observed, &record, aws.quota, true).is_empty(), "nor soon after a write");
        let own: BTreeSet<String> = record.own.iter().map(|policy| policy.arn.clone()).collect();
        prop_assert_eq!(own, after.own.iter().map(|policy| policy.arn.clone()).collect::<BTreeSet<_>>());
    }

    #[test]
    fn at_no_moment_is_more_allowed_or_less(
        old in wish(), new in wish(), strangers in strangers(), fails in any::<u64>(), fails_too in any::<u64>(),
        healthy in any::<bool>(), unheard in any::<u64>(),
    ) {
        let (before, after) = (want(&old.spec(), Limits::default()), want(&new.spec(), Limits::default()));
        let (mut aws, mut record) = settled(&before, &strangers, Aws::default());
        let mut end = (aws.clone(), record.clone());
        converge(&mut end.0, &after, &mut end.1, |_, _| {});
        let ends = Ends::of(&aws, &end.0);
        if strangers.taken {
            take_name(&mut aws, &after);
        }
        let fails = if healthy { 0 } else { fails & fails_too };
        for round in [fails, fails.rotate_right(7), 0] {
            let plan = make_plan(&aws, &after, &record);
            intend(&mut record, &after, &plan, &aws);
            let fate = |i: usize| match (round >> (i % 64) & 1 == 1, unheard >> (i % 64) & 1 == 1) {
                (false, _) => Fate::Answered,
                (true, false) => Fate::Refused,
                (true, true) => Fate::Unheard,
            };
            carry_through(&mut aws, &plan, &after, &mut record, fate, |aws, done| {
                ends.combined(aws, done);
                ends.kept(aws, done);
            });
        }
        converge(&mut aws, &after, &mut record, |aws, done| {
            ends.combined(aws, done);
            ends.kept(aws, done);
        });
    }

    #[test]
    fn denials_come_first_and_go_last(
        old in wish(), new in wish(), fails in any::<u64>(), fails_too in any::<u64>(), healthy in any::<bool>(),
    ) {
        // Documents that allow and documents that deny, as people write guards.
        let pure = |wish: Wish| {
            let mut wish = wish;
            for (name, statements) in wish.inline.iter_mut().chain(&mut wish.own) {
                let deny = *name == 0;
                statements.retain(|i| (*i >= DENIALS) == deny);
                if statements.is_empty() {
                    statements.insert(if deny { DENIALS } else { 0 });
                }
            }
            wish
        };
        let (old, new) = (pure(old), pure(new));
        let strangers = Strangers { inline: false, attached: false, taken: false, keeps_case: false };
        let (before, after) = (want(&old.spec(), Limits::default()), want(&new.spec(), Limits::default()));
        let (mut aws, mut record) = settled(&before, &strangers, Aws { quota: 20, ..Aws::default() });
        let mut end = (aws.clone(), record.clone());
        converge(&mut end.0, &after, &mut end.1, |_, _| {});
        let ends = Ends::of(&aws, &end.0);
        let fails = if healthy { 0 } else { fails & fails_too };
        for round in [fails, 0] {
            let plan = make_plan(&aws, &after, &record);
            intend(&mut record, &after, &plan, &aws);
            carry(&mut aws, &plan, &after, &mut record, |i| round >> (i % 64) & 1 == 1, |aws, done| {
                ends.guarded(aws, done);
                if healthy {
                    ends.unread(aws, done);
                }
            });
        }
    }

    #[test]
    fn a_full_quota_is_no_dead_end_and_loses_nothing_where_some_order_does_not(old in wish(), new in wish(), fails in any::<u64>(), attached in 1usize..9) {
        let small = Limits { inline_total: 420, ..Limits::default() };
        let size = |wish: &Wish| want(&wish.spec(), Limits::default()).inline.values().map(Document::size).sum::<usize>();
        prop_assume!(size(&old) <= 420 && size(&new) <= 420);
        let quota = attached.max(old.managed.len() + old.own.len()).max(new.managed.len() + new.own.len());
        let strangers = Strangers { inline: false, attached: false, taken: false, keeps_case: false };
        let (before, after) = (want(&old.spec(), small), want(&new.spec(), small));
        let (mut aws, mut record) = settled(&before, &strangers, Aws { quota, limits: small, ..Aws::default() });
        let start = aws.clone();
        let mut end = (aws.clone(), record.clone());
        converge(&mut end.0, &after, &mut end.1, |_, _| {});
        let ends = Ends::of(&aws, &end.0);
        let keeps = is_lossless(&aws, &end.0) == Some(true);
        let check = |aws: &Aws, done: &Action| {
            ends.combined(aws, done);
            if keeps {
                ends.kept(aws, done);
            }
        };
        let plan = make_plan(&aws, &after, &record);
        intend(&mut record, &after, &plan, &aws);
        carry(&mut aws, &plan, &after, &mut record, |i| fails >> (i % 64) & 1 == 1, check);
        converge(&mut aws, &after, &mut record, check);
        is_as_wanted(&aws, &start, &new, &after, &strangers);
    }

    #[test]
    fn what_does_not_fit_beside_what_stays_costs_nothing(
        old in wish(), new in wish(), kept in 0usize..400, theirs in 0usize..3, spare in 0usize..2, attached in 0usize..2,
    ) {
        let keep = |wish: Wish| Wish { keep: true, ..wish };
        let (before, after) = (want(&keep(old).spec(), Limits::default()), want(&keep(new).spec(), Limits::default()));
        let strangers = Strangers { inline: false, attached: false, taken: false, keeps_case: false };
        let (mut aws, mut record) = settled(&before, &strangers, Aws::default());
        let stranger = want(&padded("stranger", kept), Limits::default());
        aws.role_mut().inline.insert("stranger".into(), model::Held::new(&stranger.inline["stranger"]));
        aws.role_mut().managed.extend((0..theirs).map(|i| format!("arn:aws:iam::aws:policy/Stranger{i}")));
        let size = |desired: &Desired| desired.inline.values().map(Document::size).sum::<usize>();
        aws.limits.inline_total = size(&before).max(size(&after)) + stranger.inline["stranger"].size() * spare;
        aws.limits.inline_total = aws.limits.inline_total.max(aws.role().inline.values().map(|held| held.size).sum());
        aws.quota = aws.role().managed.len() + attached;
        let after = Desired { limits: aws.limits, ..after };
        let fits = size(&after) + stranger.inline["stranger"].size() <= aws.limits.inline_total
            && after.managed.len() + after.own.len() + theirs <= aws.quota;
        let wanted: BTreeSet<Clause> = after.inline.values().chain(after.own.iter().map(|policy| &policy.document))
            .flat_map(|document| document.canonical(&account()).clauses()).collect();
        let there = |aws: &Aws| permissions(aws).into_iter().filter_map(Result::ok).collect::<BTreeSet<Clause>>();
        let mut held: BTreeSet<Clause> = there(&aws).intersection(&wanted).cloned().collect();
        for _ in 0..4 {
            let plan = make_plan(&aws, &after, &record);
            prop_assert_eq!(plan.refused.is_empty(), fits, "{:?}", plan.refused);
            intend(&mut record, &after, &plan, &aws);
            let mut progress = Progress::of(&plan);
            for step in &plan.steps {
                if progress.holds_up(step) {
                    progress.failed(step);
                    continue;
                }
                prop_assert_eq!(aws.execute(&step.action), Ok(()), "{:?}", step.action);
                model::enter(&mut record, &after, &step.action);
            }
            let now = there(&aws);
            prop_assert!(held.is_subset(&now), "lost: {:?}", held.difference(&now));
            held.extend(now.intersection(&wanted).cloned());
        }
        let left = make_plan(&aws, &after, &record);
        prop_assert_eq!(left.is_empty(), fits, "{:?}", left);
    }

    #[test]
    fn principals_that_go_never_see_a_boundary_that_comes(
        old in wish(), new in wish(), strangers in strangers(), ends in vec((0usize..8, any::<u64>()), 3),
    ) {
        let under = |wish: &Wish, boundary| want(&Wish { boundary: Some(boundary), ..wish.clone() }.spec(), Limits::default());
        let (before, after) = (under(&old, 0), under(&new, 1));
        let (mut aws, mut record) = settled(&before, &strangers, Aws::default());
        let mut end = (aws.clone(), record.clone());
        converge(&mut end.0, &after, &mut end.1, |_, _| {});
        let stay = holders(&end.0);
        let safe = |aws: &Aws, done: &Action| {
            let gone: Vec<_> = holders(aws).into_iter().filter(|caller| !stay.contains(caller)).collect();
            assert!(aws.role().boundary != after.boundary || gone.is_empty(), "{gone:?} after {done:?}");
        };
        // Each attempt ends after some steps, as where the process is killed, and some of them fail.
        for (steps, fails) in ends {
            let mut plan = make_plan(&aws, &after, &record);
            intend(&mut record, &after, &plan, &aws);
            plan.steps.truncate(steps);
            carry(&mut aws, &plan, &after, &mut record, |i| fails >> (i % 64) & 1 == 1, safe);
        }
        converge(&mut aws, &after, &mut record, safe);
        prop_assert_eq!(aws.role().boundary.as_ref(), after.boundary.as_ref());
    }

    #[test]
    fn a_creation_that_stops_goes_on(wish in wish(), fails in any::<u64>()) {
        let desired = want(&wish.spec(), Limits::default());
        let strangers = Strangers { inline: false, attached: false, taken: false, keeps_case: false };
        let whole = settled(&desired, &strangers, Aws::default()).0;
        let plan = plan::create(&desired);
        let profile = if wish.profile.is_some() { 2 } else { 0 };
        let calls = 1 + desired.managed.len() + desired.inline.len() + 2 * desired.own.len() + profile;
        prop_assert_eq!(plan.steps.len(), calls, "no more than one call each");
        let ends = Ends { old: (BTreeSet::new(), BTreeSet::new()), ..Ends::of(&whole, &whole) };
        let (mut aws, mut record) = (Aws { policies: whole.policies.clone(), ..Aws::default() }, Record::default());
        aws.policies.retain(|arn, _| !arn.contains("/own"));
        intend(&mut record, &desired, &plan, &aws);
        let refuses = |i: usize| i > 0 && fails >> (i % 64) & 1 == 1;
        carry(&mut aws, &plan, &desired, &mut record, refuses, |aws, done| ends.combined(aws, done));
        aws.role_mut().tags.insert("foreign".into(), "tag".into());
        let start = aws.clone();
        converge(&mut aws, &desired, &mut record, |aws, done| ends.combined(aws, done));
        is_as_wanted(&aws, &start, &wish, &desired, &strangers);
    }

    #[test]
    fn what_is_not_ours_has_no_plan(old in wish(), new in wish(), other in any::<bool>()) {
        let strangers = Strangers { inline: true, attached: true, taken: false, keeps_case: false };
        let (before, after) = (want(&old.spec(), Limits::default()), want(&new.spec(), Limits::default()));
        let (mut aws, record) = settled(&before, &strangers, Aws::default());
        if other {
            aws.role_mut().tags.insert("iamrole.dev/name".into(), "web".into());
        } else {
            aws.role_mut().tags.retain(|key, _| !key.starts_with("iamrole.dev/"));
        }
        prop_assert!(make_plan(&aws, &after, &record).is_empty());
    }
}
