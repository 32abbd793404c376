//! One new Service after the other, with real traffic. It counts the requests that a tunnel takes, and measures the
//! operator's own part of the time until the address is shown.
//!
//! ```text
//!  Service created      poll        Machine asked for      started    frpc applied       check passes     address shown
//!        │  wait for it  │   begin         │   Fly: boot      │  notice     │  pod, login, check  │   finish     │
//! ```
//!
//! The operator's own time is `begin + notice + finish`, less the time in which a request to Fly was under way, since
//! that is the latency of the lab's Fly. If frpc is applied before its Machine has started, `notice` is zero. The wait
//! for the poll is measured separately; it takes one poll interval at most.

use std::path::Path;
use std::time::{Duration, SystemTime};

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Request, Target};

use crate::row::Row;
use crate::{DEADLINE, log, progress, services};

const SERVICES: usize = 6;
const LATENCY: Duration = Duration::from_millis(100);
const BOOT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(1);
/// The pause between two looks at Fly's own state.
const SAMPLE: Duration = Duration::from_millis(5);

pub fn run(operator: &Path) {
    let lab = services::lab(Settings { latency: LATENCY, machine_boot: BOOT, ..Settings::default() }, true);
    let poll = humantime::format_duration(POLL).to_string();
    // A long resync interval, so that meanwhile nothing else is asked of Fly.
    let operator = services::operator(&lab, operator).env("POLL_INTERVAL", &poll).env("RESYNC_INTERVAL", "1h");
    let _operator = operator.start();
    log::wait_for(&lab, 0, 1, log::is_poll);

    let creations: Vec<Creation> = (0..SERVICES).map(|number| Creation::watch(&lab, number)).collect();
    let most = |count: fn(&Creation) -> usize| creations.iter().map(count).max().unwrap_or_default();
    let note = format!("and {} looks at a Machine that is waited for", most(|creation| creation.waits));
    Row::new("requests to Fly for a new tunnel", most(|creation| creation.requests) as f64, "")
        .bound(8.0)
        .note(note)
        .print();

    let longest = creations.iter().map(|creation| creation.wait_for_poll).max().unwrap_or_default();
    let note = format!("the longest of {SERVICES}");
    Row::new("wait for a poll, in intervals", longest.as_secs_f64() / POLL.as_secs_f64(), "")
        .bound(1.0)
        .note(note)
        .print();
    let slowest = creations.iter().max_by_key(|creation| creation.own()).expect("some were made");
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let [begin, notice, finish] = [slowest.begin, slowest.notice, slowest.finish].map(|part| part.as_millis());
    let note = format!(
        "begin {begin}, notice {notice}, finish {finish} ms; others {:.0} ms or less",
        milliseconds(creations.iter().map(Creation::own).filter(|own| *own < slowest.own()).max().unwrap_or_default()),
    );
    Row::new("from poll to address, over Fly, pod and login", milliseconds(slowest.own()), "ms")
        .bound(500.0)
        .note(note)
        .print();
}

/// Counts and times of one Service on its way to an address.
struct Creation {
    /// The number of requests to Fly, without those counted in `waits`.
    requests: usize,
    waits: usize,
    wait_for_poll: Duration,
    begin: Duration,
    notice: Duration,
    finish: Duration,
}

impl Creation {
    fn watch(lab: &Homelab, number: usize) -> Creation {
        let name = format!("web-{number}");
        let from = lab.requests().len();
        lab.service(&name).port(8080).create();
        let created = SystemTime::now();
        let seen = Seen::watch(lab, from, number);
        let log = &lab.requests()[from..];
        let first = |wanted: &dyn Fn(&Request) -> bool| {
            log.iter().position(wanted).unwrap_or_else(|| panic!("the log of {name} lacks a request"))
        };
        let begun = first(&|request| request.path.contains(&format!("/services/{name}")));
        let polled = log[..begun].iter().rposition(log::is_poll).expect("the Service was found by a poll");
        let asked = first(&|request| request.method == "POST" && request.path.ends_with("/machines"));
        let applied = first(&log::applies_frpc);
        let [polled_at, asked_at, applied_at] = [polled, asked, applied].map(|number| log::arrival(&log[number]));

        let to_fly: Vec<&Request> = log.iter().filter(|request| request.to == Target::Fly).collect();
        let waits = log::count(log, log::is_wait);
        let creation = Creation {
            requests: to_fly.len() - waits,
            waits,
            wait_for_poll: log::since(polled_at, created),
            begin: without_latency(polled_at, asked_at, &to_fly),
            notice: without_latency(seen.started, applied_at, &to_fly),
            finish: without_latency(seen.passing, seen.shown, &to_fly),
        };
        let after = log::since(seen.shown, created);
        progress(format_args!("{name}: {:.1} s, {} ms of them ours", after.as_secs_f64(), creation.own().as_millis()));
        creation
    }

    /// The operator's own part of the time; the module's comment defines it.
    fn own(&self) -> Duration {
        self.begin + self.notice + self.finish
    }
}

/// The time between `from` and `to` in which no request to Fly was under way. Requests do not overlap: the operator
/// makes one at a time.
fn without_latency(from: SystemTime, to: SystemTime, to_fly: &[&Request]) -> Duration {
    let under_way = to_fly.iter().map(|request| {
        let arrival = log::arrival(request);
        log::since(to.min(arrival + LATENCY), from.max(arrival))
    });
    log::since(to, from).saturating_sub(under_way.sum())
}

/// The times at which the Machine started and its checks passed, by Fly's own state, and at which the Service showed
/// its address.
struct Seen {
    started: SystemTime,
    passing: SystemTime,
    shown: SystemTime,
}

impl Seen {
    /// Watches the `number`-th Machine (the first is 0) until the log from `from` on shows the address.
    fn watch(lab: &Homelab, from: usize, number: usize) -> Seen {
        let (mut started, mut passing) = (None, None);
        let begin = SystemTime::now();
        loop {
            let now = SystemTime::now();
            let (are_started, are_passing) = machines(lab);
            started = started.or((are_started > number).then_some(now));
            passing = passing.or((are_passing > number).then_some(now));
            let shown = |log: &[Request]| {
                let shown = |request: &Request| log::shows_address(request) && request.status == Some(200);
                log[from..].iter().any(shown).then(SystemTime::now)
            };
            let shown = lab.recorder().wait_requests(SAMPLE, shown);
            if let (Some(started), Some(passing), Some(shown)) = (started, passing, shown) {
                return Seen { started, passing, shown };
            }
            assert!(log::since(now, begin) < DEADLINE, "no address after {DEADLINE:?}");
        }
    }
}

/// How many Machines are started, and how many of them pass their checks.
fn machines(lab: &Homelab) -> (usize, usize) {
    let state = lab.fly().state();
    let apps = state["apps"].as_array().into_iter().flatten();
    let started: Vec<_> = apps
        .flat_map(|app| app["machines"].as_array().into_iter().flatten())
        .filter(|machine| machine["state"] == "started")
        .collect();
    let passes = |machine: &&&serde_json::Value| {
        let checks = machine["checks"].as_array();
        checks.is_some_and(|checks| !checks.is_empty() && checks.iter().all(|check| check["status"] == "passing"))
    };
    (started.len(), started.iter().filter(passes).count())
}
