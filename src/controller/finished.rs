//! A pass ended: what the loop makes of it.

use std::time::Duration;

use kube_client_lite::lease::Permit;

use super::work::{Outcome, Work};
use super::{Controller, INTERVALS_PER_LOOK};
use crate::backoff::jittered;
use crate::report;
use crate::telemetry::metrics::TunnelState;
use crate::tunnel::TunnelId;
use crate::tunnel::plan::step::Waiting;
use crate::tunnel::summary::Summary;

/// A tunnel at rest, as its last pass found it.
struct Rest {
    /// `None` for one that is to be looked at by itself.
    summary: Option<Summary>,
    /// Users are served by an frpc whose pod is not ready.
    unready: bool,
}

impl Rest {
    fn of(work: &Work, outcome: &Outcome) -> Rest {
        let settled = *outcome == Outcome::Settled;
        let at_rest = settled && work.serves() || outcome.waits_its_turn();
        Rest { summary: Summary::of(&work.seen).filter(|_| at_rest), unready: settled && work.serves_unready() }
    }
}

impl Controller {
    /// Returns what is not as it should be, where the process is to end for it.
    pub(super) fn finished(
        &mut self,
        work: Box<Work>,
        outcome: Outcome,
        permit: &Permit,
        now: Duration,
    ) -> Option<Vec<String>> {
        self.working -= 1;
        let id = work.tunnel.id.clone();
        if !permit.holds() {
            // The next poll of whoever leads finds it.
            self.entries.remove(&id);
            return None;
        }
        let entry = self.entries.get_mut(&id)?;
        if outcome == Outcome::Confirmed {
            self.turns.give_back(&id);
            if entry.confirmed(work, now) {
                entry.start_anew(now);
            } else {
                let pause = self.pace.resync_interval * INTERVALS_PER_LOOK;
                entry.settled_as_before(now + jittered(pause, &*self.world.random));
            }
            return None;
        }
        let metrics = &self.telemetry.metrics;
        metrics.tunnel(&id, TunnelState::of(&work.tunnel, &work.seen));
        if let Some(after) = entry.first_address(&work.seen, now) {
            metrics.address_shown(after);
        }
        if matches!(outcome, Outcome::TryAgain(_)) {
            metrics.retry();
        }
        let asked_for = entry.is_asked_for();
        self.note_turn(&work, &outcome, asked_for, now);
        let rest = Rest::of(&work, &outcome);
        let passed = work.passed(&outcome);
        let entry = self.entries.get_mut(&id)?;
        let changed = entry.returned(work, now);
        if !changed {
            self.goal.passed(&id, passed);
        }
        if outcome == Outcome::Gone {
            self.goal.gone(&id, now);
        }
        if outcome == Outcome::MadeAgain {
            return Some(self.goal.made_again(&id));
        }
        if changed {
            entry.start_anew(now)
        } else {
            self.go_on(id, outcome, rest, now)
        }
        None
    }

    /// A tunnel that waits for its turn joins the queue, and one that does not move lanes any more gives its turn back.
    fn note_turn(&mut self, work: &Work, outcome: &Outcome, asked_for: bool, now: Duration) {
        let id = &work.tunnel.id;
        if outcome.waits_its_turn() {
            self.turns.wait(id, asked_for, now);
            return;
        }
        self.turns.leave_the_queue(id);
        // Where a look failed nobody knows.
        if work.seen.app.is_some() && !work.moves(&self.world.settings, now) {
            self.turns.give_back(id);
        }
    }

    /// Says when a tunnel is worked on next whose pass ended like this, and whose Service did not change meanwhile.
    fn go_on(&mut self, id: TunnelId, outcome: Outcome, rest: Rest, now: Duration) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match outcome {
            Outcome::Gone => {
                self.telemetry.metrics.tunnel_gone(&id);
                self.entries.remove(&id);
                self.gone.insert(id, now);
            }
            Outcome::TryAgain(delay) => entry.try_again(now + delay),
            Outcome::Wait(wait) if wait.what != Waiting::Turn => entry.wait(wait, now, self.pace.resync_interval),
            // A tunnel that waits for its turn has nothing to do before that, so it is watched like one that settled.
            Outcome::Settled | Outcome::LeftAlone(_) | Outcome::Wait(_) => {
                if outcome == Outcome::Settled {
                    entry.fulfilled();
                }
                if entry.never_ready(rest.unready, now) && !self.told_never_ready {
                    self.told_never_ready = true;
                    report::never_ready(&self.world.settings.frpc_image);
                }
                let intervals = if rest.summary.is_some() { INTERVALS_PER_LOOK } else { 1 };
                let pause = jittered(self.pace.resync_interval * intervals, &*self.world.random);
                entry.settled(rest.summary, now + pause);
            }
            Outcome::MadeAgain | Outcome::Stopped | Outcome::Confirmed => {}
        }
    }
}
