//! The loop's threads: one that polls, and one for each pass. They talk to the loop by a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::lease::{Leadership, Permit};

use super::work::{Clock, Pass, Time, Work};
use super::{Command, Controller, Event, Pace};
use super::{poll, sweep};
use crate::goal::Goal;
use crate::telemetry::Telemetry;
use crate::tunnel::TunnelId;
use crate::world::World;

/// Passes in hand are given so long when the process is to end.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// The loop turns at least that often.
const TURN: Duration = Duration::from_secs(10);

/// A pass may make some hundred requests, of which few hang: one that takes longer than this never comes back.
const PASS_TIMEOUT: Duration = Duration::from_secs(600);

/// How the loop ended.
pub struct End {
    /// No step was left under way.
    pub quiet: bool,
    /// Where it ended by itself: what is not as it should be, empty if all is well.
    pub failures: Vec<String>,
}

/// All that the loop's threads share.
struct Threads {
    world: Arc<World>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    stopping: Arc<AtomicBool>,
    events: Sender<Event>,
}

/// Runs until an `Event::Stop` comes, or until the goal is reached. `orphans` are taken down.
pub fn run(
    world: Arc<World>,
    pace: Pace,
    goal: Goal,
    leadership: &Leadership,
    telemetry: Arc<Telemetry>,
    (events, receiver): (Sender<Event>, Receiver<Event>),
    orphans: Vec<TunnelId>,
) -> End {
    let (clock, stopping) = (Clock::start(), Arc::new(AtomicBool::new(false)));
    {
        let (world, leadership, events) = (Arc::clone(&world), leadership.clone(), events.clone());
        let (interval, telemetry) = (pace.poll_interval, Arc::clone(&telemetry));
        thread::spawn(move || poll::run(&world, &leadership, interval, &telemetry, &clock, &events));
    }
    {
        let (world, leadership, events) = (Arc::clone(&world), leadership.clone(), events.clone());
        let (interval, telemetry) = (pace.resync_interval, Arc::clone(&telemetry));
        thread::spawn(move || sweep::run(&world, &leadership, interval, &telemetry, &clock, &events));
    }
    let pulse = telemetry.health.pulse("the loop");
    let mut controller = Controller::new(Arc::clone(&world), pace, goal, Arc::clone(&telemetry), orphans);
    let threads = Threads { world, telemetry, clock, stopping, events };
    loop {
        pulse.back_within(TURN);
        let pause = controller.due().map_or(TURN, |due| due.saturating_sub(threads.now()).min(TURN));
        let event = receiver.recv_timeout(pause).unwrap_or(Event::Woken);
        for command in controller.on(event, leadership.permit(), threads.now()) {
            match command {
                Command::Start(work, permit) => threads.start(work, permit),
                Command::End(failures) => return threads.end(&receiver, controller.working(), failures),
            }
        }
    }
}

impl Threads {
    fn now(&self) -> Duration {
        self.clock.now().monotonic
    }

    fn start(&self, mut work: Box<Work>, permit: Permit) {
        let (world, events) = (Arc::clone(&self.world), self.events.clone());
        let (clock, stopping) = (self.clock, Arc::clone(&self.stopping));
        let pulse = self.telemetry.health.pulse(format!("the pass over {}", work.tunnel.id));
        pulse.back_within(PASS_TIMEOUT);
        thread::spawn(move || {
            let _pulse = pulse;
            let outcome = work.pass(&Pass { world: &world, time: &clock, stopping: &stopping, permit: &permit });
            let _ = events.send(Event::Finished(work, outcome, permit)); // nobody listens: the process ends
        });
    }

    /// Ends once no step is under way, or after a while.
    fn end(&self, receiver: &Receiver<Event>, mut working: usize, failures: Vec<String>) -> End {
        self.stopping.store(true, Ordering::Release);
        let end = Instant::now() + LAST_STEPS;
        while working > 0 {
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Finished(..)) => working -= 1,
                Ok(_) => {}
                Err(_) => {
                    log::warn!(
                        "still under way: {working} of the steps; what they do is found at the next start, and nobody else \
                         leads before the Lease expires"
                    );
                    break;
                }
            }
        }
        self.world.events.finish();
        End { quiet: working == 0, failures }
    }
}
