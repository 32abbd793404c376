//! Logs: a line for each thing that happened, as text or as JSON. The level is `RUST_LOG`'s, else `info`.

use std::borrow::Cow;
use std::io::Write;
use std::time::SystemTime;

use env_logger::fmt::Formatter;
use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging to standard error.
pub fn start(format: LogFormat) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info).parse_default_env();
    match format {
        LogFormat::Text => builder.format(text),
        LogFormat::Json => builder.format(json),
    };
    let logger = builder.build();
    log::set_max_level(logger.filter());
    let _ = log::set_boxed_logger(Box::new(Discreet(logger))); // it is the first
}

/// Leaves out the lines of a library that logs whole requests at trace, with tokens and keys. `RUST_LOG` cannot bring them
/// back.
struct Discreet(env_logger::Logger);

/// The library is ureq's wire protocol.
const TELLTALE: &str = "ureq_proto";

impl Log for Discreet {
    fn enabled(&self, metadata: &Metadata) -> bool {
        !metadata.target().starts_with(TELLTALE) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        let ours = record.module_path().is_none_or(|module| !module.starts_with(TELLTALE));
        if ours && self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn text(out: &mut Formatter, record: &Record) -> std::io::Result<()> {
    write!(out, "{} {:5} ", now(), record.level())?;
    for (key, value) in pairs(record) {
        write!(out, "{key}={} ", on_one_line(&value))?;
    }
    writeln!(out, "{}", on_one_line(&record.args().to_string()))
}

/// Puts a blank for each control character: a text from outside (the holder of a Lease, an error of Fly's) must not begin a
/// line of its own, nor move the cursor of a terminal.
fn on_one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn json(out: &mut Formatter, record: &Record) -> std::io::Result<()> {
    let mut line = serde_json::Map::new();
    line.insert("time".into(), now().into());
    line.insert("level".into(), record.level().as_str().to_lowercase().into());
    line.extend(pairs(record).into_iter().map(|(key, value)| (key, value.into())));
    line.insert("message".into(), record.args().to_string().into());
    writeln!(out, "{}", serde_json::Value::Object(line))
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn pairs(record: &Record) -> Vec<(String, String)> {
    struct Pairs(Vec<(String, String)>);
    impl<'kvs> VisitSource<'kvs> for Pairs {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
            self.0.push((key.to_string(), value.to_string()));
            Ok(())
        }
    }
    let mut pairs = Pairs(Vec::new());
    let _ = record.key_values().visit(&mut pairs); // the visitor above never fails
    pairs.0
}
