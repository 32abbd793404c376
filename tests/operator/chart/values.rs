//! values.yaml and its schema: what is said of each value, what is taken, and what is refused with which words.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::{EVERYTHING, MINIMAL, file, manifests, write, yaml};
use crate::binary;

/// Values by their paths, such as `image.tag`. What the chart leaves empty is one value, whatever may go into it.
fn leaves(values: &Value, path: &str) -> BTreeMap<String, Value> {
    match values.as_object() {
        Some(members) if !members.is_empty() => {
            let dot = if path.is_empty() { "" } else { "." };
            members.iter().flat_map(|(key, value)| leaves(value, &format!("{path}{dot}{key}"))).collect()
        }
        _ => [(path.to_owned(), values.clone())].into(),
    }
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn defaults() -> BTreeMap<String, Value> {
    leaves(&yaml::documents(&file("values.yaml"))[0], "")
}

fn everything() -> Value {
    yaml::documents(&file("ci/everything-values.yaml")).remove(0)
}

#[test]
fn every_value_is_documented() {
    let text = file("values.yaml");
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let [above, line] = [pair[0].trim_start(), pair[1].trim_start()];
        if line.contains(": ") && !line.starts_with('#') || line.ends_with(':') {
            assert!(above.starts_with("# "), "nothing is said above: {line}");
        }
    }
}

/// What is said to be the default is what the operator says.
#[test]
fn defaults_are_the_operators() {
    let help = Command::new(binary()).arg("--help").env_clear().output().expect("the binary runs").stdout;
    let help = String::from_utf8(help).expect("text");
    let default = |flag: &str| -> &str {
        let (_, rest) = help.split_once(&format!("  --{flag} ")).expect("a flag");
        rest.split_once("(default: ").and_then(|(_, rest)| rest.split_once(")\n")).expect("it has a default").0
    };
    let text = file("values.yaml");
    for (value, flag) in [
        ("flyMachineSize", "fly-machine-size"),
        ("loadBalancerClass", "load-balancer-class"),
        ("clusterName", "cluster-name"),
        ("frpsImage", "frps-image"),
        ("frpcImage", "frpc-image"),
    ] {
        let (above, _) = text.split_once(&format!("\n{value}: \"\"\n")).expect("it is empty");
        let comment = above.rsplit_once("\n\n").expect("a blank line").1;
        assert!(comment.contains(&format!("Default: {}.", default(flag))), "{value}: {comment}");
    }
    assert_eq!(defaults()["controlPortBase"].to_string(), default("control-port-base"));
    let helper = file("templates/_helpers.tpl");
    assert!(helper.contains(&format!("default {:?}", default("load-balancer-class"))));
}

/// Whoever gives every value but one gets something else than whoever gives all.
#[test]
fn every_value_makes_a_difference() {
    let render = |values: &Value| manifests("there", &["--values", &write("difference", values)]).expect("it renders");
    let mut everything = everything();
    let all = render(&everything);
    for (path, default) in defaults() {
        let pointer = pointer(&path);
        let (parent, key) = pointer.rsplit_once('/').expect("it begins with one");
        match path.as_str() {
            // Instead of the token.
            "existingSecret" => {
                let mut values = everything.clone();
                values.as_object_mut().expect("values").remove("flyApiToken");
                values["existingSecret"] = json!("mine");
                assert_ne!(render(&values), all, "{path}");
            }
            // The token is required, and so are these.
            "flyApiToken" | "flyOrg" | "flyRegion" => {
                let before = std::mem::replace(&mut everything[key], json!("other"));
                assert_ne!(render(&everything), all, "{path}");
                everything[key] = before;
            }
            // Without it, its annotations have no place.
            "serviceAccount.create" => {
                everything["serviceAccount"]["create"] = json!(false);
                assert_ne!(render(&everything), all, "{path}");
                everything["serviceAccount"]["create"] = json!(true);
            }
            _ => {
                let value =
                    everything.pointer(&pointer).unwrap_or_else(|| panic!("ci/everything-values.yaml lacks {path}"));
                assert_ne!(*value, default, "ci/everything-values.yaml has the default of {path}");
                let mut values = everything.clone();
                values.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(key);
                assert_ne!(render(&values), all, "{path}");
            }
        }
    }
}

/// Helm takes `null` for a value that is not there. Who says so gets what can be made without it, or a word.
#[test]
fn a_value_that_is_null_breaks_no_template() {
    let mut paths: Vec<String> = defaults().into_keys().collect();
    let tops: Vec<&str> = paths.iter().filter_map(|path| path.split_once('.')).map(|(top, _)| top).collect();
    let mut tops: Vec<String> = tops.into_iter().map(str::to_owned).collect();
    tops.dedup();
    paths.extend(tops);
    for path in paths {
        for values in [MINIMAL, EVERYTHING] {
            let set = format!("{path}=null");
            if let Err(error) = manifests("there", &[values, &["--set", &set]].concat()) {
                let name = path.rsplit('.').next().unwrap_or_default();
                let told = error.contains(&format!("missing property '{name}'"))
                    || error.contains(&format!("{name} is missing"));
                assert!(told, "{path}: {error}");
            }
        }
    }
}

#[test]
fn a_bad_value_is_refused_with_words_that_help() {
    let minimal: &[(&str, Value)] =
        &[("flyApiToken", json!("fo1_token")), ("flyOrg", json!("personal")), ("flyRegion", json!("ord"))];
    for (path, value, told) in [
        ("flyApiToken", json!(""), &["flyApiToken is missing", "fly tokens create org", "existingSecret"][..]),
        ("existingSecret", json!("mine"), &["flyApiToken and existingSecret are both set: give one of them"]),
        ("flyOrg", json!(""), &["flyOrg is missing", "--set flyOrg=personal"]),
        ("flyOrg", json!("My Org"), &["/flyOrg", "My Org"]),
        ("flyOrg", json!(7), &["/flyOrg", "got number, want string"]),
        ("flyRegion", json!(""), &["flyRegion is missing", "--set flyRegion=ord"]),
        ("flyRegion", json!("Chicago"), &["/flyRegion", "Chicago"]),
        ("flyRegion", json!(["ord", "iad"]), &["/flyRegion", "got array, want string"]),
        ("flyRegoin", json!("ord"), &["'flyRegoin' not allowed"]),
        ("frpc/toleration", json!([]), &["/frpc", "'toleration' not allowed"]),
        ("frpc/tolerations", json!({}), &["/frpc/tolerations", "got object, want array"]),
        ("frpc/imagePullSecrets", json!(["registry"]), &["/frpc/imagePullSecrets/0", "got string, want object"]),
        ("image/tags", json!("1"), &["/image", "'tags' not allowed"]),
        ("image/tag", json!(1), &["/image/tag", "got number, want string"]),
        ("image/repository", json!(""), &["/image/repository"]),
        ("image/pullPolicy", json!("Sometimes"), &["/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"]),
        ("replicaCount", json!(0), &["/replicaCount", "got 0, want 1"]),
        ("replicaCount", json!(1.5), &["/replicaCount", "want integer"]),
        ("replicaCount", json!("2"), &["/replicaCount", "got string, want integer"]),
        ("controlPortBase", json!(70_000), &["/controlPortBase", "65,535"]),
        ("resources/limit", json!({}), &["/resources", "'limit' not allowed"]),
        ("resources/limits/memory", json!("64 MB"), &["/resources/limits/memory", "64 MB"]),
        ("nodeSelector", json!({ "ssd": true }), &["/nodeSelector/ssd", "got boolean, want string"]),
        ("imagePullSecrets", json!([{}]), &["/imagePullSecrets/0", "missing property 'name'"]),
        ("podLabels", json!(["a"]), &["/podLabels", "got array, want object"]),
        ("extraArgs", json!("--poll-interval=2s"), &["/extraArgs", "got string, want array"]),
        ("extraArgs", json!([2]), &["/extraArgs/0", "got number, want string"]),
        ("extraEnv", json!({ "RUST_LOG": "debug" }), &["/extraEnv", "got object, want array"]),
        ("extraEnv", json!([{ "value": "debug" }]), &["/extraEnv/0", "missing property 'name'"]),
        ("serviceAccount/create", json!("false"), &["/serviceAccount/create", "got string, want boolean"]),
        ("serviceAccount/automount", json!(true), &["/serviceAccount", "'automount' not allowed"]),
        ("uninstall/drain", json!("yes"), &["/uninstall/drain", "got string, want boolean"]),
        ("uninstall", json!(true), &["/uninstall", "got boolean, want object"]),
        ("networkPolicy/enable", json!(true), &["/networkPolicy", "'enable' not allowed"]),
        ("podMonitor/interval", json!("often"), &["/podMonitor/interval", "often"]),
        ("grafanaDashboard/enabled", json!(1), &["/grafanaDashboard/enabled", "got number, want boolean"]),
        ("loadBalancerClass", json!("my class"), &["/loadBalancerClass", "my class"]),
        ("clusterName", json!(" "), &["/clusterName"]),
        ("frpsImage", json!("frps 1"), &["/frpsImage", "frps 1"]),
    ] {
        let mut values: Value = minimal.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut place = &mut values;
        for key in path.split('/') {
            place = &mut place[key];
        }
        *place = value.clone();
        let error = manifests("there", &["--values", &write("bad", &values)]).err();
        let error = error.unwrap_or_else(|| panic!("{path}: {value} is taken"));
        for words in told {
            assert!(error.contains(words), "{path}: {value} is refused without {words:?}: {error}");
        }
        assert!(!error.contains("nil pointer"), "{error}");
    }
}

/// A stranger who gives nothing is told all at once.
#[test]
fn all_that_is_missing_is_told_at_once() {
    let error = manifests("there", &[]).expect_err("three values are required");
    for missing in ["flyApiToken", "flyOrg", "flyRegion"] {
        assert!(error.contains(&format!("\n{missing} is missing: ")), "{error}");
    }
}

#[test]
fn what_users_give_is_taken() {
    for arguments in [
        &["--set", r"flyRegion=ord\,iad"][..],
        &["--set-literal", "flyApiToken=FlyV1 fm2_a,fm2_b"],
        &["--set", "flyApiToken=,existingSecret=mine"],
        &["--set", "image.tag=0.1.0@sha256:abc"],
        &["--set", "resources=null"],
        &["--set", "resources.limits.cpu=1,resources.requests.cpu=0.5"],
        &["--set", "global.imageRegistry=of-a-chart-around-it"],
        &["--set", "extraEnv[0].name=RUST_LOG,extraEnv[0].value=debug"],
        &["--set", "podMonitor.interval=1m30s"],
        &["--set", "frpc.affinity.nodeAffinity.whatever=kubernetes-judges"],
    ] {
        manifests("there", &[MINIMAL, arguments].concat()).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
}
