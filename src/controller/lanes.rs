//! Who is worked on next: each account has a lane of its own, so that one that answers slowly or not at all delays no
//! other, and within a lane what a person waits for goes first.

use crate::aws::{PATIENCE, Ticket, Turn};
use crate::role::urgency::Urgency;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// So many times the places of a lane may be given up like that; beyond it those who hang keep theirs.
const SLOW: usize = 8;
/// Places beside the others for what can as well come later, which else would wait for as long as there is something to
/// do first.
const RESERVED: usize = 2;

/// When the calls to AWS of a piece of work are made.
const fn turn(urgency: Urgency) -> Turn {
    match urgency {
        Urgency::Deletion => Turn::Deletion,
        Urgency::Begun => Turn::Begun,
        Urgency::Change => Turn::Change,
        Urgency::Suspect | Urgency::Check | Urgency::Retry => Turn::Check,
    }
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
    reserved: usize,
    slow: usize,
    arrived: u64,
    waiting: BTreeMap<(Urgency, u64), oneshot::Sender<Place>>,
}

/// A place in a lane, until it is dropped.
#[derive(Debug)]
pub struct Place {
    /// `None` once it is given back.
    lane: Option<Arc<Lane>>,
    kind: Kind,
    turn: Turn,
}

/// As what a place counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free,
    /// Of the free ones, for what failed last time.
    Retry,
    /// One of those that are kept for what can wait.
    Reserved,
    /// Its holder takes long, and somebody else has the place by now.
    Slow,
}

impl Lanes {
    /// With so many places in each lane.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width: width.max(1), lanes: Mutex::default() }
    }

    /// For accounts that take so many calls at once. A role holds its place while its status, its finalizer and its events
    /// are written, too: with three times as many roles as calls there is always one that has a call to make, as long as the
    /// API server takes no more than twice as long for that as AWS for the calls.
    #[must_use]
    pub fn of_calls(calls: u16) -> Self {
        Self::new(3 * usize::from(calls))
    }

    /// Places in each lane.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Waits for a place in the lane `name`; `None` where there is none for what can as well come later.
    pub async fn enter(&self, name: &str, urgency: Urgency) -> Option<Place> {
        let lane = self.lane(name);
        let leave = {
            let mut inner = lane.lock();
            if let Some(kind) = inner.take(lane.width, urgency) {
                return Some(Place { lane: Some(lane.clone()), kind, turn: turn(urgency) });
            }
            if urgency.can_wait() {
                return None;
            }
            inner.arrived += 1;
            let (tell, mine) = oneshot::channel();
            let key = (urgency, inner.arrived);
            inner.waiting.insert(key, tell);
            mine
        };
        // A sender is never dropped without having sent.
        leave.await.ok()
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
    fn take(&mut self, width: usize, urgency: Urgency) -> Option<Kind> {
        let is_free = self.taken < width;
        let kind = match urgency {
            Urgency::Retry if is_free && self.retries < (width / 2).max(1) => Kind::Retry,
            Urgency::Retry if !is_free || self.retries > 0 => self.reserved()?,
            _ if is_free => Kind::Free,
            Urgency::Suspect | Urgency::Check => self.reserved()?,
            _ => return None,
        };
        match kind {
            Kind::Reserved => self.reserved += 1,
            Kind::Retry => (self.taken, self.retries) = (self.taken + 1, self.retries + 1),
            Kind::Free | Kind::Slow => self.taken += 1,
        }
        Some(kind)
    }

    fn reserved(&self) -> Option<Kind> {
        (self.reserved < RESERVED).then_some(Kind::Reserved)
    }

    /// A place is given back.
    fn give_back(&mut self, lane: &Arc<Lane>, kind: Kind) {
        match kind {
            Kind::Reserved => {
                let suspects = (Urgency::Suspect, 0)..(Urgency::Check, 0);
                let next = self.waiting.range(suspects).next().map(|(key, _)| *key);
                if !next.is_some_and(|key| self.pass_on(lane, kind, key)) {
                    self.reserved = self.reserved.saturating_sub(1);
                }
            }
            Kind::Slow => self.slow = self.slow.saturating_sub(1),
            Kind::Free => self.leave(lane),
            Kind::Retry => {
                self.retries = self.retries.saturating_sub(1);
                self.leave(lane);
            }
        }
    }

    /// A place is free: it goes to the first who still waits.
    fn leave(&mut self, lane: &Arc<Lane>) {
        while let Some(key) = self.waiting.keys().next().copied() {
            if self.pass_on(lane, Kind::Free, key) {
                return;
            }
        }
        self.taken = self.taken.saturating_sub(1);
    }

    /// Gives a place to one who waits; false where nobody waits there any more.
    fn pass_on(&mut self, lane: &Arc<Lane>, kind: Kind, key: (Urgency, u64)) -> bool {
        let Some(tell) = self.waiting.remove(&key) else { return false };
        let sent = tell.send(Place { lane: Some(lane.clone()), kind, turn: turn(key.0) });
        // What comes back is not given back.
        sent.map_err(|mut unused| drop(unused.lane.take())).is_ok()
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves whole numbers behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Does the work. When it hangs, the place goes to the next one, while the work goes on. To stand in line for a call
    /// to AWS is not to hang: if those who do gave up their places, ever more roles would be half made.
    pub async fn hold<T>(mut self, work: impl Future<Output = T>) -> T {
        let ticket = Ticket::new(self.turn);
        let mut work = std::pin::pin!(ticket.clone().scope(work));
        loop {
            let now = Instant::now();
            let hangs = ticket.stands_since().unwrap_or(now) + PATIENCE;
            if hangs <= now {
                break;
            }
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(hangs) => {}
            }
        }
        self.slow_down();
        work.await
    }

    fn slow_down(&mut self) {
        let Some(lane) = &self.lane else { return };
        let mut inner = lane.lock();
        if inner.slow < SLOW * lane.width {
            inner.slow += 1;
            inner.give_back(lane, self.kind);
            self.kind = Kind::Slow;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else { return };
        lane.lock().give_back(&lane, self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::{Lanes, PATIENCE, Place, RESERVED, SLOW, Urgency};
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
    async fn what_is_half_made_goes_before_what_was_not_begun_and_after_what_goes() {
        let lanes = Lanes::new(1);
        let first = enter(&lanes, Urgency::Change).await;
        let mut new = Box::pin(lanes.enter("a", Urgency::Change));
        assert!(new.as_mut().now_or_never().is_none());
        let mut begun = Box::pin(lanes.enter("a", Urgency::Begun));
        assert!(begun.as_mut().now_or_never().is_none());
        let mut deletion = Box::pin(lanes.enter("a", Urgency::Deletion));
        assert!(deletion.as_mut().now_or_never().is_none());
        drop(first);
        assert!(begun.as_mut().now_or_never().is_none());
        drop(deletion.await);
        assert!(new.as_mut().now_or_never().is_none());
        drop(begun.await);
        assert!(new.now_or_never().is_some());
    }

    /// All that come when nobody gives back a place.
    fn as_many_as_come(lanes: &Lanes, urgency: Urgency) -> Vec<Place> {
        let next = || lanes.enter("a", urgency).now_or_never().flatten();
        std::iter::from_fn(next).collect()
    }

    #[tokio::test]
    async fn what_can_come_later_does_not_queue_and_retries_leave_half() {
        let lanes = Lanes::new(2);
        let retries = as_many_as_come(&lanes, Urgency::Retry);
        assert_eq!(retries.len(), 1 + RESERVED, "half of the places, and those that are kept");
        let check = enter(&lanes, Urgency::Check).await;
        assert!(lanes.enter("a", Urgency::Check).await.is_none());
        assert!(lanes.enter("b", Urgency::Check).await.is_some(), "another account");
        drop(retries);
        assert_eq!(as_many_as_come(&lanes, Urgency::Retry).len(), 1 + RESERVED, "all is given back");
        drop(check);
    }

    #[tokio::test]
    async fn however_many_new_ones_come_there_is_a_place_for_what_failed() {
        let lanes = Lanes::new(2);
        let new = as_many_as_come(&lanes, Urgency::Change);
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(lanes.enter("a", Urgency::Change))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        for urgency in [Urgency::Retry, Urgency::Check] {
            assert_eq!(as_many_as_come(&lanes, urgency).len(), RESERVED, "{urgency:?}");
        }
        let retry = enter(&lanes, Urgency::Retry).await;
        drop(new);
        let served: Vec<_> = waiting.iter_mut().filter_map(|turn| turn.as_mut().now_or_never()).collect();
        assert_eq!(served.len(), 2, "and it is none of those of the new ones");
        drop(retry);
    }

    #[tokio::test]
    async fn what_a_walk_found_waits_behind_what_people_wait_for_and_is_never_shut_out() {
        let lanes = Lanes::new(2);
        let places = as_many_as_come(&lanes, Urgency::Suspect);
        assert_eq!(places.len(), 2 + RESERVED);
        let mut suspects: Vec<_> = (0..50).map(|_| Box::pin(lanes.enter("a", Urgency::Suspect))).collect();
        assert!(suspects.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()), "they stand in line");
        let mut new: Vec<_> = (0..2).map(|_| Box::pin(lanes.enter("a", Urgency::Change))).collect();
        assert!(new.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        drop(places);
        let new: Vec<_> = new.iter_mut().filter_map(|turn| turn.as_mut().now_or_never().flatten()).collect();
        assert_eq!(new.len(), 2, "who came last goes first");
        let served = suspects.iter_mut().filter_map(|turn| turn.as_mut().now_or_never().flatten()).count();
        assert!(served >= RESERVED, "{served}: the places that are kept for them");
    }

    #[tokio::test]
    async fn who_gave_up_waiting_is_passed_over() {
        let lanes = Lanes::new(1);
        let first = enter(&lanes, Urgency::Change).await;
        let mut gone = Box::pin(lanes.enter("a", Urgency::Change));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        drop(first);
        assert_eq!(as_many_as_come(&lanes, Urgency::Change).len(), 1);
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
        assert_eq!(as_many_as_come(&lanes, Urgency::Change).len(), 2, "all is given back");
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
        assert!(as_many_as_come(&lanes, Urgency::Change).is_empty(), "one place is kept by the last");
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
