//! Trials: one fault strikes one request of a story, and then all has to be well all the same.
//!
//! ```text
//!  story (a creation, a change, a deletion)  ── run without a fault ──►  its requests: points
//!  story × point × strike = trial            ── run with the fault  ──►  verdict
//! ```
//!
//! Each trial has a lab of its own on the shared cluster, so that many run side by side. A verdict says whether the story came to
//! its end within a bound, with one App, one address and the wanted lane, or with nothing left; whether anything happened on the
//! way that must never happen (`watch`); and how long it took.

mod end;
mod point;
mod story;
mod strike;
mod watch;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

pub use self::point::Point;
pub use self::story::{STORIES, Story};
pub use self::strike::{STRIKES, Strike};

use self::story::Stage;
use self::watch::Watch;
use crate::homelab::Homelab;

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Nobody may write anything for so long before a story counts as told to its end: some polls.
const REST: Duration = Duration::from_secs(2);

/// A story is told so often at most until the request comes that is to be struck.
const TELLINGS: usize = 3;

/// One fault at one request of a story.
#[derive(Clone)]
pub struct Trial {
    pub story: &'static Story,
    pub point: Point,
    pub strike: Strike,
}

/// A name by which the trial can be asked for.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.story.name, self.point, self.strike.name)
    }
}

/// The result of a trial.
pub struct Verdict {
    pub outcome: Outcome,
    /// The time from the beginning of the story to its end.
    pub took: Duration,
    /// How often the operator ended by itself, and was started anew.
    pub ended: u32,
}

#[derive(Debug)]
pub enum Outcome {
    Well,
    /// The story came to its end without the request that was to be struck, each time.
    Missed,
    /// The reason; then the ends of the operator's log and of the requests.
    Failed(String),
}

/// The trials of these stories: all of their requests, in order, and each strike at each. The stories are told side by side first,
/// without a fault.
///
/// # Panics
/// A story does not come to its end though nothing strikes it.
pub fn all(operator: &Path, stories: impl IntoIterator<Item = &'static Story>) -> Vec<Trial> {
    let told = thread::scope(|scope| {
        let told = stories.into_iter().map(|story| (story, scope.spawn(move || requests(operator, story))));
        let told: Vec<_> = told.collect();
        told.into_iter()
            .map(|(story, points)| (story, points.join().expect("a story that nothing disturbs ends well")))
            .collect::<Vec<_>>()
    });
    let trials = told.into_iter().flat_map(|(story, points)| points.into_iter().map(move |point| (story, point)));
    trials.flat_map(|(story, point)| STRIKES.map(|strike| Trial { story, point: point.clone(), strike })).collect()
}

/// The requests of a story that nothing disturbs.
fn requests(operator: &Path, story: &'static Story) -> Vec<Point> {
    let mut points = Vec::new();
    let verdict = tell(operator, story, None, |lab, from| points = Point::all(&lab.requests()[from..]));
    match verdict.outcome {
        Outcome::Failed(why) => panic!("{}: {why}", story.name),
        _ => points,
    }
}

/// Runs the trials, so many at once, in order. Each is reported when it is over.
pub fn run(operator: &Path, trials: &[Trial], at_once: usize, report: impl Fn(&Trial, &Verdict) + Sync) {
    let left = Mutex::new(trials.iter());
    thread::scope(|scope| {
        for _ in 0..at_once.min(trials.len()) {
            scope.spawn(|| {
                while let Some(trial) = { left.lock().expect("no one panics while holding it").next() } {
                    report(trial, &trial.run(operator));
                }
            });
        }
    });
}

impl Trial {
    /// Tells the story, with the fault; anew where it came to its end without the request, which only some tellings have.
    pub fn run(&self, operator: &Path) -> Verdict {
        let once = || tell(operator, self.story, Some((&self.point, self.strike)), |_, _| ());
        let missed = |verdict: &Verdict| matches!(verdict.outcome, Outcome::Missed);
        (1..TELLINGS).map(|_| once()).find(|verdict| !missed(verdict)).unwrap_or_else(once)
    }
}

/// Tells a story to its end. `after` is given the lab and the number of the story's first request.
fn tell(
    operator: &Path,
    story: &Story,
    fault: Option<(&Point, Strike)>,
    after: impl FnOnce(&Homelab, usize),
) -> Verdict {
    let began = Instant::now();
    let told = catch_unwind(AssertUnwindSafe(|| Telling::begin(operator, story, fault).finish(after)));
    told.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let why = format!("the trial itself broke off: {}", text.unwrap_or_default());
        Verdict { outcome: Outcome::Failed(why), took: began.elapsed(), ended: 0 }
    })
}

/// A story that is being told.
struct Telling<'a> {
    story: &'a Story,
    fault: Option<(&'a Point, Strike)>,
    operator: PathBuf,
    lab: Homelab,
}

impl<'a> Telling<'a> {
    fn begin(operator: &Path, story: &'a Story, fault: Option<(&'a Point, Strike)>) -> Telling<'a> {
        Telling { story, fault, operator: operator.to_owned(), lab: story.lab() }
    }

    fn finish(self, after: impl FnOnce(&Homelab, usize)) -> Verdict {
        let Telling { story, fault, operator, lab } = &self;
        let mut stage = Stage::set(story, lab, operator);
        let from = lab.requests().len();
        let gate = fault.and_then(|(point, strike)| strike.strike(lab, point));
        let (mut killed, mut ended) = (false, 0);
        let mut log = String::new();
        let mut watch = Watch::new(story, &stage);
        let began = Instant::now();
        stage.go();
        let mut rest_since = None;
        let outcome = loop {
            thread::sleep(LOOK);
            if let Some(gate) = gate.as_ref().filter(|gate| !killed && gate.wait(Duration::ZERO).is_some()) {
                log += &stage.kill();
                gate.drop_held();
                lab.faults([]);
                stage.start();
                killed = true;
            }
            // As a kubelet does.
            if let Some(said) = stage.ended() {
                log += &said;
                ended += 1;
                stage.start();
            }
            let service = match lab.cluster().kube().find(&stage.web.path()) {
                Ok(service) => service.unwrap_or_default(),
                Err(_) => continue, // the API server has a bad moment
            };
            if let Err(wrong) = watch.look(lab, &service) {
                break Err(wrong);
            }
            let lacks = stage.lacks(lab, from, &service).or_else(|| watch.lacks());
            if let Some(lacks) = lacks {
                rest_since = None;
                if began.elapsed() > story.bound {
                    break Err(format!("after {:?}: {lacks}", story.bound));
                }
                continue;
            }
            let writes = end::writes(lab, from);
            let (since, then) = *rest_since.get_or_insert((Instant::now(), writes));
            if then != writes {
                rest_since = None;
            } else if since.elapsed() >= REST {
                let struck = fault.is_none() || lab.requests().iter().any(|request| request.struck);
                break Ok(if struck { Outcome::Well } else { Outcome::Missed });
            }
        };
        let took = began.elapsed().saturating_sub(REST);
        let outcome = outcome.and_then(|outcome| watch.verdict(&lab.requests()[from..]).map(|()| outcome));
        let outcome = outcome.unwrap_or_else(|why| {
            log += &stage.kill();
            Outcome::Failed(format!("{why}\n{}", end::tail(&log, &lab.requests()[from..])))
        });
        after(lab, from);
        Verdict { outcome, took, ended }
    }
}
