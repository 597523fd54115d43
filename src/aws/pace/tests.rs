//! What [`super::Pace`] makes of an account that takes so many calls a second; the time is paused.

use super::{PATIENCE, Pace, Ticket, Turn};
use futures::FutureExt as _;
use futures::future::join_all;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LATENCY: Duration = Duration::from_millis(50);

/// An account that takes so many calls a second, and as many more at first.
struct Aws {
    rate: Cell<f64>,
    left: Cell<f64>,
    filled: Cell<Instant>,
    taken: Cell<u32>,
    refused: Cell<u32>,
}

impl Aws {
    fn new(rate: f64) -> Self {
        let (rate, left, filled) = (Cell::new(rate), Cell::new(rate), Cell::new(Instant::now()));
        Self { rate, left, filled, taken: Cell::new(0), refused: Cell::new(0) }
    }

    fn takes(&self) -> bool {
        let passed = self.filled.replace(Instant::now()).elapsed().as_secs_f64();
        let left = (self.left.get() + passed * self.rate.get()).min(self.rate.get());
        self.left.set(if left >= 1.0 { left - 1.0 } else { left });
        left >= 1.0
    }

    /// A call with the SDK's repetitions; false if each was refused.
    async fn call(&self, pace: &Pace) -> bool {
        for attempt in 0..3_u32 {
            if attempt > 0 {
                sleep(Duration::from_millis(300) * attempt).await;
                pace.repeated();
            }
            let (sent, takes) = (Instant::now(), self.takes());
            sleep(LATENCY).await;
            if takes {
                self.taken.set(self.taken.get() + 1);
                pace.answered();
                return true;
            }
            self.refused.set(self.refused.get() + 1);
            pace.refused(sent);
        }
        false
    }

    /// Three calls for each of so many roles, 24 roles at a time; which share of the bucket was used, and which share
    /// of the calls was refused.
    async fn make(&self, pace: &Pace, roles: u32) -> (f64, f64) {
        let (left, start) = (Cell::new(roles), Instant::now());
        let (full, taken, refused) = (self.left.get(), self.taken.get(), self.refused.get());
        let worker = async || {
            while left.get() > 0 {
                left.set(left.get() - 1);
                for _ in 0..3 {
                    while !pace.run(Turn::Change, Box::pin(self.call(pace))).await {}
                }
            }
        };
        join_all((0..24).map(|_| worker())).await;
        let (taken, refused) = (f64::from(self.taken.get() - taken), f64::from(self.refused.get() - refused));
        let used = (taken - full) / (self.rate.get() * start.elapsed().as_secs_f64());
        (used, refused / (taken + refused))
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_used_and_little_is_refused() {
    for (rate, roles) in [(20.0, 100), (20.0, 1000), (5.0, 100), (100.0, 1000)] {
        let (pace, aws) = (Pace::new(16), Aws::new(rate));
        let (used, refused) = aws.make(&pace, roles).await;
        println!("{roles} roles at {rate} calls a second: {used:.3} used, {refused:.3} refused");
        assert!(used >= 0.9 && refused <= 0.05, "{rate} calls a second: {used} used, {refused} refused");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_in_a_time_of_plenty_is_no_reason_to_run_against_a_bucket() {
    let (pace, plenty, aws) = (Pace::new(16), Aws::new(10_000.0), Aws::new(20.0));
    plenty.make(&pace, 100).await;
    sleep(Duration::from_secs(30)).await;
    let (used, refused) = aws.make(&pace, 100).await;
    assert!(used >= 0.9 && refused <= 0.05, "{used} used, {refused} refused");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_gets_smaller_or_larger_is_found_again() {
    let (pace, aws) = (Pace::new(16), Aws::new(50.0));
    aws.make(&pace, 500).await;
    aws.rate.set(10.0);
    aws.make(&pace, 100).await;
    let (used, refused) = aws.make(&pace, 100).await;
    assert!(used >= 0.9 && refused <= 0.05, "smaller: {used} used, {refused} refused");
    aws.rate.set(50.0);
    aws.make(&pace, 1000).await;
    let (used, refused) = aws.make(&pace, 500).await;
    assert!(used >= 0.9 && refused <= 0.05, "larger: {used} used, {refused} refused");
}

#[tokio::test(start_paused = true)]
async fn unthrottled_there_are_as_many_at_once_as_may_be() {
    let (pace, start) = (Pace::new(16), Instant::now());
    let calls = (0..3000).map(|_| {
        pace.run(
            Turn::Change,
            Box::pin(async {
                sleep(LATENCY).await;
                pace.answered();
            }),
        )
    });
    join_all(calls).await;
    let least = LATENCY * 3000 / 16;
    assert!(start.elapsed() < least.mul_f64(1.1), "{:?}, and {least:?} at least", start.elapsed());
    assert_eq!(pace.rate(), None);
}

#[tokio::test(start_paused = true)]
async fn a_minute_without_refusal_is_as_if_there_had_been_none() {
    let pace = Pace::new(16);
    assert!(pace.refused(Instant::now()));
    assert!(!pace.refused(Instant::now().checked_sub(LATENCY).unwrap()), "it was under way then");
    assert!(pace.rate().is_some());
    sleep(Duration::from_mins(2)).await;
    assert_eq!(pace.rate(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_goes_first_and_what_began_first_is_finished_first() {
    let (pace, order) = (Pace::new(1), RefCell::new(Vec::new()));
    let (pace, order) = (&pace, &order);
    let call = |name: &'static str| pace.run(Turn::Walk, Box::pin(async move { order.borrow_mut().push(name) }));
    let as_one = |turn, names: &'static [&'static str]| {
        Ticket::new(turn).scope(async move {
            for name in names {
                call(name).await;
            }
        })
    };
    let first = pace.run(Turn::Walk, Box::pin(sleep(LATENCY)));
    let (elder, younger) = (as_one(Turn::Change, &["a1", "a2"]), as_one(Turn::Change, &["b"]));
    let (deletion, walk) = (as_one(Turn::Deletion, &["d1", "d2"]), call("walk"));
    tokio::join!(first, walk, younger, deletion, elder);
    // While one of two calls is made, the next one of the same work can't stand in line yet.
    assert_eq!(*order.borrow(), ["d1", "a1", "d2", "a2", "b", "walk"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_little_urgent_is_not_forgotten() {
    let (pace, done) = (Pace::new(1), Cell::new(0));
    let worker = async || {
        for _ in 0..100 {
            pace.run(Turn::Change, Box::pin(sleep(LATENCY))).await;
            done.set(done.get() + 1);
        }
    };
    let walk = async {
        pace.run(Turn::Walk, Box::pin(sleep(LATENCY))).await;
        assert!(done.get() < 30, "after {} others", done.get());
    };
    tokio::join!(worker(), worker(), worker(), walk);
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_make_room_and_who_gave_up_is_passed_over() {
    let pace = Pace::new(2);
    let hang = || pace.run(Turn::Change, Box::pin(sleep(Duration::from_mins(1))));
    let mut hanging: Vec<_> = (0..2).map(|_| Box::pin(hang())).collect();
    assert!(hanging.iter_mut().all(|call| call.as_mut().now_or_never().is_none()));
    let mut gone = Box::pin(pace.run(Turn::Change, Box::pin(sleep(LATENCY))));
    assert!(gone.as_mut().now_or_never().is_none());
    let mut gone_too = Box::pin(pace.run(Turn::Change, Box::pin(sleep(LATENCY))));
    assert!(gone_too.as_mut().now_or_never().is_none());
    drop((gone, gone_too));
    let start = Instant::now();
    let good = async {
        pace.run(Turn::Change, Box::pin(sleep(LATENCY))).await;
        assert!(start.elapsed() < 2 * PATIENCE, "{:?}", start.elapsed());
    };
    tokio::join!(good, join_all(hanging));
}
