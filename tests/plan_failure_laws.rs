//! Laws of plans of which parts fail, are refused, or are never answered: what must go goes, and nothing of ours is taken
//! for a stranger's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod model;

use iamrole_operator::policy::Limits;
use iamrole_operator::role::{Action, Phase, Step};
use model::wishes::{Wish, converge, holders, make_plan, settled, strangers, take_name, wish};
use model::{Aws, asked, carry, intend, want};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    /// Killed when the boundary had changed and nobody had noted it.
    Unanswered,
    /// Killed before.
    Intended,
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Well), Just(End::Unanswered), Just(End::Intended)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn who_goes_and_what_strangers_attached_is_gone_whatever_else_fails_and_who_stays_stays(
        old in wish(), new in wish(), strangers in strangers(), fails in any::<u64>(), all in any::<bool>(),
    ) {
        let new = Wish { keep: false, ..new };
        let (before, after) = (want(&old.spec(), Limits::default()), want(&new.spec(), Limits::default()));
        let (mut aws, mut record) = settled(&before, &strangers, Aws::default());
        let mut end = (aws.clone(), record.clone());
        converge(&mut end.0, &after, &mut end.1, |_, _| {});
        let stay = holders(&end.0);
        let keep: Vec<_> = holders(&aws).intersection(&stay).copied().collect();
        if strangers.taken {
            take_name(&mut aws, &after);
        }
        let plan = make_plan(&aws, &after, &record);
        let of_theirs = |action: &Action| matches!(action, Action::Detach(arn) if arn.ends_with("/Stranger"));
        let is_spared = |step: &Step| {
            let leaves = matches!(step.action, Action::UpdateTrust(_) | Action::LeaveProfile { .. });
            leaves || of_theirs(&step.action) || step.phase == Phase::Own
        };
        intend(&mut record, &after, &plan, &aws);
        let refuses = |i: usize| !is_spared(&plan.steps[i]) && (all || fails >> (i % 64) & 1 == 1);
        carry(&mut aws, &plan, &after, &mut record, refuses, |aws, done| {
            let now = holders(aws);
            assert!(keep.iter().all(|caller| now.contains(caller)), "{keep:?}, {now:?} after {done:?} of {plan:?}");
        });
        let gone: Vec<_> = holders(&aws).into_iter().filter(|caller| !stay.contains(caller)).collect();
        prop_assert!(gone.is_empty(), "{gone:?} after {plan:?}");
        prop_assert!(!aws.role().managed.iter().any(|arn| arn.ends_with("/Stranger")), "{plan:?}");
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_boundary_is_ours_in_whichever_attempt_it_came(
        wish in wish(), edits in vec((weighted(0.9, 0u8..3), end(), any::<bool>()), 1..6), theirs in any::<bool>(),
    ) {
        let with = |boundary| want(&Wish { boundary, ..wish.clone() }.spec(), Limits::default());
        let none = model::wishes::Strangers { inline: false, attached: false, taken: false, keeps_case: false };
        let (mut aws, mut record) = settled(&with(None), &none, Aws::default());
        let foreign = model::arn("boundary2");
        if theirs {
            aws.role_mut().boundary = Some(foreign.clone());
        }
        let mut is_theirs = theirs;
        for (boundary, end, looks) in edits {
            let desired = with(boundary);
            if looks {
                record.prune(&desired, &aws.observe(&asked(&desired, &record)).unwrap());
            }
            let plan = make_plan(&aws, &desired, &record);
            intend(&mut record, &desired, &plan, &aws);
            match end {
                End::Well => {
                    prop_assert_eq!(carry(&mut aws, &plan, &desired, &mut record, |_| false, |_, _| {}), 0);
                    record.settle(&desired, aws.observe(&asked(&desired, &record)).as_ref());
                }
                End::Unanswered => {
                    for step in &plan.steps {
                        prop_assert_eq!(aws.execute(&step.action), Ok(()));
                    }
                }
                End::Intended => {}
            }
            // What is wanted and there is ours from then on.
            is_theirs &= aws.role().boundary.as_ref() == Some(&foreign) && desired.boundary.as_ref() != Some(&foreign);
        }
        converge(&mut aws, &with(None), &mut record, |_, _| {});
        prop_assert_eq!(aws.role().boundary.as_ref(), is_theirs.then_some(&foreign), "{:?}", record);
    }
}
