use super::{BoundarySeen, Entry, OFTEN, STALLED_AFTER};
use crate::api::Reason;
use crate::controller::failure::{Failure, Retry};
use std::time::Duration;
use tokio::time::Instant;

fn failure(retry: Retry) -> Failure {
    Failure { reason: Reason::AccessDenied, message: String::new(), retry }
}

#[test]
fn delays_grow_to_the_cap_and_are_forgotten_on_success() {
    let (mut entry, now, cap) = (Entry::default(), Instant::now(), Duration::from_mins(5));
    let failure = failure(Retry::Backoff(cap));
    let delays: Vec<Duration> = (0..12).map(|_| entry.fail(&failure, 1, true, now).delay).collect();
    assert!(delays[0] <= Duration::from_secs(1) && delays[11] <= cap && delays[11] >= cap.mul_f64(0.75));
    entry.succeed();
    assert!(entry.fail(&failure, 1, false, now).delay <= Duration::from_secs(1));
}

#[test]
fn a_lasting_failure_is_stalled_after_two_minutes_and_a_new_generation_starts_afresh() {
    let (mut entry, start) = (Entry::default(), Instant::now());
    let slow = failure(Retry::Backoff(Duration::from_mins(5)));
    let first = entry.fail(&slow, 1, false, start);
    assert!(!first.stalled);
    for _ in 0..10 {
        let sentence = entry.fail(&slow, 1, false, start + Duration::from_mins(1));
        assert!(!sentence.stalled && sentence.delay <= Duration::from_secs(61), "wakes when it gets stalled");
    }
    let later = start + STALLED_AFTER;
    assert!(entry.fail(&slow, 1, false, later).stalled);
    assert!(!entry.fail(&slow, 2, false, later).stalled, "a new generation gets its own two minutes");
    assert!(entry.fail(&slow, 2, true, later).stalled, "it was before the restart");
}

#[test]
fn what_passes_does_so_for_two_minutes_and_says_nothing_of_what_lasts() {
    let (mut entry, start) = (Entry::default(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    let (wait, passing) = (failure(Retry::Wait(Duration::from_secs(1))), failure(Retry::Passing));
    let lasting = failure(Retry::Backoff(Duration::from_mins(5)));
    assert!(entry.fail(&wait, 1, false, start).passes);
    assert!(!entry.fail(&lasting, 1, false, start).passes);
    for (seconds, passes) in [(1, true), (119, true), (121, false), (200, false)] {
        assert_eq!(entry.fail(&passing, 1, false, after(seconds)).passes, passes, "{seconds}");
    }
    assert!(entry.fail(&wait, 1, false, after(201)).passes);
    assert!(!entry.fail(&passing, 1, false, after(202)).passes, "a moment's wait is no end of it");
    entry.fail(&lasting, 1, false, after(203));
    assert!(entry.fail(&passing, 1, false, after(204)).passes, "another trouble of its own");
    entry.succeed();
    assert!(entry.fail(&passing, 1, false, after(900)).passes);
}

#[test]
fn who_waits_again_and_again_is_known_until_that_ends() {
    let (mut entry, now) = (Entry::default(), Instant::now());
    let wait = failure(Retry::Wait(Duration::from_secs(2)));
    let waits = |entry: &mut Entry, generation| {
        entry.fail(&wait, generation, false, now);
        entry.has_waited(generation)
    };
    assert!((0..OFTEN).all(|_| !waits(&mut entry, 1)) && waits(&mut entry, 1));
    assert!(!entry.has_failed(1) && !waits(&mut entry, 2), "another spec");
    assert!((0..OFTEN).any(|_| waits(&mut entry, 2)));
    entry.succeed();
    assert!(!waits(&mut entry, 2));
}

#[test]
fn what_does_not_come_is_looked_for_ever_more_rarely() {
    let (mut entry, start) = (Entry::default(), Instant::now());
    let waning = failure(Retry::Waning(Duration::from_hours(1)));
    let looks = |entry: &mut Entry, failure: &Failure, from: u64, until: u64| {
        let (mut at, mut looks) = (from, 0);
        while at < until {
            at += entry.fail(failure, 1, true, start + Duration::from_secs(at)).delay.as_secs().max(1);
            looks += 1;
        }
        looks
    };
    assert!((10..=20).contains(&looks(&mut entry, &waning, 0, 600)));
    assert!((4..=8).contains(&looks(&mut entry, &waning, 600, 3600)));
    assert!((23..=33).contains(&looks(&mut entry, &waning, 3600, 25 * 3600)));
    let within = Failure { retry: waning.retry.within(Duration::from_mins(5)), ..waning };
    assert!(looks(&mut entry, &within, 25 * 3600, 26 * 3600) >= 12, "what the class forces must hold meanwhile");
}

#[test]
fn what_strangers_put_there_after_the_spec_is_told_from_what_it_may_replace() {
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<std::collections::BTreeSet<String>>();
    let basis = |generation| (generation, crate::api::iamrole::ClassRef::default());
    let mut entry = Entry::default();
    let mut found = |generation, role: &str, settled, found: &[&str]| {
        entry.found_before(basis(generation), role, settled, &keys(found))
    };
    assert_eq!(found(1, "A", false, &["a"]), keys(&["a"]), "it may be what the spec replaces");
    assert_eq!(found(1, "A", false, &["a", "b"]), keys(&["a"]), "b came later");
    assert_eq!(found(1, "A", false, &["b"]), keys(&[]));
    assert_eq!(found(1, "A", false, &["a"]), keys(&[]), "and so did an a that was gone");
    assert_eq!(found(1, "A", true, &["a"]), keys(&[]), "the spec was in AWS in full without it");
    assert_eq!(found(1, "A", false, &["a", "c"]), keys(&[]));
    assert_eq!(found(1, "B", false, &["a"]), keys(&["a"]), "another role");
    assert_eq!(found(2, "B", false, &["a", "d"]), keys(&["a", "d"]), "another spec");
}

#[test]
fn requested_checks_take_turns_and_the_one_under_way_goes_on() {
    let (mut entry, start) = (Entry::default(), Instant::now());
    let mut ask = |token: &str, after: u64| entry.request(token.to_owned(), start + Duration::from_secs(after));
    assert_eq!(ask("a", 0), None);
    assert_eq!(ask("b", 1), Some(Duration::from_secs(9)));
    assert_eq!(ask("a", 2), None, "it waits for AWS, say");
    assert_eq!(ask("c", 9), Some(Duration::from_secs(1)), "asking does not put it off");
    assert_eq!(ask("c", 10), None);
    assert_eq!(ask("d", 11), Some(Duration::from_secs(9)));
    assert_eq!(ask("d", 60), None);
}

#[test]
fn a_boundary_is_looked_for_within_each_interval_whatever_else_tries() {
    let basis = (1, crate::api::iamrole::ClassRef::default());
    for seconds in [5, 60, 600, 700, 900, 3600] {
        let (period, mut now) = (Duration::from_secs(seconds), Instant::now());
        let mut entry = Entry::default();
        let (mut looked, mut longest) = (None, Duration::ZERO);
        for _ in 0..60 {
            let refusal = failure(Retry::OnChange).retry.within(period);
            let retry = if let Some(left) = entry.saw_boundary(&basis, period, now) {
                refusal.within(left)
            } else {
                entry.sees_boundary(BoundarySeen { basis: basis.clone(), made: None, at: now });
                longest = looked.map_or(longest, |before| longest.max(now - before));
                looked = Some(now);
                refusal
            };
            now += entry.fail(&failure(retry), 1, false, now).delay;
        }
        assert!(longest > period / 2 && longest <= period, "{longest:?} of {period:?}");
    }
}

#[test]
fn a_boundary_that_nobody_looks_at_is_missed_over_all_edits() {
    let (mut entry, start) = (Entry::default(), Instant::now());
    let period = Duration::from_mins(1);
    let at = |second: i64| start + Duration::from_secs(u64::try_from(second).unwrap());
    for generation in 0..60 {
        assert_eq!(entry.boundary_is_due(period, at(generation)), generation >= 42, "after {generation} s");
        entry.fail(&failure(Retry::Passing), generation, false, at(generation));
    }
    entry.succeed();
    assert!(!entry.boundary_is_due(period, at(61)));
}

#[test]
fn what_no_walk_shows_is_looked_at_once_a_day() {
    let (start, hour) = (Instant::now(), Duration::from_hours(1));
    for _ in 0..50 {
        let mut entry = Entry::default();
        let looks: Vec<u32> = (0..=72).filter(|hours| entry.hidden_is_due(start + *hours * hour)).collect();
        assert!(looks[0] <= 24 && (3..=4).contains(&looks.len()), "{looks:?}");
        assert!(looks.windows(2).all(|pair| (18..=25).contains(&(pair[1] - pair[0]))), "{looks:?}");
    }
    let mut entry = Entry::default();
    entry.looked(start);
    assert!(!entry.hidden_is_due(start + 17 * hour) && entry.hidden_is_due(start + 24 * hour));
}

#[test]
fn what_passes_is_never_stalled_and_what_needs_a_change_is_at_once() {
    let (mut entry, start) = (Entry::default(), Instant::now());
    entry.fail(&failure(Retry::Passing), 1, false, start);
    let hours_later = start + Duration::from_hours(2);
    assert!(!entry.fail(&failure(Retry::Passing), 1, true, hours_later).stalled);
    assert!(entry.fail(&failure(Retry::OnChange), 1, false, start).stalled);
    let wait = failure(Retry::Wait(Duration::from_secs(7)));
    assert_eq!(entry.fail(&wait, 1, true, start).delay, Duration::from_secs(7));
}
