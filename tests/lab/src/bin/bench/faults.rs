//! One fault at one request: every request of each story meets every fault, one at a time, and all has to be well afterwards. It
//! prints a row for each request: the number of faults tried, how they came out, and the longest time to the end of the story.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lab::trials::{self, Outcome, STORIES, STRIKES, Trial, Verdict};

use crate::progress;

/// Most of the time a trial waits, so several run at once on each core.
const AT_ONCE: usize = 8;

/// How much is tried, as the command line says.
struct Chosen {
    list: bool,
    only: Vec<String>,
    every: usize,
    from: usize,
    at_once: usize,
}

pub fn help() -> String {
    let mut text = "Every request of each story meets every fault, one at a time; exit code 1 if anything is not well afterwards.\n\n\
        Usage: scripts/bench faults [--list] [--only TEXT]... [--every N [--from K]] [--at-once N]\n\n\
        \x20 --list      print the names of the trials, and run none\n\
        \x20 --only      run those whose name has all of these texts: a name as it is printed runs that one\n\
        \x20 --every     run one in N, beginning with the first or the K-th: a sample\n\
        \x20 --at-once   run so many side by side (8)\n\nStories:\n"
        .to_owned();
    for story in &STORIES {
        text.push_str(&format!("  {:<14} {}\n", story.name, story.about));
    }
    let strikes: Vec<&str> = STRIKES.iter().map(|strike| strike.name).collect();
    text.push_str(&format!("\nFaults: {}\n", strikes.join(", ")));
    text.push_str(
        "\nThe silence is one of 60 s, which the operator's own limit of a request ends: 30 s, and 8 s in `creation`, where it is\n\
        elected with a shorter Lease than users have. The whole is some 5,000 trials, and takes two to three hours on 2 cores.\n",
    );
    text
}

pub fn main(arguments: &[String], operator: &Path) -> ExitCode {
    let chosen = match read(arguments) {
        Ok(chosen) => chosen,
        Err(text) => {
            eprintln!("bench: {text}; scripts/bench faults --help tells more");
            return ExitCode::from(2);
        }
    };
    // The name of a trial begins with that of its story, so that the others need not be told.
    let named = |name: &str| chosen.only.iter().any(|text| text.split(':').next() == Some(name));
    let any_named = STORIES.iter().any(|story| named(story.name));
    let stories = STORIES.iter().filter(|story| !any_named || named(story.name));
    progress("faults: each story is told once without a fault, to count its requests");
    let all = trials::all(operator, stories);
    let fits = |trial: &Trial| chosen.only.iter().all(|text| trial.to_string().contains(text.as_str()));
    let fitting: Vec<Trial> = all.into_iter().filter(fits).collect();
    let of = fitting.len();
    let trials: Vec<Trial> = fitting.into_iter().skip(chosen.from - 1).step_by(chosen.every).collect();
    if chosen.list {
        trials.iter().for_each(|trial| println!("{trial}"));
        return ExitCode::SUCCESS;
    }
    progress(format_args!("faults: {} of {of} trials, {} at once", trials.len(), chosen.at_once));
    let (began, rows) = (Instant::now(), Mutex::new(Rows::default()));
    trials::run(operator, &trials, chosen.at_once, |trial, verdict| {
        let mut rows = rows.lock().expect("no one panics while holding it");
        rows.add(trial, verdict);
        let how = match &verdict.outcome {
            Outcome::Well => "well",
            Outcome::Missed => "missed",
            Outcome::Failed(_) => "FAILED",
        };
        let (number, all, took) = (rows.tried, trials.len(), verdict.took.as_secs_f64());
        progress(format_args!("{number} of {all}: {how}, {took:.1} s: {trial}"));
        if let Outcome::Failed(why) = &verdict.outcome {
            progress(why);
        }
    });
    let rows = rows.into_inner().expect("no one panicked");
    rows.print(of, began.elapsed());
    ExitCode::from(u8::from(!rows.failed.is_empty()))
}

fn read(arguments: &[String]) -> Result<Chosen, String> {
    let mut chosen = Chosen { list: false, only: Vec::new(), every: 1, from: 1, at_once: AT_ONCE };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        if name == "--list" {
            chosen.list = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} is not known, or lacks its value"))?;
        let number =
            || value.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{name} {value}: give a number above 0"));
        match name.as_str() {
            "--only" => chosen.only.push(value.clone()),
            "--every" => chosen.every = number()?,
            "--from" => chosen.from = number()?,
            "--at-once" => chosen.at_once = number()?,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(chosen)
}

/// The outcomes of the trials, by story and request.
#[derive(Default)]
struct Rows {
    tried: usize,
    rows: BTreeMap<(usize, String), Row>,
    failed: Vec<String>,
}

#[derive(Default)]
struct Row {
    tried: usize,
    well: usize,
    missed: usize,
    failed: usize,
    ended: usize,
    longest: Option<(Duration, &'static str)>,
}

impl Rows {
    fn add(&mut self, trial: &Trial, verdict: &Verdict) {
        self.tried += 1;
        let story = STORIES.iter().position(|story| story.name == trial.story.name).unwrap_or_default();
        self.rows.entry((story, trial.point.shape.to_string())).or_default().add(trial, verdict);
        if matches!(verdict.outcome, Outcome::Failed(_)) {
            self.failed.push(trial.to_string());
        }
    }

    fn print(&self, of: usize, took: Duration) {
        let mut total = Row::default();
        println!("{:<13} {:<92} {HEAD}", "story", "request");
        for ((story, request), row) in &self.rows {
            println!("{:<13} {request:<92} {row}", STORIES[*story].name);
            total.sum(row);
        }
        println!("{:<13} {:<92} {total}", "all", format!("{} of {of} trials, {} s", self.tried, took.as_secs()));
        self.failed.iter().for_each(|trial| println!("failed: {trial}"));
    }
}

const HEAD: &str = "tried  well missed ended failed  longest";

impl Row {
    fn add(&mut self, trial: &Trial, verdict: &Verdict) {
        let (well, missed, failed) = match verdict.outcome {
            Outcome::Well => (1, 0, 0),
            Outcome::Missed => (0, 1, 0),
            Outcome::Failed(_) => (0, 0, 1),
        };
        let ended = usize::from(verdict.ended > 0);
        self.sum(&Row { tried: 1, well, missed, failed, ended, longest: Some((verdict.took, trial.strike.name)) });
    }

    fn sum(&mut self, other: &Row) {
        self.tried += other.tried;
        self.well += other.well;
        self.missed += other.missed;
        self.failed += other.failed;
        self.ended += other.ended;
        self.longest = self.longest.max(other.longest);
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { tried, well, missed, failed, ended, longest } = self;
        let (took, strike) = longest.unwrap_or_default();
        let took = took.as_secs_f64();
        write!(f, "{tried:>5} {well:>5} {missed:>6} {ended:>5} {failed:>6}  {took:.1} s ({strike})")
    }
}
