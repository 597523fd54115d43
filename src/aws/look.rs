//! What many ask of one account is asked once, and known for a while: of all classes that lead there by one identity each
//! looks by itself.

use super::error::AwsError;
use super::kept::Kept;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// How old an answer may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// All that is begun with a greater one begins after it.
    number: u64,
    age: Duration,
}

impl Since {
    /// Not older than `age`.
    pub(super) fn within(age: Duration) -> Self {
        Self { number: number(), age }
    }

    /// Not asked for before this was made.
    pub(super) const fn anew(self) -> Self {
        Self { age: Duration::ZERO, ..self }
    }
}

/// Answers by what was asked for.
#[derive(Debug)]
pub(super) struct Looks<K, V> {
    looks: Mutex<Kept<K, Arc<Look<V>>>>,
    /// Whether an error says the same to all who wait for the answer.
    is_for_all: fn(&AwsError) -> bool,
}

impl<K: Eq + Hash, V> Looks<K, V> {
    pub(super) fn new(is_for_all: fn(&AwsError) -> bool) -> Self {
        Self { looks: Mutex::default(), is_for_all }
    }

    pub(super) fn of(&self, key: K) -> Arc<Look<V>> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has doubts would tell them to nobody.
        let is_used = |look: &Arc<Look<V>>| Arc::strong_count(look) > 1 || Arc::strong_count(&look.doubts) > 1;
        looks.get_or(key, || Arc::new(Look::new(self.is_for_all)), is_used)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Nobody will ask for these any more.
    pub(super) fn forget(&self, is_meant: impl Fn(&K) -> bool) {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).retain(|key| !is_meant(key));
    }
}

/// How often there was reason to doubt an answer.
pub(super) type Doubts = Arc<AtomicU64>;

/// One question, which nobody asks while somebody else does.
#[derive(Debug)]
pub(super) struct Look<V> {
    known: tokio::sync::Mutex<Known<V>>,
    doubts: Doubts,
    is_for_all: fn(&AwsError) -> bool,
}

#[derive(Debug)]
struct Known<V> {
    /// The last answer, and when it was asked for.
    answer: Option<(V, Instant)>,
    /// What doubts there were then.
    doubts: u64,
    /// How the last look ended, and its number.
    last: Option<(Option<AwsError>, u64)>,
}

/// A question without an answer.
#[derive(Clone, Debug)]
pub(super) struct Unanswered<V> {
    pub(super) error: AwsError,
    /// What was the answer before, however long ago.
    pub(super) before: Option<V>,
}

impl<V> Look<V> {
    fn new(is_for_all: fn(&AwsError) -> bool) -> Self {
        let known = Known { answer: None, doubts: 0, last: None };
        Self { known: tokio::sync::Mutex::new(known), doubts: Doubts::default(), is_for_all }
    }

    /// To be counted up by whoever finds that the answer may not hold any more.
    pub(super) fn doubts(&self) -> Doubts {
        self.doubts.clone()
    }
}

impl<V: Clone> Look<V> {
    /// The answer, where one is known that is new enough; else by `ask`. An error is for those alone who wait for it.
    pub(super) async fn ask(
        &self,
        since: Since,
        ask: impl Future<Output = Result<V, AwsError>>,
    ) -> Result<V, Unanswered<V>> {
        let mut known = self.known.lock().await;
        let doubts = self.doubts.load(Ordering::Relaxed);
        match known.since(since, doubts) {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(unanswered)) if (self.is_for_all)(&unanswered.error) => return Err(unanswered),
            _ => {}
        }
        let (number, begun) = (number(), Instant::now());
        let result = ask.await;
        known.last = Some((result.as_ref().err().cloned(), number));
        match result {
            Ok(answer) => {
                (known.answer, known.doubts) = (Some((answer.clone(), begun)), doubts);
                Ok(answer)
            }
            Err(error) => Err(Unanswered { error, before: known.before() }),
        }
    }
}

impl<V: Clone> Known<V> {
    fn since(&self, since: Since, doubts: u64) -> Option<Result<V, Unanswered<V>>> {
        if let Some((error, number)) = &self.last
            && *number > since.number
        {
            return match error {
                Some(error) => Some(Err(Unanswered { error: error.clone(), before: self.before() })),
                None => self.before().map(Ok),
            };
        }
        // What was known before a question that had no answer is not new any more.
        let (answer, begun) = self.answer.as_ref().filter(|_| matches!(self.last, Some((None, _))))?;
        (self.doubts == doubts && begun.elapsed() < since.age).then(|| Ok(answer.clone()))
    }

    fn before(&self) -> Option<V> {
        self.answer.as_ref().map(|(answer, _)| answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, Since};
    use crate::aws::{AwsError, Kind};
    use futures::future::join_all;
    use std::cell::Cell;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    const AGE: Duration = Duration::from_mins(5);
    const LATENCY: Duration = Duration::from_secs(1);

    fn error(kind: Kind) -> AwsError {
        AwsError { kind, call: "sts:GetCallerIdentity", target: String::new(), code: None, message: String::new() }
    }

    /// AWS, which counts how often it is asked.
    #[derive(Default)]
    struct Aws {
        asked: Cell<u32>,
        fails: Cell<Option<Kind>>,
    }

    impl Aws {
        async fn answer(&self) -> Result<u32, AwsError> {
            self.asked.set(self.asked.get() + 1);
            let (number, fails) = (self.asked.get(), self.fails.get());
            sleep(LATENCY).await;
            fails.map_or(Ok(number), |kind| Err(error(kind)))
        }

        async fn look(&self, look: &Look<u32>, age: Duration) -> Result<u32, Kind> {
            look.ask(Since::within(age), self.answer()).await.map_err(|unanswered| unanswered.error.kind)
        }
    }

    const fn for_all_but(error: &AwsError) -> bool {
        !matches!(error.kind, Kind::NoCredentials)
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_look_at_once_ask_once_and_who_comes_later_not_before_it_is_old() {
        let (aws, look) = (Aws::default(), Look::new(for_all_but));
        assert_eq!(join_all((0..100).map(|_| aws.look(&look, AGE))).await, [Ok(1); 100]);
        sleep(AGE / 2).await;
        assert_eq!(aws.look(&look, AGE).await, Ok(1));
        assert_eq!(aws.look(&look, Duration::ZERO).await, Ok(2), "whoever wants to know it anew");
        sleep(AGE.saturating_sub(LATENCY)).await;
        assert_eq!(aws.look(&look, AGE).await, Ok(3), "what was asked for so long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_it_anew_does_not_take_what_is_under_way_and_many_such_wait_for_one_answer() {
        let (aws, look) = (Aws::default(), Look::new(for_all_but));
        let later = async || {
            sleep(LATENCY / 2).await;
            aws.look(&look, Duration::ZERO).await
        };
        let (first, others) = tokio::join!(aws.look(&look, AGE), join_all((0..100).map(|_| later())));
        assert_eq!((first, others), (Ok(1), vec![Ok(2); 100]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_to_all_who_wait_and_to_nobody_later() {
        let (aws, look, start) = (Aws::default(), Look::new(for_all_but), Instant::now());
        assert_eq!(aws.look(&look, AGE).await, Ok(1));
        aws.fails.set(Some(Kind::Transient));
        assert_eq!(aws.look(&look, Duration::ZERO).await, Err(Kind::Transient));
        let looks = join_all((0..100).map(|_| aws.look(&look, AGE))).await;
        assert_eq!((looks, aws.asked.get()), (vec![Err(Kind::Transient); 100], 4), "nor is known what was before");
        assert!(start.elapsed() < 5 * LATENCY, "nobody waits for the others' turn");
        let before = look.ask(Since::within(AGE), aws.answer()).await.expect_err("still").before;
        assert_eq!((before, aws.asked.get()), (Some(1), 5), "and what was known is not forgotten");
        aws.fails.set(None);
        assert_eq!(aws.look(&look, AGE).await, Ok(6));
        aws.fails.set(Some(Kind::NoCredentials));
        let looks = join_all((0..3).map(|_| aws.look(&look, Duration::ZERO))).await;
        assert_eq!((looks, aws.asked.get()), (vec![Err(Kind::NoCredentials); 3], 9), "others have other credentials");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_doubted_is_asked_for_again_also_if_the_doubt_comes_meanwhile() {
        let (aws, look) = (Aws::default(), Look::new(for_all_but));
        assert_eq!(aws.look(&look, AGE).await, Ok(1));
        look.doubts().fetch_add(1, Relaxed);
        let doubt = async {
            sleep(LATENCY / 2).await;
            look.doubts().fetch_add(1, Relaxed);
        };
        assert_eq!(tokio::join!(aws.look(&look, AGE), doubt).0, Ok(2));
        assert_eq!(aws.look(&look, AGE).await, Ok(3));
        assert_eq!(aws.look(&look, AGE).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_question_to_the_next() {
        let (aws, look) = (Aws::default(), Look::new(for_all_but));
        assert!(tokio::time::timeout(LATENCY / 2, aws.look(&look, AGE)).await.is_err());
        assert_eq!(aws.look(&look, AGE).await, Ok(2));
    }
}
