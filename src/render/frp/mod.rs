//! The two configurations of frp, and what both sides have to agree on.
//!
//! Measured with frp 0.61.1: without the multiplexer a client that stops reading costs frps some 300 KiB, with it 6 MiB,
//! so it is off. Then heartbeats are off too unless they are set, on both sides or on none.

pub mod frpc;
pub mod frps;

use std::collections::BTreeMap;

use serde::Serialize;

/// Seconds. As long as frps waits for the heartbeats of a frpc whose node lost its power, it refuses the ports to the one that the node starts
/// again, and that one asks again 30 s later. `scripts/bench lanes`, a node that reboots in 10 s, one lane: nobody was answered for 14 s,
/// and with 10 s and 30 s here for 61 s. A heartbeat is some 500 bytes both ways, so some 250 MB a month.
const HEARTBEAT_INTERVAL: u32 = 5;
const HEARTBEAT_TIMEOUT: u32 = 15;
/// Seconds.
const KEEPALIVE: u32 = 30;

/// Settings of Go's runtime for a program that may use so many bytes of memory, as environment variables. Measured by `scripts/bench path`
/// with frp 0.71.0, both programs together need 1.65 ms of CPU for a short connection without them, and 1.05 ms with them.
///
/// - `GODEBUG` turns the post-quantum key exchange off, which spares a quarter. That exchange would hide nothing: the same bytes
///   travel openly between the user and Fly's edge.
/// - `GOGC` has garbage collected half as often, which spares a tenth for 4 MiB of memory. At 400 it spares no more, for 12 MiB.
/// - `GOMEMLIMIT` has it collected more often again before the memory runs out.
fn runtime(memory: f64) -> Environment {
    let limit = (memory * PART_OF_THE_MEMORY / MIB).clamp(LEAST, MOST);
    let limit = format!("{:.0}MiB", limit.floor());
    let variables = [("GODEBUG", "tlsmlkem=0".to_owned()), ("GOGC", "200".to_owned()), ("GOMEMLIMIT", limit)];
    BTreeMap::from(variables)
}

/// Environment variables by name.
pub type Environment = BTreeMap<&'static str, String>;

/// The rest is for what Go does not count: the program itself, stacks, and on a Machine the kernel.
const PART_OF_THE_MEMORY: f64 = 0.6;

/// MiB. With less than what frp needs at rest Go does nothing but collect garbage: at 9 MiB a connection costs four times as much.
const LEAST: f64 = 24.0;

/// MiB. Go takes no limit above 8 EiB, and frp would end at once. Kubernetes takes such texts.
const MOST: f64 = 1_048_576.0;

const MIB: f64 = 1_048_576.0;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Auth<'a> {
    method: &'a str,
    token: &'a str,
    additional_scopes: [&'a str; 1],
}

impl Auth<'_> {
    /// By a token, which each work connection shows too, instead of the run's ID alone.
    fn by(token: &str) -> Auth<'_> {
        Auth { method: "token", token, additional_scopes: ["NewWorkConns"] }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    to: &'static str,
    level: &'static str,
    disable_print_color: bool,
}

/// To where `kubectl logs` and `fly logs` read.
const LOG: Log = Log { to: "console", level: "info", disable_print_color: true };

fn toml(configuration: &impl Serialize) -> String {
    toml::to_string(configuration).expect("structs of strings, numbers, lists and tables always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::quantity;

    /// Kubernetes takes each of them, and Go ends where its limit is none.
    #[test]
    fn go_gets_a_limit_that_it_takes_whatever_kubernetes_takes() {
        for (memory, limit) in [
            ("128Mi", "76MiB"),
            ("129e6", "73MiB"),
            ("1Gi", "614MiB"),
            ("16Mi", "24MiB"),
            ("100m", "24MiB"),
            ("16E", "1048576MiB"),
            ("9e99", "1048576MiB"),
            ("10e308", "1048576MiB"),
        ] {
            let bytes = quantity::size(memory).expect("a quantity");
            assert_eq!(runtime(bytes)["GOMEMLIMIT"], limit, "{memory}");
        }
    }
}
