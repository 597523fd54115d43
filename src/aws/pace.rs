//! How fast an account is called: how many calls are under way at once and, once AWS refuses some as too many, how many
//! leave in a second. All that goes to IAM of one account waits in one line, whatever it is for, and what a person waits
//! for goes first; what goes to EKS waits in another one.

use super::limit::Limit;
use super::ticket::{Ticket, Turn};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Calls under way at once when nothing is known of an account. It becomes more by one for each round of answers.
const FIRST: usize = 4;
/// A call that takes longer counts as hanging, and makes room for another.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// And by one after so long, should answers be slow.
const GROWTH: Duration = Duration::from_millis(250);
/// After so long without a call it is as at first.
const QUIET: Duration = Duration::from_secs(10);
/// One of so many turns goes to the call that has waited longest, however little urgent it is.
const ELDEST: u64 = 8;

/// The pace of one account.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: usize,
    window: f64,
    /// When it last grew by itself.
    grown: Instant,
    under_way: usize,
    /// When the last call ended.
    ended: Instant,
    turns: u64,
    arrived: u64,
    waiting: BTreeMap<(Turn, u64, u64), oneshot::Sender<UnderWay>>,
    /// Somebody looks again when the next call may leave.
    is_timed: bool,
    limit: Limit,
}

/// A call that is under way, until it is dropped.
#[derive(Debug)]
struct UnderWay(Option<Arc<Shared>>);

impl Pace {
    /// At most so many calls under way at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        let inner = Inner {
            at_once,
            window: 1.0,
            grown: Instant::now(),
            under_way: 0,
            ended: Instant::now(),
            turns: 0,
            arrived: 0,
            waiting: BTreeMap::new(),
            is_timed: false,
            limit: Limit::new(Instant::now()),
        };
        Self(Arc::new(Shared(Mutex::new(inner))))
    }

    /// Whether somebody else goes by it, too.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Makes a call when it is its turn. One that takes long makes room, so that calls that hang delay no other.
    pub async fn run<T>(&self, otherwise: Turn, mut call: impl Future<Output = T> + Unpin) -> T {
        let ticket = Ticket::current(otherwise);
        let in_line = ticket.stand_in_line();
        let under_way = self.enter(&ticket).await;
        drop(in_line);
        let done = tokio::select! {
            done = &mut call => done,
            () = tokio::time::sleep(PATIENCE) => {
                self.0.lock().widen();
                drop(under_way);
                call.await
            }
        };
        ticket.gets_on();
        done
    }

    async fn enter(&self, ticket: &Ticket) -> UnderWay {
        let leave = {
            let mut inner = self.0.lock();
            inner.begin();
            inner.arrived += 1;
            let (tell, leave) = oneshot::channel();
            let key = (ticket.turn, ticket.number, inner.arrived);
            inner.waiting.insert(key, tell);
            self.0.let_go(&mut inner);
            leave
        };
        // A sender is never dropped without having sent.
        leave.await.unwrap_or(UnderWay(None))
    }

    /// An attempt that AWS answered, otherwise than with a refusal for being too many.
    pub fn answered(&self) {
        let mut inner = self.0.lock();
        inner.widen();
        inner.limit.answered(Instant::now());
        self.0.let_go(&mut inner);
    }

    /// An attempt begun at `sent` that AWS refused for being too many. True if that was news.
    pub fn refused(&self, sent: Instant) -> bool {
        self.0.lock().limit.refused(sent, Instant::now())
    }

    /// An attempt that did not wait for its turn, since it repeats one that did.
    pub fn repeated(&self) {
        self.0.lock().limit.take(Instant::now());
    }

    /// How many calls had their turn.
    #[cfg(test)]
    pub(super) fn turns(&self) -> u64 {
        self.0.lock().turns
    }

    /// Calls a second at present; `None` while AWS takes all.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.0.lock().limit.at(Instant::now())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves whole numbers behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go all that may leave now.
    fn let_go(self: &Arc<Self>, inner: &mut Inner) {
        while let Some(key) = inner.first() {
            let now = Instant::now();
            if !inner.has_room() {
                if let Some(instant) = inner.grow(now) {
                    self.look_again(inner, instant);
                }
                if !inner.has_room() {
                    return;
                }
            }
            if let Some(instant) = inner.limit.wait(now) {
                self.look_again(inner, instant);
                return;
            }
            let Some(tell) = inner.waiting.remove(&key) else { return };
            inner.turns += 1;
            inner.under_way += 1;
            match tell.send(UnderWay(Some(self.clone()))) {
                Ok(()) => inner.limit.take(now),
                // Nobody waits there any more.
                Err(mut unused) => {
                    drop(unused.0.take());
                    inner.under_way -= 1;
                }
            }
        }
    }

    fn look_again(self: &Arc<Self>, inner: &mut Inner, instant: Instant) {
        if std::mem::replace(&mut inner.is_timed, true) {
            return;
        }
        let account = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(instant).await;
            if let Some(account) = account.upgrade() {
                let mut inner = account.lock();
                inner.is_timed = false;
                account.let_go(&mut inner);
            }
        });
    }
}

impl Inner {
    #[allow(clippy::cast_precision_loss, reason = "at most 1000")]
    fn has_room(&self) -> bool {
        (self.under_way as f64) < self.window.floor()
    }

    /// After some quiet it is as at first: whoever has made room for many calls would have all of them refused at once.
    #[allow(clippy::cast_precision_loss, reason = "at most 1000")]
    fn begin(&mut self) {
        let is_first = self.arrived == 0;
        if is_first || (self.under_way == 0 && self.waiting.is_empty() && self.ended.elapsed() >= QUIET) {
            (self.window, self.grown) = (FIRST.min(self.at_once) as f64, Instant::now());
        }
    }

    /// Room for one more every so often, since answers may be slow to come. When to look again, if there may be more.
    #[allow(clippy::cast_precision_loss, reason = "at most 1000")]
    fn grow(&mut self, now: Instant) -> Option<Instant> {
        let most = self.at_once as f64;
        if now >= self.grown + GROWTH {
            (self.window, self.grown) = ((self.window + 1.0).min(most), now);
        }
        (self.window < most).then(|| self.grown + GROWTH)
    }

    /// One more of as many as are under way at once.
    #[allow(clippy::cast_precision_loss, reason = "at most 1000")]
    fn widen(&mut self) {
        self.window = (self.window + 1.0 / self.window).min(self.at_once as f64);
    }

    /// Whose turn is next.
    fn first(&self) -> Option<(Turn, u64, u64)> {
        if (self.turns + 1).is_multiple_of(ELDEST) {
            return self.waiting.keys().min_by_key(|(_, _, arrived)| *arrived).copied();
        }
        self.waiting.keys().next().copied()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(account) = self.0.take() else { return };
        let mut inner = account.lock();
        inner.under_way = inner.under_way.saturating_sub(1);
        inner.ended = Instant::now();
        account.let_go(&mut inner);
    }
}

#[cfg(test)]
mod tests {
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

        /// Three calls for each of so many roles.
        async fn make(&self, pace: &Pace, roles: u32) -> (f64, f64) {
            self.do_for(pace, roles, &[1, 1, 1]).await
        }

        /// For each of so many roles, 24 roles at a time, so many calls at once, one number after the other; which share
        /// of the bucket was used, and which share of the calls was refused.
        async fn do_for(&self, pace: &Pace, roles: u32, steps: &[usize]) -> (f64, f64) {
            let (left, start) = (Cell::new(roles), Instant::now());
            let (full, taken, refused) = (self.left.get(), self.taken.get(), self.refused.get());
            let worker = async || {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    for calls in steps {
                        let until_done = async || while !pace.run(Turn::Change, Box::pin(self.call(pace))).await {};
                        join_all((0..*calls).map(|_| until_done())).await;
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
        // Made; read: the role, what hangs on it, its inline policy; deleted after the same and a look at its profiles.
        let (made, read, deleted): (&[usize], &[usize], &[usize]) = (&[1; 3], &[1, 2, 1], &[1, 2, 1, 1, 1, 1, 1]);
        for steps in [made, read, deleted] {
            for (rate, roles) in [(20.0, 100), (20.0, 1000), (5.0, 100), (100.0, 1000)] {
                let (pace, aws) = (Pace::new(16), Aws::new(rate));
                let (used, refused) = aws.do_for(&pace, roles, steps).await;
                let said =
                    format!("{steps:?}: {roles} roles at {rate} calls a second: {used:.3} used, {refused:.3} refused");
                println!("{said}");
                assert!(used >= 0.9 && refused <= 0.05, "{said}");
            }
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
    async fn slow_answers_keep_nobody_waiting_for_long() {
        let (pace, start) = (Pace::new(16), Instant::now());
        join_all((0..16).map(|_| pace.run(Turn::Change, Box::pin(sleep(PATIENCE.saturating_sub(LATENCY)))))).await;
        assert!(start.elapsed() < 2 * PATIENCE + LATENCY, "{:?}", start.elapsed());
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
    async fn work_stands_in_line_as_long_as_one_of_its_calls_does() {
        let pace = Pace::new(1);
        let call = |long: Duration| pace.run(Turn::Change, Box::pin(async move { sleep(long).await }));
        let deletion = Ticket::new(Turn::Deletion);
        let ticket = Ticket::new(Turn::Change);
        let work = ticket.clone().scope(async {
            let given_up = tokio::time::timeout(LATENCY / 2, call(LATENCY));
            let ((), (), given_up) = tokio::join!(call(LATENCY), call(LATENCY), given_up);
            assert!(given_up.is_err());
        });
        let others = async {
            sleep(LATENCY / 5).await;
            deletion.scope(call(20 * LATENCY)).await;
        };
        let watch = async {
            sleep(LATENCY / 5).await;
            assert_eq!(ticket.stands_since(), None);
            sleep(2 * LATENCY).await;
            assert_eq!(ticket.stands_since(), None, "one is answered, one given up, and one stands in line");
            sleep(19 * LATENCY).await;
            let begun = Instant::now().checked_sub(LATENCY / 5).unwrap();
            assert_eq!(ticket.stands_since(), Some(begun), "it is under way");
        };
        tokio::join!(work, others, watch);
        assert!(ticket.stands_since().is_some());
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
}
