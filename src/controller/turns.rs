//! Turns: only so many tunnels replace lanes that serve at once. An upgrade gives every tunnel another generation; so it does not double the
//! bill and the pods of all of them at one time, and an image that does not start is met by few. Pure.
//!
//! A pass may begin to replace a lane if its tunnel has a turn, and gets one while there are some left and nobody waits. Its tunnel keeps
//! the turn while a new lane is on its way, and then the next in the queue has it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::tunnel::TunnelId;

/// A lane that has not come to serve by then does not hold up the others any longer. A Machine that boots, and a small node that pulls
/// an image, are faster.
const LONGEST: Duration = Duration::from_secs(300);

/// The tunnels that have a turn, and the queue of those that want one.
pub(super) struct Turns {
    /// So many tunnels have one at once.
    at_once: usize,
    /// Since when.
    taken: BTreeMap<TunnelId, Duration>,
    waiting: BTreeMap<TunnelId, Place>,
}

/// A place in the queue. What people asked of a Service comes before what only the operator's own settings changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    by_settings: bool,
    since: Duration,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Turns {
        Turns { at_once, taken: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    /// A pass begins. Returns whether it may replace a lane that serves.
    pub(super) fn take(&mut self, id: &TunnelId, now: Duration) -> bool {
        let free = self.waiting.is_empty() && self.taken.len() < self.at_once;
        if free {
            self.taken.entry(id.clone()).or_insert(now);
        }
        self.taken.contains_key(id)
    }

    /// A pass ended, and no new lane is on its way beside one that serves.
    pub(super) fn give_back(&mut self, id: &TunnelId) {
        self.taken.remove(id);
    }

    /// A pass ended, and it was not for want of a turn.
    pub(super) fn leave_the_queue(&mut self, id: &TunnelId) {
        self.waiting.remove(id);
    }

    /// A pass ended since it had no turn. It keeps its place if it has one.
    pub(super) fn wait(&mut self, id: &TunnelId, asked_for: bool, now: Duration) {
        self.taken.remove(id);
        let place = self.waiting.entry(id.clone()).or_insert(Place { by_settings: !asked_for, since: now });
        place.by_settings &= !asked_for;
    }

    /// Gives turns that are free to those who wait, and returns these. Whoever is not `known` is nobody's tunnel any more.
    pub(super) fn next(&mut self, known: impl Fn(&TunnelId) -> bool, now: Duration) -> Vec<TunnelId> {
        self.taken.retain(|id, since| known(id) && now - *since < LONGEST);
        self.waiting.retain(|id, _| known(id));
        let mut queue: Vec<(Place, TunnelId)> = self.waiting.iter().map(|(id, place)| (*place, id.clone())).collect();
        queue.sort();
        queue.truncate(self.at_once.saturating_sub(self.taken.len()));
        let next: Vec<TunnelId> = queue.into_iter().map(|(_, id)| id).collect();
        for id in &next {
            self.waiting.remove(id);
            self.taken.insert(id.clone(), now);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::id;

    const SECOND: Duration = Duration::from_secs(1);
    const AT_ONCE: usize = 4;

    fn names(numbers: std::ops::Range<usize>) -> Vec<TunnelId> {
        numbers.map(|number| id(&format!("web-{number:02}"))).collect()
    }

    #[test]
    fn so_many_have_a_turn_and_the_others_wait_in_the_order_in_which_they_came() {
        let mut turns = Turns::new(AT_ONCE);
        let all = names(0..AT_ONCE + 3);
        let had: Vec<bool> = all.iter().map(|id| turns.take(id, SECOND)).collect();
        assert_eq!(had.iter().filter(|had| **had).count(), AT_ONCE);
        for id in all[AT_ONCE..].iter().rev() {
            turns.wait(id, false, 2 * SECOND);
        }
        turns.wait(&all[AT_ONCE + 2], true, 3 * SECOND);
        assert!(turns.next(|_| true, 4 * SECOND).is_empty(), "none is free");
        assert!(turns.take(&all[0], 5 * SECOND), "it has its turn still");
        turns.give_back(&all[0]);
        assert!(!turns.take(&all[0], 5 * SECOND), "others wait");
        assert_eq!(turns.next(|_| true, 5 * SECOND), [all[AT_ONCE + 2].clone()], "a user asked for it");
        turns.give_back(&all[1]);
        assert_eq!(turns.next(|_| true, 6 * SECOND), [all[AT_ONCE].clone()]);
        assert_eq!(turns.next(|id| *id != all[2], 7 * SECOND), [all[AT_ONCE + 1].clone()], "that one is gone");
    }

    #[test]
    fn whoever_does_not_come_to_an_end_loses_its_turn() {
        let mut turns = Turns::new(AT_ONCE);
        let (first, others) = (names(0..AT_ONCE), names(AT_ONCE..AT_ONCE + 2));
        assert!(first.iter().all(|id| turns.take(id, SECOND)));
        others.iter().for_each(|id| turns.wait(id, false, SECOND));
        assert!(turns.next(|_| true, LONGEST).is_empty());
        assert_eq!(turns.next(|_| true, LONGEST + SECOND), others);
    }
}
