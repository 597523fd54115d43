//! The fault matrix: the operator's own reconciliation between stand-ins for AWS and Kubernetes, in virtual time. Every
//! call of a role's life meets every fault, and the operator survives it or is killed; each time it must come to the
//! same end, and at every moment on the way nobody may do what no spec allows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::future_not_send)]

#[path = "matrix/act.rs"]
mod act;
#[path = "matrix/begun.rs"]
mod begun;
#[path = "matrix/cluster.rs"]
mod cluster;
#[path = "matrix/contest.rs"]
mod contest;
#[path = "matrix/crowd.rs"]
mod crowd;
#[path = "matrix/deletions.rs"]
mod deletions;
#[path = "matrix/edits.rs"]
mod edits;
#[path = "matrix/failures.rs"]
mod failures;
#[path = "matrix/faults.rs"]
mod faults;
#[path = "matrix/iam.rs"]
mod iam;
#[path = "matrix/layer.rs"]
mod layer;
#[path = "matrix/lives.rs"]
mod lives;
#[path = "matrix/meaning.rs"]
mod meaning;
mod model;
#[path = "matrix/moments.rs"]
mod moments;
#[path = "matrix/operator.rs"]
mod operator;
#[path = "matrix/profiles.rs"]
mod profiles;
#[path = "matrix/restarts.rs"]
mod restarts;
#[path = "statuses/rules.rs"]
mod rules;
#[path = "matrix/walk.rs"]
mod walk;
#[path = "matrix/walked.rs"]
mod walked;
#[path = "matrix/wire.rs"]
mod wire;
#[path = "matrix/world.rs"]
mod world;

use lives::{
    Life, adopted, bare, created, forced, growing, inherited, keeping, kept, lost, meddled, owning, plain, required,
    restored, skewed, usurped,
};
use std::time::Duration;
use walk::{Pace, plans, run_all};

/// For lives that differ from a full one in what is there and wanted, not in the calls.
const THIN: Pace = Pace { lag: Duration::ZERO, hurried: false, interrupted: false, thin: true };

fn matrix(life: Life, pace: Pace) {
    run_all(&plans(life, pace), pace);
}

#[test]
fn a_created_role() {
    matrix(created(), Pace::default());
}

#[test]
fn a_role_with_strangers() {
    matrix(kept(), THIN);
}

#[test]
fn an_adopted_role() {
    matrix(adopted(), Pace::default());
    matrix(required(), THIN);
    matrix(usurped(), THIN);
}

#[test]
fn a_role_that_goes_by_force() {
    matrix(forced(), THIN);
}

#[test]
fn a_role_that_was_meddled_with() {
    matrix(meddled(), THIN);
}

#[test]
fn a_role_whose_object_lost_its_status() {
    matrix(restored(), THIN);
}

#[test]
fn a_role_whose_object_goes() {
    matrix(plain(), THIN);
    matrix(lost(), THIN);
}

#[test]
fn a_role_that_seems_older_than_it_is() {
    matrix(skewed(), THIN);
    for life in [skewed().without(&["move"]), skewed().without(&["change", "move", "shrink"])] {
        matrix(life, Pace { hurried: true, interrupted: true, ..Pace::default() });
    }
}

#[test]
fn a_role_of_a_lost_cluster() {
    matrix(inherited(), THIN);
}

/// The same where IAM shows what was written only after a while.
#[test]
fn reads_that_lag() {
    for seconds in [4, 20] {
        let pace = Pace { lag: Duration::from_secs(seconds), ..Pace::default() };
        for life in [bare(), created(), kept(), adopted()] {
            matrix(life, pace);
        }
    }
}

/// An edit that comes when the one before has met a fault, and before anything could be put right: whatever was made or
/// begun for a spec that is no more is known, and goes.
#[test]
fn edits_that_interrupt() {
    // A move attaches what the edit before it makes, so it can't come before that.
    let created = || created().without(&["move"]);
    for life in [created(), created().without(&["change", "shrink"]), keeping()] {
        matrix(life, Pace { hurried: true, interrupted: true, ..Pace::default() });
    }
}

/// The same where what was made, or was not answered, is not shown yet when the spec does without it: it is not
/// forgotten, and is nobody else's.
#[test]
fn edits_that_interrupt_while_reads_lag() {
    for seconds in [4, 20] {
        let pace = Pace { lag: Duration::from_secs(seconds), hurried: true, interrupted: true, ..Pace::default() };
        for life in [
            bare(),
            growing(),
            owning(),
            owning().without(&["rename"]),
            owning().without(&["rename", "without", "again"]),
        ] {
            matrix(life, pace);
        }
    }
}

/// One edit right after the other.
#[test]
fn edits_in_a_hurry() {
    for seconds in [0, 3] {
        matrix(created(), Pace { lag: Duration::from_secs(seconds), hurried: true, ..Pace::default() });
    }
}

/// Where nothing is waited for but AWS and the API server: many roles take hardly longer than their calls do, and each of
/// them is made in one go.
#[test]
fn many_new_roles() {
    for milliseconds in [25, 50] {
        let kubernetes = Duration::from_millis(milliseconds);
        take_little_longer_than_their_calls(crowd::Latency { aws: Duration::from_millis(50), kubernetes });
    }
}

fn take_little_longer_than_their_calls(latency: crowd::Latency) {
    let [few, many] = [200, 1000].map(|roles| {
        let made = crowd::make(roles, 16, latency);
        let least = latency.aws * u32::try_from(made.calls).expect("a number") / 16;
        let times = made.wall.as_secs_f64() / least.as_secs_f64();
        println!("{roles} roles: {:?}, {times:.2} times the least; {:?} for one at most", made.wall, made.longest);
        assert_eq!((made.calls, made.at_once), (3 * roles, 16), "{roles} roles");
        (times, made.longest)
    });
    assert!(many.0 <= 1.25, "1,000 roles take {:.2} times the least", many.0);
    assert!(many.1 <= few.1.mul_f64(1.25), "{:?} for a role among 200, {:?} among 1,000", few.1, many.1);
}

/// What can't succeed costs the others nothing, whenever they come. What is tried for the first and the second time counts
/// as any other role. (What AWS throttles slows down the whole account, as it is to.)
#[test]
fn good_roles_beside_many_broken_ones_get_ready_as_fast_as_alone() {
    use crowd::Broken::{Busy, Denied, Invalid};
    const GOOD: usize = 50;
    const OTHERS: usize = 200;
    let latency = crowd::Latency { aws: Duration::from_millis(50), kubernetes: Duration::from_millis(25) };
    let beside = |kinds: &[&str], lead| {
        let others: Vec<String> = (0..OTHERS).map(|i| format!("{}-{i}", kinds[i % kinds.len()])).collect();
        crowd::make_beside(GOOD, &others, lead, 16, latency)
    };
    let second = Duration::from_secs(1);
    // Beside others that have just got Ready, and among others that are made at the same time: as many calls at once are
    // known to be taken, too.
    let (alone, crowded) = (beside(&["other"], 4 * second), beside(&["other"], Duration::ZERO));
    assert_eq!((alone.others_ready, crowded.others_called), (OTHERS, OTHERS));
    for kinds in [&[Denied][..], &[Invalid, Denied, Busy]] {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.prefix()).collect();
        for lead in [0, 1, 2, 3, 4, 5, 6, 7, 122] {
            let beside = beside(&names, lead * second);
            let called = (0..OTHERS).filter(|i| kinds[i % kinds.len()] != Invalid).count();
            assert_eq!((beside.others_ready, beside.others_called), (0, called), "{kinds:?}");
            let without = if lead < 2 { &crowded } else { &alone };
            for (what, i, most) in [("median", GOOD / 2, 1.1), ("longest", GOOD - 1, 1.2)] {
                let (with, without) = (beside.taken[i], without.taken[i]);
                let told = format!("{kinds:?} for {lead} s: {what} {with:?}, without them {without:?}");
                println!("{told}");
                assert!(with <= without.mul_f64(most), "{told}");
            }
        }
    }
}
