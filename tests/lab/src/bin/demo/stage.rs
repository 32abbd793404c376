//! Tools that all chapters use: they run real commands and wait for what must be seen. Meanwhile they print the
//! operator's log and its requests, from the recorder, as they come.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, SystemTime};

use lab::homelab::Homelab;
use lab::operator::RunningOperator;
use lab::recorder::Target;
use serde_json::Value;

use crate::calls;
use crate::screen::{Screen, Ticker};

/// A result whose error tells a person what went wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// The deadline of every wait. Nothing in the demo takes nearly as long, even on a slow machine.
const DEADLINE: Duration = Duration::from_secs(45);
/// Log lines about the one Service of the story have this after their level, and then the App's name. The demo leaves
/// both out, since they are the same each time.
const SUBJECT: &str = "namespace=default name=web app=";

pub struct Stage<'a> {
    pub screen: &'a Screen,
    pub lab: &'a Homelab,
    operator: Option<RunningOperator>,
    chapter: usize,
    chapter_title: &'static str,
    chapter_began: SystemTime,
    /// The App's name, taken from the operator's log.
    app: String,
    /// How many bytes of the operator's log were printed.
    log_told: usize,
    /// The numbers of the requests that were printed or passed over.
    requests_told: BTreeSet<usize>,
}

impl<'a> Stage<'a> {
    pub fn new(screen: &'a Screen, lab: &'a Homelab) -> Stage<'a> {
        Stage {
            screen,
            lab,
            operator: None,
            chapter: 0,
            chapter_title: "",
            chapter_began: SystemTime::now(),
            app: String::new(),
            log_told: 0,
            requests_told: BTreeSet::new(),
        }
    }

    pub fn chapter(&mut self, title: &'static str) {
        self.follow();
        (self.chapter, self.chapter_title, self.chapter_began) = (self.chapter + 1, title, SystemTime::now());
        self.screen.chapter(self.chapter, title);
    }

    /// From now on this operator's log is printed, and the demo fails if the operator ends.
    pub fn enter(&mut self, operator: RunningOperator) {
        self.operator = Some(operator);
    }

    /// Runs a command as a person would type it, with words separated by spaces, in the lab's directory and with the
    /// lab's programs. Shows the command and what it prints; returns its standard output.
    ///
    /// # Errors
    /// The command cannot be started, or it fails.
    pub fn run(&mut self, command: &str) -> Outcome<String> {
        self.screen.command(command);
        let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
        let cluster = self.lab.cluster();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut process = Command::new(program);
        process
            .args(arguments.split(' '))
            .current_dir(self.lab.directory())
            .env("PATH", format!("{}:{path}", cluster.bin().display()))
            .env("KUBECONFIG", cluster.kubeconfig())
            // kubectl keeps its caches in the home directory.
            .env("HOME", self.lab.directory());
        let output = self.screen.during(program, || process.output());
        let output = output.map_err(|error| format!("`{program}` does not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("`{command}` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
        }
        self.screen.output(&String::from_utf8_lossy(&output.stdout));
        self.screen.output(&String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until `found` finds what the story goes on with. Meanwhile prints what happens.
    ///
    /// # Errors
    /// `found` finds nothing in time, or the operator ends.
    pub fn wait<T>(&mut self, what: &str, mut found: impl FnMut(&Homelab) -> Option<T>) -> Outcome<T> {
        let mut ticker = Ticker::new();
        loop {
            let found = found(self.lab);
            if self.follow() {
                ticker.reset();
            }
            if let Some(found) = found {
                return Ok(found);
            }
            if let Some(status) = self.operator.as_mut().and_then(RunningOperator::exit_status) {
                return Err(format!("the operator ended ({status}) before this was seen: {what}"));
            }
            if ticker.waited() > DEADLINE {
                return Err(format!("not seen within {} s: {what}", DEADLINE.as_secs()));
            }
            if ticker.is_due() {
                self.screen.progress(what, ticker.waited());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Prints that `what` was seen if `holds` is true.
    ///
    /// # Errors
    /// `holds` is false.
    pub fn check(&self, what: &str, holds: bool) -> Outcome {
        if !holds {
            return Err(format!("this should be true and is not: {what}"));
        }
        self.screen.seen(what);
        Ok(())
    }

    /// Shows the last `lines` lines of the operator's log, in which the reason of a failure may stand. Returns the
    /// message with its place in the story.
    pub fn fail(&self, message: &str, lines: usize) -> String {
        if let Some(operator) = &self.operator {
            let log = operator.log();
            let all: Vec<&str> = log.lines().collect();
            self.screen.say("");
            self.screen.say("The end of the operator's log:");
            self.screen.output(&all[all.len().saturating_sub(lines)..].join("\n"));
        }
        format!("Step {} failed, \"{}\": {message}", self.chapter, self.chapter_title)
    }

    /// Prints the operator's log lines and requests since the last call; returns whether there were any.
    fn follow(&mut self) -> bool {
        let mut news = self.new_log_lines();
        news.extend(self.new_requests());
        news.sort();
        for (time, who, what) in &news {
            let at = time.duration_since(self.chapter_began).unwrap_or_default();
            self.screen.happened(at, who, &self.shorten(what));
        }
        !news.is_empty()
    }

    fn new_log_lines(&mut self) -> Vec<News> {
        let Some(operator) = &self.operator else { return Vec::new() };
        let log = operator.log();
        // A line that is still being written is left for the next call.
        let complete = log.rfind('\n').map_or(0, |end| end + 1);
        let mut news = Vec::new();
        for line in log[self.log_told..complete].lines() {
            let (at, rest) = line.split_once(' ').unwrap_or(("", line));
            let mut text = rest.to_owned();
            if let Some((level, fields)) = rest.split_once(SUBJECT)
                && let Some((app, message)) = fields.split_once(' ')
            {
                self.app = app.to_owned();
                text = format!("{level}{message}");
            }
            news.push((time(at), "operator", text));
        }
        self.log_told = complete;
        news
    }

    fn new_requests(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for (number, request) in self.lab.requests().iter().enumerate() {
            // A request that is under way is left for a later call, to be printed with its answer.
            if request.status.is_none() || !self.requests_told.insert(number) || !calls::changes(request) {
                continue;
            }
            let who = match request.to {
                Target::Fly => "→ Fly",
                Target::Kubernetes => "→ cluster",
            };
            news.push((time(&request.time), who, calls::line(request)));
        }
        news
    }

    /// Writes `APP` in place of the App's name, which is long and part of many other names.
    fn shorten(&self, text: &str) -> String {
        if self.app.is_empty() { text.to_owned() } else { text.replace(&self.app, "APP") }
    }
}

/// Something that happened: the time, the actor, and the text.
type News = (SystemTime, &'static str, String);

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap_or_else(|_| SystemTime::now())
}

/// The Apps that exist at Fly now.
pub fn apps(lab: &Homelab) -> Vec<Value> {
    lab.fly().state()["apps"].as_array().cloned().unwrap_or_default()
}

/// The Machines of an App.
pub fn machines(app: &Value) -> Vec<Value> {
    app["machines"].as_array().cloned().unwrap_or_default()
}
