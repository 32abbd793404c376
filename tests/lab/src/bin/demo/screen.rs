//! The look of the demo: colours and a moving progress line on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

const BOLD: &str = "1";
const DIM: &str = "2";
const BOLD_RED: &str = "1;31";
const BOLD_GREEN: &str = "1;32";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Standard output, and how to print on it.
pub struct Screen {
    terminal: bool,
    colours: bool,
    /// Whether the cursor is on a progress line, which the next output replaces.
    in_progress: AtomicBool,
    start: Instant,
}

impl Screen {
    /// Uses colours unless `NO_COLOR` is set (<https://no-color.org>) or standard output is no terminal.
    pub fn new() -> Screen {
        let terminal = std::io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { terminal, colours, in_progress: AtomicBool::new(false), start: Instant::now() }
    }

    /// The time since the demo began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn title(&self, text: &str) {
        self.line(&self.paint(BOLD, text));
    }

    pub fn chapter(&self, number: usize, title: &str) {
        let rule = "─".repeat(100 - 8 - title.chars().count().min(80));
        self.line("");
        self.line(&self.paint(BOLD, &format!("── {number}. {title} {rule}")));
    }

    /// Prints prose.
    pub fn say(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// Prints a command that is about to be run.
    pub fn command(&self, command: &str) {
        self.line(&format!("   {}", self.paint(CYAN, &format!("$ {command}"))));
    }

    /// Prints the output of a command, or the contents of a file.
    pub fn output(&self, text: &str) {
        text.trim_end().lines().for_each(|line| self.line(&format!("     {}", line.trim_end())));
    }

    /// Prints something that happened beside the story. `at` is the time since the chapter began. Requests to Fly stand
    /// out.
    pub fn happened(&self, at: Duration, who: &str, what: &str) {
        let when = self.paint(DIM, &format!("{:6.2} s  {who:9}", at.as_secs_f64()));
        let what = match who {
            "→ Fly" => self.paint(YELLOW, what),
            "→ cluster" => self.paint(DIM, what),
            _ => what.to_owned(),
        };
        self.line(&format!("   {when}  {what}"));
    }

    /// Prints something that had to be true and was seen to be.
    pub fn seen(&self, what: &str) {
        self.line(&format!("   {} {what}", self.paint(GREEN, "✓")));
    }

    /// Prints the last words of a story that went well.
    pub fn told(&self, what: &str) {
        self.line("");
        self.line(&self.paint(BOLD_GREEN, &format!("✓ {what}")));
    }

    /// Prints a failure to standard error.
    pub fn failed(&self, message: &str) {
        self.line("");
        eprintln!("{}", self.paint(BOLD_RED, &format!("✗ {message}")));
    }

    /// Prints what is waited for, and for how long already.
    pub fn progress(&self, what: &str, waited: Duration) {
        let text = self.paint(DIM, &format!("… {what}: {} s", waited.as_secs()));
        if self.terminal {
            print!("\r\x1b[K   {text}");
            // An error may be ignored: a terminal that is gone ends this process anyway, by SIGHUP.
            let _ = std::io::stdout().flush();
            self.in_progress.store(true, Ordering::Relaxed);
        } else {
            println!("   {text}");
        }
    }

    /// Calls `act`, and every two seconds says that it is still under way.
    pub fn during<T>(&self, what: &str, act: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let (done, is_done) = channel::<()>();
            scope.spawn(move || {
                let start = Instant::now();
                while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(Ticker::INTERVAL) {
                    self.progress(what, start.elapsed());
                }
            });
            let result = act();
            drop(done);
            result
        })
    }

    fn line(&self, text: &str) {
        if self.in_progress.swap(false, Ordering::Relaxed) {
            print!("\r\x1b[K");
        }
        println!("{}", text.trim_end());
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Tells when nothing has been printed for two seconds.
pub struct Ticker {
    start: Instant,
    next: Instant,
}

impl Ticker {
    const INTERVAL: Duration = Duration::from_secs(2);

    pub fn new() -> Ticker {
        Ticker { start: Instant::now(), next: Instant::now() + Ticker::INTERVAL }
    }

    pub fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    /// Must be called when something was printed: the two seconds begin anew.
    pub fn reset(&mut self) {
        self.next = Instant::now() + Ticker::INTERVAL;
    }

    pub fn is_due(&mut self) -> bool {
        let due = Instant::now() >= self.next;
        if due {
            self.reset();
        }
        due
    }
}
