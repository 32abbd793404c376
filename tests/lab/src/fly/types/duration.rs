//! Durations as Go writes them.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that is read from a Go string (`"1m0s"`) or from integer nanoseconds and written as Go's
/// `time.Duration.String` would: `"15s"`, `"1m0s"`, `"1.5s"`, `"250ms"`, `"0s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Reads a Go duration string.
    ///
    /// # Errors
    /// The error is the text that Go's `time.ParseDuration` would give.
    pub fn parse(text: &str) -> Result<GoDuration, String> {
        let invalid = || format!("time: invalid duration {text:?}");
        if text == "0" {
            return Ok(GoDuration::default());
        }
        let mut rest = text;
        let mut nanoseconds = 0f64;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let number: f64 = rest[..number_end].parse().map_err(|_| invalid())?;
            rest = &rest[number_end..];
            let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            nanoseconds += number
                * match &rest[..unit_end] {
                    "ns" => 1.0,
                    "us" | "µs" => 1e3,
                    "ms" => 1e6,
                    "s" => 1e9,
                    "m" => 60e9,
                    "h" => 3600e9,
                    _ => return Err(invalid()),
                };
            rest = &rest[unit_end..];
        }
        if text.is_empty() {
            return Err(invalid());
        }
        Ok(GoDuration(Duration::from_nanos(nanoseconds as u64)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        match nanoseconds {
            0 => return f.write_str("0s"),
            1..1_000 => return write!(f, "{nanoseconds}ns"),
            1_000..1_000_000 => return write!(f, "{}µs", nanoseconds as f64 / 1e3),
            1_000_000..1_000_000_000 => return write!(f, "{}ms", nanoseconds as f64 / 1e6),
            _ => {}
        }
        let (hours, minutes) = (self.0.as_secs() / 3600, self.0.as_secs() / 60 % 60);
        let seconds = (nanoseconds % 60_000_000_000) as f64 / 1e9;
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{seconds}s")
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrNanoseconds;
        impl Visitor<'_> for StringOrNanoseconds {
            type Value = GoDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"15s\", or nanoseconds")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
                GoDuration::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: Error>(self, nanoseconds: u64) -> Result<GoDuration, E> {
                Ok(GoDuration(Duration::from_nanos(nanoseconds)))
            }
        }
        deserializer.deserialize_any(StringOrNanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (read, written) in [
            ("15s", "15s"),
            ("60s", "1m0s"),
            ("1m30s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1500ms", "1.5s"),
            ("250ms", "250ms"),
            ("0s", "0s"),
        ] {
            assert_eq!(GoDuration::parse(read).map(|d| d.to_string()), Ok(written.to_owned()), "{read}");
        }
        for bad in ["", "15", "s", "1 s", "-5s", "five"] {
            assert!(GoDuration::parse(bad).is_err(), "{bad:?} is no duration");
        }
        assert_eq!(serde_json::from_str::<GoDuration>("15000000000").expect("nanoseconds").to_string(), "15s");
    }
}
