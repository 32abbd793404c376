//! Random schedules of several candidates with delays, losses, pauses, clocks that jump, and a person who meddles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::super::clock::Now;
use super::super::election::{Election, Move, Write};
use super::super::record::Lease;
use super::super::takeover::Takeover;
use super::TIMINGS;

/// Keeps one Lease as the API server does: a write fails unless it names the present version.
#[derive(Default)]
struct Store {
    lease: Option<Value>,
    version: u64,
}

impl Store {
    fn write(&mut self, write: Write) -> Option<Lease> {
        let (lease, create) = match write {
            Write::Create(lease) => (lease, true),
            Write::Replace(lease) => (lease, false),
        };
        let mut lease = serde_json::to_value(lease).expect("JSON");
        let current = self.lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
        let right =
            if create { current.is_none() } else { current.as_ref() == Some(&lease["metadata"]["resourceVersion"]) };
        if !right {
            return None;
        }
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        Some(serde_json::from_value(lease).expect("JSON"))
    }
}

/// A process whose clock was started at another time, and whose wall clock may be wrong by hours.
struct Process {
    takeover: Takeover,
    wall_error: i64,
    /// Does nothing before that time.
    paused_until: u64,
    /// The number of the request that it waits for.
    request: u64,
    /// The last time when somebody looked and it led.
    led: Option<u64>,
    /// It told the others that no request of it is under way.
    released: bool,
    /// It is about to take the Lease by force.
    seizes: bool,
}

enum Happening {
    Round,
    Arrives(u64, Message, Now),
    Reply(u64, Reply, Now),
    TimesOut(u64),
}

enum Message {
    Read,
    Write(Write),
}

enum Reply {
    Read(Option<Lease>),
    Wrote(Option<Lease>),
}

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// Several processes and the API server between them. Times are in milliseconds.
struct Schedule {
    random: Random,
    base: Instant,
    now: u64,
    store: Store,
    processes: Vec<Process>,
    /// The key is a time, and a number that keeps the order.
    queue: BTreeMap<(u64, u64), (usize, Happening)>,
    number: u64,
    calm: bool,
    meddled: u64,
    created: u64,
    seized: u64,
    leaders: BTreeSet<usize>,
}

/// The number of schedules that are tried. Each has half an hour of trouble, and a calm end.
const SEEDS: u64 = 400;

/// The longest that a request or a reply is under way.
const SLOWEST: u64 = 200_000;

/// A request is given up after that time; it may arrive later all the same.
const PATIENCE: u64 = 10_000;

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let mut schedule = Schedule {
            random: Random(seed),
            base: Instant::now(),
            now: 0,
            store: Store::default(),
            processes: Vec::new(),
            queue: BTreeMap::new(),
            number: 0,
            calm: false,
            meddled: 0,
            created: 0,
            seized: 0,
            leaders: BTreeSet::new(),
        };
        for number in 0..2 + schedule.random.below(4) {
            schedule.processes.push(Process {
                takeover: Takeover::new(Election::new("l", &format!("process {number}"), TIMINGS)),
                wall_error: 0,
                paused_until: 0,
                request: 0,
                led: None,
                released: true,
                seizes: false,
            });
            let start = schedule.random.below(20_000);
            schedule.after(start, number as usize, Happening::Round);
        }
        schedule
    }

    fn after(&mut self, delay: u64, process: usize, happening: Happening) {
        self.number += 1;
        self.queue.insert((self.now + delay, self.number), (process, happening));
    }

    fn clocks(&self, process: usize) -> Now {
        let wall = 1_000_000_000_000 + self.now as i64 + self.processes[process].wall_error;
        Now {
            monotonic: self.base + Duration::from_millis(self.now),
            wall: SystemTime::UNIX_EPOCH + Duration::from_millis(wall as u64),
        }
    }

    /// How long a request or a reply takes: mostly little, at times much, and now and then it is lost (`None`).
    fn delay(&mut self) -> Option<u64> {
        match self.random.below(if self.calm { 12 } else { 20 }) {
            0..12 => Some(self.random.below(200)),
            12..16 => Some(self.random.below(15_000)),
            16..18 => Some(self.random.below(SLOWEST)),
            _ => None,
        }
    }

    fn run_until(&mut self, end: u64) {
        while let Some((&(time, number), _)) = self.queue.first_key_value() {
            if time > end {
                break;
            }
            let (process, happening) = self.queue.remove(&(time, number)).expect("it is there");
            self.now = time;
            self.happens(process, happening);
            self.judge();
        }
        self.now = end;
    }

    fn happens(&mut self, process: usize, happening: Happening) {
        let asleep = self.processes[process].paused_until;
        if asleep > self.now && !matches!(happening, Happening::Arrives(..)) {
            return self.after(asleep - self.now, process, happening);
        }
        match happening {
            Happening::Round => {
                self.disturb(process);
                let now = self.clocks(process);
                let next = match self.random.below(40) {
                    0 if !self.calm => self.release(process, now),
                    1 if !self.calm && self.processes[process].takeover.leads_from(now).is_none() => {
                        self.seize(process)
                    }
                    _ if self.processes[process].seizes => Move::Read,
                    _ => self.processes[process].takeover.first(now),
                };
                self.go(process, next);
            }
            Happening::Arrives(request, message, sent) => {
                self.meddle();
                let reply = match message {
                    Message::Read => {
                        Reply::Read(self.store.lease.clone().map(|lease| serde_json::from_value(lease).expect("JSON")))
                    }
                    Message::Write(write) => {
                        if matches!(write, Write::Create(_)) {
                            self.created = self.now;
                        }
                        Reply::Wrote(self.store.write(write))
                    }
                };
                if let Some(delay) = self.delay() {
                    self.after(delay, process, Happening::Reply(request, reply, sent));
                }
            }
            Happening::Reply(request, reply, sent) if request == self.processes[process].request => {
                let now = self.clocks(process);
                let Process { takeover, seizes, .. } = &mut self.processes[process];
                let next = match reply {
                    Reply::Read(found) if *seizes => {
                        self.seized = self.now;
                        Move::Write(takeover.seize(found, now))
                    }
                    Reply::Read(found) => takeover.read(found, now),
                    Reply::Wrote(Some(lease)) => {
                        takeover.wrote(lease, sent, now);
                        *seizes = false;
                        Move::Stand
                    }
                    Reply::Wrote(None) => Move::Read,
                };
                self.go(process, next);
            }
            Happening::TimesOut(request) if request == self.processes[process].request => self.go(process, Move::Stand),
            Happening::Reply(..) | Happening::TimesOut(_) => {}
        }
    }

    /// A process is stopped for a while, or its wall clock is set.
    fn disturb(&mut self, process: usize) {
        match self.random.below(30) {
            0 if !self.calm => self.processes[process].paused_until = self.now + self.random.below(150_000),
            1 if !self.calm => self.processes[process].wall_error = self.random.below(20_000_000) as i64 - 10_000_000,
            _ => {}
        }
    }

    /// A person deletes the Lease or empties it, once all have seen it. Not again while somebody may not have noticed, or while a
    /// creation or a seizure may be under way that nobody could tell from a rightful one.
    fn meddle(&mut self) {
        let chance = self.random.below(200);
        let all_saw_it = self.processes.iter().all(|process| !process.takeover.election().holder().is_empty());
        let last = self.meddled.max(self.created).max(self.seized);
        let may = !self.calm && all_saw_it && self.now > last + 2 * SLOWEST;
        let Some(lease) = self.store.lease.as_mut().filter(|_| may) else {
            return;
        };
        match chance {
            0 => {
                self.meddled = self.now;
                self.store.lease = None;
            }
            1 => {
                self.meddled = self.now;
                self.store.version += 1;
                lease["metadata"]["resourceVersion"] = json!(self.store.version.to_string());
                lease["spec"]["holderIdentity"] = json!("");
                lease["spec"]["leaseDurationSeconds"] = json!(60);
            }
            _ => {}
        }
    }

    fn release(&mut self, process: usize, now: Now) -> Move {
        self.processes[process].released = true;
        match self.processes[process].takeover.release(now) {
            Some(write) => Move::Write(write),
            None => Move::Read,
        }
    }

    fn seize(&mut self, process: usize) -> Move {
        self.processes[process].seizes = true;
        self.seized = self.now;
        Move::Read
    }

    fn go(&mut self, process: usize, next: Move) {
        self.processes[process].request += 1;
        let request = self.processes[process].request;
        let message = match next {
            Move::Stand => {
                let pause = TIMINGS.retry_period.as_millis() as u64 + self.random.below(2_000);
                return self.after(pause, process, Happening::Round);
            }
            Move::Read => Message::Read,
            Move::Write(write) => Message::Write(write),
        };
        let sent = self.clocks(process);
        if let Some(delay) = self.delay() {
            self.after(delay, process, Happening::Arrives(request, message, sent));
        }
        self.after(PATIENCE, process, Happening::TimesOut(request));
    }

    /// At no time two leaders; and whoever leads finds nothing under way of the one before, who may have begun a request
    /// in the last moment of its term.
    fn judge(&mut self) {
        let clocks: Vec<Now> = (0..self.processes.len()).map(|process| self.clocks(process)).collect();
        let mut leader = None;
        for (number, process) in self.processes.iter_mut().enumerate() {
            if let Some((from, deadline)) = process.takeover.leads_from(clocks[number]) {
                let end = (from.monotonic - self.base + deadline).as_millis() as u64;
                process.led = Some(end.min(self.now));
                assert_eq!(leader.replace(number), None, "it leads, and so does {number}, at {} ms", self.now);
                process.released = false;
            }
        }
        let Some(leader) = leader else { return };
        self.leaders.insert(leader);
        let gap = (TIMINGS.lease_duration - TIMINGS.renew_deadline).as_millis() as u64;
        for (number, other) in self.processes.iter().enumerate().filter(|(number, _)| *number != leader) {
            let last = other.led.filter(|_| !other.released);
            assert!(
                last.is_none_or(|last| last + gap <= self.now),
                "{leader} leads at {} ms, {number} led at {last:?}",
                self.now
            );
        }
    }
}

#[test]
fn there_are_never_two_leaders_whatever_the_delays() {
    let mut leaders = 0;
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| {
            let mut schedule = Schedule::new(seed);
            schedule.run_until(1_800_000);
            schedule.calm = true;
            // Requests that were sent before the calm may still arrive.
            schedule.run_until(2_300_000);
            let led_lately =
                schedule.processes.iter().any(|process| process.led.is_some_and(|led| led + 30_000 > schedule.now));
            assert!(led_lately, "nobody leads, though all is calm");
            schedule.leaders.len()
        });
        leaders += outcome.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(leaders > 2 * SEEDS as usize, "leadership changed hands");
}
