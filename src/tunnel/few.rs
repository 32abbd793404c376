//! A few values by name, and since when a few things are as they are: small, since there may be a thousand tunnels.

use std::time::Duration;

use super::now::Now;

/// A few values by name. A list without room to spare: a map has room for eleven at once, and there may be a thousand tunnels.
#[derive(Clone, Debug)]
pub struct Few<T>(Vec<(String, T)>);

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Vec::new())
    }
}

impl<T> Few<T> {
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub fn set(&mut self, name: &str, value: T) {
        self.remove(name);
        self.0.reserve_exact(1);
        self.0.push((name.to_owned(), value));
    }

    pub fn remove(&mut self, name: &str) {
        self.retain(|known| known != name);
    }

    fn retain(&mut self, kept: impl Fn(&str) -> bool) {
        self.0.retain(|(known, _)| kept(known));
        self.0.shrink_to_fit();
    }
}

/// Since when each of these has been as it is.
#[derive(Clone, Debug, Default)]
pub struct Since(Few<Duration>);

impl Since {
    /// How long it has been so; `None` if it is not so.
    pub fn elapsed(&self, key: &str, now: Now) -> Option<Duration> {
        self.0.get(key).map(|since| now.since(*since))
    }

    pub fn note<'a>(&mut self, keys: impl Iterator<Item = &'a String>, now: Now) {
        let keys: Vec<&String> = keys.collect();
        self.0.retain(|known| keys.iter().any(|key| *key == known));
        for key in keys {
            if self.0.get(key).is_none() {
                self.0.set(key, now.monotonic);
            }
        }
    }
}
