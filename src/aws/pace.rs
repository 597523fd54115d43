//! How fast an account is called: how many calls are under way at once and, once AWS refuses some as too many, how many
//! leave in a second. All that goes to one account waits in one line, whatever it is for, and what a person waits for
//! goes first.

mod limit;
#[cfg(test)]
mod tests;

use limit::Limit;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Calls under way at once when nothing is known of an account. It becomes more by one for each round of answers.
const FIRST: usize = 4;
/// A call that takes longer counts as hanging, and makes room for another.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// After so long without a call it is as at first.
const QUIET: Duration = Duration::from_secs(10);
/// One of so many turns goes to the call that has waited longest, however little urgent it is.
const ELDEST: u64 = 8;

/// What goes first. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// For an object that is being deleted.
    Deletion,
    /// For a spec that is not applied yet, or a check that somebody asked for.
    Change,
    /// For a look at what was applied before, and for what failed last time.
    Check,
    /// For a walk over the account.
    Walk,
}

/// For what calls are made: those of one piece of work stand in line where it began, so that what is half made is
/// finished first.
#[derive(Debug)]
pub struct Ticket {
    turn: Turn,
    number: u64,
    progress: Mutex<Progress>,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    InLine,
    Since(Instant),
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

tokio::task_local! {
    static TICKET: Arc<Ticket>;
}

impl Ticket {
    /// For work that begins now.
    #[must_use]
    pub fn new(turn: Turn) -> Arc<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { turn, number, progress: Mutex::new(Progress::Since(Instant::now())) })
    }

    /// Does the work; all calls to AWS that it makes stand in line with this ticket.
    pub fn scope<F: Future>(self: Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        TICKET.scope(self, work)
    }

    /// Since when the work gets no further; `None` while it stands in line.
    #[must_use]
    pub fn stands_since(&self) -> Option<Instant> {
        match *self.progress.lock().unwrap_or_else(PoisonError::into_inner) {
            Progress::InLine => None,
            Progress::Since(instant) => Some(instant),
        }
    }

    fn note(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// That of the work that is under way here, else a new one.
    pub(super) fn current(otherwise: Turn) -> Arc<Self> {
        TICKET.try_with(Arc::clone).unwrap_or_else(|_| Self::new(otherwise))
    }
}

/// The pace of one account.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: usize,
    window: f64,
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

    /// Makes a call when it is its turn. One that takes long makes room, so that calls that hang delay no other.
    pub async fn run<T>(&self, otherwise: Turn, mut call: impl Future<Output = T> + Unpin) -> T {
        let ticket = Ticket::current(otherwise);
        ticket.note(Progress::InLine);
        let under_way = self.enter(&ticket).await;
        ticket.note(Progress::Since(Instant::now()));
        let done = tokio::select! {
            done = &mut call => done,
            () = tokio::time::sleep(PATIENCE) => {
                self.0.lock().widen();
                drop(under_way);
                call.await
            }
        };
        ticket.note(Progress::Since(Instant::now()));
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
        while inner.has_room()
            && let Some(key) = inner.first()
        {
            let now = Instant::now();
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
            self.window = FIRST.min(self.at_once) as f64;
        }
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
