//! The whole rendering, read by the format's grammar: a small parser that knows nothing of how it was written.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::tunnel::condition::Reason;

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<Sample>,
}

fn is_name(name: &str, colons: bool) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || colons && c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// Reads a quoted label value; gives what follows its closing quote.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next() {
                Some((_, '\\')) => value.push('\\'),
                Some((_, '"')) => value.push('"'),
                Some((_, 'n')) => value.push('\n'),
                other => panic!("\\{other:?} is no escape"),
            },
            '\n' => panic!("a bare line feed in {text:?}"),
            other => value.push(other),
        }
    }
    panic!("no closing quote in {text:?}")
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a name ends");
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect("a label and its value");
            assert!(is_name(label, false), "{label:?} in {line:?}");
            let (value, after) = unquoted(after);
            assert_eq!(labels.insert(label.to_owned(), value), None, "{label} twice in {line:?}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect("one blank before the value");
    Sample { name: name.to_owned(), labels, value: value.parse().expect("a number") }
}

fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut helped = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(!text.is_empty() && !families.contains_key(name), "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert_eq!(name, helped, "HELP comes right before TYPE");
            assert!(is_name(name, true) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            current = name.to_owned();
            families.insert(current.clone(), Family { kind: kind.to_owned(), samples: Vec::new() });
        } else {
            let sample = sample(line);
            let family = families.get_mut(&current).expect("TYPE comes before samples");
            let own = match family.kind.as_str() {
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().any(|suffix| sample.name == format!("{current}{suffix}"))
                }
                _ => sample.name == current,
            };
            assert!(own && is_name(&sample.name, true), "{line:?} among those of {current}");
            family.samples.push(sample);
        }
    }
    families
}

/// Asserts the rules of the format, and Prometheus' rules for names, that go beyond the grammar.
fn check(families: &BTreeMap<String, Family>) {
    let mut series = BTreeSet::new();
    for (name, Family { kind, samples }) in families {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(name.starts_with("fly_tunnel_operator_") || name.starts_with("process_"), "{name}");
        for sample in samples {
            assert!(series.insert(format!("{}{:?}", sample.name, sample.labels)), "twice: {sample:?}");
            assert!(kind != "counter" || sample.value >= 0.0, "{sample:?}");
        }
        if kind == "histogram" {
            check_histogram(name, samples);
        }
    }
}

fn check_histogram(name: &str, samples: &[Sample]) {
    let without_le = |sample: &Sample| {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        labels
    };
    let groups: BTreeSet<_> = samples.iter().map(without_le).collect();
    for group in groups {
        let of = |suffix: &str| {
            let name = format!("{name}{suffix}");
            samples.iter().filter(|s| s.name == name && without_le(s) == group).collect::<Vec<_>>()
        };
        let (buckets, sums, counts) = (of("_bucket"), of("_sum"), of("_count"));
        assert_eq!((sums.len(), counts.len()), (1, 1), "{name}{group:?}");
        let bounds: Vec<f64> = buckets.iter().map(|b| b.labels["le"].parse().expect("a bound")).collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{name}: {bounds:?}");
        assert!(buckets.iter().map(|b| b.value).is_sorted(), "{name}{group:?} is not cumulative");
        let last = buckets.last().expect("buckets");
        assert_eq!(last.labels["le"], "+Inf");
        assert_eq!(last.value, counts[0].value, "{name}{group:?}");
    }
}

fn rendered(metrics: &Metrics) -> BTreeMap<String, Family> {
    let mut text = Vec::new();
    metrics.render(&mut text).expect("memory takes it");
    let families = parse(std::str::from_utf8(&text).expect("UTF-8"));
    check(&families);
    families
}

/// The value of the series with these labels.
fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let family = name.strip_suffix("_count").or(name.strip_suffix("_sum")).unwrap_or(name);
    let family = families.get(&format!("fly_tunnel_operator_{family}"))?;
    let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let wanted = format!("fly_tunnel_operator_{name}");
    family.samples.iter().find(|sample| sample.name == wanted && sample.labels == labels).map(|sample| sample.value)
}

const SECOND: Duration = Duration::from_secs(1);

fn id(namespace: &str, name: &str) -> TunnelId {
    TunnelId { namespace: namespace.into(), name: name.into() }
}

fn serving(cost: u32) -> TunnelState {
    let lanes = Lanes { serving: 1, ..Lanes::default() };
    TunnelState { reason: Reason::Serving, wanted: 2, holdings: Some(Holdings { lanes, cost }) }
}

#[test]
fn a_new_process_tells_of_all_families_and_nothing_happened() {
    let families = rendered(&Metrics::new());
    assert_eq!(value(&families, "polls_total", &[("result", "success")]), Some(0.0));
    assert_eq!(value(&families, "last_successful_poll_timestamp_seconds", &[]), Some(0.0));
    assert_eq!(value(&families, "leader", &[]), Some(0.0));
    let states = &families["fly_tunnel_operator_tunnels"].samples;
    assert_eq!(states.len(), Reason::ALL.len());
    assert!(states.iter().all(|sample| sample.value == 0.0));
    assert_eq!(value(&families, "build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert!(families["process_resident_memory_bytes"].samples[0].value > 100_000.0);
}

#[test]
fn everything_that_happened_is_told() {
    let metrics = Metrics::new();
    metrics.owned_by(Owner { cluster_name: "home".into(), class: "a/lb".into() });
    metrics.leading(true);
    metrics.polled(true, SECOND / 100);
    metrics.polled(true, 60 * SECOND);
    metrics.polled(false, SECOND);
    metrics.fly_request("get_app", "success", SECOND / 10);
    metrics.fly_request("get_app", "not_found", SECOND / 2);
    metrics.fly_request("create_app", "success", SECOND);
    metrics.retry();
    metrics.address_shown(9 * SECOND);
    metrics.tunnel(&id("default", "web"), serving(402));
    metrics.tunnel(&id("default", "shop"), TunnelState { reason: Reason::FlyCapacity, wanted: 2, holdings: None });
    metrics.tunnel(&id("default", "old"), serving(402));
    metrics.tunnel_gone(&id("default", "old"));

    let families = rendered(&metrics);
    let app = Owner { cluster_name: "home".into(), class: "a/lb".into() }.app(&id("default", "web"));
    for (name, labels, expected) in [
        ("polls_total", &[("result", "success")][..], 2.0),
        ("polls_total", &[("result", "failure")], 1.0),
        ("poll_duration_seconds_count", &[], 3.0),
        ("poll_duration_seconds_sum", &[], 61.01),
        ("fly_requests_total", &[("operation", "get_app"), ("result", "success")], 1.0),
        ("fly_requests_total", &[("operation", "get_app"), ("result", "not_found")], 1.0),
        ("fly_request_duration_seconds_count", &[("operation", "get_app")], 2.0),
        ("fly_request_duration_seconds_count", &[("operation", "create_app")], 1.0),
        ("retries_total", &[], 1.0),
        ("time_to_address_seconds_count", &[], 1.0),
        ("leader", &[], 1.0),
        ("leader_transitions_total", &[], 1.0),
        ("tunnels", &[("state", "Serving")], 1.0),
        ("tunnels", &[("state", "FlyCapacity")], 1.0),
        ("tunnels", &[("state", "Deleting")], 0.0),
        ("lanes", &[("state", "serving")], 1.0),
        ("lanes_wanted", &[], 4.0),
        ("tunnel_lanes_missing", &[("namespace", "default"), ("name", "web"), ("reason", "Serving")], 1.0),
        ("tunnel_estimated_cost_dollars_per_month", &[("namespace", "default"), ("name", "web"), ("app", &app)], 4.02),
    ] {
        assert_eq!(value(&families, name, labels), Some(expected), "{name}{labels:?}");
    }
    assert_eq!(families["fly_tunnel_operator_tunnel_estimated_cost_dollars_per_month"].samples.len(), 2);
    let last = value(&families, "last_successful_poll_timestamp_seconds", &[]).expect("a time");
    assert!((unix_seconds(SystemTime::now()) - last).abs() < 60.0, "{last}");

    metrics.leading(false);
    let families = rendered(&metrics);
    assert_eq!(value(&families, "leader", &[]), Some(0.0));
    assert_eq!(value(&families, "tunnels", &[("state", "Serving")]), Some(0.0));
    assert!(families["fly_tunnel_operator_tunnel_estimated_cost_dollars_per_month"].samples.is_empty());
}

#[test]
fn a_thing_that_took_just_as_long_as_a_bound_is_within_it() {
    let metrics = Metrics::new();
    metrics.address_shown(2 * SECOND);
    metrics.address_shown(2 * SECOND + Duration::from_nanos(1));
    metrics.address_shown(9999 * SECOND);
    let families = rendered(&metrics);
    let buckets = &families["fly_tunnel_operator_time_to_address_seconds"].samples;
    let values: Vec<f64> = buckets.iter().filter(|s| s.labels.contains_key("le")).map(|s| s.value).collect();
    assert_eq!(values, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0]);
}

/// Kubernetes allows none of these names, but one of them would break the text for all tunnels.
#[test]
fn hostile_names_break_nothing() {
    let hostile = ["\"", "\\", "\n", "\\n", "a\"} 1\nx{b=\"", "{},=# HELP", "ü\u{2028}\0", " ", "\\\"", ""];
    let metrics = Metrics::new();
    metrics.leading(true);
    for name in hostile {
        metrics.tunnel(&id("default", name), serving(7));
    }
    let families = rendered(&metrics);
    for name in hostile {
        let labels = [("namespace", "default"), ("name", name), ("app", "")];
        assert_eq!(value(&families, "tunnel_estimated_cost_dollars_per_month", &labels), Some(0.07), "{name:?}");
    }
}

/// Others write meanwhile.
#[test]
fn each_of_many_tunnels_is_told_once() {
    let metrics = Metrics::new();
    metrics.leading(true);
    for number in 0..1000 {
        metrics.tunnel(&id("default", &format!("s{number}")), serving(402));
    }
    let families = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..1000 {
                metrics.tunnel(&id("default", &format!("s{number}")), serving(402));
            }
        });
        let families = rendered(&metrics);
        writer.join().expect("it does not panic");
        families
    });
    assert_eq!(families["fly_tunnel_operator_tunnel_estimated_cost_dollars_per_month"].samples.len(), 1000);
    assert_eq!(value(&families, "tunnels", &[("state", "Serving")]), Some(1000.0));
}
