//! The chart as a part of another one, which gives it values of its own and may leave it out.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{CHART, MINIMAL, file, helm, objects, write, yaml};

const NAMESPACE: &str = "fly-tunnel-operator-system";

/// A chart of the test's own that has only ours as a part, under this name. Gives its path.
fn umbrella(test: &str, name: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("umbrella-{test}"));
    fs::create_dir_all(&folder).expect("Cargo's folder for tests can be written");
    let part = json!({
        "name": "fly-tunnel-operator",
        "alias": name,
        "version": env!("CARGO_PKG_VERSION"),
        "repository": format!("file://{CHART}"),
        "condition": format!("{name}.enabled"),
    });
    let chart = json!({ "apiVersion": "v2", "name": "homelab", "version": "1.0.0", "dependencies": [part] });
    fs::write(folder.join("Chart.yaml"), chart.to_string()).expect("a folder of our own");
    let folder = folder.display().to_string();
    helm(&["dependency", "update", "--skip-refresh", &folder]).unwrap_or_else(|error| panic!("{error}"));
    folder
}

/// The manifests of a release of that chart.
fn rendered(chart: &str, values: &Value) -> Result<Vec<Value>, String> {
    let values = write(chart.rsplit_once('/').expect("a path").1, values);
    let release = ["template", "fly-tunnel-operator", chart, "--namespace", NAMESPACE, "--values", &values];
    Ok(yaml::documents(&helm(&release)?).into_iter().filter(|object| !object.is_null()).collect())
}

/// The values of `ci/minimal-values.yaml` with one more, or without.
fn minimal(more: &[(&str, Value)]) -> Value {
    let mut values = yaml::documents(&file("ci/minimal-values.yaml")).remove(0);
    let values_of = values.as_object_mut().expect("an object");
    values_of.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    values
}

#[test]
fn it_renders_what_it_renders_alone() {
    let chart = umbrella("alone", "fly-tunnel-operator");
    let alone = objects(NAMESPACE, MINIMAL);
    for (values, global) in [
        (minimal(&[]), json!({})),
        (minimal(&[("enabled", json!(true))]), json!({})),
        (minimal(&[("enabled", json!(true))]), json!({ "imageRegistry": "registry.example.com" })),
    ] {
        let given = json!({ "fly-tunnel-operator": values, "global": global });
        let within = rendered(&chart, &given).unwrap_or_else(|error| panic!("{given}: {error}"));
        assert_eq!(within, alone, "{given}");
    }
}

#[test]
fn it_renders_nothing_where_it_is_switched_off() {
    let chart = umbrella("off", "fly-tunnel-operator");
    for values in [minimal(&[("enabled", json!(false))]), json!({ "enabled": false })] {
        let objects = rendered(&chart, &json!({ "fly-tunnel-operator": values }));
        assert_eq!(objects.unwrap_or_else(|error| panic!("{values}: {error}")), Vec::<Value>::new(), "{values}");
    }
}

#[test]
fn it_goes_by_another_name_and_takes_no_typo() {
    let chart = umbrella("alias", "tunnels");
    let objects = rendered(&chart, &json!({ "tunnels": minimal(&[("enabled", json!(true))]) }));
    assert!(!objects.expect("it renders").is_empty());
    for (typo, told) in [("enable", "'enable' not allowed"), ("enabled", "got string, want boolean")] {
        let error = rendered(&chart, &json!({ "tunnels": minimal(&[(typo, json!("yes"))]) })).expect_err("a typo");
        assert!(error.contains(told), "{typo}: {error}");
    }
}
