//! Annotations on a Service: one table of what may be asked, and what each value may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine_size::MachineSize;
use super::quantity;
use super::settings::{Resources, ServiceSettings};
use crate::text::shortened;

const PREFIX: &str = "fly-tunnel-operator.dev/";

/// How much of a bad value is told; an annotation may hold 256 KiB.
const LONGEST_VALUE: usize = 100;

/// Each lane holds up to 122 of the 2,048 connections that Fly's edge lets an App have: two pods of frpc, one of which follows the other, with
/// 50 ready connections, 10 more and the control connection each.
pub const MOST_REPLICAS: u8 = 5;

/// Annotations that the Go operator of the same name wrote: a Service with one of them may have an App of its making.
const LEGACY: [&str; 5] = ["fly-app", "machine-id", "frpc-deployment", "ip-id", "public-ip"];

/// Sets one annotation's value; says what is allowed where it is not.
type Reader = fn(&mut ServiceSettings, &str) -> Result<(), String>;

#[rustfmt::skip]
const TABLE: &[(&str, Reader)] = &[
    ("fly-region", |all, value| set(&mut all.lane.region, region(value))),
    ("fly-machine-size", |all, value| set(&mut all.lane.size, MachineSize::parse(value))),
    ("frpc-cpu-request", |all, value| set(&mut all.lane.resources.cpu_request, quantity(value))),
    ("frpc-cpu-limit", |all, value| set(&mut all.lane.resources.cpu_limit, quantity(value).map(Some))),
    ("frpc-memory-request", |all, value| set(&mut all.lane.resources.memory_request, quantity(value))),
    ("frpc-memory-limit", |all, value| set(&mut all.lane.resources.memory_limit, quantity(value))),
    ("bandwidth-limit", |all, value| set(&mut all.forward.bandwidth_limit, bandwidth(value).map(Some))),
    ("replicas", |all, value| set(&mut all.replicas, replicas(value))),
    ("proxy-protocol", |_, value| only(value, "", "the PROXY protocol")),
    ("tunnel-group", |_, value| only(value, "", "sharing a tunnel")),
];

/// Reads a Service's annotations: the settings that it asks for, with `defaults` where it is silent.
///
/// # Errors
/// A bad value, or a name under our prefix that is none of ours: a message that names the annotation, the value and
/// what is allowed.
pub fn read(
    annotations: &BTreeMap<String, String>,
    defaults: &Arc<ServiceSettings>,
) -> Result<Arc<ServiceSettings>, String> {
    let mut all = Arc::clone(defaults);
    for (name, value) in annotations {
        let Some(short) = name.strip_prefix(PREFIX) else { continue };
        if LEGACY.contains(&short) {
            continue;
        }
        let Some((_, reader)) = TABLE.iter().find(|(known, _)| *known == short) else {
            let known: Vec<_> = TABLE.iter().map(|(known, _)| *known).collect();
            return Err(format!("annotation {name} is not known; under {PREFIX} there are {}", known.join(", ")));
        };
        let told =
            |allowed| format!("annotation {name}: {:?} is not allowed; {allowed}", shortened(value, LONGEST_VALUE));
        reader(Arc::make_mut(&mut all), value).map_err(told)?;
    }
    let Resources { cpu_request, cpu_limit, memory_request, memory_limit } = &all.lane.resources;
    let limits = [("cpu", cpu_request, cpu_limit.as_ref()), ("memory", memory_request, Some(memory_limit))];
    for (what, request, limit) in limits {
        if let Some(limit) = limit
            && quantity::size(request) > quantity::size(limit)
        {
            return Err(format!(
                "annotations {PREFIX}frpc-{what}-request and -limit: the request {request} is more than the limit {limit}"
            ));
        }
    }
    Ok(all)
}

/// The first annotation of the Go operator on the Service.
pub fn legacy(annotations: &BTreeMap<String, String>) -> Option<String> {
    let is_there = |short: &&&str| annotations.keys().any(|name| name.strip_prefix(PREFIX) == Some(**short));
    LEGACY.iter().find(is_there).map(|short| format!("{PREFIX}{short}"))
}

/// A Fly region or a list in order of preference, without blanks. Whether a region exists is Fly's to say.
///
/// # Errors
/// A message that says what is allowed.
pub fn region(value: &str) -> Result<String, String> {
    let regions: Vec<&str> = value.split(',').map(str::trim).collect();
    let well_formed = |r: &str| (2..=16).contains(&r.len()) && r.bytes().all(|b| b.is_ascii_lowercase());
    if regions.iter().all(|region| well_formed(region)) {
        Ok(regions.join(","))
    } else {
        Err("give a Fly region such as ord, or a list in order of preference such as ord,iad".into())
    }
}

fn set<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

/// A later version will do this, so this one must not pretend to.
fn only(value: &str, allowed: &str, what: &str) -> Result<(), String> {
    if value == allowed { Ok(()) } else { Err(format!("this version does not do {what} yet: remove the annotation")) }
}

fn replicas(value: &str) -> Result<u8, String> {
    let number = value.parse().ok().filter(|number| (1..=MOST_REPLICAS).contains(number));
    number.ok_or_else(|| format!("give the number of lanes, from 1 to {MOST_REPLICAS}"))
}

/// A bandwidth as frp reads it (`pkg/config/types`, `BandwidthQuantity`): a number of KiB or MiB. A whole number above zero
/// is asked for, as frpc ends where it is given less than a byte. It keeps the bytes in an `int` (`client/proxy`), which has 32
/// bits on a small ARM board: more than fits ends it at the first connection.
fn bandwidth(value: &str) -> Result<String, String> {
    let kib = [("KB", 1), ("MB", 1 << 10)].into_iter().find_map(|(unit, kib)| {
        let number = value.strip_suffix(unit)?;
        number.bytes().all(|b| b.is_ascii_digit()).then_some(number)?.parse::<u32>().ok()?.checked_mul(kib)
    });
    match kib {
        Some(1..=0x1F_FFFF) => Ok(value.to_owned()),
        _ => Err("give bytes a second as a whole number of KB or MB, such as 512KB or 10MB, and 2047MB at most".into()),
    }
}

/// A Kubernetes quantity, as it is written. The API server takes one with blanks around it, too.
fn quantity(value: &str) -> Result<String, String> {
    let value = value.trim();
    match quantity::size(value) {
        Some(size) if size > 0.0 => Ok(value.to_owned()),
        _ => Err("give a Kubernetes quantity above zero, such as 100m or 64Mi".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Arc<ServiceSettings> {
        Arc::new(crate::examples::defaults())
    }

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_asked_is_read() {
        let mut all = annotations(&[
            ("fly-region", "ord, iad"),
            ("fly-machine-size", "performance-1x"),
            ("frpc-cpu-limit", "0.5"),
            ("frpc-memory-request", "64Mi"),
            ("bandwidth-limit", "10MB"),
            ("replicas", "5"),
            ("public-ip", "left to legacy()"),
        ]);
        all.insert("example.com/anything".into(), "goes".into());
        let read = read(&all, &defaults()).expect("all are allowed");
        assert_eq!(read.forward.bandwidth_limit.as_deref(), Some("10MB"));
        assert_eq!(read.replicas, 5);
        let read = &read.lane;
        assert_eq!(read.region, "ord,iad");
        assert_eq!(read.size.to_string(), "performance-1x");
        assert_eq!(read.resources.cpu_limit.as_deref(), Some("0.5"));
        assert_eq!(read.resources.memory_request, "64Mi");
        assert_eq!(read.resources.memory_limit, "128Mi");
        assert_eq!(legacy(&all).as_deref(), Some("fly-tunnel-operator.dev/public-ip"));
    }

    #[test]
    fn a_bad_value_is_refused_by_name_value_and_what_is_allowed() {
        for (name, value, allowed) in [
            ("fly-region", "", "such as ord"),
            ("fly-region", "ord,,iad", "such as ord"),
            ("fly-region", "ORD", "such as ord"),
            ("fly-machine-size", "huge", "shared-cpu-1x"),
            ("frpc-cpu-request", "lots", "quantity"),
            ("frpc-cpu-request", "0", "quantity"),
            ("frpc-memory-limit", "-1Mi", "quantity"),
            ("frpc-memory-limit", "1Mib", "quantity"),
            ("frpc-memory-limit", "1mm", "quantity"),
            ("bandwidth-limit", "2", "512KB or 10MB"),
            ("bandwidth-limit", "2mb", "512KB or 10MB"),
            ("bandwidth-limit", "0MB", "512KB or 10MB"),
            ("bandwidth-limit", "-1MB", "512KB or 10MB"),
            ("bandwidth-limit", "1.5MB", "512KB or 10MB"),
            ("bandwidth-limit", "MB", "512KB or 10MB"),
            ("bandwidth-limit", "2048MB", "2047MB at most"),
            ("bandwidth-limit", "2097152KB", "2047MB at most"),
            ("bandwidth-limit", "99999999MB", "2047MB at most"),
            ("bandwidth-limit", "99999999999999999999KB", "2047MB at most"),
            ("frpc-memory-limit", "99999999MB", "quantity"),
            ("frpc-memory-limit", "1e999", "quantity"),
            ("replicas", "0", "from 1 to 5"),
            ("replicas", "6", "from 1 to 5"),
            ("replicas", "two", "from 1 to 5"),
            ("replicas", "-1", "from 1 to 5"),
            ("replicas", "", "from 1 to 5"),
            ("proxy-protocol", "v2", "PROXY protocol"),
            ("tunnel-group", "web", "sharing a tunnel"),
            ("fly-regoin", "ord", "fly-region"),
        ] {
            let message = read(&annotations(&[(name, value)]), &defaults()).expect_err(name);
            assert!(message.contains(name) && message.contains(allowed), "{message}");
        }
        for most in ["2047MB", "2097151KB"] {
            let read = read(&annotations(&[("bandwidth-limit", most)]), &defaults()).expect(most);
            assert_eq!(read.forward.bandwidth_limit.as_deref(), Some(most));
        }
        let above = read(&annotations(&[("frpc-memory-request", "1Gi")]), &defaults()).expect_err("above its limit");
        assert!(above.contains("1Gi is more than the limit 128Mi"), "{above}");
        // Bytes, and thousandths of a byte: somebody forgot the unit, or took the one of a CPU.
        for tiny in ["128", "128m"] {
            let below = read(&annotations(&[("frpc-memory-limit", tiny)]), &defaults()).expect_err(tiny);
            assert!(below.contains(&format!("32Mi is more than the limit {tiny}")), "{below}");
        }
    }
}
