//! The order of launches when many are asked for at once.
//!
//! A notebook server takes seconds of processor time to start, so thirty at once on two cores all
//! take a minute. In order, the first is there after seconds, everybody is told their place, and
//! none of them comes near its time limit while it waits.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::supervisor::locked;

/// What a launch is taken to need before the first one was measured.
const FIRST_GUESS: Duration = Duration::from_secs(8);

/// Launches in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Queue {
    order: Mutex<Order>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Order {
    /// How many launches go on.
    going: usize,
    /// Who waits, first come first.
    waiting: VecDeque<u64>,
    /// The next number to be drawn.
    next: u64,
    /// How long launches took of late.
    typical: Duration,
    /// When somebody last went on.
    last: Option<Instant>,
}

impl Default for Queue {
    fn default() -> Self {
        let order = Order { going: 0, waiting: VecDeque::new(), next: 0, typical: FIRST_GUESS, last: None };
        Self { order: Mutex::new(order), changed: watch::channel(()).0 }
    }
}

/// A place in the queue; whoever leaves it gives it up.
struct Place<'queue> {
    queue: &'queue Queue,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        locked(&self.queue.order).waiting.retain(|number| *number != self.number);
        self.queue.changed.send_replace(());
    }
}

/// A launch that goes on; dropped when it is over.
pub(crate) struct Turn<'queue> {
    queue: &'queue Queue,
    began: Instant,
    /// Whether others can expect to take as long.
    typical: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut order = locked(&self.queue.order);
        order.going = order.going.saturating_sub(1);
        order.last = Some(Instant::now());
        if self.typical {
            // The newest counts a quarter: follows the machine, and no single launch misleads.
            order.typical = (order.typical * 3 + self.began.elapsed()) / 4;
        }
        drop(order);
        self.queue.changed.send_replace(());
    }
}

impl Queue {
    /// Since when no launch goes on or waits; none while one does.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let order = locked(&self.order);
        let idle = order.going == 0 && order.waiting.is_empty();
        idle.then(|| order.last.map_or(Duration::MAX, |last| last.elapsed()))
    }

    /// A launch that needs next to nothing of the machine: it goes on at once, before all who wait.
    pub(crate) fn pass(&self) -> Turn<'_> {
        locked(&self.order).going += 1;
        Turn { queue: self, began: Instant::now(), typical: false }
    }

    /// Waits until fewer than `most` launches go on and everybody who came before has begun.
    /// `told` hears the place in the queue, from 1, and about how long it will take, as often as the
    /// place changes; nothing when there is no wait.
    pub(crate) async fn turn(&self, most: usize, mut told: impl FnMut(usize, Duration)) -> Turn<'_> {
        let mut changed = self.changed.subscribe();
        let place = {
            let mut order = locked(&self.order);
            let number = order.next;
            order.next = order.next.wrapping_add(1);
            order.waiting.push_back(number);
            Place { queue: self, number }
        };
        let mut last = None;
        loop {
            changed.mark_unchanged();
            let ahead = {
                let mut order = locked(&self.order);
                let ahead = order.waiting.iter().take_while(|number| **number != place.number).count();
                if ahead == 0 && order.going < most.max(1) {
                    order.going += 1;
                    break;
                }
                (ahead, order.typical)
            };
            let (ahead, typical) = ahead;
            if last != Some(ahead) {
                last = Some(ahead);
                told(ahead + 1, wait(ahead, most, typical));
            }
            // The sender lives as long as this queue.
            let _ = changed.changed().await;
        }
        // Counted before the place is given up, so that nobody slips between.
        drop(place);
        Turn { queue: self, began: Instant::now(), typical: true }
    }
}

/// About how long it takes until whoever has so many ahead begins.
fn wait(ahead: usize, most: usize, typical: Duration) -> Duration {
    let rounds = (ahead + 1).div_ceil(most.max(1));
    typical.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn launches_begin_in_order_and_no_more_at_once_than_may() {
        let queue = Arc::new(Queue::default());
        let begun: Arc<Mutex<Vec<usize>>> = Arc::default();
        let (going, peak) = (Arc::new(Mutex::new(0usize)), Arc::new(Mutex::new(0usize)));
        let mut all = Vec::new();
        for number in 0..20 {
            let (queue, begun, going, peak) = (queue.clone(), begun.clone(), going.clone(), peak.clone());
            all.push(tokio::spawn(async move {
                let _turn = queue.turn(3, |_, _| ()).await;
                locked(&begun).push(number);
                *locked(&going) += 1;
                let now = *locked(&going);
                let most = now.max(*locked(&peak));
                *locked(&peak) = most;
                tokio::time::sleep(Duration::from_millis(5)).await;
                *locked(&going) -= 1;
            }));
            tokio::task::yield_now().await;
        }
        for one in all {
            one.await.expect("done");
        }
        assert_eq!(*locked(&begun), (0..20).collect::<Vec<_>>());
        assert_eq!(*locked(&peak), 3);
    }

    #[tokio::test]
    async fn whoever_waits_is_told_and_whoever_leaves_makes_room() {
        let queue = Arc::new(Queue::default());
        let first = queue.turn(1, |_, _| panic!("there is nobody ahead")).await;
        let leaving = tokio::spawn({
            let queue = queue.clone();
            async move { drop(queue.turn(1, |_, _| ()).await) }
        });
        tokio::task::yield_now().await;
        let places: Arc<Mutex<Vec<(usize, Duration)>>> = Arc::default();
        let waiting = tokio::spawn({
            let (queue, places) = (queue.clone(), places.clone());
            async move { drop(queue.turn(1, |place, wait| locked(&places).push((place, wait))).await) }
        });
        tokio::task::yield_now().await;
        assert_eq!(*locked(&places), [(2, FIRST_GUESS * 2)]);
        leaving.abort();
        assert!(leaving.await.is_err());
        while locked(&places).len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(locked(&places)[1], (1, FIRST_GUESS));
        drop(first);
        waiting.await.expect("its turn came");
        assert_eq!(locked(&queue.order).going, 0);
        assert!(locked(&queue.order).typical < FIRST_GUESS, "a short launch shortens the guess");
    }
}
