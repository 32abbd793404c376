//! Helpers that several subjects use. A subject imports this module, and no other subject.

pub mod client;
pub mod conditions;
pub mod documents;
pub mod events;
pub mod http;
pub mod inventory;
pub mod lease;
pub mod release;
pub mod snapshot;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use lab::recorder::Request;
use lab::service::ServiceHandle;

use conditions::wait_for_reason;

/// A deadline for most waits. All of them end sooner, even beside a dozen busy processes on 2 cores.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// A deadline for waits in which the operator has to believe a "not found" of Fly's, which takes a minute, and then act
/// on it.
pub const LONG_DEADLINE: Duration = Duration::from_secs(300);

/// The binary that is tested: the one that Cargo built for these tests, or another that the environment names, as
/// `scripts/image` does.
pub fn binary() -> &'static Path {
    static GIVEN: LazyLock<Option<OsString>> = LazyLock::new(|| std::env::var_os("OPERATOR_BINARY"));
    GIVEN.as_deref().map_or(Path::new(env!("CARGO_BIN_EXE_fly-tunnel-operator")), Path::new)
}

/// Starts an operator of this lab.
pub fn start(lab: &Homelab) -> RunningOperator {
    lab.operator(binary()).start()
}

/// Makes a Service `web` with port 8080, and waits until it serves. Gives it and its address.
#[track_caller]
pub fn serving(lab: &Homelab) -> (ServiceHandle<'_>, IpAddr) {
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    wait_for_reason(&web, "Serving");
    (web, ip)
}

/// Waits until the condition holds.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the Services were listed that often from now on.
#[track_caller]
pub fn wait_for_polls(lab: &Homelab, count: usize) {
    let polls = |requests: &[Request]| requests.iter().filter(|r| r.path.contains("/services?")).count();
    let before = polls(&lab.requests());
    lab.wait_requests(DEADLINE, |requests| polls(requests) >= before + count);
}

/// Runs the cases side by side, a few at once, and no more than [`TOGETHER`] of all tests.
pub fn side_by_side<T: Send>(at_once: usize, cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    let cases = Mutex::new(cases.into_iter().collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = { cases.lock().expect("no one panics while holding it").pop() } {
                    let _place = Place::take();
                    run(case);
                }
            });
        }
    });
}

/// The number of cases that run at once in all tests together. Each has a lab of its own: with 30 of them beside a dozen busy
/// processes on 2 cores a tunnel took more than two minutes.
const TOGETHER: usize = 10;

/// The cases that run now, and a signal for those that wait to run.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of the [`TOGETHER`] places. It is free again when dropped, also by a panic.
struct Place;

impl Place {
    fn take() -> Place {
        let running = RUNNING.0.lock().expect("no one panics while holding it");
        let is_full = |running: &mut usize| *running >= TOGETHER;
        *RUNNING.1.wait_while(running, is_full).expect("no one panics while holding it") += 1;
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *RUNNING.0.lock().expect("no one panics while holding it") -= 1;
        RUNNING.1.notify_one();
    }
}

/// Waits until the operator ends by itself. Gives its exit code and its log.
pub fn ended(mut operator: RunningOperator) -> (Option<i32>, String) {
    let status = operator.wait(LONG_DEADLINE).unwrap_or_else(|| panic!("it does not end: {}", operator.log()));
    (status.code(), operator.log())
}
