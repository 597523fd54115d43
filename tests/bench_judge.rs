//! What `make bench` holds against the operator is told by numbers, and no machine excuses work that grows with the square of
//! the roles.

#[path = "../benches/scale/judge.rs"]
mod judge;

use judge::{Spent, is_too_busy, too_much};

const fn spent(seconds: f64, roles: f64) -> Spent {
    Spent { seconds, roles }
}

#[test]
fn what_the_operator_does_itself_is_no_excuse() {
    // Two processors for ten seconds.
    assert!(!is_too_busy(0.99, 0.5), "one of them is its own");
    assert!(!is_too_busy(0.99, 0.99), "both are");
    assert!(is_too_busy(0.94, 0.1), "others have next to all");
    assert!(!is_too_busy(0.89, 0.0), "there is time left");
    assert!(!is_too_busy(0.0, 0.0), "nothing was measured");
}

#[test]
fn processor_time_is_judged_by_the_role() {
    assert_eq!(too_much(spent(3.0, 200.0), None), None, "15 ms");
    assert!(too_much(spent(3.1, 200.0), None).is_some_and(|said| said.contains("not 15.5")));
    // As measured: 3 ms among 200, 3.7 among 1,000, 3.9 among 5,000.
    let few = Some(spent(0.6, 200.0));
    assert_eq!(too_much(spent(3.7, 1000.0), few), None);
    assert_eq!(too_much(spent(19.7, 5000.0), few), None);
}

#[test]
fn work_that_grows_with_the_square_is_too_much() {
    let few = spent(0.6, 200.0);
    for roles in [1000.0, 5000.0] {
        assert_eq!(too_much(spent(few.seconds * roles / few.roles, roles), Some(few)), None, "{roles}: as many times");
        // Half of what few roles take is such work.
        let square = few.seconds / 2.0 * (roles / few.roles + (roles / few.roles).powi(2));
        assert!(too_much(spent(square, roles), Some(few)).is_some(), "{roles}: {square:.1} s");
    }
    assert!(too_much(spent(5.6, 1000.0), Some(few)).is_some_and(|said| said.contains("5.6 ms, among few 3.0")));
}
