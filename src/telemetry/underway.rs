//! What waits and what is under way, and for how long.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Beginnings by controller and a number of their own.
type Beginnings = BTreeMap<(&'static str, u64), Instant>;

/// All that is under way.
#[derive(Clone, Debug, Default)]
pub struct Underway(Arc<Mutex<(u64, Beginnings)>>);

impl Underway {
    /// Something begins; it ends when the guard is dropped.
    pub fn begin(&self, controller: &'static str, active: Gauge, took: Histogram) -> ActiveGuard {
        let mut inner = self.lock();
        inner.0 += 1;
        let key = (controller, inner.0);
        let begun = Instant::now();
        inner.1.insert(key, begun);
        active.inc();
        ActiveGuard { underway: self.clone(), key, begun, active, took }
    }

    /// For how long all of a controller's work has been under way, and the oldest of it.
    pub fn seconds(&self, controller: &'static str) -> (f64, f64) {
        let inner = self.lock();
        let of = inner.1.range((controller, 0)..=(controller, u64::MAX));
        let seconds = of.map(|(_, begun)| begun.elapsed().as_secs_f64());
        seconds.fold((0.0, 0.0), |(sum, longest), one| (sum + one, one.max(longest)))
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Beginnings)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Metrics::active`](super::Metrics::active).
#[derive(Debug)]
pub struct ActiveGuard {
    underway: Underway,
    key: (&'static str, u64),
    begun: Instant,
    active: Gauge,
    took: Histogram,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.underway.lock().1.remove(&self.key);
        self.active.dec();
        self.took.observe(self.begun.elapsed().as_secs_f64());
    }
}

/// See [`Metrics::waiting`](super::Metrics::waiting).
#[derive(Debug)]
pub struct WaitingGuard {
    begun: Instant,
    depth: Gauge,
    waited: Histogram,
}

impl WaitingGuard {
    pub(super) fn new(depth: Gauge, waited: Histogram) -> Self {
        depth.inc();
        Self { begun: Instant::now(), depth, waited }
    }
}

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        self.depth.dec();
        self.waited.observe(self.begun.elapsed().as_secs_f64());
    }
}
