//! How many calls a second AWS takes.
//!
//! AWS does not tell how many calls it takes. It keeps a bucket for each account that fills steadily, and refuses
//! ("Throttling") while that is empty. So what it took between two refusals, divided by the time between them, is the
//! rate at which the bucket fills. We stay a little below, and go faster by little and little until the next refusal.

use std::time::Duration;
use tokio::time::Instant;

/// By how much we stay below what the bucket was found to take.
const BELOW: f64 = 0.95;
/// One refusal slows us down to this share at most: a single measurement may be of a time when there was little to do.
const CUT: f64 = 0.7;
/// By how much the rate rises in a second, as a share of it.
const RISE: f64 = 0.025;
/// The same as long as the bucket was not measured.
const SEARCH: f64 = 0.1;
/// After so long without refusal the rise doubles, and again after each half of it.
const QUIET: Duration = Duration::from_secs(10);
/// Beyond it nothing is gained by knowing the rate.
const FASTEST: f64 = 1000.0;
/// Calls a second, however often AWS refuses: others may keep the bucket empty, and what is refused for ever is no
/// reason to stand still.
const SLOWEST: f64 = 2.0;
/// The same after the first refusal. Where little is called a refusal tells little.
const SLOW: f64 = 5.0;
/// Fewer answers than these since the last refusal measure nothing.
const SAMPLE: u32 = 10;
/// After a refusal nothing leaves for so long. What the bucket takes in meanwhile is used up later, and without it the very
/// next call would be refused as well, though the rate may be right by now.
const PAUSE: Duration = Duration::from_millis(250);
/// Who was late may catch up with so much.
const CATCH_UP: Duration = Duration::from_millis(250);
/// The rate before the first refusal is told by the answers of so long.
const WINDOW: Duration = Duration::from_secs(1);

/// How many calls a second AWS takes, as far as is known.
#[derive(Debug)]
pub(super) struct Limit {
    /// The rate at the last refusal, after it; `None` before the first.
    rate: Option<f64>,
    /// The rate was measured from one refusal to the next.
    is_measured: bool,
    /// The last refusal that was news, or the beginning.
    since: Instant,
    answers: u32,
    /// When the next call may leave.
    next: Instant,
    /// Answers of the present and of the last window, before the first refusal.
    window: (Instant, u32, u32),
}

impl Limit {
    pub(super) const fn new(now: Instant) -> Self {
        Self { rate: None, is_measured: false, since: now, answers: 0, next: now, window: (now, 0, 0) }
    }

    /// The rate rises while nothing is refused, ever faster.
    pub(super) fn at(&mut self, now: Instant) -> Option<f64> {
        let rate = self.rate?;
        let quiet = now.saturating_duration_since(self.since).as_secs_f64();
        let rise = if self.is_measured { RISE } else { SEARCH };
        let beyond = (quiet / QUIET.as_secs_f64() - 1.0).max(0.0);
        let risen = rate * (1.0 + rise * quiet * (2.0 * beyond).exp2());
        if risen > FASTEST {
            *self = Self::new(now);
            return None;
        }
        Some(risen)
    }

    /// Until when the next call has to wait.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        self.at(now)?;
        (self.next > now).then_some(self.next)
    }

    /// A call leaves.
    pub(super) fn take(&mut self, now: Instant) {
        let Some(rate) = self.at(now) else { return };
        let from = now.checked_sub(CATCH_UP).map_or(self.next, |late| self.next.max(late));
        self.next = from + Duration::from_secs_f64(1.0 / rate);
    }

    pub(super) fn answered(&mut self, now: Instant) {
        self.answers = self.answers.saturating_add(1);
        let (begun, count, last) = &mut self.window;
        let passed = now.saturating_duration_since(*begun);
        if passed >= WINDOW {
            *last = if passed >= 2 * WINDOW { 0 } else { *count };
            (*begun, *count) = (now, 0);
        }
        *count += 1;
    }

    /// True if the call was sent since we last slowed down: all that were under way then tell the same.
    pub(super) fn refused(&mut self, sent: Instant, now: Instant) -> bool {
        if self.rate.is_some() && sent <= self.since {
            return false;
        }
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        let rate = match self.at(now) {
            None => {
                let (_, count, last) = self.window;
                (f64::from(count.max(last)) * CUT).max(SLOW)
            }
            Some(rate) if self.answers >= SAMPLE && passed > 0.0 => {
                self.is_measured = true;
                (BELOW * f64::from(self.answers) / passed).clamp(CUT * rate, BELOW * rate)
            }
            Some(rate) => CUT * rate,
        };
        let rate = rate.max(SLOWEST);
        (self.rate, self.since, self.answers) = (Some(rate), now, 0);
        self.next = self.next.max(now + PAUSE);
        true
    }
}
