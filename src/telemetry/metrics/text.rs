//! Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

/// The name of the format over HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A label and its value.
pub type Label<'a> = (&'static str, &'a str);

/// Writes families of metrics, one after the other.
pub struct Exposition<'a> {
    out: &'a mut dyn Write,
    family: &'static str,
}

/// The type of a family.
#[derive(Clone, Copy)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl<'a> Exposition<'a> {
    pub fn new(out: &'a mut dyn Write) -> Exposition<'a> {
        Exposition { out, family: "" }
    }

    /// Begins a family; its samples follow.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> io::Result<()> {
        self.family = name;
        write!(self.out, "# HELP {name} ")?;
        self.escaped(help, false)?;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(self.out, "\n# TYPE {name} {kind}")
    }

    /// One sample of the family.
    pub fn sample(&mut self, labels: &[Label], value: impl Display) -> io::Result<()> {
        self.suffixed("", labels, None, value)
    }

    /// All samples of one histogram.
    pub fn histogram(&mut self, labels: &[Label], histogram: &Histogram) -> io::Result<()> {
        let mut count = 0;
        for (bound, bucket) in histogram.bounds.iter().zip(&histogram.counts) {
            count += bucket;
            self.suffixed("_bucket", labels, Some(("le", &bound.to_string())), count)?;
        }
        count += histogram.beyond;
        self.suffixed("_bucket", labels, Some(("le", "+Inf")), count)?;
        self.suffixed("_sum", labels, None, histogram.sum.as_secs_f64())?;
        self.suffixed("_count", labels, None, count)
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, kind: Kind, name: &'static str, help: &str, value: impl Display) -> io::Result<()> {
        self.family(kind, name, help)?;
        self.sample(&[], value)
    }

    fn suffixed(&mut self, suffix: &str, labels: &[Label], more: Option<Label>, value: impl Display) -> io::Result<()> {
        write!(self.out, "{}{suffix}", self.family)?;
        let mut before = "{";
        for (name, value) in labels.iter().chain(&more) {
            write!(self.out, "{before}{name}=\"")?;
            self.escaped(value, true)?;
            write!(self.out, "\"")?;
            before = ",";
        }
        let after = if before == "," { "}" } else { "" };
        writeln!(self.out, "{after} {value}")
    }

    fn escaped(&mut self, text: &str, quoted: bool) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(|c| c == '\\' || c == '\n' || c == '"' && quoted) {
            let (plain, special) = rest.split_at(at);
            let escaped = match special.as_bytes().first() {
                Some(b'\n') => "\\n",
                Some(b'"') => "\\\"",
                _ => "\\\\",
            };
            write!(self.out, "{plain}{escaped}")?;
            rest = &special[1..]; // each of the three is one byte
        }
        write!(self.out, "{rest}")
    }
}

/// A count of things by how long they took.
#[derive(Clone)]
pub struct Histogram {
    /// Upper ends of the buckets, in seconds.
    bounds: &'static [f64],
    /// One number for each bucket, not cumulative.
    counts: Vec<u64>,
    /// The number of those above the last bound.
    beyond: u64,
    sum: Duration,
}

impl Histogram {
    /// An empty one with these upper ends, in seconds, ascending.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len()], beyond: 0, sum: Duration::ZERO }
    }

    /// One more thing took this long.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound);
        match bucket.and_then(|index| self.counts.get_mut(index)) {
            Some(count) => *count += 1,
            None => self.beyond += 1,
        }
        self.sum = self.sum.saturating_add(took);
    }
}
