//! Logs: a line for each thing that happened, as text or as JSON. The level is `RUST_LOG`'s, else `info`.

use std::io::Write;
use std::time::SystemTime;

use env_logger::fmt::Formatter;
use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Record};

use crate::config::LogFormat;

/// Starts logging to standard error.
pub fn start(format: LogFormat) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info).parse_default_env();
    // At trace it dumps whole requests, tokens, keys and all.
    builder.filter_module("ureq_proto", LevelFilter::Off);
    match format {
        LogFormat::Text => builder.format(text),
        LogFormat::Json => builder.format(json),
    };
    builder.init();
}

fn text(out: &mut Formatter, record: &Record) -> std::io::Result<()> {
    write!(out, "{} {:5} ", now(), record.level())?;
    for (key, value) in pairs(record) {
        write!(out, "{key}={value} ")?;
    }
    writeln!(out, "{}", record.args())
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
