use super::{APART, Ended, Obstacle, Sweeps, patience};
use crate::api::IamRoleClassSpec;
use crate::api::iamroleclass::{DriftCheck, DriftMethod};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

const A: &str = "111122223333";
const INTERVAL: Duration = Duration::from_mins(15);

fn class(method: Option<DriftMethod>) -> IamRoleClassSpec {
    let drift_check = Some(DriftCheck { interval_seconds: None, method });
    IamRoleClassSpec { drift_check, ..IamRoleClassSpec::default() }
}

fn intervals(interval: Duration) -> BTreeMap<String, Duration> {
    BTreeMap::from([(A.to_owned(), interval)])
}

fn found(sweeps: &Sweeps, method: Option<DriftMethod>) -> Option<DriftMethod> {
    sweeps.method_of(&class(method), A)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn complete(orphans: &[&str]) -> Ended {
    Ended::Complete { orphans: set(orphans), obstacle: None }
}

#[test]
fn a_walk_begins_after_an_interval_or_at_once_when_a_role_asks() {
    let (sweeps, start) = (Sweeps::working(), Instant::now());
    let (begins, next) = sweeps.begin(&intervals(INTERVAL), start);
    assert!(begins.is_empty() && next.unwrap() > start + INTERVAL / 2, "nobody was there to be checked");
    sweeps.ask(A, start);
    assert_eq!(sweeps.begin(&intervals(INTERVAL), start).0, [A]);
    assert_eq!(sweeps.begin(&intervals(INTERVAL), start + 2 * INTERVAL), (vec![], None), "one at a time");
    sweeps.end(A, complete(&[]), start);
    sweeps.ask(A, start);
    assert!(sweeps.begin(&intervals(INTERVAL), start).0.is_empty(), "not twice in a minute");
    assert_eq!(sweeps.begin(&intervals(INTERVAL), start + APART).0, [A]);
}

#[test]
fn of_many_accounts_a_few_are_walked_at_once_and_those_that_do_not_answer_keep_no_other_waiting() {
    let (sweeps, start) = (Sweeps::working(), Instant::now());
    let ids: Vec<String> = (0..10).map(|i| format!("{i:012}")).collect();
    let all: BTreeMap<String, Duration> = ids.iter().map(|id| (id.clone(), INTERVAL)).collect();
    let second = Duration::from_secs(1);
    // The last one has waited longest.
    for (i, id) in (0u32..).zip(ids.iter().rev()) {
        sweeps.ask(id, start + second * i);
    }
    let now = start + 10 * second;
    let (begins, next) = sweeps.begin(&all, now);
    assert_eq!(begins, [&*ids[9], &*ids[8], &*ids[7], &*ids[6]]);
    assert_eq!(next, Some(now + super::QUICK), "unless one ends before");
    sweeps.end(&ids[8], Ended::Broken, now + second);
    assert_eq!(sweeps.begin(&all, now + second).0, [&*ids[5]]);
    assert_eq!(sweeps.begin(&all, now + 2 * second).0, [""; 0]);
    let (begins, next) = sweeps.begin(&all, now + super::QUICK);
    assert_eq!(begins, [&*ids[4], &*ids[3], &*ids[2]], "three have not ended yet");
    assert_eq!(next, Some(now + second + super::QUICK));
}

/// The longest that the walk over a healthy account waits, in the hour after a while, where so many others break off at
/// the end of their patience.
fn longest_wait_beside(hanging: u32, healthy: &str) -> Duration {
    let (interval, walk) = (Duration::from_mins(1), Duration::from_secs(48));
    let (sweeps, start) = (Sweeps::working(), Instant::now());
    let hangs = (0..hanging).map(|i| format!("{i:012}"));
    let all: BTreeMap<String, Duration> = hangs.chain([healthy.to_owned()]).map(|id| (id, interval)).collect();
    // Nobody knows at first who hangs.
    let known = start + super::QUICK * hanging;
    let (mut now, mut ends, mut longest) = (start, BTreeSet::new(), Duration::ZERO);
    while now < known + Duration::from_hours(1) {
        let due = sweeps.lock().get(healthy).map(|state| state.due);
        let (begins, next) = sweeps.begin(&all, now);
        assert!(next.is_none_or(|next| next > now), "nobody is woken for nothing");
        for id in begins {
            if id == healthy {
                longest = longest.max(due.filter(|_| now > known).map_or(Duration::ZERO, |due| now - due));
                sweeps.end(&id, complete(&[]), now);
            } else {
                ends.insert((now + walk, id));
            }
        }
        now = sweeps.begin(&all, now).1.into_iter().chain(ends.first().map(|(at, _)| *at)).min().unwrap();
        let later = ends.split_off(&(now + Duration::from_nanos(1), String::new()));
        for (at, id) in std::mem::replace(&mut ends, later) {
            sweeps.end(&id, Ended::Broken, at);
        }
    }
    longest
}

#[test]
fn accounts_whose_walks_break_off_keep_no_healthy_one_waiting_however_many_they_are() {
    let longest = longest_wait_beside(40, A);
    assert!(longest <= super::QUICK, "{longest:?}");
}

#[test]
fn a_role_may_ask_before_the_account_is_known() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    sweeps.ask(A, now);
    assert_eq!(sweeps.begin(&intervals(INTERVAL), now).0, [A]);
}

#[test]
fn a_shorter_interval_counts_at_once_and_an_account_without_classes_is_forgotten() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    sweeps.begin(&intervals(INTERVAL), now);
    let (_, next) = sweeps.begin(&intervals(Duration::from_secs(5)), now);
    assert!(next.unwrap() <= now + Duration::from_secs(5));
    assert_eq!(sweeps.begin(&BTreeMap::new(), now + INTERVAL), (vec![], None));
}

#[test]
fn an_account_whose_only_class_is_not_ready_for_a_moment_keeps_its_walk_and_what_is_known_of_it() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    let second = Duration::from_secs(1);
    sweeps.begin(&intervals(INTERVAL), now);
    sweeps.end(A, complete(&["x"]), now);
    sweeps.walked_by(A, "me");
    sweeps.ask(A, now);
    assert_eq!(sweeps.begin(&intervals(INTERVAL), now).0, [A]);
    // It ended for want of a session, and the class is looked at anew.
    sweeps.end(A, Ended::Broken, now);
    assert_eq!(sweeps.begin(&BTreeMap::new(), now + second), (vec![], None), "nobody wakes for it");
    assert_eq!(sweeps.orphans(A), None);
    let (_, next) = sweeps.begin(&intervals(INTERVAL), now + 2 * second);
    assert!(next.unwrap() <= now + super::RETRY, "the walk is tried again soon");
    assert_eq!((sweeps.walker(A), sweeps.orphans(A)), (Some("me".to_owned()), Some(set(&["x"]))));
    sweeps.begin(&BTreeMap::new(), now + 3 * second);
    sweeps.begin(&intervals(INTERVAL), now + 3 * second + INTERVAL);
    assert_eq!(sweeps.walker(A), None, "forgotten in the end");
}

#[test]
fn roles_that_settle_hurry_no_walk_that_broke_off_and_are_not_missed_during_one() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    let walk = |round: u32, ended: Ended, during: bool, after: bool| {
        let now = now + 2 * round * APART;
        sweeps.ask(A, now);
        assert_eq!(sweeps.begin(&intervals(INTERVAL), now).0, [A]);
        let settles = |does: bool| does.then(|| sweeps.reconsider(&class(None), A, now));
        settles(during);
        sweeps.end(A, ended, now);
        settles(after);
        sweeps.begin(&intervals(INTERVAL), now).1.map(|next| next - now)
    };
    let (cheap, soon) = (Ended::Not(Obstacle::Dearer), Some(super::RECONSIDER));
    assert!(walk(0, cheap.clone(), false, false) > Some(INTERVAL / 2));
    assert_eq!(walk(1, cheap.clone(), true, false), soon, "they came while it was found out");
    assert_eq!(walk(2, cheap, false, true), soon);
    assert!(walk(3, Ended::Broken, true, true) > soon, "AWS is in trouble");
    assert!(walk(4, complete(&[]), true, true) > Some(INTERVAL / 2), "walks show them");
}

#[test]
fn what_is_denied_or_dearer_is_read_role_by_role_and_tried_again() {
    let now = Instant::now();
    for obstacle in [Obstacle::Denied, Obstacle::Dearer] {
        let sweeps = Sweeps::working();
        sweeps.begin(&intervals(INTERVAL), now);
        assert!(sweeps.cover(&class(None), A) && sweeps.cover(&class(Some(DriftMethod::Account)), A));
        assert!(!sweeps.cover(&class(Some(DriftMethod::Role)), A));
        assert_eq!(found(&sweeps, None), None, "nobody knows yet");
        sweeps.end(A, Ended::Not(obstacle), now);
        assert!(!sweeps.cover(&class(None), A) && sweeps.obstacle(A) == Some(obstacle));
        assert_eq!(found(&sweeps, Some(DriftMethod::Account)), Some(DriftMethod::Role));
        assert_eq!(sweeps.begin(&intervals(INTERVAL), now + 2 * INTERVAL).0, [A]);
        sweeps.end(A, complete(&[]), now);
        assert!(sweeps.cover(&class(None), A) && sweeps.obstacle(A).is_none());
        assert_eq!(found(&sweeps, None), Some(DriftMethod::Account));
        assert_eq!(found(&sweeps, Some(DriftMethod::Role)), Some(DriftMethod::Role));
    }
}

#[test]
fn where_reading_was_cheaper_roles_that_settle_have_that_found_out_anew_and_not_all_the_time() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    sweeps.begin(&intervals(INTERVAL), now);
    let settles = |class: &IamRoleClassSpec, at: Instant| {
        sweeps.reconsider(class, A, at);
        sweeps.begin(&intervals(INTERVAL), at).1.map(|next| next - at)
    };
    assert!(settles(&class(None), now) > Some(INTERVAL / 2), "a walk shows it");
    sweeps.ask(A, now);
    assert_eq!(sweeps.begin(&intervals(INTERVAL), now).0, [A]);
    sweeps.end(A, Ended::Not(Obstacle::Dearer), now);
    assert!(settles(&class(Some(DriftMethod::Role)), now) > Some(INTERVAL / 2), "no walk is for it");
    assert_eq!(settles(&class(None), now), Some(super::RECONSIDER));
    let later = now + super::RECONSIDER;
    assert_eq!(sweeps.begin(&intervals(INTERVAL), later).0, [A]);
    sweeps.end(A, Ended::Not(Obstacle::Dearer), later);
    assert_eq!(settles(&class(None), later + super::RECONSIDER), Some(super::CACHED));
    assert_eq!(sweeps.begin(&intervals(INTERVAL), later + 2 * super::RECONSIDER).0, [A]);
    sweeps.end(A, complete(&[]), later);
    assert!(settles(&class(None), later) > Some(INTERVAL / 2), "it is walked now");
    sweeps.begin(&intervals(INTERVAL), later + INTERVAL);
    sweeps.end(A, Ended::Not(Obstacle::Denied), later + INTERVAL);
    assert!(settles(&class(None), later + INTERVAL) > Some(INTERVAL / 2), "that changes nothing about it");
}

#[test]
fn a_broken_walk_is_tried_again_ever_later_and_covers_still() {
    let (sweeps, mut now) = (Sweeps::working(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..8 {
        sweeps.begin(&intervals(INTERVAL), now);
        sweeps.end(A, Ended::Broken, now);
        let next = sweeps.begin(&intervals(INTERVAL), now).1.unwrap();
        waits.push(next - now);
        now = next;
    }
    assert!(waits[0] <= super::RETRY && waits[7] > INTERVAL / 2 && waits[7] <= INTERVAL, "{waits:?}");
    assert!(sweeps.cover(&class(None), A));
}

#[test]
fn four_broken_walks_after_a_start_have_no_role_read_and_walks_that_stay_broken_all() {
    let attempts = Duration::from_secs(3);
    for seconds in [60, 300, 900, 86400] {
        let interval = Duration::from_secs(seconds);
        let (sweeps, start) = (Sweeps::working(), Instant::now());
        sweeps.begin(&intervals(interval), start);
        sweeps.ask(A, start);
        let mut now = start;
        for _ in 0..4 {
            assert_eq!(sweeps.begin(&intervals(interval), now).0, [A]);
            now += attempts;
            sweeps.end(A, Ended::Broken, now);
            now = sweeps.begin(&intervals(interval), now).1.unwrap();
        }
        let waited = now - start;
        assert!(waited >= Duration::from_mins(1), "the trouble lasted: {waited:?}");
        let first_read = patience(interval).mul_f64(0.75);
        assert!(first_read > waited + attempts, "each {interval:?}: read after {first_read:?}, walk after {waited:?}");
    }
    for seconds in [5, 60, 120, 900, 86400] {
        let interval = Duration::from_secs(seconds);
        assert!(patience(interval) <= (2 * interval).max(Duration::from_mins(5)), "drift is found all the same");
    }
}

#[test]
fn roles_of_nobody_are_known_until_a_walk_shows_none() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    sweeps.begin(&intervals(INTERVAL), now);
    assert_eq!(sweeps.orphans(A), None);
    sweeps.end(A, complete(&["x"]), now);
    sweeps.end(A, Ended::Broken, now);
    assert_eq!(sweeps.orphans(A), Some(set(&["x"])));
    sweeps.end(A, complete(&[]), now);
    assert_eq!(sweeps.orphans(A), Some(set(&[])));
}

#[test]
fn what_seems_to_be_nobodys_holds_up_no_walk_and_is_told_once_it_was_asked_for() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    let ids = |roles: &[(&str, &str)]| -> BTreeMap<String, String> {
        roles.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect()
    };
    let walk = |known: &[&str], strays: &[(&str, &str)]| {
        sweeps.begin(&intervals(INTERVAL), now);
        let new = sweeps.appear(A, ids(strays), now);
        sweeps.end(A, complete(known), now);
        new
    };
    assert_eq!(walk(&["old"], &[("x", "1"), ("y", "1"), ("z", "1")]), set(&["x", "y", "z"]));
    assert_eq!(sweeps.orphans(A), None, "what was told before stands");
    assert_eq!(sweeps.begin(&intervals(INTERVAL), now + INTERVAL).0, [A], "the next walk is due all the same");
    sweeps.end(A, Ended::Broken, now);
    // Of the same name, but another one; and one that is gone.
    assert_eq!(walk(&["old"], &[("x", "1"), ("y", "2")]), set(&["y"]));
    let all = set(&["x", "y", "z"]);
    let first = sweeps.confirm(A, &ids(&[("x", "1"), ("y", "1"), ("z", "1")]), &all);
    assert_eq!((first, sweeps.orphans(A)), (None, None), "another one is being asked for");
    let both = sweeps.confirm(A, &ids(&[("y", "2")]), &set(&[]));
    assert_eq!(both, Some(set(&["old", "x"])), "it was not there any more");
    assert_eq!(sweeps.orphans(A), both);
    assert_eq!(walk(&["old", "x"], &[("y", "2")]), set(&["y"]), "it is there after all");
    sweeps.begin(&BTreeMap::new(), now);
    assert_eq!(sweeps.confirm(A, &ids(&[("y", "2")]), &all), None, "nobody cares any more");
    sweeps.begin(&intervals(INTERVAL), now + APART);
    assert_eq!(sweeps.appear(A, ids(&[("y", "2")]), now), set(&["y"]), "it is asked for anew");
    sweeps.begin(&BTreeMap::new(), now + APART);
    sweeps.begin(&intervals(INTERVAL), now + APART + INTERVAL);
    assert_eq!(sweeps.confirm(A, &ids(&[("y", "2")]), &all), None, "it was not walked anew");
    assert_eq!(sweeps.orphans(A), None, "what was told before stands");
}

#[test]
fn what_seems_to_be_nobodys_and_may_not_be_read_is_asked_for_again_a_day_later_or_when_it_is_another_one() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    sweeps.begin(&intervals(INTERVAL), now);
    let appear = |id: &str, at: Instant| {
        let new = sweeps.appear(A, BTreeMap::from([("x".to_owned(), id.to_owned())]), at);
        for name in &new {
            sweeps.refused(A, name.clone(), id.to_owned(), at);
            sweeps.confirm(A, &BTreeMap::from([(name.clone(), id.to_owned())]), &set(&[]));
        }
        !new.is_empty()
    };
    assert!(appear("1", now) && !appear("1", now + INTERVAL));
    assert_eq!(sweeps.orphans(A), Some(set(&[])), "what else there is can be told");
    assert!(appear("2", now + INTERVAL) && !appear("2", now + super::ORPHANS));
    assert!(appear("2", now + INTERVAL + super::ORPHANS));
}

#[test]
fn where_roles_are_read_one_by_one_roles_of_nobody_are_looked_for_once_a_day() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    sweeps.begin(&intervals(INTERVAL), now);
    assert!(sweeps.may_hide_orphans(A, now), "after a start");
    let orphans = set(&["x"]);
    sweeps.end(A, Ended::Complete { orphans: orphans.clone(), obstacle: Some(Obstacle::Dearer) }, now);
    assert!(!sweeps.cover(&class(None), A) && sweeps.orphans(A).as_ref() == Some(&orphans));
    assert_eq!(found(&sweeps, None), Some(DriftMethod::Role));
    assert!(!sweeps.may_hide_orphans(A, now + super::ORPHANS / 2));
    sweeps.end(A, Ended::Not(Obstacle::Dearer), now + super::ORPHANS / 2);
    assert!(sweeps.orphans(A) == Some(orphans) && sweeps.may_hide_orphans(A, now + super::ORPHANS));
    sweeps.end(A, Ended::Not(Obstacle::Denied), now + super::ORPHANS);
    assert!(!sweeps.may_hide_orphans(A, now + super::ORPHANS), "it may not");
}

#[test]
fn where_one_that_seems_to_be_nobodys_could_not_be_read_the_next_look_is_not_a_day_later() {
    let (sweeps, now) = (Sweeps::working(), Instant::now());
    sweeps.begin(&intervals(INTERVAL), now);
    sweeps.appear(A, BTreeMap::from([("x".to_owned(), "1".to_owned())]), now);
    sweeps.end(A, Ended::Complete { orphans: set(&[]), obstacle: Some(Obstacle::Dearer) }, now);
    assert!(!sweeps.may_hide_orphans(A, now + INTERVAL));
    let due = sweeps.begin(&intervals(INTERVAL), now).1.unwrap();
    sweeps.missed(A, now + Duration::from_secs(30));
    assert_eq!(sweeps.begin(&intervals(INTERVAL), due).0, [A], "after an interval");
    assert!(sweeps.may_hide_orphans(A, due));
}

#[test]
fn who_may_not_or_need_not_look_knows_nothing_of_roles_of_nobody() {
    let now = Instant::now();
    for ended in [Ended::Not(Obstacle::Denied), Ended::Not(Obstacle::Dearer), Ended::Broken] {
        let sweeps = Sweeps::working();
        sweeps.begin(&intervals(INTERVAL), now);
        sweeps.end(A, ended.clone(), now);
        assert_eq!(sweeps.orphans(A), None, "what the process before has told stands: {ended:?}");
        sweeps.end(A, complete(&["x"]), now);
        sweeps.end(A, ended.clone(), now);
        assert_eq!(sweeps.orphans(A), Some(set(&["x"])), "{ended:?}");
    }
}

#[test]
fn without_anybody_who_walks_nothing_is_covered() {
    assert!(!Sweeps::default().cover(&class(None), A));
}
