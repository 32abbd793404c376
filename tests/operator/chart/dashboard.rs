//! The dashboard asks for metrics that exist: Prometheus' own engine evaluates each of its queries over the metrics of
//! an operator with a tunnel.

use std::collections::BTreeSet;

use lab::homelab::Homelab;
use lab::recorder::{Answer, Fault, Rule, Target};
use serde_json::Value;

use super::file;

use crate::support::http::metrics;
use crate::support::{DEADLINE, binary, wait_until};

fn panels() -> Vec<Value> {
    let board: Value = serde_json::from_str(&file("dashboards/fly-tunnel-operator.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").cloned().collect()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The query and the legend of each line that the panel draws.
fn queries(panel: &Value) -> Vec<(String, String)> {
    let targets = panel["targets"].as_array().expect("targets");
    targets.iter().map(|target| (text(target, "expr").to_owned(), text(target, "legendFormat").to_owned())).collect()
}

/// The query as Grafana would send it, with its variables filled in.
fn filled_in(query: &str) -> String {
    query.replace("$job", "(operator)").replace("$__rate_interval", "1m").replace("$__range", "1h")
}

#[test]
fn every_query_finds_what_an_operator_tells() {
    let lab = Homelab::new();
    let answer = Answer { status: 503, headers: Default::default(), body: String::new() };
    let operator = lab.operator(binary()).env("RESYNC_INTERVAL", "1s").start();
    wait_until("it leads", DEADLINE, || metrics(&operator).contains("fly_tunnel_operator_leader 1\n"));
    let before = metrics(&operator);
    // Requests fail, so that the panels of errors and of missing lanes have something to show.
    lab.faults([Rule::new(Fault::Answer(answer)).to(Target::Fly).method("POST").path("/machines$").times(2)]);
    let web = lab.service("web").port(8080).create();
    let mut lacking = String::new();
    wait_until("a lane is missing", DEADLINE, || {
        lacking = metrics(&operator);
        lacking.contains("tunnel_lanes_missing{")
    });
    web.address(DEADLINE);
    wait_until("the tunnel is told of", DEADLINE, || {
        metrics(&operator).contains("fly_tunnel_operator_tunnels{state=\"Serving\"} 1\n")
    });
    // A rate needs two samples, also of the series that came with the tunnel, so there are two scrapes after it.
    let scrapes = [before, lacking, metrics(&operator), metrics(&operator)];

    let queries: Vec<String> = panels().iter().flat_map(queries).map(|(query, _)| filled_in(&query)).collect();
    assert!(queries.len() > 20);
    for (query, answer) in queries.iter().zip(lab::promql(&scrapes, &queries)) {
        match answer {
            Ok(0) => panic!("{query} gives nothing"),
            Ok(_) => {}
            Err(error) => panic!("{query}: {error}"),
        }
    }
    let all = queries.join("\n");
    let families = scrapes[2].lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for family in families {
        assert!(all.contains(family), "no panel shows {family}");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let mut ids = BTreeSet::new();
    for panel in panels() {
        let title = text(&panel, "title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title} has an id of another panel");
        assert!(text(&panel, "description").ends_with('.'), "{title} has no description");
        let field = &panel["fieldConfig"];
        assert!(field.to_string().contains("\"unit\""), "{title} has no unit");
        for (query, legend) in queries(&panel) {
            assert!(query.contains("job=~\"$job\""), "{title} shows other jobs, too: {query}");
            let labels = legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(label, _)| label);
            for label in labels {
                assert!(label == "instance" || query.contains(label), "{title}: {query} gives no {label}");
            }
        }
    }
}

#[test]
fn no_panel_covers_another() {
    let mut covered = BTreeSet::new();
    for panel in panels() {
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(x + width <= 24, "{} is wider than the board", panel["title"]);
        for place in (x..x + width).flat_map(|column| (y..y + height).map(move |row| (column, row))) {
            assert!(covered.insert(place), "{} covers another panel at {place:?}", panel["title"]);
        }
    }
}
