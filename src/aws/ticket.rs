//! For what calls to AWS are made: whose turn comes first, and whether a piece of work gets on.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// What goes first. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// For an object that is being deleted.
    Deletion,
    /// For a spec that is applied in part.
    Begun,
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
    pub(super) turn: Turn,
    pub(super) number: u64,
    progress: Mutex<Progress>,
    /// An attempt of a call had no answer since this was last asked.
    unheard: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Calls that stand in line: a piece of work makes several at once.
    in_line: usize,
    /// When one of them last had its turn or its answer.
    since: Instant,
}

/// A call that stands in line, until it is dropped.
#[derive(Debug)]
pub(super) struct InLine<'a>(&'a Ticket);

static NUMBER: AtomicU64 = AtomicU64::new(0);

tokio::task_local! {
    static TICKET: Arc<Ticket>;
}

impl Ticket {
    /// For work that begins now.
    #[must_use]
    pub fn new(turn: Turn) -> Arc<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            turn,
            number,
            progress: Mutex::new(Progress { in_line: 0, since: Instant::now() }),
            unheard: AtomicBool::new(false),
        })
    }

    /// Does the work; all calls to AWS that it makes stand in line with this ticket.
    pub fn scope<F: Future>(self: Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        TICKET.scope(self, work)
    }

    /// An attempt of a call had no answer, or one that tells nothing of its effect.
    pub(super) fn goes_unheard() {
        let _ = TICKET.try_with(|ticket| ticket.unheard.store(true, Ordering::Relaxed));
    }

    /// Whether that was so with any attempt since this was last asked: the SDK makes several, and its error is that of the
    /// last one. True where nobody keeps count.
    #[must_use]
    pub fn went_unheard() -> bool {
        TICKET.try_with(|ticket| ticket.unheard.swap(false, Ordering::Relaxed)).unwrap_or(true)
    }

    /// Since when the work gets no further; `None` while a call of it stands in line.
    #[must_use]
    pub fn stands_since(&self) -> Option<Instant> {
        let Progress { in_line, since } = *self.lock();
        (in_line == 0).then_some(since)
    }

    /// A call stands in line.
    pub(super) fn stand_in_line(&self) -> InLine<'_> {
        self.lock().in_line += 1;
        InLine(self)
    }

    /// A call was answered.
    pub(super) fn gets_on(&self) {
        self.lock().since = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // A panic elsewhere leaves whole numbers behind.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what the work that is under way here is, if it says so.
    #[cfg(feature = "eks")]
    pub(super) fn turn() -> Option<Turn> {
        TICKET.try_with(|ticket| ticket.turn).ok()
    }

    /// That of the work that is under way here, else a new one.
    pub(super) fn current(otherwise: Turn) -> Arc<Self> {
        TICKET.try_with(Arc::clone).unwrap_or_else(|_| Self::new(otherwise))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut progress = self.0.lock();
        progress.in_line = progress.in_line.saturating_sub(1);
        progress.since = Instant::now();
    }
}
