//! Who is worked on next: each account has a lane of its own, so that one that answers slowly or not at all delays no
//! other, and within a lane what a person waits for goes first.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Who takes longer gives its place to the next one, and goes on without.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many times the places of a lane may be given up like that; beyond it those who hang keep theirs.
const SLOW: usize = 8;

/// What goes first. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// An object is being deleted.
    Deletion,
    /// A spec that is not applied yet, or a check that somebody asked for.
    Change,
    /// A look at what was applied before. It takes a free place or none.
    Check,
    /// What failed last time. It takes a free place or none, and half of the places at most.
    Retry,
}

/// The lanes of all accounts.
#[derive(Debug)]
pub struct Lanes {
    width: usize,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

#[derive(Debug)]
struct Lane {
    width: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    taken: usize,
    retries: usize,
    slow: usize,
    arrived: u64,
    waiting: BTreeMap<(Urgency, u64), oneshot::Sender<Place>>,
}

/// A place in a lane, until it is dropped.
#[derive(Debug)]
pub struct Place {
    /// `None` once it is given back.
    lane: Option<Arc<Lane>>,
    retries: bool,
    slow: bool,
}

impl Lanes {
    /// With so many places in each lane.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width: width.max(1), lanes: Mutex::default() }
    }

    /// Waits for a place in the lane `name`; `None` where there is none for what can as well come later.
    pub async fn enter(&self, name: &str, urgency: Urgency) -> Option<Place> {
        let lane = self.lane(name);
        let turn = {
            let mut inner = lane.lock();
            if inner.has_place(lane.width, urgency) {
                return Some(inner.take(&lane, urgency));
            }
            if urgency > Urgency::Change {
                return None;
            }
            inner.arrived += 1;
            let (tell, turn) = oneshot::channel();
            let key = (urgency, inner.arrived);
            inner.waiting.insert(key, tell);
            turn
        };
        // A sender is never dropped without having sent.
        turn.await.ok()
    }

    fn lane(&self, name: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(name) {
            return lane.clone();
        }
        // Whoever has a place holds its lane; the others can be made anew.
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let lane = Arc::new(Lane { width: self.width, inner: Mutex::default() });
        lanes.insert(name.to_owned(), lane.clone());
        lane
    }
}

impl Inner {
    fn has_place(&self, width: usize, urgency: Urgency) -> bool {
        let room = self.taken < width;
        room && (urgency != Urgency::Retry || self.retries < (width / 2).max(1))
    }

    fn take(&mut self, lane: &Arc<Lane>, urgency: Urgency) -> Place {
        self.taken += 1;
        let retries = urgency == Urgency::Retry;
        self.retries += usize::from(retries);
        Place { lane: Some(lane.clone()), retries, slow: false }
    }

    /// A place is free: it goes to the first who still waits.
    fn leave(&mut self, lane: &Arc<Lane>) {
        while let Some((_, tell)) = self.waiting.pop_first() {
            let place = Place { lane: Some(lane.clone()), retries: false, slow: false };
            match tell.send(place) {
                Ok(()) => return,
                // Nobody waits there any more, and the place is for the next.
                Err(mut unused) => drop(unused.lane.take()),
            }
        }
        self.taken = self.taken.saturating_sub(1);
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves whole numbers behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Does the work. After a while the place goes to the next one, while the work goes on.
    pub async fn hold<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PATIENCE) => self.slow_down(),
        }
        work.await
    }

    fn slow_down(&mut self) {
        let Some(lane) = &self.lane else { return };
        let mut inner = lane.lock();
        if inner.slow < SLOW * lane.width {
            inner.slow += 1;
            inner.retries = inner.retries.saturating_sub(usize::from(self.retries));
            (self.slow, self.retries) = (true, false);
            inner.leave(lane);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else { return };
        let mut inner = lane.lock();
        inner.retries = inner.retries.saturating_sub(usize::from(self.retries));
        if self.slow {
            inner.slow = inner.slow.saturating_sub(1);
        } else {
            inner.leave(&lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lanes, PATIENCE, Place, SLOW, Urgency};
    use futures::FutureExt as _;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::{advance, sleep};

    async fn enter(lanes: &Lanes, urgency: Urgency) -> Place {
        lanes.enter("a", urgency).await.expect("a place")
    }

    #[tokio::test]
    async fn what_a_person_waits_for_goes_first_and_in_turn() {
        let lanes = Lanes::new(1);
        let first = enter(&lanes, Urgency::Check).await;
        let mut second = Box::pin(lanes.enter("a", Urgency::Change));
        let mut third = Box::pin(lanes.enter("a", Urgency::Change));
        let mut deletion = Box::pin(lanes.enter("a", Urgency::Deletion));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert!(deletion.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().is_none(), "the deletion comes before");
        let place = deletion.await.expect("a place");
        drop(place);
        assert!(third.as_mut().now_or_never().is_none());
        drop(second.await);
        drop(third.await);
        assert!(lanes.enter("a", Urgency::Check).await.is_some());
    }

    #[tokio::test]
    async fn what_can_come_later_does_not_queue_and_retries_leave_half() {
        let lanes = Lanes::new(2);
        let retry = enter(&lanes, Urgency::Retry).await;
        assert!(lanes.enter("a", Urgency::Retry).await.is_none(), "half of the places");
        let check = enter(&lanes, Urgency::Check).await;
        assert!(lanes.enter("a", Urgency::Check).await.is_none());
        assert!(lanes.enter("b", Urgency::Check).await.is_some(), "another account");
        drop(retry);
        assert!(lanes.enter("a", Urgency::Retry).await.is_some());
        drop(check);
    }

    #[tokio::test]
    async fn who_gave_up_waiting_is_passed_over() {
        let lanes = Lanes::new(1);
        let first = enter(&lanes, Urgency::Change).await;
        let mut gone = Box::pin(lanes.enter("a", Urgency::Change));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        drop(first);
        assert!(lanes.enter("a", Urgency::Check).now_or_never().flatten().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_hang_leave_their_places_to_the_others() {
        let lanes = Arc::new(Lanes::new(2));
        let hang = |lanes: Arc<Lanes>| async move {
            let place = lanes.enter("a", Urgency::Change).await.expect("a place");
            place.hold(sleep(Duration::from_mins(1))).await;
        };
        let hanging: Vec<_> = (0..6).map(|_| tokio::spawn(hang(lanes.clone()))).collect();
        tokio::task::yield_now().await;
        let good = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.enter("a", Urgency::Change).await.is_some() }
        });
        advance(3 * PATIENCE + Duration::from_secs(1)).await;
        sleep(3 * PATIENCE).await;
        assert!(good.is_finished() && hanging.iter().all(|task| !task.is_finished()));
        sleep(Duration::from_mins(2)).await;
        let free: Vec<_> = (0..2).filter_map(|_| lanes.enter("a", Urgency::Check).now_or_never().flatten()).collect();
        assert_eq!(free.len(), 2, "all is given back");
        assert!(lanes.enter("a", Urgency::Check).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_bound_to_what_hangs() {
        let lanes = Arc::new(Lanes::new(1));
        for _ in 0..=SLOW {
            let lanes = lanes.clone();
            tokio::spawn(async move {
                let place = lanes.enter("a", Urgency::Change).await.expect("a place");
                place.hold(std::future::pending::<()>()).await;
            });
        }
        sleep(PATIENCE * 20).await;
        assert!(lanes.enter("a", Urgency::Check).await.is_none(), "one place is kept by the last");
    }

    #[tokio::test]
    async fn a_lane_that_nobody_is_in_is_forgotten() {
        let lanes = Lanes::new(1);
        drop(lanes.enter("a", Urgency::Check).await);
        let place = lanes.enter("b", Urgency::Check).await;
        assert_eq!(lanes.lanes.lock().unwrap().len(), 1);
        drop(place);
    }
}
